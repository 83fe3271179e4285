"""What a run shows of other runs: turns that could have come in the other order.

Let ``p`` be a turn and ``e`` a later or a pending step of another actor, and let ``w`` be turns after ``p`` that do not depend on
it, closed under what happened before them. If ``e`` could be made after ``w`` without ``p``, then at the point where ``p`` was
taken something must be tried that ``w.e`` can begin with. There are two kinds:

*Races* (Abdulla, Aronis, Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014; "Source sets", J. ACM 2017):
``e`` was made, depends on ``p``, with nothing in between. Then ``w`` is all that did not depend on ``p``.

*Hindered steps*: ``p`` writes a cell that the guard of ``e`` reads, or is another alternative of the same ``AnyOf``. Here ``e``
may come long after, or never: two acquisitions of a lock race although a release lies between them; a step that stays disabled
at the end of a run races with whoever disabled it. The paper treats locks as a special case; as steps are values, any guard can
simply be asked in the state that ``w`` would lead to. Which ``w`` matters, too: a guard that reads two cells may be true only
between two turns that know nothing of each other. So every ``w`` is tried that differs in turns that ``e`` depends on.
"""

from __future__ import annotations

import attrs

from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.dpor.live import Live, Turn
from ptactors.engine.dpor.marks import Mark, Marks, dependent, writes_into
from ptactors.engine.dpor.trace import Offer, Point, offers, positions, scratch

_ENOUGH = 256
"""After so many ``w`` for one pair, everything that is able is tried instead: always right, seldom needed."""


@attrs.frozen
class _Hindered:
    """A step that another turn keeps from being made."""

    offer: Offer
    alternative: int

    @property
    def turn(self) -> Turn:
        return self.offer.actor.id * ALTERNATIVES + self.alternative

    @property
    def guard(self) -> Mark:
        return self.offer.guards[self.alternative]


class Races:
    """Looks at finished runs of one search, and adds to ``todo`` of their points."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def look(self, points: list[Point], live: Live, since: int) -> None:
        """Add what this run shows; races of positions below ``since`` were looked at in an earlier run."""
        for here in range(since, len(points)):
            for x in points[here].races:
                self._race(points, x, here)
        for offer in offers(points, live, self._marks):
            for alternative in range(len(offer.options)):
                self._hindered(points, live, _Hindered(offer, alternative))

    def _race(self, points: list[Point], x: int, here: int) -> None:
        point, offer = points[x], points[here].offer
        if offer is not None and writes_into(point.mark, offer.guards[offer.taken]):
            return  # this is a hindered step
        free = 0
        first: Turn = -1
        for k in range(x + 1, here + 1):
            other = points[k]
            if k < here and other.past >> x & 1:
                continue
            if not other.past & free:
                if point.covered(other.turn):
                    return
                if first < 0:
                    first = other.turn
            free |= 1 << k
        point.todo[first] = None

    def _hindered(self, points: list[Point], live: Live, hindered: _Hindered) -> None:
        offer, guard = hindered.offer, hindered.guard
        taken_at = offer.taken_at
        if guard[1]:
            for x in range(taken_at if taken_at >= 0 else len(points)):
                point = points[x]
                if point.mark[2] & guard[1] and point.actor is not offer.actor and not offer.past >> x & 1:
                    self._without(points, live, x, hindered)
        if taken_at >= 0 and hindered.alternative != offer.taken:
            self._without(points, live, taken_at, hindered)

    def _without(self, points: list[Point], live: Live, x: int, hindered: _Hindered) -> None:
        """Whether the hindered step could be made in the place of the turn at ``x``, after any set of turns free of it."""
        above = -1 << (x + 1)
        base = hindered.offer.past & above
        free = -1
        tried = {base}
        pending = [base]
        while pending:
            chosen = pending.pop()
            firsts = [points[k].turn for k in positions(chosen) if not points[k].past & chosen]
            if any(points[x].covered(turn) for turn in firsts):
                continue  # and so is everything that goes further
            needs = self._needs(points, live, x, chosen, hindered)
            if needs is not None:
                self._try(points, x, chosen, firsts, needs, hindered, bool(base))
            if free < 0:
                free = _free(points, x, hindered.offer)
            for k in positions(free & ~chosen):
                if dependent(points[k].mark, needs or hindered.guard):
                    more = chosen | 1 << k | points[k].past & above
                    if more not in tried:
                        tried.add(more)
                        pending.append(more)
            if len(tried) > _ENOUGH:
                points[x].todo.update(dict.fromkeys(points[x].able))
                return

    def _needs(self, points: list[Point], live: Live, x: int, chosen: int, hindered: _Hindered) -> Mark | None:
        """The mark of the hindered step after the chosen turns, without that at ``x``; None if it cannot be made there."""
        state = scratch(live.state, points[x])
        for k in positions(chosen):
            state.actor = points[k].actor.id
            points[k].step.apply(state)
        actor = hindered.offer.actor
        state.actor = actor.id
        step = hindered.offer.options[hindered.alternative]
        if actor.gate is not None and state.cells.get(actor.gate):
            return None
        if step.blocking and not step.ready(state):
            return None
        return self._marks.of(step, actor, state)

    @staticmethod
    def _try(
        points: list[Point], x: int, chosen: int, firsts: list[Turn], needs: Mark, hindered: _Hindered, preceded: bool
    ) -> None:
        alone = not preceded and not any(dependent(points[k].mark, needs) for k in positions(chosen))
        if not (alone and points[x].covered(hindered.turn)):
            points[x].todo[firsts[0] if firsts else hindered.turn] = None


def _free(points: list[Point], x: int, offer: Offer) -> int:
    """The turns after ``x`` that happened neither after it nor after the offer was taken."""
    free = 0
    gone = 1 << x | (1 << offer.taken_at if offer.taken_at >= 0 else 0)
    for k in range(x + 1, len(points)):
        if not (points[k].past | 1 << k) & gone:
            free |= 1 << k
    return free
