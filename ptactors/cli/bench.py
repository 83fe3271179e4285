"""``ptactors bench``: how good the explorer is, in numbers that do not depend on the machine, and what recording costs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ptactors.cli.main import HELD, VIOLATED
from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.campaign.bench import Goal, Judgement, Row

STRATEGIES = (
    "random", "run-length", "pct:2", "fair-pct:3", "fair-pct:4", "pos", "urw", "surw", "delay:1", "delay:2", "preemption:2",
    "dfs-delay:1", "dfs-delay:2", "dfs-preemption:2", "portfolio",
)  # fmt: skip
"""Compared unless --strategy says otherwise; dfs-... are searches that draw nothing."""
STEPS = 150_000
"""Steps of a campaign unless --steps says otherwise: for most scenarios nearly as many as CAP of their runs have, and for all
hazards that are known by estimate less than an hour of two CPUs: with 40,000 they took some 34 minutes of CPU time, and what
grows with it is the seventh of the campaigns that finds nothing."""


@click.group("bench")
def command() -> None:
    """Measure the explorer itself."""


LOGGED = ("case1-mixed-page-size", "dontneed-refault", "thp-split", "stress-8cpu")
"""Scenarios with which recording is measured unless others are named: short and long runs, few actors and many."""
PIECE = 5
"""Campaigns in one piece of work."""


class Cap(click.ParamType[tuple[str, int]]):
    """Reads ``N``, or ``NAME=N`` for one strategy."""

    name = "N|NAME=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See click.ParamType; ('', N) is for every strategy."""
        if isinstance(value, tuple):
            return value
        name, _, count = str(value).rpartition("=")
        if not count.isdecimal() or not int(count):
            self.fail(f"{value!r} is neither a number of schedules nor a strategy's NAME=N", param, ctx)
        return name, int(count)


