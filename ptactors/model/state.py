"""The shared state of a run: cells that hold immutable values, and nothing else.

A cell's key is a plain tuple whose first item names its family: ``("entry", pfn, index)``. Each room declares its families with
a default and a meaning; a cell that holds its default is absent from the dictionary, so equal states are equal dictionaries.
Only steps read and write cells (design rule 4). A write that some actor waits for is noted in ``touched``: wait lists read it.

``cells`` values are immutable by convention (ints, strings, tuples, frozen records), which makes ``dict(cells)`` a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from ptactors.config import Config
from ptactors.errors import ModelError

V = TypeVar("V")
Key = tuple[Any, ...]
Record = tuple[int, int, Any]
"""(step, actor id, event)."""
Listener = Callable[[int, int, Any], None]

if TYPE_CHECKING:

    class Cell(tuple[Any, ...], Generic[V]):
        """A key whose cell holds values of type V; a plain tuple when running."""
else:
    Cell = tuple


@attrs.frozen
class Family:
    """One kind of cell."""

    name: str
    default: Any
    meaning: str


FAMILIES: dict[str, Family] = {}
_DEFAULTS: dict[str, Any] = {}


def family(name: str, default: object, meaning: str) -> None:
    """Declare a kind of cell, once, where its room begins."""
    if name in FAMILIES:
        raise ModelError(f"cell family {name!r} declared twice")
    FAMILIES[name] = Family(name, default, meaning)
    _DEFAULTS[name] = default


class State:
    """The cells of one run, its position in time, and who listens to its events."""

    __slots__ = ("actor", "cells", "config", "listeners", "occupied", "ring", "step", "touched", "waited", "writes")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cells: dict[Key, Any] = {}
        self.occupied: dict[int, int] = {}
        """Derived, not a cell: frame -> bit mask of the indices whose ``entry`` cell is not zero; makes table scans cheap."""
        self.waited: dict[Key, int] = {}
        """Cells that some actor's guard reads, with the number of those actors."""
        self.touched: list[Key] = []
        """Waited-for cells written since the engine last looked."""
        self.listeners: dict[type, tuple[Listener, ...]] = {}
        self.ring: deque[Record] | list[Record] | None = None
        """Where every record goes too, if somebody wants them."""
        self.writes: list[Key] | None = None
        """Where every written key goes too, if somebody wants them (causes, audits)."""
        self.step = 0
        self.actor = -1

    def read(self, cell: Cell[V]) -> V:
        """The cell's value, or its family's default."""
        try:
            return self.cells[cell]  # type: ignore[no-any-return]
        except KeyError:
            return _DEFAULTS[cell[0]]  # type: ignore[no-any-return]

    def write(self, cell: Cell[V], value: V) -> None:
        """Give the cell a value; the family's default removes the cell."""
        name = cell[0]
        if value == _DEFAULTS[name]:
            self.cells.pop(cell, None)
        else:
            self.cells[cell] = value
        if name == "entry":
            self._note_occupied(cell[1], cell[2], value)
        if cell in self.waited:
            self.touched.append(cell)
        if self.writes is not None:
            self.writes.append(cell)

    def _note_occupied(self, table: int, index: int, value: object) -> None:
        mask = self.occupied.get(table, 0)
        mask = mask | 1 << index if value else mask & ~(1 << index)
        if mask:
            self.occupied[table] = mask
        else:
            self.occupied.pop(table, None)

    def emit(self, event: object) -> None:
        """Publish one event of the step that is being made."""
        for see in self.listeners.get(type(event), ()):
            see(self.step, self.actor, event)
        if self.ring is not None:
            self.ring.append((self.step, self.actor, event))

    def listen(self, kind: type, listener: Listener) -> None:
        """Have ``listener(step, actor, event)`` called for every event of ``kind``."""
        self.listeners[kind] = (*self.listeners.get(kind, ()), listener)
