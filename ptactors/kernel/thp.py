"""Anonymous transparent huge pages: the fault, the zap, the split; and the huge zero page.

A huge pmd keeps a spare PTE page deposited with its PMD page, so that a split can never fail for want of memory.

Source: mm/huge_memory.c, v6.10-6.14: do_huge_pmd_anonymous_page, set_huge_zero_folio, zap_huge_pmd, __split_huge_pmd_locked,
do_huge_zero_wp_pmd. Simplified: a folio is not split with its mapping; NUMA, soft-dirty and migration entries are absent.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import HUGE_ZERO_PFN, ZERO_PFN, AllocFrame, PutFrames, frame, get_frame, head
from ptactors.kernel.gather import FreeTables, Gather, ReadPending
from ptactors.kernel.lock import SpinUnlock, lock_name, pte_lockptr
from ptactors.kernel.mm import AddRss, Vma
from ptactors.kernel.pgtable import AllocTable, FillTable, ReadPmd, WriteEntry, maybe_mkwrite, pmd_lock, vm_page_prot
from ptactors.kernel.tlbflush import flush_tlb_mm_range, flush_tlb_range
from ptactors.model import paging
from ptactors.model.paging import (
    ACCESSED,
    DIRTY,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HUGE,
    INVALID_HUGE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    PRESENT,
    PROTNONE,
    SPECIAL,
    TABLE_FLAGS,
    USER,
    WRITE,
    Level,
    align_down,
    is_trans_huge,
)
from ptactors.model.state import Cell, State, family
from ptactors.model.step import Footprint, Step

family("deposits", (), "PTE pages deposited with a PMD page, oldest first")


def deposits(pmd_table: int) -> Cell[tuple[int, ...]]:
    """The PMD page's deposited tables."""
    return ("deposits", pmd_table)  # type: ignore[return-value]


@attrs.frozen
class Deposit(Step[None]):
    """pgtable_trans_huge_deposit(), under the pmd lock."""

    pmd_table: int
    table: int
    label = "pte_deposit"

    def apply(self, state: State) -> None:
        """Append."""
        state.write(deposits(self.pmd_table), (*state.read(deposits(self.pmd_table)), self.table))

    def touches(self, state: State) -> Footprint:
        """The list."""
        return (deposits(self.pmd_table),), (deposits(self.pmd_table),)


@attrs.frozen
class Withdraw(Step[int]):
    """pgtable_trans_huge_withdraw(), under the pmd lock: first in, first out."""

    pmd_table: int
    label = "pte_withdraw"

    def apply(self, state: State) -> int:
        """Take the oldest."""
        first, *rest = state.read(deposits(self.pmd_table))
        state.write(deposits(self.pmd_table), tuple(rest))
        return first

    def touches(self, state: State) -> Footprint:
        """The list."""
        return (deposits(self.pmd_table),), (deposits(self.pmd_table),)


@attrs.frozen
class GetPages(Step[None]):
    """folio_ref_add(): one reference for each of the small mappings that replace a huge one."""

    cpu: int
    pfn: int
    more: int
    label = "page_get"

    def apply(self, state: State) -> None:
        """Add them."""
        get_frame(state, self.cpu, self.pfn, "split", self.more)

    def touches(self, state: State) -> Footprint:
        """The frame."""
        return (frame(head(self.pfn)),), (frame(head(self.pfn)),)


async def arch_flush_tlb_before_set_huge_page(cpu: Cpu, va: int) -> None:
    """The cover letter's hook: under the pmd lock, if any gather is pending on the mm, flush the 2 MiB before it gets huge.

    The flush says that no tables were freed, so lazy CPUs are left alone. Source: RFC v1 6/7.
    """
    if cpu.config.kernel.flush_before_set_huge:
        await flush_pending_range(cpu, va)


async def arch_flush_tlb_before_set_pte_page(cpu: Cpu, va: int) -> None:
    """The same before a PTE page is installed; the series declares it and leaves it empty on x86. Source: RFC v1 4/7."""
    if cpu.config.kernel.flush_before_set_pte:
        await flush_pending_range(cpu, va)


async def flush_pending_range(cpu: Cpu, va: int) -> None:
    """mm_tlb_flush_pending() and flush_tlb_mm_range() of the 2 MiB around ``va``, as both hooks do it."""
    if await ReadPending(cpu.mm):
        start = align_down(va, PMD_SIZE)
        await flush_tlb_mm_range(cpu, start, start + PMD_SIZE, PAGE_SHIFT, False, "hook")


async def do_huge_pmd_anonymous_page(cpu: Cpu, vma: Vma, va: int, pmd_table: int, write: bool) -> None:
    """Fault in a huge page, or the huge zero page for a read; whoever finds the pmd taken backs out and retries."""
    base = align_down(va, PMD_SIZE)
    zero = not write and cpu.config.kernel.huge_zero_page
    pfn = HUGE_ZERO_PFN if zero else await AllocFrame(cpu.id, "anon", HPAGE_PMD_ORDER, cpu.mm)
    spare = await AllocTable(cpu.id, cpu.mm, Level.PTE)
    lock = await pmd_lock(cpu, pmd_table)
    if await ReadPmd(pmd_table, va):
        await SpinUnlock(cpu.id, lock)
        await free_spare_table(cpu, spare)
        if not zero:
            await PutFrames(cpu.id, (pfn,), "not used")
        return
    await Deposit(pmd_table, spare)
    await arch_flush_tlb_before_set_huge_page(cpu, va)
    flags = vm_page_prot(vma) | HUGE
    if not zero:
        flags = maybe_mkwrite(flags | DIRTY, vma)
        await AddRss(cpu.id, cpu.mm, (("anon", HPAGE_PMD_NR),))
    await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, base, pmd_table, paging.make(pfn, flags), PAGE_SIZE)
    await SpinUnlock(cpu.id, lock)


