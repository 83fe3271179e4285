"""What a run that is kept has beside its events: names of turns, causes of steps, the kernel functions they were made in.

The cause of a step is the latest earlier step of another actor that wrote a cell which this step, or its guard, reads.
"""

from __future__ import annotations

from ptactors.engine.actor import Actor
from ptactors.model.state import Key, Record, State
from ptactors.model.step import ANY


class Recording:
    """Install with ``baton.before`` and ``baton.after``."""

    def __init__(self, state: State) -> None:
        self.records: list[Record] = []
        self.causes: dict[int, int] = {}
        self.functions: dict[int, str] = {}
        self.labels: list[str] = []
        self._state = state
        self._written: dict[Key, tuple[int, int]] = {}
        """Key -> (step, actor) of its last write; under a key that ends in ANY that of all its kin."""
        state.ring = self.records
        state.writes = []

    def before(self, actor: Actor) -> None:
        """The granted step, before it is made."""
        state = self._state
        step = actor.next_step()
        self.labels.append(step.name())
        self.functions[state.step] = actor.where()
        reads, writes = step.touches(state)
        latest = 0
        gate = (actor.gate,) if actor.gate else ()
        for key in (*gate, *step.waits(), *reads, *writes):
            at, by = self._written.get(key, (0, -1))
            if by != actor.id and at > latest:
                latest = at
        if latest:
            self.causes[state.step] = latest

    def after(self, actor: Actor) -> None:
        """The step has been made."""
        state = self._state
        assert state.writes is not None
        for key in state.writes:
            mark = (state.step, actor.id)
            self._written[key] = mark
            self._written[*key[:-1], ANY] = mark
        state.writes.clear()
