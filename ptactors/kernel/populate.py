"""Prefaulting: MADV_POPULATE_READ and MADV_POPULATE_WRITE, and what mlock does to have its pages there.

The kernel walks the tables by itself (GUP slow) and faults in what it does not find, on behalf of the task: no access of the
program and no exception, so nothing enters any TLB; the faults count as the task's minor faults all the same.

Source: mm/gup.c (faultin_page_range, __get_user_pages, follow_page_mask, faultin_page, populate_vma_page_range, __mm_populate),
mm/madvise.c (madvise_populate), v6.10-6.18. Simplified: mmap_lock is never dropped in between, as no fault on anonymous memory
waits for input; signals do not end it; mappings that are not anonymous are walked, not faulted in.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.fault import SEGV, handle_mm_fault
from ptactors.kernel.lock import SpinUnlock
from ptactors.kernel.mm import FindVma, Vma, VmasOf
from ptactors.kernel.mmap_lock import MmapUnlock, take_mmap_lock
from ptactors.kernel.pgtable import ReadPmd, ReadPte, ReadUpper, pmd_lock, pte_offset_map_lock, pte_unmap_unlock
from ptactors.kernel.rcu import CondResched
from ptactors.model.event import FaultIn
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, PRESENT, WRITE, align_down, is_trans_huge
from ptactors.model.state import State
from ptactors.model.step import Footprint, Step

ENOMEM, EFAULT, EINVAL = 12, 14, 22


@attrs.frozen
class AccountFault(Step[None]):
    """mm_account_fault() without registers: a fault that the kernel made for the task is complete. Source: mm/memory.c."""

    cpu: int
    mm: str
    va: int
    write: bool
    label = "mm_account_fault"

    def apply(self, state: State) -> None:
        """Say so."""
        state.emit(FaultIn(self.cpu, self.mm, self.va, self.write))

    def touches(self, state: State) -> Footprint:
        """Nothing shared."""
        return (), ()


async def madvise_populate(cpu: Cpu, start: int, end: int, write: bool) -> int:
    """Prefault [start, end): 0, -ENOMEM at a hole, -EINVAL where the VMA forbids the access, -EFAULT where a fault fails.

    Entered with mmap_lock held for reading, and left with it. What lies before an error is populated.
    """
    at = start
    while at < end:
        vma = await FindVma(cpu.mm, at)
        if vma is None:
            return -ENOMEM
        if not (vma.write if write else vma.read):
            return -EINVAL
        until = min(vma.end, end)
        error = await get_user_pages(cpu, vma, at, until, write)
        if error:
            return error
        at = until
    return 0


async def mm_populate(cpu: Cpu, start: int, end: int) -> int:
    """__mm_populate() after mlock: fault in what is mapped in [start, end), writable private memory as if by writes.

    Entered without mmap_lock. Holes are skipped; the first error, -EFAULT for PROT_NONE, ends it.
    """
    await take_mmap_lock(cpu.id, cpu.mm, False)
    error = 0
    for vma in await VmasOf(cpu.mm, start, end):
        error = await populate_vma_page_range(cpu, vma, max(vma.start, start), min(vma.end, end))
        if error:
            break
    await MmapUnlock(cpu.id, cpu.mm, False)
    return error


async def populate_vma_page_range(cpu: Cpu, vma: Vma, start: int, end: int) -> int:
    """Break COW ahead where the program may write to memory of its own; with FOLL_FORCE any permission but none will do."""
    if not vma.accessible:
        return -EFAULT
    shared = vma.kind.endswith("shared") or vma.kind == "memfd"
    return await get_user_pages(cpu, vma, start, end, vma.write and not shared)


async def get_user_pages(cpu: Cpu, vma: Vma, start: int, end: int, write: bool) -> int:
    """__get_user_pages() that keeps no page: look each page up, fault it in until it is found; 0 or -EFAULT."""
    at = start
    while at < end:
        await CondResched(cpu.id)
        size = await follow_page(cpu, at, write)
        if size:
            at = align_down(at, size) + size
        elif not await faultin_page(cpu, vma, at, write):
            return -EFAULT
    return 0


async def follow_page(cpu: Cpu, va: int, write: bool) -> int:
    """follow_page_mask(): the bytes that the entry for ``va`` maps, if it allows the access; else 0."""
    wanted = PRESENT | WRITE if write else PRESENT
    upper = await ReadUpper(cpu.mm, va)
    if not upper.pmd:
        return 0
    pmd = await ReadPmd(upper.pmd, va)
    if not pmd:
        return 0
    if is_trans_huge(pmd):
        lock = await pmd_lock(cpu, upper.pmd)
        pmd = await ReadPmd(upper.pmd, va)
        await SpinUnlock(cpu.id, lock)
        if is_trans_huge(pmd):
            return PMD_SIZE if pmd & wanted == wanted else 0
        # It was split meanwhile, or zapped, which the next look at it finds out.
    mapped = await pte_offset_map_lock(cpu, upper.pmd, va)
    if mapped is None:
        return 0
    pte = await ReadPte(cpu.id, cpu.mm, mapped.table, va)
    await pte_unmap_unlock(cpu, mapped)
    return PAGE_SIZE if pte & wanted == wanted else 0


async def faultin_page(cpu: Cpu, vma: Vma, va: int, write: bool) -> bool:
    """One fault under mmap_lock; false if the access cannot be made."""
    if await handle_mm_fault(cpu, vma, va, write) == SEGV:
        return False
    await AccountFault(cpu.id, cpu.mm, va, write)
    return True
