"""The shipped scenarios, held to what their files and the README claim of them."""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ptactors.campaign.names import known_names
from ptactors.campaign.run import Campaign, Plan, prepare, tolerance
from ptactors.campaign.tally import Tally
from ptactors.campaign.verdict import HELD, VIOLATED, CellResult, judge
from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESETS
from ptactors.errors import ReplayDivergence
from ptactors.scenario.load import load, loads
from ptactors.scenario.matrix import Cell, cells, value_of
from ptactors.scenario.model import Expectation, Scenario
from ptactors.world import play_many

FOLDER = Path(__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))
FIXED = (
    "case1-mixed-page-size", "case2-two-pte-pages", "dontneed-refault", "single-table-vs-rcu-walker", "single-table-vs-gup-fast",
    "nonempty-table", "headline-50g", "headline-50g-interleaved", "stress-8cpu",
)  # fmt: skip
"""Names that others may script against."""
HEADLINES = ("headline-50g", "headline-50g-interleaved")
UNTOUCHED = {
    "flush_dirty_file_under_ptl": "the cleaning of file pages that it protects from is not modelled",
    "khugepaged": "reserved",
}
"""Knobs with a choice that no scenario turns, and why."""
SLICE = 10
"""Schedules in a row before the next candidate for a flipped knob has its turn."""
TRIES = 1200
"""Schedules for one flip before the test gives up."""

quick = pytest.mark.parametrize("path", [p for p in FILES if p.stem not in HEADLINES], ids=lambda p: p.stem)
every = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


@functools.cache
def scenario_of(path: Path) -> Scenario:
    return load(path, known_names())


def outcomes(scenario: Scenario, cell: Cell, first: int, runs: int) -> Iterator[tuple[int, Any]]:
    seeds = range(first, first + runs)
    yield from zip(seeds, play_many(scenario, cell, strategy=scenario.explore.strategy, seeds=seeds, host="direct"), strict=True)


def run(scenario: Scenario, cell: Cell, first: int, runs: int) -> CellResult:
    surprises, tally = tolerance(scenario, cell), Tally()
    for seed, outcome in outcomes(scenario, cell, first, runs):
        tally.add(seed, outcome, surprises, frozenset(scenario.coverage))
    return judge(scenario.name, cell, first, scenario.explore.strategy, tally)


def complaint(result: CellResult) -> str:
    lines = [f"{result.scenario}, cell {result.cell.name}, preset {result.cell.preset}:"]
    lines += [f"  {e.kind} {e.condition}: {e.sentence()}" for e in result.expectations if e.verdict != HELD]
    lines += [f"  {name} in {seen.count}, first with seed {seen.seed}" for name, seen in result.tally.surprises.items() if name]
    return "\n".join([*lines, *(f"  {reason}" for reason in result.reasons)])


# -- what stands in the files ---------------------------------------------------------------------------------------------


def test_the_names_that_others_rely_on_are_there() -> None:
    assert set(FIXED) <= {path.stem for path in FILES}


@every
def test_it_says_what_it_asks_and_where_that_comes_from(path: Path) -> None:
    scenario = scenario_of(path)
    assert scenario.title
    assert len(scenario.why.split()) >= 20, "the question in words"
    assert scenario.refs
    assert not scenario.allow, "a hazard that is tolerated without an expectation hides false alarms"


@every
def test_it_expects_something_of_every_cell_under_every_preset(path: Path) -> None:
    scenario = scenario_of(path)
    for preset in PRESETS:
        for cell in cells(scenario, {}, preset):
            assert cell.expects, f"{cell.name} under {preset}"


def test_every_knob_with_a_choice_is_turned_by_some_scenario() -> None:
    turned: set[str] = set()
    for scenario in map(scenario_of, FILES):
        turned |= {*scenario.matrix, *scenario.kernel, *scenario.machine}
        if {"preset", "hardware"} & scenario.matrix.keys():
            for each in cells(scenario):
                turned |= {*PRESETS[each.preset], *HARDWARE_PRESETS[each.hardware]}
    choices = {
        name
        for name, field in (*KERNEL_KNOBS.items(), *MACHINE_KNOBS.items())
        if isinstance(field.default, bool | enum.Enum) and name != "exit"
    }
    assert choices - turned - UNTOUCHED.keys() == {*()}
    assert not UNTOUCHED.keys() & turned


# -- what runs show -------------------------------------------------------------------------------------------------------


@quick
def test_every_verdict_is_held_within_the_stated_budget(path: Path) -> None:
    scenario = scenario_of(path)
    runs = 3 if scenario.stress is not None else scenario.explore.runs
    for cell in cells(scenario):
        result = run(scenario, cell, scenario.explore.seed, runs)
        assert result.verdict == HELD, complaint(result)


@quick
def test_nothing_is_violated_under_any_preset(path: Path) -> None:
    scenario = scenario_of(path)
    if "preset" in scenario.matrix and set(scenario.matrix["preset"]) == set(PRESETS):
        return
    for preset in PRESETS:
        for cell in cells(scenario, {}, preset):
            result = run(scenario, cell, 7_000, 1 if scenario.stress is not None else 3)
            assert result.verdict != VIOLATED, complaint(result)


