"""Logs of real runs, for tests of what is asked of logs."""

from __future__ import annotations

import functools
from pathlib import Path

from small_cases import MAYBE, RACE
from small_machines import text

from ptactors.campaign.names import known_names
from ptactors.campaign.witness import write_outcome
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import cells
from ptactors.world import play

TEXTS = {
    "race": text(*RACE, machine='thp = "always"'),
    "busy": text(
        ("madvise A DONTNEED", "read A+0x3000 -> r0", "madvise A DONTNEED", "write A+0x4000 = 1"),
        ("write A+0x5000 = 2", "read A+0x3000 -> r1", "madvise A+0x4000 8K DONTNEED", "read A -> r2"),
        ("walk A+0x3000 times 3 -> w", "gup_fast A+0x3000 -> g", "madvise A DONTNEED"),
        rest=MAYBE,
    ),
}


@functools.cache
def _played(name: str, seed: int):
    scenario = loads(TEXTS[name], f"<{name}>", known_names())
    return play(scenario, cells(scenario)[0], strategy="run-length", seed=seed, record=True, host="direct"), scenario


def save(path: Path, name: str = "race", seed: int = 0) -> Path:
    """The log of one run."""
    write_outcome(path, *_played(name, seed))
    return path


def records(name: str = "race", seed: int = 0):
    """The records of that run."""
    return _played(name, seed)[0].records


def first_with_hazard(name: str = "race", hazard: str = "mixed_page_size_tlb") -> int:
    """The first seed whose run shows the hazard."""
    return next(seed for seed in range(200) if hazard in {f.hazard for f in _played(name, seed)[0].findings})
