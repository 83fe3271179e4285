"""The JSON document of a stress campaign, and its schema.

It has no time, no host and no folder in it: two campaigns of the same plan with the same number of schedules give the same bytes.
File names are relative to the campaign's folder; the replay lines need none.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import attrs

from ptactors.campaign import mix
from ptactors.campaign.coverage import KINDS, Coverage
from ptactors.campaign.names import known_names
from ptactors.campaign.stress import StressCampaign, Target, TargetResult, left_out
from ptactors.campaign.verdict import HELD, INCONCLUSIVE, VIOLATED
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.report.document import STATES_SHOWN
from ptactors.report.schema import COUNT, TEXT, VERDICT, a_document, a_table, an_object, head
from ptactors.scenario.shape import knob_text

RARE_SHOWN = 100
"""Rare items of each kind that the document lists, the rarest first."""


@attrs.frozen(kw_only=True)
class Files:
    """What was kept of one failing schedule, relative to the campaign's folder; None where nothing was written."""

    scenario: str | None = None
    schedule: str | None = None
    log: str | None = None


def verdict_of(result: TargetResult) -> str:
    """Violated by a failing schedule; inconclusive if none was run or some did not run to their end."""
    if result.failing:
        return VIOLATED
    return INCONCLUSIVE if "limit" in result.tally.statuses or not result.tally.runs else HELD


def replay_command(campaign: StressCampaign, target: Target, seed: int) -> str:
    """The command that runs the schedule again wherever it is given: of a mix with the mix's other schedules."""
    plan = campaign.plan
    number = target.mix(seed)
    if number is not None:
        words = ["ptactors", "stress", "--seed", str(number), "--runs", str(target.size)]
    else:
        words = ["ptactors", "run", target.path, "--seed", str(seed), "--runs", "1", "--strategy", target.strategy]
        words += ["--cell", str(target.cell)]
    words += ["--preset", target.preset]
    if number is not None and target.strategy:
        words += ["--strategy", target.strategy]
    for name, value in plan.overrides:
        words += ["--set", f"{name}={_knob(value)}"]
    return shlex.join(words)


