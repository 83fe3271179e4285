"""Page tables as software sees them: reading and writing entries, mapping and locking a PTE page, installing tables.

Source: mm/pgtable-generic.c (the pte_offset_map family), mm/memory.c (__pte_alloc, pmd_install, __pmd_alloc, __pud_alloc),
v6.5-6.14. Simplified: the PGD and PUD entries of an address are read in one step (nobody can remove upper tables while a fault,
a zap or an IRQ-off walk may look at them); five-level tables are not modelled; pte_offset_map() is an RCU reader in every
release, which it became by a349d72fd9ef (v6.6), so that v6.1 with a reclaim that it never had looks safer than it was.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import FreeFrames, alloc_footprint, alloc_frame, entry, frame, next_frame, occupied_slots
from ptactors.kernel.lock import (
    FREE,
    Lock,
    SpinLock,
    SpinUnlock,
    lock_cell,
    lock_name,
    pmd_lockptr,
    pte_lockptr,
    rcu_depth,
)
from ptactors.kernel.mm import Vma, add_pgtables, pgtables
from ptactors.kernel.rcu import RcuReadLock, RcuReadUnlock, rcu_unlock
from ptactors.model import paging
from ptactors.model.event import ENTRY_NAMES, EntryWrite, GatherPage, LockInit, TableMap, TableRead, TableUnmap
from ptactors.model.paging import (
    ACCESSED,
    PAGE_SIZE,
    PRESENT,
    PROTNONE,
    SPECIAL,
    TABLE_FLAGS,
    USER,
    WRITE,
    Level,
    is_present,
    is_table,
)
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import ANY, Footprint, Step

MAPPED = PRESENT | USER | ACCESSED
"""What every new entry of an accessible VMA has."""

family("pgd_of", 0, "an mm's top-level table")


def pgd_of(mm: str) -> Cell[int]:
    """The mm's PGD."""
    return ("pgd_of", mm)  # type: ignore[return-value]


def vm_page_prot(vma: Vma) -> int:
    """vma->vm_page_prot: the bits of a new entry in the VMA, without those of writing.

    Source: arch/x86/mm/pgprot.c, vm_get_page_prot().
    """
    return MAPPED if vma.accessible else PROTNONE | ACCESSED


def maybe_mkwrite(flags: int, vma: Vma) -> int:
    """maybe_mkwrite(): writable if the VMA is. Source: include/linux/mm.h."""
    return flags | WRITE if vma.write else flags


class Upper(NamedTuple):
    """The tables on the way to an address; 0 where there is none."""

    pud: int
    pmd: int


def upper_tables(state: State, mm: str, va: int) -> Upper:
    """Read the PGD and PUD entries for ``va``."""
    pgd_entry = state.read(entry(state.read(pgd_of(mm)), paging.index(va, Level.PGD)))
    if not pgd_entry:
        return Upper(0, 0)
    pud = paging.pfn_of(pgd_entry)
    pud_entry = state.read(entry(pud, paging.index(va, Level.PUD)))
    return Upper(pud, paging.pfn_of(pud_entry) if pud_entry else 0)


@attrs.frozen
class ReadUpper(Step[Upper]):
    """pgd_offset(), p4d_offset(), pud_offset() and their reads, lockless."""

    mm: str
    va: int
    label = "upper_read"

    def apply(self, state: State) -> Upper:
        """Read them."""
        return upper_tables(state, self.mm, self.va)

    def touches(self, state: State) -> Footprint:
        """The two entries."""
        pgd = state.read(pgd_of(self.mm))
        pud = upper_tables(state, self.mm, self.va).pud
        keys = (pgd_of(self.mm), entry(pgd, paging.index(self.va, Level.PGD)), entry(pud, paging.index(self.va, Level.PUD)))
        return keys, ()


@attrs.frozen
class ReadPmd(Step[int]):
    """pmdp_get_lockless(), or a read under the pmd lock."""

    pmd_table: int
    va: int
    label = "pmd_read"

    def apply(self, state: State) -> int:
        """Read it."""
        return state.read(entry(self.pmd_table, paging.index(self.va, Level.PMD)))

    def touches(self, state: State) -> Footprint:
        """The entry."""
        return (entry(self.pmd_table, paging.index(self.va, Level.PMD)),), ()


@attrs.frozen
class ReadPte(Step[int]):
    """ptep_get(), with or without the pte lock, through a pointer that a map returned."""

    cpu: int
    mm: str
    table: int
    va: int
    label = "pte_read"

    def apply(self, state: State) -> int:
        """Read it."""
        slot = paging.index(self.va, Level.PTE)
        value = state.read(entry(self.table, slot))
        state.emit(TableRead(self.cpu, self.mm, self.va, self.table, state.read(frame(self.table)).gen, slot, value))
        return value

    def touches(self, state: State) -> Footprint:
        """The entry and whose memory it is."""
        return (entry(self.table, paging.index(self.va, Level.PTE)), frame(self.table)), ()


