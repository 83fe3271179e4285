"""Oracles of content: what programs read must be what they stored, and what they stored must not get lost."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

from ptactors.model.event import EntryWrite, FolioDirty, FrameFree, GatherEnd, GupPin, MemRead, MemWrite, RunEnd, TableRead
from ptactors.model.paging import DIRTY, PRESENT, is_present, pfn_of
from ptactors.model.state import Listener
from ptactors.oracle.base import Oracle, Rule
from ptactors.oracle.pages import DISCARDED, OVERWRITTEN, UNKNOWN


class _Reads(Oracle):
    """Base: reads whose token :mod:`ptactors.oracle.pages` gives one verdict."""

    kinds: ClassVar[tuple[type, ...]] = (MemRead,)
    verdict: ClassVar[str]

    def see(self, step: int, actor: int, event: MemRead) -> None:
        """A read."""
        verdict, store, began = self.mirror.pages.judge(event)
        if verdict != self.verdict or not self.first():
            return
        at = self.mirror.at(event.mm, event.va)
        lines = [] if store is None else [(store.step, f"{store.token} stored to {at} by {_who(store.cpu)}")]
        if began >= 0:
            lines.append((began, f"a discard of {at} begins, which has returned 0 since"))
        lines += self.mirror.writes(event.mm, event.va)
        for held in self.mirror.caches.held(event.cpu, event.va):
            lines.append((held.step, f"translation -> frame {held.frame_of(event.va):#x} filled into the TLB of cpu{event.cpu}"))
        why = self._why(store.token if store is not None else "")
        got = event.value if event.token else "zero"
        self.report(step, actor, f"cpu{event.cpu} reads {got} at {at}: {why}", tuple(lines), "page")

    def _why(self, token: str) -> str:
        raise NotImplementedError


def _who(cpu: int) -> str:
    return f"cpu{cpu}" if cpu >= 0 else "set-up"


class WrongDataAfterDontneed(_Reads):
    """A read returns what was stored before a discard began that had already returned 0.

    madvise(2): subsequent accesses of the range see zero-filled pages. Accesses during the call may see either.
    """

    name = "wrong_data_after_dontneed"
    source = "madvise(2), MADV_DONTNEED; 99baac21e458 (v4.13)"
    verdict = DISCARDED
    rule = Rule(
        meaning="A program told the kernel to throw data away, the kernel said done, and the program still reads the old data.",
        kernel="tlb_finish_mmu() and mm_tlb_flush_nested(): a second gather finds entries already none whose flush the"
        " first still"
        " owes.",
        avoided="99baac21e458: if another gather is pending on the mm, flush all of it before returning.",
        knob="nested_gather_flush=false with two overlapping calls",
        scenario="nested-gather",
    )

    def _why(self, token: str) -> str:
        return "stored before a discard that has completed"


class WrongData(_Reads):
    """A read returns what was never stored to that page, or GUP-fast hands out a page that is no longer what the entry meant."""

    name = "wrong_data"
    source = "mm/gup.c, gup_fast_pte_range(): recheck of pmd and pte"
    kinds = (MemRead, TableRead, GupPin)
    verdict = UNKNOWN
    rule = Rule(
        meaning="A program reads data of another page or another program, or the kernel gives a driver a page that belongs to"
        " somebody else by now.",
        kernel="gup_fast_pte_range() takes its reference, then rereads pmd and pte; any translation that outlives its page.",
        avoided="The recheck after the reference; unhook, flush, free for everybody else.",
        knob="pending_flush=false, also together with gup_recheck=false",
        scenario="gup-recheck",
    )

    def reset(self) -> None:
        """A new run."""
        super().reset()
        self._looked: dict[int, tuple[int, int]] = {}
        """CPU -> (page, its frame's generation) of the last present entry that a walker there read."""

    def listeners(self) -> dict[type, Listener]:
        """Reads, and what GUP-fast sees and pins."""
        return {MemRead: self.see, TableRead: self._entry_read, GupPin: self._pin}

    def _entry_read(self, step: int, actor: int, event: TableRead) -> None:
        if event.value > 0 and event.value & PRESENT:
            pfn = pfn_of(event.value)
            frame = self.mirror.memory.frame(pfn)
            self._looked[event.cpu] = (pfn, frame.gen if frame is not None else -1)

    def _pin(self, step: int, actor: int, event: GupPin) -> None:
        frame = self.mirror.memory.frame(event.pfn)
        if frame is None:
            return
        pfn, gen = self._looked.get(event.cpu, (-1, -1))
        reused = pfn == event.pfn and gen not in (-1, frame.gen)
        data = frame.kind in ("anon", "file", "hugetlb", "zero")
        if (data and not reused and not frame.frees and frame.gen == event.gen) or not self.first():
            return
        state = "freed" if frame.frees else f"{frame.kind} of generation {frame.gen}"
        known = gen if reused else event.gen
        what = f"cpu{event.cpu} pins frame {event.pfn:#x} (generation {known}) for {self.mirror.at(event.mm, event.va)};"
        lines = (*self.mirror.writes(event.mm, event.va), (frame.died, f"frame {frame.pfn:#x} freed"))
        self.report(step, actor, f"{what} it is {state}", lines, "gup pin")

    def _why(self, token: str) -> str:
        return "never stored there"


class LostWrite(_Reads):
    """A read misses the last store to its page although no discard overlapped or followed that store."""

    name = "lost_write"
    source = "f39edcf6349a (v6.14): pages lost with a reclaimed table"
    verdict = OVERWRITTEN
    rule = Rule(
        meaning="A program stored data, nobody asked to throw it away, and it is gone.",
        kernel="zap_pte_range() reclaims a table that another thread has refilled; pmd_install() puts a table over one that is"
        " in use; a store through a translation that pmdp_collapse_flush() missed.",
        avoided="Scan before the pmd is cleared whenever the pte lock was dropped; install over an empty pmd only; flush before"
        " pages are copied.",
        knob="install_recheck=false; collapse_flush=false with MADV_COLLAPSE; pending_flush=false",
        scenario="install-recheck",
    )

    def _why(self, token: str) -> str:
        return f"the store {token} is lost" if token else "a store is lost"


class LostDirty(Oracle):
    """A file page was written through a mapping, no entry maps it dirty any more, and it was never marked dirty.

    Looked for when no gather is pending anywhere, and at the end: between the clear and folio_mark_dirty() nobody has the bit.
    """

    name = "lost_dirty"
    source = "1cf35d47712d (v3.15); arch/x86/include/asm/pgtable.h, ptep_get_and_clear()"
    kinds = (MemWrite, EntryWrite, FolioDirty, FrameFree, GatherEnd, RunEnd)
    rule = Rule(
        meaning="A program changed a file's page in memory, but the mark that says so got lost, so the change never"
        " reaches the disk.",
        kernel="zap_present_folio_ptes() harvests the dirty bit by an atomic exchange and flushes under the pte lock"
        " before the"
        " folio can be cleaned (force_flush, delay_rmap).",
        avoided="xchg() of the entry, never read and store; flush before the pte lock is dropped.",
        knob="atomic_clear=false; flush_dirty_file_under_ptl=false",
        scenario="atomic-clear",
    )

    def reset(self) -> None:
        """A new run."""
        super().reset()
        self._written: dict[int, dict[tuple[str, int], tuple[int, int]]] = {}
        """File frame never marked dirty -> (mm, va) it was written through -> (step, page)."""
        self._marked: dict[int, int] = {}
        """File frame marked dirty -> generation."""
        self._suspects: dict[int, None] = {}
        """Written frames of which an entry has changed since, or that were written through no dirty entry."""

    def listeners(self) -> dict[type, Listener]:
        """A store, a change of its entry, a mark, and the moments to look."""
        return {
            MemWrite: self._store,
            EntryWrite: self._change,
            FolioDirty: self._mark,
            FrameFree: self._free,
            GatherEnd: self._gather_end,
            RunEnd: self._run_end,
        }

    def _mark(self, step: int, actor: int, event: FolioDirty) -> None:
        self._marked[event.pfn] = event.gen
        self._written.pop(event.pfn, None)
        self._suspects.pop(event.pfn, None)

    def _free(self, step: int, actor: int, event: FrameFree) -> None:
        if event.kind == "file":
            self._written.pop(event.pfn, None)
            self._suspects.pop(event.pfn, None)
            self._marked.pop(event.pfn, None)

    def _gather_end(self, step: int, actor: int, event: GatherEnd) -> None:
        if self._suspects and not any(self.mirror.pending.values()):
            self._look(step, actor, list(self._suspects))

    def _run_end(self, step: int, actor: int, event: RunEnd) -> None:
        if event.complete or not any(self.mirror.pending.values()):
            self._look(step, actor, list(self._written))

    def _change(self, step: int, actor: int, event: EntryWrite) -> None:
        if self._written and is_present(event.old):
            frame = self.mirror.memory.frame(pfn_of(event.old))
            if frame is not None and frame.pfn in self._written:
                self._suspects[frame.pfn] = None

    def _store(self, step: int, actor: int, event: MemWrite) -> None:
        frame = self.mirror.target
        if frame is None or frame.kind != "file" or event.cpu < 0 or frame.frees or frame.gen != event.gen:
            return
        memory = self.mirror.memory
        if self._marked.get(frame.pfn) != frame.gen:
            self._written.setdefault(frame.pfn, {})[event.mm, event.va] = (step, event.pfn)
            if not memory.maps(event.mm, event.va, event.pfn) & DIRTY:
                self._suspects[frame.pfn] = None

    def _look(self, step: int, actor: int, frames: list[int]) -> None:
        memory = self.mirror.memory
        self._suspects.clear()
        for pfn in frames:
            ways = self._written[pfn]
            if any(memory.maps(mm, va, page) & DIRTY for (mm, va), (_, page) in ways.items()) or self._dirty_elsewhere(pfn):
                continue
            del self._written[pfn]
            if self.first():
                (mm, va), (since, _) = next(iter(ways.items()))
                at = self.mirror.at(mm, va)
                lines = ((since, f"{at} written through a mapping of frame {pfn:#x}"), *self.mirror.writes(mm, va))
                what = f"file frame {pfn:#x}, written at {at}, is mapped dirty nowhere and not marked"
                self.report(step, actor, what, lines, "file page")

    def _dirty_elsewhere(self, pfn: int) -> bool:
        memory = self.mirror.memory
        values = chain(memory.entries.values(), *(pmds.values() for pmds in memory.pmds.values()))
        for value in values:
            if is_present(value) and value & DIRTY:
                frame = memory.frame(pfn_of(value))
                if frame is not None and frame.pfn == pfn:
                    return True
        return False
