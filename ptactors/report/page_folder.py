"""A folder of logs as the document of a campaign: counted from the logs alone, since nobody's expectations stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors import __version__
from ptactors.errors import UsageError
from ptactors.log.read import LogReadFault
from ptactors.model import event as ev
from ptactors.model.event import event_name
from ptactors.oracle.table import HAZARDS
from ptactors.report.page import clip
from ptactors.report.page_run import Run, read_run


@attrs.frozen(kw_only=True)
class Growth:
    """What more schedules gave: after each run how much had been seen."""

    coverage: tuple[tuple[int, int], ...]
    """(runs, distinct pairs of event and kernel function)."""
    hazards: dict[str, tuple[tuple[int, int], ...]]
    """Strategy -> (its runs, distinct hazards seen by it)."""
    vmpte: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    """(name of the run, (step, kB of page tables)) for the first runs."""


@attrs.define
class _Cell:
    name: str
    knobs: dict[str, Any]
    strategy: str
    seed: int
    schedules: int = 0
    hazards: dict[str, int] = attrs.field(factory=dict)
    states: dict[str, tuple[int, dict[str, Any]]] = attrs.field(factory=dict)
    vmpte: dict[str, int] = attrs.field(factory=dict)
    """The most of all runs; start and end are those of the last."""
    steps: int = 0
    witness: tuple[str, int, str, str] | None = None
    """Log, seed, hazard, command."""
    reasons: list[str] = attrs.field(factory=list)


_VMPTE = 6
"""Runs whose page tables are drawn over time."""


class _Reader:
    """Counts run after run."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], _Cell] = {}
        self.seen: dict[tuple[str, str], None] = {}
        self.coverage: list[tuple[int, int]] = []
        self.by_strategy: dict[str, tuple[list[tuple[int, int]], dict[str, None]]] = {}
        self.vmpte: list[tuple[str, tuple[tuple[int, int], ...]]] = []

    def add(self, path: Path, run: Run) -> None:
        scenario, cell_name = run.text("scenario"), run.text("cell")
        knobs = run.header.get("knobs")
        seed = run.header.get("seed")
        number = seed if isinstance(seed, int) else 0
        cell = self.cells.setdefault(
            (scenario, cell_name), _Cell(cell_name, knobs if isinstance(knobs, dict) else {}, run.text("strategy"), number)
        )
        cell.schedules += 1
        self._count(cell, run)
        if run.findings and cell.witness is None:
            cell.witness = str(path), number, run.findings[0].hazard, run.command
        if run.fault:
            cell.reasons.append(f"{path.name}: {clip(run.fault, 200)}")
        points, known = self.by_strategy.setdefault(run.text("strategy") or "?", ([], {}))
        known.update(dict.fromkeys(f.hazard for f in run.findings))
        points.append((len(points) + 1, len(known)))
        for step, _, event in run.records:
            self.seen[event_name(event), run.functions.get(step, "").split(" <- ", 1)[0]] = None
        self.coverage.append((len(self.coverage) + 1, len(self.seen)))

    def _count(self, cell: _Cell, run: Run) -> None:
        for hazard in dict.fromkeys(f.hazard for f in run.findings):
            cell.hazards[hazard] = cell.hazards.get(hazard, 0) + 1
        state = {f"cpu{e.cpu}:{e.reg}": e.value for _, _, e in run.records if type(e) is ev.Register}
        key = repr(state)
        cell.states[key] = cell.states.get(key, (0, state))[0] + 1, state
        sizes = [(step, e.value // 1024) for step, _, e in run.records if type(e) is ev.PgtablesBytes]
        done = next((step for step, _, e in run.records if type(e) is ev.ProgramsDone), cell.steps)
        cell.vmpte = {
            "VmPTE_kB_start": next((value for step, value in reversed(sizes) if step <= 0), 0),
            "VmPTE_kB_max": max([cell.vmpte.get("VmPTE_kB_max", 0), *(value for _, value in sizes)]),
            "VmPTE_kB_end": next((value for step, value in reversed(sizes) if step <= done), 0),
        }
        cell.steps = max(cell.steps, run.records[-1][0] if run.records else 0)
        if sizes and len(self.vmpte) < _VMPTE:
            self.vmpte.append((clip(f"{run.text('scenario')} {run.text('cell')} seed {run.text('seed')}", 70), tuple(sizes)))


def read_folder(folder: Path) -> tuple[dict[str, Any], Growth, tuple[str, ...]]:
    """Document, growth and faults of all logs below a folder, in the order of their names. Raises UsageError if there is none."""
    reader, faults = _Reader(), []
    paths = sorted(folder.rglob("*.jsonl"), key=lambda path: [_natural(part) for part in path.parts])
    for path in paths:
        try:
            run = read_run(path)
        except LogReadFault as fault:
            faults.append(clip(str(fault), 300))
            continue
        reader.add(path, run)
    if not reader.cells:
        raise UsageError(f"{folder}: there is no log (*.jsonl) in this folder that could be read")
    growth = Growth(
        coverage=tuple(reader.coverage), vmpte=tuple(reader.vmpte),
        hazards={clip(name, 40): tuple(points) for name, (points, _) in reader.by_strategy.items()},
    )  # fmt: skip
    return _document(reader.cells), growth, tuple(faults)


def _natural(part: str) -> tuple[str, int, str]:
    """``seed-2`` before ``seed-10``."""
    digits = "".join(c for c in part if c.isdigit())
    return "".join("0" if c.isdigit() else c for c in part).replace("00", "0"), int(digits[:18] or 0), part


def _document(table: dict[tuple[str, str], _Cell]) -> dict[str, Any]:
    scenarios: dict[str, list[dict[str, Any]]] = {}
    for (scenario, _), cell in table.items():
        cells = scenarios.setdefault(scenario, [])
        cells.append(_cell(len(cells), cell))
    return {
        "tool": "ptactors",
        "version": __version__,
        "verdict": _worst([cell["verdict"] for cells in scenarios.values() for cell in cells]),
        "from_logs": True,
        "scenarios": [
            {"name": name, "verdict": _worst([cell["verdict"] for cell in cells]), "missed": [], "cells": cells}
            for name, cells in scenarios.items()
        ],
    }


def _worst(verdicts: Sequence[str]) -> str:
    return next((verdict for verdict in ("violated", "inconclusive") if verdict in verdicts), "held")


def _cell(index: int, cell: _Cell) -> dict[str, Any]:
    violations = [name for name in cell.hazards if HAZARDS[name].severity.value == "violation"]
    states = sorted(cell.states.values(), key=lambda item: -item[0])
    verdict = "violated" if violations else "inconclusive" if cell.reasons else "held"
    preset = next((word[7:] for word in cell.name.split() if word.startswith("preset=")), "as recorded")
    document: dict[str, Any] = {
        "index": index, "name": cell.name, "preset": preset, "verdict": verdict,
        "strategy": cell.strategy, "seed": cell.seed, "schedules": cell.schedules, "hazards": dict(sorted(cell.hazards.items())),
        "expectations": [], "reasons": cell.reasons[:5], "metrics": {**cell.vmpte, "steps_max": cell.steps},
        "final_states": [{"count": count, "state": state} for count, state in states[:100]],
        "final_states_not_listed": sum(count for count, _ in states[100:]),
    }  # fmt: skip
    if cell.witness:
        log, seed, hazard, command = cell.witness
        document["witness"] = {"seed": seed, "why": f"hazard({hazard})", "replay": command, "schedule": None, "log": log}
    return document
