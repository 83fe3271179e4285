"""Random actors for random stretches."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import Option
from ptactors.model.rng import SplitMix64

MEAN = 8
"""Mean length of a stretch, in decisions; a power of two."""
LONGEST = 21
"""Where the distribution is cut off: one draw has no more bits."""


class RunLength:
    """An actor drawn uniformly keeps the baton for a geometric number of decisions (mean 8), then another is drawn.

    Real CPUs run many instructions between two that matter; a uniform walk almost never lets one of them get far while another
    stands still, which is what a bug behind a long path needs. Measured on the race of the cover letter: median schedules to the
    first mixed sizes / two tables / freed table 56 / 12 / 76, against 83 / 4042 / 21 for the uniform walk.
    """

    every_turn = False

    def __init__(self, seed: int) -> None:
        self._rng = SplitMix64(seed)
        self._left = 0
        self._actor: Actor | None = None

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
        self._left = self._length()
        return index

    def _length(self) -> int:
        """A geometric number with mean MEAN - 1, from one draw: groups of three bits until one of them is zero."""
        bits, length = self._rng.next(), 0
        while bits % MEAN and length < LONGEST:
            bits //= MEAN
            length += 1
        return length
