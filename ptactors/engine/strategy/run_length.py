"""Random actors for random stretches."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence

from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import UNKNOWN, Option, Profile, Sampler
from ptactors.model.rng import SplitMix64

MEANS = (4, 16, 64)
"""Mean lengths of a stretch, in decisions; each run draws one of them."""


@functools.cache
def _tail(mean: int) -> tuple[int, ...]:
    """-P(length > k) * 2^64 for k = 0, 1, ..., ascending, by integer arithmetic, so that every machine agrees."""
    values, rest = [], 1 << 64
    while rest > 1 << 40:
        rest = rest * (mean - 1) // mean
        values.append(-rest)
    return tuple(values)


class RunLength(Sampler):
    """An actor drawn uniformly keeps the baton for a geometric number of decisions, then another is drawn.

    Real CPUs run many instructions between two that matter; a uniform walk almost never lets one of them get far while another
    stands still, which is what a bug behind a long path needs. How far is far depends on the bug, so each run draws the mean
    length of its stretches from MEANS: short ones for windows that many steps can hit, long ones for "let it free the table
    while the walker stands inside it". With one mean of 8 the latter took several times as many schedules.
    """

    contested_only = False

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        self._rng = SplitMix64(seed)
        self._tail = _tail(MEANS[self._rng.below(len(MEANS))])
        self._left = 0
        self._actor: Actor | None = None

    def keeps(self, actor: Actor) -> bool:
        """Whether the stretch of this actor goes on: spares the baton to list options that are not looked at."""
        if self._left and actor is self._actor:
            self._left -= 1
            return True
        return False

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        actor = options[0].actor
        if self._left and actor is self._actor:
            self._left -= 1
            if options[1].actor is not actor:
                return 0
            return self._rng.below(sum([option.actor is actor for option in options]))
        index = self._rng.below(len(options))
        self._actor = options[index].actor
        self._left = bisect_right(self._tail, -self._rng.next())
        return index
