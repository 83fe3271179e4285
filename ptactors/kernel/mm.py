"""An mm and its VMAs: what faults and system calls look up, and the counters that must come out even.

Source: include/linux/mm_types.h, mm/vma.c, mm/memory.c (lock_vma_under_rcu), v6.10-6.14.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import Config, Thp
from ptactors.hardware.cpu import Cpu
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndRead, VmaStartRead, take_mmap_lock
from ptactors.kernel.rcu import RcuReadLock, RcuReadUnlock
from ptactors.model.event import PgtablesBytes, Rss
from ptactors.model.paging import PMD_SIZE, align_down
from ptactors.model.state import Cell, State, family
from ptactors.model.step import Footprint, Step


class Vma(NamedTuple):
    """One VMA."""

    name: str
    """Unique in the run; pieces of a split one are called ``A.1``."""
    start: int
    end: int
    kind: str
    """anon, anon-shared, file-private, file-shared, memfd or hugetlb."""
    write: bool
    huge: str
    """none, hugepage (VM_HUGEPAGE) or nohugepage (VM_NOHUGEPAGE)."""
    uffd_wp: bool
    locked: bool

    @property
    def anon(self) -> bool:
        """vma_is_anonymous(): no file behind it."""
        return self.kind == "anon"


family("vmas", (), "an mm's VMAs, ascending")
family("users", 0, "threads that still use an mm (mm_users)")
family("rss", 0, "an mm's count of pages of one kind")
family("pgtables", 0, "an mm's pgtables_bytes")
family("anon_vma", False, "whether a VMA is prepared for anonymous pages")


def vmas(mm: str) -> Cell[tuple[Vma, ...]]:
    """The mm's VMAs."""
    return ("vmas", mm)  # type: ignore[return-value]


def users(mm: str) -> Cell[int]:
    """The mm's users."""
    return ("users", mm)  # type: ignore[return-value]


def rss(mm: str, kind: str) -> Cell[int]:
    """The mm's pages of this kind."""
    return ("rss", mm, kind)  # type: ignore[return-value]


def pgtables(mm: str) -> Cell[int]:
    """The mm's bytes of page tables."""
    return ("pgtables", mm)  # type: ignore[return-value]


def anon_vma(vma: str) -> Cell[bool]:
    """Whether the VMA has its anon_vma."""
    return ("anon_vma", vma)  # type: ignore[return-value]


def add_pgtables(state: State, cpu: int, mm: str, delta: int) -> None:
    """mm_inc_nr_ptes() and its kin; part of the effect of steps."""
    value = state.read(pgtables(mm)) + delta
    state.write(pgtables(mm), value)
    state.emit(PgtablesBytes(cpu, mm, delta, value))


def add_rss(state: State, cpu: int, mm: str, kind: str, delta: int) -> None:
    """add_mm_counter(); part of the effect of steps."""
    value = state.read(rss(mm, kind)) + delta
    state.write(rss(mm, kind), value)
    state.emit(Rss(cpu, mm, kind, delta, value))


@attrs.frozen
class AddRss(Step[None]):
    """add_mm_rss_vec(): publish a vector of changes."""

    cpu: int
    mm: str
    deltas: tuple[tuple[str, int], ...]
    label = "rss_stat"

    def apply(self, state: State) -> None:
        """Add them."""
        for kind, delta in self.deltas:
            add_rss(state, self.cpu, self.mm, kind, delta)

    def touches(self, state: State) -> Footprint:
        """The counters."""
        keys = tuple(rss(self.mm, kind) for kind, _ in self.deltas)
        return keys, keys


@attrs.frozen
class AddPgtables(Step[None]):
    """mm_dec_nr_ptes(), mm_dec_nr_pmds(), mm_dec_nr_puds()."""

    cpu: int
    mm: str
    delta: int
    label = "pgtables_bytes"

    def apply(self, state: State) -> None:
        """Add."""
        add_pgtables(state, self.cpu, self.mm, self.delta)

    def touches(self, state: State) -> Footprint:
        """The counter."""
        return (pgtables(self.mm),), (pgtables(self.mm),)


