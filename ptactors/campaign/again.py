"""From a schedule file back to the cell it was recorded in, and through it once more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import attrs

from ptactors import __version__
from ptactors.campaign.names import known_names
from ptactors.campaign.run import tolerance
from ptactors.campaign.verdict import SURPRISE
from ptactors.campaign.witness import Facts, Kept, keep
from ptactors.config import PRESETS
from ptactors.engine.schedule import Schedule
from ptactors.errors import IncompatibleRecording
from ptactors.scenario.load import load
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome


@attrs.frozen(kw_only=True)
class Recording:
    """A schedule with the scenario and the cell it belongs to."""

    schedule: Schedule
    scenario: Scenario
    cell: Cell


def recorded(file: Path, locate: Callable[[Schedule], Path]) -> Recording:
    """Read a schedule file and its scenario, which ``locate`` finds.

    Raises OSError, ScenarioError, and IncompatibleRecording where version, scenario or cell are not those of the recording.
    """
    schedule = Schedule.load(file)
    if schedule.version != __version__:
        raise IncompatibleRecording(f"{file}: recorded by ptactors {schedule.version}, this is {__version__}")
    path = locate(schedule)
    scenario = load(path, known_names())
    if scenario.digest != schedule.digest:
        raise IncompatibleRecording(
            f"{file}: scenario {path} was changed since the recording (digest {scenario.digest}, recorded {schedule.digest})"
        )
    return Recording(schedule=schedule, scenario=scenario, cell=_cell(file, scenario, schedule))


def _cell(file: Path, scenario: Scenario, schedule: Schedule) -> Cell:
    """The cell of that name with just these knobs; presets and single knobs may have been set from outside."""
    presets = (None, *PRESETS)
    for overrides, preset in itertools.product(({}, schedule.knobs), presets):
        for cell in cells(scenario, overrides, preset):
            if cell.name == schedule.cell and cell.config.as_dict() == schedule.knobs:
                return cell
    raise IncompatibleRecording(f"{file}: scenario {scenario.name} has no cell {schedule.cell!r} with the recorded knobs")


def replay(recording: Recording, *, host: str, folder: Path | None, facts: Facts) -> Kept:
    """Make the run again. Raises ReplayDivergence and LogWriteFault."""
    schedule = recording.schedule
    return keep(
        recording.scenario, recording.cell, strategy=schedule.strategy, seed=schedule.seed, host=host,
        folder=folder, facts=facts, replay=schedule,
    )  # fmt: skip


@attrs.frozen
class Broken:
    """An expectation that one run violates."""

    kind: str
    condition: str
    hazards: tuple[str, ...]
    """Those it is about."""


def judge_run(recording: Recording, outcome: Outcome) -> tuple[Broken, ...]:
    """The expectations that this one run violates; one alone cannot violate an ``exists``."""
    broken: list[Broken] = []
    for expectation, true in zip(recording.cell.expects, outcome.verdicts, strict=True):
        condition, kind = expectation.condition, expectation.kind
        if (kind == "forbidden" and true) or (kind == "always" and not true and outcome.status != "limit"):
            broken.append(Broken(kind, condition.text, condition.hazards()))
    surprises = tolerance(recording.scenario, recording.cell)
    found = tuple(f.hazard for f in outcome.findings if f.hazard in surprises)
    return (*broken, Broken("forbidden", SURPRISE, found)) if found else tuple(broken)
