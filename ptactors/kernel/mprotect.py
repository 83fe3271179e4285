"""mprotect: the flags of VMAs, then every entry that is there, and one flush for all of it.

An entry is taken out and put back, since the hardware may set its A and D bits at any moment. PROT_NONE leaves the frame in an
entry that the hardware takes for not present. Entries of private memory become writable at once only where the page is ours
alone; for the others, the zero page above all, a write fault decides.

Source: mm/mprotect.c (do_mprotect_pkey, mprotect_fixup, change_protection, change_pmd_range, change_pte_range), mm/huge_memory.c
(change_huge_pmd), arch/x86/include/asm/tlbflush.h (pte_needs_flush), v6.1-6.18. Simplified: no protection keys, no VM_MAYWRITE
(every mapping may get every protection), shared memory becomes writable at once, swap entries do not say whether they are
writable; entries are changed one by one, where v6.17 takes the pages of one large folio together.
"""

from __future__ import annotations

from ptactors.hardware.cpu import Cpu
from ptactors.hardware.memory import HUGE_ZERO_PFN, ZERO_PFN
from ptactors.kernel.gather import Gather
from ptactors.kernel.lock import SpinUnlock
from ptactors.kernel.mm import Vma
from ptactors.kernel.mmap import PROTS
from ptactors.kernel.mmap_lock import MmapUnlock, VmaEndWriteAll, take_mmap_lock
from ptactors.kernel.pgtable import (
    ReadPmd,
    ReadUpper,
    ScanTable,
    WriteEntry,
    pmd_lock,
    pte_offset_map_lock,
    pte_unmap_unlock,
    vm_page_prot,
)
from ptactors.kernel.populate import populate_vma_page_range
from ptactors.kernel.rcu import CondResched
from ptactors.kernel.thp import split_huge_pmd
from ptactors.kernel.tlbflush import flush_tlb_range
from ptactors.kernel.vma import ReadAnonVma, Tree, set_flags, vma_modify
from ptactors.kernel.zap import FrameKind
from ptactors.model import paging
from ptactors.model.paging import (
    DIRTY,
    INVALID_HUGE,
    PAGE_SHIFT,
    PMD_SHIFT,
    PMD_SIZE,
    PRESENT,
    PROTNONE,
    USER,
    WRITE,
    Level,
    addr_end,
    align_down,
    is_present,
    is_trans_huge,
)

ENOMEM = 12
_PROT_BITS = PRESENT | USER | WRITE | PROTNONE
"""What pte_modify() replaces, of the bits that the model has."""


async def mprotect(cpu: Cpu, start: int, end: int, prot: str) -> int:
    """mprotect(start, end - start, prot): 0; -ENOMEM at the first hole, what lies before it changed; -EINVAL from a split."""
    await take_mmap_lock(cpu.id, cpu.mm, True)
    tree = await Tree.read(cpu)
    vma = tree.find(start)
    result = -ENOMEM
    if vma is not None and vma.start <= start:
        tlb = Gather(cpu)
        await tlb.begin()
        result = await _each_vma(tlb, tree, start, end, prot)
        await tlb.finish()
    await VmaEndWriteAll(cpu.id, cpu.mm)
    await MmapUnlock(cpu.id, cpu.mm, True)
    return result


async def _each_vma(tlb: Gather, tree: Tree, start: int, end: int, prot: str) -> int:
    """The loop of do_mprotect_pkey()."""
    at = start
    while at < end:
        vma = tree.find(at)
        if vma is None or at < vma.start:
            return -ENOMEM
        until = min(vma.end, end)
        done = await mprotect_fixup(tlb, tree, vma, at, until, prot)
        if isinstance(done, int):
            return done
        at = max(until, done.end)
    return 0


async def mprotect_fixup(tlb: Gather, tree: Tree, vma: Vma, start: int, end: int, prot: str) -> Vma | int:
    """One VMA's part of the range: split or merge, set the flags, change the entries; the VMA that holds it then, or -errno."""
    read, write = PROTS[prot]
    if (vma.read, vma.write) == (read, write):
        return vma
    was = vma
    wanted = vma._replace(read=read, write=write, account=await _accountable(tree.cpu, vma, write))
    found = await vma_modify(tree, vma, start, end, wanted)
    if isinstance(found, int):
        return found
    now = await set_flags(tree, found, wanted)
    await change_protection(tlb, now, start, end)
    if was.locked and not was.write and write and not _shared(was):
        # mlock promised that no access faults: copy now what a write would have to copy.
        await populate_vma_page_range(tree.cpu, now, start, end)
    return now


async def _accountable(cpu: Cpu, vma: Vma, write: bool) -> bool:
    """VM_ACCOUNT: private memory that becomes writable gets it, and keeps it unless there is nothing in it yet."""
    if write:
        return vma.account or not _shared(vma)
    if vma.account and vma.anon and cpu.config.kernel.mprotect_unaccount:
        return bool(await ReadAnonVma(vma.name))
    return vma.account


def _shared(vma: Vma) -> bool:
    """VM_SHARED."""
    return vma.kind.endswith("shared") or vma.kind in ("memfd", "hugetlb")


