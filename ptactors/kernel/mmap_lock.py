"""Locks that sleep: mmap_lock and the per-VMA locks.

Who cannot have one at once is switched out, and so passes a quiescent state of RCU.

Source: include/linux/mmap_lock.h, kernel/locking/rwsem.c; per-VMA locks as up to v6.14: a sequence number and an rwsem that
readers only try. Simplified: mmap_lock has no queue, so a reader may always overtake waiting writers (Linux lets it until a
hand-off is set), and of a VMA's lock too; trylocks do not fail spuriously; the CPU of a sleeping thread keeps the mm loaded and
is not lazy; the sequence moves on when mmap_lock is dropped and not also when it is taken. From v6.15 on a count of references
stands for the rwsem, with the same outcome: readers fail while a writer holds the VMA, a writer waits for the readers inside.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.kernel.lock import FREE, might_sleep, sleep_keys
from ptactors.kernel.rcu import IDLE, KERNEL, SetMode
from ptactors.model.event import LockAcquire, LockFail, LockRelease
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step


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


family("mmap_lock", Rwsem(), "who holds an mm's mmap_lock")
family("mm_lock_seq", 1, "sequence that write-locks VMAs; moved on by unlocking mmap_lock")
family("vma_lock", VmaLock(), "state of a VMA's own lock")


def mmap_lock(mm: str) -> Cell[Rwsem]:
    """The mm's mmap_lock."""
    return ("mmap_lock", mm)  # type: ignore[return-value]


def mm_lock_seq(mm: str) -> Cell[int]:
    """The mm's sequence for VMA write locks."""
    return ("mm_lock_seq", mm)  # type: ignore[return-value]


def vma_lock(vma: str) -> Cell[VmaLock]:
    """The VMA's lock."""
    return ("vma_lock", vma)  # type: ignore[return-value]


@attrs.frozen
class MmapLock(Step[None]):
    """The slow path of mmap_read_lock() and mmap_write_lock(): what a sleeper wakes up with."""

    cpu: int
    mm: str
    write: bool
    blocking = True
    labels = ("mmap_read_lock", "mmap_write_lock")

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
class MmapTryLock(Step[bool]):
    """mmap_read_trylock(), mmap_write_trylock() (gone by v6.12), and with ``may_sleep`` the fast path of the locks that sleep."""

    cpu: int
    mm: str
    write: bool
    may_sleep: bool
    labels = ("mmap_read_trylock", "mmap_write_trylock", "mmap_read_lock", "mmap_write_lock")

    def name(self) -> str:
        """By mode."""
        return f"mmap_{'write' if self.write else 'read'}_{'lock' if self.may_sleep else 'trylock'}"

    def apply(self, state: State) -> bool:
        """Take it if that can be done at once."""
        if self.may_sleep:
            might_sleep(state, self.cpu, "mmap_lock")
        held = state.read(mmap_lock(self.mm))
        if held.writer != FREE or (self.write and held.readers):
            if not self.may_sleep:
                state.emit(LockFail(self.cpu, f"mmap:{self.mm}", "mmap"))
            return False
        now = Rwsem(self.cpu) if self.write else held._replace(readers=(*held.readers, self.cpu))
        state.write(mmap_lock(self.mm), now)
        state.emit(LockAcquire(self.cpu, f"mmap:{self.mm}", "mmap", self._mode()))
        return True

    def _mode(self) -> str:
        if not self.may_sleep:
            return "try"
        return "write" if self.write else "read"

    def touches(self, state: State) -> Footprint:
        """The semaphore."""
        return (mmap_lock(self.mm), *sleep_keys(self.cpu)), (mmap_lock(self.mm),)


@attrs.frozen
class MmapUnlock(Step[None]):
    """mmap_read_unlock(), or up_write() of mmap_write_unlock()."""

    cpu: int
    mm: str
    write: bool
    labels = ("mmap_read_unlock", "mmap_write_unlock")

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


@attrs.frozen
class VmaHasReaders(Step[bool]):
    """Whether down_write() of the VMA's rwsem would have to sleep."""

    vma: str
    label = "vma_readers"

    def apply(self, state: State) -> bool:
        """Look."""
        return bool(state.read(vma_lock(self.vma)).readers)

    def touches(self, state: State) -> Footprint:
        """The lock."""
        return (vma_lock(self.vma),), ()


async def take_mmap_lock(cpu: int, mm: str, write: bool) -> None:
    """mmap_read_lock() or mmap_write_lock(): at once, or asleep until it is free."""
    if not await MmapTryLock(cpu, mm, write, True):
        await SetMode(cpu, IDLE)
        await MmapLock(cpu, mm, write)
        await SetMode(cpu, KERNEL)


async def vma_start_write(cpu: int, mm: str, vma: str) -> None:
    """vma_start_write(): sleep until the readers are out, then stamp the VMA."""
    sleeps = await VmaHasReaders(vma)
    if sleeps:
        await SetMode(cpu, IDLE)
    await VmaStartWrite(cpu, mm, vma)
    if sleeps:
        await SetMode(cpu, KERNEL)
