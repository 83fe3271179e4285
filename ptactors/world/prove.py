"""Exhaustive answers for one cell: every interleaving of its programs, within bounds that are said.

The search merges states that are equal in their cells, in what each actor will do and in what the oracles know
(engine/prove.py), so that every hazard an oracle can see on any path is found. The processes do not exit (``exit`` is off):
nothing is said of what should be left over after that, nor of runs that go in circles for ever (``UNDECIDED``).

In a search that gets large, steps that commute with all that others could do meanwhile are no places to stop at (engine/fuse.py),
unless that is switched off; which of them do for the oracles, world/sight.py says.

A hazard or a state is found by a shortest path among those left. That something is found on no path is said only if the search
emptied and came everywhere: every program to its end, every speculating walker to a step, and some event of those that the oracle
looks at up. Whether the search could have found it at all, a mutant must show (world/mutant.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ptactors.engine.automaton import Automaton, Node
from ptactors.engine.prove import Mover, Search, Searched, Situation, Turn
from ptactors.kernel.rcu import AwaitGp
from ptactors.model.event import ProgramsDone, RunEnd
from ptactors.model.hazard import Finding
from ptactors.oracle.table import HAZARDS, Oracles
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Expectation, Scenario
from ptactors.world.cast import Role
from ptactors.world.machine import Machine
from ptactors.world.program import AwaitExit
from ptactors.world.watch import OracleWatcher

UNDECIDED = frozenset({"leak", "livelock"})
"""Hazards on which a search without exits and without an end to a run says nothing."""
BY_SEARCH = frozenset({"deadlock", "stall"})
"""Hazards that the search itself sees."""
HELD, VIOLATED, INCONCLUSIVE = "held", "violated", "inconclusive"
Turns = tuple[tuple[str, int], ...]
"""(actor, option) for each step of a path."""
Place = tuple[int, tuple[Turn, ...]]
"""A state, and the turns from there that show something; none: the state itself does."""


@attrs.frozen(kw_only=True)
class Bounds:
    """Where a search stops."""

    max_states: int = 1_000_000
    """It is cut off when more are known."""
    preemptions: int | None = None
    """Paths with more are not looked at; None: all are."""
    fuse_from: int | None = 150_000
    """A search that gets larger begins anew, and steps that commute with all that others could do meanwhile are no places to stop
    at; None: never, and never with a bound of preemptions."""


@attrs.frozen(kw_only=True)
class Mutant:
    """The same programs with a fix switched off."""

    knobs: tuple[tuple[str, str], ...]
    """What is different."""
    steps: int
    """Steps of a shortest path to what is held of the cell itself."""
    states: int
    """States that were looked at until then."""


@attrs.frozen(kw_only=True)
class Answer:
    """One expectation, answered."""

    kind: str
    condition: str
    verdict: str
    reason: str
    """What the verdict rests on."""
    witness: Turns | None
    """A shortest path to what an ``exists`` asks for or a ``forbidden`` forbids."""
    mutant: Mutant | None = None
    """What shows that the search would have found it."""


@attrs.frozen(kw_only=True)
class Proof:
    """One cell, searched."""

    cell: Cell
    bounds: Bounds
    searched: Searched
    hazards: dict[str, Turns]
    """Every hazard that was found, with a shortest path to it."""
    findings: dict[str, Finding]
    unreached: tuple[str, ...]
    """Programs that never came to their end, speculating walkers that never moved."""
    unmoved: tuple[str, ...]
    """Interrupts, RCU threads and the like that had nothing to do."""
    merges: int
    """Histories that were merged and audited."""
    memories: int
    """Different things that the oracles knew."""
    answers: tuple[Answer, ...]


class CellSearch:
    """The exhaustive search of one cell."""

    def __init__(self, scenario: Scenario, cell: Cell, bounds: Bounds, expects: tuple[Expectation, ...] | None = None) -> None:
        """``expects`` are answered; by default the cell's."""
        config = attrs.evolve(cell.config, machine=attrs.evolve(cell.config.machine, exit=False))
        self.cell, self.bounds = cell, bounds
        self.machine = Machine(scenario, attrs.evolve(cell, config=config), "random", 0, Oracles())
        self.machine.baton.close()
        self.hazards: dict[str, Place] = {}
        self._expects = cell.expects if expects is None else expects
        self._finals: dict[int, Place] = {}
        """Expectation -> a final state that shows an ``exists`` or ``forbidden``, or is against an ``always``."""
        self._ended: set[str] = set()
        self._done = 0
        """Final states in which all programs are done."""
        self._wanted: Expectation | None = None
        state = self.machine.state
        state.listeners, state.waited = {}, {}  # the watcher hears the records; nobody waits
        self.watcher = OracleWatcher(self.machine.oracles)
        movers = tuple(_mover(role) for role in self.machine.roles)
        self.search = Search(state, movers, self.watcher, exact=True, preemptions=bounds.preemptions, fuse_from=bounds.fuse_from)
        self.search.when_found = self._found
        self.search.when_final = self._final
        self.search.when_again = self._again

    def run(self, progress: Callable[[Searched, int], None] | None = None) -> Proof:
        """Search, and answer every expectation."""
        searched = self.search.run(self.bounds.max_states, progress)
        roles = self.machine.roles
        still = [role for role, moved in zip(roles, searched.moved, strict=True) if not moved and not role.program]
        unreached = [role.name for role in roles if role.program and role.name not in self._ended]
        unreached += [role.name for role in still if role.optional]
        return Proof(
            cell=self.cell,
            bounds=self.bounds,
            searched=searched.without_paths(),
            hazards={name: self._turns(at) for name, at in self.hazards.items()},
            findings=self.watcher.findings,
            unreached=tuple(unreached),
            unmoved=tuple(role.name for role in still if not role.optional),
            merges=sum(mover.automaton.merges for mover in self.search.movers),
            memories=len(self.watcher.memories),
            answers=tuple(self._answer(i, expect, tuple(unreached)) for i, expect in enumerate(self._expects)),
        )

    def look_for(self, expect: Expectation) -> tuple[int, int] | None:
        """Search until ``expect``, a forbidden or an always, is broken: (steps to that, states looked at), or None."""
        self._expects, self._wanted = (expect,), expect
        searched = self.search.run(self.bounds.max_states)
        at = self._place(0, expect)
        return (len(self._turns(at)), searched.states) if at is not None else None

    def _again(self) -> None:
        """The search begins anew."""
        self.hazards.clear()
        self._finals.clear()
        self._ended.clear()
        self._done = 0

    def _found(self, hazard: str, number: int, turns: tuple[Turn, ...]) -> None:
        if hazard not in self.hazards:
            self.hazards[hazard] = (number, turns)
            if self._wanted is not None and _is_any_hazard(self._wanted) and hazard in self._wanted.condition.hazards():
                self.search.enough = True

    def _final(self, here: Situation) -> None:
        """Nobody must move: all programs are done, or nobody can."""
        programs = [(role, node) for role, node in zip(self.machine.roles, here.nodes, strict=True) if role.program]
        waiting = [node for _, node in programs if not _over(node)]
        self._ended.update(role.name for role, node in programs if _over(node))
        if waiting:
            stall = any(isinstance(step, AwaitGp) for node in waiting for step in node.options)
            self._found("stall" if stall else "deadlock", here.number, ())
            return
        self._done += 1
        for name in self.watcher.hear(here.memory, [(0, -1, ProgramsDone(-1)), (0, -1, RunEnd(-1, False))])[1]:
            self._found(name, here.number, ())
        for i, expect in enumerate(self._expects):
            wanted = expect.kind != "always"
            if i not in self._finals and _of_final_state(expect) and expect.condition.evaluate(self.machine.facts) is wanted:
                self._finals[i] = (here.number, ())
                self.search.enough = self._wanted is not None

    def _turns(self, at: Place) -> Turns:
        number, turns = at
        path = [*self.search.result.path(number), *turns]
        return tuple((self.search.movers[i].name, option) for i, option in path)

    def _place(self, i: int, expect: Expectation) -> Place | None:
        """Where the search found what ``expect`` names."""
        if _of_final_state(expect):
            return self._finals.get(i)
        found = [self.hazards[name] for name in expect.condition.hazards() if name in self.hazards]
        return min(found, key=lambda at: len(self._turns(at)), default=None)

    def _answer(self, i: int, expect: Expectation, unreached: tuple[str, ...]) -> Answer:
        if not decides(expect):
            return _told(expect, INCONCLUSIVE, "the search does not decide this condition", None)
        at = self._place(i, expect)
        if at is not None:
            turns = self._turns(at)
            return _told(expect, HELD if expect.kind == "exists" else VIOLATED, f"after {len(turns)} steps", turns)
        if not self.search.result.complete:
            return _told(expect, INCONCLUSIVE, "the search was cut off by its bound of states", None)
        if unreached:
            return _told(expect, INCONCLUSIVE, f"vacuous: {', '.join(unreached)} never came to its end", None)
        if missing := self._missing(expect):
            return _told(expect, INCONCLUSIVE, f"vacuous: {missing}", None)
        bound = self.bounds.preemptions
        where = "in no interleaving" if bound is None else f"in no interleaving of at most {bound} preemptions"
        return _told(expect, VIOLATED if expect.kind == "exists" else HELD, where, None)

    def _missing(self, expect: Expectation) -> str:
        """What never came up that the condition is about."""
        if not self._done:
            return "no final state with all programs done"
        kinds = {name: HAZARDS[name].kinds for name in expect.condition.hazards() if name not in BY_SEARCH}
        deaf = [name for name, kind in kinds.items() if self.watcher.heard.isdisjoint(kind)]
        return f"nothing that hazard({deaf[0]}) looks at ever happened" if deaf else ""


