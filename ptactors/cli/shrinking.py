"""What ``ptactors run`` does with a failure beside telling it: makes it small, within a budget.

The budget is a number of steps of all trials together, so what comes of it is the same on every machine; the clock only ends what
takes far longer than that should, and what depends on it goes to stderr.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptactors.cli.recalling import TURN_LIMIT
from ptactors.errors import ModelError, ReplayDivergence, UsageError

if TYPE_CHECKING:
    from ptactors.campaign.again import Recording
    from ptactors.shrink.recall import Run
    from ptactors.shrink.session import Shrunk

CELLS = 3
"""Failing cells of one command line that are shrunk: the first ones."""
RATE = 5_000
"""Steps of trials for each second of ``--shrink-time``: a small part of what a machine makes, so the clock seldom decides."""


@attrs.define
class _Clock:
    """Says when the time is up, and remembers having said so."""

    seconds: float
    started: float = attrs.field(factory=time.monotonic)
    rang: bool = False

    def __call__(self) -> bool:
        self.rang = self.rang or time.monotonic() - self.started > self.seconds
        return self.rang


@attrs.define
class Shrinker:
    """Shrinks the first failures of a command line."""

    seconds: float
    """Of each; 0: none is shrunk."""
    left: int = CELLS

    def lines(self, recording: Recording, why: str, replay: str, place: Path | None) -> Iterator[str]:
        """Shrink the run that violates the expectation ``why``; what is to be printed of it.

        The scenario is written to ``place`` (None: nothing is); ``replay`` is the command that makes the run again.
        Raises OSError.
        """
        if not self.seconds or not self.left:
            return
        self.left -= 1
        shrink = shlex.join(["ptactors", "shrink", *shlex.split(replay)[2:]]) if replay.startswith("ptactors replay ") else ""
        if len(recording.schedule.turns) > TURN_LIMIT:
            yield f"Not shrunk: the run is longer than {TURN_LIMIT} steps{f'; {shrink} tries' if shrink else ''}"
            return
        clock = _Clock(self.seconds)
        try:
            shrunk = _shrunk(recording, why, clock, int(self.seconds * RATE), place)
        except UsageError as error:
            yield f"Not shrunk: {error}"
            return
        told = list(_told(shrunk, place, shrink))
        if not clock.rang:
            yield from told
            return
        print(f"note: shrinking was ended after {self.seconds:g} s; what it had reached:", *told, sep="\n", file=sys.stderr)


def _shrunk(recording: Recording, why: str, clock: _Clock, most: int, place: Path | None) -> Shrunk:
    """The run made small and written to ``place``. Raises UsageError, OSError; ModelError if it cannot even be made again."""
    from ptactors.campaign.again import judge_run
    from ptactors.cli.shrink import progress, words_of
    from ptactors.engine.strategy.replay import Replay
    from ptactors.shrink.recall import perform
    from ptactors.shrink.session import shrink
    from ptactors.shrink.trial import goal_of_broken

    schedule = recording.schedule
    try:
        run: Run = perform(recording.scenario, recording.cell, Replay(schedule), schedule.strategy, schedule.seed)
    except ReplayDivergence as error:
        raise ModelError(
            f"{schedule.scenario}, cell {schedule.cell}, seed {schedule.seed} was not the same again: {error}"
        ) from error
    broken = next((b for b in judge_run(run.recording, run.outcome) if f"{b.kind} {b.condition}" == why), None)
    if broken is None:
        raise ModelError(
            f"{schedule.scenario}, cell {schedule.cell}, seed {schedule.seed}: {why!r} is not violated when made again"
        )
    name = place.stem if place is not None else f"{schedule.scenario}-min"
    shrunk = shrink(
        run,
        goal=goal_of_broken(run, broken),
        words=lambda goal: words_of(run, goal, name),
        stop=clock,
        progress=progress,
        most=most,
    )
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(shrunk.text(), encoding="utf-8")
        if shrunk.pinned is None:
            shrunk.schedule(str(place)).save(place.with_suffix(".schedule.json"))
    return shrunk


def _told(shrunk: Shrunk, place: Path | None, again: str) -> Iterator[str]:
    from ptactors.cli.shrink import shrunk_lines
    from ptactors.explain.picture import picture

    outcome = shrunk.pinned.outcome if shrunk.pinned else shrunk.case.run.outcome
    yield f"Shrunk: {shrunk.goal}"
    yield from shrunk_lines(shrunk)
    yield from picture(outcome, shrunk.goal.finding(outcome))
    if place is None:
        command = again
    elif shrunk.pinned is not None:
        command = shlex.join(["ptactors", "run", str(place)])
    else:
        command = shlex.join(["ptactors", "replay", str(place.with_suffix(".schedule.json"))])
    if command:
        yield f" replay:  {command}"
