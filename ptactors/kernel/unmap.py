"""munmap and the end of an mm: unhook, flush, free, in one gather.

Source: mm/vma.c (vms_complete_munmap_vmas, unmap_region), mm/memory.c (free_pgtables, free_pgd_range), mm/mmap.c (exit_mmap),
v6.10-6.14. Simplified: unlinking from anon_vma and file trees is left out; pieces of a split VMA get names of their own; the
page tables that a scenario counts without modelling them go with the mm.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.gather import Gather
from ptactors.kernel.mm import AddPgtables, SetVmas, Vma, VmasOf, pgtables, users
from ptactors.kernel.mmap_lock import MmapDowngrade, MmapUnlock, VmaEndWriteAll, take_mmap_lock, vma_start_write
from ptactors.kernel.pgtable import ReadPmd, ReadUpper, WriteEntry
from ptactors.kernel.tlbflush import ReadPgd, enter_lazy_tlb
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
    """munmap(start, end - start): always 0."""
    await take_mmap_lock(cpu.id, cpu.mm, True)
    hit = await VmasOf(cpu.mm, start, end)
    everything = await VmasOf(cpu.mm, 0, TASK_SIZE)
    for vma in hit:
        await vma_start_write(cpu.id, cpu.mm, vma.name)
    kept = tuple(piece for vma in everything for piece in _outside(vma, start, end))
    await SetVmas(cpu.mm, kept)
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapDowngrade(cpu.id, cpu.mm)
    tlb = Gather(cpu)
    await tlb.begin()
    for vma in hit:
        await unmap_single_vma(tlb, vma, max(vma.start, start), min(vma.end, end), ZapDetails(drop_markers=True))
    floor = max((v.end for v in kept if v.end <= start), default=0)
    ceiling = min((v.start for v in kept if v.start >= end), default=TASK_SIZE)
    if hit:
        await free_pgd_range(tlb, max(hit[0].start, start), min(hit[-1].end, end), floor, ceiling)
    await tlb.finish()
    await MmapUnlock(cpu.id, cpu.mm, False)
    return 0


def _outside(vma: Vma, start: int, end: int) -> list[Vma]:
    """What is left of a VMA beside [start, end)."""
    if vma.end <= start or end <= vma.start:
        return [vma]
    pieces = []
    if vma.start < start:
        pieces.append(vma._replace(end=start))
    if end < vma.end:
        pieces.append(vma._replace(start=end, name=f"{vma.name}.{end:x}" if pieces else vma.name))
    return pieces


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
