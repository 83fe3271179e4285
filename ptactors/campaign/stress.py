"""Stress campaigns: random mixes, or many seeds of scenarios, under every preset, with what they cover.

A campaign is a fixed sequence of pieces of work: a few schedules of the next cell, all cells in turn, over and over. Pieces are
run anywhere and merged in order, so what came of a campaign is a function of how many pieces were merged: not of how many
processes there were, nor of how often it was killed and resumed. Budgets only say where the sequence ends, and all that depends
on a clock or on what was found is asked at the end of a round.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors.campaign import mix
from ptactors.campaign.coverage import Coverage, Gathered, Watch
from ptactors.campaign.journal import Journal
from ptactors.campaign.known import Known, known_of
from ptactors.campaign.names import known_names
from ptactors.campaign.pool import in_order
from ptactors.campaign.run import tolerance
from ptactors.campaign.stress_pack import Packer, Piece, Table, add_seen
from ptactors.campaign.tally import Tally
from ptactors.campaign.work import Failure, attempt, checked
from ptactors.engine.strategy.table import make_strategy
from ptactors.errors import UsageError
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.scenario.load import load, loads
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play_many

PIECE = 10
"""The most schedules of a scenario in one piece; a mix has always mix.SCHEDULES."""
ROUND = 32
"""The most pieces of a round; if there are fewer cells, a round is one piece of each."""
PINNED = "its one order is pinned, and 'ptactors run' makes it"
"""Why a scenario may have no cells in a campaign."""
LISTED = 1000
"""Failing schedules that are remembered one by one; the others are only counted."""
_AHEAD = 6
"""Pieces in flight beyond one for each process: what a kill may cost."""
_MIXES_KEPT = 8
Knobs = tuple[tuple[str, Any], ...]
"""Knobs set from outside, with their typed values."""


@attrs.frozen(kw_only=True)
class StressPlan:
    """Which campaign it is; two with equal plans are one campaign."""

    paths: tuple[str, ...] = ()
    """Scenario files; empty: random mixes."""
    presets: tuple[str, ...]
    overrides: Knobs = ()
    strategy: str | None = None
    """None: each scenario's, each mix's."""
    seed: int | None = None
    """The first seed, or the first mix; None: the scenario's, 0."""
    host: str = "direct"


@attrs.frozen(kw_only=True)
class Target:
    """One cell of a campaign: a preset for random mixes; a scenario's cell under a preset."""

    number: int
    name: str
    preset: str
    strategy: str
    """'' where each mix has its own."""
    path: str = ""
    """'' for mixes."""
    cell: int = 0
    """Number of the scenario's cell."""
    first: int
    """The first seed, or the first mix."""
    size: int
    """Schedules in a piece."""
    runs: int | None
    """Schedules at most; None: no limit."""
    digest: str = ""
    """Of the scenario; '' for mixes."""

    def seeds(self, turn: int) -> range:
        """The seeds of this cell's piece number ``turn``; empty when its budget is spent."""
        size = self.size if self.runs is None else max(0, min(self.size, self.runs - turn * self.size))
        start = (self.first + turn) * self.size if not self.path else self.first + turn * self.size
        return range(start, start + size)

    def mix(self, seed: int) -> int | None:
        """The number of the mix that a seed belongs to; None for a scenario."""
        return None if self.path else seed // self.size


@attrs.frozen(kw_only=True)
class Task:
    """One piece of work; names things instead of carrying them."""

    plan: StressPlan
    target: Target
    seeds: range
    known: Known


# -- one piece ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=_MIXES_KEPT)
def mixed(number: int, presets: tuple[str, ...], overrides: Knobs) -> Scenario:
    """The random mix of this number."""
    name = mix.name_of(number)
    return loads(mix.text_of(number, presets, dict(overrides)), f"<{name}>", known_names())


@functools.lru_cache(maxsize=1024)
def _loaded(path: str, overrides: Knobs, preset: str) -> tuple[Scenario, tuple[Cell, ...], tuple[Cell, ...]]:
    """A scenario, its cells under this preset, and its own."""
    scenario = load(Path(path), known_names())
    return scenario, cells(scenario, dict(overrides), preset), cells(scenario)


class Judge:
    """Whether a schedule of one cell fails.

    It fails by a violation that the cell does not expect. What a scenario says exists there, or allows, is expected; so is what
    is known of the preset, and whatever follows that in the same schedule: nothing that a broken machine does counts. Where a
    scenario speaks of just this configuration, its ``forbidden`` and ``always`` count too.
    """

    def __init__(self, scenario: Scenario, cell: Cell, known: Known, own: bool) -> None:
        self.known = known_of(known, cell.preset, cell.hardware, cell.config)
        self._cell, self._own = cell, own
        if own:
            self._guilty = tolerance(scenario, cell)
        else:
            expected = {h for e in cell.expects if e.kind == "exists" for h in e.condition.hazards()} | set(scenario.allow)
            violations = (name for name, kind in HAZARDS.items() if kind.severity is Severity.VIOLATION)
            self._guilty = frozenset(name for name in violations if name not in expected)

    def judge(self, outcome: Outcome) -> tuple[tuple[str, ...], str]:
        """(what it fails by, the known violation that it is let off for)."""
        why: list[str] = []
        for finding in outcome.findings:
            if finding.hazard in self.known:
                if not why:
                    return (), finding.hazard
                break
            if finding.hazard in self._guilty:
                why.append(finding.hazard)
        if self._own:
            for expect, true in zip(self._cell.expects, outcome.verdicts, strict=True):
                if expect.kind == "exists" or (not true and outcome.status == "limit"):
                    continue
                if true == (expect.kind == "forbidden"):
                    why.append(f"{expect.kind} {expect.condition.text}")
        return tuple(why), ""


