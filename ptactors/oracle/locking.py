"""Oracles of conduct: lock order, RCU sections, and what may be done to page tables under which lock."""

from __future__ import annotations

from ptactors.model.event import (
    EntryWrite,
    IpiWait,
    LockAcquire,
    MightSleep,
    OpEnd,
    RcuUnlock,
    UserMode,
)
from ptactors.model.paging import Level
from ptactors.model.state import Listener
from ptactors.oracle.base import Oracle, Rule

ORDER = {"mmap": 0, "vma": 1, "page_table": 2, "pmd": 3, "pte": 4}
"""Classes of locks from outer to inner."""
LOCK_FREE_CALLS = ("munmap", "mmap", "exit")
"""System calls whose free_pgtables() writes entries with no lock: nobody can reach those tables any more."""


class LockOrder(Oracle):
    """A lock is taken by waiting for it while an inner one is held, or a second one of its class without ``nested``.

    mmap_lock, vma, page_table_lock, pmd lock, pte lock, from outer to inner. Trylocks are free, and so is the read side of a
    per-VMA lock, which never waits. vma_start_write() may lock many VMAs: the mmap lock it runs under orders them.
    """

    name = "lock_order"
    source = "Documentation/mm/process_addrs.rst, lock ordering; kernel/locking/lockdep.c"
    kinds = (LockAcquire,)
    rule = Rule(
        meaning="Two locks were taken in the opposite of the agreed order. Nothing need have gone wrong yet, but two"
        " CPUs that do so"
        " at once wait for each other for ever.",
        kernel="pmd_lock() then pte_lockptr() with SINGLE_DEPTH_NESTING; try_get_and_clear_pmd() under the pte lock.",
        avoided="Under the pte lock the pmd lock is taken by spin_trylock() only; if that fails try_to_free_pte() takes"
        " both in order.",
        knob="reclaim_trylock=false",
        scenario="reclaim-lock-order",
    )

    def see(self, step: int, actor: int, event: LockAcquire) -> None:
        """A lock is taken (the mirror has it as the last of this CPU's locks)."""
        held = self.mirror.locks.get(event.cpu)
        if held is None or len(held) < 2 or event.cpu < 0 or event.mode == "try":
            return
        rank = ORDER.get(event.cls, -1)
        if rank < 0 or (event.cls == "vma" and event.mode == "read"):
            return
        for lock in held[:-1]:
            other = ORDER.get(lock.cls, -1)
            many_vmas = event.cls == "vma" and any(each.cls == "mmap" for each in held)
            same = other == rank and event.mode != "nested" and not many_vmas
            if (other > rank or same) and self.first():
                what = f"cpu{event.cpu} waits for {event.lock} ({event.cls}) while it holds {lock.name} ({lock.cls})"
                lines = tuple((each.step, f"{each.name} taken by cpu{event.cpu} ({each.mode})") for each in held[:-1])
                self.report(step, actor, what, lines, f"{event.cls} under {lock.cls}")


class RcuMisuse(Oracle):
    """An RCU read section is closed that was never opened, left open where none may be, or slept in."""

    name = "rcu_misuse"
    source = "include/linux/rcupdate.h; lockdep-RCU; RFC v1 4/7, the missing pte_unmap() in collapse_pte_mapped_thp()"
    kinds = (RcuUnlock, UserMode, OpEnd, MightSleep)
    rule = Rule(
        meaning="Kernel code announces by RCU sections that it is looking at shared data. Here the announcement does"
        " not match: it"
        " was withdrawn twice, never withdrawn, or the code went to sleep under it.",
        kernel="pte_offset_map() opens a section and pte_unmap() closes it; synchronize_rcu() may not be called inside one.",
        avoided="Each path unmaps what it mapped, error paths too (merged: pte_unmap_unlock() in collapse_pte_mapped_thp()).",
        knob="none alone; table_free=synchronize-rcu makes queueing a table sleep, which no section may contain",
        scenario="single-table-vs-rcu-walker",
    )

    def listeners(self) -> dict[type, Listener]:
        """Where a section ends, and where none may be open."""
        return {RcuUnlock: self._unlock, UserMode: self._mode, OpEnd: self._leave, MightSleep: self._sleep}

    def _unlock(self, step: int, actor: int, event: RcuUnlock) -> None:
        if (event.depth < 0 or self.mirror.rcu[event.cpu] < 0) and self.first():
            self.report(step, actor, f"cpu{event.cpu} closes an RCU read section that it never opened", (), "unlock")

    def _mode(self, step: int, actor: int, event: UserMode) -> None:
        if event.mode == "user":
            self._leave(step, actor, event)

    def _leave(self, step: int, actor: int, event: UserMode | OpEnd) -> None:
        depth = self.mirror.rcu.get(event.cpu, 0)
        if depth > 0 and self.first():
            self.report(step, actor, f"cpu{event.cpu} leaves the kernel with {depth} RCU read sections open", (), "left open")

    def _sleep(self, step: int, actor: int, event: MightSleep) -> None:
        if event.rcu > 0 and self.first():
            self.report(step, actor, f"cpu{event.cpu} may sleep in {event.what} inside an RCU read section", (), "sleep")


