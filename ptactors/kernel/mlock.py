"""mlock and munlock: VM_LOCKED, VMA by VMA, and then the pages.

Source: mm/mlock.c (do_mlock, apply_vma_lock_flags, mlock_fixup), v6.1-6.18. Simplified: no limit on locked memory; that
each page knows that it is locked, and the list of unevictable pages, are left out, since nothing is reclaimed here.
"""

from __future__ import annotations

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.mm import Vma
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndWriteAll, take_mmap_lock
from ptactors.kernel.populate import mm_populate
from ptactors.kernel.vma import Tree, set_flags, vma_modify

EAGAIN, ENOMEM, EFAULT = 11, 12, 14


async def mlock(cpu: Cpu, start: int, end: int) -> int:
    """mlock(start, end - start): 0; -ENOMEM at a hole, with the VMAs locked up to there, or at pages that may not be accessed."""
    error = await apply_vma_lock_flags(cpu, start, end, True)
    if error:
        return error
    error = await mm_populate(cpu, start, end)
    # __mlock_posix_error_return()
    return {-EFAULT: -ENOMEM, -ENOMEM: -EAGAIN}.get(error, error)


async def munlock(cpu: Cpu, start: int, end: int) -> int:
    """munlock(start, end - start): 0, or -ENOMEM at a hole."""
    return await apply_vma_lock_flags(cpu, start, end, False)


async def apply_vma_lock_flags(cpu: Cpu, start: int, end: int, locked: bool) -> int:
    """Set or clear VM_LOCKED from ``start`` on until the range ends or a hole comes, under mmap_lock for writing."""
    await take_mmap_lock(cpu.id, cpu.mm, True)
    tree = await Tree.read(cpu)
    error, at = 0, start
    while at < end and not error:
        vma = tree.find(at)
        if vma is None or at < vma.start:
            error = -ENOMEM
            break
        until = min(vma.end, end)
        done = await mlock_fixup(tree, vma, at, until, locked)
        if isinstance(done, int):
            error = done
        else:
            at = max(until, done.end)
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapUnlock(cpu.id, cpu.mm, True)
    return error


async def mlock_fixup(tree: Tree, vma: Vma, start: int, end: int, locked: bool) -> Vma | int:
    """One VMA's part of the range; hugetlb is never marked, its pages cannot be evicted anyway."""
    if vma.locked == locked or vma.kind == "hugetlb":
        return vma
    wanted = vma._replace(locked=locked)
    found = await vma_modify(tree, vma, start, end, wanted)
    if isinstance(found, int):
        return found
    return await set_flags(tree, found, wanted)
