"""What the steps that wait to be made touch, worked out once for each of them.

To work out a footprint takes as long as to make the step, and a walk or the freeing of a batch touches many cells. The footprint
of a pending step can only change when somebody writes a cell of it (what it touches depends on nothing else), which is when its
order with the step being made matters: just then a strategy that goes by dependence has to think again anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ptactors.engine.strategy.base import ALTERNATIVES, Option, Run, footprint
from ptactors.model.state import Key
from ptactors.model.step import ANY, Footprint, Step


class Cells:
    """Some cells, to be compared with others; a key that ends in ANY is all its kin."""

    __slots__ = ("_kin", "_whole", "keys")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = frozenset(keys)
        self._whole = frozenset([key[:-1] for key in keys if key[-1] == ANY and len(key) > 1])
        self._kin: frozenset[Key] | None = None

    def meets(self, other: Cells) -> bool:
        """Whether they have one in common."""
        if not self.keys.isdisjoint(other.keys):
            return True
        if self._whole and not self._whole.isdisjoint(other.kin()):
            return True
        return bool(other._whole) and not other._whole.isdisjoint(self.kin())

    def kin(self) -> frozenset[Key]:
        """Their keys without the last item."""
        if self._kin is None:
            self._kin = frozenset([key[:-1] for key in self.keys if len(key) > 1])
        return self._kin


class Touched:
    """The footprint of one pending step."""

    __slots__ = ("marked", "reads", "step", "writes")

    def __init__(self, step: Step[Any], footprint: Footprint) -> None:
        self.step = step
        self.reads, self.writes = Cells(footprint[0]), Cells(footprint[1])
        self.marked: bool | None = None
        """What the strategy makes of it; None: it has not looked yet."""

    def dependent(self, other: Touched) -> bool:
        """Whether the order of the two can matter: a cell in common that one of them writes."""
        return (
            self.writes.meets(other.writes) or self.writes.meets(other.reads) or self.reads.meets(other.writes)
        )  # fmt: skip


class Pending:
    """The footprints of the options of one run, decision by decision."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: dict[int, Touched] = {}
        """Option -> its footprint, as long as that holds."""
        self._seen = 0
        self._eager = 0
        self._decided = 0
        """Turns, and of those the ones without a decision point, up to the last decision; 1 if there was one."""

    def look(self, options: Sequence[Option]) -> list[Touched]:
        """The footprints of these options in the present state."""
        turns, known = self._run.turns, self._known
        eager = sum(self._run.eager.values())
        new = turns[self._seen :]
        if len(new) - (eager - self._eager) > self._decided:
            known = {}  # a step was made that was nobody's choice, and not a private one: it may have changed anything
        moved = {turn // ALTERNATIVES for turn in new}
        state = self._run.state
        self._known = {}
        for actor, alternative, step in options:
            code = actor.id * ALTERNATIVES + alternative
            old = None if actor.id in moved else known.get(code)
            self._known[code] = old if old is not None and old.step is step else Touched(step, footprint(step, state))
        self._seen, self._eager, self._decided = len(turns), eager, 1
        return list(self._known.values())

    def take(self, options: Sequence[Option], index: int) -> list[bool]:
        """The option is made next: which of them depend on it, itself and its actor's others too; they are forgotten."""
        made = list(self._known.values())[index]
        chosen = options[index].actor
        found: list[bool] = []
        for option, (code, touched) in zip(options, list(self._known.items()), strict=True):
            found.append(option.actor is chosen or made.dependent(touched))
            if found[-1]:
                del self._known[code]
        return found
