"""The document of a stress campaign in the form that the campaign page draws: its cells by scenario, growth, what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ptactors.log.read import LogReadFault, SavedLog
from ptactors.model import event as ev
from ptactors.report.page import clip
from ptactors.report.page_chart import Chart, Points, chart

DOCUMENT = "campaign.json"
"""Its name in the folder of a campaign."""
MIXES = "random mixes"
DRAWN = 6
"""Runs whose page tables are drawn over time."""
LISTED = 100
"""Failing schedules that are listed."""
TITLES = {
    "branches": "Coverage: distinct steps and events",
    "pairs": "Coverage: distinct pairs of neighbouring steps of two actors on one object",
    "states": "Coverage: distinct states",
}


@attrs.frozen(kw_only=True)
class Failure:
    """One failing schedule."""

    cell: str
    seed: int
    why: str
    replay: str
    log: str
    """Its file; '' where none was kept."""
    scenario: str
    """The file of what it was a schedule of; '' where none was kept."""


def is_stress(document: Any) -> bool:
    """Whether a JSON document is one of ``ptactors stress``."""
    return isinstance(document, dict) and isinstance(document.get("cells"), list) and isinstance(document.get("coverage"), dict)


def as_campaign(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document as one of ``ptactors run --json``; ``folder`` is where its files are.

    Raises KeyError, TypeError, AttributeError or ValueError where it is not whole.
    """
    found = list(failures(document, folder))
    scenarios: dict[str, list[dict[str, Any]]] = {}
    for cell in document["cells"]:
        words = str(cell["name"]).split()
        mixes = document["scenarios"] == MIXES
        cells = scenarios.setdefault(MIXES if mixes else words[0], [])
        name = f"preset={cell['preset']}" if mixes else " ".join(words[1:])
        cells.append(_cell(len(cells), name, cell, next((f for f in found if f.cell == cell["name"]), None)))
    return {
        "tool": "ptactors", "version": document["version"], "verdict": document["verdict"], "stress": True,
        "interrupted": document.get("interrupted", False), "never": _texts(document["coverage"].get("branches"), "never"),
        "scenarios": [
            {"name": name, "verdict": "", "missed": [], "cells": cells} for name, cells in scenarios.items()
        ],
    }  # fmt: skip


def _cell(index: int, name: str, cell: Mapping[str, Any], failure: Failure | None) -> dict[str, Any]:
    reasons = [f"violated by {why}: {seen['schedules']} schedules, first with seed {seen['seed']}" for why, seen in
               cell["violated"].items()]  # fmt: skip
    for hazard, seen in cell["known"].items():
        where = ", ".join(map(str, seen["scenarios"][:3])) or "it"
        reasons.append(f"{hazard} in {seen['schedules']} schedules is known of this kernel: {where} shows it")
    made: dict[str, Any] = {
        "index": index, "name": name, "preset": cell["preset"], "verdict": cell["verdict"],
        "strategy": cell["strategy"] or "drawn for each mix", "seed": cell["first"], "schedules": cell["schedules"],
        "hazards": {hazard: seen["schedules"] for hazard, seen in cell["hazards"].items()}, "expectations": [],
        "reasons": reasons, "metrics": cell["metrics"], "final_states": cell["final_states"],
        "final_states_not_listed": cell["final_states_not_listed"], "statuses": cell["statuses"],
    }  # fmt: skip
    if failure is not None:
        made["witness"] = {"seed": failure.seed, "why": failure.why, "replay": failure.replay, "log": failure.log}
    return made


def failures(document: Mapping[str, Any], folder: Path) -> Iterator[Failure]:
    """The failing schedules that the document lists."""
    for each in document.get("failures", [])[:LISTED]:
        yield Failure(
            cell=str(each["cell"]), seed=int(each["seed"]), why=", ".join(map(str, each["why"])), replay=str(each["replay"]),
            log=_file(folder, each.get("log")), scenario=_file(folder, each.get("scenario")),
        )  # fmt: skip


def _file(folder: Path, name: object) -> str:
    return str(folder / name) if isinstance(name, str) and name else ""


def _texts(table: object, key: str) -> list[str]:
    found = table.get(key, []) if isinstance(table, dict) else []
    return [clip(each, 60) for each in found] if isinstance(found, list) else []


def growth(document: Mapping[str, Any]) -> Iterator[Chart]:
    """A chart for each kind of coverage."""
    for kind, title in TITLES.items():
        table = document["coverage"].get(kind)
        if isinstance(table, dict):
            points = [(int(runs), int(items)) for runs, items in table.get("growth", [])]
            made = chart(title, "schedules", {"all cells": points} if points else {})
            if made is not None:
                yield made


def vmpte_over_time(logs: list[tuple[str, str]]) -> Chart | None:
    """The page tables of the first of these runs over time; each is (name, log)."""
    lines: dict[str, Points] = {}
    for name, log in logs:
        if len(lines) == DRAWN:
            break
        points = _sizes(log)
        if points:
            lines[clip(name, 70)] = points
    return chart("VmPTE over time, in kB", "steps", lines)


def _sizes(log: str) -> list[tuple[int, int]]:
    try:
        records = list(SavedLog(Path(log)).records()) if log and Path(log).is_file() else []
    except (LogReadFault, OSError, ValueError):
        return []
    total: dict[str, int] = {}
    points: list[tuple[int, int]] = []
    for step, _, event in records:
        if type(event) is ev.PgtablesBytes:
            total[event.mm] = event.value
            points.append((max(step, 0), sum(total.values()) // 1024))
    return points
