"""An mm and its VMAs: what faults and system calls look up, and the counters that must come out even.

Source: include/linux/mm_types.h, mm/vma.c, mm/memory.c (lock_vma_under_rcu; in mm/mmap_lock.c by v6.17), v6.10-6.14.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import Config, Thp
from ptactors.hardware.cpu import Cpu
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndRead, VmaStartRead, take_mmap_lock
from ptactors.kernel.rcu import RcuReadLock, RcuReadUnlock
from ptactors.model.event import PgtablesBytes, Rss
from ptactors.model.paging import PMD_SIZE, TASK_SIZE, align_down
from ptactors.model.state import Cell, State, family
from ptactors.model.step import Footprint, Step


class Vma(NamedTuple):
    """One VMA."""

    name: str
    """Unique in the run, never used again; later objects of the area A are called ``A.1``, ``A.2`` and so on."""
    start: int
    end: int
    kind: str
    """anon, anon-shared, file-private, file-shared, memfd or hugetlb."""
    write: bool
    huge: str
    """none, hugepage (VM_HUGEPAGE) or nohugepage (VM_NOHUGEPAGE)."""
    uffd_wp: bool
    locked: bool
    read: bool = True
    """VM_READ; without it and VM_WRITE the VMA is PROT_NONE."""
    account: bool = False
    """VM_ACCOUNT: private memory that was writable when it was made; it keeps VMAs apart that look the same otherwise."""

    @property
    def accessible(self) -> bool:
        """vma_is_accessible(): not PROT_NONE."""
        return self.read or self.write

    def flags(self, access: bool = True) -> tuple[str | bool, ...]:
        """vm_flags, as far as they are modelled; those of VM_ACCESS_FLAGS only with ``access``."""
        rest = (self.huge, self.uffd_wp, self.locked, self.account)
        return (self.read, self.write, *rest) if access else rest

    @property
    def anon(self) -> bool:
        """vma_is_anonymous(): no file behind it."""
        return self.kind == "anon"


family("vmas", (), "an mm's VMAs, ascending")
family("users", 0, "threads that still use an mm (mm_users)")
family("rss", 0, "an mm's count of pages of one kind")
family("pgtables", 0, "an mm's pgtables_bytes")
family("anon_vma", "", "the anon_vma of a VMA, named after the VMA that it was made for; '' for none")
family("vma_count", 0, "how many VMAs were ever made in an area")
family("areas", (), "an mm's named address ranges: those of the scenario")


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


def anon_vma(vma: str) -> Cell[str]:
    """The VMA's anon_vma."""
    return ("anon_vma", vma)  # type: ignore[return-value]


def vma_count(area: str) -> Cell[int]:
    """How many VMAs were ever made in the area."""
    return ("vma_count", area)  # type: ignore[return-value]


def areas(mm: str) -> Cell[tuple[tuple[str, int, int], ...]]:
    """(name, start, end) of the mm's named address ranges."""
    return ("areas", mm)  # type: ignore[return-value]


def area_of(vma: str) -> str:
    """The area that a VMA was made in, by the VMA's name."""
    return vma.partition(".")[0]


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
    """Store a changed VMA tree (vma_iter_store, by v6.17 vma_iter_store_overwrite), for which mmap_lock is held for writing."""

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
        return bool(state.read(anon_vma(self.vma)))

    def touches(self, state: State) -> Footprint:
        """The pointer."""
        return (anon_vma(self.vma),), ()


@attrs.frozen
class PrepareAnonVma(Step[None]):
    """__anon_vma_prepare(): take over the anon_vma of a neighbour that might be merged with some day, or make one."""

    vma: str
    mm: str
    label = "anon_vma_prepare"

    def apply(self, state: State) -> None:
        """Set it."""
        every = state.read(vmas(self.mm))
        for at, vma in enumerate(every):
            if vma.name == self.vma:
                found = find_mergeable_anon_vma(state, every, at)
                state.write(anon_vma(self.vma), found or self.vma)
                return
        raise AssertionError(f"no VMA {self.vma}")

    def touches(self, state: State) -> Footprint:
        """The tree and the neighbours' pointers."""
        every = state.read(vmas(self.mm))
        here = next((at for at, vma in enumerate(every) if vma.name == self.vma), -2)
        near = tuple(anon_vma(vma.name) for at, vma in enumerate(every) if abs(at - here) == 1)
        return (vmas(self.mm), *near), (anon_vma(self.vma),)


def find_mergeable_anon_vma(state: State, every: tuple[Vma, ...], at: int) -> str:
    """The anon_vma of the next or the previous VMA, if that differs in permissions at most; else ''. Source: mm/vma.c."""
    for by in (1, -1):
        if 0 <= at + by < len(every):
            left, right = (every[at], every[at + 1]) if by > 0 else (every[at - 1], every[at])
            if left.end == right.start and same_backing(left, right) and left.flags(False) == right.flags(False):
                found = state.read(anon_vma(every[at + by].name))
                if found:
                    return found
    return ""


def same_backing(left: Vma, right: Vma) -> bool:
    """Equal vm_file with offsets that go on: pieces of one mapping, or no file at all."""
    return left.kind == right.kind and (left.anon or area_of(left.name) == area_of(right.name))


async def lock_vma_under_rcu(cpu: Cpu, va: int) -> Vma | None:
    """Find and read-lock the VMA without mmap_lock; None: use mmap_lock instead. Source: mm/memory.c, v6.4-6.14.

    One that was detached before we had its lock is looked up anew; one that no longer reaches here is left to mmap_lock.
    Simplified: the RCU section ends before that is asked, as it does from v6.18 on; VMAs are never freed here.
    """
    while True:
        await RcuReadLock(cpu.id)
        vma = await FindVma(cpu.mm, va)
        if vma is not None and not await VmaStartRead(cpu.id, cpu.mm, vma.name):
            vma = None
        await RcuReadUnlock(cpu.id)
        if vma is None:
            return None
        now = await FindVma(cpu.mm, va)
        if now is not None and now.name == vma.name:
            return now
        attached = any(each.name == vma.name for each in await VmasOf(cpu.mm, 0, TASK_SIZE))
        await VmaEndRead(cpu.id, vma.name)
        if attached:
            return None


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
