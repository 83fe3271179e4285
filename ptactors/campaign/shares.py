"""How a portfolio's budget is split: rounds of fixed sizes, and in each as many seeds for a member as it has earned.

In the first round all members have the same share. After each round half of the budget is still split evenly, so that nobody's
luck is final; the other half goes by the behaviours that a member was the first to show, per schedule of the round before.
Everything is counted in schedules and in the order of seeds: how fast a member is, and who counts, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ptactors.engine.strategy.portfolio import MEMBERS, member_of

FIRST_ROUND = 100
"""Schedules of the first round; each later one ends where twice as many schedules have been made as when it began."""


def adapts(strategy: str) -> bool:
    """Whether a campaign with this strategy chooses its seeds."""
    return strategy.partition(":")[0] == "portfolio"


def round_ends(runs: int) -> Iterator[int]:
    """How many schedules have been made at the end of each round."""
    end = FIRST_ROUND
    while end < runs:
        yield end
        end *= 2
    yield runs


class Shares:
    """The seeds of one cell's campaign, round by round."""

    def __init__(self, first: int, runs: int) -> None:
        self._runs = runs
        self._made = 0
        self._ends = round_ends(runs)
        self._next = {member_of(seed): seed for seed in range(first, first + len(MEMBERS))}
        self._last: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def next_round(self, new: Mapping[str, int]) -> Sequence[int]:
        """The seeds of the next round, ascending; ``new``: member -> behaviours that it was the first to show, so far.

        Empty when the budget is spent.
        """
        if self._made == self._runs:
            return ()
        end = next(self._ends)
        size = end - self._made
        gained = {member: new.get(member, 0) - self._before.get(member, 0) for member in self._next}
        self._before = dict(new)
        quotas = self._quotas(size, gained) if self._made else self._even(size)
        seeds: list[int] = []
        for member, quota in quotas.items():
            start = self._next[member]
            seeds += range(start, start + quota * len(MEMBERS), len(MEMBERS))
            self._next[member] = start + quota * len(MEMBERS)
        self._last, self._made = quotas, end
        return sorted(seeds)

    def _even(self, size: int) -> dict[str, int]:
        """So that the seeds are consecutive."""
        members = list(self._next)
        return {member: size // len(members) + (i < size % len(members)) for i, member in enumerate(members)}

    def _quotas(self, size: int, gained: Mapping[str, int]) -> dict[str, int]:
        quotas = self._even(size // 2)
        rest = size - size // 2
        rates = {member: (gained[member] + 1) * 1_000_000 // (self._last[member] + 1) for member in self._next}
        total = sum(rates.values())
        for member, rate in rates.items():
            quotas[member] += rest * rate // total
        left = size - sum(quotas.values())
        for member in sorted(rates, key=lambda name: -rates[name])[:left]:
            quotas[member] += 1
        return quotas
