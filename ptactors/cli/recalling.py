"""What commands that take ``TOKEN|FILE`` share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.errors import IncompatibleRecording, ReplayDivergence, UsageError

if TYPE_CHECKING:
    from ptactors.campaign.again import Recording
    from ptactors.engine.schedule import Schedule
    from ptactors.shrink.recall import Run

TOKEN_LIMIT = 400
"""Characters of a token that is shown instead of a file."""
TURN_LIMIT = 20_000
"""Turns of a run that is made once more for its token."""


def recording_options(command: Callable[..., Any]) -> Callable[..., Any]:
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

    run = recall(_schedule_of(text), locator(scenario), lenient=lenient, record=record)
    for note in run.notes:
        print(f"note: {note}", file=sys.stderr)
    return run


def recording_of(text: str, scenario: str | None, lenient: bool) -> Recording:
    """The recording that a token or a schedule file means, without a run where the file has all that is needed."""
    from ptactors.campaign.again import recorded
    from ptactors.shrink.recall import means_token

    if lenient or means_token(text):
        return make_again(text, scenario, lenient, record=lenient).recording
    return recorded(Path(_schedule_of(text)), locator(scenario))


def _schedule_of(text: str) -> str:
    """A log stands for the schedule that was written beside it. Raises UsageError where there is none, and for no file at all."""
    if not text.strip():
        raise UsageError("which run? a token, a schedule file or a log is wanted, and this is empty")
    log = Path(text)
    if log.is_dir():
        found = sorted((*log.glob("*.schedule.json"), *log.glob("*/*/*.schedule.json")))
        raise UsageError(f"{text} is a folder; a run is made again from one file" + (f", such as {found[0]}" if found else ""))
    if log.suffix != ".jsonl" or not log.is_file():
        return text
    schedule = log.with_suffix(".schedule.json")
    if not schedule.is_file():
        raise UsageError(f"{text} is a log; a run is made again from its schedule, and {schedule.name} is not beside it")
    return str(schedule)


def locator(scenario: str | None) -> Callable[[Schedule], Path]:
    """How a recording's scenario is found: the file that was given, else by its name."""
    from ptactors.cli.find import scenario_of

    return (lambda _: Path(scenario)) if scenario else scenario_of


def replay_line(recording: Recording, otherwise: str) -> str:
    """The command that makes the run again: by its token if that is short enough to be pasted, else ``otherwise``."""
    from ptactors.cli.find import scenario_of
    from ptactors.shrink.recall import named_only, token_of_recording

    if len(recording.schedule.turns) > TURN_LIMIT:
        return otherwise
    try:
        token = token_of_recording(recording)
    except (IncompatibleRecording, ReplayDivergence):
        return otherwise
    if len(str(token)) > TOKEN_LIMIT:
        return otherwise
    words = ["ptactors", "replay", str(token)]
    path = Path(recording.scenario.path)
    try:
        found = scenario_of(named_only(token)).resolve() == path.resolve()
    except IncompatibleRecording:
        found = False
    return shlex.join(words if found else [*words, "--scenario", str(path)])
