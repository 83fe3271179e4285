"""Zapping: from a part of one VMA down to the entries of one PTE page.

Source: mm/memory.c (zap_page_range_single, by v6.17 zap_page_range_single_batched, unmap_page_range, zap_pmd_range,
zap_pte_range, from v6.14 do_zap_pte_range), v6.1-6.18. The order of clearing, accounting, flushing, unlocking and freeing is
the kernel's; each is a step of its own. Simplified: no mmu notifiers, no batching over large folios, no PFN mappings; a scan of
a table under its lock is one step, and entries that are none cost none; Linux offers to reschedule after a pmd that is none
too, here only after one that was zapped. Up to v6.4 a break came back to the same table without a look at the pmd, which was
then as safe as one with: nobody took a table away under mmap_lock held for reading.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import PtReclaim
from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import ZERO_PFN, frame, head, mark_dirty
from ptactors.kernel.gather import Gather
from ptactors.kernel.lock import SpinUnlock
from ptactors.kernel.mm import AddRss, Vma
from ptactors.kernel.pgtable import (
    Mapped,
    ReadPmd,
    ReadPte,
    ReadUpper,
    ScanTable,
    WriteEntry,
    pmd_lock,
    pte_offset_map_lock,
    pte_unmap_unlock,
)
from ptactors.kernel.pt_reclaim import free_pte, try_get_and_clear_pmd, try_to_free_pte, try_to_reclaim_pgtables
from ptactors.kernel.rcu import CondResched
from ptactors.kernel.thp import split_huge_pmd, zap_huge_pmd
from ptactors.model import paging
from ptactors.model.paging import (
    DIRTY,
    GUARD,
    MARKER,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    SPECIAL,
    SWAP,
    UFFD_WP,
    Level,
    addr_end,
    align_down,
    is_present,
    is_trans_huge,
)
from ptactors.model.state import State
from ptactors.model.step import AnyOf, Footprint, Step


@attrs.frozen
class MarkDirty(Step[None]):
    """folio_mark_dirty() for a dirty bit that was harvested from a pte."""

    cpu: int
    pfn: int
    label = "folio_mark_dirty"

    def apply(self, state: State) -> None:
        """Mark it."""
        mark_dirty(state, self.cpu, self.pfn)

    def touches(self, state: State) -> Footprint:
        """The frame."""
        return (frame(head(self.pfn)),), (frame(head(self.pfn)),)


@attrs.frozen
class FrameKind(Step[str]):
    """vm_normal_page() and folio_test_anon(): what kind of page an entry maps."""

    pfn: int
    label = "folio_test_anon"

    def apply(self, state: State) -> str:
        """Look."""
        return state.read(frame(head(self.pfn))).kind

    def touches(self, state: State) -> Footprint:
        """The frame."""
        return (frame(head(self.pfn)),), ()


@attrs.frozen
class NeedResched(Step[bool]):
    """need_resched() where the scenario lets either answer be."""

    cpu: int
    answer: bool
    labels = ("need_resched", "no_resched")

    def name(self) -> str:
        """By answer."""
        return "need_resched" if self.answer else "no_resched"

    def apply(self, state: State) -> bool:
        """Answer."""
        return self.answer

    def touches(self, state: State) -> Footprint:
        """Nothing shared."""
        return (), ()


class ZapDetails(NamedTuple):
    """struct zap_details: what a zap's caller wants beyond clearing."""

    reclaim_pt: bool = False
    """Free tables that the zap leaves empty."""
    drop_markers: bool = False
    """Clear markers and guards too, because the VMA goes (ZAP_FLAG_DROP_MARKER)."""


async def zap_page_range_single(cpu: Cpu, vma: Vma, start: int, end: int) -> None:
    """One gather around the zap of a part of one VMA."""
    tlb = Gather(cpu)
    await tlb.begin()
    await zap_page_range_single_batched(tlb, vma, start, end)
    await tlb.finish()


