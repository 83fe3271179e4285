"""Scenarios that can be called by their name."""

from __future__ import annotations

from pathlib import Path

from ptactors.engine.schedule import Schedule
from ptactors.errors import IncompatibleRecording
from ptactors.scenario.load import folders

DEFAULT_FOLDER = Path("scenarios")


def known() -> dict[str, Path]:
    """Name -> file: ``./scenarios`` first, then what came with the package."""
    table: dict[str, Path] = {}
    for folder in folders(DEFAULT_FOLDER):
        for path in sorted(folder.glob("*.toml")):
            table.setdefault(path.stem, path)
    return table


def scenario_of(schedule: Schedule) -> Path:
    """The scenario file that a schedule names; one of the same name if it was moved. Raises IncompatibleRecording."""
    path = Path(schedule.scenario_path)
    if path.exists():
        return path
    found = known().get(schedule.scenario)
    if found is None:
        raise IncompatibleRecording(f"scenario {schedule.scenario_path} is not there; replay it from the folder it was run in")
    return found
