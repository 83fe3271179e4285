"""RCU: readers, grace periods, quiescent states by preemption model, callbacks.

A grace period ends when every CPU has passed a quiescent state since it began. The grace-period actor sees those states as Linux
does: a CPU in user mode or idle is always in one; a tick in kernel mode reports one where the kernel can tell that no reader can
be under way (PREEMPT_RCU, or a preempt count that is kept); cond_resched reports one on NONE and VOLUNTARY; a context switch
does outside readers. IRQs off, preemption off and rcu_read_lock are all readers: in those the tick reports nothing.

Source: kernel/rcu/tree.c, tree_plugin.h (v6.10-6.14). Simplified: grace periods have one phase; callbacks of one CPU run in
order on an actor of their own, each as one step; quiescent states are seen at once (the scheduling of the actor is the delay);
might_sleep() is no cond_resched() under VOLUNTARY.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import Preemption
from ptactors.hardware.interrupt import in_irq, irqs_off
from ptactors.hardware.memory import free_footprint, free_frame
from ptactors.kernel.lock import might_sleep, preempt, rcu_depth, sleep_keys
from ptactors.model.event import (
    CallRcu,
    LockFree,
    RcuCallback,
    RcuGpEnd,
    RcuGpStart,
    RcuLock,
    RcuQs,
    RcuSynchronize,
    RcuUnlock,
    UserMode,
)
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import AnyOf, Footprint, Step

USER, KERNEL, IDLE = "user", "kernel", "idle"


class Gp(NamedTuple):
    """The state of grace periods."""

    completed: int = 0
    """How many have ended."""
    active: bool = False
    waiting: int = 0
    """Bit mask of the CPUs whose quiescent state the active one awaits."""
    needed: int = 0
    """The highest grace period that somebody waits for."""


class Callback(NamedTuple):
    """A queued callback: free these tables once grace period ``due`` has ended."""

    due: int
    tables: tuple[int, ...]
    locks: tuple[str, ...]
    """Locks whose destructor runs now, before the memory goes."""


family("gp", Gp(), "grace periods")
family("callbacks", (), "a CPU's queued RCU callbacks, oldest first")
family("mode", USER, "what a CPU executes: user, kernel, idle")
family("released", False, "whether callbacks may run that the scenario holds back until the programs are done")


def gp() -> Cell[Gp]:
    """The grace-period state."""
    return ("gp",)  # type: ignore[return-value]


def callbacks(cpu: int) -> Cell[tuple[Callback, ...]]:
    """The CPU's callbacks."""
    return ("callbacks", cpu)  # type: ignore[return-value]


def mode(cpu: int) -> Cell[str]:
    """What the CPU executes."""
    return ("mode", cpu)  # type: ignore[return-value]


def released() -> Cell[bool]:
    """Whether late callbacks may run."""
    return ("released",)  # type: ignore[return-value]


@attrs.frozen
class SetMode(Step[None]):
    """The CPU enters user mode, the kernel or idle."""

    cpu: int
    to: str
    labels = ("enter_user", "enter_kernel", "enter_idle")

    def name(self) -> str:
        """By direction."""
        return f"enter_{self.to}"

    def apply(self, state: State) -> None:
        """Go there."""
        state.write(mode(self.cpu), self.to)
        state.emit(UserMode(self.cpu, self.to))

    def touches(self, state: State) -> Footprint:
        """The mode."""
        return (), (mode(self.cpu),)


@attrs.frozen
class RcuReadLock(Step[None]):
    """rcu_read_lock()."""

    cpu: int
    label = "rcu_read_lock"

    def apply(self, state: State) -> None:
        """Enter."""
        depth = state.read(rcu_depth(self.cpu)) + 1
        state.write(rcu_depth(self.cpu), depth)
        state.emit(RcuLock(self.cpu, depth))

    def touches(self, state: State) -> Footprint:
        """The nesting."""
        return (rcu_depth(self.cpu),), (rcu_depth(self.cpu),)


def rcu_unlock(state: State, cpu: int) -> None:
    """The effect of rcu_read_unlock()."""
    depth = state.read(rcu_depth(cpu)) - 1
    state.write(rcu_depth(cpu), depth)
    state.emit(RcuUnlock(cpu, depth))


@attrs.frozen
class RcuReadUnlock(Step[None]):
    """rcu_read_unlock()."""

    cpu: int
    label = "rcu_read_unlock"

    def apply(self, state: State) -> None:
        """Leave."""
        rcu_unlock(state, self.cpu)

    def touches(self, state: State) -> Footprint:
        """The nesting."""
        return (rcu_depth(self.cpu),), (rcu_depth(self.cpu),)


