"""Partial order sampling."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import ALTERNATIVES, UNKNOWN, Option, Profile, Run, Sampler
from ptactors.engine.strategy.pending import Pending
from ptactors.model.rng import SplitMix64


class Pos(Sampler):
    """Every pending step has a random priority; the best is made, and those whose order with it matters are drawn again.

    Source: Yuan, Yang, Gu, "Partial order aware concurrency sampling", CAV 2018. Which steps depend on each other is known here
    exactly, from their footprints, the cells of guards included. It departs in that steps that no other actor can notice are
    made first, as in Fray (OOPSLA 2025), and in that a step gets its priority when it is first able to be made.
    """

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        self._rng = SplitMix64(seed)
        self._priorities: dict[int, int] = {}
        self._seen = 0

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._run = run
        self._pending = Pending(run)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        priorities = self._priorities
        turns = self._run.turns
        moved = {turn // ALTERNATIVES for turn in turns[self._seen :]}
        self._seen = len(turns)
        kept = {}
        for actor, alternative, _ in options:
            code = actor.id * ALTERNATIVES + alternative
            old = None if actor.id in moved else priorities.get(code)
            kept[code] = self._rng.next() if old is None else old
        codes = list(kept)
        best = max(range(len(codes)), key=lambda i: kept[codes[i]])
        # Forget the priorities of what races with the step that is made now; what was forgotten is drawn when next shown.
        self._pending.look(options)
        for code, races in zip(codes, self._pending.take(options, best), strict=True):
            if races:
                del kept[code]
        self._priorities = kept
        return best