async def zap_page_range_single_batched(tlb: Gather, vma: Vma, start: int, end: int) -> None:
    """MADV_DONTNEED's zap into a gather of the caller; the cover letter's reclaim walk stands between zap and flush."""
    reclaim = tlb.cpu.config.kernel.pt_reclaim
    await unmap_single_vma(tlb, vma, start, end, ZapDetails(reclaim_pt=reclaim is PtReclaim.MERGED))
    if reclaim is PtReclaim.RFC:
        await try_to_reclaim_pgtables(tlb, vma, start, end)


async def unmap_single_vma(tlb: Gather, vma: Vma, start: int, end: int, details: ZapDetails) -> None:
    """unmap_page_range(): every PMD page in the range; hugetlb mappings have a zap of their own."""
    at = start
    while at < end:
        after = addr_end(at, end, Level.PUD)
        upper = await ReadUpper(tlb.cpu.mm, at)
        if upper.pmd and vma.kind == "hugetlb":
            await unmap_hugepage_range(tlb, upper.pmd, at, after)
        elif upper.pmd:
            await zap_pmd_range(tlb, vma, upper.pmd, at, after, details)
        at = after


async def unmap_hugepage_range(tlb: Gather, pmd_table: int, start: int, end: int) -> None:
    """__unmap_hugepage_range(): clear the huge pmds; tables are none of its business."""
    cpu = tlb.cpu
    for va in range(start, end, PMD_SIZE):
        if not is_trans_huge(await ReadPmd(pmd_table, va)):
            continue
        lock = await pmd_lock(cpu, pmd_table)
        old = await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, va, pmd_table, 0, 0, True)
        tlb.record_pmd(va)
        await SpinUnlock(cpu.id, lock)
        if await tlb.queue_page(paging.pfn_of(old)):
            await tlb.flush_mmu()


async def zap_pmd_range(tlb: Gather, vma: Vma, pmd_table: int, start: int, end: int, details: ZapDetails) -> None:
    """Each 2 MiB step: a huge page is zapped whole or split first; a table is zapped until its part of the range is done."""
    at = start
    while at < end:
        after = addr_end(at, end, Level.PMD)
        pmd = await ReadPmd(pmd_table, at)
        if is_trans_huge(pmd):
            if after - at == PMD_SIZE:
                if await zap_huge_pmd(tlb, at, pmd_table):
                    at = after
                    await CondResched(tlb.cpu.id)
                    continue
            else:
                await split_huge_pmd(tlb.cpu, at, pmd_table)
        elif not pmd:
            at = after
            continue
        # A table, or what was huge until now: zap_pte_range looks again; what it leaves undone is visited once more.
        at = await zap_pte_range(tlb, vma, pmd_table, at, after, details)
        await CondResched(tlb.cpu.id)


@attrs.define(eq=False)
class _Zap:
    """What one visit of zap_pte_range keeps in local variables."""

    details: ZapDetails
    any_skipped: bool = False
    """Some entry was kept or put back, in this or an earlier hold of the lock."""
    force_flush: bool = False
    stopped: bool = False
    rss: dict[str, int] = attrs.field(factory=dict)

    def count(self, kind: str) -> None:
        self.rss[kind] = self.rss.get(kind, 0) - 1


async def zap_pte_range(tlb: Gather, vma: Vma, pmd_table: int, start: int, end: int, details: ZapDetails) -> int:
    """Zap the entries of one PTE page; returns how far it got (``end``, or less if there was no table or, before v6.14, a break).

    With ``details.reclaim_pt`` it frees the table, unless it skipped an entry: at once if it held the pte lock from first to
    last and got the pmd lock, otherwise by a second look under both locks.
    """
    cpu = tlb.cpu
    kernel = cpu.config.kernel
    can_reclaim = details.reclaim_pt and end - start >= PMD_SIZE
    direct, pmdval, at = True, 0, start
    zap = _Zap(details)
    while True:
        mapped = await pte_offset_map_lock(cpu, pmd_table, at)
        if mapped is None:
            return at
        zap.force_flush, zap.stopped, zap.rss = False, False, {}
        at = await _zap_entries(tlb, vma, mapped, at, end, zap)
        if zap.any_skipped and kernel.any_skipped:
            can_reclaim = False
        if zap.stopped and kernel.direct_reclaim_reset:
            direct = False
        if can_reclaim and direct and at == end:
            pmdval = await try_get_and_clear_pmd(cpu, pmd_table, start)
            direct = pmdval != 0
        if zap.rss:
            await AddRss(cpu.id, cpu.mm, tuple(zap.rss.items()))
        if zap.force_flush:
            # Dirty file pages: nobody may find the page unmapped while some CPU can still dirty it through a stale entry.
            await tlb.flush_tlbonly()
            tlb.delayed_rmap = False
        await pte_unmap_unlock(cpu, mapped)
        if zap.force_flush:
            await tlb.flush_mmu()
        if at == end or kernel.pt_reclaim is not PtReclaim.MERGED:
            break
        await CondResched(cpu.id)
    if can_reclaim and at == end:
        if direct and pmdval:
            await free_pte(tlb, start, pmdval)
        else:
            await try_to_free_pte(tlb, pmd_table, start)
    return at