@attrs.frozen
class ScanTable(Step[tuple[tuple[int, int], ...]]):
    """Read the entries of [start, end) in one PTE page, under its lock: the (slot, value) pairs that are not none.

    One step, since under the lock only the hardware's A and D bits can change.
    """

    cpu: int
    mm: str
    table: int
    start: int
    end: int
    label = "pte_scan"

    def apply(self, state: State) -> tuple[tuple[int, int], ...]:
        """Read them."""
        first, last = paging.index(self.start, Level.PTE), paging.index(self.end - 1, Level.PTE)
        gen = state.read(frame(self.table)).gen
        state.emit(TableRead(self.cpu, self.mm, self.start, self.table, gen, first, -1))
        found = occupied_slots(state, self.table, first, last)
        return tuple((slot, state.read(entry(self.table, slot))) for slot in found)

    def touches(self, state: State) -> Footprint:
        """The table."""
        return (("entry", self.table, ANY), frame(self.table)), ()


@attrs.frozen
class WriteEntry(Step[int]):
    """Store an entry (set_pte_at, set_pmd_at, pmd_populate, an exchange) and return what it replaced.

    ``what`` names the event; ``pgtables_delta`` is accounted in the same step, as both are done under the same lock; with
    ``gather`` the log also says that the page behind the old entry is in the task's gather now, which only the task itself sees.
    """

    what: str
    cpu: int
    mm: str
    level: int
    va: int
    table: int
    new: int
    pgtables_delta: int = 0
    gather: bool = False
    labels = ENTRY_NAMES

    def name(self) -> str:
        """By what it means."""
        return self.what

    def apply(self, state: State) -> int:
        """Exchange it."""
        slot = paging.index(self.va, self.level)
        cell = entry(self.table, slot)
        old = state.read(cell)
        if self.pgtables_delta:
            add_pgtables(state, self.cpu, self.mm, self.pgtables_delta)
        state.write(cell, self.new)
        gen = state.read(frame(self.table)).gen
        state.emit(EntryWrite(self.what, self.cpu, self.mm, int(self.level), self.va, self.table, gen, slot, old, self.new))
        if self.gather and is_present(old) and not old & SPECIAL:
            state.emit(GatherPage(self.cpu, self.mm, self.va, paging.pfn_of(old)))
        return old

    def touches(self, state: State) -> Footprint:
        """The entry, and the counter if it is accounted."""
        keys: tuple[Key, ...] = (entry(self.table, paging.index(self.va, self.level)),)
        if self.pgtables_delta:
            keys += (pgtables(self.mm),)
        return (*keys, frame(self.table)), keys


@attrs.frozen
class FillTable(Step[None]):
    """Fill a table that nobody else can reach with 512 entries: ``first`` and its successors, or all the same (``step`` 0)."""

    cpu: int
    mm: str
    va: int
    table: int
    first: int
    step: int
    label = "table_fill"

    def apply(self, state: State) -> None:
        """Write them."""
        gen = state.read(frame(self.table)).gen
        for slot in range(paging.PTRS_PER_TABLE):
            new = self.first + slot * self.step
            state.write(entry(self.table, slot), new)
            va = self.va + slot * PAGE_SIZE
            state.emit(EntryWrite("pte_set", self.cpu, self.mm, int(Level.PTE), va, self.table, gen, slot, 0, new))

    def touches(self, state: State) -> Footprint:
        """The table."""
        return (frame(self.table),), (("entry", self.table, ANY),)


@attrs.frozen
class AllocTable(Step[int]):
    """pte_alloc_one(), pmd_alloc_one(), pud_alloc_one(): a zeroed page with its lock; nobody else knows it yet."""

    cpu: int
    mm: str
    level: int
    label = "table_alloc"

    def _lock(self, state: State, table: int) -> Lock:
        config = state.config
        return pte_lockptr(config, self.mm, table) if self.level == Level.PTE else pmd_lockptr(config, self.mm, table)

    def apply(self, state: State) -> int:
        """Allocate."""
        table = alloc_frame(state, self.cpu, ("pte", "pmd", "pud")[self.level], 0, self.mm)
        lock = self._lock(state, table)
        if self.level < Level.PUD and lock[0] != "page_table":
            state.write(lock_cell(lock), FREE)
            state.emit(LockInit(self.cpu, lock_name(lock)))
        return table

    def touches(self, state: State) -> Footprint:
        """The frame and its lock."""
        reads, writes = alloc_footprint(state, self.cpu, 0)
        lock = self._lock(state, next_frame(state, self.cpu, 0))
        return reads, (*writes, lock_cell(lock))


@attrs.frozen
class MapPte(Step[int]):
    """The read of *pmd in ___pte_offset_map(): whoever finds a table has a pointer into it from here on."""

    cpu: int
    mm: str
    pmd_table: int
    va: int
    label = "pte_offset_map"

    def apply(self, state: State) -> int:
        """Take the snapshot."""
        value = state.read(entry(self.pmd_table, paging.index(self.va, Level.PMD)))
        if is_table(value):
            table = paging.pfn_of(value)
            state.emit(TableMap(self.cpu, self.mm, self.va, table, state.read(frame(table)).gen))
        return value

    def touches(self, state: State) -> Footprint:
        """The pmd."""
        cell = entry(self.pmd_table, paging.index(self.va, Level.PMD))
        return (cell, frame(paging.pfn_of(state.read(cell)))), ()


