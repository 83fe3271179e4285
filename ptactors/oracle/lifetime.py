"""Oracles of life and death: page tables, their locks and pages used, cleared or freed when they may not be."""

from __future__ import annotations

from ptactors.model.event import (
    EntryWrite,
    FrameFree,
    GatherTable,
    LockAcquire,
    TableMap,
    TableRead,
    WalkRead,
)
from ptactors.model.paging import PAGE_SHIFT, PMD_SHIFT, Level, is_table, pfn_of
from ptactors.model.state import Listener
from ptactors.oracle.base import Oracle, Rule
from ptactors.oracle.mirror import Mirror


def _misuse_of_lock(mirror: Mirror, cpu: int, lock: str) -> str:
    """What a use of this lock touches that it may not: ``table`` (its table is gone), ``lock`` (only the lock is), or ''."""
    table = mirror.table_of(lock)
    frame = mirror.memory.frames.get(table) if table >= 0 else None
    if frame is not None:
        mapped = mirror.mapped.get(cpu, {}).get(table)
        if frame.frees or (mapped is not None and mapped[0] != frame.gen):
            return "table"
        if lock in mirror.dead_locks:
            return "lock" if frame.kind in ("pte", "pmd") else "table"
    return "lock" if lock in mirror.dead_locks else ""


class SoftwareWalkerUaf(Oracle):
    """A software walker (pte_offset_map() and its kin, GUP-fast) uses a page table whose frame was freed.

    Inside an RCU read section a table may be unlinked and empty, never freed. An IPI interrupts such a section and does not end
    it, so that tlb_remove_table_sync_one() protects only walkers with interrupts disabled.
    """

    name = "page_table_uaf_software_walker"
    source = "mm/pgtable-generic.c; RFC v1 5/7; Documentation/mm/process_addrs.rst"
    kinds = (TableMap, TableRead, EntryWrite, LockAcquire)
    rule = Rule(
        meaning="Kernel code was still looking at a page table when its memory was given back; what it reads from then"
        " on, or the"
        " lock it takes there, belongs to somebody else.",
        kernel="pte_offset_map_lock(), pte_offset_map_rw_nolock(), gup_fast_pte_range() against tlb_remove_table(),"
        " __tlb_remove_table_one() and pte_free_defer().",
        avoided="718b13861d22 (v6.14): with CONFIG_PT_RECLAIM each table is freed by call_rcu(), singly queued ones"
        " too. RFC v1 5/7"
        " did the same behind an IPI.",
        knob="table_free=semi-rcu where no table batch can be had, or table_free=page-batch; with pt_reclaim=rfc or merged",
        scenario="single-table-vs-rcu-walker",
    )

    def listeners(self) -> dict[type, Listener]:
        """Uses of a table, and uses of its lock."""
        return {
            TableMap: self._use, TableRead: self._use, EntryWrite: self._use, LockAcquire: self._lock
        }  # fmt: skip

    def _lock(self, step: int, actor: int, event: LockAcquire) -> None:
        if _misuse_of_lock(self.mirror, event.cpu, event.lock) == "table" and self.first():
            table = self.mirror.table_of(event.lock)
            self._tell(step, actor, event.cpu, table, f"uses the lock {event.lock} of", "lock")

    def _use(self, step: int, actor: int, event: TableMap | TableRead | EntryWrite) -> None:
        cpu, table = event.cpu, event.table
        frame = self.mirror.memory.frames.get(table)
        if frame is None:
            return
        if not frame.frees:
            mapped = self.mirror.mapped.get(cpu)
            if not mapped or table not in mapped or mapped[table][0] == frame.gen:
                return
        if cpu >= 0 and self.first():
            kind = type(event)
            verb = "writes the entry of" if kind is EntryWrite else "maps" if kind is TableMap else "reads the entry of"
            verb = f"{verb} {self.mirror.at(event.mm, event.va)} in"
            self._tell(step, actor, cpu, table, verb, "write" if kind is EntryWrite else "read")

    def _tell(self, step: int, actor: int, cpu: int, table: int, verb: str, role: str) -> None:
        frame = self.mirror.memory.frames[table]
        state = "freed" if frame.frees else f"freed and reused as {frame.kind}"
        lines = list(self.mirror.table_life(table))
        mapped = self.mirror.mapped.get(cpu, {}).get(table)
        if mapped is not None:
            lines.append((mapped[1], f"table {table:#x} (generation {mapped[0]}) mapped by cpu{cpu}"))
        what = f"cpu{cpu} {verb} page table {table:#x}, which was {state}"
        op = self.mirror.ops.get(cpu)
        self.report(step, actor, f"{what} ({op})" if op else what, tuple(lines), role)