def _knob(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else knob_text(value)


def document(campaign: StressCampaign, kept: Mapping[tuple[int, int], Files], interrupted: bool, wanting: bool) -> dict[str, Any]:
    """The whole document; ``kept`` by cell and seed; ``wanting``: saturation was asked for and is not reached."""
    plan, results = campaign.plan, campaign.results
    failing = sum(result.failing for result in results)
    return {
        **head([verdict_of(r) for r in results], interrupted or wanting, interrupted),
        "scenarios": list(plan.paths) or "random mixes",
        "presets": list(plan.presets),
        "set": {name: _knob(value) for name, value in plan.overrides},
        "strategy": plan.strategy,
        "seed": plan.seed,
        "schedules": campaign.runs,
        "steps": sum(result.tally.steps for result in results),
        "saturated": campaign.saturated,
        "left_out": left_out(plan),
        "not_drawn": {} if plan.paths else mix.not_drawn(),
        "cells": [_cell(campaign, result) for result in results],
        "failures": [
            {
                "cell": target.name,
                "mix": target.mix(seed),
                "seed": seed,
                "why": list(why),
                "replay": replay_command(campaign, target, seed),
                **attrs.asdict(kept.get((target.number, seed), Files())),
            }
            for target, seed, why in campaign.failing
        ],
        "failures_not_listed": failing - len(campaign.failing),
        "coverage": _coverage(campaign.coverage),
    }


def _cell(campaign: StressCampaign, result: TargetResult) -> dict[str, Any]:
    tally, target = result.tally, result.target
    states = sorted(tally.finals.items(), key=lambda item: (-item[1].count, item[1].seed))[:STATES_SHOWN]
    return {
        "name": target.name,
        "preset": target.preset,
        "verdict": verdict_of(result),
        "strategy": target.strategy or None,
        "first": target.first,
        "schedules": tally.runs,
        "steps": tally.steps,
        "statuses": {name: seen.count for name, seen in sorted(tally.statuses.items())},
        "failing": result.failing,
        "violated": {why: {"schedules": seen.count, "seed": seen.seed} for why, seen in sorted(result.guilty.items())},
        "known": {
            hazard: {"schedules": seen.count, "seed": seen.seed, "scenarios": list(campaign.known_of(hazard, target))}
            for hazard, seen in sorted(result.excused.items())
        },
        "hazards": {
            hazard: {
                "schedules": seen.count,
                "seed": seen.seed,
                "severity": "violation" if HAZARDS[hazard].severity is Severity.VIOLATION else "condition",
            }
            for hazard, seen in sorted(tally.hazards.items())
        },
        "final_states": [{"count": seen.count, "state": dict(state)} for state, seen in states],
        "final_states_not_listed": tally.runs - sum(seen.count for _, seen in states),
        "metrics": dict(tally.summary()),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    found: dict[str, Any] = {"sampling_units": coverage.units}
    for kind in KINDS:
        estimate = coverage.estimate(kind)
        found[kind] = {
            "seen": estimate.seen,
            "seen_once": estimate.once,
            "seen_twice": estimate.twice,
            "unseen_at_least": round(estimate.unseen, 1),
            "probability_of_new": round(estimate.new, 6),
            "schedules_since_new": estimate.since,
            "growth": [list(point) for point in coverage.growth(kind)],
            "rare": [list(each) for each in coverage.rare(kind)[:RARE_SHOWN]] if kind != "states" else [],
        }
    found["branches"]["never"] = never(coverage)
    return found


def never(coverage: Coverage) -> list[str]:
    """The steps and events that the tables have and no schedule reached."""
    names = known_names()
    return [name for name in sorted({*names.step_labels, *names.events}) if name not in coverage.kinds["branches"]]


_FILE: dict[str, Any] = {"type": ["string", "null"], "description": "in the campaign's folder; null where nothing was kept"}
_POINTS: dict[str, Any] = {"type": "array", "items": {"type": "array", "prefixItems": [COUNT, COUNT]}}


_KIND = an_object(
    {
        "seen": COUNT,
        "seen_once": {**COUNT, "description": "in exactly one sampling unit"},
        "seen_twice": COUNT,
        "unseen_at_least": {"type": "number", "description": "Chao's lower bound (Chao2, bias-corrected)"},
        "probability_of_new": {"type": "number", "description": "that the next unit shows a new one (Good and Turing)"},
        "schedules_since_new": COUNT,
        "growth": {**_POINTS, "description": "[schedules, items seen in the first so many]"},
        "rare": {"type": "array", "description": "[item, sampling units that showed it], the rarest first"},
        "never": {"type": "array", "items": TEXT, "description": "of branches: those that no schedule reached"},
    },
    optional=("never",),
)
_SEED = {"schedules": COUNT, "seed": {"type": "integer", "description": "the first"}}
_CELL = an_object(
    {
        "name": TEXT,
        "preset": TEXT,
        "verdict": VERDICT,
        "strategy": {"type": ["string", "null"], "description": "null: each mix has its own"},
        "first": {"type": "integer", "description": "the first seed, of mixes the first mix"},
        "schedules": COUNT,
        "steps": COUNT,
        "statuses": a_table(COUNT, "how schedules ended"),
        "failing": {**COUNT, "description": "schedules that fail"},
        "violated": a_table(an_object(_SEED), "what they fail by"),
        "known": a_table(
            an_object({**_SEED, "scenarios": {"type": "array", "items": TEXT}}),
            "violations that the named scenarios say exist under this preset, and the schedules let off because of them",
        ),
        "hazards": a_table(an_object({**_SEED, "severity": {"enum": ["violation", "condition"]}}), "all that were seen"),
        "final_states": {"type": "array", "description": f"commonest first, at most {STATES_SHOWN}"},
        "final_states_not_listed": COUNT,
        "metrics": a_table({"type": "integer"}, "*_max: the greatest of all schedules; others: the commonest value"),
    }
)
SCHEMA = a_document(
    "ptactors stress --json",
    {
        "scenarios": {"anyOf": [{"const": "random mixes"}, {"type": "array", "items": TEXT}]},
        "presets": {"type": "array", "items": TEXT},
        "set": a_table(TEXT, "knobs set from outside"),
        "strategy": {"type": ["string", "null"]},
        "seed": {"type": ["integer", "null"]},
        "schedules": COUNT,
        "steps": COUNT,
        "saturated": {"type": "boolean", "description": "whether it stopped because there was nothing new"},
        "left_out": a_table(TEXT, "scenarios that have no cells here, and why"),
        "not_drawn": a_table(TEXT, "operations that random mixes do not have, and why"),
        "cells": {"type": "array", "items": _CELL},
        "failures": {
            "type": "array",
            "items": an_object(
                {
                    "cell": TEXT,
                    "mix": {"type": ["integer", "null"]},
                    "seed": {"type": "integer"},
                    "why": {"type": "array", "items": TEXT, "description": "hazards, or expectations"},
                    "replay": {**TEXT, "description": "a command that runs it again"},
                    "scenario": _FILE,
                    "schedule": _FILE,
                    "log": _FILE,
                }
            ),
        },
        "failures_not_listed": COUNT,
        "coverage": an_object({"sampling_units": COUNT, **dict.fromkeys(KINDS, _KIND)}),
    },
)
"""JSON Schema of the document."""
