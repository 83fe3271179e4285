"""What ``ptactors prove`` says and keeps: lines, a JSON document, and a schedule for each hazard that was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.scenario.model import Scenario
    from ptactors.world.prove import Answer, Mutant, Proof

Witnesses = dict[str, Path]
"""Hazard -> the schedule that shows it."""


def keep(scenario: Scenario, proof: Proof, log_dir: Path) -> Witnesses:
    """Make a run of each path that was found and write its schedule."""
    from ptactors.campaign.witness import slug
    from ptactors.engine.strategy.guide import Guide
    from ptactors.world import play

    files = {}
    folder = log_dir / slug(scenario.name) / slug(proof.cell.name)
    for hazard, turns in proof.hazards.items():
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"prove-{hazard}.schedule.json"
        run = play(scenario, proof.cell, strategy="prove", seed=0, record=True, host="direct", by=Guide(turns))
        run.schedule.save(file)
        files[hazard] = file
    return files


def text(scenario: Scenario, proof: Proof, witnesses: Witnesses) -> list[str]:
    """The lines of one cell."""
    searched = proof.searched
    end = "the search emptied" if searched.complete else "cut off by --max-states"
    lines = [
        f"Cell {scenario.name}/{proof.cell.index}  {proof.cell.name}",
        f"  searched {searched.states} states, {searched.transitions} steps, {searched.finals} final, "
        f"depth {searched.deepest}: {end}",
    ]
    if not searched.complete:
        lines += [f"  {line}" for line in _too_large(scenario, proof)]
    for answer in proof.answers:
        lines.append(f"Observation {scenario.name}/{proof.cell.index} {_word(answer, proof)}")
        lines.append(f"  {_sentence(answer, proof)}")
        if answer.mutant is not None:
            lines.append(f"  {_mutant(answer.mutant)}")
    for hazard, turns in proof.hazards.items():
        lines.append(f"  hazard({hazard}) first after {len(turns)} steps: ptactors replay {witnesses[hazard]}")
    return lines + [f"  {line}" for line in _bounds(scenario, proof)]


def _too_large(scenario: Scenario, proof: Proof) -> list[str]:
    """How large the search would have become, and what can be asked instead."""
    from ptactors.engine.estimate import total_states
    from ptactors.scenario.load import find

    guess = total_states(proof.searched.levels)
    size = f"about {guess:.1e} states in all (a guess)" if guess is not None else "its growth does not slow down yet: no guess"
    fewer = 1 if proof.bounds.preemptions is None else proof.bounds.preemptions - 1
    ways = [f"--max-states {2 * max(guess, proof.bounds.max_states)}" if guess is not None else "a higher --max-states"]
    ways += [f"--preemptions {fewer} (all paths with so few)"] if fewer >= 0 else []
    small = f"prove-{scenario.name.partition('-')[0]}"
    try:
        find((small,))
    except UsageError:
        pass
    else:
        ways += [f"`ptactors prove {small}`, a smaller scenario of the same race"] if small != scenario.name else []
    return [f"too large: {size}; what was found holds, what was not found is open", f"instead: {'; or '.join(ways)}"]


def _word(answer: Answer, proof: Proof) -> str:
    if answer.witness is not None and answer.kind != "always":
        return "Sometimes"
    return "Never" if answer.verdict == "held" and answer.kind == "forbidden" and proof.bounds.preemptions is None else "-"


def _sentence(answer: Answer, proof: Proof) -> str:
    if answer.verdict == "held" and answer.kind != "exists":
        what = f"{answer.kind} {answer.condition}: {proof.searched.states} states"
        return f"held, exhaustive within the bounds below: {what}"
    return f"{answer.verdict}: {answer.kind} {answer.condition}: {answer.reason}"


def _mutant(mutant: Mutant) -> str:
    knobs = " ".join(f"{axis}={value}" for axis, value in mutant.knobs)
    return f"  mutant {knobs}: caught under the same bounds, after {mutant.steps} steps ({mutant.states} states looked at)"


def _bounds(scenario: Scenario, proof: Proof) -> list[str]:
    machine = proof.cell.config.machine
    fills = scenario.speculative_fills if scenario.speculate else 0
    n = proof.searched.states
    most, refused = proof.bounds.preemptions, proof.searched.refused
    bound = "unbounded" if most is None else f"at most {most} ({refused} steps would have made one more)"
    lines = [
        f"bounds: {machine.cpus} CPUs, the programs of the file, {fills} speculative fills a CPU, preemptions {bound};",
        "retries and grace periods unbounded; processes do not exit; sequentially consistent memory",
        f"assumes: equal 128-bit digests are equal states (chance of a clash below {n * n / 2**129:.0e}); "
        f"{proof.merges} merged histories audited",
    ]
    searched = proof.searched
    if searched.passes:
        many = f"{searched.fused} of {searched.transitions} steps made at once with the one before"
        lines.append(f"reduction: on; {many}, as what others could do meanwhile")
        lines.append(
            f"commutes, which was checked on the way (search begun {_times(searched.passes)}); --every-step does without"
        )
    else:
        lines.append("reduction: off; every state between two steps was looked at")
    if proof.unmoved:
        lines.append(f"had nothing to do: {', '.join(proof.unmoved)}")
    if scenario.fault.rcu_callbacks == "late":
        lines.append("RCU callbacks wait for the programs' end, behind which the search does not look")
    return lines


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def document(scenario: Scenario, proofs: Sequence[tuple[Proof, Witnesses]]) -> dict[str, Any]:
    """The JSON of one scenario."""
    from ptactors.campaign.verdict import worst

    return {
        "name": scenario.name,
        "digest": scenario.digest,
        "verdict": worst([answer.verdict for proof, _ in proofs for answer in proof.answers]),
        "cells": [_cell(proof, witnesses) for proof, witnesses in proofs],
    }


def _cell(proof: Proof, witnesses: Witnesses) -> dict[str, Any]:
    searched = proof.searched
    return {
        "index": proof.cell.index,
        "name": proof.cell.name,
        "knobs": proof.cell.config.as_dict(),
        "states": searched.states,
        "transitions": searched.transitions,
        "complete": searched.complete,
        "reduction": {
            "on": searched.passes > 0,
            "fused": searched.fused,
            "passes": searched.passes,
        },
        "bounds": {"max_states": proof.bounds.max_states, "preemptions": proof.bounds.preemptions},
        "hazards": {name: {"steps": len(turns), "schedule": str(witnesses[name])} for name, turns in proof.hazards.items()},
        "expectations": [
            {
                "kind": answer.kind,
                "condition": answer.condition,
                "verdict": answer.verdict,
                "method": "exhaustive",
                "reason": answer.reason,
                "mutant": None
                if answer.mutant is None
                else {"knobs": dict(answer.mutant.knobs), "steps": answer.mutant.steps, "states": answer.mutant.states},
            }
            for answer in proof.answers
        ],
    }
