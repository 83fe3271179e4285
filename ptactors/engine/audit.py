"""The audit of footprints: a step that touches a cell it did not declare is an error, not a subtlety.

Everything that reasons about which steps commute rests on ``Step.touches``; this holds it to the truth while a run is made. The
cells are replaced by a dictionary that notes each access; a guard may read only what ``waits`` names.
"""

from __future__ import annotations

from typing import Any

from ptactors.engine.actor import Actor
from ptactors.errors import ModelError
from ptactors.model.state import Key, State
from ptactors.model.step import ANY


class _NotedCells(dict[Key, Any]):
    """A dictionary that notes who is asked for and who is changed."""

    def __init__(self, cells: dict[Key, Any]) -> None:
        super().__init__(cells)
        self.read: list[Key] = []
        self.written: list[Key] = []

    def __getitem__(self, key: Key) -> Any:
        self.read.append(key)
        return super().__getitem__(key)

    def get(self, key: Key, default: Any = None) -> Any:
        self.read.append(key)
        return super().get(key, default)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.written.append(key)
        super().__setitem__(key, value)

    def pop(self, key: Key, *default: Any) -> Any:
        self.written.append(key)
        return super().pop(key, *default)


class Audit:
    """Install with ``baton.before = audit.before; baton.after = audit.after``."""

    def __init__(self, state: State) -> None:
        self._cells = _NotedCells(state.cells)
        state.cells = self._cells
        self._state = state
        self._declared: tuple[tuple[Key, ...], tuple[Key, ...]] = ((), ())

    def before(self, actor: Actor) -> None:
        """Note what the granted step declares, having held its guard to ``waits``."""
        step = actor.next_step()
        cells = self._cells
        if step.blocking:
            cells.read.clear()
            step.ready(self._state)
            self._require(actor, cells.read, step.waits(), "its guard reads")
        self._declared = step.touches(self._state)
        cells.read.clear()
        cells.written.clear()

    def after(self, actor: Actor) -> None:
        """Compare with what it did."""
        reads, writes = self._declared
        self._require(actor, self._cells.written, writes, "it writes")
        self._require(actor, self._cells.read, reads + writes, "it reads")

    def _require(self, actor: Actor, used: list[Key], declared: tuple[Key, ...], verb: str) -> None:
        allowed = set(declared)
        for key in used:
            if key not in allowed and (*key[:-1], ANY) not in allowed:
                raise ModelError(f"{actor.name}: step {actor.next_step()} is undeclared: {verb} {key}; declared: {declared}")