class HardwareWalkerUaf(Oracle):
    """The hardware walker reads a page table whose frame was freed since it learnt of the table.

    It knows tables from the paging-structure caches as long as nothing invalidates them, even if every entry of the table was
    none, and on lazy CPUs too.
    """

    name = "page_table_uaf_hardware_walker"
    source = "Intel SDM volume 3, 4.10.3 and 4.10.4; AMD APM volume 2, EFER.TCE; CVE-2026-74674"
    kinds = (WalkRead,)
    rule = Rule(
        meaning="The processor itself walked a page table through its internal caches after the kernel had given the"
        " table's memory"
        " back; it may take anything there for a translation.",
        kernel="pte_free_tlb() must record an address of the table's own range and freed_tables; flush_tlb_mm_range() with"
        " freed_tables interrupts lazy CPUs too (145f573b89a6).",
        avoided="Flush, with the upper levels, before the table is freed; 478a1c3abebf corrects the address given to"
        " pte_free_tlb() in 7.0.",
        knob="pending_flush=false; flush_lazy_on_freed_tables=false with a lazy CPU that speculates",
        scenario="lazy-cpu-munmap",
    )

    def see(self, step: int, actor: int, event: WalkRead) -> None:
        """A load of a walk."""
        frame = self.mirror.memory.frames.get(event.table)
        if frame is None or (frame.gen == event.gen and not frame.frees) or not self.first():
            return
        state = "freed" if frame.frees else f"freed and reused as {frame.kind}"
        who = "speculatively" if event.speculative else "for an access"
        at = self.mirror.at(event.mm, event.va)
        table = f"page table {event.table:#x} (generation {event.gen})"
        what = f"the walker of cpu{event.cpu} reads {table} for {at}, which was {state}"
        lines = list(self.mirror.table_life(event.table))
        for space in self.mirror.caches.spaces.get(event.cpu, {}).values():
            for since, fill in space.upper.values():
                if (fill.table, fill.gen) == (event.table, event.gen):
                    lines.append((since, f"table {fill.table:#x} cached as upper level of {self.mirror.at(fill.mm, fill.va)}"))
        self.report(step, actor, f"{what} ({who})", tuple(lines), "lazy cpu" if self.mirror.lazy.get(event.cpu) else "page walk")


class LockObjectUaf(Oracle):
    """A page table's lock, an allocation of its own, is used after it was freed, while the table itself still lives.

    Before v6.14 the destructor that frees the lock ran when the table was queued, not after the grace period.
    """

    name = "lock_object_uaf"
    source = "syzbot, December 2024; ee0934b03510 (v6.14), pagetable_dtor() in __tlb_remove_table()"
    kinds = (LockAcquire,)
    rule = Rule(
        meaning="Kernel code waits for or takes a lock whose memory was given back before the table it protects.",
        kernel="pagetable_pte_dtor() frees ptdesc->ptl with ALLOC_SPLIT_PTLOCKS; a racing pte_offset_map_lock() spins on it.",
        avoided="v6.14 moves the destructor into __tlb_remove_table(), after the grace period.",
        knob="dtor_after_grace_period=false with ptlock_alloc=true",
        scenario="table-lock-freed",
    )

    def see(self, step: int, actor: int, event: LockAcquire) -> None:
        """A use of a lock."""
        dead = self.mirror.dead_locks
        if not dead or event.lock not in dead or _misuse_of_lock(self.mirror, event.cpu, event.lock) != "lock":
            return
        if self.first():
            since = self.mirror.dead_locks[event.lock]
            table = self.mirror.table_of(event.lock)
            lines = (*self.mirror.table_life(table), (since, f"lock {event.lock} freed"))
            what = f"cpu{event.cpu} takes {event.lock}, whose memory was freed"
            self.report(step, actor, what, lines, event.lock.partition(":")[0])