async def change_protection(tlb: Gather, vma: Vma, start: int, end: int) -> None:
    """change_protection_range(), and hugetlb's own walk; what must be flushed is noted in the gather."""
    at = start
    while at < end:
        after = addr_end(at, end, Level.PUD)
        upper = await ReadUpper(tlb.cpu.mm, at)
        if upper.pmd and vma.kind == "hugetlb":
            await hugetlb_change_protection(tlb.cpu, vma, upper.pmd, at, after)
        elif upper.pmd:
            await change_pmd_range(tlb, vma, upper.pmd, at, after)
        at = after


async def change_pmd_range(tlb: Gather, vma: Vma, pmd_table: int, start: int, end: int) -> None:
    """Each 2 MiB: a huge page that is covered is changed whole, one that is not is split first."""
    at = start
    while at < end:
        after = addr_end(at, end, Level.PMD)
        pmd = await ReadPmd(pmd_table, at)
        if is_trans_huge(pmd):
            if after - at < PMD_SIZE:
                await split_huge_pmd(tlb.cpu, at, pmd_table)
            elif await change_huge_pmd(tlb, vma, pmd_table, at):
                pmd = 0
        if pmd and not await change_pte_range(tlb, vma, pmd_table, at, after):
            continue  # the table went or became huge meanwhile
        await CondResched(tlb.cpu.id)
        at = after


async def change_huge_pmd(tlb: Gather, vma: Vma, pmd_table: int, va: int) -> bool:
    """pmdp_invalidate_ad() without a flush, then the new entry, under the pmd lock; false if it is no longer huge."""
    cpu = tlb.cpu
    lock = await pmd_lock(cpu, pmd_table)
    pmd = await ReadPmd(pmd_table, va)
    if not is_trans_huge(pmd):
        await SpinUnlock(cpu.id, lock)
        return False
    invalid = (pmd & ~PRESENT) | INVALID_HUGE
    old = await WriteEntry("pmd_invalidate", cpu.id, cpu.mm, Level.PMD, va, pmd_table, invalid)
    new = _modify(old, vma)
    upgrades = cpu.config.kernel.mprotect_upgrades_huge or _shared(vma)
    if upgrades and _may_write(vma, "anon", paging.pfn_of(old) == HUGE_ZERO_PFN):
        new |= WRITE
    await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, va, pmd_table, new)
    if needs_flush(old, new):
        tlb.record_pmd(va)
    await SpinUnlock(cpu.id, lock)
    return True


async def change_pte_range(tlb: Gather, vma: Vma, pmd_table: int, start: int, end: int) -> bool:
    """The entries of one PTE page, under its lock; false if there is no table any more."""
    cpu = tlb.cpu
    mapped = await pte_offset_map_lock(cpu, pmd_table, start)
    if mapped is None:
        return False
    base = align_down(start, PMD_SIZE)
    for slot, pte in await ScanTable(cpu.id, cpu.mm, mapped.table, start, end):
        if not is_present(pte):
            continue
        va = base + (slot << PAGE_SHIFT)
        # ptep_modify_prot_start() and ptep_modify_prot_commit()
        old = await WriteEntry("pte_clear", cpu.id, cpu.mm, Level.PTE, va, mapped.table, 0)
        new = _modify(old, vma)
        zero = paging.pfn_of(old) == ZERO_PFN
        kind = "anon" if vma.anon or zero else await FrameKind(paging.pfn_of(old))
        if _may_write(vma, kind, zero):
            new |= WRITE
        await WriteEntry("pte_set", cpu.id, cpu.mm, Level.PTE, va, mapped.table, new)
        if needs_flush(old, new):
            tlb.record_pte(va)
    await pte_unmap_unlock(cpu, mapped)
    return True


async def hugetlb_change_protection(cpu: Cpu, vma: Vma, pmd_table: int, start: int, end: int) -> None:
    """The entries of hugetlb, each under the pmd lock, and a flush of the range of its own. Source: mm/hugetlb.c.

    A PTE page, as where huge pages are runs of small ones, is empty here and is passed over.
    """
    for va in range(start, end, PMD_SIZE):
        if not is_trans_huge(await ReadPmd(pmd_table, va)):
            continue
        lock = await pmd_lock(cpu, pmd_table)
        old = await WriteEntry("pmd_clear", cpu.id, cpu.mm, Level.PMD, va, pmd_table, 0)
        new = _modify(old, vma) | (WRITE if vma.write else 0)
        await WriteEntry("set_huge_pmd", cpu.id, cpu.mm, Level.PMD, va, pmd_table, new)
        await SpinUnlock(cpu.id, lock)
    await flush_tlb_range(cpu, start, end, "hugetlb_change_protection", PMD_SHIFT)


def _modify(entry: int, vma: Vma) -> int:
    """pte_modify(): frame, A and D stay, the rest is vma->vm_page_prot, which has no writing for private memory."""
    return (entry & ~_PROT_BITS) | vm_page_prot(vma)


def _may_write(vma: Vma, kind: str, zero: bool) -> bool:
    """can_change_pte_writable(): private memory that is anonymous, ours alone (as all is without fork) and not the zero page."""
    return vma.write and (_shared(vma) or (kind == "anon" and not zero))


def needs_flush(old: int, new: int) -> bool:
    """pte_needs_flush(), huge_pmd_needs_flush(): nothing is cached of what was not present; else what changed decides."""
    if not old & PRESENT:
        return False
    changed = old ^ new
    return bool(changed & old & (PRESENT | DIRTY) or changed & (WRITE | USER)) or paging.pfn_of(old) != paging.pfn_of(new)
