"""MADV_COLLAPSE of anonymous memory: small pages are copied into a huge one, and their table becomes its deposit.

Nobody may write to the small pages while they are copied: the pmd is cleared and flushed under the pmd lock, which stops
programs; mmap_lock for writing and the VMA's lock keep faults out, so that nobody puts anything into the hole; and an interrupt
to every CPU waits for those who walk with interrupts off (GUP-fast). Only then are the pages' references counted and their
contents copied. What fails up to there is undone by linking the old table again.

Source: mm/khugepaged.c, v6.1-6.18: madvise_collapse, hpage_collapse_scan_pmd, collapse_huge_page and their helpers. Simplified:
a look at all 512 entries is one step, so is the copy, so is the clearing, each under the lock that Linux holds (it takes the pte
lock anew for every entry that it clears, and puts the page at once; v6.1 maps the table before it clears the pmd, without RCU,
and copies, clears and puts page by page: nobody else can see these entries or get these pages by then); page locks, the
anon_vma lock and mmu notifiers are left out, since nobody else here takes them; so are the LRU and its per-CPU batches, which
hold a reference to a page that was just faulted in (they are drained once, as the call begins), so that -EAGAIN for a page that
another CPU faults in meanwhile is not seen; what is not present is not swapped in but makes the attempt fail; allocation never
fails; mappings that are not anonymous are refused.
"""

from __future__ import annotations

import enum
from collections import Counter

import attrs

from ptactors.config import TableFree
from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import ZERO_PFN, AllocFrame, PutFrames, data, entry, frame, head, occupied_slots
from ptactors.kernel.gather import tlb_remove_table_sync_one
from ptactors.kernel.lock import SpinLock, SpinUnlock, pmd_lockptr, pte_lockptr
from ptactors.kernel.mm import AddRss, FindVma, HasAnonVma, Vma
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndWriteAll, take_mmap_lock, vma_start_write
from ptactors.kernel.pgtable import (
    ReadPmd,
    ReadUpper,
    WriteEntry,
    maybe_mkwrite,
    pmd_lock,
    pte_offset_map_lock,
    pte_unmap_unlock,
    vm_page_prot,
)
from ptactors.kernel.rcu import CondResched, RcuReadLock, RcuReadUnlock
from ptactors.kernel.thp import deposits
from ptactors.kernel.tlbflush import flush_tlb_range
from ptactors.model import paging
from ptactors.model.event import CollapseCopy, EntryWrite, TableDeposit, TableRead
from ptactors.model.paging import (
    DIRTY,
    HPAGE_PMD_ORDER,
    HUGE,
    PAGE_SIZE,
    PMD_SHIFT,
    PMD_SIZE,
    TABLE_FLAGS,
    UFFD_WP,
    WRITE,
    Level,
    align_down,
    align_up,
    is_present,
    is_table,
    is_trans_huge,
)
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Footprint, Step

EAGAIN, EBUSY, EINVAL = 11, 16, 22


class Scan(enum.Enum):
    """enum scan_result: how an attempt at one 2 MiB ended."""

    FAIL = "fail"
    SUCCEED = "succeed"
    PMD_NULL = "pmd null"
    PMD_NONE = "pmd none"
    PMD_MAPPED = "pmd mapped"
    EXCEED_NONE_PTE = "exceed none pte"
    PTE_NON_PRESENT = "pte non-present"
    PTE_UFFD_WP = "pte uffd-wp"
    PAGE_RO = "page ro"
    PAGE_COUNT = "page count"
    VMA_NULL = "vma null"
    ADDRESS_RANGE = "address range"
    VMA_CHECK = "vma check"


GO_ON = (Scan.PMD_NULL, Scan.PTE_NON_PRESENT, Scan.PTE_UFFD_WP, Scan.PAGE_RO, Scan.PAGE_COUNT)
"""Failures after which madvise_collapse() tries the next 2 MiB; any other ends it."""