@command.command("strategies", short_help="Count the schedules that each strategy needs for each hazard.")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option(
    "--strategy",
    "names",
    multiple=True,
    metavar="NAME",
    help="Compare only this one; repeatable. Beside the strategies of 'run': dfs-delay:D, dfs-preemption:D.",
)
@click.option("--seeds", type=click.IntRange(1), default=25, show_default=True, help="Campaigns for each strategy.")
@click.option(
    "--cap",
    "caps",
    type=Cap(),
    multiple=True,
    help="Schedules after which a campaign gives up, default 1000; NAME=N for one strategy; repeatable.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=STEPS,
    show_default=True,
    help="And after about so many steps: long runs have a lower cap.",
)
@click.option("--every-cell", is_flag=True, help="Not only the first cell in which a condition is expected.")
@click.option("--host", type=click.Choice(["trio", "direct"]), default="direct", show_default=True, help="What runs the actors.")
@click.option("--jobs", type=click.IntRange(1), default=None, help="Processes; default: one a CPU. Results do not depend on it.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the table there."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def strategies(
    scenarios: tuple[str, ...], names: tuple[str, ...], caps: tuple[tuple[str, int], ...], every_cell: bool, jobs: int | None,
    output: Path | None, as_json: bool, **keys: Any,
) -> int:  # fmt: skip
    """Count the schedules that each strategy needs until it first sees what a scenario says exists.

    For every condition of the kind 'exists hazard(...)' in the scenarios given (default: all that are known), and for each
    strategy: the median and the worst number of schedules to the first hit, '>N' where the cap came first. Of a depth-first
    search within a bound (dfs-...), which draws nothing: the schedules to the first hit, or 'exhausted N' if that is all there
    are and none hits. What is left is told on stderr if that is a terminal. Exit code 1 if the portfolio falls short of what it
    promises.
    """
    from ptactors.campaign.bench import CAP, draws, goals, judge_portfolio
    from ptactors.campaign.names import known_names
    from ptactors.cli.find import known
    from ptactors.cli.progress import Progress
    from ptactors.scenario.load import find, load

    wanted = names or STRATEGIES
    total = sum(keys["seeds"] if draws(name) else 1 for name in wanted)
    limits = {"": CAP} | dict(caps)
    stranger = next((name for name in limits if name and name not in wanted), None)
    if stranger is not None:
        raise UsageError(f"--cap: strategy {stranger!r} is not compared; compared are {', '.join(wanted)}")
    paths = find(scenarios) if scenarios else known().values()
    found = [goal for path in paths for goal in goals(load(path, known_names()), every_cell)]
    if not found:
        raise UsageError("no scenario given says that a hazard exists")
    table: list[list[Row]] = []
    judgements: list[Judgement] = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(output.open("w", encoding="utf-8")) if output else None
        bar = stack.enter_context(Progress(total * len(found)))
        bar.counted("campaigns", 0)

        def tell(lines: Iterable[str]) -> None:
            with bar.paused():
                for line in lines:
                    if not as_json:
                        click.echo(line)
                    if file is not None:
                        print(line, file=file, flush=True)  # what is there is worth having if the rest is not waited for

        for rows in _measured(found, wanted, limits, keys, jobs or os.cpu_count() or 1, bar.counted):
            table.append(rows)
            judgement = judge_portfolio(rows)
            if judgement is not None:
                judgements.append(judgement)
            tell(_lines(rows, judgement))
        tell(_last_lines(judgements))
    if as_json:
        click.echo(json.dumps(_document(table, judgements), indent=2, ensure_ascii=False))
    return VIOLATED if any(judgement.reasons for judgement in judgements) else HELD


def _measured(
    found: Sequence[Goal], names: Sequence[str], limits: Mapping[str, int], keys: dict[str, Any], jobs: int,
    counted: Callable[[str, int], None],
) -> Iterator[list[Row]]:  # fmt: skip
    """The rows of one goal after the other; a few campaigns of one strategy are one piece of work.

    ``counted`` is told of each piece: what it belongs to, and how many campaigns.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from ptactors.campaign.bench import STRIDE, draws, measure

    seeds, steps, host = keys["seeds"], keys["steps"], keys["host"]

    def row(pieces: Iterable[Callable[[], Row]]) -> Row:
        every: list[Row] = []
        for piece in pieces:
            every.append(piece())
            counted(f"{every[0].goal.scenario.name} {every[0].strategy}", len(every[-1].firsts))
        return attrs.evolve(every[0], firsts=tuple(first for each in every for first in each.firsts))

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))) if jobs > 1 else None

        def pieces(goal: Goal, name: str) -> list[Callable[[], Row]]:
            cap = min(limits.get(name, limits[""]), max(1, steps // _length(goal, host)))
            calls = [
                functools.partial(
                    measure, goal, name, seeds=min(PIECE, seeds - start), cap=cap, host=host, first=start * STRIDE
                )
                for start in (range(0, seeds, PIECE) if draws(name) else (0,))
            ]  # fmt: skip
            return [pool.submit(call).result for call in calls] if pool else list(calls)

        asked = ([pieces(goal, name) for name in names] for goal in found)
        for rows in list(asked) if pool else asked:
            yield [row(calls) for calls in rows]


def _length(goal: Goal, host: str) -> int:
    """Steps of one run."""
    from ptactors.world import play

    return max(1, play(goal.scenario, goal.cell, strategy="random", seed=0, host=host).steps)


def _lines(rows: Sequence[Row], judgement: Judgement | None) -> Iterator[str]:
    goal = rows[0].goal
    yield f"{goal.scenario.name}/{goal.cell.index}  {goal.condition}"
    yield from map(_line, rows)
    for reason in judgement.reasons if judgement else ():
        yield f"  portfolio: {reason}"


def _line(row: Row) -> str:
    from ptactors.campaign.bench import draws

    median = f">{row.cap}" if row.median is None else f"{row.median:g}"
    worst = f">{row.cap}" if row.worst is None else str(row.worst)
    if draws(row.strategy):
        return f"  {row.strategy:<20} median {median:>6}  worst {worst:>6}  found in {row.found} of {len(row.firsts)}"
    return f"  {row.strategy:<20} " + (f"first  {worst:>6}" if row.exhausted is None else f"exhausted {row.exhausted}")


def _last_lines(judgements: Sequence[Judgement]) -> Iterator[str]:
    if judgements:
        kept = sum(not judgement.reasons for judgement in judgements)
        yield f"The portfolio keeps what it promises for {kept} of {len(judgements)} hazards."


def _document(table: Sequence[Sequence[Row]], judgements: Sequence[Judgement]) -> dict[str, Any]:
    reasons = {(j.goal.scenario.name, j.goal.cell.index, j.goal.number): list(j.reasons) for j in judgements}
    return {
        "tool": "ptactors",
        "goals": [
            {
                "scenario": rows[0].goal.scenario.name,
                "digest": rows[0].goal.scenario.digest,
                "cell": rows[0].goal.cell.index,
                "condition": rows[0].goal.condition,
                "strategies": [
                    {
                        "name": r.strategy,
                        "cap": r.cap,
                        "median": r.median,
                        "worst": r.worst,
                        "found": r.found,
                        "exhausted": r.exhausted,
                        "firsts": list(r.firsts),
                    }
                    for r in rows
                ],
                "portfolio": reasons.get((rows[0].goal.scenario.name, rows[0].goal.cell.index, rows[0].goal.number)),
            }
            for rows in table
        ],
    }


@command.command("log", short_help="Measure what recording costs.")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option(
    "--rounds", type=click.IntRange(2), default=60, show_default=True, help="Times that each way of running takes its turn."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def log(scenarios: tuple[str, ...], rounds: int, as_json: bool) -> int:
    """Measure what recording costs: runs without a recorder, with --log none, and recorded, in turn.

    Allowed are 5 % for --log none and 20 % for recording. Exit codes: 0 both hold, 1 one does not, 3 the machine was too noisy to
    tell.
    """
    from ptactors.cli import bench_log
    from ptactors.scenario.load import find

    return bench_log.run(list(find(scenarios or LOGGED)), rounds, as_json)
