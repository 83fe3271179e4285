"""The page of a campaign: verdicts over cells and presets, hazards, how runs ended, what was counted, and links to the runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import orjson

from ptactors.errors import UsageError
from ptactors.log.read import LogReadFault, SavedLog
from ptactors.oracle.table import HAZARDS
from ptactors.report.page import clip, render
from ptactors.report.page_chart import Chart, chart
from ptactors.report.page_folder import Growth, read_folder
from ptactors.report.page_run import read_run, run_page
from ptactors.report.page_stress import DOCUMENT, Failure, as_campaign, failures, is_stress, vmpte_over_time
from ptactors.report.page_stress import growth as growth_charts

STYLES = ("base.css", "campaign.css")
SCRIPTS = ("campaign.js",)
MARKS = {"held": "✓", "violated": "✕", "inconclusive": "?"}
CLASSES = {"held": "good", "violated": "bad", "inconclusive": "warn"}
_STATES = 12
"""Final states of a cell that are drawn."""


@attrs.frozen(kw_only=True)
class Campaign:
    """A campaign's document, and what only its logs tell."""

    document: dict[str, Any]
    growth: Growth | None = None
    """Run by run, where the logs of a folder were read."""
    charts: tuple[Chart, ...] = ()
    """What the document says of growth by itself."""
    failures: tuple[Failure, ...] = ()
    """Of a stress campaign: the failing schedules."""
    faults: tuple[str, ...] = ()
    """Files that could not be read, or only in part."""


def read_campaign(file: Path) -> Campaign:
    """The document of a file, or one made of all logs below a folder, unless a stress campaign left its own there.

    Raises UsageError for what is neither.
    """
    if (file / DOCUMENT).is_file():
        file /= DOCUMENT
    if file.is_dir():
        document, growth, faults = read_folder(file)
        return Campaign(document=document, growth=growth, faults=faults)
    try:
        document = orjson.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file}: neither a log nor a JSON document of 'ptactors run --json': {error}") from error
    if isinstance(document, dict) and document.get("tool") == "ptactors" and is_stress(document):
        return _stress(file, document)
    if not isinstance(document, dict) or document.get("tool") != "ptactors" or not isinstance(document.get("scenarios"), list):
        raise UsageError(f"{file}: a JSON document, but not one of 'ptactors run --json' or 'ptactors stress --json'")
    return Campaign(document=document)


