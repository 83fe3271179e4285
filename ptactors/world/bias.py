"""Faults that are a matter of time alone: they narrow what a sampling strategy may choose from.

Recorded schedules, orders given by hand and exhaustive searches are not bound by them: everything that such a fault makes likely
is possible without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.engine.strategy.base import Option, Run, Sampler
from ptactors.hardware.interrupt import Deliver
from ptactors.scenario.model import Fault


class _Biased(Sampler):
    """A strategy that passes on what it is told to another one."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner
        self.contested_only = inner.contested_only

    def begin(self, run: Run) -> None:
        """See Sampler."""
        self._inner.begin(run)

    def finished(self, steps: int) -> None:
        """See Strategy."""
        self._inner.finished(steps)


class Eager(_Biased):
    """Lets RCU move first whenever it can: callbacks as early as they may."""

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        for i, option in enumerate(options):
            if option.actor.name.startswith("rcu"):
                return i
        return self._inner.choose(step, options)


class Patient(_Biased):
    """Holds interrupts for some CPUs on the bus until nothing else can move, as for a virtual CPU that its host does not run.

    Whoever waits for an acknowledgement then stands still for as long as the others have something to do, so that what is wrong
    between clearing an entry and the end of its flush has all that time to be met.
    """

    def __init__(self, inner: Sampler, cpus: tuple[int, ...]) -> None:
        super().__init__(inner)
        self._cpus = cpus

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        free = [i for i, option in enumerate(options) if not self._held(option)]
        if not free or len(free) == len(options):
            return self._inner.choose(step, options)
        return free[self._inner.choose(step, [options[i] for i in free])] if len(free) > 1 else free[0]

    def _held(self, option: Option) -> bool:
        return isinstance(option.step, Deliver) and option.step.cpu in self._cpus


def biased(sampler: Sampler, fault: Fault) -> Sampler:
    """The strategy under what the scenario says of time."""
    if fault.late_ipis:
        sampler = Patient(sampler, fault.late_ipis)
    return Eager(sampler) if fault.rcu_callbacks == "early" else sampler
