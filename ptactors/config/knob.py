"""The word to declare a knob."""

from __future__ import annotations

from typing import Any

import attrs


def knob(default: Any, effect: str, counterpart: str, source: str, *, least: int = 0) -> Any:
    """A field with its story: effect, kernel counterpart, source; ``least`` is the smallest value of a number."""
    story = {"effect": effect, "counterpart": counterpart, "source": source, "least": least}
    return attrs.field(default=default, metadata=story)
