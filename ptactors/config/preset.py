"""Named sets of knobs: kernel releases, the patch series, CPU types; each with a line for lists."""

from __future__ import annotations

from typing import Any

from ptactors.config.kernel import FlushFilter, LeftMask, PtReclaim, TableFree
from ptactors.config.machine import MixedSizes

PRESETS: dict[str, dict[str, Any]] = {
    "before": {
        "pt_reclaim": PtReclaim.OFF,
        "table_free": TableFree.PAGE_BATCH,
        "left_mask": LeftMask.CLEAR,
        "flush_filter": FlushFilter.NOT_LAZY,
        "dtor_after_grace_period": False,
    },
    "before-pv": {
        "pt_reclaim": PtReclaim.OFF,
        "table_free": TableFree.SEMI_RCU,
        "left_mask": LeftMask.CLEAR,
        "flush_filter": FlushFilter.NOT_LAZY,
        "dtor_after_grace_period": False,
    },
    "rfc-v1": {
        "pt_reclaim": PtReclaim.RFC,
        "table_free": TableFree.IPI_THEN_RCU,
        "flush_before_set_huge": True,
        "huge_zero_wp_thp": False,
        "left_mask": LeftMask.CLEAR,
        "flush_filter": FlushFilter.NOT_LAZY,
        "dtor_after_grace_period": False,
        "process_madvise_self": False,
    },
    "v6.1": {
        "pt_reclaim": PtReclaim.OFF,
        "table_free": TableFree.PAGE_BATCH,
        "left_mask": LeftMask.CLEAR,
        "flush_filter": FlushFilter.NOT_LAZY,
        "dtor_after_grace_period": False,
        "huge_zero_wp_thp": False,
        "per_vma_lock": False,
        "map_lock_recheck": False,
        "process_madvise_self": False,
        "populate_walks_vmas": True,
        "mprotect_unaccount": False,
        "mprotect_upgrades_huge": False,
        "gather_spare_slot": False,
        "delayed_rmap": False,
    },
    "v6.14-rc1": {"direct_reclaim_reset": False},
    "v6.14": {},
    "v6.18": {
        "flush_filter": FlushFilter.LOADED_OR_SWITCHING,
        "flush_range_frees_tables": True,
        "madvise_vma_lock": True,
        "madvise_batch": True,
        "merge_into_unfaulted": True,
        "collapse_needs_writable": False,
        "collapse_lock_then_check": True,
    },
}
"""Kernel presets: 6.1 and 6.13 on bare metal, 6.13 as a guest, the cover letter's series, what was merged, and 6.18."""

PRESET_NOTES = {
    "before": "Linux 6.13 on bare metal: no reclaim, page tables freed in the page batch right after the flush",
    "before-pv": "Linux 6.13 as a KVM, Xen or Hyper-V guest: no reclaim, tables freed by semi-RCU",
    "v6.1": "Linux 6.1 on bare metal: no reclaim, no per-VMA locks, tables freed in the page batch right after the flush",
    "rfc-v1": "the cover letter's series on next-20240627: reclaim walk after the zap, IPI then call_rcu, huge-page hook",
    "v6.14-rc1": "as merged in January 2025, with the bug that reclaims non-empty tables",
    "v6.14": "Linux 6.14: reclaim inside zap_pte_range, tables freed by call_rcu",
    "v6.18": "Linux 6.18: as 6.14, with MADV_DONTNEED under the VMA's lock and one flush for all VMAs of a call",
}

HARDWARE_PRESETS: dict[str, dict[str, Any]] = {
    "intel": {},
    "intel-kpti": {"kpti": True},
    "amd-tce": {"tce": True},
    "erratum-383": {"mixed_sizes": MixedSizes.MACHINE_CHECK},
}
"""CPU types."""

HARDWARE_NOTES = {
    "intel": "INVLPG drops all paging-structure-cache entries of the current PCID (AMD without EFER.TCE does the same)",
    "intel-kpti": "with page-table isolation: user addresses are invalidated by INVPCID, upper-level entries of others stay",
    "amd-tce": "EFER.TCE on (Linux sets it from 6.15): INVLPG drops upper-level entries on the path to the address only",
    "erratum-383": "AMD family 10h: an access through mixed page sizes is a machine check",
}
