"""The run under way as a partial order: what happened before what, and where it could have gone another way.

Positions are numbers from 0; a set of positions is an integer with those bits set. ``past`` of a position is what happened before
it: its actor's earlier turns, and earlier turns that it depends on, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ptactors.engine.actor import Actor
from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.dpor.live import Live, Turn
from ptactors.engine.dpor.marks import Mark, Marks, dependent
from ptactors.model.state import Key, State
from ptactors.model.step import Step


def positions(mask: int) -> Iterator[int]:
    """The members of a set of positions, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Point:
    """One position: the state before it, the turn taken there, and what else is to be tried or need not be."""

    __slots__ = (
        "able", "actor", "alternative", "before", "cells", "last", "layer", "mark", "occupied", "options", "past", "races",
        "sleep", "step", "todo", "turn",
    )  # fmt: skip

    def __init__(self, live: Live, able: list[Turn], sleep: dict[Turn, Mark], last: tuple[int, ...]) -> None:
        self.able = able
        self.cells: dict[Key, Any] = dict(live.state.cells)
        self.occupied: dict[int, int] = dict(live.state.occupied)
        self.sleep = sleep
        """Turns that need not be tried here, with their marks: they were, here or before, and nothing since depends on them."""
        self.todo: dict[Turn, None] = {}
        """Turns to be tried here."""
        self.last = last
        """Per actor, the position of its last turn before this one; -1: none."""

    def covered(self, turn: Turn) -> bool:
        """Whether what begins with this turn is or will be looked at."""
        return turn in self.todo or turn in self.sleep

    def take(self, turn: Turn, live: Live, marks: Marks, before: list[Point]) -> None:
        """Go on with this turn; ``before`` are the earlier points."""
        actor = live.actors[turn // ALTERNATIVES]
        self.turn, self.actor = turn, actor
        self.alternative, self.options = turn % ALTERNATIVES, actor.options
        self.step: Step[Any] = actor.options[self.alternative]
        self.mark = marks.of(self.step, actor, live.state)
        self.before = self.last[actor.id]
        self.past, self.layer, self.races = 0, 1, []
        if self.before >= 0:
            own = before[self.before]
            self.past, self.layer = own.past | 1 << self.before, own.layer + 1
        for x in range(len(before) - 1, -1, -1):
            if not self.past >> x & 1 and dependent(before[x].mark, self.mark):
                self.races.append(x)
                self.past |= before[x].past | 1 << x
                self.layer = max(self.layer, before[x].layer + 1)

    def next_sleep(self) -> dict[Turn, Mark]:
        """What need not be tried after this turn."""
        actor = self.actor.id
        return {t: m for t, m in self.sleep.items() if t // ALTERNATIVES != actor and not dependent(m, self.mark)}

    def next_last(self, here: int) -> tuple[int, ...]:
        """Per actor, the position of its last turn, this one at ``here`` included."""
        actor = self.actor.id
        return (*self.last[:actor], here, *self.last[actor + 1 :])

    def done(self) -> None:
        """Everything that begins with the turn taken here was looked at."""
        self.sleep[self.turn] = self.mark


class Offer:
    """What one actor offered between two of its turns."""

    __slots__ = ("actor", "before", "options", "past", "taken", "taken_at")

    def __init__(self, actor: Actor, options: tuple[Step[Any], ...], before: int, points: list[Point]) -> None:
        self.actor = actor
        self.options = options
        self.before = before
        """Position of its turn before; -1: none."""
        self.past = points[before].past | 1 << before if before >= 0 else 0
        """What happened before the offer."""
        self.taken_at = len(points)
        """Position at which it was taken; the length of the run: it never was."""
        self.taken = -1
        """Which alternative was taken."""


def offers(points: list[Point], live: Live) -> list[Offer]:
    """All offers of the run, those that nobody took at the end."""
    made: list[Offer] = []
    for here, point in enumerate(points):
        if len(point.options) > 1 or point.step.blocking or point.actor.gate is not None:
            offer = Offer(point.actor, point.options, point.before, points)
            offer.taken_at, offer.taken = here, point.alternative
            made.append(offer)
    last = points[-1].next_last(len(points) - 1) if points else (-1,) * len(live.actors)
    return made + [Offer(actor, actor.options, last[actor.id], points) for actor in live.actors if actor.options]


def scratch(state: State, point: Point) -> State:
    """A state like the one before ``point``, to try steps on; it tells nobody."""
    made = State(state.config)
    made.cells, made.occupied = dict(point.cells), dict(point.occupied)
    return made