def due_now(state: State) -> int:
    """rcu_seq_snap(): the first grace period that starts after now."""
    now = state.read(gp())
    return now.completed + (2 if now.active else 1)


def _need(state: State, due: int) -> None:
    now = state.read(gp())
    if due > now.needed:
        state.write(gp(), now._replace(needed=due))


@attrs.frozen
class CallRcuFree(Step[None]):
    """call_rcu() of a table or a batch of tables: never waits; runs after a grace period that starts from now on."""

    cpu: int
    tables: tuple[int, ...]
    locks: tuple[str, ...]
    label = "call_rcu"

    def apply(self, state: State) -> None:
        """Queue it."""
        due = due_now(state)
        state.write(callbacks(self.cpu), (*state.read(callbacks(self.cpu)), Callback(due, self.tables, self.locks)))
        _need(state, due)
        state.emit(CallRcu(self.cpu, f"free {len(self.tables)} page{'s' * (len(self.tables) > 1)}", due))

    def touches(self, state: State) -> Footprint:
        """The queue and what is needed of grace periods."""
        keys = (callbacks(self.cpu), gp())
        return keys, keys


@attrs.frozen
class RequestGp(Step[int]):
    """The first half of synchronize_rcu(): note which grace period must end."""

    cpu: int
    label = "synchronize_rcu"

    def apply(self, state: State) -> int:
        """Note it."""
        might_sleep(state, self.cpu, "synchronize_rcu")
        due = due_now(state)
        _need(state, due)
        state.emit(RcuSynchronize(self.cpu, due))
        return due

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(), *sleep_keys(self.cpu)), (gp(),)


@attrs.frozen
class AwaitGp(Step[None]):
    """The second half: asleep (so in a quiescent state) until that grace period has ended."""

    cpu: int
    due: int
    label = "synchronize_rcu_done"
    blocking = True

    def ready(self, state: State) -> bool:
        """It has ended."""
        return state.read(gp()).completed >= self.due

    def waits(self) -> tuple[Key, ...]:
        """The grace periods."""
        return (gp(),)

    def apply(self, state: State) -> None:
        """Wake up."""

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(),), ()


async def synchronize_rcu(cpu: int) -> None:
    """Sleep for a grace period; the sleeping CPU idles, which is a quiescent state."""
    due = await RequestGp(cpu)
    await SetMode(cpu, IDLE)
    await AwaitGp(cpu, due)
    await SetMode(cpu, KERNEL)


@attrs.frozen
class CondResched(Step[None]):
    """cond_resched(): on NONE and VOLUNTARY a quiescent state if a grace period waits for this CPU."""

    cpu: int
    label = "cond_resched"

    def apply(self, state: State) -> None:
        """Report it."""
        might_sleep(state, self.cpu, "cond_resched")
        now = state.read(gp())
        here = 1 << self.cpu
        model = state.config.machine.preemption
        if now.waiting & here and model in (Preemption.NONE, Preemption.VOLUNTARY):
            state.write(gp(), now._replace(waiting=now.waiting & ~here))
            state.emit(RcuQs(self.cpu, "cond_resched"))

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(), *sleep_keys(self.cpu)), (gp(),)


@attrs.frozen
class ContextSwitch(Step[None]):
    """schedule(): a quiescent state, unless PREEMPT_RCU has the task preempted inside a reader."""

    cpu: int
    label = "context_switch"

    def apply(self, state: State) -> None:
        """Report it."""
        now = state.read(gp())
        here = 1 << self.cpu
        if now.waiting & here and not state.read(rcu_depth(self.cpu)):
            state.write(gp(), now._replace(waiting=now.waiting & ~here))
            state.emit(RcuQs(self.cpu, "context switch"))

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(), rcu_depth(self.cpu)), (gp(),)


@attrs.frozen
class GpStart(Step[None]):
    """rcu_gp_init(): a grace period begins when somebody needs one."""

    cpus: int
    label = "rcu_gp_start"
    blocking = True

    def ready(self, state: State) -> bool:
        """Somebody waits for one that has not begun."""
        now = state.read(gp())
        return not now.active and now.needed > now.completed

    def waits(self) -> tuple[Key, ...]:
        """The grace periods."""
        return (gp(),)

    def apply(self, state: State) -> None:
        """Begin: every CPU owes a quiescent state that comes after this."""
        now = state.read(gp())
        state.write(gp(), now._replace(active=True, waiting=(1 << self.cpus) - 1))
        state.emit(RcuGpStart(-1, now.completed + 1, tuple(range(self.cpus))))

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(),), (gp(),)


