"""What a bench of oracles knows, as a value that can be kept, compared and given back: for searches that try many ways on.

What only makes texts (histories, names of operations) or only answers the event that is being heard is left out, so that two
ways that lead to the same knowledge are the same. Oracles ask of steps only whether they were made at all, and of stores and
system calls which came first: whoever feeds events gives these a clock that ticks with each call, and 0 to all others.

Knowledge comes in *pieces* that share no object that changes: each picture of the mirror, each oracle. Its content is known by a
number, so that comparing is cheap and only pieces that differ are put back.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterable
from typing import Any

from ptactors.oracle.base import Oracle
from ptactors.oracle.caches import Caches
from ptactors.oracle.mirror import Mirror
from ptactors.oracle.pages import Pages
from ptactors.oracle.table import Oracles

LEFT_OUT: dict[type, dict[str, Any]] = {
    Mirror: {"_cleared": {}, "_set": {}, "ops": {}, "target": None},
    Caches: {"_asked": None, "_rivals": []},
    Pages: {"_asked": None, "_answer": ("", None, -1)},
}
"""Class -> attributes that are not kept, with what they are after :meth:`Bench.load`."""
_WIRING = ("_publish", "_lock_table", "count")
"""Whom to tell; a table of names that means the same at any time; sightings, of which a search wants each anew."""
Knowledge = tuple[int, ...]
"""The number of each piece."""


class Piece:
    """What one part of the bench knows, and every content that ever had."""

    def __init__(self, part: Any, names: tuple[str, ...]) -> None:
        self.part = part
        self.names = names
        self.number = -1
        """Of the content that the part has now, if nothing was heard since; -1: not known."""
        self._saved: list[bytes] = []
        self._by_bytes: dict[bytes, int] = {}
        self._by_content: dict[Hashable, int] = {}

    def look(self) -> int:
        """The number of the content that it has now."""
        values = [getattr(self.part, name) for name in self.names]
        packed = pickle.dumps(values, protocol=5)
        number = self._by_bytes.get(packed)
        if number is None:  # new, or the same in another order
            number = self._by_content.setdefault(freeze(values), len(self._saved))
            if number == len(self._saved):
                self._saved.append(packed)
            self._by_bytes[packed] = number
        self.number = number
        return number

    def put_back(self, number: int) -> None:
        """Have the content of that number again."""
        values = pickle.loads(self._saved[number])  # our own bytes
        for name, value in zip(self.names, values, strict=True):
            setattr(self.part, name, value)
        self.number = number


class Bench:
    """Gives and takes what the oracles of one bench know."""

    def __init__(self, oracles: Oracles) -> None:
        mirror = oracles.mirror
        self._oracles = oracles
        parts: list[Any] = [mirror, mirror.memory, mirror.caches, mirror.pages, *oracles.oracles.values()]
        self.pieces = [Piece(part, names) for part in parts if (names := _names(part, parts))]
        self._blanks = [(part, LEFT_OUT[type(part)]) for part in parts if type(part) in LEFT_OUT]
        self._touched: dict[type, tuple[Piece, ...]] = {}
        """Kind of event -> the pieces that may change when it is heard."""

    def look(self, heard: Iterable[type] | None = None) -> Knowledge:
        """What is known now; ``heard`` are the kinds of events since the last look or load, None for any."""
        if heard is None:
            pieces = self.pieces
        else:
            pieces = list(dict.fromkeys(piece for kind in heard for piece in self._touched_by(kind)))
        for piece in pieces:
            piece.look()
        return tuple([piece.number for piece in self.pieces])

    def _touched_by(self, kind: type) -> tuple[Piece, ...]:
        known = self._touched.get(kind)
        if known is None:
            noted = kind in self._oracles.mirror.listeners()
            known = self._touched[kind] = tuple(
                p for p in self.pieces if (kind in p.part.listeners() if isinstance(p.part, Oracle) else noted)
            )
        return known

    def load(self, knowledge: Knowledge) -> None:
        """Know that, and nothing else; nothing was found."""
        for piece, number in zip(self.pieces, knowledge, strict=True):
            if piece.number != number:
                piece.put_back(number)
        if self._oracles.findings:
            self._oracles.findings = []
            for oracle in self._oracles.oracles.values():
                oracle.count = 0
        for part, blank in self._blanks:
            for name, value in blank.items():
                setattr(part, name, value.copy() if isinstance(value, dict | list) else value)


def _names(part: Any, parts: list[Any]) -> tuple[str, ...]:
    """The attributes in which a part keeps what it knows."""
    without = (*_WIRING, *LEFT_OUT.get(type(part), ()))
    return tuple(k for k, v in vars(part).items() if k not in without and not any(v is other for other in parts))


def freeze(value: Any) -> Hashable:
    """The content of a value; the order of a dictionary does not count."""
    if isinstance(value, dict):
        return ("dict", tuple((k, freeze(v)) for k, v in sorted(value.items(), key=lambda item: item[0])))
    if isinstance(value, tuple):
        return (type(value), tuple(map(freeze, value)))
    if isinstance(value, list):
        return ("list", tuple(map(freeze, value)))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(freeze, value)))
    slots = getattr(type(value), "__slots__", None)
    if slots:
        return (type(value), tuple(freeze(getattr(value, name)) for name in slots))
    return value  # type: ignore[no-any-return]
