"""madvise and process_madvise: which lock an advice needs, the walk over VMAs, and the advices themselves.

Source: mm/madvise.c (do_madvise, vector_madvise, madvise_walk_vmas, try_vma_read_lock, madvise_dontneed_free,
madvise_update_vma), mm/khugepaged.c (hugepage_madvise), v6.1-6.18. Simplified: khugepaged is not told of
VM_HUGEPAGE; process_madvise has one range and means the caller's own process.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.collapse import madvise_collapse
from ptactors.kernel.gather import Gather
from ptactors.kernel.mm import Vma, VmasOf, lock_vma_under_rcu
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndRead, VmaEndWriteAll, take_mmap_lock
from ptactors.kernel.populate import madvise_populate
from ptactors.kernel.vma import EINVAL, Tree, set_flags, vma_modify
from ptactors.kernel.zap import zap_page_range_single, zap_page_range_single_batched
from ptactors.model.paging import PMD_SIZE, align_down

ENOMEM = 12
DISCARD = ("DONTNEED", "DONTNEED_LOCKED")
FLAGS = {"HUGEPAGE": "hugepage", "NOHUGEPAGE": "nohugepage"}
"""Advices that set flags of VMAs, with what ``Vma.huge`` gets."""
POPULATE = ("POPULATE_READ", "POPULATE_WRITE")
REMOTE = ("COLLAPSE",)
"""Of the advices that the model knows, those that process_madvise allows for other processes, up to v6.12 for its own too."""


@attrs.define(eq=False)
class Behavior:
    """struct madvise_behavior: one call's advice and what is shared by its VMAs."""

    cpu: Cpu
    advice: str
    tlb: Gather | None = None
    """The gather of the whole call, where there is one."""


async def madvise(cpu: Cpu, start: int, end: int, advice: str) -> int:
    """do_madvise(): 0; -ENOMEM if the range has holes, after all else is done; -EINVAL at a VMA that does not allow it."""
    if advice in FLAGS:
        return await _under_write_lock(cpu, start, end, advice)
    behavior = Behavior(cpu, advice)
    if advice in DISCARD:
        return await _madvise_discard(behavior, start, end)
    await take_mmap_lock(cpu.id, cpu.mm, False)
    if advice in POPULATE and not cpu.config.kernel.populate_walks_vmas:
        result = await madvise_populate(cpu, start, end, advice == "POPULATE_WRITE")
    else:
        result = await madvise_walk_vmas(behavior, start, end)
    await MmapUnlock(cpu.id, cpu.mm, False)
    return result


async def process_madvise(cpu: Cpu, start: int, end: int, advice: str) -> int:
    """process_madvise() of one range on the caller: how many bytes were advised, or -errno."""
    if advice not in REMOTE and not cpu.config.kernel.process_madvise_self:
        return -EINVAL
    return await madvise(cpu, start, end, advice) or end - start


async def _madvise_discard(behavior: Behavior, start: int, end: int) -> int:
    """madvise_lock(), madvise_init_tlb(), the walk, madvise_finish_tlb(), madvise_unlock() for MADV_DONTNEED."""
    cpu = behavior.cpu
    kernel = cpu.config.kernel
    own_lock = kernel.madvise_vma_lock and kernel.per_vma_lock  # without the latter lock_vma_under_rcu() finds nothing
    if not own_lock:
        await take_mmap_lock(cpu.id, cpu.mm, False)
    if kernel.madvise_batch:
        behavior.tlb = Gather(cpu)
        await behavior.tlb.begin()
    vma = await try_vma_read_lock(cpu, start, end) if own_lock else None
    if vma is not None:
        result = await madvise_vma_behavior(behavior, vma, start, end)
        await VmaEndRead(cpu.id, vma.name)
    else:
        result = await madvise_walk_vmas(behavior, start, end)
    if behavior.tlb is not None:
        await behavior.tlb.finish()
    if vma is None:
        await MmapUnlock(cpu.id, cpu.mm, False)
    return result