@attrs.frozen
class FindVma(Step[Vma | None]):
    """Look up the VMA that holds ``va`` (vma_lookup, mas_walk)."""

    mm: str
    va: int
    label = "vma_lookup"

    def apply(self, state: State) -> Vma | None:
        """Find it."""
        for vma in state.read(vmas(self.mm)):
            if vma.start <= self.va < vma.end:
                return vma
        return None

    def touches(self, state: State) -> Footprint:
        """The tree."""
        return (vmas(self.mm),), ()


@attrs.frozen
class VmasOf(Step[tuple[Vma, ...]]):
    """Every VMA that meets [start, end), and their neighbours' places: what a range operation iterates over."""

    mm: str
    start: int
    end: int
    label = "vma_iterate"

    def apply(self, state: State) -> tuple[Vma, ...]:
        """Find them."""
        return tuple(v for v in state.read(vmas(self.mm)) if v.start < self.end and self.start < v.end)

    def touches(self, state: State) -> Footprint:
        """The tree."""
        return (vmas(self.mm),), ()


@attrs.frozen
class SetVmas(Step[None]):
    """Store a changed VMA tree (vma_iter_store), for which mmap_lock is held for writing."""

    mm: str
    now: tuple[Vma, ...]
    label = "vma_store"

    def apply(self, state: State) -> None:
        """Store it."""
        state.write(vmas(self.mm), self.now)

    def touches(self, state: State) -> Footprint:
        """The tree."""
        return (), (vmas(self.mm),)


@attrs.frozen
class HasAnonVma(Step[bool]):
    """Read vma->anon_vma."""

    vma: str
    label = "anon_vma_read"

    def apply(self, state: State) -> bool:
        """Read it."""
        return state.read(anon_vma(self.vma))

    def touches(self, state: State) -> Footprint:
        """The pointer."""
        return (anon_vma(self.vma),), ()


@attrs.frozen
class PrepareAnonVma(Step[None]):
    """__anon_vma_prepare()."""

    vma: str
    label = "anon_vma_prepare"

    def apply(self, state: State) -> None:
        """Set it."""
        state.write(anon_vma(self.vma), True)

    def touches(self, state: State) -> Footprint:
        """The pointer."""
        return (), (anon_vma(self.vma),)


async def lock_vma_under_rcu(cpu: Cpu, va: int) -> Vma | None:
    """Find and read-lock the VMA without mmap_lock; None: use mmap_lock instead. Source: mm/memory.c, v6.4-6.14."""
    await RcuReadLock(cpu.id)
    vma = await FindVma(cpu.mm, va)
    if vma is not None and not await VmaStartRead(cpu.id, cpu.mm, vma.name):
        vma = None
    await RcuReadUnlock(cpu.id)
    if vma is not None and await FindVma(cpu.mm, va) != vma:
        # The VMA changed under us before we had its lock.
        await VmaEndRead(cpu.id, vma.name)
        return None
    return vma


async def lock_mm_and_find_vma(cpu: Cpu, va: int) -> Vma | None:
    """The fallback: mmap_lock for reading; None, with the lock dropped, if nothing is mapped there."""
    await take_mmap_lock(cpu.id, cpu.mm, False)
    vma = await FindVma(cpu.mm, va)
    if vma is None:
        await MmapUnlock(cpu.id, cpu.mm, False)
    return vma


def thp_allowed(config: Config, vma: Vma, va: int) -> bool:
    """thp_vma_allowable_order() and thp_vma_suitable_order() for an anonymous fault at ``va``."""
    if not vma.anon or vma.huge == "nohugepage" or config.machine.thp is Thp.NEVER:
        return False
    if config.machine.thp is Thp.MADVISE and vma.huge != "hugepage":
        return False
    start = align_down(va, PMD_SIZE)
    return vma.start <= start and start + PMD_SIZE <= vma.end
