"""Physical memory: frames with kinds, generations and references; table entries; the content of data pages.

A frame of order 9 (a huge page) is one frame at its head; its pages are ``head + i``. A frame that was freed keeps its
generation, so whoever still holds its number can be told from whoever got it next. Content is one token per 4 KiB page: the
value that was stored and the name of the store.

Simplified: allocation never fails except where the scenario makes it; each CPU allocates from frames of its own (Linux: the
per-CPU page lists), and beyond ``PCP_HIGH`` freed frames are not handed out again within a run.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import FrameReuse
from ptactors.model.event import FolioDirty, FrameAlloc, FrameFree, FrameRef
from ptactors.model.paging import HPAGE_PMD_NR, PTRS_PER_TABLE
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import ANY, Footprint, Step

HUGE_PFN = 1 << 30
"""Frames at or above belong to huge pages; the head of a page there is found by its alignment."""
ZERO_PFN = 1
HUGE_ZERO_PFN = HUGE_PFN
PCP_HIGH = 16
"""How many freed frames a CPU keeps for reuse (Linux: pcp->high)."""


class Frame(NamedTuple):
    """What a frame is now."""

    kind: str
    """anon, file, hugetlb, zero, pte, pmd, pud, pgd, batch, or free."""
    gen: int
    order: int
    refs: int
    dirty: bool = False


class Token(NamedTuple):
    """The content of a page."""

    value: int | str
    store: str
    """Which store wrote it; '' for a page that nobody wrote."""


class FreeLists(NamedTuple):
    """Free frames of one CPU and how many fresh ones it has used."""

    small: tuple[int, ...] = ()
    huge: tuple[int, ...] = ()
    used_small: int = 0
    used_huge: int = 0


ZERO = Token(0, "")
POISON = Token("poison", "poison")
NO_FRAME = Frame("free", 0, 0, 0)

family("frame", NO_FRAME, "what a physical frame is")
family("entry", 0, "one entry of a page table in memory")
family("data", ZERO, "content of one 4 KiB page")
family("pcp", FreeLists(), "a CPU's lists of free frames")


def frame(pfn: int) -> Cell[Frame]:
    """The frame with this number (of a huge page: its head)."""
    return ("frame", pfn)  # type: ignore[return-value]


def entry(table: int, slot: int) -> Cell[int]:
    """Entry ``slot`` of the table in frame ``table``."""
    return ("entry", table, slot)  # type: ignore[return-value]


def data(pfn: int) -> Cell[Token]:
    """The content of page ``pfn``."""
    return ("data", pfn)  # type: ignore[return-value]


def pcp(cpu: int) -> Cell[FreeLists]:
    """The CPU's free lists."""
    return ("pcp", cpu)  # type: ignore[return-value]


def head(pfn: int) -> int:
    """The number of the frame that page ``pfn`` belongs to."""
    return pfn & ~(HPAGE_PMD_NR - 1) if pfn >= HUGE_PFN else pfn


def occupied_slots(state: State, table: int, first: int = 0, last: int = PTRS_PER_TABLE - 1) -> list[int]:
    """The slots of a table, from ``first`` to ``last``, whose entry is not none, ascending."""
    mask = state.occupied.get(table, 0) >> first << first & (1 << last + 1) - 1
    slots = []
    while mask:
        low = mask & -mask
        slots.append(low.bit_length() - 1)
        mask ^= low
    return slots


def next_frame(state: State, cpu: int, order: int) -> int:
    """The frame that this CPU's allocator hands out next."""
    lists = state.read(pcp(cpu))
    lifo = state.config.machine.frame_reuse is FrameReuse.LIFO
    if order:
        return lists.huge[-1] if lists.huge and lifo else HUGE_PFN + ((cpu + 2) << 24) + lists.used_huge * HPAGE_PMD_NR
    return lists.small[-1] if lists.small and lifo else ((cpu + 2) << 20) + lists.used_small


def alloc_frame(state: State, cpu: int, kind: str, order: int, mm: str) -> int:
    """Hand out a zeroed frame with one reference; part of the effect of steps that allocate."""
    pfn = next_frame(state, cpu, order)
    lists = state.read(pcp(cpu))
    if order:
        reused = bool(lists.huge) and lists.huge[-1] == pfn
        lists = lists._replace(huge=lists.huge[:-1]) if reused else lists._replace(used_huge=lists.used_huge + 1)
    else:
        reused = bool(lists.small) and lists.small[-1] == pfn
        lists = lists._replace(small=lists.small[:-1]) if reused else lists._replace(used_small=lists.used_small + 1)
    state.write(pcp(cpu), lists)
    gen = state.read(frame(pfn)).gen + 1
    state.write(frame(pfn), Frame(kind, gen, order, 1))
    state.emit(FrameAlloc(cpu, pfn, gen, kind, order, mm))
    return pfn