def madvise_collapse_errno(result: Scan) -> int:
    """What the system call says of the last failure."""
    if result is Scan.PAGE_COUNT:
        return -EAGAIN
    return -EBUSY if result is Scan.EXCEED_NONE_PTE else -EINVAL


async def madvise_collapse(cpu: Cpu, vma: Vma, start: int, end: int) -> int:
    """Collapse every whole 2 MiB of [start, end), which lies in ``vma``: 0 if each is huge in the end, else -errno.

    Entered with mmap_lock held for reading and left with it, but it was dropped in between: the caller looks VMAs up again.
    -EINVAL where nothing is mapped or the VMA is unsuitable, -EAGAIN where somebody holds a page, -EBUSY for missing pages under
    userfaultfd.
    """
    if not await _thp_vma_allowable(vma):
        return -EINVAL
    hstart, hend = align_up(start, PMD_SIZE), align_down(end, PMD_SIZE)
    thps, last_fail, locked = 0, Scan.FAIL, True
    for va in range(hstart, hend, PMD_SIZE):
        if va >= hend:
            break
        if not locked:
            await CondResched(cpu.id)
            await take_mmap_lock(cpu.id, cpu.mm, False)
            locked = True
            result, found = await hugepage_vma_revalidate(cpu, va)
            if found is None:
                last_fail = result
                break
            vma, hend = found, min(hend, align_down(found.end, PMD_SIZE))
        result, locked = await hpage_collapse_scan_pmd(cpu, vma, va)
        if result in (Scan.SUCCEED, Scan.PMD_MAPPED):
            thps += 1
            continue
        last_fail = result
        if result not in GO_ON:
            break
    if not locked:
        await take_mmap_lock(cpu.id, cpu.mm, False)
    return 0 if thps == hend - hstart >> PMD_SHIFT else madvise_collapse_errno(last_fail)


def _suitable(vma: Vma, va: int) -> bool:
    """thp_vma_suitable_order(): the whole 2 MiB around ``va`` lie in the VMA."""
    base = align_down(va, PMD_SIZE)
    return vma.start <= base and base + PMD_SIZE <= vma.end


async def _thp_vma_allowable(vma: Vma) -> bool:
    """thp_vma_allowable_order() without TVA_ENFORCE_SYSFS: ``enabled`` does not count, VM_NOHUGEPAGE does."""
    if not vma.anon or vma.huge == "nohugepage" or not _suitable(vma, vma.end - PMD_SIZE):
        return False
    return await HasAnonVma(vma.name)


async def hugepage_vma_revalidate(cpu: Cpu, va: int) -> tuple[Scan, Vma | None]:
    """The VMA of ``va`` after mmap_lock was dropped and taken again, if it still will do; else why not."""
    vma = await FindVma(cpu.mm, va)
    if vma is None:
        return Scan.VMA_NULL, None
    if not _suitable(vma, va):
        return Scan.ADDRESS_RANGE, None
    if not await _thp_vma_allowable(vma):
        return Scan.VMA_CHECK, None
    return Scan.SUCCEED, vma


async def find_pmd_or_thp_or_none(cpu: Cpu, va: int) -> tuple[Scan, int]:
    """Whether the pmd of ``va`` points to a table, and the PMD page that it stands in (0 for none)."""
    pmd_table = (await ReadUpper(cpu.mm, va)).pmd
    if not pmd_table:
        return Scan.PMD_NULL, 0
    pmd = await ReadPmd(pmd_table, va)
    if not pmd:
        return Scan.PMD_NONE, pmd_table
    return Scan.PMD_MAPPED if is_trans_huge(pmd) else Scan.SUCCEED, pmd_table


