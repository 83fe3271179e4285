"""What of a run is shown first: the records that a finding is about, and its story as a list of steps in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.event import event_name
from ptactors.model.hazard import Finding
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.report.page import clip
from ptactors.report.page_words import gloss
from ptactors.report.relevance import FRAME, KEY, STORY, Concern, rank

_ROWS = 90
"""Records that the picture starts with, at most."""
_SETUP = 6
"""Records of the set-up among them."""
_STORY = 16
"""Lines of the story, at most."""
_QUIET = (ev.WalkRead, ev.LockRelease, ev.Rss, ev.PgtablesBytes, ev.FrameRef, ev.RcuUnlock, ev.UserMode, ev.LockInit,
          ev.MightSleep)  # fmt: skip
_TELLING = (ev.SyscallEnter, ev.OpBegin, ev.PageFault, ev.TlbFlush, ev.TlbFlushEnd, ev.IpiSend, ev.CsdEnter, ev.MachineCheck,
            ev.MemRead, ev.MemWrite, ev.TlbInvalidate, ev.FrameFree, ev.GatherTable, ev.TableMap, ev.GupPin)  # fmt: skip
"""Kinds that a story tells beside what the finding names."""
_AFTER: tuple[type, ...] = (ev.MemRead, ev.TlbInvalidate, ev.FrameFree)
"""Kinds that tell how it ends, the first of each."""
_EVENTFUL = (ev.OpBegin, ev.SyscallEnter, ev.SyscallExit, ev.PageFault, ev.EntryWrite, ev.TlbFill, ev.TlbFlush, ev.MemRead,
             ev.MemWrite, ev.Register, ev.Stuck, ev.RcuGpEnd, ev.RcuCallback, ev.IpiSend, ev.CsdEnter)  # fmt: skip
"""Kinds that stand for a run in which nothing was found."""


@attrs.frozen(kw_only=True)
class Line:
    """One line of a story."""

    row: int
    """Position of its record."""
    step: int
    cpu: int
    text: str
    gloss: str
    """The same for a reader who does not know the names; '' where nothing is known."""
    key: bool
    """Whether the finding itself names it."""
    hazard: bool


@attrs.frozen(kw_only=True)
class Cone:
    """What belongs to one finding."""

    row: int
    """Position of the record that completed it."""
    rows: tuple[int, ...]
    """Positions of what is shown first, in order."""
    story: tuple[Line, ...]


def hazard_row(records: Sequence[Record], step: int) -> int:
    """The position of the loudest record of the step; the last record before it if it has none."""
    there = [i for i, record in enumerate(records) if record[0] == step]
    loud = [i for i in there if type(records[i][2]) not in _QUIET]
    if loud or there:
        return (loud or there)[-1]
    return max((i for i, record in enumerate(records) if record[0] <= step), default=0)


def cone_of(records: Sequence[Record], finding: Finding, symbols: Symbols) -> Cone:
    """The cone of one finding."""
    steps = [*(step for step, _ in finding.history), finding.step]
    concern = Concern.of(steps, records)
    named = re.findall(r"\bcpu(\d+)\b", " ".join([finding.what, *(text for _, text in finding.history)]))
    concern.cpus.update(map(int, named))
    ranked = rank(records, concern)
    hazard = hazard_row(records, finding.step)
    ranked[hazard] = KEY
    best = sorted(ranked, key=lambda i: (ranked[i], abs(i - hazard), i))[:_ROWS]
    rows = _thin(records, sorted({*best, *_setup(records, concern), *_starts(records, best)}), ranked)
    return Cone(row=hazard, rows=rows, story=_story(records, finding, ranked, hazard, symbols))


def _thin(records: Sequence[Record], rows: Sequence[int], ranked: Mapping[int, int]) -> tuple[int, ...]:
    """Without the middle of a long run of one CPU doing the same over and over."""

    def alike(a: int, b: int) -> bool:
        first, second = records[a][2], records[b][2]
        if type(first) is not type(second) or first.cpu != second.cpu or KEY in (ranked.get(a), ranked.get(b)):
            return False
        return getattr(first, "table", None) == getattr(second, "table", None)

    kept: list[int] = []
    for i, row in enumerate(rows):
        inside = 1 < i < len(rows) - 1 and all(alike(row, rows[j]) for j in (i - 2, i - 1, i + 1))
        if not inside or type(records[row][2]) is ev.TlbInvalidate:
            kept.append(row)
    return tuple(kept)


def _setup(records: Sequence[Record], concern: Concern) -> list[int]:
    """What the TLBs held before the run and what was mapped, as far as it matters."""
    kinds = (ev.TlbFill, ev.EntryWrite)
    found = [
        i
        for i, (step, _, event) in enumerate(records)
        if step <= 0 and isinstance(event, kinds) and concern.meets(event) and getattr(event, "level", 0) <= 1
    ]
    return found[-_SETUP:]


def _starts(records: Sequence[Record], rows: Sequence[int]) -> list[int]:
    """Where the grace periods begin whose end is among these."""
    ends = {records[i][2].seq for i in rows if type(records[i][2]) is ev.RcuGpEnd}
    return [i for i, (_, _, event) in enumerate(records) if type(event) is ev.RcuGpStart and event.seq in ends]


def _story(
    records: Sequence[Record], finding: Finding, ranked: Mapping[int, int], hazard: int, symbols: Symbols
) -> tuple[Line, ...]:
    lines = _named(records, finding)
    keys = {row for row in lines if row >= 0}
    first = min((row for row in keys if records[row][0] > 0), default=hazard)
    others = [i for i in ranked if i not in keys and type(records[i][2]) in _TELLING and ranked[i] <= _worth(records[i][2])]
    before = [i for i in others if i < hazard and (i >= first or ranked[i] == FRAME) and type(records[i][2]) not in _AFTER]
    room = max(0, _STORY - len(keys) - len(_AFTER))
    chosen = sorted(before, key=lambda i: (ranked[i], abs(i - hazard), i))[:room]
    chosen += _aftermath(records, [i for i in others if i > hazard], records[hazard][2].cpu)
    told = [_line(records, row, text, symbols, True, False) for row, text in lines.items() if row != hazard]
    told += [_line(records, row, "", symbols, False, False) for row in chosen if not _repeats(records, row, chosen)]
    told.append(_line(records, hazard, finding.what, symbols, True, True))
    return tuple(sorted(told, key=lambda line: line.row))


def _aftermath(records: Sequence[Record], later: Sequence[int], cpu: int) -> list[int]:
    """How it ends: the next access of that CPU, when it forgets, what is freed."""
    found: list[int] = []
    for kind in _AFTER:
        own = (i for i in later if type(records[i][2]) is kind and (kind is ev.FrameFree or records[i][2].cpu == cpu))
        row = next(own, None)
        if row is not None:
            found.append(row)
    return found


def _worth(event: Any) -> int:
    """How little a record may matter and still be told: accesses and table walks only matter where they are close."""
    return STORY + 1 if isinstance(event, ev.MemRead | ev.MemWrite | ev.CsdEnter) else STORY


def _repeats(records: Sequence[Record], row: int, chosen: Sequence[int]) -> bool:
    """One of several like records in one step, or the begin of an operation whose system call is told."""
    step, _, event = records[row]
    return any(
        other < row and records[other][0] == step and type(records[other][2]) is type(event) for other in chosen
    )  # fmt: skip


def _named(records: Sequence[Record], finding: Finding) -> dict[int, str]:
    """Position -> text of the finding's history."""
    lines: dict[int, str] = {}
    taken: set[int] = set()
    for step, text in finding.history:
        wanted = text.split(" ", 1)[0]
        there = [i for i, record in enumerate(records) if record[0] == step and i not in taken]
        if wanted in ("4K", "2M"):
            fitting = [i for i in there if type(records[i][2]) is ev.TlbFill]
        elif "allocated" in text:
            fitting = [i for i in there if type(records[i][2]) is ev.FrameAlloc and f"{records[i][2].pfn:#x} " in text]
        else:
            fitting = [i for i in there if event_name(records[i][2]) == wanted]
        row = (fitting or [hazard_row(records, step)])[-1]
        taken.add(row)
        lines[row] = text
    return lines


def _line(records: Sequence[Record], row: int, text: str, symbols: Symbols, key: bool, hazard: bool) -> Line:
    step, _, event = records[row]
    return Line(
        row=row, step=step, cpu=event.cpu, text=clip(text or describe(event, symbols), 300),
        gloss=gloss(event, before=step <= 0), key=key, hazard=hazard,
    )  # fmt: skip


def eventful(records: Sequence[Record], symbols: Symbols) -> Cone:
    """The cone of a run in which nothing was found: what the programs did and what became of it."""
    over = next((i for i, record in enumerate(records) if type(record[2]) is ev.ProgramsDone), len(records))
    rows = [i for i, (step, _, event) in enumerate(records) if step > 0 and i < over and isinstance(event, _EVENTFUL)][:_ROWS]
    kinds = (ev.SyscallEnter, ev.PageFault, ev.EntryWrite, ev.TlbFlush, ev.Stuck)
    telling = [i for i in rows if isinstance(records[i][2], kinds)]
    story = tuple(_line(records, row, "", symbols, False, False) for row in telling[:_STORY])
    return Cone(row=rows[0] if rows else 0, rows=tuple(rows), story=story)
