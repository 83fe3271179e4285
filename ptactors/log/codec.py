"""One event as the fields of a log line, and back: the table of how each field is spelt.

Addresses, frames and entries are hex strings: they are read as hex by people, and an entry does not fit the 53 bits that many
JSON readers keep. Everything else is the value itself. ``sym`` stands behind a line's first address.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ptactors.log.symbol import Symbols
from ptactors.model.event import ENTRY_NAMES, EVENTS, EntryWrite, HardwareBits, TableRead, WalkRead

SCHEMA = 1
"""Version of the log's format; grows when a reader of today would misread a log of tomorrow."""
NOBODY = "-"
"""The actor of records that are no actor's: the set-up and the end of the run."""
ADDRESSES = ("va", "start", "end", "address")
FRAMES = ("pfn", "table")
ENTRIES: dict[type, tuple[str, ...]] = {
    EntryWrite: ("old", "new"),
    HardwareBits: ("old", "new"),
    TableRead: ("value",),
    WalkRead: ("value",),
}
OWN = ("ev", "step", "cpu", "actor", "sym", "cause", "fn")
"""Keys that lines have beside the event's own fields."""

Encode = Callable[[Any], Any]


class FieldFault(ValueError):
    """A line's fields are not those of its event."""


@attrs.frozen
class _Layout:
    """How one kind of event stands in a line."""

    kind: type
    fields: tuple[tuple[str, Encode | None, Encode | None], ...]
    """Name, encoder, decoder; without ``what`` of an EntryWrite and without ``cpu``, which stands in front."""
    symbol: str
    """The field that ``sym`` explains, or ''."""
    types: frozenset[tuple[type, ...]]
    """What the values of all fields may be, in the event's own order."""


def _from_hex(text: object) -> int:
    if not isinstance(text, str):
        raise FieldFault(f"expected a hex string, not {text!r}")
    return int(text, 16)


def _layout(kind: type) -> _Layout:
    order: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    hexes = ADDRESSES + FRAMES + ENTRIES.get(kind, ())
    hints = typing.get_type_hints(kind)
    fields: list[tuple[str, Encode | None, Encode | None]] = []
    for name in order:
        if name == "cpu" or (kind is EntryWrite and name == "what"):
            continue
        if name in hexes:
            fields.append((name, hex, _from_hex))
        elif typing.get_origin(hints[name]) is tuple:
            fields.append((name, list, _numbers))
        else:
            fields.append((name, None, None))
    allowed = frozenset(itertools.product(*(_types(hints[name]) for name in order)))
    return _Layout(kind, tuple(fields), next((n for n in order if n in ADDRESSES), ""), allowed)


def _types(hint: Any) -> tuple[type, ...]:
    """The types that a field's annotation allows."""
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)
    return (typing.get_origin(hint) or hint,)


def _numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(each) is not int for each in value):
        raise FieldFault(f"expected a list of numbers, not {value!r}")
    return tuple(value)


_BY_KIND = {kind: _layout(kind) for kind in EVENTS}
_BY_NAME = {name: _BY_KIND[kind] for kind, name in EVENTS.items() if kind is not EntryWrite}
_BY_NAME.update(dict.fromkeys(ENTRY_NAMES, _BY_KIND[EntryWrite]))


def encode(step: int, actor: str, event: Any, symbols: Symbols) -> dict[str, Any]:
    """The fields of the line of one record, in their fixed order."""
    layout = _BY_KIND[type(event)]
    name = event.what if layout.kind is EntryWrite else EVENTS[layout.kind]
    line: dict[str, Any] = {"ev": name, "step": step, "cpu": event.cpu, "actor": actor}
    for field, spell, _ in layout.fields:
        value = getattr(event, field)
        line[field] = value if spell is None else spell(value)
        if field == layout.symbol:
            line["sym"] = symbols.name(value, getattr(event, "mm", ""))
    return line


def decode(line: Mapping[str, Any]) -> Any:
    """The event of a line. Raises FieldFault where the line does not have exactly the fields of its event."""
    name = line.get("ev")
    layout = _BY_NAME.get(name) if isinstance(name, str) else None
    if layout is None:
        raise FieldFault(f"unknown event {name!r}")
    values: dict[str, Any] = {}
    if layout.kind is EntryWrite:
        values["what"] = name
    try:
        values["cpu"] = line["cpu"]
        for field, _, read in layout.fields:
            values[field] = line[field] if read is None else read(line[field])
    except KeyError as missing:
        raise FieldFault(f"event {name} lacks the field {missing.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise FieldFault(f"event {name}: {error}") from None
    surplus = [key for key in line if key not in OWN and key not in values]
    if surplus:
        raise FieldFault(f"event {name} has no field {surplus[0]!r}")
    event = layout.kind(**values)
    if tuple(map(type, event)) not in layout.types:
        raise FieldFault(f"event {name}: {_strange(layout.kind, event)}")
    return event


def _strange(kind: type, event: tuple[Any, ...]) -> str:
    """The first field that is of another type than the event says."""
    hints = typing.get_type_hints(kind)
    name, value = next((n, v) for n, v in zip(hints, event, strict=True) if type(v) not in _types(hints[n]))
    return f"{name!r} is {value!r}, expected {' or '.join(each.__name__ for each in _types(hints[name]))}"
