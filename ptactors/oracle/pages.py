"""What a read of private anonymous memory may return, worked out from stores and discards alone.

Every store carries a token of its own (stores of one operation in a loop share theirs), so the question "may this read return
that token" has an answer that needs no page tables:

- A store that no discard (MADV_DONTNEED, munmap, mmap over it) overlaps settles the page: a later read returns it or a later one.
- While a discard is under way, a read may return zero or any store that no earlier, completed discard has ended; a store made
  meanwhile may vanish (it may have gone through a translation that the discard was about to flush) or stay.
- Once a discard has returned 0, nothing stored before it began may be read again. One that failed has promised nothing.

Shared anonymous memory is left alone: DONTNEED does not discard it, and other processes store to it.
"""

from __future__ import annotations

from ptactors.model.event import MemRead, MemWrite, SyscallEnter, SyscallExit, VmaInit
from ptactors.model.paging import PAGE_SHIFT, PMD_SHIFT

FINE, DISCARDED, OVERWRITTEN, UNKNOWN = "fine", "discarded", "overwritten", "unknown"
"""What a read's token may be: allowed; of before a completed discard; lost to a later store's guarantee; never stored here."""
PAST = 32
"""How many outlived stores of a page are remembered, to say what kind of wrong a read is."""
HARMLESS = ("WILLNEED", "HUGEPAGE", "NOHUGEPAGE", "POPULATE_READ", "POPULATE_WRITE", "COLLAPSE", "NORMAL", "GUARD_REMOVE")
"""Advice that does not change content."""


ADVISING = ("madvise", "process_madvise")
"""System calls that take an advice; the second one returns how many bytes it has advised."""
UNMAPPING = ("munmap", "mmap")
"""System calls after which nothing is there of what was: mmap at a fixed address replaces it."""


class Store:
    """One store to a page."""

    __slots__ = ("cpu", "step", "token", "value")

    def __init__(self, step: int, event: MemWrite) -> None:
        self.step = step
        self.cpu = event.cpu
        self.token = event.token
        self.value = event.value

    def is_read_by(self, event: MemRead) -> bool:
        """Whether the read returns this store. A loop's stores share their token; the value tells some of them apart."""
        return self.token == event.token and self.value == event.value


class Page:
    """What is known of one page."""

    __slots__ = ("live", "past", "zero")

    def __init__(self) -> None:
        self.live: list[Store] = []
        """Stores that a read may return, in order."""
        self.past: list[tuple[Store, int]] = []
        """Stores that none may, each with the step at which the discard that ended it began, or -1 if a store did."""
        self.zero = True
        """Whether a read may return zero."""

    def outlive(self, stores: list[Store], ended_by: int) -> None:
        """None of these may be read any more."""
        self.past += [(store, ended_by) for store in stores]
        if len(self.past) > PAST:
            del self.past[:-PAST]


class Discard:
    """A system call that may discard content."""

    __slots__ = ("begin", "call", "firm")

    def __init__(self, begin: int, call: SyscallEnter) -> None:
        self.begin = begin
        self.call = call
        self.firm = call.call in UNMAPPING or call.arg in ("DONTNEED", "DONTNEED_LOCKED")
        """Whether its success promises that the content is gone (MADV_FREE does not)."""


Judgement = tuple[str, Store | None, int]
"""(verdict, the store whose token was read or that should have been, the step at which the discard that ended it began or -1)."""


class Pages:
    """The pages of private anonymous VMAs that anybody stored to."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new run."""
        self._vmas: dict[str, list[VmaInit]] = {}
        self._pages: dict[tuple[str, int], Page] = {}
        self._blocks: dict[tuple[str, int], dict[int, Page]] = {}
        """(mm, va >> 21) -> the pages of that block which have live stores."""
        self._active: dict[tuple[int, str], Discard] = {}
        self._asked: MemRead | None = None
        self._answer: Judgement = (FINE, None, -1)

    def vma(self, event: VmaInit) -> None:
        """A VMA is set up."""
        if event.kind.startswith("anon") and "shared" not in event.kind:
            self._vmas.setdefault(event.mm, []).append(event)

    def _tracked(self, mm: str, va: int) -> bool:
        return any(vma.start <= va < vma.end for vma in self._vmas.get(mm, ()))

    def _discarding(self, mm: str, va: int) -> bool:
        page = va >> PAGE_SHIFT << PAGE_SHIFT
        return any(
            d.call.mm == mm and d.call.start < page + (1 << PAGE_SHIFT) and page < d.call.end for d in self._active.values()
        )

    def store(self, step: int, event: MemWrite) -> None:
        """A store."""
        mm, number = event.mm, event.va >> PAGE_SHIFT
        page = self._pages.get((mm, number))
        if page is None:
            if not self._tracked(mm, event.va):
                return
            page = self._pages[mm, number] = Page()
        if self._active and self._discarding(mm, event.va):
            page.live.append(Store(step, event))
        else:
            if page.live:
                page.outlive(page.live, -1)
            page.live = [Store(step, event)]
            page.zero = False
        self._blocks.setdefault((mm, event.va >> PMD_SHIFT), {})[number] = page

    def begin(self, step: int, event: SyscallEnter) -> None:
        """A system call begins."""
        if event.call in UNMAPPING or (event.call in ADVISING and event.arg not in HARMLESS):
            self._active[event.cpu, event.label] = Discard(step, event)

    def end(self, event: SyscallExit) -> None:
        """A system call returns."""
        discard = self._active.pop((event.cpu, event.label), None)
        if discard is None:
            return
        call = discard.call
        done = event.ret == (call.end - call.start if call.call == "process_madvise" else 0)
        firm = discard.firm and done
        for key in self._touched_blocks(call):
            block = self._blocks[key]
            for number in [n for n in block if call.start >> PAGE_SHIFT <= n < (call.end - 1 >> PAGE_SHIFT) + 1]:
                page = block[number]
                page.zero = True
                if firm:
                    page.outlive([store for store in page.live if store.step < discard.begin], discard.begin)
                    page.live = [store for store in page.live if store.step >= discard.begin]
                if not page.live:
                    del block[number]
            if not block:
                del self._blocks[key]

    def _touched_blocks(self, call: SyscallEnter) -> list[tuple[str, int]]:
        first, last = call.start >> PMD_SHIFT, (call.end - 1) >> PMD_SHIFT
        if last - first < len(self._blocks):
            return [key for key in ((call.mm, n) for n in range(first, last + 1)) if key in self._blocks]
        return [key for key in self._blocks if key[0] == call.mm and first <= key[1] <= last]

    def judge(self, event: MemRead) -> Judgement:
        """What the token of this read is; asked for the latest event only."""
        if self._asked is not event:
            self._asked, self._answer = event, self._judge(event)
        return self._answer

    def _judge(self, event: MemRead) -> Judgement:
        if not self._tracked(event.mm, event.va):
            return FINE, None, -1
        page = self._pages.get((event.mm, event.va >> PAGE_SHIFT))
        if page is None:
            return (UNKNOWN if event.token else FINE), None, -1
        if not event.token:
            if page.zero or self._discarding(event.mm, event.va):
                return FINE, None, -1
            return OVERWRITTEN, page.live[-1], -1
        if any(store.is_read_by(event) for store in page.live):
            return FINE, None, -1
        for store, ended_by in reversed(page.past):
            if store.is_read_by(event):
                return (DISCARDED if ended_by >= 0 else OVERWRITTEN), store, ended_by
        return UNKNOWN, None, -1
