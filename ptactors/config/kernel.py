"""What the modelled Linux does: the knobs of the kernel."""

from __future__ import annotations

import enum

import attrs

from ptactors.config.knob import knob


class PtReclaim(enum.Enum):
    """Who frees empty PTE pages in MADV_DONTNEED."""

    OFF = "off"
    RFC = "rfc"
    MERGED = "merged"


class TableFree(enum.Enum):
    """How the memory of a page table that went through mmu_gather is given back."""

    PAGE_BATCH = "page-batch"
    SEMI_RCU = "semi-rcu"
    IPI_THEN_RCU = "ipi-then-rcu"
    RCU = "rcu"
    SYNCHRONIZE_RCU = "synchronize-rcu"


class LeftMask(enum.Enum):
    """What switch_mm does with the CPU's bit in the mm_cpumask of the mm it leaves."""

    CLEAR = "clear"
    KEEP = "keep"


class FlushFilter(enum.Enum):
    """Which CPUs of the mask a flush that frees no tables interrupts."""

    NOT_LAZY = "not-lazy"
    LOADED_MM = "loaded-mm"
    LOADED_OR_SWITCHING = "loaded-mm-or-switching"


@attrs.frozen(kw_only=True)
class Kernel:
    """What the modelled Linux does. Defaults are those of v6.14; presets say what differs."""

    pt_reclaim: PtReclaim = knob(
        PtReclaim.MERGED,
        "off: MADV_DONTNEED keeps empty PTE pages; rfc: a second walk after the zap frees them; "
        "merged: zap_pte_range frees them itself",
        "CONFIG_PT_RECLAIM",
        "RFC v1 4/7 (cover.1719570849); 6375e95f381e (v6.14)",
    )
    table_free: TableFree = knob(
        TableFree.RCU,
        "how a table in the gather is freed: in the page batch right after the flush; batch by RCU and single by IPI; "
        "single by IPI then call_rcu; call_rcu; single by synchronize_rcu",
        "CONFIG_MMU_GATHER_RCU_TABLE_FREE, __tlb_remove_table_one()",
        "mm/mmu_gather.c, arch/x86/kernel/paravirt.c (up to v6.14); RFC v1 5/7; 718b13861d22 (v6.14); 1fb3d8c20bfa (v7.1)",
    )
    flush_before_set_huge: bool = knob(
        False,
        "flush the 2 MiB under the pmd lock before a huge pmd is set, if a gather is pending on the mm",
        "arch_flush_tlb_before_set_huge_page()",
        "RFC v1 6/7",
    )
    flush_before_set_pte: bool = knob(
        False,
        "flush the 2 MiB under the pmd lock before a PTE page is installed, if a gather is pending on the mm",
        "arch_flush_tlb_before_set_pte_page() (left empty on x86 by the series)",
        "RFC v1 4/7, cover letter situation 2",
    )
    filter_hugetlb: bool = knob(True, "rfc: skip hugetlb VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_vm_hugepage: bool = knob(True, "rfc: skip VM_HUGEPAGE VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_uffd_wp: bool = knob(True, "rfc: skip userfaultfd-wp VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_private_file_write: bool = knob(
        True,
        "rfc: skip writable private file VMAs, as the cover letter says (the posted code asks for zap details besides, which "
        "madvise passes as NULL: off is what that code does)",
        "try_to_reclaim_pgtables()",
        "RFC v1 4/7, cover letter",
    )
    reclaim_scan: bool = knob(
        True,
        "rescan the 512 entries under pmd and pte lock before the pmd is cleared",
        "try_to_free_pte(), the loop in RFC v1's walker",
        "mm/pt_reclaim.c (v6.14)",
    )
    reclaim_pmd_same: bool = knob(
        True,
        "reclaim's slow walk rechecks under the locks that the pmd still points to the table it mapped",
        "pmd_same() in RFC v1's walker",
        "RFC v1 4/7",
    )
    direct_reclaim_reset: bool = knob(
        True,
        "zap_pte_range takes the scan-free fast path only if it never dropped the pte lock in mid-table",
        "direct_reclaim = false on a break",
        "f39edcf6349a (v6.14, after rc3), mail 20250211072625.89188-1: mm/memory.c, zap_pte_range()",
    )
    reclaim_trylock: bool = knob(
        True,
        "the fast path takes the pmd lock under the pte lock by trylock (off: a blocking lock, an order inversion)",
        "spin_trylock() in try_get_and_clear_pmd()",
        "mm/pt_reclaim.c (v6.14)",
    )
    any_skipped: bool = knob(
        True,
        "an entry that the zap keeps or re-installs rules reclaim out, with and without a scan",
        "any_skipped in zap_pte_range()",
        "735fad44b5a8, 4059971c79fc (v6.14): mm/memory.c",
    )
    dtor_after_grace_period: bool = knob(
        True,
        "the table's destructor, which frees its lock, runs when the table is freed (off: when it is queued)",
        "pagetable_dtor() in __tlb_remove_table()",
        "ee0934b03510 (v6.14), x86: pgtable: move pagetable_dtor() to __tlb_remove_table(), after a report by syzbot",
    )
    ptlock_alloc: bool = knob(
        False,
        "a table's lock is an allocation of its own (as with lock debugging), so that it can be freed before the table",
        "ALLOC_SPLIT_PTLOCKS",
        "include/linux/mm_types_task.h",
    )
    split_ptlocks: bool = knob(
        True,
        "pmd and pte tables have locks of their own (off: both locks are mm->page_table_lock)",
        "CONFIG_SPLIT_PTE_PTLOCKS, CONFIG_SPLIT_PMD_PTLOCKS",
        "include/linux/mm.h",
    )
    per_vma_lock: bool = knob(
        True, "page faults try the per-VMA lock first", "CONFIG_PER_VMA_LOCK", "0bff0aaea03e (v6.4): arch/x86/mm/fault.c"
    )
    madvise_vma_lock: bool = knob(
        False,
        "MADV_DONTNEED inside one VMA takes that VMA's lock and no mmap_lock",
        "MADVISE_VMA_READ_LOCK",
        "a6fde7add78d (v6.17): mm/madvise.c",
    )
    madvise_batch: bool = knob(
        False,
        "one gather, and so one flush at the end, for all VMAs of a MADV_DONTNEED (off: one for each)",
        "madvise_init_tlb()",
        "43c4cfde7e37 (v6.16): mm/madvise.c",
    )
    process_madvise_self: bool = knob(
        True,
        "process_madvise takes every advice for the caller's own process (off: only those that are allowed for others)",
        "process_madvise_remote_valid()",
        "021781b01275 (v6.13), mm/madvise: unrestrict process_madvise() for current process: mm/madvise.c",
    )
    populate_walks_vmas: bool = knob(
        False,
        "MADV_POPULATE_* goes on behind a hole and reports it at the end (off: it ends there)",
        "madvise_populate() called by madvise_vma_behavior()",
        "up to v6.9; fa9fcd8bb6e4 (v6.10), mm/madvise: don't perform madvise VMA walk for MADV_POPULATE_(READ|WRITE)",
    )
    merge_into_unfaulted: bool = knob(
        False,
        "a VMA with an anon_vma may be merged into a neighbour that has none",
        "is_mergeable_anon_vma()",
        "879bca0a2c4f (v6.16): mm/vma.c",
    )
    mprotect_unaccount: bool = knob(
        True,
        "mprotect takes VM_ACCOUNT from a VMA that becomes read-only and was never written to",
        "mprotect_fixup()",
        "9b9143298585 (v6.7), mm/mprotect: allow unfaulted VMAs to be unaccounted on mprotect(): mm/mprotect.c",
    )
    mprotect_upgrades_huge: bool = knob(
        True,
        "mprotect makes a huge page of one's own writable at once (off: the next write faults for that, as small pages never do)",
        "can_change_pmd_writable() in change_huge_pmd()",
        "c27f479ef542 (v6.2): mm/huge_memory.c",
    )
    map_lock_recheck: bool = knob(
        True,
        "pte_offset_map_lock rereads the pmd under the lock and starts over if it changed",
        "pmd_same() in pte_offset_map_lock()",
        "0d940a9b270b (v6.5): mm/pgtable-generic.c, __pte_offset_map_lock()",
    )
    install_recheck: bool = knob(
        True,
        "pmd_install installs only over an empty pmd, seen under the pmd lock",
        "pmd_none() in pmd_install()",
        "mm/memory.c",
    )
    gup_recheck: bool = knob(
        True,
        "GUP-fast rereads pmd and pte after it took its reference and backs out if either changed",
        "gup_fast_pte_range()",
        "mm/gup.c",
    )
    nested_gather_flush: bool = knob(
        True,
        "tlb_finish_mmu flushes the whole mm if another gather on it is pending",
        "mm_tlb_flush_nested()",
        "99baac21e458 (v4.13); mm/mmu_gather.c",
    )
    pending_flush: bool = knob(
        True,
        "a gather flushes the TLBs of the other CPUs before it frees (off: only its own)",
        "tlb_flush_mmu_tlbonly()",
        "mm/mmu_gather.c, tlb_flush_mmu(); include/asm-generic/tlb.h",
    )
    flush_lazy_on_freed_tables: bool = knob(
        True,
        "a flush that freed tables interrupts lazy CPUs too",
        "info->freed_tables in native_flush_tlb_multi()",
        "145f573b89a6; arch/x86/mm/tlb.c. Not confirmed: v4.20 as its release",
    )
    partial_flush_needs_next_gen: bool = knob(
        True,
        "a partial flush is done only if it brings the CPU from one tlb_gen to the next",
        "f->new_tlb_gen == local_tlb_gen + 1 in flush_tlb_func()",
        "b0579ade7cd8 (v4.14): arch/x86/mm/tlb.c",
    )
    flush_filter: FlushFilter = knob(
        FlushFilter.LOADED_MM,
        "which CPUs of mm_cpumask a flush interrupts if no tables were freed: those not lazy; of those, which have the mm "
        "loaded; and also which are just switching to it",
        "tlb_is_not_lazy(), should_flush_tlb()",
        "arch/x86/mm/tlb.c: up to v6.13; 6db2526c1d69 (v6.14); fea4e317f9e7 (v6.15, CVE-2025-37964)",
    )
    atomic_clear: bool = knob(
        True,
        "a present pte is cleared by one exchange (off: read, then store zero)",
        "ptep_get_and_clear_full()",
        "arch/x86/include/asm/pgtable.h",
    )
    flush_dirty_file_under_ptl: bool = knob(
        True,
        "a zapped dirty file page forces the flush before the pte lock is dropped",
        "force_flush, delay_rmap in zap_present_folio_ptes()",
        "1cf35d47712d (v3.15)",
    )
    flush_range_frees_tables: bool = knob(
        False,
        "flush_tlb_range(), as a split of a huge page uses it, interrupts lazy CPUs too",
        "freed_tables argument in the macro flush_tlb_range()",
        "3ef938c35035 (v6.15): arch/x86/include/asm/tlbflush.h",
    )
    left_mask: LeftMask = knob(
        LeftMask.KEEP,
        "clear: switch_mm clears the bit of the mm it leaves; keep: the bit stays until it is trimmed",
        "mm_cpumask in switch_mm_irqs_off()",
        "arch/x86/mm/tlb.c up to v6.13; 209954cbc7d0 (v6.14)",
    )
    flush_ceiling: int = knob(
        33, "up to so many pages are invalidated one by one", "tlb_single_page_flush_ceiling", "arch/x86/mm/tlb.c"
    )
    gather_bundle: int = knob(8, "pages the gather holds on the stack", "MMU_GATHER_BUNDLE", "include/asm-generic/tlb.h", least=2)
    gather_batch: int = knob(510, "pages in one more page batch", "MAX_GATHER_BATCH", "include/asm-generic/tlb.h", least=2)
    gather_batch_count: int = knob(
        19, "how many more page batches a gather opens", "MAX_GATHER_BATCH_COUNT", "include/asm-generic/tlb.h"
    )
    gather_spare_slot: bool = knob(
        True,
        "a batch of the gather counts as full one slot early, since an entry may need two",
        "batch->max - 1 in __tlb_remove_folio_pages_size()",
        "d7f861b9c43a (v6.9), mm/mmu_gather: add __tlb_remove_folio_pages(): mm/mmu_gather.c",
    )
    delayed_rmap: bool = knob(
        True,
        "while dirty file pages wait in the gather for the flush, it opens one more page batch at most",
        "tlb_delay_rmap()",
        "5df397dec7c4, c47454823bd4 (v6.2): include/asm-generic/tlb.h; mm/mmu_gather.c, tlb_next_batch()",
    )
    table_batch: int = knob(509, "tables in one table batch", "MAX_TABLE_BATCH", "include/asm-generic/tlb.h", least=1)
    huge_zero_page: bool = knob(
        True,
        "a read fault on an empty pmd maps the huge zero page where THP is allowed",
        "use_zero_page",
        "mm/huge_memory.c",
    )

    huge_zero_wp_thp: bool = knob(
        True,
        "a write to the huge zero page maps a huge page in its place (off: it is split and one small page is copied)",
        "do_huge_zero_wp_pmd()",
        "1ced09e0331f (v6.13), mm: allocate THP on hugezeropage wp-fault: mm/huge_memory.c",
    )
    collapse_flush: bool = knob(
        True,
        "a collapse flushes the 2 MiB once it has cleared the pmd, before it looks at the pages",
        "pmdp_collapse_flush()",
        "mm/pgtable-generic.c; mm/khugepaged.c, collapse_huge_page()",
    )
    collapse_sync_ipi: bool = knob(
        True,
        "a collapse interrupts every CPU after the flush, so that no GUP-fast is left inside the table it takes away "
        "(not with table_free=page-batch, which leaves that to the flush, as Linux does without CONFIG_PARAVIRT)",
        "tlb_remove_table_sync_one() in collapse_huge_page()",
        "2ba99c5e0881 (v6.1): mm/khugepaged.c",
    )
    collapse_needs_writable: bool = knob(
        True,
        "a collapse refuses 2 MiB in which no entry is writable",
        "SCAN_PAGE_RO",
        "mm/khugepaged.c up to v6.17; removed by mm: drop all references of writable and SCAN_PAGE_RO (v6.18)",
    )
    collapse_lock_then_check: bool = knob(
        False,
        "a collapse write-locks the VMA before it checks that the pmd still points to a table (off: after, which is wrong where "
        "MADV_DONTNEED runs under the VMA's lock)",
        "vma_start_write() before check_pmd_still_valid()",
        "366a4532d96f (v6.17-rc2, fixes a6fde7add78d of v6.17-rc1): mm/khugepaged.c",
    )
