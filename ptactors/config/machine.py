"""What the kernel runs on: the knobs of the machine."""

from __future__ import annotations

import enum

import attrs

from ptactors.config.knob import knob


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


@attrs.frozen(kw_only=True)
class Machine:
    """What the kernel runs on."""

    cpus: int = knob(2, "number of CPUs", "nr_cpu_ids", "scenario", least=1)
    tce: bool = knob(
        False,
        "INVLPG drops only the upper-level entries on the path to the address (off: all of the PCID)",
        "EFER.TCE",
        "AMD APM volume 2; Intel SDM volume 3, 4.10.4.1; 440a65b7d25f (v6.15) sets it",
    )
    pcid: bool = knob(True, "TLB entries are tagged with an address-space identifier", "CR4.PCIDE", "Intel SDM 4.10.1")
    kpti: bool = knob(
        False,
        "user code has a PCID of its own, where INVPCID drops single addresses: upper-level entries of others stay",
        "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION, __flush_tlb_one_user()",
        "arch/x86/mm/tlb.c; Intel SDM volume 3, 4.10.4.1 (INVPCID type 0)",
    )
    mixed_sizes: MixedSizes = knob(
        MixedSizes.ALTERNATE,
        "what an access through differing 4 KiB and 2 MiB translations does: either is used, or a machine check",
        "erratum 383",
        "Intel 317080, as RFC v1's cover letter quotes it; AMD 41322 (revision guide for family 10h), erratum 383",
    )
    preemption: Preemption = knob(
        Preemption.FULL,
        "decides what is an RCU quiescent state",
        "CONFIG_PREEMPT*",
        "kernel/Kconfig.preempt, kernel/rcu/tree_plugin.h",
    )
    thp: Thp = knob(Thp.NEVER, "where page faults may map huge pages", "transparent_hugepage/enabled", "mm/huge_memory.c")
    khugepaged: bool = knob(False, "reserved: khugepaged is not modelled yet and may only be off", "khugepaged", "-")
    tlb_entries: int = knob(
        256, "capacity of one CPU's TLB; the lowest address is evicted", "-", "SDM 4.10.2.2 allows any", least=1
    )
    psc_entries: int = knob(32, "capacity of one CPU's paging-structure caches", "-", "SDM 4.10.3 allows any", least=1)
    frame_reuse: FrameReuse = knob(
        FrameReuse.LIFO,
        "which free frame is handed out first: the last freed on this CPU, or a new one",
        "pcp lists",
        "mm/page_alloc.c",
    )
    other_tables_kb: int = knob(
        0, "page tables that the process has besides the modelled ones, in kB, counted in VmPTE", "VmPTE", "given"
    )
    exit: bool = knob(True, "processes exit after the programs, so that everything is accounted for", "exit_mmap()", "mm/mmap.c")
