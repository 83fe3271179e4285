"""Every schedule of a small machine, one after the other: the yardstick of every other search. Nothing is clever here.

The canonical form of a run is the Foata normal form of its Mazurkiewicz trace (Cartier and Foata 1969): each turn stands in the
layer after the last turn that it depends on, each layer in order. Its layers in sequence are a schedule of the same class, so
equal forms are equal classes.
"""

from __future__ import annotations

from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.dpor.live import Build, Found, Live, Result, Turn
from ptactors.engine.dpor.marks import Mark, Marks, dependent


class _Point:
    """One turn of the current schedule, and those that are still to be tried in its place."""

    __slots__ = ("layer", "mark", "rest", "turn")

    def __init__(self, able: list[Turn]) -> None:
        self.rest = able
        self.turn: Turn = -1
        self.mark: Mark = (0, 0, 0, 0)
        self.layer = 0

    def take(self, live: Live, marks: Marks, before: list[_Point]) -> None:
        """Go on with the next turn that is still to be tried."""
        self.turn = self.rest.pop(0)
        actor = live.actors[self.turn // ALTERNATIVES]
        self.mark = marks.of(actor.options[self.turn % ALTERNATIVES], actor, live.state)
        self.layer = 1
        for point in before:
            if point.layer >= self.layer and (point.turn // ALTERNATIVES == actor.id or dependent(point.mark, self.mark)):
                self.layer = point.layer + 1


def brute_force(build: Build, *, max_runs: int, max_steps: int = 1000) -> Result:
    """Make every schedule of the machine, up to ``max_runs`` of them, each until nobody can move (optional actors included)."""
    found, marks = Found(), Marks()
    points: list[_Point] = []
    while True:
        if found.runs + found.limited >= max_runs:
            return found.result(False, True)
        live = Live(build)
        for point in points[:-1]:
            live.make(point.turn)
        if points:
            points[-1].take(live, marks, points[:-1])
            live.make(points[-1].turn)
        while (able := live.able()) and len(points) < max_steps:
            point = _Point(able)
            point.take(live, marks, points)
            points.append(point)
            live.make(point.turn)
        live.close()
        if able:
            found.limited += 1
        else:
            found.ended(live)
            found.classes.add(tuple(sorted((point.layer, point.turn) for point in points)))
        while points and not points[-1].rest:
            points.pop()
        if not points:
            return found.result(True, True)
