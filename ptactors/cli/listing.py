"""``ptactors list``: the tables that the rest is made of."""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

import click

Rows = Iterable[dict[str, Any]]


def _scenarios() -> Rows:
    from ptactors.campaign.names import known_names
    from ptactors.cli.find import known
    from ptactors.errors import ScenarioError
    from ptactors.scenario.load import load

    for name, path in known().items():
        try:
            scenario = load(path, known_names())
        except ScenarioError as error:
            yield {"name": name, "title": f"(invalid: {len(error.diagnostics)} errors, see 'ptactors check {path}')"}
        else:
            yield {"name": name, "title": scenario.title, "path": str(path), "why": " ".join(scenario.why.split())}


def _operations() -> Rows:
    from ptactors.kernel.table import OPERATIONS

    for op in OPERATIONS.values():
        yield {"name": op.usage(), "summary": op.summary, "mirrors": op.mirrors, "locks": list(op.locks), "source": op.source}


def _hazards() -> Rows:
    from ptactors.oracle.table import HAZARDS

    for name, oracle in HAZARDS.items():
        meaning = " ".join(oracle.rule.meaning.split())
        yield {"name": name, "severity": oracle.severity.value, "meaning": meaning, "source": oracle.source}


def _knobs() -> Rows:
    from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS

    for part, fields in (("kernel", KERNEL_KNOBS), ("machine", MACHINE_KNOBS)):
        for name, field in fields.items():
            default = field.default
            values = [m.value for m in type(default)] if isinstance(default, enum.Enum) else type(default).__name__
            shown = default.value if isinstance(default, enum.Enum) else default
            yield {"name": name, "section": part, "default": shown, "values": values, **field.metadata}


def _presets() -> Rows:
    from ptactors.config import HARDWARE_NOTES, HARDWARE_PRESETS, PRESET_NOTES, PRESETS

    for part, table, notes in (("kernel", PRESETS, PRESET_NOTES), ("hardware", HARDWARE_PRESETS, HARDWARE_NOTES)):
        for name, knobs in table.items():
            shown = {k: v.value if isinstance(v, enum.Enum) else v for k, v in knobs.items()}
            yield {"name": name, "for": part, "note": notes[name], "knobs": shown}


def _strategies() -> Rows:
    from ptactors.engine.strategy.table import DEFAULT_STRATEGY, STRATEGIES

    for name, strategy in STRATEGIES.items():
        yield {"name": name, "note": " ".join((inspect.getdoc(strategy) or "").split()), "default": name == DEFAULT_STRATEGY}


def _events() -> Rows:
    from ptactors.model.event import event_fields

    for name, fields in event_fields().items():
        yield {"name": name, "fields": list(fields)}


TABLES: dict[str, Callable[[], Rows]] = {
    "scenarios": _scenarios,
    "operations": _operations,
    "hazards": _hazards,
    "knobs": _knobs,
    "presets": _presets,
    "strategies": _strategies,
    "events": _events,
}


@click.command("list")
@click.argument("what", type=click.Choice(list(TABLES)))
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def command(what: str, as_json: bool) -> None:
    """List WHAT there is."""
    rows = list(TABLES[what]())
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        name, *rest = row.items()
        print(name[1])
        for key, value in rest:
            text = _text(value)
            if text:
                print(f"    {key}: {text}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
