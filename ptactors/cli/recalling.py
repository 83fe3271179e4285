"""What commands that take ``TOKEN|FILE`` share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.errors import IncompatibleRecording

if TYPE_CHECKING:
    from ptactors.engine.schedule import Schedule
    from ptactors.shrink.recall import Run

TOKEN_LIMIT = 100
"""Characters of a token that is shown instead of a file."""


def recording(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that makes a recorded run again."""
    for option in (
        click.option("--scenario", type=click.Path(dir_okay=False), metavar="FILE",
                     help="The scenario's file, where the recording's name does not lead to it."),
        click.option("--lenient", is_flag=True,
                     help="Go on where the recording does not fit any more, as far as possible like it."),
    ):  # fmt: skip
        command = option(command)
    return command


def make_again(text: str, scenario: str | None, lenient: bool, *, record: bool = True) -> Run:
    """The run that a token or a schedule file means; what a lenient replay lets pass is told on stderr."""
    from ptactors.shrink.recall import recall

    run = recall(text, locator(scenario), lenient=lenient, record=record)
    for note in run.notes:
        print(f"note: {note}", file=sys.stderr)
    return run


def locator(scenario: str | None) -> Callable[[Schedule], Path]:
    """How a recording's scenario is found: the file that was given, else by its name."""
    from ptactors.cli.find import scenario_of

    return (lambda _: Path(scenario)) if scenario else scenario_of


def replay_line(run: Run, otherwise: str) -> str:
    """The command that makes the run again: by its token if that is short and finds its scenario, else by what was given."""
    from ptactors.cli.find import scenario_of
    from ptactors.shrink.recall import named_only, token_of

    try:
        token = token_of(run)
        found = scenario_of(named_only(token))
    except IncompatibleRecording:
        return shlex.join(["ptactors", "replay", otherwise])
    path = Path(run.recording.scenario.path)
    short = len(str(token)) <= TOKEN_LIMIT and found.resolve() == path.resolve()
    return shlex.join(["ptactors", "replay", str(token) if short else otherwise])
