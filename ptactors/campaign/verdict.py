"""From counts to verdicts, in words that claim no more than was done.

A campaign samples: it can show that something happens, and can only fail to see what does not. So an ``exists`` is held or
inconclusive, a ``forbidden`` or ``always`` is violated or held with the number of schedules said; ``never`` is nobody's verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from ptactors.campaign.tally import Tally

if TYPE_CHECKING:
    from ptactors.scenario.condition import Condition
    from ptactors.scenario.matrix import Cell

HELD, VIOLATED, INCONCLUSIVE = "held", "violated", "inconclusive"
SAMPLED, EXHAUSTIVE = "sampled", "exhaustive"
SURPRISE = "any other violation"
"""The condition that every cell forbids without saying so: a violation that no expectation names."""


@attrs.frozen(kw_only=True)
class ExpectationResult:
    """One expectation of one cell, judged."""

    kind: str
    """exists, forbidden or always."""
    condition: str
    """As the scenario spells it."""
    verdict: str
    """held, violated or inconclusive."""
    hits: int
    """Schedules in which the condition was true."""
    schedules: int
    """Schedules in which it was decided."""
    seed: int | None
    """The first schedule that violates it, or that shows an ``exists``; None if there is none."""
    method: str = SAMPLED
    """sampled, or exhaustive."""

    @property
    def observation(self) -> str:
        """As herd says it: Sometimes or Always of the schedules run; Never only of an emptied search, else Unseen."""
        if not self.hits:
            return "Never" if self.method == EXHAUSTIVE else "Unseen"
        return "Always" if self.hits == self.schedules else "Sometimes"

    def sentence(self) -> str:
        """The verdict in honest words."""
        many = f"{self.schedules} schedule{'' if self.schedules == 1 else 's'}"
        if self.kind == "exists":
            return f"held: seen in {self.hits} of {many}" if self.hits else f"inconclusive: not seen in {many}"
        bad = self.hits if self.kind == "forbidden" else self.schedules - self.hits
        if bad:
            return f"violated: {'' if self.kind == 'forbidden' else 'not '}so in {bad} of {many}, first with seed {self.seed}"
        if self.verdict == INCONCLUSIVE:
            return f"inconclusive: {'not seen' if self.kind == 'forbidden' else 'so'} in {many}, but not all ran to their end"
        seen = "not seen in" if self.kind == "forbidden" else "so in all" if self.schedules > 1 else "so in"
        return f"held, sampled: {seen} {many}"


@attrs.frozen(kw_only=True)
class CellResult:
    """One cell, judged."""

    scenario: str
    cell: Cell
    seed: int
    """The first seed."""
    strategy: str
    tally: Tally
    expectations: tuple[ExpectationResult, ...]
    """Those of the scenario that speak of this cell, in its order, and the implicit one."""
    reasons: tuple[str, ...]
    """Why the cell is inconclusive, beside expectations that are."""
    chosen: bool = False
    """Whether a portfolio chose the seeds, so that after those of its first round they are not consecutive."""

    @property
    def verdict(self) -> str:
        """The worst of its expectations, and of what stands in ``reasons``."""
        return worst([e.verdict for e in self.expectations] + [INCONCLUSIVE] * bool(self.reasons))

    def witness(self) -> tuple[int, str] | None:
        """(seed, why) of the schedule worth keeping: of a violation, else of an ``exists``, else of any hazard."""
        for wanted in (VIOLATED, HELD):
            for each in self.expectations:
                if each.verdict == wanted and each.seed is not None:
                    return each.seed, f"{each.kind} {each.condition}"
        for hazard, seen in self.tally.hazards.items():
            return seen.seed, f"hazard({hazard})"
        return None


@attrs.frozen(kw_only=True)
class ScenarioResult:
    """One scenario, judged."""

    name: str
    digest: str
    """Of what decides what a run does."""
    cells: tuple[CellResult, ...]
    """In the order of its matrix; fewer than it has if the campaign was cut short."""
    missed: tuple[str, ...] = ()
    """Coverage goals that no schedule of any cell reached."""

    @property
    def verdict(self) -> str:
        """The worst of its cells; inconclusive where a coverage goal was missed."""
        return worst([cell.verdict for cell in self.cells] + [INCONCLUSIVE] * bool(self.missed or not self.cells))


def conclude(name: str, digest: str, cells: Sequence[CellResult], goals: Sequence[str]) -> ScenarioResult:
    """The verdict of a scenario from those of its cells; ``goals`` are what some schedule of some cell must reach."""
    missed = tuple(goal for goal in goals if not any(goal in cell.tally.reached for cell in cells))
    return ScenarioResult(name=name, digest=digest, cells=tuple(cells), missed=missed)


def worst(verdicts: Sequence[str]) -> str:
    """Violated before inconclusive before held."""
    return next((v for v in (VIOLATED, INCONCLUSIVE) if v in verdicts), HELD)


def unexpected(conditions: Sequence[Condition], allow: Sequence[str], severities: Mapping[str, bool]) -> frozenset[str]:
    """The hazards that make a cell fail by themselves: violations that no condition names and the scenario does not allow.

    ``severities`` says of every hazard whether it is a violation.
    """
    named = {name for condition in conditions for name in condition.hazards()}
    return frozenset(h for h, violation in severities.items() if violation and h not in named and h not in allow)


def judge(scenario: str, cell: Cell, seed: int, strategy: str, tally: Tally, chosen: bool = False) -> CellResult:
    """The verdicts of a cell from its counts."""
    cut = tally.statuses.get("limit")
    results = [_judge_one(e.kind, e.condition.text, number, tally) for number, e in enumerate(cell.expects)]
    surprise = tally.surprises.get("")
    results.append(
        ExpectationResult(
            kind="forbidden", condition=SURPRISE, verdict=_verdict("forbidden", bool(surprise), tally),
            hits=surprise.count if surprise else 0, schedules=tally.runs, seed=surprise.seed if surprise else None,
        )
    )  # fmt: skip
    reasons = []
    if cut:
        why = tally.reasons.get("limit", "the limit of steps was reached")
        reasons.append(f"{cut.count} of {tally.runs} schedules did not run to their end: {why}")
    if not tally.runs:
        reasons.append("no schedule was run")
    return CellResult(
        scenario=scenario, cell=cell, seed=seed, strategy=strategy, tally=tally,
        expectations=tuple(results), reasons=tuple(reasons), chosen=chosen,
    )  # fmt: skip


def _judge_one(kind: str, condition: str, number: int, tally: Tally) -> ExpectationResult:
    true, false = tally.true.get(number), tally.false.get(number)
    decisive = false if kind == "always" else true
    return ExpectationResult(
        kind=kind, condition=condition, verdict=_verdict(kind, decisive is not None, tally),
        hits=true.count if true else 0, schedules=(true.count if true else 0) + (false.count if false else 0),
        seed=decisive.seed if decisive else None,
    )  # fmt: skip


def _verdict(kind: str, decided: bool, tally: Tally) -> str:
    if kind == "exists":
        return HELD if decided else INCONCLUSIVE
    if decided:
        return VIOLATED
    return INCONCLUSIVE if "limit" in tally.statuses or not tally.runs else HELD
