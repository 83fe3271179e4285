"""``ptactors stress``: many seeds or random mixes, under every preset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ptactors.cli.options import RUNS_LIMIT, Seeds, SeedsType, keeping, parse_settings, sampling
from ptactors.cli.shrink import Duration
from ptactors.config import PRESETS
from ptactors.errors import UsageError
from ptactors.scenario.hints import suggest

RUNS = 400
"""Schedules of each preset, where no budget is given."""
CAP = 20_000
"""Schedules of each cell after which a campaign that was to go on until it is saturated gives up."""
_SAME = ("scenarios", "presets", "runs", "seed", "strategy", "settings", "until_saturated", "first")
"""Options that say which campaign it is; what is given with --resume must be what it was begun with."""


@click.command("stress")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="Only this kernel; repeatable. Default: all.")
@click.option(
    "--runs",
    type=click.IntRange(1, RUNS_LIMIT),
    metavar="N",
    help=f"Schedules a cell; default: {RUNS} of mixes, the scenario's own number.",
)
@click.option("--time", "limit", type=Duration(), help="Stop at the end of the round in which this time is up.")
@click.option("--until-saturated", is_flag=True, help=f"Go on until nothing new comes, at most {CAP} schedules a cell.")
@click.option("--seed", type=SeedsType(), help="First seed or mix, or all of a range; default: 0, the scenario's.")
@click.option("--resume", is_flag=True, help="Go on with the campaign in --log-dir, which was killed or interrupted.")
@click.option(
    "--log",
    type=click.Choice(["none", "failing", "all"]),
    default="failing",
    show_default=True,
    help="Which runs are kept: none, and no journal either; the first of each failure; every one.",
)
@click.option("-x", "--first", is_flag=True, help="Stop at the first failing schedule.")
@sampling
@keeping(host="direct", log_dir="logs/stress")
@click.pass_context
def command(context: click.Context, /, scenarios: tuple[str, ...], seed: Seeds | None, **options: Any) -> int:
    """Run random mixes of operations, or many seeds of scenarios, under every preset; judge them and tell what they covered.

    Without SCENARIO each seed draws a machine, its memory, its programs, its faults and its strategy, with about half of the
    operations, kinds of memory and faults switched off. A schedule fails by a violation that is not known of its preset, one that
    no shipped scenario says exists there; a scenario's own expectations count where it speaks of the kernel. A campaign that is
    killed goes on with --resume, and ends as if it had not been. campaign.json is what --json prints.
    """  # fmt: skip
    from ptactors.cli.stress_session import Request, Session

    if seed is not None and seed.count is not None and options["runs"] is not None:
        raise UsageError("--seed A..B says what to run; it cannot be used with --runs")
    if options["resume"] and options["log"] == "none":
        raise UsageError("--resume needs a journal, and --log none keeps none")
    sources = {name: context.get_parameter_source(name) for name in context.params}
    request = Request(
        scenarios=scenarios,
        presets=_presets(options.pop("presets")),
        seed=seed,
        overrides=parse_settings(options.pop("settings")),
        log_dir=Path(options.pop("log_dir")),
        jobs=options.pop("jobs") or os.cpu_count() or 1,
        given=tuple(
            name for name in _SAME if sources[name] is ParameterSource.COMMANDLINE and context.params[name] not in ((), None)
        ),
        default_runs=RUNS,
        cap=CAP,
        **options,
    )
    return Session(request).run()


def _presets(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in PRESETS:
            raise UsageError(f"--preset: unknown preset {name!r}; {suggest(name, PRESETS)}")
    return tuple(dict.fromkeys(names)) or tuple(PRESETS)
