"""One run of one cell of a scenario: assemble the machine, let a strategy drive it, and say what came of it."""

from __future__ import annotations

import gc
import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import trio

from ptactors import __version__
from ptactors.engine import host_direct
from ptactors.engine.audit import Audit
from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.host_trio import TrioHost
from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.base import Strategy
from ptactors.errors import UsageError
from ptactors.model.hazard import Finding
from ptactors.model.state import Record, State
from ptactors.oracle.table import Oracles
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world.machine import Hook, Machine

HOSTS = ("trio", "direct")
RUNS_A_COLLECTION = 32
"""After so many runs their machines, which are cycles of objects, are collected."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one run."""

    status: str
    """complete, deadlock, stall, livelock or limit."""
    reason: str
    """A sentence for anything but complete."""
    steps: int
    findings: tuple[Finding, ...]
    """The first sighting of each hazard."""
    verdicts: tuple[bool, ...]
    """For each expectation of the cell, whether its condition is true of this run."""
    final: tuple[tuple[str, int | str], ...]
    """Registers and touched memory when the programs were done, in the order of the scenario."""
    metrics: dict[str, int]
    reached: tuple[str, ...]
    """Names of steps and events that occurred; collected only if the scenario has coverage goals."""
    digest: str
    """Of the whole run: its turns, its final state, its findings."""
    actors: tuple[str, ...]
    """Actor id -> name."""
    records: tuple[Record, ...] | None
    """(step, actor, event), if they were asked for."""
    causes: Mapping[int, int]
    """Step -> the step that made it possible; world/recording.py says which."""
    functions: dict[int, str]
    """Step -> the stack of kernel functions it was made in, innermost first."""
    make_schedule: Callable[[], Schedule] = attrs.field(repr=False, eq=False)

    @property
    def schedule(self) -> Schedule:
        """The run, ready to be made again; with names of steps if the run was recorded."""
        return self.make_schedule()


def play(
    scenario: Scenario,
    cell: Cell,
    *,
    strategy: str,
    seed: int,
    record: bool = False,
    host: str = "trio",
    replay: Schedule | None = None,
    audit: bool = False,
    by: Strategy | None = None,
    watch: Sequence[Callable[[State], Hook]] = (),
) -> Outcome:
    """Run once; with ``by`` it chooses, and strategy and seed only say where the run comes from; ``watch`` makes hooks.

    Raises ReplayDivergence if ``replay`` or a pinned order cannot be followed, ModelError for a bug in the model.
    """
    if host not in HOSTS:
        raise UsageError(f"unknown host {host!r}; known: {', '.join(HOSTS)}")
    machine = Machine(scenario, cell, strategy, seed, Oracles(), record=record, replay=replay, by=by)
    if audit:
        machine.hook(Audit(machine.state))
    for make in watch:
        machine.hook(make(machine.state))
    with _no_collector(1):
        if host == "direct":
            host_direct.run(machine.baton)
        else:
            trio.run(TrioHost(machine.baton).run)
    return _outcome(machine)


def play_many(
    scenario: Scenario,
    cell: Cell,
    *,
    strategy: str,
    seeds: Iterable[int],
    host: str = "trio",
    watch: Sequence[Callable[[State], Hook]] = (),
) -> Iterator[Outcome]:
    """Run once for each seed: all in one trio loop, or with the direct host one by one, as they are asked for.

    ``watch`` makes hooks, new ones for each run.
    """
    if host not in HOSTS:
        raise UsageError(f"unknown host {host!r}; known: {', '.join(HOSTS)}")
    oracles = Oracles()
    outcomes: list[Outcome] = []

    def machine(seed: int) -> Machine:
        oracles.reset()
        made = Machine(scenario, cell, strategy, seed, oracles)
        for make in watch:
            made.hook(make(made.state))
        return made

    async def all_in_trio() -> None:
        for number, seed in enumerate(seeds, 1):
            with _no_collector(number):
                one = machine(seed)
                await TrioHost(one.baton).run()
                outcomes.append(_outcome(one))

    if host == "trio":
        trio.run(all_in_trio)
        yield from outcomes
        return
    for number, seed in enumerate(seeds, 1):
        with _no_collector(number):
            one = machine(seed)
            host_direct.run(one.baton)
            outcome = _outcome(one)
        yield outcome


@contextmanager
def _no_collector(number: int) -> Iterator[None]:
    """Python's cycle collector off during a run, which makes no cycles that matter: 15 to 20 % of a run with many tables."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
    if number % RUNS_A_COLLECTION == 0:
        gc.collect()


def _outcome(machine: Machine) -> Outcome:
    ending = machine.finish()
    recording = machine.recording
    findings = tuple(machine.oracles.findings)
    turns = machine.baton.turns
    digest = hashlib.sha256(turns.tobytes())
    for part in (ending.final, ending.metrics, [(f.hazard, f.step, f.what) for f in findings], ending.status):
        digest.update(repr(part).encode())
    return Outcome(
        status=ending.status,
        reason=ending.reason,
        steps=machine.state.step,
        findings=findings,
        verdicts=ending.verdicts,
        final=ending.final,
        metrics=ending.metrics,
        reached=tuple(sorted(machine.reached)),
        digest=digest.hexdigest()[:32],
        actors=tuple(actor.name for actor in machine.actors),
        records=tuple(recording.records) if recording else None,
        causes=recording.causes if recording else {},
        functions=recording.functions if recording else {},
        make_schedule=_scheduler(machine, turns),
    )


def _scheduler(machine: Machine, turns: array[int]) -> Callable[[], Schedule]:
    names = [actor.name for actor in machine.actors]
    labels = machine.recording.labels if machine.recording else None
    scenario, cell = machine.scenario, machine.cell
    strategy, seed = machine.provenance

    def make() -> Schedule:
        return Schedule(
            version=__version__,
            scenario=scenario.name,
            scenario_path=scenario.path,
            digest=scenario.digest,
            cell=cell.name,
            knobs=cell.config.as_dict(),
            strategy=strategy,
            seed=seed,
            turns=tuple(
                (names[turn // ALTERNATIVES], turn % ALTERNATIVES, labels[i] if labels else "") for i, turn in enumerate(turns)
            ),
        )

    return make
