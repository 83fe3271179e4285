"""The model's answer to an operation sequence, in the terms of a real kernel's.

The sequence becomes a scenario of one process whose arena is not mapped yet; the second thread's operations run on a second CPU,
in turn. Nothing is interleaved, so there is one schedule, and every oracle watches it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import attrs

from ptactors.config import Config, Thp, resolve
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import Option
from ptactors.hardware.cpu import SIGSEGV
from ptactors.host import snapshot
from ptactors.host.program import Translation, translate
from ptactors.host.sequence import Observation, Step
from ptactors.model.event import FaultIn, OpEnd, PageFaultEnd
from ptactors.model.hazard import Finding
from ptactors.oracle.table import Oracles
from ptactors.scenario import load
from ptactors.scenario.matrix import Cell
from ptactors.world.machine import Machine


@attrs.frozen(kw_only=True)
class Simulation:
    """What the model showed."""

    observed: tuple[Observation, ...]
    """After each step."""
    findings: tuple[Finding, ...]
    """Hazards that an oracle reported on the way; there should be none."""
    status: str
    """complete, or how else the run ended."""


class InTurn:
    """The strategy of a sequential run: whoever moves goes on; when it waits, interrupts come before other programs."""

    every_turn = False

    def keeps(self, actor: Actor) -> bool:
        """Go on, always."""
        return True

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        return next((i for i, option in enumerate(options) if not option.actor.program), 0)

    def finished(self, steps: int) -> None:
        """Any end will do."""


class _Observer:
    """Takes an observation at the end of each step of the sequence."""

    def __init__(self, machine: Machine, translation: Translation) -> None:
        self._state = machine.state
        self._translation = translation
        self._process = machine.scenario.processes[0]
        self._start_kb = snapshot.vmpte_kb(self._state, self._process)
        self._left = list(translation.accesses)
        self._faults = 0
        self._results: list[str] = []
        self.observed: list[Observation] = []
        self._state.listen(OpEnd, self._end)
        self._state.listen(PageFaultEnd, self._fault)
        self._state.listen(FaultIn, self._fault)

    def _fault(self, step: int, actor: int, event: PageFaultEnd | FaultIn) -> None:
        """Count a fault as mm_account_fault() does: not one that ended in a signal."""
        self._faults += not (isinstance(event, PageFaultEnd) and event.result == SIGSEGV)

    def _end(self, step: int, actor: int, event: OpEnd) -> None:
        number = self._translation.number(event.label)
        if number is None:
            return
        self._results.append(event.result)
        self._left[number] -= 1
        if self._left[number] == 0:
            self._observe(self._translation.steps[number])

    def _observe(self, step: Step) -> None:
        seen = snapshot.take(self._state, self._process)
        self.observed.append(
            Observation(
                step=step,
                result=_result(step, self._results),
                vmpte_kb=seen.vmpte_kb - self._start_kb,
                rss_kb=seen.rss_kb,
                faults=self._faults,
                tables=seen.tables,
                vmas=seen.vmas,
            )
        )
        self._faults, self._results = 0, []


def _result(step: Step, results: Sequence[str]) -> int | tuple[int, ...] | str:
    """What the recorder says of these results: the set of values read; nothing of a write; else what the system call returned."""
    verb = step[1] if step[0] == "t2" else step[0]
    if SIGSEGV in results:
        return SIGSEGV
    if verb == "r":
        return tuple(sorted({int(result) for result in results}))
    if verb == "repeat":
        return next((_errno(int(each)) for each in results if each.startswith("-")), 0)
    if verb in ("w", "map"):
        return 0 if verb == "w" or int(results[0]) >= 0 else _errno(int(results[0]))
    return _errno(int(results[0]))


def _errno(value: int) -> int | str:
    return f"-{errno.errorcode[-value]}" if value < 0 else value


def configuration(preset: str, thp: str) -> Config:
    """A kernel preset on a machine as sequences are recorded on: two CPUs, huge pages as /sys says (``madvise``; '' for none)."""
    return resolve(preset, thp=Thp(thp or "never"), cpus=2)


def run(steps: Sequence[Step], config: Config) -> Simulation:
    """Make the steps. Raises UsageError for what the model has no operation for."""
    translation = translate(tuple(steps))
    scenario = load.loads(translation.text)
    cell = Cell(index=0, name="-", preset="", hardware="", knobs={}, config=config, expects=())
    machine = Machine(scenario, cell, "in-turn", 0, Oracles(), by=InTurn())
    observer = _Observer(machine, translation)
    host_direct.run(machine.baton)
    ending = machine.finish()
    assert ending.status != "complete" or len(observer.observed) == len(translation.steps), "a step ended without an observation"
    return Simulation(observed=tuple(observer.observed), findings=tuple(machine.oracles.findings), status=ending.status)


def simulate(steps: Sequence[Step], preset: str, thp: str = "madvise") -> tuple[Observation, ...]:
    """What the model shows after each step. Raises UsageError for steps that it has no operation for."""
    return run(steps, configuration(preset, thp)).observed
