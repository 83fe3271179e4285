"""munmap and the end of an mm: unhook, flush, free, in one gather.

Source: mm/vma.c (vms_gather_munmap_vmas, vms_complete_munmap_vmas, vms_clear_ptes), mm/memory.c (free_pgtables,
free_pgd_range), mm/mmap.c (exit_mmap), v6.10-6.18. Simplified: unlinking from anon_vma and file trees is left out; the page
tables that a scenario counts without modelling them go with the mm.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.gather import Gather
from ptactors.kernel.mm import AddPgtables, SetVmas, Vma, VmasOf, pgtables, users
from ptactors.kernel.mmap_lock import MmapDowngrade, MmapUnlock, VmaEndWriteAll, take_mmap_lock
from ptactors.kernel.pgtable import ReadPmd, ReadUpper, WriteEntry
from ptactors.kernel.tlbflush import ReadPgd, enter_lazy_tlb
from ptactors.kernel.vma import Tree, split_vma
from ptactors.kernel.zap import ZapDetails, unmap_single_vma
from ptactors.model import paging
from ptactors.model.event import ExitMm, PgtablesBytes
from ptactors.model.paging import (
    PAGE_SIZE,
    PGDIR_SIZE,
    PMD_SIZE,
    PUD_SIZE,
    TASK_SIZE,
    Level,
    align_down,
    align_up,
    is_table,
)
from ptactors.model.state import State
from ptactors.model.step import Footprint, Step


async def munmap(cpu: Cpu, start: int, end: int) -> int:
    """munmap(start, end - start): 0, or -EINVAL where it would cut a huge page of hugetlb."""
    await take_mmap_lock(cpu.id, cpu.mm, True)
    hit = await VmasOf(cpu.mm, start, end)
    tree = await Tree.read(cpu)
    error = await gather_munmap_vmas(tree, start, end)
    if error or not hit:
        await VmaEndWriteAll(cpu.id, cpu.mm)
        await MmapUnlock(cpu.id, cpu.mm, True)
        return error
    hit = tree.inside(start, end)
    await tree.store(tuple(vma.name for vma in hit))
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapDowngrade(cpu.id, cpu.mm)
    await clear_ptes(tree, hit, start, end)
    await MmapUnlock(cpu.id, cpu.mm, False)
    return 0


async def gather_munmap_vmas(tree: Tree, start: int, end: int) -> int:
    """vms_gather_munmap_vmas(): split the VMAs at the ends of the range, whose objects keep what goes, and write-lock them.

    0, or the error of a split.
    """
    for at, new_below in ((start, True), (end, False)):
        for vma in tree.inside(start, end):
            if vma.start < at < vma.end:
                error = await split_vma(tree, vma, at, new_below=new_below)
                if error:
                    return error
    for vma in tree.inside(start, end):
        await tree.write_lock(vma)
    return 0


async def clear_ptes(tree: Tree, gone: tuple[Vma, ...], start: int, end: int) -> None:
    """vms_clear_ptes(): zap the VMAs that go and free the tables that nobody beside them uses, in one gather."""
    tlb = Gather(tree.cpu)
    await tlb.begin()
    for vma in gone:
        await unmap_single_vma(tlb, vma, vma.start, vma.end, ZapDetails(drop_markers=True))
    before, after = tree.neighbours(start, end)
    floor = before.end if before is not None else 0
    ceiling = after.start if after is not None else TASK_SIZE
    await free_pgd_range(tlb, gone[0].start, gone[-1].end, floor, ceiling)
    await tlb.finish()


async def free_pgd_range(tlb: Gather, start: int, end: int, floor: int, ceiling: int) -> None:
    """Free the tables that map nothing outside [start, end) and nothing of the neighbours at ``floor`` and ``ceiling``.

    No page table lock is taken: nobody else can reach these tables through a VMA.
    """
    at = start
    while at < end:
        after = paging.addr_end(at, end, Level.PGD)
        upper = await ReadUpper(tlb.cpu.mm, at)
        if upper.pud:
            await _free_pud_range(tlb, upper.pud, at, after, floor, ceiling)
            if _whole(at, PGDIR_SIZE, floor, ceiling):
                await _unlink(tlb, "p4d_clear", Level.PGD, await ReadPgd(tlb.cpu.mm), at, upper.pud, "pud")
        at = after


async def _free_pud_range(tlb: Gather, pud_table: int, start: int, end: int, floor: int, ceiling: int) -> None:
    at = start
    while at < end:
        after = paging.addr_end(at, end, Level.PUD)
        upper = await ReadUpper(tlb.cpu.mm, at)
        if upper.pmd:
            await _free_pmd_range(tlb, upper.pmd, at, after, floor, ceiling)
            if _whole(at, PUD_SIZE, floor, ceiling):
                await _unlink(tlb, "pud_clear", Level.PUD, pud_table, at, upper.pmd, "pmd")
        at = after


async def _free_pmd_range(tlb: Gather, pmd_table: int, start: int, end: int, floor: int, ceiling: int) -> None:
    for va in range(align_down(start, PMD_SIZE), align_up(end, PMD_SIZE), PMD_SIZE):
        if _whole(va, PMD_SIZE, floor, ceiling):
            pmd = await ReadPmd(pmd_table, va)
            if is_table(pmd):
                await _unlink(tlb, "pmd_clear", Level.PMD, pmd_table, va, paging.pfn_of(pmd), "pte")


def _whole(va: int, size: int, floor: int, ceiling: int) -> bool:
    """Whether the table that maps ``size`` bytes around ``va`` is not shared with a neighbour."""
    base = align_down(va, size)
    return floor <= base and base + size <= ceiling


async def _unlink(tlb: Gather, what: str, level: Level, parent: int, va: int, table: int, kind: str) -> None:
    """pmd_clear/pud_clear/p4d_clear, pte_free_tlb/pmd_free_tlb/pud_free_tlb and the accounting."""
    cpu = tlb.cpu
    base = align_down(va, 1 << paging.SHIFT[level])
    await WriteEntry(what, cpu.id, cpu.mm, level, base, parent, 0)
    await tlb.free_table(max(base, 0), table, kind)
    await AddPgtables(cpu.id, cpu.mm, -PAGE_SIZE)


@attrs.frozen
class DropUser(Step[int]):
    """mmput(): one thread of the process is gone; the result is how many are left."""

    mm: str
    label = "mmput"

    def apply(self, state: State) -> int:
        """Count down."""
        left = state.read(users(self.mm)) - 1
        state.write(users(self.mm), left)
        return left

    def touches(self, state: State) -> Footprint:
        """The count."""
        return (users(self.mm),), (users(self.mm),)


@attrs.frozen
class CheckMm(Step[None]):
    """check_mm() and __mmdrop(): the mm is gone, with the tables that the scenario only counts."""

    cpu: int
    mm: str
    label = "exit_mm"

    def apply(self, state: State) -> None:
        """Account for what was given, and say that it is over."""
        given = state.config.machine.other_tables_kb << 10
        if given:
            value = state.read(pgtables(self.mm)) - given
            state.write(pgtables(self.mm), value)
            state.emit(PgtablesBytes(self.cpu, self.mm, -given, value))
        state.emit(ExitMm(self.cpu, self.mm))

    def touches(self, state: State) -> Footprint:
        """The counter."""
        return (pgtables(self.mm),), (pgtables(self.mm),)


async def exit_mm(cpu: Cpu) -> None:
    """A thread ends: the CPU goes lazy, and the last thread tears the address space down."""
    await enter_lazy_tlb(cpu)
    if await DropUser(cpu.mm) == 0:
        await exit_mmap(cpu)


async def exit_mmap(cpu: Cpu) -> None:
    """Unmap everything under mmap_lock for reading, free the tables under it for writing, flush once."""
    await take_mmap_lock(cpu.id, cpu.mm, False)
    everything = await VmasOf(cpu.mm, 0, TASK_SIZE)
    tlb = Gather(cpu, fullmm=True)
    await tlb.begin()
    for vma in everything:
        await unmap_single_vma(tlb, vma, vma.start, vma.end, ZapDetails(drop_markers=True))
    await MmapUnlock(cpu.id, cpu.mm, False)
    await take_mmap_lock(cpu.id, cpu.mm, True)
    for i, vma in enumerate(everything):
        ceiling = everything[i + 1].start if i + 1 < len(everything) else TASK_SIZE
        await free_pgd_range(tlb, vma.start, vma.end, 0, ceiling)
    await tlb.finish()
    await SetVmas(cpu.mm, ())
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapUnlock(cpu.id, cpu.mm, True)
    await CheckMm(cpu.id, cpu.mm)