def decides(expect: Expectation) -> bool:
    """Whether a search can answer this expectation."""
    if _of_final_state(expect):
        return True
    return _is_any_hazard(expect) and expect.kind != "always" and not UNDECIDED & set(expect.condition.hazards())


def _told(expect: Expectation, verdict: str, reason: str, witness: Turns | None) -> Answer:
    return Answer(kind=expect.kind, condition=expect.condition.text, verdict=verdict, reason=reason, witness=witness)


def _over(node: Node) -> bool:
    return not node.options or isinstance(node.options[0], AwaitExit)


def _mover(role: Role) -> Mover:
    def enter() -> tuple[Any, Callable[[], str]]:
        coroutine, life = role.enter()
        return coroutine, (lambda: life.cpu.op) if life is not None else (lambda: "")

    return Mover(name=role.name, automaton=Automaton(role.name, enter), gate=role.gate, optional=role.optional)


def _is_any_hazard(expect: Expectation) -> bool:
    """Whether the condition is one hazard or several joined by ``or``: then it holds of a run as soon as one was seen."""
    words = expect.condition.canonical().replace("(", " ").replace(")", " ").split()
    named = bool(expect.condition.hazards())
    return (
        named
        and not {"and", "not", "ever", "final", "count"} & set(words)
        and not any(c in expect.condition.text for c in "=<>[")
    )


def _of_final_state(expect: Expectation) -> bool:
    """Whether the condition asks only for registers, memory, tables and TLBs when the programs are done."""
    text = expect.condition.canonical()
    asks = ("hazard", "count", "ever", "fault", "VmPTE", "rss", "flushes", "ipis", "grace_periods", "steps")
    return not any(word in text for word in asks)
