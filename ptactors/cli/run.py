"""``ptactors run``: scenarios in, verdicts out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ptactors.cli.options import RUNS_LIMIT, Seeds, SeedsType, check_preset, keeping, parse_settings, sampling
from ptactors.cli.shrink import Duration
from ptactors.errors import UsageError


@click.command("run")
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--seed", type=SeedsType(), help="First seed, or all of a range; default: the scenario's.")
@click.option("--runs", type=click.IntRange(1, RUNS_LIMIT), metavar="N", help="Schedules a cell; default: the scenario's.")
@click.option(
    "--budget",
    type=click.Choice(["normal", "full"]),
    default="normal",
    show_default=True,
    help="Which of the scenario's budgets counts.",
)
@click.option("--preset", metavar="NAME", help="Use this kernel instead of the scenario's.")
@click.option("--cell", "only", multiple=True, metavar="NAME", help="Only this cell, by name or number; repeatable.")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write JUnit XML: a case for each expectation of each cell.",
)
@click.option(
    "--log",
    type=click.Choice(["none", "failing", "all"]),
    default="failing",
    show_default=True,
    help="Which runs are kept: none; each cell's witness; every one.",
)
@click.option("--shrink/--no-shrink", default=True, show_default=True, help="Make the first failures small: see --shrink-time.")
@click.option(
    "--shrink-time",
    type=Duration(),
    default="20s",
    show_default=True,
    help="Each ends after 5000 steps of trials for a second of this, the same everywhere; at the latest when it is over.",
)
@click.option("-x", "--first", is_flag=True, help="Stop at the first violation; a cell also once every exists is seen.")
@sampling
@keeping()
def command(scenarios: tuple[str, ...], seed: Seeds | None, **options: Any) -> int:
    """Run scenarios (files, folders or names) and judge their expectations in every cell."""
    from ptactors.cli.session import Request, Session

    request = Request(
        scenarios=scenarios,
        seeds=seed,
        overrides=parse_settings(options.pop("settings")),
        preset=check_preset(options.pop("preset")),
        log_dir=Path(options.pop("log_dir")),
        shrink=options.pop("shrink_time") * options.pop("shrink"),
        jobs=options.pop("jobs") or os.cpu_count() or 1,
        **options,
    )
    if seed is not None and seed.count is not None and request.runs is not None:
        raise UsageError("--seed A..B says how many schedules to run; it cannot be used with --runs")
    return Session(request).run()
