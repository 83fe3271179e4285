"""The JSON document of ``--json``, and its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors import __version__
from ptactors.campaign.verdict import CellResult, ScenarioResult, worst

STATES_SHOWN = 100
"""Final states of a cell that the document lists, the commonest first."""


@attrs.frozen(kw_only=True)
class Witness:
    """The schedule that shows what was found."""

    seed: int
    why: str
    """The expectation or hazard that it shows."""
    replay: str
    """The command line that shows it again."""
    schedule: str | None
    """Its file; None where nothing was written."""
    log: str | None
    """Its log; None where nothing was written."""


def document(
    scenarios: Sequence[ScenarioResult], witnesses: Mapping[tuple[str, int], Witness], interrupted: bool = False
) -> dict[str, Any]:
    """The whole document; ``witnesses`` by the scenario's name and the cell's number."""
    verdict = worst([s.verdict for s in scenarios] + ["inconclusive"] * interrupted)
    return {
        "tool": "ptactors",
        "version": __version__,
        "verdict": verdict,
        "interrupted": interrupted,
        "scenarios": [
            {
                "name": s.name,
                "digest": s.digest,
                "verdict": s.verdict,
                "missed": list(s.missed),
                "cells": [_cell(c, witnesses.get((s.name, c.cell.index))) for c in s.cells],
            }
            for s in scenarios
        ],
    }


def _cell(result: CellResult, witness: Witness | None) -> dict[str, Any]:
    tally, cell = result.tally, result.cell
    states = sorted(tally.finals.items(), key=lambda item: (-item[1].count, item[1].seed))
    shown = states[:STATES_SHOWN]
    document: dict[str, Any] = {
        "index": cell.index,
        "name": cell.name,
        "preset": cell.preset,
        "hardware": cell.hardware,
        "verdict": result.verdict,
        "reasons": list(result.reasons),
        "knobs": cell.config.as_dict(),
        "strategy": result.strategy,
        "seed": result.seed,
        "schedules": tally.runs,
        "hazards": {name: tally.hazards[name].count for name in sorted(tally.hazards)},
        "expectations": [
            {
                "kind": e.kind,
                "condition": e.condition,
                "verdict": e.verdict,
                "method": e.method,
                "hits": e.hits,
                "schedules": e.schedules,
            }
            for e in result.expectations
        ],
        "final_states": [{"count": seen.count, "state": dict(state)} for state, seen in shown],
        "final_states_not_listed": tally.runs - sum(seen.count for _, seen in shown),
        "metrics": dict(tally.summary()),
    }
    if tally.members:
        document["members"] = {
            name: {"schedules": m.runs, "new": m.new, "hazards": {hazard: seen.count for hazard, seen in m.hazards.items()}}
            for name, m in tally.members.items()
        }
    if witness is not None:
        document["witness"] = attrs.asdict(witness)
    return document


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_VERDICT: dict[str, Any] = {"enum": ["held", "violated", "inconclusive"]}


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": description} if description else {})}


def _table(values: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values, "description": description}


_WITNESS = _object(
    {
        "seed": {"type": "integer"},
        "why": {**_TEXT, "description": "the expectation or hazard that it shows"},
        "replay": {**_TEXT, "description": "the command line that shows it again"},
        "schedule": {"type": ["string", "null"], "description": "file; null with --log none"},
        "log": {"type": ["string", "null"], "description": "file; null with --log none"},
    }
)
_EXPECTATION = _object(
    {
        "kind": {"enum": ["exists", "forbidden", "always"]},
        "condition": {**_TEXT, "description": "'any other violation' is the one that every cell has without saying so"},
        "verdict": _VERDICT,
        "method": {"enum": ["exhaustive", "sampled"]},
        "hits": {**_COUNT, "description": "schedules in which the condition was true"},
        "schedules": {**_COUNT, "description": "schedules in which it was decided"},
    }
)
_CELL = _object(
    {
        "index": {"type": "integer"},
        "name": _TEXT,
        "preset": _TEXT,
        "hardware": _TEXT,
        "verdict": _VERDICT,
        "reasons": _list(_TEXT, "why the cell is inconclusive, beside its expectations"),
        "knobs": _table({"type": ["string", "integer", "boolean"]}, "every knob of the cell"),
        "strategy": _TEXT,
        "seed": {"type": "integer", "description": "the first one; schedule i has seed + i, unless a portfolio chose its seeds"},
        "schedules": {**_COUNT, "description": "how many were run"},
        "hazards": _table(_COUNT, "hazard -> schedules in which it was seen"),
        "expectations": _list(_EXPECTATION),
        "final_states": _list(
            _object({"count": _COUNT, "state": _table({"type": ["string", "integer"]}, "register or memory -> value")}),
            f"commonest first, at most {STATES_SHOWN}",
        ),
        "final_states_not_listed": {**_COUNT, "description": "schedules that ended in a state not listed"},
        "metrics": _table(
            {"type": "integer"},
            "*_max: the greatest of all schedules; others: the commonest value, of equally common ones the first seen",
        ),
        "members": _table(
            _object({"schedules": _COUNT, "new": _COUNT, "hazards": _table(_COUNT, "hazard -> its schedules with it")}),
            "of a portfolio: member -> its schedules and the behaviours that it was the first to show",
        ),
        "witness": _WITNESS,
    },
    optional=("members", "witness"),
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ptactors run --json",
    **_object(
        {
            "tool": {"const": "ptactors"},
            "version": _TEXT,
            "verdict": _VERDICT,
            "interrupted": {"type": "boolean"},
            "scenarios": _list(
                _object(
                    {
                        "name": _TEXT,
                        "digest": _TEXT,
                        "verdict": _VERDICT,
                        "missed": _list(_TEXT, "coverage goals that no schedule reached"),
                        "cells": _list(_CELL),
                    }
                )
            ),
        }
    ),
}
"""JSON Schema of the document."""
