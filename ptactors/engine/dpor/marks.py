"""Footprints as integers, so that asking whether two steps depend on each other is two ``and``s.

Two steps are dependent if one writes a cell that the other reads or writes. Cells that a guard reads and the gate of the actor
count as read: what can disable or enable a step depends on it. A key that ends in ``ANY`` meets all its kin.

Each cell has a bit of its own; each object (a key without its last item) has two more, so that ``ANY`` need not know its kin: a
cell carries *kin* and looks for *whole*, an ``ANY`` key carries *whole* and looks for both.
"""

from __future__ import annotations

from typing import Any

from ptactors.engine.actor import Actor
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Footprint, Step

Mark = tuple[int, int, int, int]
"""(what all cells carry, what all cells look for, what written cells carry, what written cells look for)."""

_OBSERVER: Key = ("observer",)
"""A cell that steps are taken to write whose order an observer can tell."""


def dependent(a: Mark, b: Mark) -> bool:
    """Whether the order of two steps with these marks can matter."""
    return bool(a[2] & b[1] or a[0] & b[3])


def writes_into(a: Mark, b: Mark) -> bool:
    """Whether ``a`` writes a cell that ``b`` reads or writes."""
    return bool(a[2] & b[1])


class Marks:
    """The bits given to the cells of one search."""

    def __init__(self, observed: frozenset[str] = frozenset()) -> None:
        """``observed``: families of cells of which an observer sees several at once; steps that write any are ordered."""
        self._observed = observed
        self._bits: dict[Key, int] = {}
        self._keys: dict[Key, tuple[int, int]] = {}
        self._known: dict[tuple[Footprint, Key | None], Mark] = {}

    def of(self, step: Step[Any], actor: Actor, state: State) -> Mark:
        """The mark of a step that is ready in this state."""
        reads, writes = step.touches(state)
        if step.blocking:
            reads = (*step.waits(), *reads)
        if self._observed and any(key[0] in self._observed for key in writes):
            writes = (*writes, _OBSERVER)
        return self.mark((reads, writes), actor.gate)

    def of_guard(self, step: Step[Any], actor: Actor) -> Mark:
        """The mark of what decides whether the step is ready."""
        return self.mark((step.waits() if step.blocking else (), ()), actor.gate)

    def mark(self, footprint: Footprint, gate: Key | None) -> Mark:
        """The mark of a footprint; a gate is read."""
        known = self._known.get((footprint, gate))
        if known is None:
            reads, writes = footprint
            written = self._union(writes)
            read = self._union(reads if gate is None else (*reads, gate))
            known = (read[0] | written[0], read[1] | written[1], *written)
            self._known[footprint, gate] = known
        return known

    def _union(self, keys: tuple[Key, ...]) -> tuple[int, int]:
        carried = sought = 0
        for key in keys:
            found = self._keys.get(key)
            if found is None:
                found = self._keys[key] = self._place(key)
            carried |= found[0]
            sought |= found[1]
        return carried, sought

    def _place(self, key: Key) -> tuple[int, int]:
        if len(key) == 1:
            own = self._bit(("cell", key))
            return own, own
        kin, whole = self._bit(("kin", key[:-1])), self._bit(("whole", key[:-1]))
        if key[-1] == ANY:
            return whole, kin | whole
        own = self._bit(("cell", key))
        return own | kin, own | whole

    def _bit(self, name: Key) -> int:
        return 1 << self._bits.setdefault(name, len(self._bits))