class ProtocolViolation(Oracle):
    """A rule of the page-table protocol is broken.

    An entry written without its lock, or into a table that hangs nowhere any more; waiting for acknowledgements of an IPI with
    interrupts disabled; a spinlock carried to user mode; sleeping in atomic context.
    """

    name = "protocol_violation"
    source = "Documentation/mm/process_addrs.rst; kernel/smp.c, the warnings of smp_call_function_many_cond(); might_sleep()"
    kinds = (EntryWrite, IpiWait, UserMode, OpEnd, MightSleep)
    rule = Rule(
        meaning="Code did something that the agreed rules forbid, whether or not it went wrong this time: it changed a"
        " page table"
        " without that table's lock, changed one that is no longer in use, or waited where waiting can hang the machine.",
        kernel="set_pte_at() under the pte lock with pmd_same() rechecked; pmd_install() under the pmd lock; might_sleep().",
        avoided="pte_offset_map_lock() rereads the pmd under the lock and starts over; pte_offset_map_rw_nolock()"
        " leaves that to its"
        " caller. Only free_pgtables() writes without locks.",
        knob="map_lock_recheck=false",
        scenario="map-lock-recheck",
    )

    def listeners(self) -> dict[type, Listener]:
        """Each rule where it can be broken."""
        return {
            EntryWrite: self._entry, IpiWait: self._ipi, UserMode: self._mode, OpEnd: self._leave, MightSleep: self._sleep
        }  # fmt: skip

    def _ipi(self, step: int, actor: int, event: IpiWait) -> None:
        if event.irqs_off and self.first():
            what = f"cpu{event.cpu} waits for acknowledgements of an IPI with interrupts disabled"
            self.report(step, actor, what, (), "ipi wait")

    def _mode(self, step: int, actor: int, event: UserMode) -> None:
        if event.mode == "user":
            self._leave(step, actor, event)

    def _leave(self, step: int, actor: int, event: UserMode | OpEnd) -> None:
        lock = self.mirror.spinlock(event.cpu)
        if lock is not None and self.first():
            what = f"cpu{event.cpu} leaves the kernel with {lock.name} held"
            self.report(step, actor, what, ((lock.step, f"{lock.name} taken"),), "spinlock held")

    def _sleep(self, step: int, actor: int, event: MightSleep) -> None:
        if (event.preempt > 0 or event.irqs_off) and self.first():
            why = "interrupts disabled" if event.irqs_off else "preemption disabled"
            lock = self.mirror.spinlock(event.cpu)
            lines = ((lock.step, f"{lock.name} taken"),) if lock is not None else ()
            self.report(step, actor, f"cpu{event.cpu} may sleep in {event.what} with {why}", lines, "sleep")

    def _entry(self, step: int, actor: int, event: EntryWrite) -> None:
        cpu, table = event.cpu, event.table
        if cpu < 0:
            return
        memory = self.mirror.memory
        if table in memory.links or event.level == Level.PGD:
            if not self.mirror.holds(cpu, table, event.mm) and not self._exempt(cpu) and self.first():
                lock = ("pte lock", "pmd lock", "page_table_lock", "page_table_lock")[event.level]
                what = f"cpu{cpu} writes {event.what} {self.mirror.at(event.mm, event.va)} without the {lock}"
                self.report(step, actor, what, tuple(self.mirror.table_life(table)), f"{event.what} unlocked")
        elif event.new and event.level == Level.PTE:
            frame = memory.frames.get(table)
            if frame is not None and frame.unlinked >= 0 and not frame.frees and self.first():
                what = f"cpu{cpu} writes the entry of {self.mirror.at(event.mm, event.va)} into a detached table ({table:#x})"
                lines = (*self.mirror.table_life(table), *self.mirror.writes(event.mm, event.va, Level.PMD))
                self.report(step, actor, what, lines, "detached table")

    def _exempt(self, cpu: int) -> bool:
        call = self.mirror.calls.get(cpu)
        return self.mirror.programs_done or (call is not None and call.call in LOCK_FREE_CALLS)
