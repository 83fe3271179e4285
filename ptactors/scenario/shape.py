"""What a value in a scenario file may look like: checks it with a position, and says the same as JSON Schema.

keys.py declares every key of the language with one of these forms, so the loader and the editor's schema cannot disagree.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, parse_knob
from ptactors.errors import UsageError
from ptactors.scenario.hints import suggest
from ptactors.scenario.positions import Path

Complain = Callable[[Path, str, str], None]
"""Reports an error at the value of a path: path, message, hint."""


class Form(Protocol):
    """The form of a value."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """True if ``value`` has this form; otherwise every deviation was reported."""
        ...

    def schema(self) -> dict[str, Any]:
        """The form as JSON Schema."""
        ...


def describe(value: object) -> str:
    """A value as an error quotes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value) if isinstance(value, str | int | float) else f"the date or time {value}"


@attrs.frozen
class Text:
    """A string; one of ``choices`` if there are any."""

    choices: tuple[str, ...] = ()
    what: str = "text"
    """What an error calls it."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if not isinstance(value, str) or not value.strip():
            complain(path, f"expected {self.what}, not {describe(value)}", self._known())
            return False
        if self.choices and value not in self.choices:
            complain(path, f"unknown {self.what} {value!r}", suggest(value, self.choices))
            return False
        return True

    def _known(self) -> str:
        return f"known: {', '.join(self.choices)}" if self.choices else ""

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"enum": list(self.choices)} if self.choices else {"type": "string", "pattern": r"\S"}


@attrs.frozen
class Integer:
    """An integer from ``low`` to ``high``."""

    low: int = 0
    high: int = (1 << 63) - 1

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return True
        bounds = f"from {self.low} to {self.high}" if self.high < (1 << 47) else f"of at least {self.low}"
        complain(path, f"expected an integer {bounds}, not {describe(value)}", "")
        return False

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@attrs.frozen
class Flag:
    """true or false."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if isinstance(value, bool):
            return True
        complain(path, f"expected true or false, not {describe(value)}", "")
        return False

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"type": "boolean"}


@attrs.frozen
class Content:
    """What a page holds: a name or an integer."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return True
        complain(path, f"expected a name or an integer, not {describe(value)}", "")
        return False

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"type": ["string", "integer"], "minLength": 1}


@attrs.frozen
class Either:
    """One of several forms, told apart by the type of the value."""

    forms: tuple[Form, ...]
    what: str
    """What an error says was expected."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if any(form.check(value, path, _silent) for form in self.forms):
            return True
        complain(path, f"expected {self.what}, not {describe(value)}", "")
        return False

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"anyOf": [form.schema() for form in self.forms]}


def _silent(_path: Path, _message: str, _hint: str) -> None:
    return None


@attrs.frozen
class ListOf:
    """A list whose elements have one form."""

    item: Form
    least: int = 0
    """The smallest number of elements."""

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if not isinstance(value, list):
            complain(path, f"expected a list, not {describe(value)}", "")
            return False
        if len(value) < self.least:
            complain(path, "expected a list that is not empty", "")
            return False
        good = [self.item.check(item, (*path, number), complain) for number, item in enumerate(value)]
        return all(good)

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"type": "array", "items": self.item.schema(), "minItems": self.least}


@attrs.frozen
class TableOf:
    """A table with any keys whose values have one form."""

    item: Form

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        if not isinstance(value, dict):
            complain(path, f"expected a table, not {describe(value)}", "")
            return False
        good = [self.item.check(item, (*path, key), complain) for key, item in value.items()]
        return all(good)

    def schema(self) -> dict[str, Any]:
        """See Form."""
        return {"type": "object", "additionalProperties": self.item.schema()}


def knob_value(name: str, value: object) -> Any:
    """``parse_knob`` and what the model cannot do yet. Raises UsageError."""
    if not isinstance(value, str | int):
        raise UsageError(f"knob {name}: a knob is a text, an integer, true or false, not {describe(value)}")
    parsed = parse_knob(name, value)
    if name == "khugepaged" and parsed:
        raise UsageError("knob khugepaged: khugepaged is not modelled yet; it may only be false")
    if name == "cpus" and not 1 <= parsed <= 64:
        raise UsageError(f"knob cpus: expected an integer from 1 to 64, not {value!r}")
    return parsed


@attrs.frozen
class Knob:
    """A value of one knob of the config."""

    name: str

    def check(self, value: object, path: Path, complain: Complain) -> bool:
        """See Form."""
        try:
            knob_value(self.name, value)
        except UsageError as error:
            complain(path, str(error), "")
            return False
        return True

    def schema(self) -> dict[str, Any]:
        """See Form."""
        field = KERNEL_KNOBS.get(self.name) or MACHINE_KNOBS[self.name]
        default = field.default
        text = {"description": f"{field.metadata['effect']} (default {knob_text(default)})"}
        if self.name == "khugepaged":
            return {"const": False, **text}
        if isinstance(default, enum.Enum):
            return {"enum": [member.value for member in type(default)], **text}
        if isinstance(default, bool):
            return {"enum": [True, False, "true", "false", "y", "n"], **text}
        if self.name == "cpus":
            return {"type": "integer", "minimum": 1, "maximum": 64, **text}
        return {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]", **text}


def knob_text(value: object) -> str:
    """A typed knob value as names of cells and messages show it: y or n, the text of an enum, a number."""
    if isinstance(value, bool):
        return "y" if value else "n"
    return str(value.value) if isinstance(value, enum.Enum) else str(value)
