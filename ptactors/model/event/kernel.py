"""Events of the kernel: entries, walkers, locks, RCU, flushes, gathers, counters."""

from __future__ import annotations

from typing import NamedTuple


class EntryWrite(NamedTuple):
    """Software writes an entry of a table.

    ``what`` is the record's name: pte_set, pte_clear, pmd_install, pmd_clear, set_huge_pmd, pmd_invalidate, pmd_populate,
    pmd_collapse (a collapse takes the table away), pud_install, pud_clear, p4d_install, p4d_clear.
    """

    what: str
    cpu: int
    mm: str
    level: int
    va: int
    table: int
    gen: int
    slot: int
    old: int
    new: int


class TableMap(NamedTuple):
    """A software walker has a pointer into a table (pte_offset_map and its kin, a GUP-fast level)."""

    cpu: int
    mm: str
    va: int
    table: int
    gen: int


class TableUnmap(NamedTuple):
    """The software walker gives that pointer up."""

    cpu: int
    table: int


class TableRead(NamedTuple):
    """A software walker reads an entry of a PTE page; ``gen`` is the frame's generation now."""

    cpu: int
    mm: str
    va: int
    table: int
    gen: int
    slot: int
    value: int


class GupPin(NamedTuple):
    """GUP-fast hands a pinned page to its caller."""

    cpu: int
    mm: str
    va: int
    pfn: int
    gen: int


class FaultIn(NamedTuple):
    """A fault that the kernel made on behalf of the task (GUP, without an exception) is complete; it counts as a minor one."""

    cpu: int
    mm: str
    address: int
    write: bool


class CollapseCopy(NamedTuple):
    """A collapse has copied the small pages of 2 MiB into a huge page: ``copied`` of them, the others are zero."""

    cpu: int
    mm: str
    va: int
    table: int
    pfn: int
    copied: int


class TableDeposit(NamedTuple):
    """A PTE page that a collapse has emptied becomes the deposit of the huge pmd that takes its place."""

    cpu: int
    mm: str
    va: int
    table: int


class LockInit(NamedTuple):
    """A lock comes to life with its table."""

    cpu: int
    lock: str


class LockFree(NamedTuple):
    """A lock's memory is freed."""

    cpu: int
    lock: str


class LockAcquire(NamedTuple):
    """A lock is taken. cls: pte, pmd, page_table, mmap, vma. mode: spin, nested, try, read, write."""

    cpu: int
    lock: str
    cls: str
    mode: str


class LockFail(NamedTuple):
    """A trylock fails."""

    cpu: int
    lock: str
    cls: str


class LockRelease(NamedTuple):
    """A lock is dropped."""

    cpu: int
    lock: str
    cls: str
    mode: str


class RcuLock(NamedTuple):
    """rcu_read_lock(); depth is the nesting after it."""

    cpu: int
    depth: int


class RcuUnlock(NamedTuple):
    """rcu_read_unlock(); depth is the nesting after it."""

    cpu: int
    depth: int


class CallRcu(NamedTuple):
    """A callback is queued; it may run once grace period ``seq`` has ended."""

    cpu: int
    callback: str
    seq: int


class RcuSynchronize(NamedTuple):
    """synchronize_rcu() begins to wait for grace period ``seq``."""

    cpu: int
    seq: int


class RcuGpStart(NamedTuple):
    """A grace period begins; ``waiting`` are the CPUs that owe a quiescent state."""

    cpu: int
    seq: int
    waiting: tuple[int, ...]


class RcuGpEnd(NamedTuple):
    """A grace period ends."""

    cpu: int
    seq: int


class RcuQs(NamedTuple):
    """A CPU passes a quiescent state that the current grace period waited for."""

    cpu: int
    why: str


class RcuCallback(NamedTuple):
    """A callback runs."""

    cpu: int
    callback: str
    seq: int


class TlbFlush(NamedTuple):
    """flush_tlb_mm_range() has decided: pages (strides) is -1 for all; targets are the other CPUs it will interrupt."""

    cpu: int
    reason: str
    pages: int
    mm: str
    start: int
    end: int
    tlb_gen: int
    freed_tables: bool
    targets: tuple[int, ...]


class TlbFlushEnd(NamedTuple):
    """That flush is complete on every target."""

    cpu: int
    mm: str
    tlb_gen: int


class GatherBegin(NamedTuple):
    """tlb_gather_mmu(); pending is the mm's count of pending gathers after it."""

    cpu: int
    mm: str
    pending: int


class GatherPage(NamedTuple):
    """A page is queued until after the flush."""

    cpu: int
    mm: str
    va: int
    pfn: int


class GatherTable(NamedTuple):
    """A page table is queued (how: batch, or single where no batch page could be had)."""

    cpu: int
    mm: str
    va: int
    pfn: int
    gen: int
    how: str


class GatherEnd(NamedTuple):
    """tlb_finish_mmu(); pending is the mm's count after it; nested says whether it had to flush everything."""

    cpu: int
    mm: str
    pending: int
    nested: bool


class Rss(NamedTuple):
    """The mm's count of pages of this kind (anon, file, swap, shmem) changes."""

    cpu: int
    mm: str
    kind: str
    delta: int
    value: int


class PgtablesBytes(NamedTuple):
    """mm->pgtables_bytes changes; VmPTE is this in kB."""

    cpu: int
    mm: str
    delta: int
    value: int


class SwitchMm(NamedTuple):
    """The CPU goes over to another task: its mm, and whether it is lazy (a kernel thread that borrows the old one)."""

    cpu: int
    prev: str
    next: str
    lazy: bool


class UserMode(NamedTuple):
    """The CPU enters user mode, kernel mode or idle."""

    cpu: int
    mode: str


class MightSleep(NamedTuple):
    """The CPU is about to do something that may sleep."""

    cpu: int
    what: str
    preempt: int
    irqs_off: bool
    rcu: int
