"""Source-DPOR with sleep sets: completes exactly one run for each class of equivalent schedules.

Algorithm 1 of Abdulla, Aronis, Jonsson and Sagonas ("Source sets: a foundation for optimal dynamic partial order reduction",
J. ACM 64, 2017), with these departures: a transition is an actor and one of the steps it offers; guards, gates and choices are
treated by :mod:`ptactors.engine.dpor.races`; races are looked for at the end of each run. Sleep sets see to it that no two
completed runs are equivalent; runs that they end early are counted as redundant.

Every run is made from the start by fresh coroutines. It ends when nobody can move: optional actors move as long as they can.
"""

from __future__ import annotations

from ptactors.engine.dpor.live import Build, Found, Live, Result
from ptactors.engine.dpor.marks import Marks
from ptactors.engine.dpor.races import Races
from ptactors.engine.dpor.trace import Point


def explore(
    build: Build,
    *,
    max_runs: int,
    max_steps: int = 1000,
    classes: bool = False,
    observed: frozenset[str] = frozenset(),
) -> Result:
    """Search the machine with at most ``max_runs`` runs, redundant ones included.

    Listeners that ``build`` puts on the state hear the events of every class. Runs of one class agree in every result and in what
    each cell goes through, not in what several cells hold at one moment: who judges that (an oracle that compares two TLBs)
    names their families in ``observed``. ``classes`` asks for canonical forms.
    """
    return _Search(build, max_steps, classes, Marks(observed)).go(max_runs)


class _Search:
    def __init__(self, build: Build, max_steps: int, classes: bool, marks: Marks) -> None:
        self._build = build
        self._max_steps = max_steps
        self._classes = classes
        self._marks = marks
        self._races = Races(self._marks)
        self._points: list[Point] = []
        self._found = Found()

    def go(self, max_runs: int) -> Result:
        found = self._found
        while found.runs + found.redundant + found.limited < max_runs:
            live = Live(self._build)
            since = self._again(live)
            self._onward(live)
            self._races.look(self._points, live, since)
            live.close()
            if not self._back():
                return found.result(True, self._classes)
        return found.result(False, self._classes)

    def _again(self, live: Live) -> int:
        """Repeat the turns that stay, and take another one at the last point; the first position that is new."""
        points = self._points
        if not points:
            return 0
        for point in points[:-1]:
            live.make(point.turn)
        last = points.pop()
        turn = next(turn for turn in last.todo if turn not in last.sleep)
        self._take(last, turn, live)
        return len(points) - 1

    def _onward(self, live: Live) -> None:
        """Make turns until the run is over, or all that can be made sleep."""
        points, found = self._points, self._found
        last: tuple[int, ...] = (-1,) * len(live.actors)
        while True:
            able = live.able()
            if not able:
                found.ended(live)
                if self._classes:
                    found.classes.add(tuple(sorted((point.layer, point.turn) for point in points)))
                return
            if len(points) >= self._max_steps:
                found.limited += 1
                return
            sleep = points[-1].next_sleep() if points else {}
            if points:
                last = points[-1].next_last(len(points) - 1)
            awake = [turn for turn in able if turn not in sleep]
            if not awake:
                found.redundant += 1
                return
            point = Point(live, able, sleep, last)
            point.todo[awake[0]] = None
            self._take(point, awake[0], live)

    def _take(self, point: Point, turn: int, live: Live) -> None:
        point.take(turn, live, self._marks, self._points)
        self._points.append(point)
        live.make(turn)

    def _back(self) -> bool:
        """Drop points at which nothing is left to try; false when none remains."""
        points = self._points
        while points:
            points[-1].done()
            if any(turn not in points[-1].sleep for turn in points[-1].todo):
                return True
            points.pop()
        return False
