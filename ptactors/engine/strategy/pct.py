"""Priorities that change at few random points: PCT, and PCT that turns fair."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import UNKNOWN, Option, Profile, Run, Sampler, number
from ptactors.model.rng import SplitMix64

DEPTH = 3
PATIENCE = 4
"""Fair PCT turns fair after so many times the measured length."""


class Pct(Sampler):
    """Probabilistic concurrency testing; ``pct:D`` looks for bugs of depth D (default 3).

    Source: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A randomized scheduler with probabilistic guarantees of finding bugs",
    ASPLOS 2010: random priorities, always the highest that can move; at D-1 points drawn uniformly from the K steps of a run the
    one about to move falls below all others. A bug of depth D shows with probability of at least 1/(n K^(D-1)).
    It departs from the paper in that only decisions count: a step that no other actor can notice, and one without alternatives,
    is no point of change; so K is the number of decisions of the longest probe run and not of instructions. Among the
    steps that one actor offers at once (a failing or a succeeding allocation) it draws uniformly.
    It is not fair: an actor that retries without blocking can starve the one it waits for.
    """

    profiled = True

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        depth = number(parameters, DEPTH, 1, "depth")
        self._rng = rng = SplitMix64(seed)
        self._length = max(profile.length, 1)
        points = sorted(rng.below(self._length) for _ in range(depth - 1))
        self._points = points[::-1]
        self._priorities: dict[int, int] = {}
        self._decisions = 0
        self._lowest = 0

    def begin(self, run: Run) -> None:
        """Shuffle the actors."""
        order = [actor.id for actor in run.actors]
        for i in range(len(order) - 1, 0, -1):
            j = self._rng.below(i + 1)
            order[i], order[j] = order[j], order[i]
        self._priorities = {actor: rank + 1 for rank, actor in enumerate(order)}

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        actor = self._highest(options)
        while self._points and self._points[-1] <= self._decisions:
            self._points.pop()
            self._lowest -= 1
            self._priorities[actor.id] = self._lowest
            actor = self._highest(options)
        self._decisions += 1
        mine = [i for i, option in enumerate(options) if option.actor is actor]
        return mine[0] if len(mine) == 1 else mine[self._rng.below(len(mine))]

    def _highest(self, options: Sequence[Option]) -> Actor:
        priorities = self._priorities
        return max(options, key=lambda option: priorities[option.actor.id]).actor


class FairPct(Pct):
    """PCT that turns into a uniform walk after four times the measured length, so that retries come to an end.

    Source: Deligiannis et al., "Uncovering bugs in distributed storage systems during testing (not in production!)", FAST 2016,
    and P's fairpct scheduler: an unfair prefix, then a fair one. Here the length of the prefix follows from the probes.
    """

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        if self._decisions >= PATIENCE * self._length:
            return self._rng.below(len(options))
        return super().choose(step, options)
