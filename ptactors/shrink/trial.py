"""Trying out: is this smaller thing still the same bug?

A *goal* is what must survive: the same hazard on the same kind of object, or the expectation that is violated. A *case* is a
scenario reduced to one cell together with a run of it that meets the goal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import attrs

from ptactors.campaign.again import Broken, judge_run
from ptactors.campaign.names import known_names
from ptactors.campaign.verdict import SURPRISE
from ptactors.engine.choices import Choices, Decision
from ptactors.engine.strategy.base import Strategy
from ptactors.errors import PtactorsError, ScenarioError, UsageError
from ptactors.model.hazard import Finding, Severity
from ptactors.model.state import State
from ptactors.oracle.table import HAZARDS
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.shrink.recall import Run, perform
from ptactors.shrink.text import render
from ptactors.world import Outcome
from ptactors.world.machine import Hook

SLACK = 4
"""A trial may take so many times the steps of the run it comes from; more is a retry that does not end."""
_HAZARDS_ONLY = re.compile(r"[\s(]*hazard\(\w+\)[\s)]*((or|\\/)[\s(]*hazard\(\w+\)[\s)]*)*")
"""A condition that any one of its hazards makes true."""


@attrs.frozen(kw_only=True)
class Goal:
    """What must survive."""

    condition: str
    """As an ``exists`` expectation has it."""
    hazard: str = ""
    """'' if it is about the end of the run only."""
    role: str = ""
    """The kind of object that the hazard is about."""

    def met(self, outcome: Outcome) -> bool:
        """Whether a run of a case's scenario, whose only expectation this is, meets it."""
        if self.hazard:
            return self.finding(outcome) is not None
        return outcome.verdicts == (True,)

    def finding(self, outcome: Outcome) -> Finding | None:
        """The hazard of the goal in that run."""
        return next((f for f in outcome.findings if f.hazard == self.hazard and f.role == self.role), None)

    def __str__(self) -> str:
        return f"{self.hazard} ({self.role})" if self.role else self.hazard or self.condition


def goal_of(run: Run, hazard: str | None = None) -> Goal:
    """The goal for a run: the hazard that was asked for, else one that an expectation names, else the worst, else an expectation.

    Raises UsageError if the run shows nothing.
    """
    found = {finding.hazard: finding for finding in run.outcome.findings}
    if hazard is not None:
        if hazard not in found:
            raise UsageError(f"this run has no hazard {hazard!r}; it has: {', '.join(found) or 'none'}")
        return _hazard_goal(found[hazard])
    named = [name for expect in run.recording.cell.expects for name in expect.condition.hazards()]
    severe = [name for name in found if HAZARDS[name].severity is Severity.VIOLATION]
    for name in (*named, *severe, *found):
        if name in found:
            return _hazard_goal(found[name])
    for broken in judge_run(run.recording, run.outcome):
        return goal_of_broken(run, broken)
    raise UsageError("this run has no hazard and violates no expectation: there is nothing to shrink or to explain")


def goal_of_broken(run: Run, broken: Broken) -> Goal:
    """The goal for a run that violates this expectation: a hazard that by itself violates it, else the expectation."""
    alone = broken.kind == "forbidden" and (broken.condition == SURPRISE or _HAZARDS_ONLY.fullmatch(broken.condition))
    for finding in run.outcome.findings if alone else ():
        if finding.hazard in broken.hazards:
            return _hazard_goal(finding)
    return Goal(condition=broken.condition if broken.kind == "forbidden" else f"not ({broken.condition})")


def _hazard_goal(finding: Finding) -> Goal:
    return Goal(condition=f"hazard({finding.hazard})", hazard=finding.hazard, role=finding.role)


