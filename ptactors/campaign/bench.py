"""How many schedules each strategy needs until it sees what a scenario says exists.

Strategies draw, so each makes many campaigns, with a median and a worst one. A depth-first search (``dfs-delay:1``) draws
nothing: it makes one, which finds the goal, comes to the cap, or ends because no schedule is left within its bound.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

import attrs

from ptactors.campaign.shares import Shares, adapts
from ptactors.campaign.tally import behaviour_of
from ptactors.engine.strategy.bounded import Bounded, make_search
from ptactors.engine.strategy.portfolio import member_of
from ptactors.engine.strategy.table import make_strategy
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play, play_many

SEEDS, CAP = 25, 1000
"""Campaigns for each strategy, and schedules after which one gives up."""
STRIDE = 1_000_003
"""Between the first seeds of two campaigns; a prime, so that they start with different members of a portfolio."""


@attrs.frozen(kw_only=True)
class Goal:
    """What is looked for: one ``exists`` with a hazard, in the first cell that it speaks of."""

    scenario: Scenario
    cell: Cell
    number: int
    """Of the expectation in the cell."""

    @property
    def condition(self) -> str:
        """As the scenario spells it."""
        return self.cell.expects[self.number].condition.text


@attrs.frozen(kw_only=True)
class Row:
    """One strategy's search for one goal."""

    goal: Goal
    strategy: str
    firsts: tuple[int | None, ...]
    """For each campaign, the number of schedules up to and with the first hit; None where the cap came first."""
    cap: int
    exhausted: int | None = None
    """For a search that ended without a hit: how many schedules there are within its bound."""

    @property
    def median(self) -> float | None:
        """None if in half of the campaigns it was not found."""
        middle = statistics.median(self.cap * 2 if first is None else first for first in self.firsts)
        return None if middle > self.cap else middle

    @property
    def worst(self) -> int | None:
        """None if it was not found in some campaign."""
        found = [first for first in self.firsts if first is not None]
        return max(found) if len(found) == len(self.firsts) else None

    @property
    def found(self) -> int:
        """Campaigns in which it was found."""
        return sum(first is not None for first in self.firsts)


def goals(scenario: Scenario, every_cell: bool = False) -> tuple[Goal, ...]:
    """What a scenario says exists and is a hazard; each condition once, or in ``every_cell``. Not for pinned scenarios."""
    found: dict[tuple[str, str], Goal] = {}
    for cell in () if scenario.pin else cells(scenario, {}, None):
        for number, expect in enumerate(cell.expects):
            if expect.kind == "exists" and expect.condition.hazards():
                where = cell.name if every_cell else ""
                found.setdefault((expect.condition.text, where), Goal(scenario=scenario, cell=cell, number=number))
    return tuple(found.values())


def draws(strategy: str) -> bool:
    """Whether a strategy of this name has many campaigns; False for a search. Raises UsageError if there is none."""
    if make_search(strategy) is not None:
        return False
    make_strategy(strategy, 0)
    return True


def measure(goal: Goal, strategy: str, *, seeds: int = SEEDS, cap: int = CAP, host: str = "direct", first: int = 0) -> Row:
    """Search for the goal ``seeds`` times; once where nothing is drawn."""
    search = make_search(strategy)
    if search is not None:
        return _exhaust(goal, strategy, search, cap, host)
    firsts = (_search(goal, strategy, first + number * STRIDE, cap, host) for number in range(seeds))
    return Row(goal=goal, strategy=strategy, firsts=tuple(firsts), cap=cap)


def _exhaust(goal: Goal, strategy: str, search: Bounded, cap: int, host: str) -> Row:
    """One after the other, until a hit, the cap, or the end; a search with runs that were cut short is not called exhausted."""
    made, cut = 0, False
    for walk in search:
        if made == cap:
            break
        outcome = play(goal.scenario, goal.cell, strategy=strategy, seed=0, host=host, by=walk)
        made += 1
        if outcome.verdicts[goal.number]:
            return Row(goal=goal, strategy=strategy, firsts=(made,), cap=cap)
        cut = cut or outcome.status in ("limit", "livelock")
    return Row(goal=goal, strategy=strategy, firsts=(None,), cap=made, exhausted=made if search.exhausted and not cut else None)


def _search(goal: Goal, strategy: str, first: int, cap: int, host: str) -> int | None:
    runs = _adaptive(goal, first, cap, host, strategy) if adapts(strategy) else _plain(goal, strategy, first, cap, host)
    for number, outcome in enumerate(runs, 1):
        if outcome.verdicts[goal.number]:
            return number
    return None


def _plain(goal: Goal, strategy: str, first: int, cap: int, host: str) -> Iterator[Outcome]:
    return _play(goal, strategy, range(first, first + cap), host)


def _adaptive(goal: Goal, first: int, cap: int, host: str, strategy: str) -> Iterator[Outcome]:
    shares = Shares(first, cap)
    known: set[int] = set()
    new: dict[str, int] = {}
    while seeds := shares.next_round(new):
        for seed, outcome in zip(seeds, _play(goal, strategy, seeds, host), strict=True):
            yield outcome
            behaviour = behaviour_of(outcome)
            if behaviour not in known:
                known.add(behaviour)
                new[member_of(seed)] = new.get(member_of(seed), 0) + 1


def _play(goal: Goal, strategy: str, seeds: Sequence[int], host: str) -> Iterator[Outcome]:
    """In batches: a host that runs a batch as a whole would otherwise make all of them."""
    size = len(seeds) if host == "direct" else 10
    batches = (seeds[start : start + size] for start in range(0, len(seeds), size))
    return itertools.chain.from_iterable(
        play_many(goal.scenario, goal.cell, strategy=strategy, seeds=batch, host=host) for batch in batches
    )


@attrs.frozen(kw_only=True)
class Judgement:
    """Whether the portfolio keeps what it promises for one goal."""

    goal: Goal
    best: float | None
    """The least median of the strategies that it was compared with, searches left out: what they have is no median."""
    median: float | None
    worst: int | None
    reasons: tuple[str, ...]
    """What it does not keep; empty if all."""


NEAR, FEW, SPREAD = 4, 50, 10
"""The portfolio's median is within NEAR of the best or under FEW; its worst campaign within SPREAD of its median."""


def judge_portfolio(rows: Sequence[Row]) -> Judgement | None:
    """Compare the rows of one goal; None if the portfolio is not among them."""
    mine = next((row for row in rows if adapts(row.strategy)), None)
    if mine is None:
        return None
    medians = [row.median for row in rows if row is not mine and draws(row.strategy) and row.median is not None]
    best = min(medians, default=None)
    reasons: list[str] = []
    if mine.found < len(mine.firsts):
        reasons.append(f"found in {mine.found} of {len(mine.firsts)} campaigns")
    if mine.median is not None and mine.median >= FEW and best is not None and mine.median > NEAR * best:
        reasons.append(f"median {mine.median:g} is more than {NEAR} times the best, {best:g}")
    if mine.median is not None and mine.worst is not None and mine.worst > SPREAD * mine.median:
        reasons.append(f"worst {mine.worst} is more than {SPREAD} times the median {mine.median:g}")
    return Judgement(goal=mine.goal, best=best, median=mine.median, worst=mine.worst, reasons=tuple(reasons))
