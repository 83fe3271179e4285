"""``ptactors prove``: every interleaving of small scenarios, and what follows from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.options import check_preset, parse_settings

if TYPE_CHECKING:
    from ptactors.scenario.matrix import Cell
    from ptactors.scenario.model import Scenario
    from ptactors.world.prove import Answer, Proof

Witnesses = dict[tuple[int, str], Path]
EXIT = {"held": 0, "violated": 1, "inconclusive": 3}


@click.command("prove")
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--set", "settings", multiple=True, metavar="KNOB=VALUE", help="Set a knob over the scenario; repeatable.")
@click.option("--preset", metavar="NAME", help="Use this kernel instead of the scenario's.")
@click.option("--cell", "only", multiple=True, metavar="NAME", help="Only this cell, by name or number; repeatable.")
@click.option("--max-states", type=click.IntRange(1), default=1_000_000, show_default=True, help="Where a search is cut off.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--log-dir", type=click.Path(path_type=Path), default=Path("logs"), help="Where witnesses go.", show_default=True)
def command(scenarios: tuple[str, ...], **options: Any) -> int:
    """Search scenarios exhaustively, cell by cell, and say what holds in all interleavings.

    "Never" is said only of a search that emptied, of the model and not of Linux, and only if the same search found the hazard
    in a cell where the fix is off.
    """
    from ptactors.campaign.run import Plan, prepare
    from ptactors.campaign.verdict import worst
    from ptactors.scenario.load import find

    overrides = tuple(parse_settings(options["settings"]).items())
    documents, verdicts = [], []
    for path in find(scenarios):
        plan = Plan(path=str(path), overrides=overrides, preset=check_preset(options["preset"]), only=options["only"])
        batch = prepare(plan)
        proofs = _prove(batch.scenario, batch.cells, options["max_states"])
        verdict = worst([answer.verdict for proof in proofs for answer in proof.answers])
        verdicts.append(verdict)
        witnesses = _keep(batch.scenario, batch.cells, proofs, options["log_dir"])
        documents.append(_document(batch.scenario, proofs, verdict, witnesses))
        if not options["as_json"]:
            for proof in proofs:
                print("\n".join(_text(batch.scenario, proof, witnesses)))
    verdict = worst(verdicts)
    if options["as_json"]:
        from ptactors import __version__

        print(json.dumps({"tool": "ptactors", "version": __version__, "verdict": verdict, "scenarios": documents}, indent=2))
    else:
        print(f"Verdict: {verdict}; of the model, not of Linux")
    return EXIT[verdict]


def _prove(scenario: Scenario, cells: tuple[Cell, ...], max_states: int) -> list[Proof]:
    from ptactors.world.prove import CellSearch, settle

    proofs = []
    for cell in cells:
        search = CellSearch(scenario, cell)

        def progress(searched: Any, frontier: int, cell: Cell = cell) -> None:
            if sys.stderr.isatty():
                print(
                    f"\r{cell.name}: {searched.states} states, {frontier} to go, depth {searched.deepest} ",
                    end="",
                    file=sys.stderr,
                )

        proofs.append(search.run(max_states, progress))
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    return settle(proofs)


def _keep(scenario: Scenario, batch_cells: tuple[Cell, ...], proofs: list[Proof], log_dir: Path) -> Witnesses:
    """Make a run of each path that was found and write its schedule: (cell, hazard) -> file."""
    from ptactors.campaign.witness import slug
    from ptactors.engine.strategy.guide import Guide
    from ptactors.world import play

    files = {}
    for cell, proof in zip(batch_cells, proofs, strict=True):
        folder = log_dir / slug(scenario.name) / slug(cell.name)
        for hazard, turns in proof.hazards.items():
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"prove-{hazard}.schedule.json"
            run = play(scenario, cell, strategy="prove", seed=0, record=True, host="direct", by=Guide(turns))
            run.schedule.save(file)
            files[cell.index, hazard] = file
    return files


def _text(scenario: Scenario, proof: Proof, witnesses: Witnesses) -> list[str]:
    searched = proof.searched
    end = "the search emptied" if searched.complete else "cut off by --max-states"
    lines = [
        f"Cell {scenario.name}/{proof.cell.index}  {proof.cell.name}",
        f"  searched {searched.states} states, {searched.transitions} steps, {searched.finals} final, "
        f"depth {searched.deepest}: {end}",
    ]
    for answer in proof.answers:
        lines += [
            f"Observation {scenario.name}/{proof.cell.index} {_word(answer, searched.complete)}",
            f"  {_sentence(answer, proof)}",
        ]
    for hazard, turns in proof.hazards.items():
        file = witnesses[proof.cell.index, hazard]
        lines.append(f"  hazard({hazard}) first after {len(turns)} steps: ptactors replay {file}")
    lines += [f"  {line}" for line in _bounds(scenario, proof)]
    return lines


def _word(answer: Answer, complete: bool) -> str:
    if answer.witness is not None and answer.kind != "always":
        return "Sometimes"
    return "Never" if complete and answer.verdict == "held" and answer.kind == "forbidden" else "-"


def _sentence(answer: Answer, proof: Proof) -> str:
    if answer.verdict == "held" and answer.kind != "exists":
        return f"held, exhaustive within the bounds below: {answer.kind} {answer.condition}: {proof.searched.states} states"
    return f"{answer.verdict}: {answer.kind} {answer.condition}: {answer.reason}"


def _bounds(scenario: Scenario, proof: Proof) -> list[str]:
    machine = proof.cell.config.machine
    fills = scenario.speculative_fills if scenario.speculate else 0
    n = proof.searched.states
    return [
        f"bounds: {machine.cpus} CPUs, the programs of the file, {fills} speculative fills a CPU; retries, grace periods and",
        "preemptions unbounded; processes do not exit; sequentially consistent memory",
        f"assumes: equal 128-bit digests are equal states (chance of a clash below {n * n / 2**129:.0e}); "
        f"{proof.merges} merged histories audited",
    ]


def _document(scenario: Scenario, proofs: list[Proof], verdict: str, witnesses: Witnesses) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "digest": scenario.digest,
        "verdict": verdict,
        "cells": [
            {
                "index": proof.cell.index,
                "name": proof.cell.name,
                "knobs": proof.cell.config.as_dict(),
                "states": proof.searched.states,
                "transitions": proof.searched.transitions,
                "complete": proof.searched.complete,
                "hazards": {
                    name: {"steps": len(turns), "schedule": str(witnesses[proof.cell.index, name])}
                    for name, turns in proof.hazards.items()
                },
                "expectations": [
                    {
                        "kind": answer.kind,
                        "condition": answer.condition,
                        "verdict": answer.verdict,
                        "method": "exhaustive",
                        "reason": answer.reason,
                    }
                    for answer in proof.answers
                ],
            }
            for proof in proofs
        ],
    }
