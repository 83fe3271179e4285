"""mmu_gather: collect what is to be freed, flush once, then free.

Source: mm/mmu_gather.c, include/asm-generic/tlb.h, v6.10-6.14. The page batches are an array of 8 on the stack and up to 19
pages of 510; an entry may need two slots (since v6.9), so a batch counts as full one early: 7 + 19 x 509 = 9678 small pages. A
table batch holds 509. Batch pages are allocated with GFP_NOWAIT and may fail, which scenarios inject.
"""

from __future__ import annotations

import attrs

from ptactors.config import TableFree
from ptactors.hardware.cpu import Cpu
from ptactors.hardware.interrupt import call_function_and_wait
from ptactors.hardware.memory import (
    FreeFrames,
    PutFrames,
    alloc_footprint,
    alloc_frame,
    frame,
    free_footprint,
    free_frame,
)
from ptactors.kernel.lock import lock_name
from ptactors.kernel.rcu import CallRcuFree, synchronize_rcu
from ptactors.kernel.tlbflush import TLB_FLUSH_ALL, flush_tlb_mm_range
from ptactors.model.event import GatherBegin, GatherEnd, GatherTable, LockFree
from ptactors.model.paging import PAGE_SHIFT, PAGE_SIZE, PMD_SHIFT, PMD_SIZE, PUD_SHIFT, TASK_SIZE
from ptactors.model.state import Cell, State, family
from ptactors.model.step import AnyOf, Footprint, Step

family("gathers", 0, "an mm's tlb_flush_pending: how many gathers may owe a flush")

Table = tuple[str, int]
"""(level, frame) of a page table."""
LOCKED = ("pte", "pmd")
"""Levels whose tables have a lock of their own."""
PAGES, TABLES = "page_batch_alloc", "table_batch_alloc"


def gathers(mm: str) -> Cell[int]:
    """The mm's pending gathers."""
    return ("gathers", mm)  # type: ignore[return-value]


@attrs.frozen
class ChangePending(Step[int]):
    """inc_tlb_flush_pending() and dec_tlb_flush_pending(), which also begin and end the gather."""

    cpu: int
    mm: str
    delta: int
    nested: bool = False
    labels = ("gather_begin", "gather_finish")

    def name(self) -> str:
        """By direction."""
        return "gather_begin" if self.delta > 0 else "gather_finish"

    def apply(self, state: State) -> int:
        """Count."""
        now = state.read(gathers(self.mm)) + self.delta
        state.write(gathers(self.mm), now)
        state.emit(GatherBegin(self.cpu, self.mm, now) if self.delta > 0 else GatherEnd(self.cpu, self.mm, now, self.nested))
        return now

    def touches(self, state: State) -> Footprint:
        """The count."""
        return (gathers(self.mm),), (gathers(self.mm),)


@attrs.frozen
class ReadPending(Step[int]):
    """Read mm->tlb_flush_pending."""

    mm: str
    label = "tlb_flush_pending"

    def apply(self, state: State) -> int:
        """Read it."""
        return state.read(gathers(self.mm))

    def touches(self, state: State) -> Footprint:
        """The count."""
        return (gathers(self.mm),), ()


@attrs.frozen
class AllocBatch(Step[int]):
    """__get_free_page(GFP_NOWAIT) for a batch: the frame, or 0 where the scenario makes it fail."""

    cpu: int
    mm: str
    which: str
    succeed: bool
    labels = ("page_batch_alloc", "page_batch_alloc_fail", "table_batch_alloc", "table_batch_alloc_fail")

    def name(self) -> str:
        """By outcome."""
        return f"{self.which}{'' if self.succeed else '_fail'}"

    def apply(self, state: State) -> int:
        """Allocate or fail."""
        return alloc_frame(state, self.cpu, "batch", 0, self.mm) if self.succeed else 0

    def touches(self, state: State) -> Footprint:
        """The allocator."""
        return alloc_footprint(state, self.cpu, 0) if self.succeed else ((), ())


@attrs.frozen
class QueueTable(Step[None]):
    """___pte_free_tlb(): the table goes to the gather; up to v6.13 its destructor, which frees its lock, runs already here."""

    cpu: int
    mm: str
    va: int
    table: int
    level: str
    how: str
    label = "gather_add_table"

    def apply(self, state: State) -> None:
        """Queue it, and free its lock if that is the rule."""
        gen = state.read(frame(self.table)).gen
        state.emit(GatherTable(self.cpu, self.mm, self.va, self.table, gen, self.how))
        kernel = state.config.kernel
        if self.level in LOCKED and kernel.ptlock_alloc and kernel.split_ptlocks and not kernel.dtor_after_grace_period:
            state.emit(LockFree(self.cpu, lock_name((self.level, self.table))))

    def touches(self, state: State) -> Footprint:
        """The frame."""
        return (frame(self.table),), ()


