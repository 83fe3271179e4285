"""What a campaign prints: herd's Observation line for each expectation, the verdict in honest words, and a last line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptactors.campaign.verdict import HELD, INCONCLUSIVE, SURPRISE, VIOLATED, CellResult, ScenarioResult, worst
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS

Paint = Callable[[str, str], str]
"""(text, colour) -> text; colour is a name that click knows."""
COLOURS = {HELD: "green", VIOLATED: "red", INCONCLUSIVE: "yellow"}
_STATES_SHOWN = 8
_VALUES_SHOWN = 16
"""Registers and cells of memory of one final state that are printed; the document has them all."""


def plain(text: str, _: str) -> str:
    """Paint that does not."""
    return text


def cell_lines(result: CellResult, *, verbose: bool = False, quiet: bool = False, paint: Paint = plain) -> Iterator[str]:
    """The lines of one cell; ``quiet``: only what is not held."""
    tally, cell = result.tally, result.cell
    where = f"{result.scenario}/{cell.index}"
    seeds = f"seeds {result.seed}..{result.seed + tally.runs - 1}" if tally.runs > 1 else f"seed {result.seed}"
    if result.chosen:
        seeds = f"{tally.runs} seeds from {result.seed}"
    yield f"Cell {where}  {cell.name + '  ' if cell.knobs else ''}{seeds}  strategy {result.strategy}"
    for each in result.expectations:
        if each.condition == SURPRISE and each.verdict == HELD and len(result.expectations) > 1 and not verbose:
            continue
        if quiet and each.verdict == HELD:
            continue
        yield f"Observation {where} {each.observation} {each.hits} {each.schedules - each.hits}"
        verdict, _, words = each.sentence().partition(": ")
        yield f"  {paint(verdict, COLOURS[each.verdict])}: {each.kind} {each.condition}: {words}"
        if each.condition == SURPRISE and each.verdict != HELD:
            seen = ", ".join(f"{name} in {s.count}" for name, s in sorted(tally.surprises.items()) if name)
            yield f"    {seen}"
    if not quiet:
        yield from _finders(result)
    for reason in result.reasons:
        yield f"  {paint(INCONCLUSIVE, COLOURS[INCONCLUSIVE])}: {reason}"
    if verbose:
        yield from _details(result)


def _finders(result: CellResult) -> Iterator[str]:
    """Which members of a portfolio found the hazards that the scenario speaks of."""
    named = dict.fromkeys(hazard for expect in result.cell.expects for hazard in expect.condition.hazards())
    for hazard in named:
        by = [(name, m.hazards[hazard].count, m.runs) for name, m in result.tally.members.items() if hazard in m.hazards]
        if by:
            yield f"  {hazard} found by " + ", ".join(f"{name} in {count} of {runs}" for name, count, runs in by)


def _details(result: CellResult) -> Iterator[str]:
    tally = result.tally
    for name in sorted(tally.hazards):
        seen = tally.hazards[name]
        yield f"  hazard {name}: in {seen.count} of {tally.runs}, first with seed {seen.seed}"
    for name, member in tally.members.items():
        found = ", ".join(f"{hazard} in {seen.count} (seed {seen.seed})" for hazard, seen in member.hazards.items())
        yield f"  member {name}: {member.runs} schedules, new behaviours {member.new}; found {found or 'nothing'}"
    for name, value in tally.summary().items():
        yield f"  metric {name}: {value}"
    states = sorted(tally.finals.items(), key=lambda item: (-item[1].count, item[1].seed))
    for state, seen in states[:_STATES_SHOWN]:
        shown = " ".join(f"{name}={value};" for name, value in state[:_VALUES_SHOWN])
        yield f"  {seen.count:>7} *> {shown}" + (f" and {len(state) - _VALUES_SHOWN} more" if len(state) > _VALUES_SHOWN else "")
    if len(states) > _STATES_SHOWN:
        yield f"          and {len(states) - _STATES_SHOWN} more final states"


def scenario_lines(result: ScenarioResult, *, paint: Paint = plain) -> Iterator[str]:
    """What is to be said of a scenario beside its cells."""
    if result.missed:
        yield f"Scenario {result.name}: {paint(INCONCLUSIVE, COLOURS[INCONCLUSIVE])}: never reached {', '.join(result.missed)}"


def hazard_lines(scenarios: Sequence[ScenarioResult]) -> Iterator[str]:
    """Which hazards were seen in how many cells, and in how many an ``exists`` expects them: "held" alone does not tell."""
    cells = [cell for scenario in scenarios for cell in scenario.cells]
    for name, oracle in HAZARDS.items():
        seen = [cell for cell in cells if name in cell.tally.hazards]
        if not seen:
            continue
        expected = [cell for cell in seen if name in _expected(cell)]
        others = len(seen) - len(expected)
        tolerated = oracle.severity is Severity.VIOLATION and all(cell.verdict == HELD for cell in seen)
        rest = "allowed by the scenario" if tolerated else "and no exists names it"
        elsewhere = "allowed elsewhere" if tolerated else "by nobody elsewhere"
        words = "as expected" if not others else f"expected in {len(expected)}, {elsewhere}" if expected else rest
        yield f"Seen: {name} ({oracle.severity.value}) in {len(seen)} of {len(cells)} cell{'s' * (len(cells) > 1)}, {words}"


def _expected(result: CellResult) -> set[str]:
    """Hazards that an ``exists`` or an ``always`` of the cell names."""
    return {hazard for each in result.cell.expects if each.kind != "forbidden" for hazard in each.condition.hazards()}


def last_line(scenarios: Sequence[ScenarioResult], *, interrupted: bool = False, paint: Paint = plain) -> str:
    """The verdict of everything."""
    cells = [cell for scenario in scenarios for cell in scenario.cells]
    counts = {v: sum(cell.verdict == v for cell in cells) for v in (HELD, VIOLATED, INCONCLUSIVE)}
    verdict = worst([s.verdict for s in scenarios] + [INCONCLUSIVE] * interrupted)
    told = ", ".join(f"{n} {v}" for v, n in counts.items() if n) or "none"
    schedules = sum(cell.tally.runs for cell in cells)
    cut = " (interrupted)" if interrupted else ""
    return f"Verdict: {paint(verdict, COLOURS[verdict])}{cut}; cells: {told}; schedules: {schedules}"
