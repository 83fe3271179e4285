"""Shrinking from beginning to end."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ptactors.engine.schedule import Schedule
from ptactors.errors import UsageError
from ptactors.scenario.stress import expand_stress
from ptactors.shrink.pin import Pinned, Words, pinned
from ptactors.shrink.proof import Proof, prove
from ptactors.shrink.recall import Run
from ptactors.shrink.reduce import shrink_scenario, size, written_out
from ptactors.shrink.schedule import compact, shrink_schedule
from ptactors.shrink.text import render
from ptactors.shrink.trial import Bench, Case, Goal, choices_of

Progress = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Shrunk:
    """What came of it."""

    goal: Goal
    first: dict[str, int]
    """How large the run and its scenario were."""
    last: dict[str, int]
    """How large they are."""
    case: Case
    """The smallest case, recorded."""
    proof: Proof
    pinned: Pinned | None
    """As a file; None if no order of CPU steps leads to the goal."""
    words: Words
    """The prose of the file."""
    runs: int
    """Trials made."""
    unfinished: str = ""
    """Why not every pass came to its end."""

    @property
    def in_time(self) -> bool:
        """Whether every pass came to its end."""
        return not self.unfinished

    def text(self) -> str:
        """The scenario as a file: pinned, if it could be."""
        if self.pinned is not None:
            return self.pinned.text
        case, words = self.case, self.words
        others = tuple(dict.fromkeys(f.hazard for f in case.run.outcome.findings if f.hazard != self.goal.hazard))
        return render(
            case.scenario, case.cell, name=words.name, title=words.title, why=words.why, exists=self.goal.condition, allow=others
        )  # fmt: skip

    def schedule(self, path: str) -> Schedule:
        """The smallest run, as one of the scenario in the file at ``path``."""
        return attrs.evolve(self.case.run.outcome.schedule, scenario=self.words.name, scenario_path=path)


def shrink(
    run: Run,
    *,
    goal: Goal,
    words: Callable[[Goal], Words],
    stop: Callable[[], bool],
    progress: Progress,
    most: int | None = None,
) -> Shrunk:
    """Make the run and its scenario small. ``stop`` says when the time is up; what was reached by then is the result.

    ``most``: the steps of all trials together after which it ends as well, wherever and however fast it runs.
    Raises UsageError if the scenario cannot be written as a file of one cell that shows the goal.
    """
    schedule = run.recording.schedule
    bench = Bench(goal=goal, strategy=schedule.strategy, seed=schedule.seed, stop=stop, most=most)
    case = _start(bench, run)
    first = _size(attrs.evolve(case, run=run))
    progress("order")
    case = compact(bench, case)  # the passes over single choices can wait until the runs are short
    for _ in range(2):
        progress("scenario")
        case = shrink_scenario(bench, case)
        progress("schedule")
        case = shrink_schedule(bench, case)
    progress("proof")
    case, proof = prove(bench, case)
    case = shrink_schedule(bench, case)
    unfinished = bench.reason if bench.over() else ""
    progress("pin")
    prose = words(goal)
    made = pinned(bench, case, prose)
    progress("done")
    return Shrunk(
        goal=goal, first=first, last=_size(case), case=case, proof=proof, pinned=made, words=prose, runs=bench.runs,
        unfinished=unfinished,
    )  # fmt: skip


def _start(bench: Bench, run: Run) -> Case:
    """The run in a scenario of its cell alone."""
    recording = run.recording
    programs = expand_stress(recording.scenario, recording.schedule.seed)
    single = bench.single(written_out(recording.scenario, programs), recording.cell)
    if single is not None and single[1].config == recording.cell.config:
        case = bench.case(*single, choices_of(run.decisions), run.outcome.steps)
        if case is not None:
            return case
    raise UsageError(f"scenario {recording.scenario.name} cannot be written as one cell that shows {bench.goal}")


def _size(case: Case) -> dict[str, int]:
    preemptions, departures, _, _ = case.price
    parts = {"steps": case.run.outcome.steps, "switches chosen": departures, "preemptions": preemptions}
    return size(case.scenario, case.cell) | parts