@attrs.frozen
class FreeTables(Step[None]):
    """__tlb_remove_table(): destructor, then the memory. Tables are freed whatever still points at them."""

    cpu: int
    tables: tuple[int, ...]
    locks: tuple[str, ...]
    label = "table_free"

    def apply(self, state: State) -> None:
        """Free them."""
        for lock in self.locks:
            state.emit(LockFree(self.cpu, lock))
        for table in self.tables:
            free_frame(state, self.cpu, table)

    def touches(self, state: State) -> Footprint:
        """The frames."""
        return free_footprint(state, self.cpu, self.tables)


@attrs.define(eq=False)
class Gather:
    """struct mmu_gather: private to the task that zaps."""

    cpu: Cpu
    fullmm: bool = False
    start: int = TASK_SIZE
    end: int = 0
    freed_tables: bool = False
    cleared: int = 0
    """Bit per level: 1 ptes, 2 pmds, 4 puds, 8 p4ds."""
    delayed_rmap: bool = False
    zapped: int = 0
    """Entries zapped so far, for injected reschedules."""
    rescheduled: bool = False
    """The injected reschedule has been seen."""
    pages: list[int] = attrs.field(factory=list)
    """Queued pages."""
    page_tables: list[Table] = attrs.field(factory=list)
    """Tables that travel in the page batches (PAGE_BATCH)."""
    tables: list[Table] = attrs.field(factory=list)
    """The table batch."""
    batch_pages: list[int] = attrs.field(factory=list)
    """Frames of the extra page batches."""
    table_batch: int = 0
    """Frame of the table batch."""
    active: int = 0
    """Which page batch is filled: 0 is the one on the stack, n the n-th of ``batch_pages``."""
    room: int = 0
    """Pages that still fit into the active batch before it counts as full."""
    allocs: dict[str, int] = attrs.field(factory=dict)

    # -- begin and end ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """tlb_gather_mmu()."""
        self.room = self._room(self.cpu.config.kernel.gather_bundle)
        self._reset_range()
        await ChangePending(self.cpu.id, self.cpu.mm, 1)

    async def finish(self) -> None:
        """tlb_finish_mmu(): if another gather is pending, flush everything, since it may have cleared what we found none."""
        nested = self.cpu.config.kernel.nested_gather_flush and await ReadPending(self.cpu.mm) > 1
        if nested:
            self.fullmm = True
            self._reset_range()
            self.freed_tables = True
        await self.flush_mmu()
        if self.batch_pages:
            await FreeFrames(self.cpu.id, tuple(self.batch_pages))
        await ChangePending(self.cpu.id, self.cpu.mm, -1, nested)

    # -- recording ----------------------------------------------------------------------------------------------------

    def _reset_range(self) -> None:
        self.start, self.end = (TASK_SIZE, 0) if not self.fullmm else (TLB_FLUSH_ALL, TLB_FLUSH_ALL)
        self.cleared = 0
        self.freed_tables = False

    def record(self, va: int, size: int, level: int) -> None:
        """tlb_remove_tlb_entry() and its kin: something of this size was cleared at ``va``."""
        if not self.fullmm:
            self.start, self.end = min(self.start, va), max(self.end, va + size)
        self.cleared |= 1 << level

    def record_pte(self, va: int) -> None:
        """tlb_remove_tlb_entry()."""
        self.record(va, PAGE_SIZE, 0)

    def record_pmd(self, va: int) -> None:
        """tlb_remove_pmd_tlb_entry()."""
        self.record(va, PMD_SIZE, 1)

    # -- pages --------------------------------------------------------------------------------------------------------

    async def queue_page(self, pfn: int) -> bool:
        """__tlb_remove_page(): queue it; true when the batch is full and must be flushed before anything else is queued."""
        self.pages.append(pfn)
        return await self._full()

    def _room(self, slots: int) -> int:
        """How many pages a batch of so many slots takes."""
        return slots - self.cpu.config.kernel.gather_spare_slot

    async def _full(self) -> bool:
        self.room -= 1
        return self.room == 0 and not await self._next_batch()

    async def _next_batch(self) -> bool:
        if self.delayed_rmap and self.active:
            return False
        kernel = self.cpu.config.kernel
        if self.active == len(self.batch_pages):
            if len(self.batch_pages) == kernel.gather_batch_count:
                return False
            page = await self._alloc(PAGES)
            if not page:
                return False
            self.batch_pages.append(page)
        self.active += 1
        self.room = self._room(kernel.gather_batch)
        return True

    async def _alloc(self, which: str) -> int:
        self.allocs[which] = self.allocs.get(which, 0) + 1
        mode = self.cpu.alloc_faults.get(which, "ok")
        yes, no = (AllocBatch(self.cpu.id, self.cpu.mm, which, ok) for ok in (True, False))
        if mode == "maybe":
            frame_or_none: int = (await AnyOf(yes, no))[1]
            return frame_or_none
        if mode.startswith("fail-after "):
            return await (yes if self.allocs[which] <= int(mode.split()[1]) else no)
        return await (no if mode == "fail" else yes)

    # -- tables -------------------------------------------------------------------------------------------------------

    async def free_table(self, va: int, table: int, level: str) -> None:
        """pte_free_tlb(), pmd_free_tlb(), pud_free_tlb(): note that a table goes, and queue it.

        The range grows by one page only: flushing one page drops the upper levels above it too.
        """
        self.record(va, PAGE_SIZE, ("pte", "pmd", "pud").index(level) + 1)
        self.freed_tables = True
        if self.cpu.config.kernel.table_free is TableFree.PAGE_BATCH:
            await QueueTable(self.cpu.id, self.cpu.mm, va, table, level, "page batch")
            self.page_tables.append((level, table))
            if await self._full():
                await self.flush_mmu()
            return
        await self._remove_table(va, table, level)

    async def _remove_table(self, va: int, table: int, level: str) -> None:
        if not self.table_batch:
            self.table_batch = await self._alloc(TABLES)
        if not self.table_batch:
            await QueueTable(self.cpu.id, self.cpu.mm, va, table, level, "single")
            await self.flush_tlbonly()
            await self._remove_table_one((level, table))
            return
        await QueueTable(self.cpu.id, self.cpu.mm, va, table, level, "batch")
        self.tables.append((level, table))
        if len(self.tables) == self.cpu.config.kernel.table_batch:
            await self.flush_tlbonly()
            await self._flush_tables()

    async def _remove_table_one(self, table: Table) -> None:
        how = self.cpu.config.kernel.table_free
        if how in (TableFree.SEMI_RCU, TableFree.IPI_THEN_RCU):
            await tlb_remove_table_sync_one(self.cpu)
        if how is TableFree.SYNCHRONIZE_RCU:
            await synchronize_rcu(self.cpu.id)
        if how in (TableFree.SEMI_RCU, TableFree.SYNCHRONIZE_RCU):
            await FreeTables(self.cpu.id, (table[1],), self._locks([table]))
        else:
            await CallRcuFree(self.cpu.id, (table[1],), self._locks([table]))

    def _locks(self, tables: list[Table]) -> tuple[str, ...]:
        """The locks that die with these tables: none without split locks, or where the destructor has run already."""
        kernel = self.cpu.config.kernel
        if not kernel.split_ptlocks or (kernel.ptlock_alloc and not kernel.dtor_after_grace_period):
            return ()
        return tuple(lock_name((level, table)) for level, table in tables if level in LOCKED)

    async def _flush_tables(self) -> None:
        """tlb_table_flush(): the batch goes to RCU, with its own page."""
        if self.tables:
            tables = tuple(table for _, table in self.tables)
            await CallRcuFree(self.cpu.id, (*tables, self.table_batch), self._locks(self.tables))
            self.tables, self.table_batch = [], 0

    # -- flushing -----------------------------------------------------------------------------------------------------

    async def flush_tlbonly(self) -> None:
        """tlb_flush_mmu_tlbonly(): nothing recorded, nothing flushed; then the range starts anew, freed_tables too."""
        if not (self.freed_tables or self.cleared):
            return
        if self.fullmm:
            start, end = 0, TLB_FLUSH_ALL
        else:
            start, end = self.start, self.end
        await flush_tlb_mm_range(self.cpu, start, end, self._stride(), self.freed_tables, "gather")
        self._reset_range()

    def _stride(self) -> int:
        """tlb_get_unmap_shift(): the smallest level that was cleared."""
        for bit, shift in ((1, PAGE_SHIFT), (2, PMD_SHIFT), (4, PUD_SHIFT)):
            if self.cleared & bit:
                return shift
        return PAGE_SHIFT

    async def flush_mmu(self) -> None:
        """tlb_flush_mmu(): flush, hand the tables to RCU, free the pages. In that order, and no other."""
        await self.flush_tlbonly()
        await self._flush_tables()
        pages, tables = tuple(self.pages), self.page_tables
        self.pages, self.page_tables = [], []
        if pages:
            await PutFrames(self.cpu.id, pages, "gather")
        if tables:
            await FreeTables(self.cpu.id, tuple(table for _, table in tables), self._locks(tables))
        self.active, self.room = 0, self._room(self.cpu.config.kernel.gather_bundle)


async def tlb_remove_table_sync_one(cpu: Cpu) -> None:
    """Interrupt every CPU and wait: whoever walked with interrupts off before is done after. No help against RCU walkers."""
    others = tuple(other for other in range(cpu.config.machine.cpus) if other != cpu.id)
    await call_function_and_wait(cpu.id, others, "tlb_remove_table_smp_sync", (), None)