async def try_vma_read_lock(cpu: Cpu, start: int, end: int) -> Vma | None:
    """The VMA's own lock if one VMA holds the range and no userfaultfd is told; None with mmap_lock held for reading instead."""
    vma = await lock_vma_under_rcu(cpu, start)
    if vma is not None and end <= vma.end and not vma.uffd_wp:
        return vma
    if vma is not None:
        await VmaEndRead(cpu.id, vma.name)
    await take_mmap_lock(cpu.id, cpu.mm, False)
    return None


async def madvise_walk_vmas(behavior: Behavior, start: int, end: int) -> int:
    """Every VMA in the range, under mmap_lock for reading; holes are passed over and remembered, an error ends it."""
    cpu = behavior.cpu
    found = await VmasOf(cpu.mm, start, end)
    at, unmapped = start, 0
    while at < end:
        if not found:
            return -ENOMEM
        vma, found = found[0], found[1:]
        if at < vma.start:
            at, unmapped = vma.start, -ENOMEM
        until = min(vma.end, end)
        error = await madvise_vma_behavior(behavior, vma, at, until)
        if error:
            return error
        at = until
        if behavior.advice == "COLLAPSE" and at < end:
            # mmap_lock was dropped: nothing is known of the VMAs any more.
            found = await VmasOf(cpu.mm, at, end)
    return unmapped


async def madvise_vma_behavior(behavior: Behavior, vma: Vma, start: int, end: int) -> int:
    """The advice for [start, end), which ``vma`` holds; 0 or -errno."""
    if behavior.advice in POPULATE:
        return await madvise_populate(behavior.cpu, start, end, behavior.advice == "POPULATE_WRITE")
    if behavior.advice == "COLLAPSE":
        return await madvise_collapse(behavior.cpu, vma, start, end)
    return await madvise_dontneed_single_vma(behavior, vma, start, end)


async def madvise_dontneed_single_vma(behavior: Behavior, vma: Vma, start: int, end: int) -> int:
    """madvise_dontneed_free(): locked memory only by its own advice; hugetlb by whole pages, the last part of one left alone."""
    if vma.kind == "hugetlb":
        if start % PMD_SIZE:
            return -EINVAL
        end = align_down(end, PMD_SIZE)
        if start == end:
            return 0
    elif vma.locked and behavior.advice == "DONTNEED":
        return -EINVAL
    if behavior.tlb is None:
        await zap_page_range_single(behavior.cpu, vma, start, end)
        return 0
    await zap_page_range_single_batched(behavior.tlb, vma, start, end)
    if vma.kind == "hugetlb":
        # hugetlb gives its own locks back after the flush, so that its pages are out by then.
        await behavior.tlb.finish()
        behavior.tlb = Gather(behavior.cpu)
        await behavior.tlb.begin()
    return 0


async def _under_write_lock(cpu: Cpu, start: int, end: int, advice: str) -> int:
    """madvise_walk_vmas() for the advices that change VMAs, under mmap_lock for writing."""
    await take_mmap_lock(cpu.id, cpu.mm, True)
    result = await _update_vmas(await Tree.read(cpu), start, end, advice)
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapUnlock(cpu.id, cpu.mm, True)
    return result


async def _update_vmas(tree: Tree, start: int, end: int, advice: str) -> int:
    at, unmapped = start, 0
    while at < end:
        vma = tree.find(at)
        if vma is None:
            return -ENOMEM
        if at < vma.start:
            at, unmapped = vma.start, -ENOMEM
            if at >= end:
                break
        now = await hugepage_madvise(tree, vma, at, min(vma.end, end), advice)
        if isinstance(now, int):
            return now
        at = now.end
    return unmapped


async def hugepage_madvise(tree: Tree, vma: Vma, start: int, end: int, advice: str) -> Vma | int:
    """VM_HUGEPAGE or VM_NOHUGEPAGE, and madvise_update_vma(): the VMA that holds the range then, or -errno."""
    wanted = vma._replace(huge=FLAGS[advice])
    if wanted == vma:
        return vma
    found = await vma_modify(tree, vma, start, end, wanted)
    return found if isinstance(found, int) else await set_flags(tree, found, wanted)
