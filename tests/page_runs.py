"""Logs for tests of report pages: case 1 as it is, and one in which every name is an attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_world import ACTORS

from ptactors.campaign.names import known_names
from ptactors.campaign.witness import write_outcome
from ptactors.log.write import write_log
from ptactors.model import event as ev
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "a\nb\r\n</pre>", "]]>--><!--", "x" * 10_000,
           "{{7*7}}\u2028#;")  # fmt: skip


def case1(folder: Path) -> Path:
    """The first schedule of case 1 that shows the hazard, as a log."""
    scenario = load(ROOT / "scenarios" / "case1-mixed-page-size.toml", known_names())
    cell = next(c for c in cells(scenario) if c.preset == "rfc-v1" and c.name.endswith("=n"))
    for seed in range(200):
        outcome = play(scenario, cell, strategy="run-length", seed=seed, record=True, host="direct")
        if any(f.hazard == "mixed_page_size_tlb" for f in outcome.findings):
            path = folder / "case1.jsonl"
            write_outcome(path, outcome, scenario)
            return path
    raise AssertionError("case 1 was not seen in 200 schedules")


def write(path: Path, records: Any, **header: Any) -> Path:
    """A log of these records."""
    named = dict.fromkeys(("version", "scenario", "title", "why", "strategy"), "x")
    head = {"tool": "ptactors", **named, "cell": "", "knobs": {}}
    write_log(path, {**head, **header}, ACTORS, records, causes={}, functions={}, ending={"status": "complete", "reason": ""})
    return path


def hostile_log(folder: Path) -> Path:
    """A log in which every text that can come from a scenario is hostile."""
    names = [n for n in HOSTILE for _ in range(2)]
    records: list[Any] = [(0, -1, ev.VmaInit(-1, n, n, i << 22, (i << 22) + 4096, "anon")) for i, n in enumerate(names)]
    for i, n in enumerate(names, 1):
        records += [
            (4 * i, 0, ev.OpBegin(0, n, n, n)),
            (4 * i, 0, ev.LockAcquire(0, n, n, n)),
            (4 * i + 1, 0, ev.TlbFill(0, n, 0, (i - 1) << 22, 4096, 7 + i, 1, True, True, 5, 1, False)),
            (4 * i + 1, 0, ev.MemWrite(0, n, n, (i - 1) << 22, 7 + i, 1, 4096, n, n)),
            (4 * i + 2, 0, ev.CallRcu(0, n, i)),
            (4 * i + 2, 0, ev.Register(0, n, n)),
            (4 * i + 3, 0, ev.OpEnd(0, n, n, n)),
        ]
    records.append((4 * len(names) + 5, 0, ev.Stuck(0, "deadlock", HOSTILE[0])))
    attack = " ".join(HOSTILE)
    return write(
        folder / "hostile.jsonl", records, scenario=attack, title=attack, why=attack, cell=f"preset={attack} thp={attack}",
        strategy=attack, seed=attack, knobs={"thp": attack}, version=attack,
    )  # fmt: skip


def hostile_document() -> dict[str, Any]:
    """A document in which every text is hostile."""
    attack = " ".join(HOSTILE)
    cell = {
        "index": 0, "name": f"preset={attack}", "preset": attack, "hardware": attack, "verdict": "held", "reasons": [attack],
        "knobs": {attack: attack}, "strategy": attack, "seed": 0, "schedules": 3, "hazards": {attack: 2},
        "expectations": [{"kind": attack, "condition": attack, "verdict": attack, "method": attack, "hits": 1, "schedules": 3}],
        "final_states": [{"count": 3, "state": {attack: attack}}], "final_states_not_listed": 0,
        "metrics": {attack: 4, "VmPTE_kB_max": 4},
        "witness": {"seed": 1, "why": attack, "replay": attack, "schedule": attack, "log": "javascript:alert(1)//" + attack},
    }  # fmt: skip
    return {
        "tool": "ptactors", "version": attack, "verdict": attack, "interrupted": True,
        "scenarios": [{"name": attack, "digest": attack, "verdict": "held", "missed": [attack], "cells": [cell]}],
    }  # fmt: skip


def stress_document(text: str = "stress-8cpu", log: str = "case1.jsonl") -> dict[str, Any]:
    """The document of a stress campaign with a failure; ``text`` stands where a name can."""
    seen = {"schedules": 2, "seed": 1}
    kind = {"seen": 5, "growth": [[1, 2], [2, 4], [6, 5]]}
    cell = {
        "name": f"{text} preset=v6.14", "preset": "v6.14", "verdict": "violated", "strategy": None, "first": 0, "schedules": 6,
        "steps": 99, "statuses": {"complete": 5, "deadlock": 1}, "failing": 2, "violated": {text: seen},
        "known": {"leak": {**seen, "scenarios": [text]}}, "hazards": {"leak": {**seen, "severity": "violation"}},
        "final_states": [{"count": 6, "state": {text: text}}], "final_states_not_listed": 0, "metrics": {"VmPTE_kB_max": 8},
    }  # fmt: skip
    failure = {"cell": cell["name"], "mix": None, "seed": 1, "why": [text], "replay": f"ptactors run {text}", "scenario": None,
               "schedule": None, "log": log}  # fmt: skip
    return {
        "tool": "ptactors", "version": "1", "verdict": "violated", "interrupted": False,
        "scenarios": [text], "presets": ["v6.14"],
        "cells": [cell], "failures": [failure, {**failure, "seed": 2, "log": None}], "failures_not_listed": 0,
        "coverage": {"sampling_units": 6, "branches": {**kind, "never": [text]}, "pairs": kind, "states": kind},
    }  # fmt: skip
