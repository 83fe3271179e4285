"""Several strategies in turn."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import UNKNOWN, Option, Profile, Run, Sampler
from ptactors.engine.strategy.pct import FairPct
from ptactors.engine.strategy.pos import Pos
from ptactors.engine.strategy.run_length import RunLength
from ptactors.engine.strategy.urw import Urw

MEMBERS: tuple[tuple[str, type[Sampler], tuple[str, ...], bool], ...] = (
    ("fair-pct:4", FairPct, ("4",), True),
    ("fair-pct:3", FairPct, ("3",), True),
    ("urw", Urw, (), True),
    ("pos", Pos, (), True),
    ("run-length", RunLength, (), False),
)
"""Name, class, parameters, and whether only contested steps are decision points; of the last one all are, lest the filter
hide something from all of them."""


def member_of(seed: int) -> str:
    """Which strategy makes the run of this seed."""
    return MEMBERS[seed % len(MEMBERS)][0]


class Portfolio(Sampler):
    """Strategies that are good at different bugs, in turn: seed S is a run of member S modulo their number, with seed S.

    No strategy wins everywhere (Thomson et al., TOPC 2016): uniform walks find what has a wide window, priorities what needs a
    deep order, long stretches what lies behind a long path. A campaign runs all members alike in its first round and then moves
    the budget, by choosing seeds, to those that showed new behaviour; never by time, so that results are the same everywhere.
    """

    profiled = True

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        _, kind, arguments, self.contested_only = MEMBERS[seed % len(MEMBERS)]
        self._member = kind(seed, arguments, profile)

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._member.begin(run)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        return self._member.choose(step, options)

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""
        self._member.finished(steps)
