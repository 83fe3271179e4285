"""A path that a search found, then straight on."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import Option
from ptactors.errors import ReplayDivergence


class Guide:
    """Makes these turns, (actor, option) each, and then lets the last actor go on while it can."""

    every_turn = True

    def __init__(self, turns: Sequence[tuple[str, int]]) -> None:
        self._turns = turns

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        if step > len(self._turns):
            return 0
        wanted = self._turns[step - 1]
        for i, option in enumerate(options):
            if (option.actor.name, option.alternative) == wanted:
                return i
        raise ReplayDivergence(step, f"the path goes on with {wanted[0]}, which cannot move")

    def finished(self, steps: int) -> None:
        """The path must have been walked."""
        if steps < len(self._turns):
            raise ReplayDivergence(steps + 1, f"the run ended on the way along a path of {len(self._turns)} steps")