@pytest.mark.parametrize("name", HEADLINES)
def test_the_headline_at_a_fiftieth_of_its_size(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").replace('"50G"', '"1G"').replace("25600", "512")
    for full, small in (("102640", "2092"), ("240", "44"), ("244", "48")):  # 36 + 512 * 4 + 4 + 4, and without the 512
        text = text.replace(f" {full}", f" {small}")
    scenario = loads(text, f"{name}.toml", known_names())
    for cell in cells(scenario):
        result = run(scenario, cell, 0, 1)
        assert result.verdict == HELD, complaint(result)


# -- flipping a knob of a forbidden's when ----------------------------------------------------------------------------------


def forbidden_knobs() -> list[Any]:
    return [
        pytest.param(path, number, knob, id=f"{path.stem}-{number}-{knob}")
        for path in FILES
        for number, expect in enumerate(scenario_of(path).expects)
        if expect.kind == "forbidden"
        for knob in expect.when
    ]


def other_values(knob: str, taken: tuple[Any, ...]) -> list[Any]:
    """Every value that the expectation does not speak of."""
    if knob in ("preset", "hardware"):
        known: list[Any] = list(PRESETS if knob == "preset" else HARDWARE_PRESETS)
    else:
        kind = type((KERNEL_KNOBS.get(knob) or MACHINE_KNOBS[knob]).default)
        known = [True, False] if kind is bool else list(kind) if issubclass(kind, enum.Enum) else []
    assert known, f"{knob} is a number; only knobs with a choice belong into the when of a forbidden"
    return [value for value in known if value not in taken]


def flipped(scenario: Scenario, expect: Expectation, knob: str) -> list[Cell]:
    """The cells that the expectation speaks of, with the one knob changed and nothing but its condition asked."""
    found: dict[str, Cell] = {}
    for cell in cells(scenario):
        if expect not in cell.expects:
            continue
        for value in other_values(knob, expect.when[knob]):
            (changed,) = cells(scenario, {**cell.knobs, knob: value})
            found.setdefault(f"{changed.preset} {changed.config}", attrs.evolve(changed, expects=(expect,)))
    return list(found.values())


def true_of(scenario: Scenario, cell: Cell) -> Iterator[bool]:
    """Whether the one condition is true, schedule by schedule; nothing where a pinned order is impossible."""
    with contextlib.suppress(ReplayDivergence):
        yield from (outcome.verdicts[0] for _seed, outcome in outcomes(scenario, cell, 0, TRIES))


@pytest.mark.parametrize(("path", "number", "knob"), forbidden_knobs())
def test_what_is_forbidden_happens_once_the_knob_is_flipped(path: Path, number: int, knob: str) -> None:
    scenario = scenario_of(path)
    candidates = flipped(scenario, scenario.expects[number], knob)
    runs = [true_of(scenario, cell) for cell in candidates]
    for _ in range(TRIES // (SLICE * len(runs))):
        if any(any(itertools.islice(each, SLICE)) for each in runs):
            return
    pytest.fail(f"{scenario.expects[number].condition.text} never holds in {[cell.name for cell in candidates]}")


# -- twenty seeds in a row ------------------------------------------------------------------------------------------------


def first_hits(scenario: Scenario, cell: Cell, first: int) -> list[str]:
    """The conditions of ``exists`` that one run of the stated budget from ``first`` on does not show."""
    wanted = {i: e.condition.text for i, e in enumerate(cell.expects) if e.kind == "exists"}
    for _seed, outcome in outcomes(scenario, cell, first, scenario.explore.runs):
        wanted = {i: text for i, text in wanted.items() if not outcome.verdicts[i]}
        if not wanted:
            break
    return list(wanted.values())


def miss(path: Path, seeds: range) -> list[str]:
    scenario = scenario_of(path)
    return [
        f"{cell.name}: {text} is not found from seed {first} on"
        for cell in cells(scenario)
        if any(e.kind == "exists" for e in cell.expects)
        for first in seeds
        for text in first_hits(scenario, cell, first)
    ]


@quick
def test_what_exists_is_found_from_two_more_seeds(path: Path) -> None:
    assert not miss(path, range(1_000, 3_000, 1_000))


# -- long parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.full
@quick
def test_what_exists_is_found_from_twenty_seeds_in_a_row(path: Path) -> None:
    assert not miss(path, range(0, 20_000, 1_000))


@pytest.mark.full
@pytest.mark.parametrize("preset", PRESETS)
@every
def test_full_budget_under_every_preset(path: Path, preset: str) -> None:
    batch = prepare(Plan(path=str(path), preset=preset, full=True, host="direct"))
    assert batch.runs == (1 if path.stem in HEADLINES or batch.scenario.pin else 20_000)
    for result in Campaign([batch], jobs=os.cpu_count() or 1).results():
        assert result.verdict == HELD, complaint(result)


def test_values_of_a_when_are_those_of_the_cells_it_speaks_of() -> None:
    """Guards the flip test: an expectation whose knob has another value in a cell must not be evaluated there."""
    for scenario in map(scenario_of, FILES):
        for cell in cells(scenario):
            for expect in cell.expects:
                for knob, values in expect.when.items():
                    assert value_of(knob, cell.preset, cell.hardware, cell.config) in values
