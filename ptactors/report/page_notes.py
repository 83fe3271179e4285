"""What a record of this run means beyond its own words: what an invalidation dropped, which page of a huge page, a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.paging import HPAGE_PMD_NR, PAGE_SIZE
from ptactors.model.state import Record
from ptactors.report.describe import SIZES
from ptactors.report.page import clip
from ptactors.report.page_pair import drops, hidden_tables

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def notes(records: Sequence[Record], symbols: Symbols) -> dict[int, str]:
    """Position of a record -> a note without a full stop; records that need none are absent."""
    found = _invalidations(records, symbols)
    for row, walk in hidden_tables(records).items():
        found[row] = (
            f"the hardware walk (step {records[walk][0]}) still used the cached address of the unhooked PTE page, and read an"
            " empty pte there; the kernel's fault handler walks from the top and finds the pmd itself empty"
        )
    for row, (_, _, event) in enumerate(records):
        kind = type(event)
        if kind is ev.TlbFlush and event.pages > 0:
            length = event.end - event.start
            pages = f"{length // PAGE_SIZE} pages" if length > PAGE_SIZE else "1 page"
            found[row] = f"{length:#x} is the length of what is flushed: {pages}, as far as entries were cleared"
        elif kind in (ev.MemRead, ev.MemWrite) and event.size > PAGE_SIZE:
            offset = event.pfn % HPAGE_PMD_NR
            found[row] = f"frame {event.pfn:#x} is page {offset} of the huge page {event.pfn - offset:#x}"
    return found


def _invalidations(records: Sequence[Record], symbols: Symbols) -> dict[int, str]:
    """Of the invalidations that one CPU makes in one step: what each drops, and which does."""
    gone = drops(records)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (step, _, event) in enumerate(records):
        if type(event) is ev.TlbInvalidate and step > 0:
            groups.setdefault((step, event.cpu), []).append(row)
    found: dict[int, str] = {}
    for rows in groups.values():
        by = " by the {} invalidation" if rows[1:] else ""
        told = [
            f"{SIZES.get(fill.size, hex(fill.size))} of {_at(symbols, fill)}{by.format(_ordinal(i))}"
            for i, row in enumerate(rows)
            for _, fill in gone.get(row, [])
        ]
        cpu = records[rows[0]][2].cpu
        text = f"cpu{cpu} drops {', '.join(told[:6])}" if told else f"cpu{cpu} held nothing of this, so nothing is dropped"
        found.update(dict.fromkeys(rows, clip(text, 400)))
    return found


def _at(symbols: Symbols, fill: ev.TlbFill) -> str:
    return clip(symbols.name(fill.va, fill.mm) or hex(fill.va), 60)


def _ordinal(index: int) -> str:
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"


def mains(records: Sequence[Record], hazards: Sequence[int]) -> dict[int, int]:
    """Step -> the position of the record that a link to the step opens: a hazard's, or the one that says most."""
    best: dict[int, tuple[int, int]] = {}
    for row, (step, _, event) in enumerate(records):
        rank = -1 if row in hazards else next((i for i, kinds in enumerate(_TELLING) if isinstance(event, kinds)), len(_TELLING))
        if step not in best or rank < best[step][0]:
            best[step] = rank, row
    return {step: row for step, (_, row) in best.items()}


_TELLING: tuple[tuple[type, ...], ...] = (
    (ev.EntryWrite, ev.PageFault, ev.SyscallEnter, ev.SyscallExit, ev.TlbFlush, ev.TlbFill, ev.MemRead, ev.MemWrite),
    (ev.OpBegin, ev.OpEnd, ev.CsdEnter, ev.IpiSend, ev.TlbInvalidate, ev.FrameFree, ev.GatherTable, ev.RcuCallback),
)
"""Kinds that say most of a step, the first that is there; then any."""


def anchors(records: Sequence[Record], hazards: Sequence[int]) -> list[str]:
    """A fragment for each record, no two alike: ``46`` for the main record of a step, ``46.1`` for its others, by their order."""
    main = mains(records, hazards)
    count: dict[int, int] = {}
    named = []
    for row, (step, _, _) in enumerate(records):
        count[step] = count.get(step, 0) + 1
        named.append(str(step) if step > 0 and main[step] == row else f"{max(step, 0)}.{count[step]}")
    return named


def folded(records: Sequence[Record], rows: Sequence[int], hazards: Sequence[int], keep: Mapping[int, object]) -> tuple[int, ...]:
    """Without what only repeats: an operation whose system call follows, and all but the first of a step's invalidations."""
    shown: list[int] = []
    chosen = set(rows)
    for row in rows:
        step, _, event = records[row]
        if row not in hazards and row not in keep:
            if type(event) is ev.TlbInvalidate and shown:
                before, _, last = records[shown[-1]]
                if (before, last.cpu, type(last)) == (step, event.cpu, ev.TlbInvalidate):
                    continue
            if type(event) is ev.OpBegin and _call(records, row) in chosen:
                continue
        shown.append(row)
    return tuple(shown)


def _call(records: Sequence[Record], row: int) -> int:
    """The system call that the CPU enters next if the operation is one; else -1."""
    cpu = records[row][2].cpu
    for i in range(row + 1, min(row + 40, len(records))):
        event = records[i][2]
        if event.cpu == cpu and isinstance(event, ev.SyscallEnter | ev.MemRead | ev.MemWrite | ev.PageFault | ev.OpEnd):
            return i if type(event) is ev.SyscallEnter else -1
    return -1
