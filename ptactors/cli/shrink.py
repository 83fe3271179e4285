"""``ptactors shrink``: the smallest scenario and schedule that show the same bug."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.main import HELD, INCONCLUSIVE
from ptactors.cli.options import use_colour
from ptactors.cli.recalling import make_again, recording_options
from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.shrink.pin import Words
    from ptactors.shrink.recall import Run
    from ptactors.shrink.session import Shrunk
    from ptactors.shrink.trial import Goal

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """Reads ``30s``, ``2m``, ``500ms``; a bare number is seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time such as 30s or 2m", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command("shrink")
@click.argument("recorded", metavar="TOKEN|FILE")
@recording_options
@click.option("--hazard", metavar="NAME", help="The hazard to keep; default: the first that an expectation names.")
@click.option(
    "--save-as",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the scenario goes; default: NAME-min.toml below the log folder.",
)
@click.option("--time", "limit", type=Duration(), default="30s", show_default=True, help="When to stop with what was reached.")
@click.option(
    "--log-dir", type=click.Path(file_okay=False), default="logs", show_default=True, metavar="DIR", help="The log folder."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No diagram.")
def command(
    recorded: str, scenario: str | None, lenient: bool, hazard: str | None, save_as: Path | None, limit: float, log_dir: str,
    as_json: bool, quiet: bool,
) -> int:  # fmt: skip
    """Make a failing run small: its schedule, then its scenario, keeping the same hazard on the same kind of object.

    The result is a new scenario file with a pinned order, and its diagram. Exit codes: 0 the number of preemptions is proved to
    be the least for that scenario, 3 the time was up before that was settled.
    """
    from ptactors.shrink.session import shrink
    from ptactors.shrink.trial import goal_of

    started = time.monotonic()
    run = make_again(recorded, scenario, lenient)
    name = run.recording.scenario.name
    place = save_as or Path(log_dir) / "shrunk" / f"{name}-min.toml"
    if place.suffix != ".toml":
        raise UsageError(f"--save-as takes the name of a scenario file (*.toml), not {place}")

    shrunk = shrink(
        run,
        goal=goal_of(run, hazard),
        words=lambda goal: words_of(run, goal, place.stem),
        stop=lambda: time.monotonic() - started > limit,
        progress=progress,
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(shrunk.text(), encoding="utf-8")
    kept = place.with_suffix(".schedule.json")
    shrunk.schedule(str(place)).save(kept)
    if as_json:
        print(json.dumps(_document(shrunk, place, kept), indent=2, ensure_ascii=False))
    else:
        _tell(shrunk, name, place, kept, quiet)
    return HELD if shrunk.proof.minimal else INCONCLUSIVE


def words_of(run: Run, goal: Goal, name: str) -> Words:
    """The prose of the file that a run is shrunk to."""
    from ptactors.shrink.pin import Words

    recording = run.recording
    cell = f" ({recording.cell.name})" if recording.cell.name != "-" else ""
    why = f"The smallest that was found by shrinking a failing run of {recording.scenario.name}{cell}."
    return Words(name=name, title=f"{goal}, shrunk", why=why)


def progress(word: str) -> None:
    """Tell a terminal what is being done."""
    if sys.stderr.isatty() and use_colour("auto", sys.stderr):
        print(f"\r\033[Kshrinking: {word} ", end="" if word != "done" else "\n", file=sys.stderr, flush=True)


def _document(shrunk: Shrunk, place: Path, kept: Path) -> dict[str, Any]:
    return {
        "goal": {"hazard": shrunk.goal.hazard, "role": shrunk.goal.role, "condition": shrunk.goal.condition},
        "before": shrunk.first,
        "after": shrunk.last,
        "preemptions": {
            "found": shrunk.proof.preemptions, "proved_least": shrunk.proof.minimal, "none_below": shrunk.proof.below,
            "schedules": shrunk.proof.schedules, "unsettled": shrunk.proof.unsettled,
        },
        "trials": shrunk.runs,
        "in_time": shrunk.in_time,
        "order": list(shrunk.pinned.order) if shrunk.pinned else None,
        "scenario": str(place),
        "schedule": str(kept),
    }  # fmt: skip


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 79, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def shrunk_lines(shrunk: Shrunk) -> Iterator[str]:
    """How small it has become, what is proved, and whether there could be more."""
    changes = [f"{what} {before} -> {shrunk.last[what]}" for what, before in shrunk.first.items() if before or shrunk.last[what]]
    yield from _wrapped(f"{', '.join(changes)}; {shrunk.runs} trials")
    yield from _wrapped(str(shrunk.proof))
    if shrunk.unfinished:
        yield from _wrapped(f"{shrunk.unfinished} before every pass had come to its end; 'ptactors shrink --time' gives it more")


def _tell(shrunk: Shrunk, name: str, place: Path, kept: Path, quiet: bool) -> None:
    from ptactors.explain.picture import picture

    outcome = shrunk.pinned.outcome if shrunk.pinned else shrunk.case.run.outcome
    finding = shrunk.goal.finding(outcome)
    print(f"Shrunk {name}: {shrunk.goal}")
    for line in shrunk_lines(shrunk):
        print(line)
    if finding is not None:
        print("\n".join(_wrapped(finding.what)))
    if not quiet:
        for line in picture(outcome, finding):
            print(line)
    print(f"saved:  {place}")
    if shrunk.pinned is not None:
        print(f"again:  {shlex.join(['ptactors', 'run', str(place)])}")
    else:
        print(
            "\n".join(_wrapped("No order of CPU steps alone leads there, so the scenario is not pinned; its schedule shows it:"))
        )
        print(f"again:  {shlex.join(['ptactors', 'replay', str(kept)])}")
