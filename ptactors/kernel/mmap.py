"""mmap of private anonymous memory at a fixed address.

Source: mm/mmap.c (do_mmap), mm/vma.c (__mmap_prepare, __mmap_new_vma, __mmap_complete), v6.14-6.17; all in __mmap_region() of
mm/mmap.c in v6.12. Simplified: up to v6.11 what is replaced leaves the VMA tree before its pages go, which nobody can see, as
mmap_lock is held for writing all along; no limits and no accounting of memory can make it fail; nothing is populated.
"""

from __future__ import annotations

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.mm import Vma
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndWriteAll, take_mmap_lock
from ptactors.kernel.unmap import clear_ptes, gather_munmap_vmas
from ptactors.kernel.vma import AllocVma, Tree, merge_new_range

PROTS = {"rw": (True, True), "ro": (True, False), "none": (False, False)}
"""Protection -> (PROT_READ, PROT_WRITE)."""


async def mmap(cpu: Cpu, start: int, end: int, prot: str) -> int:
    """mmap(start, end - start, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0): 0 for the address asked for, or -errno.

    What was mapped there goes; a neighbour of the same kind grows over the range instead of a new VMA.
    """
    await take_mmap_lock(cpu.id, cpu.mm, True)
    tree = await Tree.read(cpu)
    error = await gather_munmap_vmas(tree, start, end)
    if not error:
        gone = tree.inside(start, end)
        if gone:
            await clear_ptes(tree, gone, start, end)
            await tree.store(tuple(vma.name for vma in gone))
        await _mmap_region(tree, start, end, prot)
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapUnlock(cpu.id, cpu.mm, True)
    return error


async def _mmap_region(tree: Tree, start: int, end: int, prot: str) -> None:
    """Merge the range into a neighbour, or make a VMA of it; accountable_mapping() says what VM_ACCOUNT is for."""
    read, write = PROTS[prot]
    new = Vma("", start, end, "anon", write, "none", False, False, read, write)
    if await merge_new_range(tree, new) is None:
        made = new._replace(name=await AllocVma(tree.cpu.mm, start))
        await tree.write_lock(made)
        await tree.store((), made)
