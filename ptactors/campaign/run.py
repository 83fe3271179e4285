"""Runs the cells of scenarios over ranges of seeds, in one process or many, with the same result for any number of them.

Seeds are cut into chunks of a fixed size; chunks are counted anywhere and merged in order. Cells come out in order as well, so a
campaign that is stopped early or interrupted has the same first cells as one that is not. A portfolio chooses the seeds of a
round when all of the round before is counted, and by nothing but those counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors.campaign.names import known_names
from ptactors.campaign.pool import in_order
from ptactors.campaign.shares import FIRST_ROUND, Shares, adapts
from ptactors.campaign.tally import Tally
from ptactors.campaign.verdict import HELD, VIOLATED, CellResult, judge, unexpected
from ptactors.campaign.work import Failure, attempt, checked
from ptactors.engine.strategy.portfolio import member_of
from ptactors.engine.strategy.table import STRATEGIES, make_strategy
from ptactors.errors import UsageError
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.scenario.hints import suggest
from ptactors.scenario.load import load
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import play_many

CHUNK = 50
"""Schedules in one piece of work. Part of the meaning of ``-x``, so it is the same for any number of processes."""


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be run of one scenario."""

    path: str
    overrides: tuple[tuple[str, Any], ...] = ()
    """Knobs set from outside."""
    preset: str | None = None
    """Preset set from outside."""
    only: tuple[str, ...] = ()
    """Names or numbers of the cells wanted; empty: all."""
    strategy: str | None = None
    """None: the scenario's."""
    seed: int | None = None
    """None: the scenario's."""
    runs: int | None = None
    """Schedules a cell; None: what the scenario states."""
    full: bool = False
    """Whether the scenario's budget for full campaigns counts."""
    host: str = "trio"
    exact: bool = False
    """Whether the seeds are those from the first on, one after the other, though the strategy would choose others."""


@attrs.frozen(kw_only=True)
class Batch:
    """A plan made concrete: the scenario and the cells that were picked."""

    plan: Plan
    scenario: Scenario
    cells: tuple[Cell, ...]
    strategy: str
    seed: int
    runs: int


@attrs.frozen(kw_only=True)
class Task:
    """One chunk of one cell; names things instead of carrying them, so that it is cheap to send."""

    plan: Plan
    digest: str
    """Of the scenario."""
    cell: int
    strategy: str
    seeds: Sequence[int]


_LOADED: dict[Plan, tuple[Scenario, tuple[Cell, ...]]] = {}
"""Scenarios of this process, so that not every chunk reads its file again."""


def _load(plan: Plan) -> tuple[Scenario, tuple[Cell, ...]]:
    scenario = load(Path(plan.path), known_names())
    _LOADED[plan] = scenario, cells(scenario, dict(plan.overrides), plan.preset)
    return _LOADED[plan]


def prepare(plan: Plan) -> Batch:
    """Read the scenario and pick its cells. Raises ScenarioError, and UsageError for cells that it does not have."""
    scenario, every = _load(plan)
    known = {key for cell in every for key in (cell.name, str(cell.index))}
    missing = [name for name in plan.only if name not in known]
    if missing:
        raise UsageError(f"{scenario.name} has no cell {missing[0]!r}; it has: {', '.join(repr(c.name) for c in every)}")
    picked = tuple(c for c in every if not plan.only or c.name in plan.only or str(c.index) in plan.only)
    explore = scenario.explore
    strategy = plan.strategy or explore.strategy
    name = strategy.partition(":")[0]
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}; {suggest(name, STRATEGIES)}")
    make_strategy(strategy, 0)
    return Batch(
        plan=plan,
        scenario=scenario,
        cells=picked,
        strategy=strategy,
        seed=explore.seed if plan.seed is None else plan.seed,
        runs=plan.runs or (explore.full_runs if plan.full else explore.runs),
    )


def tolerance(scenario: Scenario, cell: Cell) -> frozenset[str]:
    """The hazards that nobody expects in this cell and that make it fail."""
    severities = {name: kind.severity is Severity.VIOLATION for name, kind in HAZARDS.items()}
    return unexpected([e.condition for e in cell.expects], scenario.allow, severities)


def count(task: Task) -> Tally | Failure:
    """Run one chunk. Never raises but for an interrupt."""
    return attempt(lambda: _count(task), f"{task.plan.path}, cell {task.cell}", lambda: _where(task))


def _count(task: Task) -> Tally:
    scenario, every = _LOADED.get(task.plan) or _load(task.plan)
    if scenario.digest != task.digest:
        raise UsageError("the file changed while it was run")
    cell = next(c for c in every if c.index == task.cell)
    surprises, goals = tolerance(scenario, cell), frozenset(scenario.coverage)
    tally = Tally()
    seeds, adaptive = task.seeds, adapts(task.strategy) and not scenario.pin  # a pin chooses by itself
    outcomes = play_many(scenario, cell, strategy=task.strategy, seeds=seeds, host=task.plan.host)
    for seed, outcome in zip(seeds, outcomes, strict=True):
        tally.add(seed, outcome, surprises, goals, member_of(seed) if adaptive else "")
    return tally


