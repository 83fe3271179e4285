"""What led to a TLB entry, a table entry, a table, a frame or a lock: its history, and the chain behind its latest change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from ptactors.errors import UsageError
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.paging import SHIFT, pfn_of
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.report.page_why import whys
from ptactors.scenario.hints import suggest
from ptactors.scenario.model import Scenario
from ptactors.shrink.recall import Run

FORMS = "tlb[cpu1][A+0x3000], pt[A+0x3000], table[0x100004], frame[0x100001], lock[pte:0x100004], lock[mmap:P]"
HISTORY = 12
"""Lines of a history that are shown: the last ones."""
DEPTH = 16
"""Links of a chain that are shown."""


@attrs.frozen(kw_only=True)
class Subject:
    """What is asked about."""

    text: str
    changes: Callable[[Any], bool]
    """Whether an event changes it."""
    name: str = ""
    """Of a lock, a table or a frame."""
    named: Callable[[Any], str] = lambda event: ""
    """The name of the one of its kind that an event is about."""


def subject(text: str, scenario: Scenario) -> Subject:
    """What ``--why`` names. Raises UsageError."""
    match = re.fullmatch(r"\s*(tlb|pt|table|frame|lock)\[([^\]]+)\](?:\[([^\]]+)\])?\s*", text)
    if match is None:
        raise UsageError(f"--why takes one of {FORMS}; not {text!r}")
    kind, first, second = match.groups()
    if (kind == "tlb") != (second is not None):
        raise UsageError(f"--why {text}: a TLB entry needs a CPU and an address, as in tlb[cpu1][A]; nothing else does")
    if kind == "tlb":
        cpu = re.fullmatch(r"cpu(\d+)", first)
        if cpu is None or int(cpu[1]) >= len(scenario.cpus):
            raise UsageError(f"--why {text}: there is no {first}; the machine has cpu0 to cpu{len(scenario.cpus) - 1}")
        return Subject(text=text, changes=_tlb(int(cpu[1]), _address(second, scenario)))
    if kind == "pt":
        return Subject(text=text, changes=_entry(_address(first, scenario)))
    if kind == "lock":
        return Subject(text=text, changes=_lock(first), name=first, named=lambda event: getattr(event, "lock", ""))
    pfn = _number(first)
    return Subject(text=text, changes=_frame(pfn), name=hex(pfn), named=_allocated)


def _address(text: str, scenario: Scenario) -> int:
    name, plus, offset = text.partition("+")
    vma = next((vma for vma in scenario.vmas if vma.name == name), None)
    if vma is not None:
        return vma.at + (_number(offset) if plus else 0)
    if name[:1].isdigit():
        return _number(text)
    known = ", ".join(vma.name for vma in scenario.vmas)
    raise UsageError(f"--why: {text!r} is no address; VMAs are {known or 'not there'}")


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"--why: {text!r} is no number such as 0x100004") from None


def _tlb(cpu: int, va: int) -> Callable[[Any], bool]:
    def changes(event: Any) -> bool:
        if event.cpu != cpu:
            return False
        if isinstance(event, ev.TlbFill | ev.TlbEvict):
            return bool(event.va <= va < event.va + event.size)
        return isinstance(event, ev.TlbInvalidate) and event.start <= va < event.end

    return changes


def _entry(va: int) -> Callable[[Any], bool]:
    def changes(event: Any) -> bool:
        return isinstance(event, ev.EntryWrite) and event.va >> SHIFT[event.level] == va >> SHIFT[event.level]

    return changes


def _lock(name: str) -> Callable[[Any], bool]:
    kinds = (ev.LockAcquire, ev.LockRelease, ev.LockFail, ev.LockInit, ev.LockFree)
    return lambda event: isinstance(event, kinds) and event.lock == name


def _frame(pfn: int) -> Callable[[Any], bool]:
    def changes(event: Any) -> bool:
        if isinstance(event, ev.EntryWrite):
            return pfn in (pfn_of(event.old), pfn_of(event.new))
        if isinstance(event, ev.FrameAlloc | ev.FrameFree):
            return bool(event.pfn <= pfn < event.pfn + (1 << event.order))
        if isinstance(event, ev.GatherTable | ev.GatherPage | ev.TlbFill | ev.FrameRef):
            return bool(event.pfn == pfn)
        return isinstance(event, ev.TableMap | ev.TableUnmap) and event.table == pfn

    return changes


def _allocated(event: Any) -> str:
    return hex(event.pfn) if isinstance(event, ev.FrameAlloc) else ""


def why_lines(run: Run, about: Subject, last: int) -> Iterator[str]:
    """The history of the subject up to step ``last`` of a recorded run, and the chain behind its latest change."""
    records: Sequence[Record] = run.outcome.records or ()
    symbols = Symbols.of(records)
    rows = [row for row, (step, _, event) in enumerate(records) if step <= last and about.changes(event)]
    yield f"{about.text} up to step {last}:"
    if not rows:
        known = dict.fromkeys(name for _, _, event in records if (name := about.named(event)))
        unknown = about.name and about.name not in known
        yield "  nothing happened to it" + (f": this run has none of that name; {suggest(about.name, known)}" if unknown else "")
        return
    if len(rows) > HISTORY:
        yield f"  ... and {len(rows) - HISTORY} earlier changes"
    for row in rows[-HISTORY:]:
        yield f"  {_line(records[row], symbols, run)}"
    yield "How the last of these came about:"
    links = whys(records, run.outcome.causes)
    row, shown = rows[-1], 0
    yield f"  {_line(records[row], symbols, run)}"
    while (link := links[row]) is not None and shown < DEPTH:
        row, shown = link.row, shown + 1
        yield f"    {link.reason}:"
        yield f"  {_line(records[row], symbols, run)}"


def _line(record: Record, symbols: Symbols, run: Run) -> str:
    step, _, event = record
    who = f"cpu{event.cpu}" if event.cpu >= 0 else "set-up"
    stack = run.outcome.functions.get(step, "").split(" <- ")[0]
    return f"{step if step > 0 else '-':>5}  {who}: {describe(event, symbols)}{f'  ({stack})' if stack else ''}"
