"""Oracles of what must add up in the end: frames given back, counters at zero."""

from __future__ import annotations

from ptactors.model.event import ExitMm, FrameAlloc, FrameFree, GatherTable, PgtablesBytes, ProgramsDone, Rss, RunEnd
from ptactors.model.paging import HPAGE_PMD_NR, HUGE, PAGE_SIZE, is_present, pfn_of
from ptactors.model.state import Listener
from ptactors.oracle.base import Oracle, Rule
from ptactors.oracle.memory import TABLE_KINDS

KEPT = ("zero", "file", "pgd", "boot")
"""Kinds of frames that outlive the processes."""


class Leak(Oracle):
    """A frame is still allocated after every process has exited."""

    name = "leak"
    source = "fs/proc/meminfo.c; mm/kmemleak.c; f39edcf6349a (v6.14)"
    kinds = (ExitMm, RunEnd)
    rule = Rule(
        meaning="Memory was taken and never given back, although nobody uses it any more.",
        kernel="A PTE page reclaimed while not empty takes its pages with it: zap_pte_range() at exit never sees them."
        " A table that"
        " loses the race in pmd_install() must be freed by pte_free().",
        avoided="direct_reclaim is set false where the pte lock was dropped (v6.14).",
        knob="direct_reclaim_reset=false (preset v6.14-rc1) with need_resched injected; install_recheck=false",
        scenario="nonempty-table",
    )

    def reset(self) -> None:
        """A new run."""
        super().reset()
        self._exited: set[str] = set()

    def listeners(self) -> dict[type, Listener]:
        """Who is gone, and the end."""
        return {ExitMm: self._note_exit, RunEnd: self._look}

    def _note_exit(self, step: int, actor: int, event: ExitMm) -> None:
        self._exited.add(event.mm)

    def _look(self, step: int, actor: int, event: RunEnd) -> None:
        memory = self.mirror.memory
        seen = {*self.mirror.vmas, *(frame.mm for frame in memory.frames.values() if frame.kind in TABLE_KINDS)}
        if not event.complete or not self._exited or not seen - {""} <= self._exited:
            return
        left = [frame for frame in memory.frames.values() if not frame.frees and frame.kind not in KEPT]
        if not left or not self.first():
            return
        kinds = ", ".join(f"{sum(f.kind == kind for f in left)} {kind}" for kind in dict.fromkeys(f.kind for f in left))
        lost = left[0]
        lines = ((lost.born, f"frame {lost.pfn:#x} (generation {lost.gen}) allocated as {lost.kind}"),)
        what = f"never freed: {kinds}; the first is frame {lost.pfn:#x}, generation {lost.gen}"
        self.report(step, actor, what, lines, lost.kind)


