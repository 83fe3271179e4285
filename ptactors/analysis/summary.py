"""One screen about one log or about all logs of a campaign."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors.analysis.database import Database
from ptactors.analysis.judge import judge
from ptactors.analysis.schema import FAULTS, FLUSHES, GRACE_PERIODS, LOCKS, WINDOWS
from ptactors.log.read import LogState, SavedLog
from ptactors.oracle.table import HAZARDS

WIDTH = 80
_KINDS = 12
_LONGEST = 5
_JUDGED = 100_000
"""Up to so many events the oracles run when a log does not say what they saw."""


@attrs.frozen(kw_only=True)
class Summary:
    """What the screen tells."""

    logs: tuple[SavedLog, ...]
    hazards: dict[str, tuple[int, int, str]]
    """Hazard -> (in how many logs, step of the first sighting there, that log)."""
    unjudged: int
    """Events of logs in which nobody looked for hazards."""
    kinds: dict[str, int]
    steps: int
    """Of all logs together."""
    cpus: int
    locks: list[tuple[Any, ...]]
    """(lock, cls, mode, cpu, acquired, released, held, file), the longest first."""
    holds: int
    failed: int
    """Trylocks that failed."""
    flushes: list[tuple[Any, ...]]
    """(reason, count, of everything, interrupts sent, longest in steps)."""
    ipis: list[tuple[Any, ...]]
    """(function, sent, interrupts)."""
    windows: list[tuple[Any, ...]]
    """(was, count, never flushed, median, longest, where, file)."""
    grace_periods: tuple[Any, ...]
    """(count, not ended, median, longest, callbacks)."""
    faults: list[tuple[Any, ...]]
    """(result, count, longest)."""


def summarise(database: Database) -> Summary:
    """Ask the database, which has not read anything yet."""
    database.need_views((LOCKS, FLUSHES, GRACE_PERIODS, WINDOWS, FAULTS), ("ipi_send_cpumask",), exact=False)
    counted = database.count_kinds()
    kinds, sizes, last = Counter[str](), Counter[str](), dict[str, int]()
    for file, kind, count, step, _ in counted:
        kinds[kind] += count
        sizes[file] += count
        last[file] = max(last.get(file, 0), step or 0)
    hazards, unjudged = _hazards(database, sizes)
    ask = database.rows
    return Summary(
        logs=tuple(database.logs),
        hazards=hazards,
        unjudged=unjudged,
        kinds=dict(kinds.most_common()),
        steps=sum(last.values()),
        cpus=max((cpu for *_, cpu in counted if cpu is not None), default=-1) + 1,
        locks=ask(
            f"SELECT lock, cls, mode, cpu, acquired, released, held, file FROM locks WHERE held IS NOT NULL "
            f"ORDER BY held DESC, file, acquired, lock, cpu LIMIT {_LONGEST}"
        ),
        holds=kinds["lock_acquire"],
        failed=kinds["trylock_fail"],
        flushes=ask(
            "SELECT reason, count(*), count(*) FILTER (pages < 0), sum(len(targets)), max(steps) FROM flushes "
            "GROUP BY reason ORDER BY count(*) DESC, reason"
        ),
        ipis=ask(
            "SELECT func, count(*), sum(len(targets)) FROM core WHERE ev = 'ipi_send_cpumask' GROUP BY func "
            "ORDER BY count(*) DESC, func"
        ),
        windows=ask(
            "SELECT was, count(*), count(*) FILTER (steps IS NULL), median(steps), max(steps), "
            "first(coalesce(nullif(sym, ''), va) || ' cleared at step ' || cleared "
            "ORDER BY steps DESC NULLS LAST, file, cleared, va), "
            "first(file ORDER BY steps DESC NULLS LAST, file, cleared, va) FROM windows GROUP BY was ORDER BY was DESC"
        ),
        grace_periods=ask(
            "SELECT count(*), count(*) FILTER (ended IS NULL), median(steps), max(steps), coalesce(sum(callbacks), 0) "
            "FROM grace_periods WHERE began IS NOT NULL"
        )[0],
        faults=ask(
            "SELECT coalesce(result, 'not done'), count(*), max(steps) FROM faults GROUP BY ALL ORDER BY count(*) DESC, 1"
        ),
    )


def _hazards(database: Database, sizes: Mapping[str, int]) -> tuple[dict[str, tuple[int, int, str]], int]:
    seen: dict[str, tuple[int, int, str]] = {}
    unjudged = 0
    for log in database.logs:
        size = sizes.get(str(log.path), 0)
        told = _told(log)
        if told is not None:
            found = told
        elif size <= _JUDGED:
            found = [(finding.hazard, finding.step) for finding, _ in judge(log)]
        else:
            unjudged += size
            continue
        for name, step in found:
            count, first, where = seen.get(name, (0, step, str(log.path)))
            seen[name] = count + 1, first, where
    return seen, unjudged


def _told(log: SavedLog) -> list[tuple[str, int]] | None:
    """The hazards of the trailer, where it says them."""
    told = log.trailer.get("hazards")
    if log.state is not LogState.COMPLETE or not isinstance(told, list):
        return None
    pairs = [each for each in told if isinstance(each, list) and [*map(type, each)] == [str, int]]
    return [(name, step) for name, step in pairs] if len(pairs) == len(told) else None


def lines(summary: Summary) -> Iterator[str]:
    """The screen."""
    many = len(summary.logs) > 1
    base = _common([log.path.parent for log in summary.logs]) if many else ""
    yield from _head(summary, base)
    yield from _verdict(summary, base)
    events = sum(summary.kinds.values())
    yield f"Events    {events:,} in {summary.steps:,} steps on {summary.cpus} CPUs"
    yield from _listed([f"{name} {count:,}" for name, count in list(summary.kinds.items())[:_KINDS]], len(summary.kinds) - _KINDS)
    yield f"Locks     held {summary.holds:,} times, {summary.failed:,} trylocks failed" + (
        "; longest, in steps:" if summary.locks else ""
    )
    for lock, cls, mode, cpu, acquired, released, held, file in summary.locks:
        yield f"  {held:>7,}  {lock} ({cls}, {mode}) by cpu{cpu}, steps {acquired}-{released}{_place(file, base, many)}"
    yield from _flushes(summary)
    yield from _windows(summary, base, many)
    count, open_, median, longest, callbacks = summary.grace_periods
    took = f", median {median:,.0f} and at most {longest:,} steps" if longest is not None else ""
    never = f"; {open_:,} did not end" if open_ else ""
    yield f"Grace     {count:,} periods{took}{never}; {callbacks:,} callbacks"
    faults = ", ".join(f"{result} {n:,}" for result, n, _ in summary.faults)
    longest = max((steps for *_, steps in summary.faults if steps is not None), default=0)
    total = sum(n for _, n, _ in summary.faults)
    yield f"Faults    {total:,}" + (f" ({faults}), at most {longest:,} steps" if total else "")


def _common(folders: Sequence[Path]) -> str:
    """The folder that all are below; in full unless all are relative."""
    relative = not any(folder.is_absolute() for folder in folders)
    return os.path.commonpath([folder if relative else folder.absolute() for folder in folders]) or os.curdir


def _head(summary: Summary, base: str) -> Iterator[str]:
    logs = summary.logs
    if len(logs) == 1:
        log = logs[0]
        head = log.header
        yield from _wrap(f"Log       {log.path}")
        yield from _wrap(f"Run       {head.get('scenario', '?')}  cell {head.get('cell') or '-'}")
        seed = f"strategy {head.get('strategy', '?')}, seed {head.get('seed', '?')}, by ptactors {head.get('version', '?')}"
        yield f"          {seed}"
        status = log.trailer.get("status")
        yield from _wrap(
            f"Ending    {status or 'unknown'}" + (f": {log.trailer['reason']}" if log.trailer.get("reason") else "")
            + f"; the log is {log.state.value}"
        )  # fmt: skip
        return
    cells = dict.fromkeys((log.header.get("scenario"), log.header.get("cell")) for log in logs)
    scenarios = list(dict.fromkeys(str(scenario) for scenario, _ in cells))
    yield from _wrap(f"Logs      {len(logs):,} below {base}")
    yield from _wrap(f"Runs      {_some(scenarios)}; {len(cells):,} cells")
    yield "Ending    " + _counts(log.trailer.get("status") or "unknown" for log in logs)
    yield "Logs are  " + _counts(log.state.value for log in logs)


def _verdict(summary: Summary, base: str) -> Iterator[str]:
    many = len(summary.logs) > 1
    violations = [name for name in summary.hazards if _severity(name) == "violation"]
    if summary.hazards:
        yield "Verdict   " + ("violation seen" if violations else "no violation; conditions that an architecture may allow")
    elif not summary.unjudged:
        yield "Verdict   no hazard seen"
    for name, (count, step, file) in sorted(
        summary.hazards.items(), key=lambda item: (_severity(item[0]) != "violation", -item[1][0])
    ):
        where = f"in {count} of {len(summary.logs)} logs, first " if many else ""
        yield f"  {name} ({_severity(name)}): {where}step {step}{_place(file, base, many)}"
    if summary.unjudged:
        yield f"Verdict   hazards not looked for in {summary.unjudged:,} events; 'ptactors log check' does"


def _severity(hazard: str) -> str:
    return HAZARDS[hazard].severity.value if hazard in HAZARDS else "unknown"


def _flushes(summary: Summary) -> Iterator[str]:
    total = sum(row[1] for row in summary.flushes)
    yield f"Flushes   {total:,}" + ("" if total else " of the TLB")
    for reason, count, whole, interrupts, longest in summary.flushes:
        took = f", at most {longest:,} steps" if longest is not None else ""
        yield f"  {count:>7,}  {reason or '?'}: {whole:,} of everything, {int(interrupts or 0):,} CPUs interrupted{took}"
    total = sum(int(row[2] or 0) for row in summary.ipis)
    yield f"IPIs      {total:,}" + "".join(f"; {func}: {int(n or 0):,} by {sent:,} sends" for func, sent, n in summary.ipis)


def _windows(summary: Summary, base: str, many: bool) -> Iterator[str]:
    total = sum(row[1] for row in summary.windows)
    yield f"Windows   {total:,} from pmd_clear to the end of a flush" + (", in steps:" if total else "")
    for was, count, never, median, longest, where, file in summary.windows:
        took = f"median {median:,.0f}, at most {longest:,} ({where})" if longest is not None else "none flushed"
        yield (
            f"  {count:>7,}  {was}: {took}"
            + (f"; {never:,} never flushed" if never else "")
            + (_place(file, base, many) if file else "")
        )


def _place(file: str, base: str, many: bool) -> str:
    return f"  {os.path.relpath(file, base)}" if many else ""


def _counts(values: Iterator[Any]) -> str:
    return ", ".join(f"{value} {count:,}" for value, count in Counter(values).most_common())


def _some(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _listed(words: list[str], left: int) -> Iterator[str]:
    more = [f"{left} more kinds"] if left > 0 else []
    text = "  ".join(word.replace(" ", "\0") for word in words + more)
    for line in textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  "):
        yield line.replace("\0", " ")


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False, break_long_words=False)