def source(plan: StressPlan, target: Target, seed: int) -> tuple[Scenario, Cell, bool, str]:
    """(scenario, cell, whether the scenario speaks of just this configuration, strategy) of one seed.

    Raises UsageError if the scenario's file was changed.
    """
    number = target.mix(seed)
    if number is not None:
        scenario = mixed(number, plan.presets, plan.overrides)
        cell = next(c for c in cells(scenario) if c.preset == target.preset)
        return scenario, cell, True, target.strategy or mix.strategy_of(number)
    scenario, every, own = _loaded(target.path, plan.overrides, target.preset)
    if scenario.digest != target.digest:
        raise UsageError(f"{target.path} changed while it was run")
    cell = every[target.cell]
    return scenario, cell, any(each.config == cell.config for each in own), target.strategy


def cover(task: Task) -> Piece | Failure:
    """Run one piece. Never raises but for an interrupt."""
    where = _where(task)
    return attempt(lambda: _cover(task), where, lambda: where)


def _cover(task: Task) -> Piece:
    target = task.target
    scenario, cell, own, strategy = source(task.plan, target, task.seeds[0])
    judge, watch = Judge(scenario, cell, task.known, own), Watch()
    gathered = Gathered(one_unit=not target.path)
    piece = Piece(tally=Tally(), found=gathered.kinds, failing=[], excused={})
    outcomes = play_many(scenario, cell, strategy=strategy, seeds=task.seeds, host=task.plan.host, watch=(watch,))
    for seed, outcome in zip(task.seeds, outcomes, strict=True):
        why, excuse = judge.judge(outcome)
        piece.tally.add(seed, _named(outcome, target.mix(seed)), frozenset(), frozenset())
        gathered.add(watch.items())
        if why:
            piece.failing.append((seed, why))
        if excuse:
            add_seen(piece.excused, excuse, 1, seed)
    return piece


def _named(outcome: Outcome, number: int | None) -> Outcome:
    """A final state of a mix says which mix it is of: their registers have nothing in common."""
    return outcome if number is None else attrs.evolve(outcome, final=(("mix", number), *outcome.final))


def _where(task: Task) -> str:
    seeds, plan = task.seeds, task.plan
    number = task.target.mix(seeds[0])
    what = task.target.path if number is None else mix.name_of(number)
    return (
        f"in {what}, cell {task.target.name}, strategy {task.target.strategy or 'its own'}, seeds {seeds[0]}..{seeds[-1]}, "
        f"knobs set {dict(plan.overrides)}, host {plan.host}"
    )


# -- the campaign ---------------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True)
class TargetResult:
    """What has come of one cell so far."""

    target: Target
    tally: Tally = attrs.field(factory=Tally)
    failing: int = 0
    """Schedules that fail."""
    guilty: Table = attrs.field(factory=dict)
    """What they fail by -> how many, and the seed of the first."""
    excused: Table = attrs.field(factory=dict)
    """Known violation -> schedules let off because of it."""

    def add(self, piece: Piece) -> None:
        """Count a piece that comes after all others."""
        self.tally.merge(piece.tally)
        self.failing += len(piece.failing)
        for seed, why in piece.failing:
            for reason in why:
                add_seen(self.guilty, reason, 1, seed)
        for hazard, seen in piece.excused.items():
            add_seen(self.excused, hazard, seen.count, seen.seed)


@attrs.frozen(kw_only=True)
class Saturation:
    """When a campaign has seen enough."""

    quiet: int
    """Schedules without a new branch or pair, at least; and at least half of all."""
    bound: float
    """The estimated probability that the next sampling unit shows a new one must be below this."""


