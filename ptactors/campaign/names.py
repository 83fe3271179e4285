"""The names that a scenario file may use and that only higher layers know."""

from __future__ import annotations

from ptactors.engine.strategy.table import STRATEGIES
from ptactors.kernel.table import step_labels
from ptactors.model.event import event_fields
from ptactors.scenario.model import Names


def known_names() -> Names:
    """Strategies, steps and events, from their tables."""
    return Names(strategies=tuple(STRATEGIES), step_labels=step_labels(), events=event_fields())
