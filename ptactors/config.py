"""Every knob and preset, as data.

A knob is one field of :class:`Kernel` (what Linux does) or :class:`Machine` (what it runs on), with its story in the field's
metadata: effect, kernel counterpart, source. A preset is a named set of knobs. Scenario files, ``--set``, the log's header and
``ptactors list knobs`` all read these tables; the model receives one frozen :class:`Config` and looks nowhere else.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs

from ptactors.errors import UsageError


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


class Preemption(enum.Enum):
    """The kernel's preemption model: decides what is a quiescent state."""

    NONE = "none"
    VOLUNTARY = "voluntary"
    FULL = "full"
    LAZY = "lazy"


class Thp(enum.Enum):
    """/sys/kernel/mm/transparent_hugepage/enabled."""

    ALWAYS = "always"
    MADVISE = "madvise"
    NEVER = "never"


class MixedSizes(enum.Enum):
    """What the hardware does when 4 KiB and 2 MiB translations of one address coexist and differ."""

    ALTERNATE = "alternate"
    MACHINE_CHECK = "machine-check"


class FrameReuse(enum.Enum):
    """What the page allocator hands out first."""

    LIFO = "lifo"
    FRESH = "fresh"


def _knob(default: Any, effect: str, counterpart: str, source: str, *, least: int = 0) -> Any:
    story = {"effect": effect, "counterpart": counterpart, "source": source, "least": least}
    return attrs.field(default=default, metadata=story)


