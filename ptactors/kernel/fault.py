"""Page faults on anonymous memory.

Source: arch/x86/mm/fault.c (do_user_addr_fault), mm/memory.c (handle_mm_fault, handle_pte_fault, do_anonymous_page, do_wp_page,
wp_page_copy, __pte_alloc, pmd_install), v6.10-6.14. Simplified: no swap-in, no file faults, no userfaultfd events, no NUMA hints,
no large folios below 2 MiB; an access to what is not modelled ends as SIGSEGV does.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import ZERO_PFN, AllocFrame, PutFrames
from ptactors.hardware.tlb import caches, cr3, invalidate
from ptactors.hardware.walker import FAULT_WRITE
from ptactors.kernel.lock import SpinLock, SpinUnlock
from ptactors.kernel.mm import AddRss, HasAnonVma, PrepareAnonVma, Vma, lock_mm_and_find_vma, lock_vma_under_rcu, thp_allowed
from ptactors.kernel.mmap_lock import MmapTryLock, MmapUnlock, VmaEndRead
from ptactors.kernel.pgtable import (
    AllocTable,
    Mapped,
    PteUnmap,
    ReadPmd,
    ReadPte,
    WriteEntry,
    maybe_mkwrite,
    pmd_alloc,
    pmd_lock,
    pte_offset_map_lock,
    pte_offset_map_nolock,
    pte_unmap_unlock,
    vm_page_prot,
)
from ptactors.kernel.rcu import KERNEL, USER, mode
from ptactors.kernel.thp import arch_flush_tlb_before_set_pte_page, do_huge_pmd_anonymous_page, free_spare_table, wp_huge_pmd
from ptactors.kernel.tlbflush import flush_tlb_page
from ptactors.model import paging
from ptactors.model.event import PageFault, PageFaultEnd
from ptactors.model.paging import (
    ACCESSED,
    DIRTY,
    INVALID_HUGE,
    PAGE_SIZE,
    PRESENT,
    SPECIAL,
    TABLE_FLAGS,
    WRITE,
    Level,
    align_down,
    is_trans_huge,
)
from ptactors.model.paging import (
    USER as USER_BIT,
)
from ptactors.model.state import State
from ptactors.model.step import Footprint, Step

DONE, SEGV, RETRY = "", "SIGSEGV", "VM_FAULT_RETRY"
"""How a fault ends: the access is made again, is refused, or the fault is handled again under mmap_lock."""


@attrs.frozen
class EnterFault(Step[None]):
    """The exception: the CPU enters the kernel, and the hardware has dropped its own entries for the address.

    Source: Intel SDM volume 3, 4.10.4.1; this is why making an entry present or more permissive needs no flush.
    """

    cpu: int
    op: str
    va: int
    code: int
    label = "page_fault"

    def apply(self, state: State) -> None:
        """Drop them and enter."""
        page = align_down(self.va, PAGE_SIZE)
        asid = state.read(cr3(self.cpu)).asid
        invalidate(state, self.cpu, asid, page, page + PAGE_SIZE, "page_fault", "path")
        state.write(mode(self.cpu), KERNEL)
        state.emit(PageFault(self.cpu, self.op, self.va, self.code))

    def touches(self, state: State) -> Footprint:
        """The CPU's caches and mode."""
        keys = (mode(self.cpu), *caches(self.cpu))
        return (cr3(self.cpu), *keys), keys


@attrs.frozen
class LeaveFault(Step[None]):
    """IRET: back to user mode, where the instruction is made again."""

    cpu: int
    va: int
    result: str
    label = "page_fault_done"

    def apply(self, state: State) -> None:
        """Leave."""
        state.write(mode(self.cpu), USER)
        state.emit(PageFaultEnd(self.cpu, self.va, self.result or "retry"))

    def touches(self, state: State) -> Footprint:
        """The mode."""
        return (), (mode(self.cpu),)


async def do_user_addr_fault(cpu: Cpu, va: int, code: int) -> bool:
    """The vector: try under the VMA's own lock, else under mmap_lock. False: SIGSEGV."""
    await EnterFault(cpu.id, cpu.op, va, code)
    write = bool(code & FAULT_WRITE)
    result: str | None = None
    if cpu.config.kernel.per_vma_lock:
        vma = await lock_vma_under_rcu(cpu, va)
        if vma is not None:
            result = await handle_mm_fault(cpu, vma, va, write, True)
            await VmaEndRead(cpu.id, vma.name)
    if result is None or result == RETRY:
        vma = await lock_mm_and_find_vma(cpu, va)
        if vma is None:
            result = SEGV
        else:
            result = await handle_mm_fault(cpu, vma, va, write)
            await MmapUnlock(cpu.id, cpu.mm, False)
    await LeaveFault(cpu.id, va, result)
    return result != SEGV


