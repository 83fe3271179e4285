"""The explicit list of hazards."""

from __future__ import annotations

HAZARDS: dict[str, object] = dict.fromkeys(
    (
        "mixed_page_size_tlb", "two_translations_one_va", "two_pte_pages", "stale_tlb_to_freed_page",
        "page_table_uaf_software_walker", "page_table_uaf_hardware_walker", "lock_object_uaf", "wrong_data_after_dontneed",
        "wrong_data", "permission_bypass", "lost_write", "lost_dirty", "nonempty_pte_page_freed", "bogus_page_table",
        "double_free", "leak", "counter_mismatch", "deadlock", "livelock", "stall", "lock_order", "rcu_misuse",
        "protocol_violation", "crash",
    )
)
