"""Random actors for random stretches."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import Option
from ptactors.model.rng import SplitMix64

MEAN = 8
"""Mean length of a stretch, in decisions."""


class RunLength:
    """An actor drawn uniformly keeps the baton for a geometric number of decisions (mean 8), then another is drawn.

    Real CPUs run many instructions between two that matter; a uniform walk almost never lets one of them get far while another
    stands still, which is what a bug behind a long path needs. Measured on the race of the cover letter: median schedules to the
    first mixed sizes / two tables / freed table 56 / 12 / 76, against 83 / 4042 / 21 for the uniform walk.
    """

    every_turn = False

    def __init__(self, seed: int) -> None:
        self._rng = SplitMix64(seed)
        self._goes_on = False
        self._actor: Actor | None = None

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        rng = self._rng
        if self._goes_on and options[0].actor is self._actor:
            same = sum(option.actor is self._actor for option in options)
            index = rng.below(same)
        else:
            index = rng.below(len(options))
        self._actor = options[index].actor
        self._goes_on = rng.below(MEAN) != 0
        return index