async def hpage_collapse_scan_pmd(cpu: Cpu, vma: Vma, va: int) -> tuple[Scan, bool]:
    """Look whether the 2 MiB at ``va`` can be collapsed, and do it; also says whether mmap_lock is still held.

    max_ptes_none and its kin bind khugepaged only.
    """
    result, pmd_table = await find_pmd_or_thp_or_none(cpu, va)
    if result is not Scan.SUCCEED:
        return result, True
    mapped = await pte_offset_map_lock(cpu, pmd_table, va)
    if mapped is None:
        return Scan.PMD_NULL, True
    result, _ = await ScanPages(cpu.id, cpu.mm, va, mapped.table, vma.uffd_wp)
    await pte_unmap_unlock(cpu, mapped)
    if result is not Scan.SUCCEED:
        return result, True
    return await collapse_huge_page(cpu, va), False


@attrs.frozen
class ScanPages(Step[tuple[Scan, int]]):
    """The loop of hpage_collapse_scan_pmd() or __collapse_huge_page_isolate() under the pte lock.

    The result is the verdict, that of the first entry that has something against it, and how many pages are missing, that is,
    none or the zero page. is_refcount_suitable(), since v6.16 folio_expected_ref_count(): a page with more references than
    mappings is in use by somebody, say GUP, who may write to it later.
    """

    cpu: int
    mm: str
    va: int
    table: int
    armed: bool
    label = "collapse_scan"

    def apply(self, state: State) -> tuple[Scan, int]:
        """Look at every entry."""
        state.emit(TableRead(self.cpu, self.mm, self.va, self.table, state.read(frame(self.table)).gen, 0, -1))
        found = [(slot, state.read(entry(self.table, slot))) for slot in occupied_slots(state, self.table)]
        mapcount = Counter(head(paging.pfn_of(value)) for _, value in found if is_present(value))
        pages, writable = 0, False
        for at, (slot, value) in enumerate(found):
            if self.armed and slot != at:  # there is an empty entry before this one
                return Scan.EXCEED_NONE_PTE, 0
            verdict = self._look(state, value, mapcount)
            if verdict is not Scan.SUCCEED:
                return verdict, 0
            pages += paging.pfn_of(value) != ZERO_PFN
            writable = writable or bool(value & WRITE)
        missing = paging.PTRS_PER_TABLE - pages
        if self.armed and missing:
            return Scan.EXCEED_NONE_PTE, 0
        if not writable and state.config.kernel.collapse_needs_writable:
            return Scan.PAGE_RO, 0
        return Scan.SUCCEED, missing

    def _look(self, state: State, value: int, mapcount: Counter[int]) -> Scan:
        """What one entry that is not none has against it."""
        if not is_present(value):
            return Scan.PTE_NON_PRESENT
        if paging.pfn_of(value) == ZERO_PFN:
            return Scan.EXCEED_NONE_PTE if self.armed else Scan.SUCCEED
        if value & UFFD_WP:
            return Scan.PTE_UFFD_WP
        page = head(paging.pfn_of(value))
        return Scan.SUCCEED if state.read(frame(page)).refs == mapcount[page] else Scan.PAGE_COUNT

    def touches(self, state: State) -> Footprint:
        """The table and the frames that it maps."""
        frames: tuple[Key, ...] = tuple(frame(head(paging.pfn_of(value))) for value in _entries(state, self.table))
        return (("entry", self.table, ANY), frame(self.table), *frames), ()


def _entries(state: State, table: int) -> list[int]:
    return [state.read(entry(table, slot)) for slot in occupied_slots(state, table)]


async def collapse_huge_page(cpu: Cpu, va: int) -> Scan:
    """Entered with mmap_lock held for reading, left without it: allocation may take long, so it is dropped for that."""
    await MmapUnlock(cpu.id, cpu.mm, False)
    pfn = await AllocFrame(cpu.id, "anon", HPAGE_PMD_ORDER, cpu.mm)
    await take_mmap_lock(cpu.id, cpu.mm, False)
    result, vma = await hugepage_vma_revalidate(cpu, va)
    pmd_table = 0
    if vma is not None:
        result, pmd_table = await find_pmd_or_thp_or_none(cpu, va)
    await MmapUnlock(cpu.id, cpu.mm, False)
    if result is Scan.SUCCEED:
        await take_mmap_lock(cpu.id, cpu.mm, True)
        result = await _collapse_locked(cpu, va, pmd_table, pfn)
        await VmaEndWriteAll(cpu.id, cpu.mm)
        await MmapUnlock(cpu.id, cpu.mm, True)
    if result is not Scan.SUCCEED:
        await PutFrames(cpu.id, (pfn,), "not used")
    return result


