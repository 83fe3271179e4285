"""The JSON Schema of scenario files, for editors; made from the same tables that the loader reads.

It describes the form of a file. What needs the meaning of names (programs, conditions, addresses) only the loader checks.
"""

from __future__ import annotations

from typing import Any

from ptactors.oracle import table as oracle_table
from ptactors.scenario.keys import CONDITION_KINDS, CPU_PATTERN, LISTED, NAME_PATTERN, NAMED, SECTIONS, TOP, Key

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of one scenario file, as a JSON document."""
    top = _table(TOP)
    top["properties"]["allow"]["items"] = {"enum": list(oracle_table.HAZARDS)}
    top["properties"] |= {name: _section(name, keys) for name, keys in SECTIONS.items()}
    return {"$schema": DIALECT, "title": "ptactors scenario", **top}


def _section(name: str, keys: tuple[Key, ...]) -> dict[str, Any]:
    table = _table(keys)
    if name in LISTED:
        table["oneOf"] = [{"required": [kind]} for kind in CONDITION_KINDS]
        return {"type": "array", "items": table}
    if name in NAMED:
        pattern = CPU_PATTERN if name == "cpu" else NAME_PATTERN
        return {"type": "object", "patternProperties": {f"^{pattern}$": table}, "additionalProperties": False}
    return table


def _table(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key.name: {"description": key.doc, **key.form.schema()} for key in keys},
        "required": [key.name for key in keys if key.required],
        "additionalProperties": False,
    }
