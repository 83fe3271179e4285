"""The other half of "never": the same search must find the hazard where the fix is off, or it might have been blind.

A ``forbidden`` or ``always`` names in ``when`` the knobs on which it rests. Its mutants are cells that differ from its own in
some of those: each one switched, then each together with those that other such expectations rest on in the same cell (where two
fixes do the same, one of them off shows nothing). The file often says itself where the hazard is; such a mutant comes first.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESETS
from ptactors.scenario.matrix import Cell, applies, cells
from ptactors.scenario.model import Expectation, Scenario
from ptactors.scenario.shape import knob_text
from ptactors.world.prove import HELD, INCONCLUSIVE, Answer, CellSearch, Mutant, Proof

MOST = 24
"""Mutants of one expectation that are searched."""
Change = tuple[tuple[str, Any], ...]
"""Knobs with their values in a mutant."""
Given = Mapping[str, object]
"""Knobs set over the file."""


def settle(scenario: Scenario, proof: Proof, given: Given, extra: Given) -> Proof:
    """The proof with each "never" either backed by a mutant or made inconclusive.

    ``extra``, knobs of the user's choice, is tried on expectations whose own knobs show nothing.
    """
    answers = []
    for expect, answer in zip(proof.cell.expects, proof.answers, strict=True):
        if answer.verdict == HELD and answer.kind != "exists":
            answer = _backed(scenario, proof, expect, answer, given, tuple(extra.items()))
        answers.append(answer)
    return attrs.evolve(proof, answers=tuple(answers))


def _backed(scenario: Scenario, proof: Proof, expect: Expectation, answer: Answer, given: Given, extra: Change) -> Answer:
    changes = [*itertools.islice(_changes(scenario, proof.cell, given, expect), MOST), *([extra] if extra else [])]
    tried = 0
    for change in changes:
        cell = _changed(scenario, proof.cell, given, change)
        if cell.config == proof.cell.config:
            continue
        tried += 1
        found = CellSearch(scenario, cell, proof.bounds).look_for(expect)
        if found is not None:
            steps, states = found
            knobs = tuple((axis, knob_text(value)) for axis, value in change)
            return attrs.evolve(answer, mutant=Mutant(knobs=knobs, steps=steps, states=states))
    if tried:
        why = f"{answer.reason}, but in none of {tried} mutants either: nothing says that the search could find it"
    else:
        why = f"{answer.reason}, but its when names no knob: with which one off should it show? Say so with --mutant KNOB=VALUE"
    return attrs.evolve(answer, verdict=INCONCLUSIVE, reason=why)


def _changed(scenario: Scenario, cell: Cell, given: Given, change: Change) -> Cell:
    """The cell with these knobs instead of its own."""
    (made,) = cells(scenario, {**given, **cell.knobs, **dict(change)})
    return made


def _changes(scenario: Scenario, cell: Cell, given: Given, expect: Expectation) -> Iterator[Change]:
    """What to switch, the most promising first; single switches before several at once."""
    own = {axis: _others(scenario, axis, expect) for axis in expect.when}
    more = dict(own)
    for other in _allies(cell, expect):
        for axis in other.when:
            more.setdefault(axis, _others(scenario, axis, other))
    found: list[Change] = [((axis, value),) for axis, values in own.items() for value in values]
    for size in range(2, len(more) + 1):
        for axes in itertools.combinations(more, size):
            if set(axes) & set(own):
                choices = itertools.product(*(more[axis] for axis in axes))
                found += [tuple(zip(axes, values, strict=True)) for values in choices]
    yield from sorted(found, key=lambda change: (not _promised(scenario, cell, given, expect, change), len(change)))


def _allies(cell: Cell, expect: Expectation) -> list[Expectation]:
    """The expectations of the same kind about the same hazards that speak of this cell too."""
    named = set(expect.condition.hazards())
    return [e for e in cell.expects if e is not expect and e.kind == expect.kind and named & set(e.condition.hazards())]


def _others(scenario: Scenario, axis: str, expect: Expectation) -> list[Any]:
    """The values of a knob at which ``expect`` does not speak, those of the matrix first."""
    if axis in ("preset", "hardware"):
        every: list[Any] = list(PRESETS if axis == "preset" else HARDWARE_PRESETS)
    else:
        default = (KERNEL_KNOBS.get(axis) or MACHINE_KNOBS[axis]).default
        kind = type(default)
        every = [True, False] if kind is bool else list(kind) if issubclass(kind, enum.Enum) else []
    known = [*scenario.matrix.get(axis, ()), *(v for e in scenario.expects for v in e.when.get(axis, ())), *every]
    return [value for value in dict.fromkeys(known) if value not in expect.when[axis]]


def _promised(scenario: Scenario, cell: Cell, given: Given, expect: Expectation, change: Change) -> bool:
    """Whether the file says that what ``expect`` is about exists in the mutant."""
    named = set(expect.condition.hazards())
    mutant = _changed(scenario, cell, given, change)
    return any(
        e.kind == "exists" and named & set(e.condition.hazards()) and applies(e, mutant.preset, mutant.hardware, mutant.config)
        for e in scenario.expects
    )
