"""The choices of a recorded run, checked at every step."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.base import Option
from ptactors.errors import ReplayDivergence


class Replay:
    """Takes the turns of a schedule one by one and refuses to guess: the first step that differs raises ReplayDivergence."""

    every_turn = True

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        turns = self._schedule.turns
        if step > len(turns):
            raise ReplayDivergence(step, f"the recording ends after {len(turns)} steps, the run does not")
        name, alternative, label = turns[step - 1]
        for i, option in enumerate(options):
            if option.actor.name == name and option.alternative == alternative:
                if label and option.step.name() != label:
                    raise ReplayDivergence(step, f"{name} was recorded to make {label}, here it offers {option.step.name()}")
                return i
        able = ", ".join(dict.fromkeys(f"{o.actor.name} ({o.step.name()})" for o in options))
        raise ReplayDivergence(step, f"{name} was recorded to make {label or 'a step'}, but it cannot move; able to move: {able}")

    def finished(self, steps: int) -> None:
        """The recording must have ended too."""
        more = len(self._schedule.turns) - steps
        if more > 0:
            raise ReplayDivergence(steps + 1, f"the run has ended after {steps} steps, the recording goes on with {more} more")