@attrs.frozen(kw_only=True)
class Kernel:
    """What the modelled Linux does. Defaults are those of v6.14; presets say what differs."""

    pt_reclaim: PtReclaim = _knob(
        PtReclaim.MERGED,
        "off: MADV_DONTNEED keeps empty PTE pages; rfc: a second walk after the zap frees them; "
        "merged: zap_pte_range frees them itself",
        "CONFIG_PT_RECLAIM",
        "RFC v1 4/7 (cover.1719570849); 6375e95f381e (v6.14)",
    )
    table_free: TableFree = _knob(
        TableFree.RCU,
        "how a table in the gather is freed: in the page batch right after the flush; batch by RCU and single by IPI; "
        "single by IPI then call_rcu; call_rcu; single by synchronize_rcu",
        "CONFIG_MMU_GATHER_RCU_TABLE_FREE, __tlb_remove_table_one()",
        "mm/mmu_gather.c; RFC v1 5/7; 718b13861d22 (v6.14); 1fb3d8c20bfa (v7.1)",
    )
    flush_before_set_huge: bool = _knob(
        False,
        "flush the 2 MiB under the pmd lock before a huge pmd is set, if a gather is pending on the mm",
        "arch_flush_tlb_before_set_huge_page()",
        "RFC v1 6/7",
    )
    flush_before_set_pte: bool = _knob(
        False,
        "flush the 2 MiB under the pmd lock before a PTE page is installed, if a gather is pending on the mm",
        "arch_flush_tlb_before_set_pte_page() (left empty on x86 by the series)",
        "RFC v1 4/7, cover letter situation 2",
    )
    filter_hugetlb: bool = _knob(True, "rfc: skip hugetlb VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_vm_hugepage: bool = _knob(True, "rfc: skip VM_HUGEPAGE VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_uffd_wp: bool = _knob(True, "rfc: skip userfaultfd-wp VMAs", "try_to_reclaim_pgtables()", "RFC v1 4/7")
    filter_private_file_write: bool = _knob(
        True,
        "rfc: skip writable private file VMAs, as the cover letter says (the posted code asks for zap details besides, which "
        "madvise passes as NULL: off is what that code does)",
        "try_to_reclaim_pgtables()",
        "RFC v1 4/7, cover letter",
    )
    reclaim_scan: bool = _knob(
        True,
        "rescan the 512 entries under pmd and pte lock before the pmd is cleared",
        "try_to_free_pte(), the loop in RFC v1's walker",
        "mm/pt_reclaim.c (v6.14)",
    )
    reclaim_pmd_same: bool = _knob(
        True,
        "reclaim's slow walk rechecks under the locks that the pmd still points to the table it mapped",
        "pmd_same() in RFC v1's walker",
        "RFC v1 4/7; races.json R07",
    )
    direct_reclaim_reset: bool = _knob(
        True,
        "zap_pte_range takes the scan-free fast path only if it never dropped the pte lock in mid-table",
        "direct_reclaim = false on a break",
        "20250211072625.89188-1 (fix in v6.14)",
    )
    reclaim_trylock: bool = _knob(
        True,
        "the fast path takes the pmd lock under the pte lock by trylock (off: a blocking lock, an order inversion)",
        "spin_trylock() in try_get_and_clear_pmd()",
        "mm/pt_reclaim.c (v6.14)",
    )
    any_skipped: bool = _knob(
        True,
        "an entry that the zap keeps or re-installs vetoes the scan-free fast path",
        "any_skipped in zap_pte_range()",
        "735fad44b5a8, 4059971c79fc (v6.14)",
    )
    dtor_after_grace_period: bool = _knob(
        True,
        "the table's destructor, which frees its lock, runs when the table is freed (off: when it is queued)",
        "pagetable_dtor() in __tlb_remove_table()",
        "mm: pgtable: move pagetable_dtor() to __tlb_remove_table() (v6.14); syzbot, December 2024",
    )
    ptlock_alloc: bool = _knob(
        False,
        "a table's lock is an allocation of its own (as with lock debugging), so that it can be freed before the table",
        "ALLOC_SPLIT_PTLOCKS",
        "include/linux/mm_types_task.h",
    )
    split_ptlocks: bool = _knob(
        True,
        "pmd and pte tables have locks of their own (off: both locks are mm->page_table_lock)",
        "CONFIG_SPLIT_PTE_PTLOCKS, CONFIG_SPLIT_PMD_PTLOCKS",
        "include/linux/mm.h",
    )
    per_vma_lock: bool = _knob(True, "page faults try the per-VMA lock first", "CONFIG_PER_VMA_LOCK", "mm/memory.c (v6.4)")
    map_lock_recheck: bool = _knob(
        True,
        "pte_offset_map_lock rereads the pmd under the lock and starts over if it changed",
        "pmd_same() in pte_offset_map_lock()",
        "mm/pgtable-generic.c (v6.5)",
    )
    install_recheck: bool = _knob(
        True,
        "pmd_install installs only over an empty pmd, seen under the pmd lock",
        "pmd_none() in pmd_install()",
        "mm/memory.c",
    )
    gup_recheck: bool = _knob(
        True,
        "GUP-fast rereads pmd and pte after it took its reference and backs out if either changed",
        "gup_fast_pte_range()",
        "mm/gup.c",
    )
    nested_gather_flush: bool = _knob(
        True,
        "tlb_finish_mmu flushes the whole mm if another gather on it is pending",
        "mm_tlb_flush_nested()",
        "99baac21e458 (v4.13); mm/mmu_gather.c",
    )
    pending_flush: bool = _knob(
        True,
        "a gather flushes the TLBs of the other CPUs before it frees (off: only its own)",
        "tlb_flush_mmu_tlbonly()",
        "mm/mmu_gather.c; races.json R50",
    )
    flush_lazy_on_freed_tables: bool = _knob(
        True,
        "a flush that freed tables interrupts lazy CPUs too",
        "info->freed_tables in native_flush_tlb_multi()",
        "145f573b89a6 (v4.20); arch/x86/mm/tlb.c",
    )
    partial_flush_needs_next_gen: bool = _knob(
        True,
        "a partial flush is done only if it brings the CPU from one tlb_gen to the next",
        "f->new_tlb_gen == local_tlb_gen + 1 in flush_tlb_func()",
        "b0579ade7cd8 (v4.13); races.json R66",
    )
    flush_filter: FlushFilter = _knob(
        FlushFilter.LOADED_MM,
        "which CPUs of mm_cpumask a flush interrupts if no tables were freed: those not lazy; of those, which have the mm "
        "loaded; and also which are just switching to it",
        "tlb_is_not_lazy(), should_flush_tlb()",
        "arch/x86/mm/tlb.c: up to v6.13; 209954cbc7d0 (v6.14); fea4e317f9e7 (v6.15, CVE-2025-37964)",
    )
    atomic_clear: bool = _knob(
        True,
        "a present pte is cleared by one exchange (off: read, then store zero)",
        "ptep_get_and_clear_full()",
        "arch/x86/include/asm/pgtable.h; races.json R41",
    )
    flush_dirty_file_under_ptl: bool = _knob(
        True,
        "a zapped dirty file page forces the flush before the pte lock is dropped",
        "force_flush, delay_rmap in zap_present_folio_ptes()",
        "1cf35d47712d (v3.15)",
    )
    flush_range_frees_tables: bool = _knob(
        False,
        "flush_tlb_range(), as a split of a huge page uses it, interrupts lazy CPUs too",
        "freed_tables argument in the macro flush_tlb_range()",
        "3ef938c35035 (v6.15): arch/x86/include/asm/tlbflush.h",
    )
    left_mask: LeftMask = _knob(
        LeftMask.KEEP,
        "clear: switch_mm clears the bit of the mm it leaves; keep: the bit stays until it is trimmed",
        "mm_cpumask in switch_mm_irqs_off()",
        "arch/x86/mm/tlb.c up to v6.13 and from v6.14",
    )
    flush_ceiling: int = _knob(
        33, "up to so many pages are invalidated one by one", "tlb_single_page_flush_ceiling", "arch/x86/mm/tlb.c"
    )
    gather_bundle: int = _knob(
        8, "pages the gather holds on the stack", "MMU_GATHER_BUNDLE", "include/asm-generic/tlb.h", least=2
    )
    gather_batch: int = _knob(510, "pages in one more page batch", "MAX_GATHER_BATCH", "include/asm-generic/tlb.h", least=2)
    gather_batch_count: int = _knob(
        19, "how many more page batches a gather opens", "MAX_GATHER_BATCH_COUNT", "include/asm-generic/tlb.h"
    )
    table_batch: int = _knob(509, "tables in one table batch", "MAX_TABLE_BATCH", "include/asm-generic/tlb.h", least=1)
    huge_zero_page: bool = _knob(
        True,
        "a read fault on an empty pmd maps the huge zero page where THP is allowed",
        "use_zero_page",
        "mm/huge_memory.c",
    )

    huge_zero_wp_thp: bool = _knob(
        True,
        "a write to the huge zero page maps a huge page in its place (off: it is split and one small page is copied)",
        "do_huge_zero_wp_pmd()",
        "mm/huge_memory.c (v6.13)",
    )


@attrs.frozen(kw_only=True)
class Machine:
    """What the kernel runs on."""

    cpus: int = _knob(2, "number of CPUs", "nr_cpu_ids", "scenario", least=1)
    tce: bool = _knob(
        False,
        "INVLPG drops only the upper-level entries on the path to the address (off: all of the PCID)",
        "EFER.TCE",
        "AMD APM volume 2; Intel SDM volume 3, 4.10.4.1",
    )
    pcid: bool = _knob(True, "TLB entries are tagged with an address-space identifier", "CR4.PCIDE", "Intel SDM 4.10.1")
    kpti: bool = _knob(
        False,
        "user code has a PCID of its own, where INVPCID drops single addresses: upper-level entries of others stay",
        "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION, __flush_tlb_one_user()",
        "arch/x86/mm/tlb.c; Intel SDM volume 3, 4.10.4.1 (INVPCID type 0)",
    )
    mixed_sizes: MixedSizes = _knob(
        MixedSizes.ALTERNATE,
        "what an access through differing 4 KiB and 2 MiB translations does: either is used, or a machine check",
        "erratum 383",
        "Intel 317080 section 4; AMD family 10h erratum 383",
    )
    preemption: Preemption = _knob(
        Preemption.FULL, "decides what is an RCU quiescent state", "CONFIG_PREEMPT*", "kernel/rcu, sections 9 and 14"
    )
    thp: Thp = _knob(Thp.NEVER, "where page faults may map huge pages", "transparent_hugepage/enabled", "mm/huge_memory.c")
    khugepaged: bool = _knob(False, "reserved: khugepaged is not modelled yet and may only be off", "khugepaged", "-")
    tlb_entries: int = _knob(
        256, "capacity of one CPU's TLB; the lowest address is evicted", "-", "SDM 4.10.2.2 allows any", least=1
    )
    psc_entries: int = _knob(32, "capacity of one CPU's paging-structure caches", "-", "SDM 4.10.3 allows any", least=1)
    frame_reuse: FrameReuse = _knob(
        FrameReuse.LIFO,
        "which free frame is handed out first: the last freed on this CPU, or a new one",
        "pcp lists",
        "mm/page_alloc.c",
    )
    other_tables_kb: int = _knob(
        0, "page tables that the process has besides the modelled ones, in kB, counted in VmPTE", "VmPTE", "given"
    )
    exit: bool = _knob(True, "processes exit after the programs, so that everything is accounted for", "exit_mmap()", "mm/mmap.c")


@attrs.frozen(kw_only=True)
class Config:
    """All knobs of one run."""

    kernel: Kernel = attrs.field(factory=Kernel)
    machine: Machine = attrs.field(factory=Machine)

    def as_dict(self) -> dict[str, str | int | bool]:
        """Every knob by name, with enums as their text; the form of logs, ``--json`` and digests."""
        values: dict[str, str | int | bool] = {}
        for part in (self.kernel, self.machine):
            for field in attrs.fields(type(part)):
                value = getattr(part, field.name)
                values[field.name] = value.value if isinstance(value, enum.Enum) else value
        return values


KERNEL_KNOBS = {f.name: f for f in attrs.fields(Kernel)}
MACHINE_KNOBS = {f.name: f for f in attrs.fields(Machine)}

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
    },
    "v6.14-rc1": {"direct_reclaim_reset": False},
    "v6.14": {},
}
"""Kernel presets: 6.13 on bare metal and as a guest, the cover letter's series, and what was merged."""