async def _zap_entries(tlb: Gather, vma: Vma, mapped: Mapped, start: int, end: int, zap: _Zap) -> int:
    """The loop of zap_pte_range() under the pte lock; returns where it stopped."""
    cpu = tlb.cpu
    base = align_down(start, PMD_SIZE)
    for slot, pte in await ScanTable(cpu.id, cpu.mm, mapped.table, start, end):
        va = base + (slot << PAGE_SHIFT)
        if await _need_resched(tlb):
            zap.stopped = True
            return va
        tlb.zapped += 1
        if await _zap_entry(tlb, vma, mapped.table, va, pte, zap):
            zap.stopped = zap.force_flush = True
            return va + PAGE_SIZE
    return end


async def _need_resched(tlb: Gather) -> bool:
    """need_resched() as the scenario injects it: after so many entries of this gather, once; or either answer at any entry."""
    cpu = tlb.cpu
    after = cpu.need_resched.get(cpu.op)
    if after is None:
        return False
    if after < 0:
        return bool((await AnyOf(NeedResched(cpu.id, False), NeedResched(cpu.id, True)))[1])
    if tlb.zapped != after or tlb.rescheduled:
        return False
    tlb.rescheduled = True
    return await NeedResched(cpu.id, True)


async def _zap_entry(tlb: Gather, vma: Vma, table: int, va: int, pte: int, zap: _Zap) -> bool:
    """do_zap_pte_range() for one entry; true if the gather is full and the loop must stop."""
    cpu = tlb.cpu
    file = not vma.anon
    if not is_present(pte):
        if (pte & GUARD or (pte & MARKER and file)) and not zap.details.drop_markers:
            zap.any_skipped = True
            return False
        await WriteEntry("pte_clear", cpu.id, cpu.mm, Level.PTE, va, table, 0)
        if pte & SWAP:
            zap.count("swap")
        return False
    old = await ptep_get_and_clear(cpu, table, va)
    tlb.record_pte(va)
    if vma.uffd_wp and file and pte & UFFD_WP and not zap.details.drop_markers:
        # zap_install_uffd_wp_if_needed(): the write protection must survive, so a marker takes the entry's place.
        await WriteEntry("pte_set", cpu.id, cpu.mm, Level.PTE, va, table, MARKER)
        zap.any_skipped = True
    pfn = paging.pfn_of(old)
    if pfn == ZERO_PFN or old & SPECIAL:
        return False
    kind = await FrameKind(pfn) if file else "anon"
    zap.count("anon" if kind == "anon" else "file")
    if kind == "file" and old & DIRTY:
        await MarkDirty(cpu.id, pfn)
        if cpu.config.kernel.flush_dirty_file_under_ptl:
            zap.force_flush = True
            tlb.delayed_rmap = cpu.config.kernel.delayed_rmap
    return await tlb.queue_page(pfn)


async def ptep_get_and_clear(cpu: Cpu, table: int, va: int) -> int:
    """One exchange, so that no dirty bit is lost that the hardware sets meanwhile; the knob makes it a read and a store."""
    seen = 0 if cpu.config.kernel.atomic_clear else await ReadPte(cpu.id, cpu.mm, table, va)
    old = await WriteEntry("pte_clear", cpu.id, cpu.mm, Level.PTE, va, table, 0, 0, True)
    return old if cpu.config.kernel.atomic_clear else seen
