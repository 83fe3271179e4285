"""A schedule that spells a given word, where drawing schedules would take too many."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import Option, Run, Sampler
from ptactors.host.words import word
from ptactors.model.rng import SplitMix64
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play

MAKERS = {**dict.fromkeys("bDSLx", "cpu0"), **dict.fromkeys("sfAMw", "cpu1"), **dict.fromkeys("Rr", "irq1")}
"""Letter -> the actor whose step it is."""
OTHER = {"cpu0": "cpu1", "cpu1": "cpu0"}
AHEAD = 20
"""Steps that the other program may go ahead, unseen, before one letter."""
TRIES = 500
"""Schedules that are steered towards a word before it is given up."""


class Towards(Sampler):
    """Lets whoever makes the next letter of a word move until it is made; where it cannot, one that is no program, if any can.

    Before one letter, drawn by the seed, the other program goes some steps ahead, since a letter may need what that does
    unseen: a fault needs the entry to be cleared. It reads the events of the run, which must be recorded.
    """

    contested_only = False

    def __init__(self, spelled: str, seed: int) -> None:
        super().__init__(seed)
        rng = SplitMix64(seed)
        self._spelled = spelled
        self._before, self._ahead = rng.below(len(spelled)), rng.below(AHEAD)
        self._run: Run | None = None

    def begin(self, run: Run) -> None:
        """See Sampler."""
        self._run = run

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        assert self._run is not None
        done = len(word(self._run.state.ring or ()))
        wanted = MAKERS[self._spelled[done]] if done < len(self._spelled) else "cpu0"
        if done == self._before and self._ahead and wanted in OTHER:
            self._ahead -= 1
            wanted = OTHER[wanted]
        names = [option.actor.name for option in options]
        return names.index(wanted) if wanted in names else min(range(len(names)), key=lambda i: (options[i].actor.program, i))


def steered(scenario: Scenario, cell: Cell, spelled: str) -> Outcome | None:
    """A recorded run with this word, unseen handlers (``r``) included; None if none of ``TRIES`` has it."""
    for seed in range(TRIES):
        outcome = play(scenario, cell, strategy="random", seed=seed, record=True, host="direct", by=Towards(spelled, seed))
        if word(outcome.records or ()) == spelled:
            return outcome
    return None


def with_unseen(seen: str) -> str:
    """The word of a run that a trace shows like this: where it has no handler, that interrupted another task after ``L``."""
    return seen if "R" in seen else seen.replace("L", "Lr")
