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
        "able", "actor", "cells", "last", "layer", "mark", "occupied", "offer", "past", "races", "sleep", "step", "todo",
        "turn",
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
        self.offer: Offer | None = None
        """What the turn was taken from, if it could have been hindered."""
        self.races: list[int] = []
        """Earlier turns that this one depends on, with nothing in between."""

    def covered(self, turn: Turn) -> bool:
        """Whether what begins with this turn is or will be looked at."""
        return turn in self.todo or turn in self.sleep

    def take(self, turn: Turn, live: Live, marks: Marks, before: list[Point]) -> None:
        """Go on with this turn; ``before`` are the earlier points."""
        actor = live.actors[turn // ALTERNATIVES]
        self.turn, self.actor = turn, actor
        self.step: Step[Any] = actor.options[turn % ALTERNATIVES]
        self.mark = marks.of(self.step, actor, live.state)
        last = self.last[actor.id]
        self.past = before_next(before, last)
        self.layer: int = before[last].layer + 1 if last >= 0 else 1
        self.offer = None
        if actor.several or self.step.blocking or actor.gate is not None:
            self.offer = Offer(actor, self.past, marks)
            self.offer.taken_at, self.offer.taken = len(before), turn % ALTERNATIVES
        self.races = []
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

    __slots__ = ("actor", "guards", "options", "past", "taken", "taken_at")

    def __init__(self, actor: Actor, past: int, marks: Marks) -> None:
        self.actor = actor
        self.options = actor.options
        self.guards = tuple(marks.of_guard(step, actor) for step in actor.options)
        """What decides whether each alternative is ready."""
        self.past = past
        """What happened before the offer."""
        self.taken_at = -1
        """Position at which it was taken; -1: it never was."""
        self.taken = -1
        """Which alternative was taken."""


def offers(points: list[Point], live: Live, marks: Marks) -> list[Offer]:
    """All offers of the run that could be hindered, those that nobody took included."""
    made = [point.offer for point in points if point.offer is not None]
    last = points[-1].next_last(len(points) - 1) if points else (-1,) * len(live.actors)
    for actor in live.actors:
        if actor.options:
            made.append(Offer(actor, before_next(points, last[actor.id]), marks))
    return made


def before_next(points: list[Point], last: int) -> int:
    """The past of what an actor does after its turn at ``last``; -1: of its first turn."""
    return points[last].past | 1 << last if last >= 0 else 0


def scratch(state: State, point: Point) -> State:
    """A state like the one before ``point``, to try steps on; it tells nobody."""
    made = State(state.config)
    made.cells, made.occupied = dict(point.cells), dict(point.occupied)
    return made