async def free_spare_table(cpu: Cpu, table: int) -> None:
    """pte_free(): a PTE page that no walker can know goes back at once, with its lock."""
    lock = pte_lockptr(cpu.config, cpu.mm, table)
    await FreeTables(cpu.id, (table,), (lock_name(lock),) if lock[0] == "pte" else ())


async def wp_huge_pmd(cpu: Cpu, va: int, pmd_table: int, pmd: int) -> bool:
    """do_huge_pmd_wp_page(), a write to a read-only huge pmd: a page of one's own is reused, the zero page replaced or split.

    False, VM_FAULT_FALLBACK, if it was split: the fault goes on with the small page.
    """
    if paging.pfn_of(pmd) != HUGE_ZERO_PFN:
        await _reuse_huge_page(cpu, va, pmd_table, pmd)
    elif cpu.config.kernel.huge_zero_wp_thp:
        await _replace_huge_zero(cpu, va, pmd_table)
    else:
        await split_huge_pmd(cpu, va, pmd_table)
        return False
    return True


async def _reuse_huge_page(cpu: Cpu, va: int, pmd_table: int, orig: int) -> None:
    """PageAnonExclusive(), as every page is without fork: make the pmd writable, which needs no flush on x86."""
    lock = await pmd_lock(cpu, pmd_table)
    pmd = await ReadPmd(pmd_table, va)
    if pmd | ACCESSED | DIRTY == orig | ACCESSED | DIRTY:
        base, new = align_down(va, PMD_SIZE), pmd | WRITE | DIRTY | ACCESSED
        await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, base, pmd_table, new)
    await SpinUnlock(cpu.id, lock)


async def _replace_huge_zero(cpu: Cpu, va: int, pmd_table: int) -> None:
    base = align_down(va, PMD_SIZE)
    pfn = await AllocFrame(cpu.id, "anon", HPAGE_PMD_ORDER, cpu.mm)
    lock = await pmd_lock(cpu, pmd_table)
    pmd = await ReadPmd(pmd_table, va)
    if not pmd & HUGE or paging.pfn_of(pmd) != HUGE_ZERO_PFN:
        await SpinUnlock(cpu.id, lock)
        await PutFrames(cpu.id, (pfn,), "not used")
        return
    await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, base, pmd_table, 0)
    await flush_tlb_range(cpu, base, base + PMD_SIZE, "pmdp_huge_clear_flush")
    await AddRss(cpu.id, cpu.mm, (("anon", HPAGE_PMD_NR),))
    flags = PRESENT | USER | HUGE | WRITE | DIRTY | ACCESSED
    await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, base, pmd_table, paging.make(pfn, flags))
    await SpinUnlock(cpu.id, lock)


async def zap_huge_pmd(tlb: Gather, va: int, pmd_table: int) -> bool:
    """Zap a whole huge page: clear the pmd, free the deposit at once, queue the page; false if it is no longer huge.

    The TLB is flushed only after the pmd lock is dropped.
    """
    cpu = tlb.cpu
    lock = await pmd_lock(cpu, pmd_table)
    if not is_trans_huge(await ReadPmd(pmd_table, va)):
        await SpinUnlock(cpu.id, lock)
        return False
    old = await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, va, pmd_table, 0, -PAGE_SIZE, True)
    tlb.record_pmd(va)
    await free_spare_table(cpu, await Withdraw(pmd_table))
    pfn = paging.pfn_of(old)
    if pfn != HUGE_ZERO_PFN:
        await AddRss(cpu.id, cpu.mm, (("anon", -HPAGE_PMD_NR),))
    await SpinUnlock(cpu.id, lock)
    if pfn != HUGE_ZERO_PFN and await tlb.queue_page(pfn):
        await tlb.flush_mmu()
    return True


async def split_huge_pmd(cpu: Cpu, va: int, pmd_table: int) -> None:
    """__split_huge_pmd(): map the huge page by a PTE page instead.

    pmdp_invalidate() makes it not present for the hardware but still huge for software and flushes, all under the pmd lock, so
    that no CPU ever holds both sizes; faults that see it wait for the lock.
    """
    base = align_down(va, PMD_SIZE)
    lock = await pmd_lock(cpu, pmd_table)
    pmd = await ReadPmd(pmd_table, va)
    if not pmd & HUGE:
        await SpinUnlock(cpu.id, lock)
        return
    zero = paging.pfn_of(pmd) == HUGE_ZERO_PFN
    if zero:
        await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, base, pmd_table, 0)
        old = pmd
    else:
        invalid = (pmd & ~PRESENT) | INVALID_HUGE
        old = await WriteEntry("pmd_invalidate", cpu.id, cpu.mm, Level.PMD, base, pmd_table, invalid)
    await flush_tlb_range(cpu, base, base + PMD_SIZE, "pmdp_invalidate")
    if not zero:
        await GetPages(cpu.id, paging.pfn_of(old), HPAGE_PMD_NR - 1)
    table = await Withdraw(pmd_table)
    if zero:
        flags = old & (PRESENT | USER | PROTNONE) | SPECIAL | ACCESSED
        await FillTable(cpu.id, cpu.mm, base, table, paging.make(ZERO_PFN, flags), 0)
    else:
        await FillTable(cpu.id, cpu.mm, base, table, old & ~HUGE, PAGE_SIZE)
    await WriteEntry("pmd_populate", cpu.id, cpu.mm, Level.PMD, base, pmd_table, paging.make(table, TABLE_FLAGS))
    await SpinUnlock(cpu.id, lock)