@attrs.frozen(kw_only=True)
class Case:
    """A scenario of one cell and a run of it that meets the goal."""

    scenario: Scenario
    cell: Cell
    run: Run
    last: int
    """The step at which the goal is met; the last of the run if it is about its end."""

    @property
    def price(self) -> tuple[int, int, int, list[int]]:
        """What is to become small: preemptions, departures from "go on", steps up to the goal, and the choices themselves."""
        choices = [decision.choice for decision in self.run.decisions]
        return (
            sum(decision.preempts for decision in self.run.decisions),
            sum(choice > 0 for choice in choices),
            self.last,
            choices,
        )

    @property
    def preemptions(self) -> int:
        """How often an actor loses its turn although it could go on."""
        return self.price[0]


@attrs.define
class Bench:
    """Makes trials."""

    goal: Goal
    strategy: str
    """Where the run comes from, for the recording."""
    seed: int
    stop: Callable[[], bool]
    """Whether the time is up."""
    most: int | None = None
    """Steps of all trials after which there are no more, so that what comes of them does not depend on the clock."""
    runs: int = 0
    """Trials so far."""
    steps: int = 0
    """Their steps."""

    def over(self) -> bool:
        """Whether there are to be no more trials."""
        return self.spent or self.stop()

    @property
    def spent(self) -> bool:
        """Whether all steps there were have been made."""
        return self.most is not None and self.steps >= self.most

    @property
    def reason(self) -> str:
        """Why it is over, if it is."""
        return f"the budget of {self.most} steps was spent" if self.spent else "the time was up"

    def single(self, scenario: Scenario, cell: Cell, name: str = "shrunk") -> tuple[Scenario, Cell] | None:
        """The scenario with this cell alone and the goal as its only expectation, read from text; None if it is none."""
        text = render(scenario, cell, name=name, title=scenario.title, why=scenario.why, exists=self.goal.condition)
        try:
            made = loads(text, f"<{name}>", known_names())
            return made, cells(made)[0]
        except (ScenarioError, UsageError):
            return None

    def attempt(
        self,
        scenario: Scenario,
        cell: Cell,
        by: Strategy,
        *,
        steps: int,
        record: bool = False,
        watch: Sequence[Callable[[State], Hook]] = (),
    ) -> Run | None:
        """One run; None if it does not meet the goal or cannot be made. ``steps``: of the run it comes from."""
        run = self.perform(scenario, cell, by, steps=steps, record=record, watch=watch)
        return run if run is not None and self.goal.met(run.outcome) else None

    def perform(
        self,
        scenario: Scenario,
        cell: Cell,
        by: Strategy,
        *,
        steps: int,
        record: bool = False,
        watch: Sequence[Callable[[State], Hook]] = (),
    ) -> Run | None:
        """One run, whatever comes of it; None if it cannot be made."""
        self.runs += 1
        limited = attrs.evolve(scenario, max_steps=min(scenario.max_steps, SLACK * steps + 1000))
        try:
            run = perform(limited, cell, by, self.strategy, self.seed, record=record, bound=True, watch=watch)
        except PtactorsError:
            return None
        self.steps += run.outcome.steps
        return run

    def case(self, scenario: Scenario, cell: Cell, choices: Sequence[int], steps: int) -> Case | None:
        """The case of a run by these choices, cut after the goal and recorded; None if it does not meet the goal."""
        run = self.attempt(scenario, cell, Choices(choices, lenient=True), steps=steps, record=True)
        if run is None:
            return None
        kept = self.before_goal(run)
        if len(kept) < len(choices):
            shorter = self.attempt(scenario, cell, Choices(kept, lenient=True), steps=steps, record=True)
            run = shorter or run
        return Case(scenario=scenario, cell=cell, run=run, last=self.last(run))

    def last(self, run: Run) -> int:
        """The step that meets the goal; the run's last one if it is about the end."""
        finding = self.goal.finding(run.outcome)
        return finding.step if finding is not None else run.outcome.steps

    def before_goal(self, run: Run) -> list[int]:
        """The choices up to the step that meets the goal."""
        last = self.last(run)
        return [decision.choice for decision in run.decisions if decision.step <= last]


def choices_of(decisions: Sequence[Decision]) -> list[int]:
    """The choices alone."""
    return [decision.choice for decision in decisions]
