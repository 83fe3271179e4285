"""The first step where two runs part, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from ptactors.engine.choices import Choices, Prefix
from ptactors.engine.schedule import Turn
from ptactors.engine.strategy.base import Option
from ptactors.log.symbol import Symbols
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.shrink.recall import Run, perform

NEXT = 4
"""Steps of each run that are shown from where they part."""


@attrs.frozen(kw_only=True)
class Parting:
    """Where two runs part."""

    step: int
    """The first step that differs; 0: their beginnings do."""
    reason: str
    """A sentence."""


def part(a: Run, b: Run) -> Parting | None:
    """Where the runs part; None if they are the same to the last event. Both must be recorded."""
    mine, theirs = a.outcome.schedule.turns, b.outcome.schedule.turns
    here, there = _by_step(a), _by_step(b)
    if here.get(0) != there.get(0):
        return Parting(step=0, reason=f"they begin differently: {_effects(a, b, 0)}")
    for step in range(1, max(len(mine), len(theirs)) + 1):
        one = mine[step - 1] if step <= len(mine) else None
        other = theirs[step - 1] if step <= len(theirs) else None
        if one != other:
            return Parting(step=step, reason=_why(a, b, step, one, other))
        if here.get(step) != there.get(step):
            return Parting(step=step, reason=f"the same step has another effect: {_effects(a, b, step)}")
    return None


def _by_step(run: Run) -> dict[int, list[object]]:
    found: dict[int, list[object]] = {}
    for step, _, event in run.outcome.records or ():
        found.setdefault(step, []).append((type(event), event))
    return found


def _why(a: Run, b: Run, step: int, one: Turn | None, other: Turn | None) -> str:
    if one is None or other is None:
        ended, goes_on = ("A", "B") if one is None else ("B", "A")
        run = a if one is None else b
        how = f" ({run.outcome.status}: {run.outcome.reason})" if run.outcome.reason else ""
        return f"{ended} has ended{how}, {goes_on} goes on"
    mine, theirs = _open_at(a, step), _open_at(b, step)
    if mine == theirs:
        return f"the same was open in both, and another choice was made: {', '.join(mine)}"
    only_a = [text for text in mine if text not in theirs]
    only_b = [text for text in theirs if text not in mine]
    told = [f"only in A {', '.join(only_a)}"] * bool(only_a) + [f"only in B {', '.join(only_b)}"] * bool(only_b)
    return f"what can happen next is not the same: {'; '.join(told)}"


class _Look:
    """Notes what is open when it is asked first."""

    every_turn = True

    def __init__(self) -> None:
        self.open: list[str] = []
        self._then = Choices((), lenient=True)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        self.open = self.open or [f"{option.actor.name} {option.step.name()}" for option in options]
        return self._then.choose(step, options)

    def finished(self, steps: int) -> None:
        """See Strategy."""


def _open_at(run: Run, step: int) -> list[str]:
    """Actors that could move at this step, each with its step, in the order of actors."""
    recording, look = run.recording, _Look()
    turns = run.outcome.schedule.turns
    perform(
        recording.scenario, recording.cell, Prefix(turns[: step - 1], look), recording.schedule.strategy,
        recording.schedule.seed, record=False,
    )  # fmt: skip
    order = {name: i for i, name in enumerate(run.outcome.actors)}
    return sorted(look.open, key=lambda text: order[text.split()[0]])


def _effects(a: Run, b: Run, step: int) -> str:
    here, there = (_told(run, step) for run in (a, b))
    for i in range(max(len(here), len(there))):
        one = here[i] if i < len(here) else "nothing more"
        other = there[i] if i < len(there) else "nothing more"
        if one != other:
            return f"A: {one}; B: {other}"
    return "in fields that are not shown"


def _told(run: Run, step: int) -> list[str]:
    records: Sequence[Record] = run.outcome.records or ()
    symbols = Symbols.of(records)
    return [describe(event, symbols) for at, _, event in records if at == step]


def diff_lines(a: Run, b: Run, parting: Parting | None) -> Iterator[str]:
    """The whole comparison, for people."""
    yield from _heads(a, b)
    if parting is None:
        yield f"The runs are the same: {a.outcome.steps} steps, digest {a.outcome.digest}"
        return
    same = max(parting.step - 1, 0)
    yield f"The first {same} steps are the same." if same else "They have no step in common."
    yield f"Step {parting.step}: {parting.reason}" if parting.step else parting.reason
    for name, run in (("A", a), ("B", b)):
        for step in range(max(parting.step, 1), min(parting.step + NEXT, run.outcome.steps + 1)):
            yield f"  {name} {step:>5}  {step_line(run, step)}"
    yield from _ends(a, b)


def _heads(a: Run, b: Run) -> Iterator[str]:
    for name, run in (("A", a), ("B", b)):
        schedule = run.recording.schedule
        where = f"{schedule.scenario}/{run.recording.cell.index}  {schedule.cell}"
        yield f"{name}: {where}  {schedule.strategy} seed {schedule.seed}  {run.outcome.steps} steps"
    if a.recording.scenario.digest != b.recording.scenario.digest:
        yield "The scenarios differ in what decides a run (machine, memory, programs or faults)."
    mine, theirs = (run.recording.cell.config.as_dict() for run in (a, b))
    for knob, value in mine.items():
        if value != theirs[knob]:
            yield f"Knob {knob}: A {_word(value)}, B {_word(theirs[knob])}"


def _word(value: object) -> str:
    """A knob's value as scenarios and --set spell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def step_line(run: Run, step: int) -> str:
    """One step of a recorded run: who, which step, in which function, and what came of it."""
    actor, _, label = run.outcome.schedule.turns[step - 1]
    stack = run.outcome.functions.get(step, "").split(" <- ")[0]
    told = _told(run, step)
    return f"{actor} {label}{f' in {stack}' if stack else ''}{': ' + '; '.join(told) if told else ''}"


def _ends(a: Run, b: Run) -> Iterator[str]:
    mine = {f.hazard: f.step for f in a.outcome.findings}
    theirs = {f.hazard: f.step for f in b.outcome.findings}
    for hazard in dict.fromkeys((*mine, *theirs)):
        places = [f"{name} at step {found[hazard]}" for name, found in (("A", mine), ("B", theirs)) if hazard in found]
        yield f"{hazard}: {', '.join(places)}" + ("" if len(places) == 2 else " only")
    for name, run in (("A", a), ("B", b)):
        if run.outcome.status != "complete":
            yield f"{name} ended early: {run.outcome.status}: {run.outcome.reason}"
    if a.outcome.final != b.outcome.final:
        ends = dict(b.outcome.final)
        for key, value in a.outcome.final:
            if ends.get(key, value) != value:
                yield f"{key} at the end: A {value}, B {ends[key]}"
