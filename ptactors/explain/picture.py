"""The diagram of a small run, made to fit a screen."""

from __future__ import annotations

import re

from ptactors.model.hazard import Finding
from ptactors.report.diagram import diagram
from ptactors.world import Outcome

LINES = 24


def picture(outcome: Outcome, finding: Finding | None, lines: int = LINES) -> list[str]:
    """At most so many lines of what a recorded run's finding is about; without one, of the whole run."""
    records = outcome.records or ()
    if finding is None:
        steps, at, named = [step for step, _, _ in records if step > 0], -1, []
    else:
        steps, at = [step for step, _ in finding.history if step > 0], finding.step
        named = re.findall(r"\bcpu(\d+)\b", " ".join([finding.what, *(text for _, text in finding.history)]))
    for rows in range(lines, 0, -1):
        drawn = diagram(records, steps, at, rows=rows, cpus=map(int, named))
        if len(drawn) <= lines:
            return drawn
    return drawn[:lines]
