"""``ptactors log filter``, ``story``, ``sql`` and ``diff``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.log_open import CODES, LOGS, ONE_LOG, open_log, open_logs
from ptactors.cli.main import HELD, VIOLATED

if TYPE_CHECKING:
    from ptactors.analysis.difference import Difference, Line
    from ptactors.log.symbol import Symbols

_SAMPLE = 1000
"""Rows after which the widths of a table's columns are fixed."""


@click.command("filter", epilog=CODES)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    required=True,
    metavar="CONDITION",
    help="What a line must be; repeatable: all of them.",
)
@LOGS
def filter_lines(conditions: tuple[str, ...], files: tuple[Path, ...]) -> int:
    """Print the lines of logs for which a condition holds, as they are.

    \b
      --where cpu=1 --where 'ev in (pmd_clear, tlb_flush)'
      --where "sym like 'A+%' and not (ev = tlb_fill or ev ~ '^rcu_')"
      --where 'va >= 0x7f0000200000 and cause is not null'

    Comparisons: = != < <= > >=, in, like, ~ (regular expression), is null; and, or, not, brackets. Numbers may be hex.
    A field that a line does not have makes a comparison false. 'ptactors list events' has the fields.
    """
    from ptactors.analysis.schema import columns
    from ptactors.analysis.where import parse
    from ptactors.log.read import SavedLog

    tests = [parse(text, columns()) for text in conditions]
    logs, code = open_logs(files)
    for log in logs:
        for line, fields in SavedLog(log.path).texts():
            if all(test(fields) for test in tests):
                sys.stdout.write(line)
    return code


@click.command("story", epilog=CODES)
@click.argument("what")
@ONE_LOG
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def story(what: str, file: Path, as_json: bool) -> int:
    """Tell all that happened to WHAT, with what made it possible.

    \b
    WHAT is  A+0x3000 or 0x7f0000203000   an address
             frame:0x100001, table:0x100004
             pte:0x100004, pmd:0x100003, mmap:P, vma:A   a lock
             cpu1, irq1, rcu, bus   a CPU with its interrupts, an actor
             gather:1, gp:1   a gather, a grace period, by number
             step:61   one step, and the chain of its causes

    '<-' and a number name the step of another actor that made this one possible.
    """
    from ptactors.analysis.story import tell
    from ptactors.report.describe import describe

    log, code = open_log(file)
    told = tell(log, what, describe)
    if as_json:
        import attrs

        print(json.dumps(attrs.asdict(told), indent=2, ensure_ascii=False))
        return code
    print(f"{told.about}: {len(told.moments)} events")
    said: set[int] = set()
    for moment in told.moments:
        cause = f"  <- {moment.cause}" if moment.cause else ""
        hazards = f"  <-- HAZARD {', '.join(moment.hazards)}" if moment.hazards else ""
        print(f"{moment.step:>7}  {moment.actor:<6} {moment.text}{cause}{hazards}")
        if moment.cause is not None and moment.cause_text and moment.cause not in said:
            said.add(moment.cause)
            print(f"{'':>16} {moment.cause:>6} {moment.cause_text}")
    return code


class _Sql(click.Command):
    """Its help documents the schema, which is made when it is asked for."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The views and their columns."""
        from ptactors.analysis.schema import HAZARDS, RUNS, VIEWS, columns

        with formatter.section('View events: one row an event; quote "table", "end" and "order"'):
            formatter.write_dl([("file", "VARCHAR"), ("n", "BIGINT: position in its log"), *columns().items()])
        for view in VIEWS:
            with formatter.section(f"View {view.name}: {view.about}"):
                formatter.write_dl(view.columns)
        with formatter.section("Table runs: one row a log"):
            formatter.write_dl(RUNS)
        with formatter.section("Table hazards: what the oracles see; made when a query names it"):
            formatter.write_dl(HAZARDS)
        formatter.write_paragraph()
        formatter.write_text(
            "Addresses, frames and entries are hex text, as in the log: va = '0x7f0000200000', CAST(va AS BIGINT)."
        )
        formatter.write_paragraph()
        formatter.write_text(CODES)