class NonemptyPtePageFreed(Oracle):
    """A PTE page is unlinked, queued or freed while it holds entries: the pages they map are lost.

    zap_pte_range() may take a table for empty without a scan only if it held the pte lock since the first entry.
    """

    name = "nonempty_pte_page_freed"
    source = "f39edcf6349a, mm: pgtable: fix incorrect reclaim of non-empty PTE pages (v6.14)"
    kinds = (EntryWrite, GatherTable, FrameFree)
    rule = Rule(
        meaning="The kernel threw a page table away that still said where data is; that data is lost to the program and"
        " its memory"
        " is never given back.",
        kernel="zap_pte_range() drops the pte lock midway (need_resched(), force_break); another thread refills early"
        " entries;"
        " try_get_and_clear_pmd() clears the pmd without a scan.",
        avoided="direct_reclaim is set false on any break, so that try_to_free_pte() scans all 512 entries under both locks.",
        knob="direct_reclaim_reset=false (preset v6.14-rc1) with need_resched injected; map_lock_recheck=false",
        scenario="nonempty-table",
    )

    def listeners(self) -> dict[type, Listener]:
        """The three ways in which a table goes."""
        return {EntryWrite: self._unlink, GatherTable: self._queue, FrameFree: self._free}

    def _unlink(self, step: int, actor: int, event: EntryWrite) -> None:
        if event.what == "pmd_clear" and is_table(event.old):
            self._judge(step, actor, pfn_of(event.old), f"cpu{event.cpu} unlinks", event)

    def _queue(self, step: int, actor: int, event: GatherTable) -> None:
        self._judge(step, actor, event.pfn, f"cpu{event.cpu} queues", None)

    def _free(self, step: int, actor: int, event: FrameFree) -> None:
        if event.pfn in self.mirror.memory.filled:
            self._judge(step, actor, event.pfn, f"cpu{event.cpu} frees", None)

    def _judge(self, step: int, actor: int, table: int, deed: str, unlink: EntryWrite | None) -> None:
        memory = self.mirror.memory
        left = memory.filled.get(table)
        if not left:
            return
        frame = memory.frames.get(table)
        if (frame is not None and frame.kind != "pte") or not self.first():
            return
        slot = next(s for s in range(512) if memory.entries.get(table << 9 | s))
        value = memory.entries[table << 9 | slot]
        what = f"{deed} PTE page {table:#x} with {left} entries; slot {slot} is {value:#x}"
        lines = self.mirror.table_life(table)
        if unlink is not None:
            va = (unlink.va >> PMD_SHIFT << PMD_SHIFT) + (slot << PAGE_SHIFT)
            what += f", for {self.mirror.at(unlink.mm, va)}"
            lines += self.mirror.writes(unlink.mm, va, Level.PTE)
        self.report(step, actor, what, tuple(lines), deed.partition(" ")[2])


class BogusPageTable(Oracle):
    """A pmd is made to point to something that is no live PTE page."""

    name = "bogus_page_table"
    source = "366a4532d96f (v6.17-rc2): collapse_huge_page() and per-VMA-locked MADV_DONTNEED (Fixes a6fde7add78d)"
    kinds = (EntryWrite,)
    rule = Rule(
        meaning="A page-table entry was made to lead to memory that is not a page table, so that any data found there"
        " is taken for"
        " translations.",
        kernel="pmd_install(), pmd_populate(); collapse_huge_page() restored pmd_pgtable() of an entry that a reclaimer"
        " had cleared.",
        avoided="vma_start_write() before check_pmd_still_valid() in collapse_huge_page(); pmd_install() takes only a new table.",
        knob="collapse_lock_then_check=false with madvise_vma_lock=true (preset v6.18) and pt_reclaim=merged",
        scenario="collapse-vs-vma-locked-dontneed",
    )

    def see(self, step: int, actor: int, event: EntryWrite) -> None:
        """A table is linked."""
        if (event.what != "pmd_install" and event.what != "pmd_populate") or event.cpu < 0:
            return
        table = pfn_of(event.new)
        frame = self.mirror.memory.frames.get(table)
        if frame is not None and frame.kind == "pte" and not frame.frees and is_table(event.new):
            return
        if self.first():
            state = "never allocated" if frame is None else "freed" if frame.frees else f"of kind {frame.kind}"
            what = f"cpu{event.cpu} links frame {table:#x} as the PTE page of {self.mirror.at(event.mm, event.va)}; it is {state}"
            lines = (*self.mirror.table_life(table), *self.mirror.writes(event.mm, event.va, Level.PMD))
            self.report(step, actor, what, lines, state)


class DoubleFree(Oracle):
    """A frame is freed that is free already, or a table is queued to be freed twice."""

    name = "double_free"
    source = "RFC v1 4/7, the recheck by pmd_same()"
    kinds = (FrameFree, GatherTable)
    rule = Rule(
        meaning="The same memory was given back twice, so that two users will get it at once.",
        kernel="Two walkers reclaim one PTE page: without pmd_same() under the locks both clear the pmd and call pte_free_tlb().",
        avoided="Clearing the pmd under pmd and pte lock after pmd_same() (RFC) or a fresh read of the pmd (v6.14)"
        " makes one win.",
        knob="reclaim_pmd_same=false with pt_reclaim=rfc",
        scenario="double-reclaim",
    )

    def see(self, step: int, actor: int, event: FrameFree | GatherTable) -> None:
        """A frame goes, or is going to."""
        frame = self.mirror.memory.frames.get(event.pfn)
        if frame is None:
            return
        if type(event) is FrameFree:
            twice = frame.frees > 1 or frame.gen != event.gen
        else:
            twice = frame.queues > 1 or frame.frees > 0 or frame.gen != event.gen
        if twice and self.first():
            deed = "frees" if type(event) is FrameFree else "queues"
            kind = "table" if frame.kind in ("pte", "pmd", "pud") else "page"
            what = f"cpu{event.cpu} {deed} frame {event.pfn:#x} ({frame.kind}, generation {event.gen}) a second time"
            self.report(step, actor, what, tuple(self.mirror.table_life(event.pfn)), kind)