PRESET_NOTES = {
    "before": "Linux 6.13 on bare metal: no reclaim, page tables freed in the page batch right after the flush",
    "before-pv": "Linux 6.13 as a KVM, Xen or Hyper-V guest: no reclaim, tables freed by semi-RCU",
    "rfc-v1": "the cover letter's series on next-20240627: reclaim walk after the zap, IPI then call_rcu, huge-page hook",
    "v6.14-rc1": "as merged in January 2025, with the bug that reclaims non-empty tables",
    "v6.14": "Linux 6.14: reclaim inside zap_pte_range, tables freed by call_rcu",
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


def parse_knob(name: str, value: object) -> Any:
    """The typed value of knob ``name`` given as TOML or command-line text gives it.

    Raises UsageError with the values that are possible.
    """
    field = KERNEL_KNOBS.get(name) or MACHINE_KNOBS.get(name)
    if field is None:
        raise UsageError(f"unknown knob {name!r}")
    kind = type(field.default)
    if issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        if value in choices:
            return kind(value)
        raise UsageError(f"knob {name}: expected one of {', '.join(choices)}, not {value!r}")
    if kind is bool:
        known: dict[object, bool] = {True: True, False: False, "true": True, "false": False, "y": True, "n": False}
        if type(value) in (bool, str) and value in known:
            return known[value]
        raise UsageError(f"knob {name}: expected true or false, not {value!r}")
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value, 0) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
        if number < field.metadata["least"] or (number != value and not isinstance(value, str)):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"knob {name}: expected an integer of at least {field.metadata['least']}, not {value!r}") from None
    return number


def resolve(preset: str = "v6.14", hardware: str = "intel", **knobs: Any) -> Config:
    """The configuration of ``preset`` on ``hardware`` with single ``knobs`` (typed values) set over both.

    Raises UsageError for an unknown preset or knob.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    if hardware not in HARDWARE_PRESETS:
        raise UsageError(f"unknown hardware {hardware!r}; known: {', '.join(HARDWARE_PRESETS)}")
    unknown = [k for k in knobs if k not in KERNEL_KNOBS and k not in MACHINE_KNOBS]
    if unknown:
        raise UsageError(f"unknown knob {unknown[0]!r}")
    values = {**PRESETS[preset], **HARDWARE_PRESETS[hardware], **knobs}
    return Config(
        kernel=Kernel(**{k: v for k, v in values.items() if k in KERNEL_KNOBS}),
        machine=Machine(**{k: v for k, v in values.items() if k in MACHINE_KNOBS}),
    )
