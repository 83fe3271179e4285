"""Spinlocks of page tables.

A spinlock is named by its class and object: ``("pte", table)``, ``("pmd", table)``, ``("page_table", mm)``. Without split page
table locks all three are the last one. The holder of a spinlock cannot be preempted (and so is an RCU reader) but takes
interrupts, also while it spins.

Source: include/linux/mm.h (pte_lockptr, pmd_lockptr). Simplified: no queue, so any waiter may be next.
"""

from __future__ import annotations

import attrs

from ptactors.config import Config
from ptactors.hardware.interrupt import irqs_off
from ptactors.model.event import LockAcquire, LockFail, LockRelease, MightSleep
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step

Lock = tuple[str, int | str]
"""(class, object): pte, pmd or page_table, and the table's frame or the mm."""

FREE = -1


family("lock", FREE, "which CPU holds a spinlock; -1 for none")
family("preempt", 0, "a CPU's preempt_count from spinlocks and preempt_disable")
family("rcu_depth", 0, "a CPU's nesting of rcu_read_lock")


def lock_cell(lock: Lock) -> Cell[int]:
    """Who holds this spinlock."""
    return ("lock", *lock)  # type: ignore[return-value]


def preempt(cpu: int) -> Cell[int]:
    """The CPU's preempt count."""
    return ("preempt", cpu)  # type: ignore[return-value]


def rcu_depth(cpu: int) -> Cell[int]:
    """The CPU's RCU nesting."""
    return ("rcu_depth", cpu)  # type: ignore[return-value]


def pte_lockptr(config: Config, mm: str, table: int) -> Lock:
    """The lock of a PTE page."""
    return ("pte", table) if config.kernel.split_ptlocks else ("page_table", mm)


def pmd_lockptr(config: Config, mm: str, table: int) -> Lock:
    """The lock of the entries of a PMD page: one for all its 512."""
    return ("pmd", table) if config.kernel.split_ptlocks else ("page_table", mm)


def lock_name(lock: Lock) -> str:
    """How events call it."""
    return f"{lock[0]}:{lock[1]:#x}" if isinstance(lock[1], int) else f"{lock[0]}:{lock[1]}"


@attrs.frozen
class SpinLock(Step[None]):
    """spin_lock(), or spin_lock_nested() where a lock of the same class is held."""

    cpu: int
    lock: Lock
    nested: bool = False
    blocking = True
    labels = ("lock_pte", "lock_pmd", "lock_page_table")

    def name(self) -> str:
        """By class: lock_pte, lock_pmd, lock_page_table."""
        return f"lock_{self.lock[0]}"

    def ready(self, state: State) -> bool:
        """Nobody holds it."""
        return state.read(lock_cell(self.lock)) == FREE

    def waits(self) -> tuple[Key, ...]:
        """The lock."""
        return (lock_cell(self.lock),)

    def apply(self, state: State) -> None:
        """Take it."""
        state.write(lock_cell(self.lock), self.cpu)
        state.write(preempt(self.cpu), state.read(preempt(self.cpu)) + 1)
        state.emit(LockAcquire(self.cpu, lock_name(self.lock), self.lock[0], "nested" if self.nested else "spin"))

    def touches(self, state: State) -> Footprint:
        """The lock and the preempt count."""
        keys = (lock_cell(self.lock), preempt(self.cpu))
        return keys, keys


@attrs.frozen
class SpinTryLock(Step[bool]):
    """spin_trylock()."""

    cpu: int
    lock: Lock
    labels = ("trylock_pte", "trylock_pmd", "trylock_page_table")

    def name(self) -> str:
        """By class."""
        return f"trylock_{self.lock[0]}"

    def apply(self, state: State) -> bool:
        """Take it if it is free."""
        if state.read(lock_cell(self.lock)) != FREE:
            state.emit(LockFail(self.cpu, lock_name(self.lock), self.lock[0]))
            return False
        state.write(lock_cell(self.lock), self.cpu)
        state.write(preempt(self.cpu), state.read(preempt(self.cpu)) + 1)
        state.emit(LockAcquire(self.cpu, lock_name(self.lock), self.lock[0], "try"))
        return True

    def touches(self, state: State) -> Footprint:
        """The lock and the preempt count."""
        keys = (lock_cell(self.lock), preempt(self.cpu))
        return keys, keys


@attrs.frozen
class SpinUnlock(Step[None]):
    """spin_unlock()."""

    cpu: int
    lock: Lock
    labels = ("unlock_pte", "unlock_pmd", "unlock_page_table")

    def name(self) -> str:
        """By class."""
        return f"unlock_{self.lock[0]}"

    def apply(self, state: State) -> None:
        """Drop it."""
        state.write(lock_cell(self.lock), FREE)
        state.write(preempt(self.cpu), state.read(preempt(self.cpu)) - 1)
        state.emit(LockRelease(self.cpu, lock_name(self.lock), self.lock[0], "spin"))

    def touches(self, state: State) -> Footprint:
        """The lock and the preempt count."""
        keys = (lock_cell(self.lock), preempt(self.cpu))
        return (preempt(self.cpu),), keys


def might_sleep(state: State, cpu: int, what: str) -> None:
    """Record the context in which the CPU may sleep, as might_sleep() checks it."""
    state.emit(MightSleep(cpu, what, state.read(preempt(cpu)), state.read(irqs_off(cpu)), state.read(rcu_depth(cpu))))


def sleep_keys(cpu: int) -> tuple[Key, ...]:
    """What :func:`might_sleep` reads."""
    return (preempt(cpu), irqs_off(cpu), rcu_depth(cpu))
