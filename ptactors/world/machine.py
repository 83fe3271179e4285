"""The assembly of one run: cells, actors, oracles, strategy; and what happens when nothing can move.

A run has phases. Its programs run until all are done and the machine is quiet: no interrupt on its way, no callback left. Then
the final state is read, and the processes exit, so that every page and counter must come out even.
"""

from __future__ import annotations

import functools
from typing import Protocol

import attrs

from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton
from ptactors.engine.contest import Contest
from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.base import Sampler, Strategy
from ptactors.engine.strategy.replay import Replay
from ptactors.engine.strategy.script import Script
from ptactors.engine.strategy.table import make_strategy
from ptactors.kernel.operation import Kind
from ptactors.kernel.rcu import released
from ptactors.model.event import EVENTS, EntryWrite, ExitMm, GatherEnd, OpEnd, ProgramsDone, RunEnd, Stuck, event_name
from ptactors.model.state import State
from ptactors.oracle.table import Oracles
from ptactors.scenario.condition import EventCount
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.scenario.program import OpCall, Program, calls, flatten
from ptactors.scenario.stress import expand_stress
from ptactors.world import lesson, setup, stuck
from ptactors.world.bias import biased
from ptactors.world.cast import Cast, Role
from ptactors.world.facts import EventCounts, WorldFacts
from ptactors.world.metrics import Metrics
from ptactors.world.program import exiting
from ptactors.world.recording import Recording

PROGRESS = (OpEnd, EntryWrite, GatherEnd, ExitMm)
"""A run that reached its limit is a livelock if none of these happened in the second half of its steps."""


class Hook(Protocol):
    """Something that watches each step."""

    def before(self, actor: Actor) -> None:
        """The step is granted."""

    def after(self, actor: Actor) -> None:
        """The step is made."""


@attrs.frozen(kw_only=True)
class Ending:
    """How a run ended."""

    status: str
    reason: str
    verdicts: tuple[bool, ...]
    final: tuple[tuple[str, int | str], ...]
    metrics: dict[str, int]


