"""Uniform choice among all options at every step."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import UNKNOWN, Option, Profile, Sampler
from ptactors.model.rng import SplitMix64


class Random(Sampler):
    """Every enabled step is equally likely at every turn. The baseline; strong where the window of a race is wide.

    Source: Thomson, Donaldson, Betts, "Concurrency testing using controlled schedulers", TOPC 2016 (random scheduler).
    """

    contested_only = False

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        self._rng = SplitMix64(seed)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        return self._rng.below(len(options))
