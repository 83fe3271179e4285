"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import attrs
import click

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, PRESETS, parse_knob
from ptactors.errors import UsageError
from ptactors.scenario.hints import suggest

SEED_LIMIT = (1 << 63) - 1
"""The greatest seed: logs and documents hold 64 bits."""
RUNS_LIMIT = 10**12
"""The most schedules that can be asked for."""


@attrs.frozen
class Seeds:
    """``--seed``: one seed, or ``A..B`` with both ends in it."""

    first: int
    count: int | None
    """None: as many as the budget says."""


class SeedsType(click.ParamType[Seeds]):
    """Reads ``N`` or ``A..B``."""

    name = "N|A..B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seeds:
        """See click.ParamType."""
        if isinstance(value, Seeds):
            return value
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", value)
        if match is None:
            self.fail(f"{value!r} is neither a seed nor a range A..B", param, ctx)
        if any(len(text) > len(str(SEED_LIMIT)) or int(text) > SEED_LIMIT for text in match.groups() if text):
            self.fail(f"a seed is a number up to {SEED_LIMIT}", param, ctx)
        first = int(match[1])
        if match[2] is None:
            return Seeds(first, None)
        if int(match[2]) < first:
            self.fail(f"the range {value} is empty", param, ctx)
        if int(match[2]) - first >= RUNS_LIMIT:
            self.fail(f"the range {value} has more than {RUNS_LIMIT} seeds", param, ctx)
        return Seeds(first, int(match[2]) - first + 1)


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``knob=value`` texts as typed knobs. Raises UsageError."""
    known = [*KERNEL_KNOBS, *MACHINE_KNOBS]
    table: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set takes knob=value, not {text!r}")
        if name not in known:
            raise UsageError(f"--set: unknown knob {name!r}; {suggest(name, known)}")
        table[name] = parse_knob(name, value)
    return table


def check_preset(preset: str | None) -> str | None:
    """The preset, if it is one. Raises UsageError."""
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--preset: unknown preset {preset!r}; {suggest(preset, PRESETS)}")
    return preset


def use_colour(choice: str, stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour what goes to ``stream``. An explicit choice wins over NO_COLOR, and that over FORCE_COLOR."""
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or stream.isatty()


def painter(choice: str) -> Callable[[str, str], str]:
    """Colours words for stdout, or does not."""
    if not use_colour(choice, sys.stdout):
        return lambda text, _: text
    return lambda text, colour: click.style(text, fg=colour, bold=True)


def _all(command: Callable[..., Any], options: Iterable[Callable[[Any], Any]]) -> Any:
    for option in options:
        command = option(command)
    return command


def sampling(command: Callable[..., Any]) -> Any:
    """The options of commands that run campaigns of schedules, beside how many, from which seed and under which kernel."""
    return _all(command, (
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout; see 'ptactors schema'."),
        click.option("--jobs", type=click.IntRange(1), default=None,
                     help="Processes; default: one a CPU. Results do not depend on it."),
        click.option("--set", "settings", multiple=True, metavar="KNOB=VALUE",
                     help="Set a knob over preset and scenario; repeatable."),
        click.option("--strategy", metavar="NAME", help="Who chooses the next actor; default: the scenario's."),
    ))  # fmt: skip


def keeping(host: str = "trio", log_dir: str = "logs") -> Callable[[Callable[..., Any]], Any]:
    """The options of commands that write logs, with what is chosen where nothing is said."""
    options = (
        click.option("--host", type=click.Choice(["trio", "direct"]), default=host, show_default=True,
                     help="What runs the actors; the results are the same."),
        click.option("--log-dir", type=click.Path(file_okay=False), default=log_dir, show_default=True, metavar="DIR",
                     help="Where logs and schedules go."),
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
                     help="Colour the verdicts; NO_COLOR and FORCE_COLOR are heeded."),
        click.option("-v", "--verbose", is_flag=True, help="Also hazards, metrics, final states and times."),
        click.option("-q", "--quiet", is_flag=True, help="Only what is not held, and the last line."),
    )  # fmt: skip
    return lambda command: _all(command, options)