class CounterMismatch(Oracle):
    """rss or pgtables_bytes of a process does not agree with its page tables, or is not zero after its exit."""

    name = "counter_mismatch"
    source = "kernel/fork.c, check_mm(): Bad rss-counter state, non-zero pgtables_bytes"
    kinds = (Rss, PgtablesBytes, FrameAlloc, FrameFree, GatherTable, ProgramsDone, ExitMm)
    rule = Rule(
        meaning="The kernel counts a process's pages and page tables; here the count differs from what there is, which"
        " shows that"
        " something was lost or counted twice.",
        kernel="add_mm_rss_vec(), mm_inc_nr_ptes(), mm_dec_nr_ptes(); check_mm() prints BUG: Bad rss-counter state.",
        avoided="Each counter changes under the lock under which the entry changes, or before that lock is dropped.",
        knob="direct_reclaim_reset=false (preset v6.14-rc1) with need_resched injected; reclaim_pmd_same=false with"
        " pt_reclaim=rfc",
        scenario="nonempty-table",
    )

    def reset(self) -> None:
        """A new run."""
        super().reset()
        self._rss: dict[str, dict[str, int]] = {}
        self._bytes: dict[str, int] = {}
        self._start: dict[str, int] = {}
        """mm -> pgtables_bytes when set-up was done."""
        self._tables: dict[str, int] = {}
        """mm -> live tables that no gather has queued."""
        self._start_tables: dict[str, int] = {}
        """mm -> the same, when set-up was done."""

    def listeners(self) -> dict[type, Listener]:
        """The counters, what they count, and the moments to compare."""
        return {
            Rss: self._note_rss,
            PgtablesBytes: self._note_bytes,
            FrameAlloc: self._note_table,
            FrameFree: self._note_table,
            GatherTable: self._note_table,
            ProgramsDone: self._compare_all,
            ExitMm: self._exit,
        }

    def _note_rss(self, step: int, actor: int, event: Rss) -> None:
        self._rss.setdefault(event.mm, {})[event.kind] = event.value

    def _note_bytes(self, step: int, actor: int, event: PgtablesBytes) -> None:
        if event.cpu < 0:
            self._start[event.mm] = event.value
        else:
            self._start.setdefault(event.mm, event.value - event.delta)
        self._bytes[event.mm] = event.value

    def _note_table(self, step: int, actor: int, event: FrameAlloc | FrameFree | GatherTable) -> None:
        frame = self.mirror.memory.frames.get(event.pfn)
        if frame is None or frame.kind not in TABLE_KINDS:
            return
        if type(event) is FrameAlloc:
            change = 1
        elif type(event) is FrameFree:
            change = -1 if frame.frees == 1 and not frame.queues else 0
        else:
            change = -1 if frame.queues == 1 and not frame.frees else 0
        mm = frame.mm
        self._tables[mm] = self._tables.get(mm, 0) + change
        if event.cpu < 0:
            self._start_tables[mm] = self._tables[mm]

    def _surplus(self, mm: str) -> int:
        """What pgtables_bytes counted at the start beyond the tables that were set up."""
        return self._start.get(mm, 0) - PAGE_SIZE * self._start_tables.get(mm, 0)

    def _compare_all(self, step: int, actor: int, event: ProgramsDone) -> None:
        for mm in self.mirror.vmas:
            self._compare(step, actor, mm)

    def _compare(self, step: int, actor: int, mm: str) -> None:
        if mm in self._bytes:
            expected = PAGE_SIZE * self._tables.get(mm, 0) + self._surplus(mm)
            if self._bytes[mm] != expected and self.first():
                what = f"pgtables_bytes of {mm} is {self._bytes[mm]}, its tables come to {expected}"
                self.report(step, actor, what, (), "pgtables_bytes")
        if mm not in self._rss:
            return
        counted, mapped = self._rss[mm].get("anon", 0), self._mapped(mm)
        if counted != mapped and self.first():
            self.report(step, actor, f"rss(anon) of {mm} is {counted}, {mapped} pages are mapped", (), "rss(anon)")

    def _mapped(self, mm: str) -> int:
        memory = self.mirror.memory
        count = 0
        ours = {table for table, (_, owner) in memory.links.items() if owner == mm}
        for place, value in memory.entries.items():
            if is_present(value) and place >> 9 in ours:
                frame = memory.frame(pfn_of(value))
                count += frame is not None and frame.kind == "anon"
        for value in memory.pmds.get(mm, {}).values():
            if is_present(value) and value & HUGE:
                frame = memory.frame(pfn_of(value))
                count += HPAGE_PMD_NR if frame is not None and frame.kind == "anon" else 0
        return count

    def _exit(self, step: int, actor: int, event: ExitMm) -> None:
        mm = event.mm
        for kind, value in self._rss.get(mm, {}).items():
            if value and self.first():
                self.report(step, actor, f"rss({kind}) of {mm} is {value} after its exit", (), f"rss({kind})")
        left = self._bytes.get(mm, 0)
        if left not in (0, self._surplus(mm)) and self.first():
            self.report(step, actor, f"pgtables_bytes of {mm} is {left} after its exit", (), "pgtables_bytes")