async def _collapse_locked(cpu: Cpu, va: int, pmd_table: int, pfn: int) -> Scan:
    """The part of collapse_huge_page() under mmap_lock for writing."""
    kernel = cpu.config.kernel
    result, vma = await hugepage_vma_revalidate(cpu, va)
    if vma is None:
        return result
    if not kernel.collapse_lock_then_check:
        result = await check_pmd_still_valid(cpu, va, pmd_table)
    if result is Scan.SUCCEED and kernel.per_vma_lock:
        await vma_start_write(cpu.id, cpu.mm, vma.name)
    if kernel.collapse_lock_then_check:
        result = await check_pmd_still_valid(cpu, va, pmd_table)
    if result is not Scan.SUCCEED:
        return result
    lock = await pmd_lock(cpu, pmd_table)
    old = await pmdp_collapse_flush(cpu, va, pmd_table)
    await SpinUnlock(cpu.id, lock)
    if kernel.collapse_sync_ipi and kernel.table_free is not TableFree.PAGE_BATCH:
        await tlb_remove_table_sync_one(cpu)
    result = await _move_pages(cpu, vma, va, old, pfn) if is_table(old) else Scan.PMD_NULL
    if result is not Scan.SUCCEED:
        await _restore(cpu, va, pmd_table, old)
        return result
    await _install(cpu, vma, va, pmd_table, paging.pfn_of(old), pfn)
    return Scan.SUCCEED


async def check_pmd_still_valid(cpu: Cpu, va: int, pmd_table: int) -> Scan:
    """The pmd must still stand in the same PMD page and point to a table, be it another one."""
    result, now = await find_pmd_or_thp_or_none(cpu, va)
    return Scan.FAIL if result is Scan.SUCCEED and now != pmd_table else result


async def pmdp_collapse_flush(cpu: Cpu, va: int, pmd_table: int) -> int:
    """Clear the pmd and make every CPU forget the 2 MiB, upper levels too, under the pmd lock; what the pmd was."""
    old = await WriteEntry("pmd_collapse", cpu.id, cpu.mm, Level.PMD, va, pmd_table, 0)
    if cpu.config.kernel.collapse_flush:
        await flush_tlb_range(cpu, va, va + PMD_SIZE, "pmdp_collapse_flush")
    return old


async def _move_pages(cpu: Cpu, vma: Vma, va: int, pmdval: int, pfn: int) -> Scan:
    """__collapse_huge_page_isolate(), then __collapse_huge_page_copy(): judge the pages once more, copy, clear, free.

    The table hangs nowhere, so its lock and the RCU section are taken for form's sake.
    """
    table = paging.pfn_of(pmdval)
    lock = pte_lockptr(cpu.config, cpu.mm, table)
    await RcuReadLock(cpu.id)
    await SpinLock(cpu.id, lock)
    result, missing = await ScanPages(cpu.id, cpu.mm, va, table, vma.uffd_wp)
    await SpinUnlock(cpu.id, lock)
    if result is Scan.SUCCEED:
        await CopyPages(cpu.id, cpu.mm, va, table, pfn)
        await SpinLock(cpu.id, lock)
        old_pages = await ClearEntries(cpu.id, cpu.mm, va, table)
        await SpinUnlock(cpu.id, lock)
        if missing:
            await AddRss(cpu.id, cpu.mm, (("anon", missing),))
        if old_pages:
            await PutFrames(cpu.id, old_pages, "collapse")
    await RcuReadUnlock(cpu.id)
    return result


