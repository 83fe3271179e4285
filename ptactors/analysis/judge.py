"""What the oracles say of a saved log."""

from __future__ import annotations

from ptactors.log.read import SavedLog
from ptactors.model.hazard import Finding, Severity
from ptactors.oracle.table import HAZARDS, Oracles


def judge(log: SavedLog) -> list[tuple[Finding, Severity]]:
    """The first sighting of each hazard in what can be read of the log."""
    return [(finding, HAZARDS[finding.hazard].severity) for finding in Oracles.judge(log.records())]