@attrs.frozen
class PteUnmap(Step[None]):
    """pte_unmap(): the pointer is given up and the RCU section ends."""

    cpu: int
    table: int
    label = "pte_unmap"

    def apply(self, state: State) -> None:
        """Leave."""
        state.emit(TableUnmap(self.cpu, self.table))
        rcu_unlock(state, self.cpu)

    def touches(self, state: State) -> Footprint:
        """The nesting."""
        return (rcu_depth(self.cpu),), (rcu_depth(self.cpu),)


class Mapped(NamedTuple):
    """What a map returns."""

    table: int
    pmdval: int
    lock: Lock


async def pte_offset_map_nolock(cpu: Cpu, pmd_table: int, va: int) -> Mapped | None:
    """In an RCU section, the table of a pmd snapshot and its lock; None (and no section) if none.

    The lock is that of the snapshot's table, never of a second read. Up to v6.12 the function has this name, from v6.13 it is
    pte_offset_map_ro_nolock() or pte_offset_map_rw_nolock().
    """
    await RcuReadLock(cpu.id)
    pmdval = await MapPte(cpu.id, cpu.mm, pmd_table, va)
    if not is_table(pmdval):
        await RcuReadUnlock(cpu.id)
        return None
    table = paging.pfn_of(pmdval)
    return Mapped(table, pmdval, pte_lockptr(cpu.config, cpu.mm, table))


async def pte_offset_map_lock(cpu: Cpu, pmd_table: int, va: int) -> Mapped | None:
    """pte_offset_map_lock(): map, lock the table, and start over if the pmd changed in between; None if there is no table."""
    while True:
        mapped = await pte_offset_map_nolock(cpu, pmd_table, va)
        if mapped is None:
            return None
        await SpinLock(cpu.id, mapped.lock)
        if not cpu.config.kernel.map_lock_recheck or await ReadPmd(pmd_table, va) == mapped.pmdval:
            return mapped
        await pte_unmap_unlock(cpu, mapped)


async def pte_unmap_unlock(cpu: Cpu, mapped: Mapped) -> None:
    """pte_unmap_unlock()."""
    await SpinUnlock(cpu.id, mapped.lock)
    await PteUnmap(cpu.id, mapped.table)


async def pmd_lock(cpu: Cpu, pmd_table: int) -> Lock:
    """Take the lock of a PMD page (one for its 512 entries), as pmd_lock() does."""
    lock = pmd_lockptr(cpu.config, cpu.mm, pmd_table)
    await SpinLock(cpu.id, lock)
    return lock


async def pmd_alloc(cpu: Cpu, va: int) -> int:
    """p4d_alloc, pud_alloc and pmd_alloc in one: the PMD page for ``va``, with whatever was missing installed."""
    while True:
        upper = await ReadUpper(cpu.mm, va)
        if upper.pmd:
            return upper.pmd
        await _install_upper(cpu, va, Level.PMD if upper.pud else Level.PUD)


async def _install_upper(cpu: Cpu, va: int, level: Level) -> None:
    """__pud_alloc() and __pmd_alloc(): install a table of ``level`` under page_table_lock, unless somebody was faster."""
    table = await AllocTable(cpu.id, cpu.mm, level)
    lock: Lock = ("page_table", cpu.mm)
    await SpinLock(cpu.id, lock)
    upper = await ReadUpper(cpu.mm, va)
    missing = not upper.pud if level == Level.PUD else not upper.pmd
    if missing:
        await InstallUpper(cpu.id, cpu.mm, va, level, table)
    await SpinUnlock(cpu.id, lock)
    if not missing:
        await FreeFrames(cpu.id, (table,))


@attrs.frozen
class InstallUpper(Step[None]):
    """pgd_populate()/p4d_populate() and pud_populate(), with their accounting, under page_table_lock."""

    cpu: int
    mm: str
    va: int
    level: int
    table: int
    labels = ("p4d_install", "pud_install")

    def name(self) -> str:
        """By the entry that is written."""
        return "p4d_install" if self.level == Level.PUD else "pud_install"

    def _parent(self, state: State) -> int:
        return state.read(pgd_of(self.mm)) if self.level == Level.PUD else upper_tables(state, self.mm, self.va).pud

    def apply(self, state: State) -> None:
        """Link it."""
        parent = self._parent(state)
        WriteEntry(
            self.name(), self.cpu, self.mm, self.level + 1, self.va, parent, paging.make(self.table, TABLE_FLAGS), PAGE_SIZE
        ).apply(state)

    def touches(self, state: State) -> Footprint:
        """The parent's entry and the counter."""
        parent = self._parent(state)
        cell = entry(parent, paging.index(self.va, self.level + 1))
        top = entry(state.read(pgd_of(self.mm)), paging.index(self.va, Level.PGD))
        return (pgd_of(self.mm), top, cell, frame(parent), pgtables(self.mm)), (cell, pgtables(self.mm))