@attrs.frozen
class CopyPages(Step[None]):
    """copy_mc_user_highpage() and clear_user_highpage() of 512 pages: a missing one stays as zero as it was allocated."""

    cpu: int
    mm: str
    va: int
    table: int
    pfn: int
    label = "collapse_copy"

    def _pairs(self, state: State) -> list[tuple[int, int]]:
        """(from, to) of each page that there is."""
        slots = [(slot, state.read(entry(self.table, slot))) for slot in occupied_slots(state, self.table)]
        return [(paging.pfn_of(value), self.pfn + slot) for slot, value in slots if paging.pfn_of(value) != ZERO_PFN]

    def apply(self, state: State) -> None:
        """Copy them."""
        pairs = self._pairs(state)
        for source, target in pairs:
            state.write(data(target), state.read(data(source)))
        state.emit(CollapseCopy(self.cpu, self.mm, self.va, self.table, self.pfn, len(pairs)))

    def touches(self, state: State) -> Footprint:
        """The table, and the content on both sides."""
        pairs = self._pairs(state)
        return (("entry", self.table, ANY), *(data(a) for a, _ in pairs)), tuple(data(b) for _, b in pairs)


@attrs.frozen
class ClearEntries(Step[tuple[int, ...]]):
    """__collapse_huge_page_copy_succeeded(): ptep_clear() of every entry; the pages that they mapped, in order."""

    cpu: int
    mm: str
    va: int
    table: int
    label = "collapse_clear"

    def apply(self, state: State) -> tuple[int, ...]:
        """Clear them."""
        gen = state.read(frame(self.table)).gen
        pages = []
        for slot in occupied_slots(state, self.table):
            old = state.read(entry(self.table, slot))
            state.write(entry(self.table, slot), 0)
            va = self.va + slot * PAGE_SIZE
            state.emit(EntryWrite("pte_clear", self.cpu, self.mm, int(Level.PTE), va, self.table, gen, slot, old, 0))
            if paging.pfn_of(old) != ZERO_PFN:
                pages.append(paging.pfn_of(old))
        return tuple(pages)

    def touches(self, state: State) -> Footprint:
        """The table."""
        return (("entry", self.table, ANY), frame(self.table)), (("entry", self.table, ANY),)


@attrs.frozen
class DepositEmptied(Step[None]):
    """pgtable_trans_huge_deposit() of a table that was in use until now."""

    cpu: int
    mm: str
    va: int
    pmd_table: int
    table: int
    label = "pte_deposit"

    def apply(self, state: State) -> None:
        """Append it."""
        state.write(deposits(self.pmd_table), (*state.read(deposits(self.pmd_table)), self.table))
        state.emit(TableDeposit(self.cpu, self.mm, self.va, self.table))

    def touches(self, state: State) -> Footprint:
        """The list."""
        return (deposits(self.pmd_table),), (deposits(self.pmd_table),)


async def _install(cpu: Cpu, vma: Vma, va: int, pmd_table: int, table: int, pfn: int) -> None:
    """Deposit the emptied table and set the huge pmd; pgtables_bytes counts the table as before."""
    flags = maybe_mkwrite(vm_page_prot(vma) | HUGE | DIRTY, vma)
    lock = await pmd_lock(cpu, pmd_table)
    await DepositEmptied(cpu.id, cpu.mm, va, pmd_table, table)
    await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, va, pmd_table, paging.make(pfn, flags))
    await SpinUnlock(cpu.id, lock)


async def _restore(cpu: Cpu, va: int, pmd_table: int, old: int) -> None:
    """pmd_populate() of the table that was taken away; its entries are as they were."""
    lock = pmd_lockptr(cpu.config, cpu.mm, pmd_table)
    await SpinLock(cpu.id, lock)
    new = paging.make(paging.pfn_of(old), TABLE_FLAGS)
    await WriteEntry("pmd_populate", cpu.id, cpu.mm, Level.PMD, va, pmd_table, new)
    await SpinUnlock(cpu.id, lock)
