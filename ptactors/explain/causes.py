"""What a hazard hangs on: the switches without which it vanishes, the pairs of steps whose order decides, its chance on the way.

Everything is found by experiment on the model: the run is made again with one thing changed, and the same hazard is there or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from ptactors.engine.choices import Decision, Follow, Prefix
from ptactors.engine.schedule import Turn
from ptactors.engine.strategy.base import Option, Strategy
from ptactors.errors import ReplayDivergence
from ptactors.model.rng import stream
from ptactors.model.state import Key, State
from ptactors.shrink.order import LIMIT, Footprints, Made, dependences, past
from ptactors.shrink.recall import Run, perform
from ptactors.shrink.trial import SLACK, Goal
from ptactors.world import Outcome
from ptactors.world.machine import Hook

PAIRS = 150
"""Pairs of steps that are tried the other way round, those nearest to the hazard first."""
POINTS = 12
"""Points of the run from which its chance is sampled."""
SAMPLES = 40
"""Random continuations from each."""
SEED = 0


@attrs.frozen(kw_only=True)
class Switch:
    """One choice that was not "go on"."""

    step: int
    taken: str
    """The actor that moved."""
    left: str
    """The actor that would have, by itself."""
    preempts: bool
    vanishes: bool
    """Whether there is no such hazard if ``left`` makes its next visit at once and all else goes on as it can."""


@attrs.frozen(kw_only=True)
class Ordering:
    """Two steps whose order decides."""

    first: int
    second: int


@attrs.frozen(kw_only=True)
class Chance:
    """How often random continuations meet the hazard."""

    step: int
    """After this step; 0: from the start."""
    hits: int
    samples: int


class Experiment:
    """One recorded run, to be made again with changes."""

    def __init__(self, run: Run, goal: Goal) -> None:
        self.run, self.goal = run, goal
        self.turns: tuple[Turn, ...] = run.outcome.schedule.turns
        finding = goal.finding(run.outcome)
        self.last = finding.step if finding is not None else run.outcome.steps
        """The step at which the goal is met."""
        expects = run.recording.cell.expects
        self._expected = next((i for i, e in enumerate(expects) if goal.condition == e.condition.text), -1)
        self._refused = next((i for i, e in enumerate(expects) if goal.condition == f"not ({e.condition.text})"), -1)

    def _perform(self, by: Strategy, watch: Sequence[Callable[[State], Hook]] = (), *, record: bool = False) -> Run | None:
        recording = self.run.recording
        steps = SLACK * self.run.outcome.steps + 1000
        scenario = attrs.evolve(recording.scenario, max_steps=min(recording.scenario.max_steps, steps))
        schedule = recording.schedule
        try:
            return perform(
                scenario, recording.cell, by, schedule.strategy, schedule.seed, record=record, bound=True, watch=watch
            )  # fmt: skip
        except ReplayDivergence:
            return None

    def _met(self, outcome: Outcome) -> bool:
        if self.goal.hazard:
            return self.goal.finding(outcome) is not None
        return outcome.verdicts[self._expected] if self._expected >= 0 else not outcome.verdicts[self._refused]

    # -- switches -----------------------------------------------------------------------------------------------------

    def switches(self) -> Iterator[Switch]:
        """Every choice up to the goal that was not "go on", and whether it matters."""
        for decision in self.run.decisions:
            if decision.choice and decision.step <= self.last:
                made = self._perform(Follow(self._without(decision)))
                yield Switch(
                    step=decision.step, taken=self.turns[decision.step - 1][0], left=decision.first,
                    preempts=decision.preempts, vanishes=made is None or not self._met(made.outcome),
                )  # fmt: skip

    def _without(self, decision: Decision) -> list[Turn]:
        """The turns with the next visit of the actor that was passed over moved up to where it was."""
        rest = self.turns[decision.step - 1 :]
        start = next((i for i, turn in enumerate(rest) if turn[0] == decision.first), len(rest))
        end = start
        while end < len(rest) and rest[end][0] == decision.first:
            end += 1
        return [*self.turns[: decision.step - 1], *rest[start:end], *rest[:start], *rest[end:]]

    # -- orderings ----------------------------------------------------------------------------------------------------

    def orderings(self, stop: Callable[[], bool]) -> tuple[Ordering, ...]:
        """Pairs of conflicting steps of two actors without which order the hazard is not there."""
        hooks: list[Footprints] = []

        def watch(state: State) -> Footprints:
            hooks.append(Footprints(state))
            return hooks[-1]

        if len(self.turns) > LIMIT or self._perform(Prefix(self.turns, Follow(())), [watch]) is None:
            return ()
        before = dependences(hooks[0].made)
        found: list[Ordering] = []
        for first, second in self._races(hooks[0].made, before)[:PAIRS]:
            if stop():
                break
            pair = Ordering(first=first + 1, second=second + 1)
            if any(self._implies(other, pair) for other in found):
                continue
            made = self._perform(Follow(self._reversed(before, first, second)), record=True)
            if made is not None and self._turned(made, first, second) and not self._met(made.outcome):
                found = [other for other in found if not self._implies(pair, other)] + [pair]
        return tuple(found)

    def _implies(self, strong: Ordering, weak: Ordering) -> bool:
        """Whether the one order gives the other, as each actor's own steps are in order."""
        turns = self.turns
        same = all(turns[a - 1][0] == turns[b - 1][0] for a, b in ((strong.first, weak.first), (strong.second, weak.second)))
        return same and weak.first <= strong.first and strong.second <= weak.second

    def _races(self, made: Sequence[Made], before: Sequence[dict[int, None]]) -> list[tuple[int, int]]:
        """(earlier, later) positions of turns of two actors that touch the same cell; nearest to the goal first.

        Of two critical sections the order is decided by who gets in, not by who gets out: a step that waits for a cell races with
        the last one of another actor that waited for it.
        """
        found: dict[tuple[int, int], None] = {}
        entered: dict[Key, dict[int, int]] = {}
        for later, earlier in enumerate(before):
            found.update(dict.fromkeys((first, later) for first in earlier))
            for key in made[later].waits:
                others = entered.setdefault(key, {})
                found.update(dict.fromkeys((first, later) for actor, first in others.items() if actor != made[later].actor))
                others[made[later].actor] = later
        pairs = [(i, j) for i, j in found if self.turns[i][0] != self.turns[j][0] and i < self.last]
        return sorted(pairs, key=lambda pair: (abs(pair[1] - self.last) + self.last - pair[0], pair))

    def _reversed(self, before: Sequence[dict[int, None]], first: int, second: int) -> list[Turn]:
        """The turns with ``second``, and what others must make for it, moved up to where ``first`` was."""
        needed = past(before, second)
        actor = self.turns[first][0]
        early = [at for at in range(first + 1, second) if needed[at] and self.turns[at][0] != actor]
        moved = {second, *early}
        rest = [at for at in range(first, len(self.turns)) if at not in moved]
        return [*self.turns[:first], *(self.turns[at] for at in (*early, second, *rest))]

    def _turned(self, made: Run, first: int, second: int) -> bool:
        """Whether the two turns happened in the other order."""
        where = []
        for at in (first, second):
            actor, _, label = self.turns[at]
            nth = sum(turn[0] == actor for turn in self.turns[:at])
            mine = [i for i, turn in enumerate(made.outcome.schedule.turns) if turn[0] == actor]
            if nth >= len(mine):
                where.append(len(self.turns) * SLACK)  # it is not made at all any more: later than everything
            elif made.outcome.schedule.turns[mine[nth]][2] != label:
                return False
            else:
                where.append(mine[nth])
        return where[1] < where[0]

    # -- chance -------------------------------------------------------------------------------------------------------

    def chances(self, stop: Callable[[], bool]) -> Iterator[Chance]:
        """How often random continuations from points of the run, the first turns of its visits, meet the hazard."""
        starts = [0] + [at for at in range(1, self.last) if self.turns[at][0] != self.turns[at - 1][0]] + [self.last - 1]
        points = sorted(dict.fromkeys(starts))
        if len(points) > POINTS:
            points = [points[i * (len(points) - 1) // (POINTS - 1)] for i in range(POINTS)]
        for at in points:
            hits = 0
            for sample in range(SAMPLES):
                if stop():
                    return
                made = self._perform(Prefix(self.turns[:at], _Uniform(at * SAMPLES + sample)))
                hits += made is not None and self._met(made.outcome)
            yield Chance(step=at, hits=hits, samples=SAMPLES)


class _Uniform:
    """Any option that is open, each equally likely."""

    every_turn = True

    def __init__(self, number: int) -> None:
        self._rng = stream(SEED + number, "explain")

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        return self._rng.below(len(options))

    def finished(self, steps: int) -> None:
        """See Strategy."""
