"""The JSON document of ``--json``, and its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors.campaign.verdict import CellResult, ScenarioResult
from ptactors.report.schema import COUNT, TEXT, VERDICT, a_document, a_list, a_table, an_object, head

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
    return {
        **head([s.verdict for s in scenarios], interrupted, interrupted),
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


_WITNESS = an_object(
    {
        "seed": {"type": "integer"},
        "why": {**TEXT, "description": "the expectation or hazard that it shows"},
        "replay": {**TEXT, "description": "the command line that shows it again"},
        "schedule": {"type": ["string", "null"], "description": "file; null with --log none"},
        "log": {"type": ["string", "null"], "description": "file; null with --log none"},
    }
)
_EXPECTATION = an_object(
    {
        "kind": {"enum": ["exists", "forbidden", "always"]},
        "condition": {**TEXT, "description": "'any other violation' is the one that every cell has without saying so"},
        "verdict": VERDICT,
        "method": {"enum": ["exhaustive", "sampled"]},
        "hits": {**COUNT, "description": "schedules in which the condition was true"},
        "schedules": {**COUNT, "description": "schedules in which it was decided"},
    }
)
_CELL = an_object(
    {
        "index": {"type": "integer"},
        "name": TEXT,
        "preset": TEXT,
        "hardware": TEXT,
        "verdict": VERDICT,
        "reasons": a_list(TEXT, "why the cell is inconclusive, beside its expectations"),
        "knobs": a_table({"type": ["string", "integer", "boolean"]}, "every knob of the cell"),
        "strategy": TEXT,
        "seed": {"type": "integer", "description": "the first one; schedule i has seed + i, unless a portfolio chose its seeds"},
        "schedules": {**COUNT, "description": "how many were run"},
        "hazards": a_table(COUNT, "hazard -> schedules in which it was seen"),
        "expectations": a_list(_EXPECTATION),
        "final_states": a_list(
            an_object({"count": COUNT, "state": a_table({"type": ["string", "integer"]}, "register or memory -> value")}),
            f"commonest first, at most {STATES_SHOWN}",
        ),
        "final_states_not_listed": {**COUNT, "description": "schedules that ended in a state not listed"},
        "metrics": a_table(
            {"type": "integer"},
            "*_max: the greatest of all schedules; others: the commonest value, of equally common ones the first seen",
        ),
        "members": a_table(
            an_object({"schedules": COUNT, "new": COUNT, "hazards": a_table(COUNT, "hazard -> its schedules with it")}),
            "of a portfolio: member -> its schedules and the behaviours that it was the first to show",
        ),
        "witness": _WITNESS,
    },
    optional=("members", "witness"),
)
SCHEMA = a_document(
    "ptactors run --json",
    {
        "scenarios": a_list(
            an_object(
                {
                    "name": TEXT,
                    "digest": TEXT,
                    "verdict": VERDICT,
                    "missed": a_list(TEXT, "coverage goals that no schedule reached"),
                    "cells": a_list(_CELL),
                }
            )
        ),
    },
)
"""JSON Schema of the document."""