@attrs.frozen
class QuiescentState(Step[None]):
    """The grace-period thread learns that a CPU is in a quiescent state: by a tick there, or by its context-tracking counter."""

    cpu: int
    label = "rcu_quiescent_state"
    blocking = True

    def ready(self, state: State) -> bool:
        """The CPU owes one and is in one."""
        cpu = self.cpu
        if not state.read(gp()).waiting >> cpu & 1 or state.read(in_irq(cpu)):
            return False
        if state.read(mode(cpu)) == USER:
            return True
        if state.read(mode(cpu)) == IDLE:  # asleep; under PREEMPT_RCU inside a reader it would be queued as a blocked one
            return not state.read(rcu_depth(cpu)) or state.config.machine.preemption is not Preemption.FULL
        if state.config.machine.preemption in (Preemption.NONE, Preemption.VOLUNTARY):
            return False  # no PREEMPT_COUNT: a tick in the kernel cannot tell a reader from other code
        return not (state.read(rcu_depth(cpu)) or state.read(preempt(cpu)) or state.read(irqs_off(cpu)))

    def waits(self) -> tuple[Key, ...]:
        """All that decides it."""
        cpu = self.cpu
        return (gp(), in_irq(cpu), mode(cpu), rcu_depth(cpu), preempt(cpu), irqs_off(cpu))

    def apply(self, state: State) -> None:
        """Tick it off."""
        now = state.read(gp())
        state.write(gp(), now._replace(waiting=now.waiting & ~(1 << self.cpu)))
        state.emit(RcuQs(self.cpu, state.read(mode(self.cpu))))

    def touches(self, state: State) -> Footprint:
        """The grace periods and the CPU's context."""
        return self.waits(), (gp(),)


@attrs.frozen
class GpEnd(Step[None]):
    """rcu_gp_cleanup(): the last quiescent state is in."""

    label = "rcu_gp_end"
    blocking = True

    def ready(self, state: State) -> bool:
        """Nobody owes anything."""
        now = state.read(gp())
        return now.active and not now.waiting

    def waits(self) -> tuple[Key, ...]:
        """The grace periods."""
        return (gp(),)

    def apply(self, state: State) -> None:
        """End it."""
        now = state.read(gp())
        state.write(gp(), now._replace(completed=now.completed + 1, active=False))
        state.emit(RcuGpEnd(-1, now.completed + 1))

    def touches(self, state: State) -> Footprint:
        """The grace periods."""
        return (gp(),), (gp(),)


@attrs.frozen
class InvokeCallback(Step[None]):
    """rcu_do_batch(): run the oldest ripe callback of this CPU: destructors, then the memory of the tables goes back."""

    cpu: int
    late: bool
    label = "rcu_callback"
    blocking = True

    def ready(self, state: State) -> bool:
        """Its grace period has ended."""
        queue = state.read(callbacks(self.cpu))
        return bool(queue) and queue[0].due <= state.read(gp()).completed and (not self.late or state.read(released()))

    def waits(self) -> tuple[Key, ...]:
        """The queue and the grace periods."""
        return (callbacks(self.cpu), gp(), released())

    def apply(self, state: State) -> None:
        """Run it."""
        first, *rest = state.read(callbacks(self.cpu))
        state.write(callbacks(self.cpu), tuple(rest))
        state.emit(RcuCallback(self.cpu, f"free {len(first.tables)} page{'s' * (len(first.tables) > 1)}", first.due))
        for lock in first.locks:
            state.emit(LockFree(self.cpu, lock))
        for table in first.tables:
            free_frame(state, self.cpu, table)

    def touches(self, state: State) -> Footprint:
        """The queue and the tables."""
        queue = state.read(callbacks(self.cpu))
        reads, writes = free_footprint(state, self.cpu, queue[0].tables if queue else ())
        return (*self.waits(), *reads), (callbacks(self.cpu), *writes)


async def grace_periods(cpus: int) -> None:
    """The life of the grace-period thread."""
    start = GpStart(cpus)
    collect = AnyOf(GpEnd(), *(QuiescentState(cpu) for cpu in range(cpus)))
    while True:
        await start
        while (await collect)[0] != 0:
            pass


async def callback_thread(cpu: int, late: bool) -> None:
    """The life of a CPU's callback processing; ``late``: nothing runs before the programs are done."""
    while True:
        await InvokeCallback(cpu, late)
