"""Makes one run again with everything recorded, and keeps its log and its schedule."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ptactors import __version__
from ptactors.campaign.single import single_error
from ptactors.engine.schedule import Schedule
from ptactors.log.write import LogWriteFault, write_log, write_run_json
from ptactors.model.state import Record
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play

_SLUG_LIMIT = 80
Facts = Callable[[], Mapping[str, Any]]
"""Gives what goes into ``run.json``; only the command line knows the clock and the host."""


@attrs.frozen(kw_only=True)
class Kept:
    """One run, recorded."""

    outcome: Outcome
    records: tuple[Record, ...]
    log: Path | None
    """None where nothing was written."""
    schedule: Path | None
    """None where nothing was written."""


def slug(cell: str) -> str:
    """The folder of a cell: its name as far as every file system takes it, with a checksum where it is too long."""
    text = re.sub(r"[^A-Za-z0-9._=+-]+", "-", cell).strip("-.")
    if len(text) <= _SLUG_LIMIT and text == cell:
        return text
    short = text[:_SLUG_LIMIT].rstrip("-")
    return f"{short}-{zlib.crc32(cell.encode()):08x}" if len(text) > _SLUG_LIMIT else short or "all"


def header(schedule: Schedule, scenario: Scenario) -> dict[str, Any]:
    """The first record of a log: which run it is, and what it was made to show. The same for a run and for its replay."""
    return {
        "tool": "ptactors",
        "version": schedule.version,
        "scenario": schedule.scenario,
        "title": scenario.title,
        "why": " ".join(scenario.why.split()),
        "digest": schedule.digest,
        "cell": schedule.cell,
        "knobs": dict(schedule.knobs),
        "strategy": schedule.strategy,
        "seed": schedule.seed,
    }


def write_outcome(path: Path, outcome: Outcome, scenario: Scenario) -> None:
    """Write the log of a recorded run. Raises LogWriteFault."""
    write_log(
        path,
        header(outcome.schedule, scenario),
        outcome.actors,
        outcome.records or (),
        causes=outcome.causes,
        functions=outcome.functions,
        ending={
            "status": outcome.status,
            "reason": outcome.reason,
            "digest": outcome.digest,
            "hazards": [[finding.hazard, finding.step] for finding in outcome.findings],
        },
    )


def keep(
    scenario: Scenario,
    cell: Cell,
    *,
    strategy: str,
    seed: int,
    host: str,
    folder: Path | None,
    facts: Facts,
    replay: Schedule | None = None,
) -> Kept:
    """Run one schedule again with a record, and write it below ``folder`` (None: write nothing).

    Raises LogWriteFault; ReplayDivergence with ``replay``.
    """
    with single_error():
        outcome = play(scenario, cell, strategy=strategy, seed=seed, record=True, host=host, replay=replay)
    records = outcome.records or ()
    if folder is None:
        return Kept(outcome=outcome, records=records, log=None, schedule=None)
    place = folder / slug(scenario.name) / slug(cell.name)
    log, schedule = place / f"seed-{seed}.jsonl", place / f"seed-{seed}.schedule.json"
    write_outcome(log, outcome, scenario)
    if replay is None:
        try:
            outcome.schedule.save(schedule)
        except OSError as error:
            raise LogWriteFault(schedule, error) from error
    write_run_json(place / "run.json", {"tool": "ptactors", "version": __version__, **facts()})
    return Kept(outcome=outcome, records=records, log=log, schedule=None if replay else schedule)
