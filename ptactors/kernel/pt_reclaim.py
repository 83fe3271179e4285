"""Freeing empty PTE pages: as the cover letter's series does it, and as it was merged.

The series (RFC v1 4/7, cover.1719570849) walks the range a second time after the whole zap, maps each table, takes the pmd lock
and the pte lock, looks whether the pmd still points there and whether all 512 entries are none, and clears the pmd. What was
merged (6375e95f381e, v6.14) does it inside zap_pte_range: without a look if the pte lock was never dropped, else with one.

Either way the pmd is clear and the locks are dropped before the TLB is flushed: the window of both of the cover letter's cases.
"""

from __future__ import annotations

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.gather import Gather
from ptactors.kernel.lock import SpinLock, SpinTryLock, SpinUnlock, pmd_lockptr
from ptactors.kernel.mm import AddPgtables, Vma
from ptactors.kernel.pgtable import (
    PteUnmap,
    ReadPmd,
    ReadUpper,
    ScanTable,
    WriteEntry,
    pte_offset_map_nolock,
)
from ptactors.model import paging
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, Level, align_down, align_up


async def _clear_pmd(cpu: Cpu, pmd_table: int, va: int) -> int:
    """pmdp_get() and pmd_clear() under the pmd lock; hardware cannot change a pmd that points to a table but for its A bit."""
    return await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, align_down(va, PMD_SIZE), pmd_table, 0)


async def try_get_and_clear_pmd(cpu: Cpu, pmd_table: int, va: int) -> int:
    """The merged fast path, with the pte lock held: clear the pmd without looking at the table; 0 if the lock was contended.

    The pmd lock is outside the pte lock in lock order, so it may only be tried.
    """
    lock = pmd_lockptr(cpu.config, cpu.mm, pmd_table)
    if not cpu.config.kernel.reclaim_trylock:
        await SpinLock(cpu.id, lock)
    elif not await SpinTryLock(cpu.id, lock):
        return 0
    pmdval = await _clear_pmd(cpu, pmd_table, va)
    await SpinUnlock(cpu.id, lock)
    return pmdval


async def try_to_free_pte(tlb: Gather, pmd_table: int, va: int) -> None:
    """The merged slow path, without locks held: take both, look whether the table is empty, clear the pmd."""
    cpu = tlb.cpu
    pml = pmd_lockptr(cpu.config, cpu.mm, pmd_table)
    await SpinLock(cpu.id, pml)
    mapped = await pte_offset_map_nolock(cpu, pmd_table, va)
    if mapped is None:
        await SpinUnlock(cpu.id, pml)
        return
    split = mapped.lock != pml
    if split:
        await SpinLock(cpu.id, mapped.lock, True)
    empty = await _is_empty(cpu, mapped.table, va)
    pmdval = await _clear_pmd(cpu, pmd_table, va) if empty else 0
    if split:
        await SpinUnlock(cpu.id, mapped.lock)
    await PteUnmap(cpu.id, mapped.table)
    await SpinUnlock(cpu.id, pml)
    if pmdval:
        await free_pte(tlb, va, pmdval)


async def _is_empty(cpu: Cpu, table: int, va: int) -> bool:
    base = align_down(va, PMD_SIZE)
    return not cpu.config.kernel.reclaim_scan or not await ScanTable(cpu.id, cpu.mm, table, base, base + PMD_SIZE)


async def free_pte(tlb: Gather, va: int, pmdval: int) -> None:
    """pte_free_tlb() and mm_dec_nr_ptes(): the table goes to the gather."""
    await tlb.free_table(va, paging.pfn_of(pmdval), "pte")
    await AddPgtables(tlb.cpu.id, tlb.cpu.mm, -PAGE_SIZE)


def _filtered(vma: Vma, cpu: Cpu) -> bool:
    """The cover letter's filters: VMAs in which it does not look for empty tables."""
    kernel = cpu.config.kernel
    private_file = vma.kind == "file-private" and vma.write
    return (
        (kernel.filter_hugetlb and vma.kind == "hugetlb")
        or (kernel.filter_vm_hugepage and vma.huge == "hugepage")
        or (kernel.filter_uffd_wp and vma.uffd_wp)
        or (kernel.filter_private_file_write and private_file)
    )


async def try_to_reclaim_pgtables(tlb: Gather, vma: Vma, start: int, end: int) -> None:
    """The series' walk over every whole 2 MiB of the range."""
    cpu = tlb.cpu
    if _filtered(vma, cpu):
        return
    at, end = align_up(start, PMD_SIZE), align_down(end, PMD_SIZE)
    while at < end:
        upper = await ReadUpper(cpu.mm, at)
        if upper.pmd:
            await _reclaim_one(tlb, upper.pmd, at)
        at += PMD_SIZE


async def _reclaim_one(tlb: Gather, pmd_table: int, va: int) -> None:
    """reclaim_pgtables_pmd_entry(): one PTE page, if it is empty and still the one that was mapped."""
    cpu = tlb.cpu
    mapped = await pte_offset_map_nolock(cpu, pmd_table, va)
    if mapped is None:
        return
    pml = pmd_lockptr(cpu.config, cpu.mm, pmd_table)
    await SpinLock(cpu.id, pml)
    split = mapped.lock != pml
    if split:
        await SpinLock(cpu.id, mapped.lock, True)
    same = not cpu.config.kernel.reclaim_pmd_same or await ReadPmd(pmd_table, va) == mapped.pmdval
    take = same and await _is_empty(cpu, mapped.table, va)
    await PteUnmap(cpu.id, mapped.table)
    if take:
        await _clear_pmd(cpu, pmd_table, va)
    if split:
        await SpinUnlock(cpu.id, mapped.lock)
    await SpinUnlock(cpu.id, pml)
    if take:
        await free_pte(tlb, va, mapped.pmdval)
