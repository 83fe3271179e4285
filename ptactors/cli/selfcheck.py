"""Runs made twice: what ``ptactors run`` does to notice by itself that a run does not depend on its seed alone.

A sample of schedules is made once more on the other host and must come to the same digest, which covers every turn, the final
state and all that oracles said. A witness is made again anyhow, so it is checked first of all; it was found in another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptactors.campaign.single import single_error
from ptactors.campaign.verdict import HELD, SURPRISE, VIOLATED
from ptactors.engine.probe import MEASURED, WATCHED
from ptactors.engine.strategy.table import make_strategy
from ptactors.errors import ModelError
from ptactors.world import play

if TYPE_CHECKING:
    from ptactors.campaign.run import Batch
    from ptactors.campaign.verdict import CellResult
    from ptactors.campaign.witness import Kept

SHARE = 100
"""One step in so many may be made for checks ..."""
FREE = 10_000
"""... and so many more, whatever there is to check: the checks of a short campaign take a moment."""


@attrs.define
class SelfCheck:
    """Decides by counts of steps alone what is checked, so that every call of the same command line checks the same."""

    host: str
    """The host of the campaign."""
    checks: int = 0
    """Made so far."""
    steps: int = 0
    """Of the campaign so far."""
    spent: int = 0
    """For checks, as they were estimated beforehand."""

    def look(self, batch: Batch, result: CellResult, kept: Kept | None) -> None:
        """Check one schedule of a cell that was counted, if it is due. Raises ModelError if two runs differ.

        ``kept``: its witness made again with a record.
        """
        self.steps += result.tally.steps
        if kept is not None:
            _same_sight(result, kept)
        mean = result.tally.steps // max(result.tally.runs, 1)
        seed = kept.outcome.schedule.seed if kept is not None else result.seed + self.checks % max(result.tally.runs, 1)
        price = mean * (1 if kept is not None else 2 + _probes(result.strategy, seed))
        if self.spent + price > FREE + self.steps // SHARE:
            return
        self.spent += price
        self.checks += 1
        other = "direct" if self.host == "trio" else "trio"
        here = kept.outcome.digest if kept is not None else self._digest(batch, result, seed, self.host)
        there = self._digest(batch, result, seed, other)
        if here != there:
            how = f"host {self.host}{', recorded' if kept is not None else ''}"
            raise _not_the_same(result, seed, f"digest {here} with {how}, {there} with host {other}")

    def _digest(self, batch: Batch, result: CellResult, seed: int, host: str) -> str:
        with single_error():
            return play(batch.scenario, result.cell, strategy=result.strategy, seed=seed, host=host).digest


def _probes(strategy: str, seed: int) -> int:
    """Probe runs that the strategy may need first, in a process that has not run it yet."""
    made = make_strategy(strategy, seed)
    return WATCHED + MEASURED if made.profiled or made.contested_only else 0


def _same_sight(result: CellResult, kept: Kept) -> None:
    """The witness must show again what it was kept for. Raises ModelError."""
    outcome = kept.outcome
    seed = outcome.schedule.seed
    found = {finding.hazard for finding in outcome.findings}
    hazards = {name for name, seen in result.tally.hazards.items() if seen.seed == seed}
    missing = sorted(hazards - found)
    for number, each in enumerate(result.expectations):
        if each.seed != seed or each.condition == SURPRISE or number >= len(outcome.verdicts):
            continue
        shown = outcome.verdicts[number] != (each.kind == "always")
        if each.verdict in (VIOLATED, HELD) and not shown:
            missing.append(f"{each.kind} {each.condition}")
    if missing:
        raise _not_the_same(result, seed, f"made again it does not show {', '.join(missing)}")


def _not_the_same(result: CellResult, seed: int, how: str) -> ModelError:
    run = f"{result.scenario}, cell {result.cell.name}, strategy {result.strategy}, seed {seed}"
    return ModelError(f"self-check: {run} is not the same run twice: {how}")
