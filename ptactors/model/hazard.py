"""The named things that must not, or only knowingly, be; and a sighting of one."""

from __future__ import annotations

import enum

import attrs


class Severity(enum.Enum):
    """How bad a hazard is by itself."""

    VIOLATION = "violation"
    """No kernel and no architecture allows it."""
    CONDITION = "condition"
    """A state that an architecture may allow, or that user space brought upon itself."""


@attrs.frozen
class Finding:
    """One sighting of a hazard in a run."""

    hazard: str
    """The hazard's name, a key of ``oracle.table.HAZARDS``."""
    step: int
    """The step whose event completed it."""
    actor: int
    """The actor that made that step."""
    what: str
    """One line: what is wrong."""
    history: tuple[tuple[int, str], ...] = ()
    """Earlier steps that matter, oldest first, each with a line of text."""
    role: str = ""
    """The kind of object concerned (not its address), so that shrinking keeps the same bug."""
