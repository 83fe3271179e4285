"""The explicit list of operations that programs may use, each with the steps it may make.

A step class that an operation makes and does not list here is refused by the engine; the groups below follow the modules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ptactors.hardware.interrupt import IrqRestore, IrqSave, SendIpi, WaitIpi
from ptactors.hardware.memory import AllocFrame, FreeFrames, PutFrames
from ptactors.hardware.tlb import FlushAsid, Invlpg, WriteCr3
from ptactors.hardware.walker import Access, WalkLoad
from ptactors.kernel import (
    collapse,
    fault,
    gather,
    gup,
    lock,
    mm,
    mmap_lock,
    pgtable,
    populate,
    rcu,
    syscall,
    thp,
    tlbflush,
    unmap,
    vma,
    zap,
)
from ptactors.kernel.operation import Kind, Operation, Parameter

Steps = frozenset[type]

SPIN: Steps = frozenset({lock.SpinLock, lock.SpinTryLock, lock.SpinUnlock})
MMAP: Steps = frozenset({mmap_lock.MmapLock, mmap_lock.MmapUnlock, mmap_lock.MmapTryLock, rcu.SetMode})
VMA: Steps = frozenset({mmap_lock.VmaStartRead, mmap_lock.VmaEndRead, mm.FindVma, mm.VmasOf, mm.HasAnonVma, mm.PrepareAnonVma})
RCU: Steps = frozenset({rcu.RcuReadLock, rcu.RcuReadUnlock})
IPI: Steps = frozenset({IrqSave, IrqRestore, SendIpi, WaitIpi})
FLUSH: Steps = IPI | {
    tlbflush.IncTlbGen,
    tlbflush.ReadTlbGen,
    tlbflush.ReadMask,
    tlbflush.ChangeMask,
    tlbflush.ReadTlbState,
    tlbflush.WriteTlbState,
    tlbflush.BeginFlush,
    tlbflush.EndFlush,
    Invlpg,
    FlushAsid,
    WriteCr3,
}
TABLES: Steps = (
    RCU
    | SPIN
    | {
        pgtable.ReadUpper,
        pgtable.ReadPmd,
        pgtable.ReadPte,
        pgtable.ScanTable,
        pgtable.WriteEntry,
        pgtable.MapPte,
        pgtable.PteUnmap,
    }
)
INSTALL: Steps = TABLES | {pgtable.AllocTable, pgtable.InstallUpper, pgtable.FillTable, AllocFrame, FreeFrames, PutFrames}
GATHER: Steps = FLUSH | {
    gather.ChangePending,
    gather.ReadPending,
    gather.AllocBatch,
    gather.QueueTable,
    gather.FreeTables,
    rcu.CallRcuFree,
    rcu.RequestGp,
    rcu.AwaitGp,
    rcu.SetMode,
    mm.AddRss,
    mm.AddPgtables,
    FreeFrames,
    PutFrames,
}
HUGE: Steps = frozenset({thp.Deposit, thp.Withdraw, thp.GetPages})
FAULT: Steps = (
    MMAP | VMA | INSTALL | FLUSH | HUGE | {fault.EnterFault, fault.LeaveFault, mm.AddRss, gather.ReadPending, gather.FreeTables}
)
ZAP: Steps = (
    TABLES | GATHER | HUGE | MMAP | {zap.MarkDirty, zap.FrameKind, zap.NeedResched, rcu.CondResched, mm.VmasOf, pgtable.FillTable}
)
ENTRY: Steps = frozenset({syscall.EnterSyscall, syscall.ExitSyscall})
TREE: Steps = frozenset(
    {
        mmap_lock.VmaStartWrite,
        mmap_lock.VmaHasReaders,
        mmap_lock.VmaEndWriteAll,
        mm.VmasOf,
        mm.SetVmas,
        vma.AllocVma,
        vma.ReadAnonVma,
        vma.CloneAnonVma,
    }
)
UNMAP: Steps = ZAP | ENTRY | TREE | {mmap_lock.MmapDowngrade, tlbflush.ReadPgd, unmap.DropUser, unmap.CheckMm}
POPULATE: Steps = (FAULT - {fault.EnterFault, fault.LeaveFault}) | {mm.VmasOf, rcu.CondResched, populate.AccountFault}
LOCK: Steps = MMAP | TREE | TABLES | FLUSH | HUGE | POPULATE | ENTRY | {pgtable.FillTable}
COLLAPSE: Steps = (
    MMAP
    | VMA
    | TREE
    | TABLES
    | FLUSH
    | {
        collapse.ScanPages,
        collapse.CopyPages,
        collapse.ClearEntries,
        collapse.DepositEmptied,
        rcu.CondResched,
        mm.AddRss,
        AllocFrame,
        PutFrames,
    }
)
ADVISE: Steps = ZAP | VMA | LOCK | COLLAPSE | ENTRY

FAULT_LOCKS = ("vma", "mmap", "page_table", "pmd", "pte")
ZAP_LOCKS = ("mmap", "pmd", "pte")
ADVISE_LOCKS = ("mmap", "vma", "page_table", "pmd", "pte")


def _operation(
    run: Callable[..., Awaitable[object]],
    *parameters: Parameter,
    mirrors: str,
    source: str,
    steps: Steps,
    locks: tuple[str, ...] = (),
) -> Operation:
    name = run.__name__.removeprefix("op_")
    summary = (run.__doc__ or "").strip().splitlines()[0]
    return Operation(
        name=name,
        parameters=parameters,
        run=run,
        mirrors=mirrors,
        source=source,
        locks=locks,
        steps=steps,
        summary=summary,
    )


_VA = Parameter("va", Kind.ADDRESS)
_RANGE = Parameter("range", Kind.RANGE)
_REGISTER = Parameter("register", Kind.REGISTER, "->", required=False)
_RESULT = Parameter("result", Kind.REGISTER, "->", required=False)
_PROT = Parameter("prot", Kind.PROT)
_ADVICE = Parameter("advice", Kind.ADVICE)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        _operation(
            syscall.op_read,
            _VA,
            _REGISTER,
            mirrors="a load from user mode",
            source="Intel SDM volume 3, 4.10; arch/x86/mm/fault.c, mm/memory.c",
            steps=FAULT | {Access, WalkLoad},
            locks=FAULT_LOCKS,
        ),
        _operation(
            syscall.op_write,
            _VA,
            Parameter("value", Kind.VALUE, "="),
            mirrors="a store from user mode",
            source="Intel SDM volume 3, 4.10; arch/x86/mm/fault.c, mm/memory.c",
            steps=FAULT | {Access, WalkLoad},
            locks=FAULT_LOCKS,
        ),
        _operation(
            syscall.op_madvise,
            _RANGE,
            _ADVICE,
            _RESULT,
            mirrors="madvise()",
            source="mm/madvise.c, mm/memory.c, mm/mmu_gather.c, mm/gup.c, mm/khugepaged.c; RFC v1 4/7; v6.1-6.18",
            steps=ADVISE,
            locks=ADVISE_LOCKS,
        ),
        _operation(
            syscall.op_process_madvise,
            _RANGE,
            _ADVICE,
            _RESULT,
            mirrors="process_madvise()",
            source="mm/madvise.c; v6.1-6.18",
            steps=ADVISE,
            locks=ADVISE_LOCKS,
        ),
        _operation(
            syscall.op_mmap,
            _RANGE,
            _PROT,
            _RESULT,
            mirrors="mmap(), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED",
            source="mm/mmap.c, mm/vma.c; v6.1-6.18",
            steps=UNMAP,
            locks=ZAP_LOCKS,
        ),
        _operation(
            syscall.op_munmap,
            _RANGE,
            _RESULT,
            mirrors="munmap()",
            source="mm/vma.c, mm/memory.c; v6.1-6.18",
            steps=UNMAP,
            locks=ZAP_LOCKS,
        ),
        _operation(
            syscall.op_mprotect,
            _RANGE,
            _PROT,
            _RESULT,
            mirrors="mprotect()",
            source="mm/mprotect.c, mm/vma.c, mm/huge_memory.c; v6.1-6.18",
            steps=LOCK | GATHER | {zap.FrameKind},
            locks=ADVISE_LOCKS,
        ),
        _operation(
            syscall.op_mlock,
            _RANGE,
            _RESULT,
            mirrors="mlock()",
            source="mm/mlock.c, mm/vma.c, mm/gup.c; v6.1-6.18",
            steps=LOCK,
            locks=ADVISE_LOCKS,
        ),
        _operation(
            syscall.op_munlock,
            _RANGE,
            _RESULT,
            mirrors="munlock()",
            source="mm/mlock.c, mm/vma.c; v6.1-6.18",
            steps=LOCK,
            locks=ADVISE_LOCKS,
        ),
        _operation(
            syscall.op_walk,
            _VA,
            Parameter("times", Kind.NUMBER, "times", required=False, default=2),
            _REGISTER,
            mirrors="pte_offset_map() ... pte_unmap()",
            source="mm/pgtable-generic.c; v6.5-6.14",
            steps=RCU | MMAP | {mm.FindVma, pgtable.ReadUpper, pgtable.MapPte, pgtable.ReadPte, pgtable.PteUnmap},
            locks=("mmap",),
        ),
        _operation(
            syscall.op_gup_fast,
            _VA,
            _REGISTER,
            mirrors="pin_user_pages_fast(), its part without locks",
            source="mm/gup.c (gup_fast_fallback, gup_fast); v6.10-6.14",
            steps=TABLES | {gup.TryGrab, gup.Pinned, IrqSave, IrqRestore, PutFrames, rcu.SetMode},
        ),
        _operation(
            syscall.op_switch,
            Parameter("task", Kind.TASK),
            mirrors="context_switch(): switch_mm_irqs_off() or enter_lazy_tlb()",
            source="kernel/sched/core.c, arch/x86/mm/tlb.c; v6.10-6.14",
            steps=FLUSH | {rcu.SetMode, rcu.ContextSwitch, tlbflush.ReadPgd},
        ),
        _operation(
            syscall.op_wait,
            Parameter("label", Kind.LABEL),
            mirrors="user-space synchronisation",
            source="none: orders a scenario",
            steps=frozenset({syscall.Wait}),
        ),
        _operation(
            syscall.op_cond_resched,
            mirrors="cond_resched()",
            source="kernel/sched/core.c; kernel/rcu/tree_plugin.h",
            steps=frozenset({rcu.SetMode, rcu.CondResched}),
        ),
    )
}
"""Every operation by name."""


def step_labels() -> tuple[str, ...]:
    """The names of all steps that operations can make, sorted: what pins and coverage goals may name."""
    steps = {step for operation in OPERATIONS.values() for step in operation.steps} | UNMAP
    labels = {label for step in steps for label in (*step.labels, step.label) if label}  # type: ignore[attr-defined]
    return tuple(sorted(labels | {"begin", "end"}))
