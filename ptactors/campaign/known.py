"""Which violations are known of a preset: those that a shipped scenario says exist under it.

Derived from the ``exists`` expectations of the scenarios that come with the package, in cells whose kernel is the preset's to the
last knob, so nobody keeps a second list. It excuses a hazard only where the kernel is just that: one knob set from outside, or by
a scenario's [kernel], and nothing is known. What is known of the CPU type "intel" holds for every type, because the others only
add to it; what is known of another type holds for that one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from ptactors.campaign.names import known_names
from ptactors.config import Config, resolve
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.scenario.load import folders, load
from ptactors.scenario.matrix import cells

Known = Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]]
"""(preset, CPU type) -> hazard -> the scenarios that say so."""
COMMON = "intel"
"""The CPU type that all others share the hazards of."""


@functools.cache
def known_violations() -> Known:
    """The table, from the shipped scenarios."""
    shipped = next((found for folder in folders(Path())[1:] if (found := sorted(folder.glob("*.toml")))), [])
    return known_in(shipped)


def known_in(files: list[Path]) -> Known:
    """The table, from these scenarios."""
    table: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}
    for file in files:
        scenario = load(file, known_names())
        for cell in cells(scenario):
            if not is_pure(cell.preset, cell.hardware, cell.config):
                continue
            for hazard in (h for e in cell.expects if e.kind == "exists" for h in e.condition.hazards()):
                if HAZARDS[hazard].severity is Severity.VIOLATION:
                    mine = table.setdefault((cell.preset, cell.hardware), {})
                    mine[hazard] = tuple(dict.fromkeys((*mine.get(hazard, ()), scenario.name)))
    return table


def is_pure(preset: str, hardware: str, config: Config) -> bool:
    """Whether a configuration's kernel is just that of its preset on this CPU type."""
    return config.kernel == resolve(preset, hardware).kernel


def known_of(known: Known, preset: str, hardware: str, config: Config) -> Mapping[str, tuple[str, ...]]:
    """Hazard -> scenarios, for one cell."""
    if not is_pure(preset, hardware, config):
        return {}
    return {**known.get((preset, COMMON), {}), **known.get((preset, hardware), {})}
