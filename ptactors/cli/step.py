"""``ptactors step``: a run chosen by hand."""

from __future__ import annotations

import sys
from typing import Any

import click

from ptactors.cli.main import HELD
from ptactors.cli.options import SEED_LIMIT, check_preset, parse_settings
from ptactors.errors import UsageError


@click.command("step")
@click.argument("scenario", metavar="SCENARIO")
@click.option("--cell", default="0", show_default=True, metavar="NAME", help="The cell, by name or number.")
@click.option("--set", "settings", multiple=True, metavar="KNOB=VALUE", help="Set a knob over the scenario; repeatable.")
@click.option("--preset", metavar="NAME", help="Use this kernel instead of the scenario's.")
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_LIMIT),
    metavar="N",
    help="Draws the programs of a [stress] scenario; default: the scenario's.",
)
def command(scenario: str, cell: str, settings: tuple[str, ...], preset: str | None, seed: int | None) -> int:
    """Run SCENARIO and choose the next actor by hand wherever several can move; each step shows what it did.

    Answers are read line by line from stdin: a number or the name of an actor, Enter to go on, r N for N steps by themselves,
    u to undo, q to stop. At the end the token of the run is printed.
    """
    from ptactors.campaign.names import known_names
    from ptactors.explain.stepping import HELP, Stepper
    from ptactors.scenario.load import find, load
    from ptactors.scenario.matrix import cells

    paths = find([scenario])
    if len(paths) != 1:
        raise UsageError(f"step takes one scenario; {scenario} holds {len(paths)}")
    loaded = load(paths[0], known_names())
    every = cells(loaded, parse_settings(settings), check_preset(preset))
    picked = next((each for each in every if cell in (each.name, str(each.index))), None)
    if picked is None:
        raise UsageError(f"{loaded.name} has no cell {cell!r}; it has: {', '.join(repr(c.name) for c in every)}")
    first = loaded.explore.seed if seed is None else seed
    print(f"Step {loaded.name}/{picked.index}  {picked.name}")
    if sys.stdin.isatty():
        print(HELP)
    choices = Stepper(loaded, picked, first, _ask, print).run()
    _tell_token(loaded, picked, first, choices)
    return HELD


def _ask(prompt: str) -> str | None:
    print(prompt, end="", flush=True)
    line = sys.stdin.readline()
    if not sys.stdin.isatty():
        print(line.rstrip("\n"))  # a session that is piped in reads like one that was typed
    return line if line else None


def _tell_token(scenario: Any, cell: Any, seed: int, choices: list[int]) -> None:
    from ptactors.engine.choices import Choices
    from ptactors.shrink.recall import perform, token_of

    run = perform(scenario, cell, Choices(choices), scenario.explore.strategy, seed, record=False)
    print(f"This run, gone on with by itself to its end: {token_of(run)}")
