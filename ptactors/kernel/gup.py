"""Walkers that take no page table lock: GUP-fast with interrupts off, and a reader of PTEs under rcu_read_lock.

Source: mm/gup.c (gup_fast, gup_fast_pmd_range, gup_fast_pte_range), mm/pgtable-generic.c, v6.10-6.14. Simplified: FOLL_FAST_ONLY
with FOLL_PIN, without the write_protect_seq check against fork.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.hardware.interrupt import IrqRestore, IrqSave
from ptactors.hardware.memory import PutFrames, data, frame, get_frame, head
from ptactors.kernel.mm import FindVma
from ptactors.kernel.mmap_lock import MmapUnlock, take_mmap_lock
from ptactors.kernel.pgtable import MapPte, PteUnmap, ReadPmd, ReadPte, ReadUpper, pte_offset_map_nolock
from ptactors.kernel.rcu import RcuReadLock, RcuReadUnlock
from ptactors.model import paging
from ptactors.model.event import GupPin
from ptactors.model.paging import HUGE, PRESENT, SPECIAL, Level, is_table
from ptactors.model.state import State
from ptactors.model.step import Footprint, Step

NOTHING = "none"
"""What a lockless walker reports where it finds no page."""


@attrs.frozen
class TryGrab(Step[bool]):
    """try_grab_folio_fast(): take a reference unless the page is being freed (its count is zero)."""

    cpu: int
    pfn: int
    label = "try_grab_folio"

    def apply(self, state: State) -> bool:
        """Take it."""
        was = state.read(frame(head(self.pfn)))
        if was.refs == 0 and was.kind != "zero":
            return False
        get_frame(state, self.cpu, self.pfn, "gup")
        return True

    def touches(self, state: State) -> Footprint:
        """The frame."""
        return (frame(head(self.pfn)),), (frame(head(self.pfn)),)


@attrs.frozen
class Pinned(Step[int | str]):
    """The caller has its page, and reads it through the kernel's own mapping."""

    cpu: int
    mm: str
    va: int
    pfn: int
    label = "gup_pin"

    def apply(self, state: State) -> int | str:
        """Say so, and read."""
        state.emit(GupPin(self.cpu, self.mm, self.va, self.pfn, state.read(frame(head(self.pfn))).gen))
        return state.read(data(self.pfn)).value

    def touches(self, state: State) -> Footprint:
        """The page."""
        return (frame(head(self.pfn)), data(self.pfn)), ()


async def get_user_page_fast(cpu: Cpu, va: int) -> int | str:
    """Pin the page at ``va`` without locks, read it, unpin it; "none" where only the slow path could go on.

    Interrupts are off during the walk: a flush or a sync by interrupt cannot finish meanwhile, nor can a grace period. pmd and
    pte are read again once the reference is held, since either may have changed.
    """
    await IrqSave(cpu.id)
    pfn = await _walk(cpu, va)
    value: int | str = NOTHING if pfn is None else await Pinned(cpu.id, cpu.mm, va, pfn)
    await IrqRestore(cpu.id)
    if pfn is not None:
        await PutFrames(cpu.id, (pfn,), "unpin")
    return value


async def _walk(cpu: Cpu, va: int) -> int | None:
    """gup_fast_pgd_range() and below: the pfn that is now pinned, or None."""
    upper = await ReadUpper(cpu.mm, va)
    if not upper.pmd:
        return None
    await RcuReadLock(cpu.id)
    pmdval = await MapPte(cpu.id, cpu.mm, upper.pmd, va)
    if not is_table(pmdval):
        await RcuReadUnlock(cpu.id)
        return await _grab_huge(cpu, va, upper.pmd, pmdval) if pmdval & HUGE and pmdval & PRESENT else None
    table = paging.pfn_of(pmdval)
    pte = await ReadPte(cpu.id, cpu.mm, table, va)
    pfn = await _grab(cpu, va, upper.pmd, pmdval, table, pte) if pte & PRESENT and not pte & SPECIAL else None
    await PteUnmap(cpu.id, table)
    return pfn


async def _grab(cpu: Cpu, va: int, pmd_table: int, pmdval: int, table: int, pte: int) -> int | None:
    pfn = paging.pfn_of(pte)
    if not await TryGrab(cpu.id, pfn):
        return None
    if cpu.config.kernel.gup_recheck and (
        await ReadPmd(pmd_table, va) != pmdval or await ReadPte(cpu.id, cpu.mm, table, va) != pte
    ):
        await PutFrames(cpu.id, (pfn,), "gup back out")
        return None
    return pfn


async def _grab_huge(cpu: Cpu, va: int, pmd_table: int, pmdval: int) -> int | None:
    pfn = paging.pfn_of(pmdval) + paging.index(va, Level.PTE)
    if not await TryGrab(cpu.id, pfn):
        return None
    if cpu.config.kernel.gup_recheck and await ReadPmd(pmd_table, va) != pmdval:
        await PutFrames(cpu.id, (pfn,), "gup back out")
        return None
    return pfn


async def walk_pte(cpu: Cpu, va: int, times: int) -> str:
    """Read one PTE ``times`` times in one pte_offset_map() section, interrupts on; "present" or "none" as last seen.

    mmap_lock is held for reading, as walkers of user memory must: it keeps munmap away, but not a madvise that frees the table.
    """
    await take_mmap_lock(cpu.id, cpu.mm, False)
    seen = await _walk_pte(cpu, va, times) if await FindVma(cpu.mm, va) is not None else NOTHING
    await MmapUnlock(cpu.id, cpu.mm, False)
    return seen


async def _walk_pte(cpu: Cpu, va: int, times: int) -> str:
    upper = await ReadUpper(cpu.mm, va)
    mapped = await pte_offset_map_nolock(cpu, upper.pmd, va) if upper.pmd else None
    if mapped is None:
        return NOTHING
    pte = 0
    for _ in range(times):
        pte = await ReadPte(cpu.id, cpu.mm, mapped.table, va)
    await PteUnmap(cpu.id, mapped.table)
    return "present" if pte & PRESENT else NOTHING