@click.command("sql", cls=_Sql)
@click.argument("query")
@LOGS
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "jsonl"]), default="table", show_default=True, help="What is printed."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document: a list of rows.")
def sql(query: str, files: tuple[Path, ...], form: str, as_json: bool) -> int:
    """Ask logs a QUERY in DuckDB's SQL.

    \b
      ptactors log sql 'select ev, count(*) from events group by ev' logs/
      ptactors log sql 'select max(steps) from windows' run.jsonl
      ptactors log sql 'from locks where held > 50 order by held desc' run.jsonl
    """
    logs, code = open_logs(files)
    if not logs:
        return code
    from ptactors.analysis.database import Database

    with Database(logs) as database:
        result = database.query(query)
        names = [column[0] for column in result.description or ()]
        rows = database.fetched(result)
        if as_json:
            print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1, default=str, ensure_ascii=False))
        elif form == "jsonl":
            for row in rows:
                print(json.dumps(dict(zip(names, row, strict=True)), default=str, ensure_ascii=False))
        elif form == "csv":
            import csv

            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(rows)
        else:
            for line in _table(names, rows):
                print(line)
    return code


def _table(names: Sequence[str], rows: Iterator[Any]) -> Iterator[str]:
    """Columns as wide as their first thousand values; numbers to the right."""
    from itertools import chain, islice

    first = [[_cell(value) for value in row] for row in islice(rows, _SAMPLE)]
    numbers = [all(row[i].lstrip("-").replace(".", "", 1).isdigit() or not row[i] for row in first) for i in range(len(names))]
    widths = [max([len(name), *(len(row[i]) for row in first)]) for i, name in enumerate(names)]
    for row in chain([list(names)], first, ([_cell(value) for value in row] for row in rows)):
        cells = (text.rjust(w) if right else text.ljust(w) for text, w, right in zip(row, widths, numbers, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())


@click.command("diff")
@click.argument("a", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(dir_okay=False, path_type=Path))
def diff(a: Path, b: Path) -> int:
    """Show where two logs part first, and what follows from it.

    Actors are also compared one by one: a different order alone is no difference in an actor's own life.

    Exit codes: 0 the same run, 1 they differ, 2 not a log or damaged.
    """
    from ptactors.analysis.difference import compare
    from ptactors.analysis.story import symbols_of

    (here, code), (there, other) = open_log(a), open_log(b)
    found = compare(here, there)
    symbols = symbols_of(here)
    for line in _difference(found, symbols, (str(a), str(b))):
        print(line)
    return code or other or (HELD if found.empty else VIOLATED)


def _difference(found: Difference, symbols: Symbols, names: tuple[str, str]) -> Iterator[str]:
    if found.empty:
        yield f"The same run: {found.same} events."
        return
    yield from (f"{sign} {name}" for sign, name in zip("AB", names, strict=True))
    for key, left, right in found.header:
        yield f"header    {key}: A {_cell(left)}, B {_cell(right)}"
    if found.left is None and found.right is None:
        yield f"events    all {found.same} are the same"
    else:
        yield f"events    {found.same} are the same; the first that differs:"
        yield from _pair(found.left, found.right, symbols)
    if found.partings:
        yield "follows   where each actor's own events begin to differ:"
    for parting in found.partings:
        yield f"  {parting.actor}, after {parting.same} events of its own:"
        yield from _pair(parting.left, parting.right, symbols)
    if found.left is not None or found.right is not None:
        yield from _consequences(found)
    for key, left, right in found.ending:
        yield f"ending    {key}: A {_cell(left) or '-'}, B {_cell(right) or '-'}"


def _consequences(found: Difference) -> Iterator[str]:
    if not found.partings:
        yield "follows   nothing: every actor lives the same life, in another order"
    if found.kinds:
        text = ", ".join(f"{ev} {left}/{right}" for ev, left, right in found.kinds)
        yield from textwrap.wrap(f"counts    A/B: {text}", 80, subsequent_indent=" " * 10, break_long_words=False)
    if found.hazards is None:
        yield "hazards   not looked for in logs of this size; 'ptactors log check' does"
    for name, left, right in found.hazards or ():
        yield f"hazards   {name}: A {_seen(left)}, B {_seen(right)}"


def _seen(step: int | None) -> str:
    return "never" if step is None else f"at step {step}"


def _pair(left: Line | None, right: Line | None, symbols: Symbols) -> Iterator[str]:
    for sign, line in (("A", left), ("B", right)):
        yield f"    {sign} {_line(line, symbols) if line else 'has no more events'}"


def _line(line: Mapping[str, Any], symbols: Symbols) -> str:
    from ptactors.analysis.story import say
    from ptactors.report.describe import describe

    cause = f"  <- {line['cause']}" if "cause" in line else ""
    return f"step {line['step']:<6} {line.get('actor', '?'):<6} {say(line, symbols, describe)}{cause}"