class StressCampaign:
    """Runs the sequence from where it stands; everything that was merged can be asked at any time."""

    def __init__(
        self,
        plan: StressPlan,
        targets: Sequence[Target],
        *,
        known: Known,
        jobs: int = 1,
        first: bool = False,
        saturation: Saturation | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """``first``: stop at the first failure; ``stop`` is asked at the end of each round."""
        self.plan = plan
        self.results = [TargetResult(target=target) for target in targets]
        self.coverage = Coverage()
        self.failing: list[tuple[Target, int, tuple[str, ...]]] = []
        """(cell, seed, reasons) of the first failing schedules, in the order of the sequence."""
        self.pieces = 0
        """Pieces merged."""
        self.saturated = False
        """Whether it stopped because there was nothing new."""
        self._known, self._jobs, self._first = known, jobs, first
        self._saturation, self._stop = saturation, stop
        self.progress: Callable[[Target, int], None] | None = None
        """Told of each piece when it is merged."""
        self._packer = Packer()

    def restore(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Merge what a journal holds. Raises UsageError if that is more than this campaign has."""
        sequence = self._sequence()
        for line in lines:
            following = next(sequence, None)
            if following is None:
                raise UsageError("the journal holds more than this campaign: it was run with a larger --runs")
            self._merge(*following, self._packer.unpack(line))

    def run(self, journal: Journal | None) -> None:
        """Go on to the end. Raises PtactorsError, ModelError for what is a bug in ptactors, JournalFault."""
        if self._over(restored=True):
            return
        with contextlib.closing(in_order(cover, self._tasks(), self._jobs, _AHEAD)) as pieces:
            for (target, turn, seeds), piece in pieces:
                piece = checked(piece)
                line = self._packer.pack(piece, self.coverage)
                if journal is not None:
                    journal.add(line)
                self._merge(target, turn, seeds, piece)
                if self._over():
                    return

    def known_of(self, hazard: str, target: Target) -> tuple[str, ...]:
        """The scenarios that say of this cell's preset that the hazard exists."""
        rows = [row for (preset, _), row in self._known.items() if preset == target.preset]
        return tuple(dict.fromkeys(name for row in rows for name in row.get(hazard, ())))

    @property
    def runs(self) -> int:
        """Schedules merged."""
        return self.coverage.runs

    def _sequence(self) -> Iterator[tuple[Target, int, range]]:
        """(cell, its turn, seeds) of every piece there could be."""
        turn, left = 0, [result.target for result in self.results]
        while left := [target for target in left if target.seeds(turn)]:
            for target in left:
                yield target, turn, target.seeds(turn)
            turn += 1

    def _tasks(self) -> Iterator[tuple[tuple[Target, int, range], Task]]:
        for number, (target, turn, seeds) in enumerate(self._sequence()):
            if number >= self.pieces:
                yield (target, turn, seeds), Task(plan=self.plan, target=target, seeds=seeds, known=self._known)

    def _merge(self, target: Target, turn: int, seeds: range, piece: Piece) -> None:
        self.results[target.number].add(piece)
        unit, units = (self.coverage.runs, len(seeds)) if target.path else (turn, 1)
        self.coverage.merge(piece.found, len(seeds), unit, units)
        room = LISTED - len(self.failing)
        self.failing += [(target, seed, why) for seed, why in piece.failing[:room]]
        self.pieces += 1
        if self.progress:
            self.progress(target, len(seeds))

    def _over(self, restored: bool = False) -> bool:
        """Whether what has been merged is all that is wanted."""
        if self._first and self.failing:
            return True
        if not self.pieces or self.pieces % min(ROUND, len(self.results)):
            return False
        wanted = self._saturation
        if wanted is not None and self.coverage.saturated(wanted.quiet, wanted.bound):
            self.saturated = True
        return self.saturated or (not restored and self._stop())


def left_out(plan: StressPlan) -> dict[str, str]:
    """Scenario files that are not run, each with the reason. Raises ScenarioError."""
    pinned = [path for path in plan.paths if _loaded(path, plan.overrides, plan.presets[0])[0].pin]
    return dict.fromkeys(pinned, PINNED)


def targets_of(plan: StressPlan, runs: int | None, endless: bool) -> list[Target]:
    """The cells of a campaign; ``runs``: schedules for each; ``endless``: no limit where none is given.

    Some scenarios are left out, as ``left_out`` says. Raises ScenarioError and UsageError.
    """
    if plan.strategy is not None:
        make_strategy(plan.strategy, 0)
    if not plan.paths:
        first = plan.seed or 0
        return [
            Target(number=number, name=preset, preset=preset, strategy=plan.strategy or "", first=first,
                   size=mix.SCHEDULES, runs=runs)
            for number, preset in enumerate(plan.presets)
        ]  # fmt: skip
    found: list[Target] = []
    for path in plan.paths:
        for preset in plan.presets:
            scenario, every, _ = _loaded(path, plan.overrides, preset)
            explore = scenario.explore
            for cell in () if scenario.pin else every:
                others = (f"{axis}={value}" for axis, value in cell.knobs.items() if axis != "preset")
                name = " ".join([scenario.name, f"preset={preset}", *others])
                found.append(
                    Target(
                        number=len(found), name=name, preset=preset, path=path, cell=cell.index,
                        strategy=plan.strategy or explore.strategy, digest=scenario.digest, size=min(PIECE, explore.runs),
                        first=explore.seed if plan.seed is None else plan.seed,
                        runs=runs if runs or endless else explore.runs,
                    )
                )  # fmt: skip
    return found