class Machine:
    """One run, ready to be driven by a host through ``baton``."""

    def __init__(
        self,
        scenario: Scenario,
        cell: Cell,
        strategy: str,
        seed: int,
        oracles: Oracles,
        *,
        record: bool = False,
        replay: Schedule | None = None,
        by: Strategy | None = None,
        probe: tuple[int, Contest | None] | None = None,
    ) -> None:
        """``by`` chooses instead of what strategy and seed spell; ``probe``, for a probe run: its most steps and its filter."""
        self.scenario, self.cell, self.oracles = scenario, cell, oracles
        self.provenance = (replay.strategy, replay.seed) if replay else (strategy, seed)
        self.state = State(cell.config)
        self.recording = Recording(self.state) if record else None
        self.reached: set[str] = set()
        oracles.listen(self.state.listen)
        self.metrics = Metrics(self.state)
        self._last_progress = 0
        for kind in PROGRESS:
            self.state.listen(kind, self._see_progress)
        self._evers = {ever.text: False for expect in cell.expects for ever in expect.condition.evers}
        events = EventCounts(self.state, _counted(cell))
        self.facts = WorldFacts(self.state, oracles, self.metrics, events, self._evers, scenario.processes)
        self._programs = expand_stress(scenario, self.provenance[1])[: cell.config.machine.cpus]
        cast = Cast(scenario, cell, self._programs)
        self.roles = cast.roles()
        self.actors = self._act(self.roles)
        setup.prepare(self.state, scenario, cast.threads())
        chooser = by or self._strategy(*self.provenance, replay)
        most, contest = probe or (scenario.max_steps, self._contest(chooser))
        self.baton = Baton(self.state, self.actors, chooser, max_steps=most, when_quiet=self._when_quiet, contest=contest)
        if isinstance(chooser, Sampler):
            chooser.begin(self.baton)
        self._final: Ending | None = None
        self._stuck: tuple[str, str] | None = None
        self._hooks: list[Hook] = []
        if self.recording is not None:
            self.hook(self.recording)
        if scenario.coverage:
            self._watch_coverage()
        if self._evers:
            self.hook(_Evers(self))

    def hook(self, hook: Hook) -> None:
        """Have ``hook`` watch every step."""
        self._hooks.append(hook)
        if len(self._hooks) == 1:  # nothing between the engine and the one that a recorded run has
            self.baton.before, self.baton.after = hook.before, hook.after
            return
        befores = [h.before for h in self._hooks]
        afters = [h.after for h in self._hooks]

        def before(actor: Actor) -> None:
            for each in befores:
                each(actor)

        def after(actor: Actor) -> None:
            for each in afters:
                each(actor)

        self.baton.before, self.baton.after = before, after

    # -- assembly -----------------------------------------------------------------------------------------------------

    def _strategy(self, name: str, seed: int, replay: Schedule | None) -> Strategy:
        if replay is not None:
            return Replay(replay)
        if self.scenario.pin:
            return Script([str(step) for step in self.scenario.pin])
        made = make_strategy(name, seed)
        if made.profiled:
            made = make_strategy(name, seed, lesson.lesson(self.scenario, self.cell, self._start_probe).profile)
        return biased(made, self.scenario.fault)

    def _contest(self, chooser: Strategy) -> Contest | None:
        """What is no decision point, for a strategy that wants to be spared those."""
        if not isinstance(chooser, Sampler) or not chooser.contested_only:
            return None
        return lesson.lesson(self.scenario, self.cell, self._start_probe).contest

    def _start_probe(self, walk: Sampler, seed: int, most: int, contest: Contest | None) -> Baton:
        return Machine(self.scenario, self.cell, "probe", seed, Oracles(), by=walk, probe=(most, contest)).baton

    def _act(self, roles: tuple[Role, ...]) -> tuple[Actor, ...]:
        actors: list[Actor] = []
        for role in roles:
            coroutine, life = role.enter()
            actor = Actor(
                id=len(actors),
                name=role.name,
                coroutine=coroutine,
                gate=role.gate,
                optional=role.optional,
                program=role.program,
            )
            if life is not None:
                life.actor = actor
            actors.append(actor)
        return tuple(actors)

    def _watch_coverage(self) -> None:
        def see(step: int, actor: int, event: object) -> None:
            self.reached.add(event_name(event))

        for kind in EVENTS:
            self.state.listen(kind, see)
        self.hook(_Labels(self.reached))

    def _see_progress(self, step: int, actor: int, event: object) -> None:
        self._last_progress = step

    # -- the end ------------------------------------------------------------------------------------------------------

    def _exits(self) -> list[Actor]:
        """Programs that were told to exit and are not done."""
        return [a for a in self.actors if a.program and not a.done] if self.state.read(exiting()) else []

    def _when_quiet(self) -> bool:
        """Nothing that must happen can: go on to the next phase, or say that it is over."""
        state = self.state
        state.actor = -1
        waiting = stuck.unfinished(self.actors) or self._exits()
        if waiting:
            self._stuck = stuck.kind_of(waiting), stuck.describe(state, waiting)
            return False
        if not state.read(released()):
            state.write(released(), True)
            if any(name[0] == "callbacks" for name in state.cells):
                return True
        if self._final is None:
            state.emit(ProgramsDone(-1))
            self._final = self._ending("complete", "")
            if self.cell.config.machine.exit:
                state.write(exiting(), True)
                return True
        return False

    def finish(self) -> Ending:
        """Judge the end of the run, once the host is done with it."""
        state = self.state
        state.actor = -1
        self.baton.strategy.finished(len(self.baton.turns))
        status, reason = self._stuck or ("complete", "")
        if self.baton.limit_reached:
            status, reason = "limit", f"stopped after {len(self.baton.turns)} steps"
            idle = state.step - self._last_progress
            if idle > self.scenario.max_steps // 2:
                status, reason = "livelock", f"no entry was changed and no operation ended in the last {idle} steps"
        if status in ("deadlock", "stall", "livelock"):
            state.emit(Stuck(-1, status, reason))
        state.emit(RunEnd(-1, status == "complete" and self.cell.config.machine.exit))
        final = self._final or self._ending(status, reason)
        return attrs.evolve(final, status=status, reason=reason, verdicts=self._verdicts())

    def _ending(self, status: str, reason: str) -> Ending:
        self.note_evers()
        final = self._final_state()
        numbers = self.metrics.numbers(self.state.step)
        self.facts.freeze(numbers)
        return Ending(status=status, reason=reason, verdicts=(), final=final, metrics=numbers)

    def _verdicts(self) -> tuple[bool, ...]:
        """Conditions are of the state when the programs were done; hazards of the whole run, the exits included."""
        return tuple(expect.condition.evaluate(self.facts) for expect in self.cell.expects)

    def _final_state(self) -> tuple[tuple[str, int | str], ...]:
        registers = [
            (f"cpu{number}:{name}", self.facts.register(number, name))
            for number, program in enumerate(self._programs)
            for name in dict.fromkeys(_registers(program))
        ]
        touched = [
            (f"mem[{vma.name}+{va - vma.at:#x}]", self.facts.memory(va))
            for vma in self.scenario.vmas
            for va in sorted(self._touched)
            if vma.at <= va < vma.end
        ]
        return (*registers, *touched)

    @functools.cached_property
    def _touched(self) -> set[int]:
        """Addresses that straight-line programs access by name; loops are too many to list."""
        return {
            int(call.arguments[0])  # type: ignore[arg-type]
            for program in self._programs
            if all(isinstance(statement, OpCall) for statement in program) and self.scenario.stress is None
            for call in flatten(program)
            if call.operation in ("read", "write", "gup_fast")
        }

    def note_evers(self) -> None:
        """Look whether what ``ever`` asks for holds now."""
        for expect in self.cell.expects:
            for ever in expect.condition.evers:
                if not self._evers[ever.text]:
                    self._evers[ever.text] = ever.evaluate(self.facts)


def _registers(program: Program) -> list[str]:
    """The registers that a program writes, in the order of the text."""
    return [str(name) for call in calls(program) for name in call.of_kind(Kind.REGISTER) if name]


def _counted(cell: Cell) -> tuple[str, ...]:
    """The names of events that some condition of the cell counts."""
    found: list[str] = []

    def look(part: object) -> None:
        if isinstance(part, EventCount):
            found.append(part.event)
        elif attrs.has(type(part)):
            for field in attrs.fields(type(part)):  # type: ignore[arg-type]
                look(getattr(part, field.name))
        elif isinstance(part, tuple):
            for each in part:
                look(each)

    for expect in cell.expects:
        look(expect.condition.root)
    return tuple(found)


class _Labels:
    """Notes the name of every step that is made."""

    def __init__(self, reached: set[str]) -> None:
        self._reached = reached

    def before(self, actor: Actor) -> None:
        self._reached.add(actor.next_step().name())

    def after(self, actor: Actor) -> None:
        pass


class _Evers:
    """Looks after every step whether what ``ever`` asks for holds."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def before(self, actor: Actor) -> None:
        pass

    def after(self, actor: Actor) -> None:
        self._machine.note_evers()