def _where(task: Task) -> str:
    return (
        f"in {task.plan.path}, cell {task.cell}, strategy {task.strategy}, seeds {task.seeds[0]}..{task.seeds[-1]}, "
        f"knobs set {dict(task.plan.overrides)}, preset {task.plan.preset}, host {task.plan.host}"
    )


class Campaign:
    """Runs batches; ``results()`` gives one judged cell after the other."""

    def __init__(
        self,
        batches: Sequence[Batch],
        *,
        jobs: int = 1,
        first: bool = False,
        progress: Callable[[Batch, Cell, int], None] | None = None,
    ) -> None:
        """``first``: stop at the first violation; ``progress`` is told of each chunk's schedules when it is counted."""
        self._cells = [(batch, cell) for batch in batches for cell in batch.cells]
        self._jobs = max(1, jobs)
        self._first = first
        self._progress = progress
        self._done: set[int] = set()
        self._partial: tuple[int, Tally] | None = None

    def results(self) -> Iterator[CellResult]:
        """Every cell judged, in order. Raises PtactorsError; ModelError for what is a bug in ptactors."""
        with contextlib.closing(self._counted()) as counted:
            for number, tally in counted:
                result = _judge(*self._cells[number], tally)
                yield result
                if self._first and result.verdict == VIOLATED:
                    return

    def _counted(self) -> Generator[tuple[int, Tally], None, None]:
        with contextlib.closing(self._pieces()) as pieces:
            tally = Tally()
            for number, piece in pieces:
                if number in self._done:
                    continue
                batch, cell = self._cells[number]
                tally.merge(piece)
                self._partial = number, tally
                if self._progress:
                    self._progress(batch, cell, piece.runs)
                if tally.runs == batch.runs or (self._first and self._settled(number, tally)):
                    self._done.add(number)
                    self._partial = None
                    yield number, tally
                    tally = Tally()

    def interrupted(self) -> CellResult | None:
        """The cell that was being counted when an interrupt came, as far as it got; None if there is none."""
        return _judge(*self._cells[self._partial[0]], self._partial[1]) if self._partial else None

    def _settled(self, number: int, tally: Tally) -> bool:
        """Whether more schedules of this cell are not wanted under ``-x``."""
        result = _judge(*self._cells[number], tally)
        explicit = result.expectations[:-1]
        seen = bool(explicit) and all(e.kind == "exists" and e.verdict == HELD for e in explicit)
        return result.verdict == VIOLATED or seen

    def _tasks(self) -> Iterator[tuple[int, Task] | None]:
        """Every piece of work in order; None while the next one depends on pieces that are not counted yet."""
        for number, (batch, cell) in enumerate(self._cells):
            for seeds in self._seeds(number, batch):
                if seeds is None:
                    yield None
                    continue
                for first in range(0, len(seeds), CHUNK):
                    if number in self._done:
                        break
                    yield number, Task(
                        plan=batch.plan, digest=batch.scenario.digest, cell=cell.index, strategy=batch.strategy,
                        seeds=seeds[first : first + CHUNK],
                    )  # fmt: skip

    def _seeds(self, number: int, batch: Batch) -> Iterator[Sequence[int] | None]:
        """The seeds of a cell, round by round."""
        if not chooses(batch):
            yield range(batch.seed, batch.seed + batch.runs)
            return
        shares, made, tally = Shares(batch.seed, batch.runs), 0, Tally()
        while made < batch.runs and number not in self._done:
            if self._partial and self._partial[0] == number:
                tally = self._partial[1]
            if tally.runs < made:
                yield None
                continue
            seeds = shares.next_round({name: member.new for name, member in tally.members.items()})
            made += len(seeds)
            yield seeds

    def _pieces(self) -> Generator[tuple[int, Tally], None, None]:
        chunks = sum(-(-batch.runs // CHUNK) for batch, _ in self._cells)
        with contextlib.closing(in_order(count, self._tasks(), min(self._jobs, chunks))) as pieces:
            for number, piece in pieces:
                yield number, checked(piece)


def _judge(batch: Batch, cell: Cell, tally: Tally) -> CellResult:
    return judge(batch.scenario.name, cell, batch.seed, batch.strategy, tally, chosen=chooses(batch))


def chooses(batch: Batch) -> bool:
    """Whether the strategy chooses the seeds of a batch, so that they are not consecutive."""
    return adapts(batch.strategy) and not (batch.plan.exact or batch.scenario.pin) and batch.runs > FIRST_ROUND
