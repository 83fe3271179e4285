"""One run under way: the coroutines driven by hand, turn by turn, and what came of the runs so far."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import attrs

from ptactors.engine.actor import Actor
from ptactors.engine.baton import ALTERNATIVES
from ptactors.model.state import Key, State

Build = Callable[[], tuple[State, tuple[Actor, ...]]]
"""Makes a fresh machine; equal every time."""
Cells = frozenset[tuple[Key, Any]]
"""The items of a final state's cells."""
Deadlock = tuple[tuple[str, ...], Cells]
"""(names of the actors that must still move and cannot, in actor order; the cells in which they stand)."""
Turn = int
"""actor * ALTERNATIVES + alternative."""


@attrs.frozen(kw_only=True)
class Result:
    """What a stateless search found."""

    runs: int
    """Runs that were made to their end."""
    redundant: int
    """Runs cut short because whatever could still happen had been seen in another order."""
    limited: int
    """Runs cut short by the limit on steps."""
    deadlocks: frozenset[Deadlock]
    """Ends of runs at which an actor that is not optional was not done."""
    finals: frozenset[Cells]
    """The cells at the end of each run, deadlocked ones included."""
    classes: frozenset[Hashable] | None
    """A canonical form for each class of equivalent runs, if asked for."""
    complete: bool
    """Whether no schedule remains that could show anything else."""


class Found:
    """Collects a Result."""

    def __init__(self) -> None:
        self.runs = self.redundant = self.limited = 0
        self._deadlocks: set[Deadlock] = set()
        self._finals: set[Cells] = set()
        self.classes: set[Hashable] = set()

    def ended(self, live: Live) -> None:
        """Nobody can move any more."""
        self.runs += 1
        cells = frozenset(live.state.cells.items())
        self._finals.add(cells)
        stuck = tuple(actor.name for actor in live.actors if not actor.done and not actor.optional)
        if stuck:
            self._deadlocks.add((stuck, cells))

    def result(self, complete: bool, with_classes: bool) -> Result:
        """All of it."""
        return Result(
            runs=self.runs,
            redundant=self.redundant,
            limited=self.limited,
            deadlocks=frozenset(self._deadlocks),
            finals=frozenset(self._finals),
            classes=frozenset(self.classes) if with_classes else None,
            complete=complete and not self.limited,
        )


class Live:
    """A fresh machine, every actor at its first step."""

    def __init__(self, build: Build) -> None:
        self.state, self.actors = build()
        for actor in self.actors:
            self._advance(actor, None)

    def make(self, turn: Turn) -> None:
        """Make this turn; it must be able."""
        actor = self.actors[turn // ALTERNATIVES]
        alternative = turn % ALTERNATIVES
        state = self.state
        state.step += 1
        state.actor = actor.id
        result = actor.options[alternative].apply(state)
        self._advance(actor, (alternative, result) if actor.several else result)

    def able(self) -> list[Turn]:
        """The turns that can be made, in actor order."""
        state = self.state
        turns: list[Turn] = []
        for actor in self.actors:
            if actor.gate is not None and state.cells.get(actor.gate):
                continue
            for alternative, step in enumerate(actor.options):
                if not step.blocking or step.ready(state):
                    turns.append(actor.id * ALTERNATIVES + alternative)
        return turns

    def close(self) -> None:
        """End every coroutine that is not done."""
        for actor in self.actors:
            actor.coroutine.close()

    def _advance(self, actor: Actor, value: Any) -> None:
        try:
            actor.offer(actor.coroutine.send(value))
        except StopIteration:
            actor.done = True
            actor.options = ()
