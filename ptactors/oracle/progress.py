"""Oracles of progress: the engine says when a run is stuck; these give it its name."""

from __future__ import annotations

from typing import ClassVar

from ptactors.model.event import Stuck
from ptactors.oracle.base import History, Oracle, Rule


class _NoProgress(Oracle):
    """Base: a :class:`Stuck` event of one kind."""

    kinds = (Stuck,)
    kind: ClassVar[str]

    def see(self, step: int, actor: int, event: Stuck) -> None:
        """The run is stuck."""
        if event.kind == self.kind and self.first():
            self.report(step, actor, f"{self.kind}: {event.why}", self._held(), self.kind)

    def _held(self) -> History:
        return tuple(
            (lock.step, f"{lock.name} taken by cpu{cpu} ({lock.mode}) and still held")
            for cpu, locks in self.mirror.locks.items()
            for lock in locks
        )


class Deadlock(_NoProgress):
    """Actors wait for one another in a circle.

    Locks taken in opposite orders, or an IPI sent to a CPU that waits with interrupts disabled.
    """

    name = "deadlock"
    kind = "deadlock"
    source = "Documentation/mm/process_addrs.rst, lock ordering; kernel/smp.c"
    rule = Rule(
        meaning="Some CPUs wait for each other and none can ever go on.",
        kernel="pmd lock before pte lock everywhere; smp_call_function_many_cond() with interrupts enabled.",
        avoided="try_get_and_clear_pmd() takes the pmd lock under the pte lock by spin_trylock() only.",
        knob="reclaim_trylock=false, at once together with split_ptlocks=false",
        scenario="nonempty-table",
    )


class Livelock(_NoProgress):
    """The run goes in circles: everybody moves and no operation ends (a retry loop that never succeeds)."""

    name = "livelock"
    kind = "livelock"
    source = "mm/pgtable-generic.c, the retry of pte_offset_map_lock(); mm/memory.c, VM_FAULT_RETRY"
    rule = Rule(
        meaning="Code tries the same thing again and again for ever, because what it waits for never comes to pass.",
        kernel="pte_offset_map_lock() starts over when the pmd changed; zap_pmd_range() visits a pmd again when nothing"
        " was mapped.",
        avoided="Each retry needs that somebody else made progress meanwhile.",
        knob="map_lock_recheck and install_recheck decide who retries; no knob alone brings it about",
        scenario="case2-two-pte-pages",
    )


class Stall(_NoProgress):
    """Nothing can move, and no circle of waiters explains it: a grace period or an interrupt that never comes."""

    name = "stall"
    kind = "stall"
    source = "Documentation/RCU/stallwarn.rst"
    rule = Rule(
        meaning="Something that was promised never comes, such as the end of an RCU grace period, and everything waits for it.",
        kernel="synchronize_rcu() and call_rcu() wait for every CPU's quiescent state: user mode, idle, a context switch, by"
        " preemption model cond_resched() or the tick.",
        avoided="No RCU read section stays open, no CPU waits for a grace period inside one.",
        knob="table_free=synchronize-rcu; preemption",
        scenario="single-table-vs-rcu-walker",
    )