async def vmf_anon_prepare(cpu: Cpu, vma: Vma, vma_lock: bool) -> bool:
    """Have an anon_vma before a page of one's own is mapped; false: VM_FAULT_RETRY, as mmap_lock is needed and contended.

    A read of the zero page gets none, so that its VMA has nothing to collapse. Source: mm/memory.c, __vmf_anon_prepare().
    """
    if await HasAnonVma(vma.name):
        return True
    if vma_lock and not await MmapTryLock(cpu.id, cpu.mm, False, False):
        return False
    await PrepareAnonVma(vma.name, cpu.mm)
    if vma_lock:
        await MmapUnlock(cpu.id, cpu.mm, False)
    return True


async def handle_mm_fault(cpu: Cpu, vma: Vma, va: int, write: bool, vma_lock: bool = False) -> str:
    """access_error(), then walk down, installing what is missing, and handle the fault at the level where it is.

    ``vma_lock``: under the VMA's lock (FAULT_FLAG_VMA_LOCK), not mmap_lock.
    """
    if not (vma.write if write else vma.accessible) or vma.kind != "anon":
        # Mappings of other kinds exist with the entries that the scenario gave them; faults on them are not modelled.
        return SEGV
    pmd_table = await pmd_alloc(cpu, va)
    pmd = await ReadPmd(pmd_table, va)
    if not pmd and thp_allowed(cpu.config, vma, va):
        if not await vmf_anon_prepare(cpu, vma, vma_lock):
            return RETRY
        await do_huge_pmd_anonymous_page(cpu, vma, va, pmd_table, write)
        return DONE
    if is_trans_huge(pmd):
        if pmd & INVALID_HUGE or not write or pmd & WRITE:
            # huge_pmd_set_accessed(): nothing to change here, but the lock waits for a split that is under way.
            await SpinUnlock(cpu.id, await pmd_lock(cpu, pmd_table))
            return DONE
        if await wp_huge_pmd(cpu, va, pmd_table, pmd):
            return DONE
    return await handle_pte_fault(cpu, vma, va, pmd_table, write, vma_lock)


async def handle_pte_fault(cpu: Cpu, vma: Vma, va: int, pmd_table: int, write: bool, vma_lock: bool) -> str:
    """Look at the pte without a lock and decide what to do about it.

    Simplified: a pte that differs by A and D alone counts as the same (Linux makes the access again, to the same end).
    """
    orig = 0
    mapped: Mapped | None = None
    if await ReadPmd(pmd_table, va):
        mapped = await pte_offset_map_nolock(cpu, pmd_table, va)
        if mapped is None:
            return DONE  # it became huge or went: the access is made again
        orig = await ReadPte(cpu.id, cpu.mm, mapped.table, va)
        if not orig:
            await PteUnmap(cpu.id, mapped.table)
    if mapped is None or not orig:
        return await do_anonymous_page(cpu, vma, va, pmd_table, write, vma_lock)
    if not orig & PRESENT:
        await PteUnmap(cpu.id, mapped.table)
        return SEGV  # swap entries, markers and guards are not faulted in; PROT_NONE entries go with their VMA's permissions
    await SpinLock(cpu.id, mapped.lock)
    pte = await ReadPte(cpu.id, cpu.mm, mapped.table, va)
    bits = ACCESSED | DIRTY
    if pte | bits == orig | bits and write and not pte & WRITE:
        return await do_wp_page(cpu, vma, va, pmd_table, mapped, pte, vma_lock)
    # Somebody else repaired it, or it was spurious: x86 has dropped its stale entry on the fault itself.
    await pte_unmap_unlock(cpu, mapped)
    return DONE