def _stress(file: Path, document: dict[str, Any]) -> Campaign:
    try:
        return Campaign(
            document=as_campaign(document, file.parent),
            charts=tuple(growth_charts(document)),
            failures=tuple(failures(document, file.parent)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{file}: not a whole document of 'ptactors stress': {type(error).__name__}: {error}") from error


def run_pages(campaign: Campaign, folder: Path) -> Iterator[tuple[str, tuple[Path, str]]]:
    """(log, (page's file, page)) for each witness whose log is there."""
    for s, scenario in enumerate(_lists(campaign.document, "scenarios")):
        for cell in _lists(scenario, "cells"):
            log = _log(cell)
            if _there(log):
                name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{clip(scenario.get('name', ''), 60)}-{cell.get('index', 0)}")
                yield log, (folder / f"{s}-{name}.html", run_page(read_run(Path(log))))
    told = {_log(cell) for scenario in _lists(campaign.document, "scenarios") for cell in _lists(scenario, "cells")}
    for i, failure in enumerate(campaign.failures):
        if failure.log not in told and _there(failure.log):
            yield failure.log, (folder / f"failure-{i}.html", run_page(read_run(Path(failure.log))))


def campaign_page(campaign: Campaign, out: Path, pages: Mapping[str, Path] | None = None) -> str:
    """The HTML page; ``out`` is where it will stand, for links; ``pages`` has pages of runs by their log."""
    document = campaign.document
    try:
        scenarios = [
            _scenario(number, scenario, out.parent, pages or {}) for number, scenario in enumerate(_lists(document, "scenarios"))
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"not a whole document of 'ptactors run --json': {type(error).__name__}: {error}") from error
    cells = [cell for scenario in scenarios for cell in scenario["cells"]]
    counts = {verdict: sum(cell["verdict"] == verdict for cell in cells) for verdict in MARKS}
    return render(
        "campaign.html", styles=STYLES, scripts=SCRIPTS, data={}, document=document, scenarios=scenarios, counts=counts,
        presets=_presets(cells), marks=MARKS, classes=CLASSES, schedules=sum(cell["schedules"] for cell in cells),
        charts=_charts(campaign), failures=_failures(campaign, out.parent, pages or {}),
        faults=campaign.faults[:20], cells=len(cells),
        meanings={h: HAZARDS[h].rule.meaning for s in scenarios for h in s["hazards"] if h in HAZARDS},
        conditions={h for s in scenarios for h in s["hazards"] if h in HAZARDS and HAZARDS[h].severity.value == "condition"},
    )  # fmt: skip


def _charts(campaign: Campaign) -> list[Chart]:
    growth = campaign.growth
    if growth is None:
        over_time = vmpte_over_time(_kept(campaign))
        return [*campaign.charts, *([over_time] if over_time is not None else [])]
    charts = (
        chart("Coverage: distinct pairs of event and kernel function", "runs", {"all runs": growth.coverage}),
        chart("Distinct hazards, by strategy", "runs", growth.hazards),
        chart("VmPTE over time, in kB", "steps", dict(growth.vmpte)),
    )
    return [each for each in charts if each is not None]


def _kept(campaign: Campaign) -> list[tuple[str, str]]:
    """(name, log) of the runs of a document that were kept, a witness of every cell first."""
    found = [
        (f"{scenario.get('name', '')} {cell.get('name', '')}", _log(cell))
        for scenario in _lists(campaign.document, "scenarios")
        for cell in _lists(scenario, "cells")
    ]
    found += [(f"{failure.cell} seed {failure.seed}", failure.log) for failure in campaign.failures]
    return [(name, log) for name, log in {log: (name, log) for name, log in reversed(found) if _there(log)}.values()][::-1]


def _failures(campaign: Campaign, beside: Path, pages: Mapping[str, Path]) -> list[dict[str, Any]]:
    return [
        {
            "cell": clip(each.cell), "seed": each.seed, "why": clip(each.why, 300), "replay": clip(each.replay, 1000),
            "log": link(each.log, beside) if each.log else "", "scenario": link(each.scenario, beside) if each.scenario else "",
            "page": link(str(pages[each.log]), beside) if each.log in pages else "",
        }
        for each in campaign.failures
    ]  # fmt: skip


def _lists(table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key, [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _log(cell: Mapping[str, Any]) -> str:
    witness = cell.get("witness")
    log = witness.get("log") if isinstance(witness, dict) else None
    return log if isinstance(log, str) else ""


def _asked(log: str) -> tuple[str, str]:
    """Title and reason of the scenario, as the header of a log has them; '' where there is none."""
    if not _there(log):
        return "", ""
    try:
        head = SavedLog(Path(log)).header
    except LogReadFault:
        return "", ""
    return clip(head.get("title", ""), 400), clip(head.get("why", ""), 4000)


def _there(log: str) -> bool:
    """Whether a document's path leads to a file; what is no path at all does not."""
    try:
        return bool(log) and Path(log).is_file()
    except (OSError, ValueError):
        return False


def _presets(cells: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(cell["preset"] for cell in cells))


def _scenario(number: int, scenario: Mapping[str, Any], beside: Path, pages: Mapping[str, Path]) -> dict[str, Any]:
    cells = [_cell(f"s{number}c{i}", cell, beside, pages) for i, cell in enumerate(_lists(scenario, "cells"))]
    hazards = list(dict.fromkeys(h for cell in cells for h in cell["hazards"]))
    metrics = list(dict.fromkeys(m for cell in cells for m in cell["metrics"]))
    asked = next((words for cell in _lists(scenario, "cells") if any(words := _asked(_log(cell)))), ("", ""))
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for cell in cells:
        rows.setdefault(cell["rest"], {}).setdefault(cell["preset"], []).append(cell)
    return {
        "id": f"s{number}", "name": clip(scenario["name"]), "verdict": scenario["verdict"], "cells": cells, "rows": rows,
        "hazards": [h for h in HAZARDS if h in hazards] + [h for h in hazards if h not in HAZARDS], "metrics": metrics,
        "title": asked[0], "why": asked[1], "missed": [clip(name) for name in scenario.get("missed", [])],
        "presets": _presets(cells),
        "vmpte": max((cell["metrics"].get("VmPTE_kB_max", 0) for cell in cells), default=0),
    }  # fmt: skip


def _cell(anchor: str, cell: Mapping[str, Any], beside: Path, pages: Mapping[str, Path]) -> dict[str, Any]:
    verdict = cell["verdict"] if cell["verdict"] in MARKS else "inconclusive"
    schedules = int(cell["schedules"])
    states = [_state(each, schedules) for each in _lists(cell, "final_states")]
    left = int(cell.get("final_states_not_listed", 0)) + sum(each["count"] for each in states[_STATES:])
    expectations = [_expectation(each) for each in _lists(cell, "expectations")]
    witness = dict(cell["witness"]) if isinstance(cell.get("witness"), dict) else None
    log = _log(cell)
    return {
        "id": anchor, "index": cell["index"], "name": clip(cell["name"]) or "the only cell", "preset": clip(cell["preset"]),
        "rest": clip(" ".join(re.sub(r"preset=\S+", "", str(cell["name"])).split())), "verdict": verdict,
        "schedules": schedules, "strategy": clip(cell["strategy"]), "seed": cell["seed"],
        "hazards": {clip(name): int(count) for name, count in cell["hazards"].items()},
        "metrics": {clip(name): value for name, value in cell["metrics"].items() if isinstance(value, int | float)},
        "reasons": [clip(reason, 400) for reason in cell.get("reasons", [])],
        "statuses": _shares(cell.get("statuses"), schedules), "members": _members(cell),
        "expectations": expectations, "states": states[:_STATES], "left": left,
        "witness": {"why": clip(witness.get("why", "")), "replay": clip(witness.get("replay", ""), 1000)} if witness else None,
        "log": link(log, beside) if log else "", "page": link(str(pages[log]), beside) if log in pages else "",
    }  # fmt: skip


def _shares(table: object, schedules: int) -> list[dict[str, Any]]:
    """How runs ended, as bars."""
    if not isinstance(table, dict):
        return []
    return [
        {"name": clip(name, 40), "count": int(count), "share": 100 * int(count) / schedules if schedules else 0}
        for name, count in table.items()
    ]


def _members(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each strategy of a portfolio has done."""
    members = cell.get("members")
    if not isinstance(members, dict):
        return []
    return [
        {
            "name": clip(name, 40), "schedules": int(m["schedules"]), "new": int(m["new"]),
            "hazards": [(clip(hazard), int(count)) for hazard, count in m["hazards"].items()],
        }
        for name, m in members.items()
    ]  # fmt: skip


def _expectation(each: Mapping[str, Any]) -> dict[str, Any]:
    verdict = each["verdict"] if each["verdict"] in MARKS else "inconclusive"
    return {
        "kind": clip(each["kind"]), "condition": clip(each["condition"], 300), "verdict": verdict,
        "method": clip(each["method"]), "hits": int(each["hits"]), "schedules": int(each["schedules"]),
    }  # fmt: skip


def _state(each: Mapping[str, Any], schedules: int) -> dict[str, Any]:
    count = int(each["count"])
    text = "; ".join(f"{clip(name, 60)}={clip(value, 40)}" for name, value in list(each["state"].items())[:16])
    share = 100 * count / schedules if schedules else 0
    return {"count": count, "share": share, "text": clip(text, 300) or "(nothing to tell apart)"}


def link(target: str, beside: Path) -> str:
    """A relative address for a file; never one that a browser takes for another scheme or host."""
    relative = os.path.relpath(target, beside)
    return "./" + quote(relative.encode("utf-8", "surrogateescape")) if not os.path.isabs(relative) else ""
