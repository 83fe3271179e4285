"""What many runs of one cell came to, in numbers that can be merged.

Tallies are merged in the order of their seeds and keep the first seed of everything, so it does not matter who
counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from ptactors.world import Outcome

FINAL_STATES_LIMIT = 1000
"""Distinct final states that a cell keeps; schedules that end in any other are only counted."""
BEHAVIOURS_LIMIT = 100_000
"""Distinct behaviours that are told apart; beyond them nothing counts as new."""
FinalState = tuple[tuple[str, int | str], ...]
K = TypeVar("K")


@attrs.define
class Seen:
    """How many schedules, and the seed of the first."""

    count: int
    seed: int


def _add(table: dict[K, Seen], key: K, count: int, seed: int) -> None:
    known = table.get(key)
    if known is None:
        table[key] = Seen(count, seed)
    else:
        known.count += count


def behaviour_of(outcome: Outcome) -> int:
    """What a run did as far as a portfolio is steered by it: end, hazards and counts, but not how many steps it took."""
    counts = [(name, value) for name, value in outcome.metrics.items() if name != "steps"]
    told = (outcome.status, outcome.final, [f.hazard for f in outcome.findings], outcome.verdicts, counts, outcome.reached)
    return int.from_bytes(hashlib.blake2b(repr(told).encode(), digest_size=8).digest(), "big")


@attrs.define(kw_only=True)
class Member:
    """What one strategy of a portfolio has done."""

    runs: int = 0
    """Schedules."""
    new: int = 0
    """Behaviours that it was the first to show."""
    hazards: dict[str, Seen] = attrs.field(factory=dict)
    """Hazard -> its schedules in which it was seen."""


@attrs.define(kw_only=True)
class Tally:
    """Counts over the schedules of one cell."""

    runs: int = 0
    """Schedules counted."""
    hazards: dict[str, Seen] = attrs.field(factory=dict)
    """Hazard -> schedules in which it was seen."""
    surprises: dict[str, Seen] = attrs.field(factory=dict)
    """As ``hazards``, for those that nobody expects; under '' the schedules with any of them."""
    true: dict[int, Seen] = attrs.field(factory=dict)
    """Number of the expectation -> schedules in which its condition was true."""
    false: dict[int, Seen] = attrs.field(factory=dict)
    """Number of the expectation -> schedules, run to their end, in which its condition was false."""
    statuses: dict[str, Seen] = attrs.field(factory=dict)
    """How runs ended -> schedules."""
    reasons: dict[str, str] = attrs.field(factory=dict)
    """How runs ended -> the first such run's sentence."""
    finals: dict[FinalState, Seen] = attrs.field(factory=dict)
    """Final state -> schedules."""
    other_finals: int = 0
    """Schedules whose final state is beyond the limit."""
    metrics: dict[str, dict[int, int]] = attrs.field(factory=dict)
    """Metric -> value -> schedules."""
    reached: dict[str, None] = attrs.field(factory=dict)
    """Those of the scenario's coverage goals that were reached."""
    steps: int = 0
    """Steps of all schedules together."""
    members: dict[str, Member] = attrs.field(factory=dict)
    """For a portfolio, what each of its members has done."""
    behaviours: dict[int, str] = attrs.field(factory=dict)
    """For a portfolio, behaviour -> the member that was the first to show it."""

    def add(self, seed: int, outcome: Outcome, unexpected: frozenset[str], goals: frozenset[str], member: str = "") -> None:
        """Count one run; ``unexpected`` are the hazards that make a cell fail by themselves, ``member`` who made it."""
        self.runs += 1
        self.steps += outcome.steps
        found = dict.fromkeys(finding.hazard for finding in outcome.findings)
        for hazard in found:
            _add(self.hazards, hazard, 1, seed)
        for hazard in [*(h for h in found if h in unexpected), *([""] if unexpected & found.keys() else [])]:
            _add(self.surprises, hazard, 1, seed)
        for number, verdict in enumerate(outcome.verdicts):
            if verdict:
                _add(self.true, number, 1, seed)
            elif outcome.status != "limit":
                _add(self.false, number, 1, seed)
        _add(self.statuses, outcome.status, 1, seed)
        if outcome.reason:
            self.reasons.setdefault(outcome.status, outcome.reason)
        self._final(outcome.final, 1, seed)
        for name, value in outcome.metrics.items():
            values = self.metrics.setdefault(name, {})
            values[value] = values.get(value, 0) + 1
        if goals:
            self.reached.update(dict.fromkeys(name for name in outcome.reached if name in goals))
        if member:
            done = self.members.setdefault(member, Member())
            done.runs += 1
            for hazard in found:
                _add(done.hazards, hazard, 1, seed)
            self._behaviour(behaviour_of(outcome), member)

    def _behaviour(self, behaviour: int, member: str) -> None:
        if behaviour not in self.behaviours and len(self.behaviours) < BEHAVIOURS_LIMIT:
            self.behaviours[behaviour] = member
            self.members[member].new += 1

    def _final(self, state: FinalState, count: int, seed: int) -> None:
        if state in self.finals or len(self.finals) < FINAL_STATES_LIMIT:
            _add(self.finals, state, count, seed)
        else:
            self.other_finals += count

    def merge(self, later: Tally) -> None:
        """Add the counts of seeds that come after all of this tally's."""
        self.runs += later.runs
        self.steps += later.steps
        _merge(self.hazards, later.hazards)
        _merge(self.surprises, later.surprises)
        _merge(self.true, later.true)
        _merge(self.false, later.false)
        _merge(self.statuses, later.statuses)
        self.reasons = {**later.reasons, **self.reasons}
        for state, seen in later.finals.items():
            self._final(state, seen.count, seen.seed)
        self.other_finals += later.other_finals
        for name, values in later.metrics.items():
            mine = self.metrics.setdefault(name, {})
            for value, count in values.items():
                mine[value] = mine.get(value, 0) + count
        self.reached.update(later.reached)
        for name, member in later.members.items():
            done = self.members.setdefault(name, Member())
            done.runs += member.runs
            _merge(done.hazards, member.hazards)
        for behaviour, name in later.behaviours.items():
            self._behaviour(behaviour, name)

    def metric(self, name: str) -> int:
        """One number for a metric: the greatest of ``*_max``; of all others the commonest, and of those the first seen."""
        values = self.metrics[name]
        return max(values) if name.endswith("_max") else max(values, key=lambda value: values[value])

    def summary(self) -> Mapping[str, int]:
        """Every metric as one number, sorted by name."""
        return {name: self.metric(name) for name in sorted(self.metrics)}


def _merge(mine: dict[K, Seen], later: Mapping[K, Seen]) -> None:
    for key, seen in later.items():
        _add(mine, key, seen.count, seen.seed)
