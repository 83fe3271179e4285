"""The diagram of kernel mails: a column for each CPU, time downwards, the step at the right, the hazard marked.

At most 80 columns. Text of one CPU may run on into the columns right of its own: no two CPUs share a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.report.relevance import FRAME, KEY, Concern, rank

WIDTH = 80
_MARGIN = 2
_TEXT_END = 60
_STEP_END = 67
_MARK = "  <-- HAZARD"
_STRIDE = 22
_LEAST_STRIDE = 6
_LAST_COLUMN = 20
"""Width of the rightmost column, as long as the strides allow it."""
_ROWS = 26
_ROWS_AFTER = 6
"""Rows behind the hazard: how the race ends."""
_GAP = 4
"""So many records that matter a little are left out, and the place is marked."""
_FOLD = 3
"""So many like rows in a run, and the middle ones are left out."""


@attrs.frozen(kw_only=True)
class Row:
    """One line of the diagram."""

    step: int
    cpu: int
    depth: int
    text: str
    rank: int
    hazard: bool = False
    gap: bool = False
    """Whether records that matter a little were left out before it."""
    kind: str = ""


def diagram(
    records: Sequence[Record], steps: Sequence[int], hazard_step: int, rows: int = _ROWS, cpus: Iterable[int] = ()
) -> list[str]:
    """Lines of the diagram of what happened around these ``steps`` (the finding's own and its history's).

    ``cpus`` take part although no step of theirs is named.
    """
    concern = Concern.of([*steps, hazard_step], records)
    concern.cpus.update(cpus)
    chosen = _choose(rank(records, concern), records, hazard_step, rows)
    table = list(_fold(list(_rows(records, chosen, hazard_step))))
    return _draw(table) if table else []


def _choose(ranked: Mapping[int, int], records: Sequence[Record], hazard_step: int, rows: int) -> dict[int, tuple[int, bool]]:
    """The positions that fit, each with its rank and whether something was left out before it."""
    after = [i for i in ranked if records[i][0] > hazard_step >= 0]
    late = set(sorted(after, key=lambda i: (ranked[i], i))[_ROWS_AFTER:])
    best = sorted((i for i in ranked if i not in late), key=lambda i: (ranked[i], abs(records[i][0] - hazard_step), i))
    kept = set(best[:rows])
    chosen: dict[int, tuple[int, bool]] = {}
    left_out = 0
    for i in ranked:
        if i in kept:
            chosen[i] = ranked[i], left_out >= _GAP and bool(chosen)
            left_out = 0
        else:
            left_out += 1
    return chosen


def _rows(records: Sequence[Record], chosen: Mapping[int, tuple[int, bool]], hazard_step: int) -> Iterator[Row]:
    symbols = Symbols.of(records)
    depths: dict[int, int] = {}
    at_hazard = [i for i in chosen if records[i][0] == hazard_step]
    last = max(chosen, default=-1)
    for i, (step, _, event) in enumerate(records):
        if i > last:
            return
        cpu, kind = event.cpu, type(event)
        if kind in (ev.OpEnd, ev.OpBegin):
            depths[cpu] = 0
        elif kind in (ev.PageFaultEnd, ev.CsdExit, ev.GatherEnd):
            depths[cpu] = max(0, depths.get(cpu, 0) - 1)
        if i in chosen:
            importance, gap = chosen[i]
            depth = 0 if kind in (ev.SyscallEnter, ev.SyscallExit) else depths.get(cpu, 0)
            yield Row(
                step=step, cpu=cpu, depth=depth, text=describe(event, symbols), rank=importance, gap=gap,
                hazard=bool(at_hazard) and i == at_hazard[-1], kind=event.what if kind is ev.EntryWrite else kind.__name__,
            )  # fmt: skip
        if kind in (ev.OpBegin, ev.PageFault, ev.CsdEnter, ev.GatherBegin):
            depths[cpu] = depths.get(cpu, 0) + 1


def _fold(rows: list[Row]) -> Iterator[Row]:
    """Leave out the middle of a run of rows that differ in nothing but the address."""
    start = 0
    while start < len(rows):
        end = start + 1
        first = rows[start]
        while end < len(rows) and rows[start].rank > FRAME and _alike(first, rows[end]):
            end += 1
        if end - start > _FOLD:
            yield first
            yield attrs.evolve(rows[end - 1], gap=True)
        else:
            yield from rows[start:end]
        start = end


def _alike(a: Row, b: Row) -> bool:
    return (a.cpu, a.kind, a.depth) == (b.cpu, b.kind, b.depth) and b.rank != KEY and not b.gap


def _draw(rows: Sequence[Row]) -> list[str]:
    cpus = sorted({row.cpu for row in rows})
    room = (_TEXT_END - _MARGIN - _LAST_COLUMN) // max(1, len(cpus) - 1)
    stride = max(_LEAST_STRIDE, min(_STRIDE, room))
    start = {cpu: _MARGIN + i * stride for i, cpu in enumerate(cpus)}
    names = {cpu: f"cpu{cpu}" if cpu >= 0 else "(none)" for cpu in cpus}
    heads = "".join(f"{names[cpu]:<{stride}}" for cpu in cpus)
    rules = "".join(f"{'-' * len(names[cpu]):<{stride}}" for cpu in cpus)
    lines = [(" " * (_MARGIN + 2) + text).rstrip()[:WIDTH] for text in (heads, rules)]
    for row in rows:
        if row.gap:
            lines.append(" " * (start[row.cpu] + 2 * row.depth) + "...")
        at = min(start[row.cpu] + 2 * row.depth, _TEXT_END - 16)
        text = _fit(" " * at + row.text, _TEXT_END)
        lines.append(f"{text:<{_TEXT_END}}{row.step:>{_STEP_END - _TEXT_END}}" + (_MARK if row.hazard else ""))
    return lines


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."
