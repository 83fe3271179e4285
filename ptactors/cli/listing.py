"""``ptactors list``: the tables that the rest is made of."""

from __future__ import annotations

import enum
import inspect
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import click

from ptactors.cli.rule_pages import shown, without_usage
from ptactors.cli.rule_words import words
from ptactors.errors import UsageError

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
        told = without_usage(op.summary)
        yield {
            "name": op.usage(),
            **({"summary": told} if told else {}),
            "mirrors": op.mirrors,
            "locks": list(op.locks),
            "source": op.source,
        }


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
            plain = default.value if isinstance(default, enum.Enum) else default
            yield {"name": name, "section": part, "default": plain, "values": values, **field.metadata}


def _presets() -> Rows:
    from ptactors.config import HARDWARE_NOTES, HARDWARE_PRESETS, PRESET_NOTES, PRESETS

    for part, table, notes in (("kernel", PRESETS, PRESET_NOTES), ("hardware", HARDWARE_PRESETS, HARDWARE_NOTES)):
        for name, knobs in table.items():
            plain = {k: v.value if isinstance(v, enum.Enum) else v for k, v in knobs.items()}
            yield {"name": name, "for": part, "note": notes[name], "knobs": plain}


def _strategies() -> Rows:
    from ptactors.engine.strategy.table import DEFAULT_STRATEGY, STRATEGIES

    for name, strategy in STRATEGIES.items():
        yield {"name": name, "note": " ".join((inspect.getdoc(strategy) or "").split()), "default": name == DEFAULT_STRATEGY}


def _events() -> Rows:
    from ptactors.model.event import event_fields

    for name, fields in event_fields().items():
        yield {"name": name, "fields": list(fields)}


def _conditions() -> Rows:
    from ptactors.scenario.condition import METRICS

    for name, about in CONDITIONS.items():
        yield {"name": name, "about": about}
    for name, arguments in METRICS.items():
        yield {"name": f"{name}({'|'.join(arguments)})" if arguments else name, "about": METRIC_NOTES[name]}


def _words() -> Rows:
    for name, meaning, _ in words():
        yield {"name": name, "meaning": meaning}


CONDITIONS = {
    "hazard(NAME)": "the hazard was seen in this schedule; 'ptactors list hazards'",
    "ever(CONDITION)": "it was true after some step",
    "final(CONDITION)": "it is true at the end, which is when a condition is asked anyhow",
    "cpu1:REGISTER": "what an operation of that CPU last stored there with '-> REGISTER'; unset before",
    "mem[A+0x1000]": "the content of the page that is mapped there; unset where none is",
    "pt[A+0x1000].level": "none, table (an empty entry of a PTE page), 4k or 2m; .pfn: the frame",
    "tlb[cpu1][A+0x1000].level": "none, 4k or 2m; .pfn: the frame",
    "fault(cpu1:LABEL)": "page faults that the operation of that label took",
    "count(EVENT, FIELD=VALUE ...)": "events of that kind whose fields are so; 'ptactors list events'",
    "== != < <= > >=  and or not  /\\ \\/ ~  ( )": "compare and join; == and = are the same",
}
"""What a condition may say, beside the metrics."""
METRIC_NOTES = {
    "VmPTE": "kB of page tables at the end",
    "VmPTE_max": "the greatest VmPTE of the run",
    "VmPTE_start": "VmPTE before the programs begin",
    "rss": "pages that are mapped at the end, of a kind",
    "flushes": "TLB flushes of an address space",
    "ipis": "interrupts that were sent",
    "grace_periods": "of RCU, that ended",
    "steps": "of the run",
}
"""What the numbers of a run are."""

TABLES: dict[str, Callable[[], Rows]] = {
    "scenarios": _scenarios,
    "operations": _operations,
    "hazards": _hazards,
    "knobs": _knobs,
    "presets": _presets,
    "strategies": _strategies,
    "events": _events,
    "conditions": _conditions,
    "words": _words,
}


@click.command("list")
@click.argument("what", type=click.Choice(list(TABLES)), metavar="WHAT")
@click.option("--short", is_flag=True, help="One line each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def command(what: str, short: bool, as_json: bool) -> None:
    """List WHAT there is: scenarios, operations, hazards, knobs, presets, strategies, events, conditions (what an expectation may
    say) or words. 'ptactors rule NAME' tells all of one.
    """
    if short and as_json:
        raise UsageError("--short is for people, --json has everything; take one of them")
    rows = list(TABLES[what]())
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = min(max(len(row["name"]) for row in rows), _COLUMN) if rows else 0
    for row in rows:
        name, *rest = row.items()
        if short:
            print(f"{name[1]:<{width}}  {_line(row)}")
            continue
        print(name[1])
        for key, value in rest:
            text = _text(value)
            if text:
                print(f"    {key}: {text}")


def _line(row: dict[str, Any]) -> str:
    """The one field that tells most, up to the end of its first sentence."""
    text = _text(next((row[key] for key in _TELLING if row.get(key)), ""))
    return re.split(r"(?<=[a-z)])[.] ", text, maxsplit=1)[0].rstrip(".")


_TELLING = ("title", "meaning", "effect", "note", "about", "summary", "mirrors", "fields")
_COLUMN = 36


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return shown(value)
