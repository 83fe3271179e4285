"""Locks: spinlocks of tables, mmap_lock, per-VMA locks.

A spinlock is named by its class and object: ``("pte", table)``, ``("pmd", table)``, ``("page_table", mm)``. Without split page
table locks all three are the last one. The holder of a spinlock cannot be preempted (and so is an RCU reader) but takes
interrupts, also while it spins.

Source: include/linux/mm.h (pte_lockptr, pmd_lockptr), include/linux/mmap_lock.h, mm/init-mm.c; per-VMA locks as up to v6.14: a
sequence number and an rwsem that readers only try. Simplified: mmap_lock has no queue, so a reader may always overtake waiting
writers (Linux lets it until a hand-off is set); trylocks do not fail spuriously.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import Config
from ptactors.hardware.interrupt import irqs_off
from ptactors.model.event import LockAcquire, LockFail, LockRelease, MightSleep
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step

Lock = tuple[str, int | str]
"""(class, object): pte, pmd or page_table, and the table's frame or the mm."""

FREE = -1


class Rwsem(NamedTuple):
    """Who holds a reader-writer semaphore."""

    writer: int = FREE
    readers: tuple[int, ...] = ()


class VmaLock(NamedTuple):
    """The lock of one VMA."""

    seq: int = 0
    """mm_lock_seq when it was last write-locked; equal to the mm's now: write-locked."""
    writer: int = FREE
    readers: tuple[int, ...] = ()


family("lock", FREE, "which CPU holds a spinlock; -1 for none")
family("mmap_lock", Rwsem(), "who holds an mm's mmap_lock")
family("mm_lock_seq", 1, "sequence that write-locks VMAs; moved on by unlocking mmap_lock")
family("vma_lock", VmaLock(), "state of a VMA's own lock")
family("preempt", 0, "a CPU's preempt_count from spinlocks and preempt_disable")
family("rcu_depth", 0, "a CPU's nesting of rcu_read_lock")


def lock_cell(lock: Lock) -> Cell[int]:
    """Who holds this spinlock."""
    return ("lock", *lock)  # type: ignore[return-value]


def mmap_lock(mm: str) -> Cell[Rwsem]:
    """The mm's mmap_lock."""
    return ("mmap_lock", mm)  # type: ignore[return-value]


def mm_lock_seq(mm: str) -> Cell[int]:
    """The mm's sequence for VMA write locks."""
    return ("mm_lock_seq", mm)  # type: ignore[return-value]


def vma_lock(vma: str) -> Cell[VmaLock]:
    """The VMA's lock."""
    return ("vma_lock", vma)  # type: ignore[return-value]


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


@attrs.frozen
class MmapLock(Step[None]):
    """mmap_read_lock() or mmap_write_lock(). Taking it for writing moves the sequence on first (mm_lock_seqcount_begin)."""

    cpu: int
    mm: str
    write: bool
    blocking = True

    def name(self) -> str:
        """By mode."""
        return "mmap_write_lock" if self.write else "mmap_read_lock"

    def ready(self, state: State) -> bool:
        """No writer; for a writer no reader either."""
        held = state.read(mmap_lock(self.mm))
        return held.writer == FREE and not (self.write and held.readers)

    def waits(self) -> tuple[Key, ...]:
        """The semaphore."""
        return (mmap_lock(self.mm),)

    def apply(self, state: State) -> None:
        """Take it."""
        might_sleep(state, self.cpu, "mmap_lock")
        held = state.read(mmap_lock(self.mm))
        now = Rwsem(self.cpu) if self.write else held._replace(readers=(*held.readers, self.cpu))
        state.write(mmap_lock(self.mm), now)
        state.emit(LockAcquire(self.cpu, f"mmap:{self.mm}", "mmap", "write" if self.write else "read"))

    def touches(self, state: State) -> Footprint:
        """The semaphore."""
        return (mmap_lock(self.mm), *sleep_keys(self.cpu)), (mmap_lock(self.mm),)


@attrs.frozen
class MmapReadTryLock(Step[bool]):
    """mmap_read_trylock()."""

    cpu: int
    mm: str
    label = "mmap_read_trylock"

    def apply(self, state: State) -> bool:
        """Take it unless a writer holds it."""
        held = state.read(mmap_lock(self.mm))
        if held.writer != FREE:
            state.emit(LockFail(self.cpu, f"mmap:{self.mm}", "mmap"))
            return False
        state.write(mmap_lock(self.mm), held._replace(readers=(*held.readers, self.cpu)))
        state.emit(LockAcquire(self.cpu, f"mmap:{self.mm}", "mmap", "try"))
        return True

    def touches(self, state: State) -> Footprint:
        """The semaphore."""
        return (mmap_lock(self.mm),), (mmap_lock(self.mm),)


