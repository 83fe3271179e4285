"""``ptactors bench``: how good the explorer is, in numbers that do not depend on the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.main import HELD, VIOLATED
from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.campaign.bench import Goal, Judgement, Row

STRATEGIES = (
    "random", "run-length", "pct:2", "fair-pct:3", "fair-pct:4", "pos", "urw", "surw", "delay:1", "delay:2", "preemption:2",
    "portfolio",
)  # fmt: skip
"""Compared unless --strategy says otherwise."""


@click.group("bench")
def command() -> None:
    """Measure the explorer itself."""


@command.command("strategies")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option("--strategy", "names", multiple=True, metavar="NAME", help="Compare only this one; repeatable.")
@click.option("--seeds", type=click.IntRange(1), default=25, show_default=True, help="Campaigns for each strategy.")
@click.option("--cap", type=click.IntRange(1), default=1000, show_default=True, help="Schedules after which one gives up.")
@click.option("--every-cell", is_flag=True, help="Not only the first cell in which a condition is expected.")
@click.option("--host", type=click.Choice(["trio", "direct"]), default="direct", show_default=True, help="What runs the actors.")
@click.option("--jobs", type=click.IntRange(1), default=None, help="Processes; default: one a CPU. Results do not depend on it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def strategies(
    scenarios: tuple[str, ...], names: tuple[str, ...], every_cell: bool, jobs: int | None, as_json: bool, **keys: Any
) -> int:  # fmt: skip
    """Count the schedules that each strategy needs until it first sees what a scenario says exists.

    For every condition of the kind 'exists hazard(...)' in the scenarios given (default: all that are known), and for each
    strategy: the median and the worst number of schedules to the first hit. Exit code 1 if the portfolio falls short of what it
    promises.
    """
    from ptactors.campaign.bench import goals, judge_portfolio
    from ptactors.campaign.names import known_names
    from ptactors.cli.find import known
    from ptactors.engine.strategy.table import make_strategy
    from ptactors.scenario.load import find, load

    wanted = names or STRATEGIES
    for name in wanted:
        make_strategy(name, 0)
    paths = find(scenarios) if scenarios else known().values()
    found = [goal for path in paths for goal in goals(load(path, known_names()), every_cell)]
    if not found:
        raise UsageError("no scenario given says that a hazard exists")
    table: list[list[Row]] = []
    judgements: list[Judgement] = []
    for rows in _measured(found, wanted, keys, jobs or os.cpu_count() or 1):
        table.append(rows)
        judgement = judge_portfolio(rows)
        if judgement is not None:
            judgements.append(judgement)
        if not as_json:
            click.echo("\n".join(_lines(rows, judgement)))
    if as_json:
        click.echo(json.dumps(_document(table, judgements), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_last_lines(judgements)))
    return VIOLATED if any(judgement.reasons for judgement in judgements) else HELD


def _measured(found: Sequence[Goal], names: Iterable[str], keys: dict[str, Any], jobs: int) -> Iterator[list[Row]]:
    """The rows of one goal after the other; each row is one piece of work."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from ptactors.campaign.bench import measure

    if jobs == 1:
        for goal in found:
            yield [measure(goal, name, **keys) for name in names]
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [[pool.submit(measure, goal, name, **keys) for name in names] for goal in found]
        for row in futures:
            yield [future.result() for future in row]


def _lines(rows: Sequence[Row], judgement: Judgement | None) -> Iterator[str]:
    goal = rows[0].goal
    yield f"{goal.scenario.name}/{goal.cell.index}  {goal.condition}"
    for row in rows:
        median = "-" if row.median is None else f"{row.median:g}"
        worst = "-" if row.worst is None else str(row.worst)
        yield f"  {row.strategy:<20} median {median:>6}  worst {worst:>6}  found in {row.found} of {len(row.firsts)}"
    for reason in judgement.reasons if judgement else ():
        yield f"  portfolio: {reason}"


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
                "cap": rows[0].cap,
                "strategies": [
                    {"name": r.strategy, "median": r.median, "worst": r.worst, "found": r.found, "firsts": list(r.firsts)}
                    for r in rows
                ],
                "portfolio": reasons.get((rows[0].goal.scenario.name, rows[0].goal.cell.index, rows[0].goal.number)),
            }
            for rows in table
        ],
    }
