"""The bounded search that proves a number of preemptions to be the smallest.

Depth-first over all schedules with at most so many preemptions, from the start of the run; who moves where the last actor cannot
go on, and which of its steps an actor makes, is free and tried in every way. It takes no step for irrelevant, so what it says
of an emptied search holds for all schedules of the scenario.

Source: Musuvathi, Qadeer, "Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from ptactors.engine.choices import Choices, Decision
from ptactors.shrink.trial import Bench, Case


@attrs.frozen(kw_only=True)
class Proof:
    """What the search says."""

    preemptions: int
    """Those of the best schedule known."""
    below: int
    """No schedule with fewer preemptions than this meets the goal: proved."""
    schedules: int
    """Tried for it."""
    unsettled: str = ""
    """Why the search did not come to its end."""

    @property
    def minimal(self) -> bool:
        """Whether the best known is the best possible."""
        return self.below >= self.preemptions

    def __str__(self) -> str:
        many = "no preemption" if not self.preemptions else f"{self.preemptions} preemption{'s' * (self.preemptions > 1)}"
        if self.minimal:
            how = "none is needed" if not self.preemptions else f"proved: all {self.schedules} schedules with fewer were tried"
            return f"{many}, the least possible ({how})"
        proved = f"with {self.below - 1} or fewer there is none" if self.below else "nothing is proved"
        return f"{many}; whether fewer would do is not settled: {self.unsettled} ({proved}; {self.schedules} schedules tried)"


class Unsettled(Exception):
    """The search cannot come to its end; the reason."""


def search(bench: Bench, case: Case, bound: int) -> Iterator[list[int]]:
    """The choices of every schedule with at most ``bound`` preemptions that meets the goal.

    Raises Unsettled when the bench's time is up, or where a schedule does not come to its own end.
    """
    prefix: list[int] | None = []
    steps = case.run.outcome.steps
    while prefix is not None:
        if bench.over():
            raise Unsettled(bench.reason)
        run = bench.perform(case.scenario, case.cell, Choices(prefix), steps=steps)
        if run is None:
            raise Unsettled("a schedule could not be made")
        if bench.goal.met(run.outcome):
            yield [decision.choice for decision in run.decisions]
        elif run.outcome.status in ("limit", "livelock"):
            raise Unsettled(f"a schedule was {run.outcome.reason}")
        prefix = _following(run.decisions, bound)


def _following(decisions: Sequence[Decision], bound: int) -> list[int] | None:
    """The choices that lead to the next schedule within the bound; None after the last."""
    spent = 0
    last: int | None = None
    for at, decision in enumerate(decisions):
        more = decision.choice + 1
        if more < decision.options and spent + (0 < decision.own <= more) <= bound:
            last = at
        spent += decision.preempts
    if last is None:
        return None
    return [*(decision.choice for decision in decisions[:last]), decisions[last].choice + 1]


def prove(bench: Bench, case: Case) -> tuple[Case, Proof]:
    """The case with as few preemptions as there can be, as far as the time allows, and what is proved of it."""
    below, before, why = 0, bench.runs, ""
    try:
        while below < case.preemptions:
            better = next(search(bench, case, below), None)
            if better is not None:
                case = bench.case(case.scenario, case.cell, better, case.run.outcome.steps) or case
                break
            below += 1
    except Unsettled as unsettled:
        why = str(unsettled)
    return case, Proof(preemptions=case.preemptions, below=below, schedules=bench.runs - before, unsettled=why)