@attrs.frozen
class MmapUnlock(Step[None]):
    """mmap_read_unlock(), or up_write() of mmap_write_unlock()."""

    cpu: int
    mm: str
    write: bool

    def name(self) -> str:
        """By mode."""
        return "mmap_write_unlock" if self.write else "mmap_read_unlock"

    def apply(self, state: State) -> None:
        """Drop it."""
        held = state.read(mmap_lock(self.mm))
        readers = list(held.readers)
        if not self.write:
            readers.remove(self.cpu)
        state.write(mmap_lock(self.mm), Rwsem(readers=tuple(readers)))
        state.emit(LockRelease(self.cpu, f"mmap:{self.mm}", "mmap", "write" if self.write else "read"))

    def touches(self, state: State) -> Footprint:
        """The semaphore."""
        return (mmap_lock(self.mm),), (mmap_lock(self.mm),)


@attrs.frozen
class VmaEndWriteAll(Step[None]):
    """vma_end_write_all(): the sequence moves on, which unlocks every write-locked VMA at once; mmap_lock is still held."""

    cpu: int
    mm: str
    label = "vma_end_write_all"

    def apply(self, state: State) -> None:
        """Move it on."""
        state.write(mm_lock_seq(self.mm), state.read(mm_lock_seq(self.mm)) + 1)

    def touches(self, state: State) -> Footprint:
        """The sequence."""
        return (mm_lock_seq(self.mm),), (mm_lock_seq(self.mm),)


@attrs.frozen
class MmapDowngrade(Step[None]):
    """downgrade_write(): from write to read without a gap."""

    cpu: int
    mm: str
    label = "mmap_downgrade"

    def apply(self, state: State) -> None:
        """Let readers in."""
        state.write(mmap_lock(self.mm), Rwsem(readers=(self.cpu,)))
        state.emit(LockRelease(self.cpu, f"mmap:{self.mm}", "mmap", "write"))
        state.emit(LockAcquire(self.cpu, f"mmap:{self.mm}", "mmap", "try"))

    def touches(self, state: State) -> Footprint:
        """The semaphore."""
        return (), (mmap_lock(self.mm),)


@attrs.frozen
class VmaStartRead(Step[bool]):
    """vma_start_read(): early compare of sequences, then the trylock of the VMA's rwsem, and the compare again.

    Simplified: the two compares and the trylock are one step; what could change between them makes it fail either way.
    """

    cpu: int
    mm: str
    vma: str
    label = "vma_start_read"

    def apply(self, state: State) -> bool:
        """Raise the readers, or fail."""
        held = state.read(vma_lock(self.vma))
        if held.seq == state.read(mm_lock_seq(self.mm)) or held.writer != FREE:
            state.emit(LockFail(self.cpu, f"vma:{self.vma}", "vma"))
            return False
        state.write(vma_lock(self.vma), held._replace(readers=(*held.readers, self.cpu)))
        state.emit(LockAcquire(self.cpu, f"vma:{self.vma}", "vma", "try"))
        return True

    def touches(self, state: State) -> Footprint:
        """The lock and the sequence."""
        return (vma_lock(self.vma), mm_lock_seq(self.mm)), (vma_lock(self.vma),)


@attrs.frozen
class VmaEndRead(Step[None]):
    """vma_end_read()."""

    cpu: int
    vma: str
    label = "vma_end_read"

    def apply(self, state: State) -> None:
        """Lower the readers."""
        held = state.read(vma_lock(self.vma))
        readers = list(held.readers)
        readers.remove(self.cpu)
        state.write(vma_lock(self.vma), held._replace(readers=tuple(readers)))
        state.emit(LockRelease(self.cpu, f"vma:{self.vma}", "vma", "read"))

    def touches(self, state: State) -> Footprint:
        """The lock."""
        return (vma_lock(self.vma),), (vma_lock(self.vma),)


@attrs.frozen
class VmaStartWrite(Step[None]):
    """vma_start_write() up to v6.14: down_write of the VMA's rwsem (waits for readers), stamp the sequence, up_write."""

    cpu: int
    mm: str
    vma: str
    label = "vma_start_write"
    blocking = True

    def ready(self, state: State) -> bool:
        """No reader is inside."""
        return not state.read(vma_lock(self.vma)).readers

    def waits(self) -> tuple[Key, ...]:
        """The lock."""
        return (vma_lock(self.vma),)

    def apply(self, state: State) -> None:
        """Stamp it: from here on only the equality of sequences keeps readers out."""
        might_sleep(state, self.cpu, "vma_start_write")
        state.write(vma_lock(self.vma), VmaLock(seq=state.read(mm_lock_seq(self.mm))))

    def touches(self, state: State) -> Footprint:
        """The lock and the sequence."""
        return (mm_lock_seq(self.mm), vma_lock(self.vma), *sleep_keys(self.cpu)), (vma_lock(self.vma),)
