"""A piece of a stress campaign, and its line in the journal.

A line names an item of coverage in full where the campaign first meets it and by its number from then on, and leaves out what is
seen so often that seeing it again changes nothing; so the journal grows with what is new and not with what is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ptactors.campaign.coverage import KINDS, Coverage
from ptactors.campaign.tally import Seen, Tally

Table = dict[str, Seen]
FOUND = dict[str, dict[str, list[int]]]
"""Kind -> item -> [first schedule, units, last unit], all counted within a piece."""


@attrs.define(kw_only=True)
class Piece:
    """What some schedules of one cell came to."""

    tally: Tally
    found: FOUND
    """Coverage."""
    failing: list[tuple[int, tuple[str, ...]]]
    """(seed, reasons) of the schedules that fail: hazards, or expectations in words."""
    excused: Table
    """Known violation -> schedules that were let off because of it."""


def add_seen(table: Table, key: str, count: int, seed: int) -> None:
    """Count; the first seed stays."""
    known = table.get(key)
    if known is None:
        table[key] = Seen(count, seed)
    else:
        known.count += count


class Packer:
    """Turns pieces into lines and back; it must see all pieces of a campaign, in order."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._items: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def pack(self, piece: Piece, coverage: Coverage) -> dict[str, Any]:
        """The line; ``coverage`` is that of all earlier pieces."""
        new: dict[str, list[list[Any]]] = {}
        old: dict[str, list[Any]] = {}
        for kind, items in piece.found.items():
            numbers = self._numbers[kind]
            for item, (first, units, last) in items.items():
                number = numbers.get(item)
                if number is None:
                    self._learn(kind, item)
                    new.setdefault(kind, []).append([item, first, units, last])
                elif not coverage.settled(kind, item):
                    old.setdefault(kind, []).append(number if (units, last) == (1, 0) else [number, units, last])
        failing = [[seed, list(why)] for seed, why in piece.failing]
        return {**_tally(piece.tally), "new": new, "old": old, "failing": failing, "excused": _table(piece.excused)}

    def unpack(self, body: Mapping[str, Any]) -> Piece:
        """The piece, as far as it counts."""
        found: FOUND = {kind: {} for kind in KINDS}
        for kind, entries in body["old"].items():
            for entry in entries:
                number, units, last = (entry, 1, 0) if isinstance(entry, int) else entry
                found[kind][self._items[kind][number]] = [0, units, last]
        for kind, entries in body["new"].items():
            for item, first, units, last in entries:
                self._learn(kind, item)
                found[kind][item] = [first, units, last]
        failing = [(seed, tuple(why)) for seed, why in body["failing"]]
        return Piece(tally=_tally_of(body), found=found, failing=failing, excused=_seen(body["excused"]))

    def _learn(self, kind: str, item: str) -> None:
        self._numbers[kind][item] = len(self._items[kind])
        self._items[kind].append(item)


def _table(table: Mapping[str, Seen]) -> dict[str, list[int]]:
    return {key: [seen.count, seen.seed] for key, seen in table.items()}


def _seen(table: Mapping[str, list[int]]) -> Table:
    return {key: Seen(count, seed) for key, (count, seed) in table.items()}


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "runs": tally.runs,
        "steps": tally.steps,
        "hazards": _table(tally.hazards),
        "statuses": _table(tally.statuses),
        "reasons": tally.reasons,
        "finals": [[[list(each) for each in state], seen.count, seen.seed] for state, seen in tally.finals.items()],
        "metrics": {name: list(values.items()) for name, values in tally.metrics.items()},
    }


def _tally_of(body: Mapping[str, Any]) -> Tally:
    return Tally(
        runs=body["runs"],
        steps=body["steps"],
        hazards=_seen(body["hazards"]),
        statuses=_seen(body["statuses"]),
        reasons=dict(body["reasons"]),
        finals={tuple((name, value) for name, value in state): Seen(count, seed) for state, count, seed in body["finals"]},
        metrics={name: dict(map(tuple, values)) for name, values in body["metrics"].items()},
    )
