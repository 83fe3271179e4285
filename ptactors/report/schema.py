"""What the JSON documents of ``run`` and ``stress`` have in common: their head, and the words of their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptactors import __version__
from ptactors.campaign.verdict import HELD, INCONCLUSIVE, VIOLATED, worst

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
VERDICT: Schema = {"enum": [HELD, VIOLATED, INCONCLUSIVE]}


def an_object(properties: Mapping[str, Any], optional: Sequence[str] = ()) -> Schema:
    """An object with these keys and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def a_list(items: Schema, description: str = "") -> Schema:
    """A list of one kind of items."""
    return {"type": "array", "items": items, **({"description": description} if description else {})}


def a_table(values: Schema, description: str) -> Schema:
    """An object whose keys are names."""
    return {"type": "object", "additionalProperties": values, "description": description}


def head(verdicts: Sequence[str], unfinished: bool, interrupted: bool) -> dict[str, Any]:
    """The first keys of a document; what is ``unfinished`` is inconclusive at best."""
    return {
        "tool": "ptactors",
        "version": __version__,
        "verdict": worst([*verdicts, *[INCONCLUSIVE] * unfinished]),
        "interrupted": interrupted,
    }


def a_document(title: str, properties: Mapping[str, Any]) -> Schema:
    """The schema of a document with this head."""
    first = {"tool": {"const": "ptactors"}, "version": TEXT, "verdict": VERDICT, "interrupted": {"type": "boolean"}}
    schema = an_object({**first, **properties})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
