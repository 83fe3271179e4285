"""What the oracles say of a saved log."""

from __future__ import annotations

from collections.abc import Iterable

from ptactors.log.read import LogReadFault, SavedLog
from ptactors.model.hazard import Finding, Severity
from ptactors.model.state import Record
from ptactors.oracle.table import HAZARDS, Oracles


def judge(log: SavedLog) -> list[tuple[Finding, Severity]]:
    """The first sighting of each hazard in what can be read of the log. Raises LogReadFault."""
    return [(finding, HAZARDS[finding.hazard].severity) for finding in judge_records(log, log.records())]


def judge_records(log: SavedLog, records: Iterable[Record]) -> list[Finding]:
    """The findings in records of the log.

    Raises LogReadFault where they cannot follow each other in any run: each is an event, and together they are none.
    """
    at = 0

    def counted() -> Iterable[Record]:
        nonlocal at
        for record in records:
            at += 1
            yield record

    try:
        return Oracles.judge(counted())
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise LogReadFault(
            f"{log.path}: corrupt: event {at} does not fit those before it, so the oracles cannot judge this log ({what})"
        ) from error