async def do_anonymous_page(cpu: Cpu, vma: Vma, va: int, pmd_table: int, write: bool, vma_lock: bool) -> str:
    """Map a zeroed page, or the shared zero page for a read."""
    page = align_down(va, PAGE_SIZE)
    if not await ReadPmd(pmd_table, va):
        await pte_alloc(cpu, va, pmd_table)
    if write and not await vmf_anon_prepare(cpu, vma, vma_lock):
        return RETRY
    pfn = await AllocFrame(cpu.id, "anon", 0, cpu.mm) if write else ZERO_PFN
    mapped = await pte_offset_map_lock(cpu, pmd_table, va)
    if mapped is None or await ReadPte(cpu.id, cpu.mm, mapped.table, va):
        if mapped is not None:
            await pte_unmap_unlock(cpu, mapped)
        if write:
            await PutFrames(cpu.id, (pfn,), "not used")
        return DONE
    flags = vm_page_prot(vma)
    if write:
        await AddRss(cpu.id, cpu.mm, (("anon", 1),))
        flags = maybe_mkwrite(flags | DIRTY, vma)
    else:
        flags |= SPECIAL
    await WriteEntry("pte_set", cpu.id, cpu.mm, Level.PTE, page, mapped.table, paging.make(pfn, flags))
    await pte_unmap_unlock(cpu, mapped)
    return DONE


async def pte_alloc(cpu: Cpu, va: int, pmd_table: int) -> None:
    """__pte_alloc(): allocate a PTE page and install it, unless somebody else was faster."""
    table = await AllocTable(cpu.id, cpu.mm, Level.PTE)
    if not await pmd_install(cpu, va, pmd_table, table):
        await free_spare_table(cpu, table)


async def pmd_install(cpu: Cpu, va: int, pmd_table: int, table: int) -> bool:
    """Link a PTE page under the pmd lock if the pmd is still none; false: it was not consumed."""
    lock = await pmd_lock(cpu, pmd_table)
    free = not await ReadPmd(pmd_table, va) or not cpu.config.kernel.install_recheck
    if free:
        await arch_flush_tlb_before_set_pte_page(cpu, va)
        base = align_down(va, paging.PMD_SIZE)
        new = paging.make(table, TABLE_FLAGS)
        await WriteEntry("pmd_install", cpu.id, cpu.mm, Level.PMD, base, pmd_table, new, PAGE_SIZE)
    await SpinUnlock(cpu.id, lock)
    return free


async def do_wp_page(cpu: Cpu, vma: Vma, va: int, pmd_table: int, mapped: Mapped, pte: int, vma_lock: bool) -> str:
    """A write to a present read-only page, with the pte lock held: reuse it if it is exclusively ours, else copy."""
    page = align_down(va, PAGE_SIZE)
    if paging.pfn_of(pte) != ZERO_PFN:
        new = pte | WRITE | DIRTY | ACCESSED
        await WriteEntry("pte_set", cpu.id, cpu.mm, Level.PTE, page, mapped.table, new)
        await pte_unmap_unlock(cpu, mapped)
        return DONE
    await pte_unmap_unlock(cpu, mapped)
    if not await vmf_anon_prepare(cpu, vma, vma_lock):
        return RETRY
    await wp_page_copy(cpu, va, pmd_table, pte)
    return DONE


async def wp_page_copy(cpu: Cpu, va: int, pmd_table: int, orig: int) -> None:
    """Give the zero page's place to a page of its own: clear, flush, and only then set, all under the pte lock.

    The order keeps any two CPUs from using old and new page at once; it is what the cover letter's case 2 refers to. The copy of
    the content needs no step: the source is all zeroes.
    """
    page = align_down(va, PAGE_SIZE)
    pfn = await AllocFrame(cpu.id, "anon", 0, cpu.mm)
    mapped = await pte_offset_map_lock(cpu, pmd_table, va)
    if mapped is None:
        await PutFrames(cpu.id, (pfn,), "not used")
        return
    pte = await ReadPte(cpu.id, cpu.mm, mapped.table, va)
    if pte | ACCESSED != orig | ACCESSED:
        await pte_unmap_unlock(cpu, mapped)
        await PutFrames(cpu.id, (pfn,), "not used")
        return
    await AddRss(cpu.id, cpu.mm, (("anon", 1),))
    await WriteEntry("pte_clear", cpu.id, cpu.mm, Level.PTE, page, mapped.table, 0)
    await flush_tlb_page(cpu, page)  # pte_accessible() holds for every present entry on x86
    new = paging.make(pfn, PRESENT | USER_BIT | WRITE | DIRTY | ACCESSED)
    await WriteEntry("pte_set", cpu.id, cpu.mm, Level.PTE, page, mapped.table, new)
    await pte_unmap_unlock(cpu, mapped)