def free_frame(state: State, cpu: int, pfn: int) -> None:
    """Take a frame back; part of the effect of steps that free."""
    was = state.read(frame(pfn))
    state.emit(FrameFree(cpu, pfn, was.gen, was.kind, was.order))
    if was.kind == "free":
        return
    state.write(frame(pfn), Frame("free", was.gen, was.order, 0))
    for slot in occupied_slots(state, pfn):
        state.write(entry(pfn, slot), 0)
    for page in range(pfn, pfn + (1 << was.order)):
        if data(page) in state.cells:
            state.write(data(page), ZERO)
    lists = state.read(pcp(cpu))
    if was.order and len(lists.huge) < PCP_HIGH:
        state.write(pcp(cpu), lists._replace(huge=(*lists.huge, pfn)))
    elif not was.order and len(lists.small) < PCP_HIGH:
        state.write(pcp(cpu), lists._replace(small=(*lists.small, pfn)))


def put_frame(state: State, cpu: int, pfn: int, why: str) -> None:
    """Drop a reference to the frame that page ``pfn`` belongs to; the last one frees it."""
    first = head(pfn)
    was = state.read(frame(first))
    if was.kind == "zero":
        return
    state.emit(FrameRef(cpu, first, was.gen, was.refs - 1, why))
    if was.refs > 1:
        state.write(frame(first), was._replace(refs=was.refs - 1))
    else:
        free_frame(state, cpu, first)


def get_frame(state: State, cpu: int, pfn: int, why: str, more: int = 1) -> None:
    """Take ``more`` references to the frame that page ``pfn`` belongs to."""
    first = head(pfn)
    was = state.read(frame(first))
    if was.kind != "zero":
        state.write(frame(first), was._replace(refs=was.refs + more))
        state.emit(FrameRef(cpu, first, was.gen, was.refs + more, why))


def alloc_footprint(state: State, cpu: int, order: int) -> Footprint:
    """What :func:`alloc_frame` touches now."""
    written: tuple[Key, ...] = (pcp(cpu), frame(next_frame(state, cpu, order)))
    return written, written


def free_footprint(state: State, cpu: int, pfns: tuple[int, ...]) -> Footprint:
    """What freeing or putting these frames touches now."""
    keys: list[Key] = [pcp(cpu)]
    for first in dict.fromkeys([head(pfn) for pfn in pfns]):  # a split huge page comes as its 512 pages
        keys += [frame(first), ("entry", first, ANY)]
        keys += [data(page) for page in range(first, first + (1 << state.read(frame(first)).order)) if data(page) in state.cells]
    return tuple(keys), tuple(keys)


@attrs.frozen
class AllocFrame(Step[int]):
    """alloc_pages() with a result that is private until it is linked somewhere. Source: mm/page_alloc.c."""

    cpu: int
    kind: str
    order: int
    mm: str
    label = "mm_page_alloc"

    def apply(self, state: State) -> int:
        """Hand out the frame."""
        return alloc_frame(state, self.cpu, self.kind, self.order, self.mm)

    def touches(self, state: State) -> Footprint:
        """The CPU's list and the frame."""
        return alloc_footprint(state, self.cpu, self.order)


@attrs.frozen
class FreeFrames(Step[None]):
    """Give frames back that nobody else refers to (tables, spares).

    Source: mm/page_alloc.c, free_unref_page(), by v6.14 free_frozen_pages().
    """

    cpu: int
    pfns: tuple[int, ...]
    label = "mm_page_free"

    def apply(self, state: State) -> None:
        """Free each of them."""
        for pfn in self.pfns:
            free_frame(state, self.cpu, pfn)

    def touches(self, state: State) -> Footprint:
        """The frames, their content, the CPU's list."""
        return free_footprint(state, self.cpu, self.pfns)


@attrs.frozen
class PutFrames(Step[None]):
    """Drop one reference to each page: free_pages_and_swap_cache(). Source: mm/swap_state.c.

    Simplified: a batch is put in one step; who looks at several pages of a batch while it is freed sees all or none freed.
    """

    cpu: int
    pfns: tuple[int, ...]
    why: str
    label = "page_put"

    def apply(self, state: State) -> None:
        """Put each of them."""
        for pfn in self.pfns:
            put_frame(state, self.cpu, pfn, self.why)

    def touches(self, state: State) -> Footprint:
        """The frames, their content, the CPU's list."""
        return free_footprint(state, self.cpu, self.pfns)


def mark_dirty(state: State, cpu: int, pfn: int) -> None:
    """folio_mark_dirty(); part of the effect of steps that harvest a dirty bit."""
    was = state.read(frame(head(pfn)))
    if not was.dirty:
        state.write(frame(head(pfn)), was._replace(dirty=True))
    state.emit(FolioDirty(cpu, head(pfn), was.gen))
