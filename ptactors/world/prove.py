"""Exhaustive answers for one cell: every interleaving of its programs, within bounds that are said.

The search merges states that are equal in their cells and in what each actor will do (engine/prove.py). The processes do not
exit (``exit`` is off), so nothing is said of what should be left over at the end. Oracles listen along; only hazards that a
state and a step decide are settled here: those of ``DECIDED``. The others depend on how a state was reached (what was stored
when, what was counted), and two ways to one state are merged.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import attrs

from ptactors.engine.automaton import Automaton, Node
from ptactors.engine.prove import Mover, Search, Searched
from ptactors.model.hazard import Finding
from ptactors.oracle.table import Oracles
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Expectation, Scenario
from ptactors.world.cast import Role
from ptactors.world.machine import Machine
from ptactors.world.program import AwaitExit

DECIDED = frozenset(
    {
        "mixed_page_size_tlb",
        "two_translations_one_va",
        "two_pte_pages",
        "stale_tlb_to_freed_page",
        "page_table_uaf_software_walker",
        "page_table_uaf_hardware_walker",
        "lock_object_uaf",
        "nonempty_pte_page_freed",
        "bogus_page_table",
        "double_free",
        "deadlock",
        "stall",
        "lock_order",
        "rcu_misuse",
        "protocol_violation",
        "crash",
    }
)
"""Hazards that a state and the step made in it decide."""

HELD, VIOLATED, INCONCLUSIVE = "held", "violated", "inconclusive"
Turns = tuple[tuple[str, int], ...]
"""(actor, option) for each step of a path."""


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
    hazards: tuple[str, ...]
    """The hazards that the condition names."""


@attrs.frozen(kw_only=True)
class Proof:
    """One cell, searched."""

    cell: Cell
    searched: Searched
    hazards: dict[str, Turns]
    """Every hazard that was found, with a shortest path to it."""
    findings: dict[str, Finding]
    unreached: tuple[str, ...]
    """Programs that never came to their end."""
    merges: int
    """Histories that were merged and audited."""
    answers: tuple[Answer, ...]


class OracleWatcher:
    """Keeps the oracles' memory with the states of a search."""

    def __init__(self, machine: Machine) -> None:
        oracles = machine.oracles
        mirror = oracles.mirror
        self._oracles = oracles
        self._parts: list[Any] = [mirror, mirror.memory, mirror.caches, mirror.pages, *oracles.oracles.values()]
        self._left_out = [
            frozenset(k for k, v in vars(part).items() if k == "_publish" or any(v is other for other in self._parts))
            for part in self._parts
        ]
        self._ring: list[Any] = []
        machine.state.ring = self._ring
        self._current: bytes | None = None

    def save(self) -> bytes:
        """What the oracles know."""
        known = [
            {k: v for k, v in vars(part).items() if k not in left_out}
            for part, left_out in zip(self._parts, self._left_out, strict=True)
        ]
        self._ring.clear()
        self._current = pickle.dumps((known, self._oracles.findings), protocol=5)
        return self._current

    def load(self, saved: bytes) -> None:
        """Have them know that again."""
        if saved is self._current and not self._ring:
            return
        known, self._oracles.findings = pickle.loads(saved)  # our own bytes, a moment old
        for part, values in zip(self._parts, known, strict=True):
            vars(part).update(values)
        self._ring.clear()
        self._current = saved

    def heard(self) -> bool:
        """Whether any event was emitted since."""
        return bool(self._ring)


class CellSearch:
    """The exhaustive search of one cell."""

    def __init__(self, scenario: Scenario, cell: Cell) -> None:
        config = attrs.evolve(cell.config, machine=attrs.evolve(cell.config.machine, exit=False))
        self.cell = cell
        self.machine = Machine(scenario, attrs.evolve(cell, config=config), "random", 0, Oracles())
        self.machine.baton.close()
        self.hazards: dict[str, tuple[int, int, int]] = {}
        self.findings: dict[str, Finding] = {}
        self._finals: dict[int, list[int]] = {i: [] for i in range(len(cell.expects))}
        self._ended: set[str] = set()
        self._others = 0
        movers = tuple(_mover(role) for role in self.machine.roles)
        self.search = Search(self.machine.state, movers, OracleWatcher(self.machine))
        self.search.when_stepped = self._stepped
        self.search.when_final = self._final

    def run(self, max_states: int, progress: Callable[[Searched, int], None] | None = None) -> Proof:
        """Search, and answer every expectation of the cell."""
        searched = self.search.run(max_states, progress)
        programs = [role.name for role in self.machine.roles if role.program]
        unreached = tuple(name for name in programs if name not in self._ended)
        return Proof(
            cell=self.cell,
            searched=searched,
            hazards={name: self._turns(at) for name, at in self.hazards.items()},
            findings=self.findings,
            unreached=unreached,
            merges=sum(mover.automaton.merges for mover in self.search.movers),
            answers=tuple(self._answer(i, e, searched, unreached) for i, e in enumerate(self.cell.expects)),
        )

    def _stepped(self, number: int, mover: int, option: int) -> None:
        for finding in self.machine.oracles.findings:
            if finding.hazard not in self.hazards:
                self.hazards[finding.hazard] = (number, mover, option)
                self.findings[finding.hazard] = finding

    def _final(self, number: int, nodes: tuple[Node, ...]) -> None:
        """Nobody must move: all programs are done, or nobody can."""
        programs = [(role, node) for role, node in zip(self.machine.roles, nodes, strict=True) if role.program]
        done = [role.name for role, node in programs if node.options and isinstance(node.options[0], AwaitExit)]
        self._ended.update(done)
        if len(done) < len(programs):
            self.hazards.setdefault("deadlock", (number, -1, 0))
            return
        for i, expect in enumerate(self.cell.expects):
            wanted = expect.kind != "always"
            if not self._finals[i] and _of_final_state(expect) and expect.condition.evaluate(self.machine.facts) is wanted:
                self._finals[i].append(number)

    def _turns(self, at: tuple[int, int, int]) -> Turns:
        number, mover, option = at
        path = self.search.result.path(number) + ([(mover, option)] if mover >= 0 else [])
        return tuple((self.search.movers[i].name, o) for i, o in path)

    def _answer(self, i: int, expect: Expectation, searched: Searched, unreached: tuple[str, ...]) -> Answer:
        named = expect.condition.hazards()
        found: tuple[int, int, int] | None = None
        if named and not _of_final_state(expect):
            if not _is_any_hazard(expect) or not set(named) <= DECIDED:
                return self._told(expect, INCONCLUSIVE, "the search does not decide this condition", None)
            found = next((self.hazards[name] for name in named if name in self.hazards), None)
        elif _of_final_state(expect):
            found = (self._finals[i][0], -1, 0) if self._finals[i] else None
        else:
            return self._told(expect, INCONCLUSIVE, "the search does not decide this condition", None)
        witness = self._turns(found) if found is not None else None
        if found is not None:
            held = expect.kind == "exists"
            return self._told(expect, HELD if held else VIOLATED, f"after {len(witness or ())} steps", witness)
        if not searched.complete:
            return self._told(expect, INCONCLUSIVE, "the search was cut off by its bound of states", None)
        if unreached:
            return self._told(expect, INCONCLUSIVE, f"vacuous: {', '.join(unreached)} never came to its end", None)
        if expect.kind == "exists":
            return self._told(expect, VIOLATED, "in no interleaving", None)
        return self._told(expect, HELD, "exhaustive", None)

    @staticmethod
    def _told(expect: Expectation, verdict: str, reason: str, witness: Turns | None) -> Answer:
        return Answer(
            kind=expect.kind,
            condition=expect.condition.text,
            verdict=verdict,
            reason=reason,
            witness=witness,
            hazards=expect.condition.hazards(),
        )


def _mover(role: Role) -> Mover:
    def enter() -> tuple[Any, Callable[[], str]]:
        coroutine, life = role.enter()
        return coroutine, (lambda: life.cpu.op) if life is not None else (lambda: "")

    return Mover(name=role.name, automaton=Automaton(role.name, enter), gate=role.gate, optional=role.optional)


def _is_any_hazard(expect: Expectation) -> bool:
    """Whether the condition is one hazard or several joined by ``or``: then it holds of a run as soon as one was seen."""
    words = expect.condition.canonical().replace("(", " ").replace(")", " ").split()
    return not {"and", "not", "ever", "final", "count"} & set(words) and not any(c in expect.condition.text for c in "=<>[")


def _of_final_state(expect: Expectation) -> bool:
    """Whether the condition asks only for registers, memory, tables and TLBs when the programs are done."""
    text = expect.condition.canonical()
    asks = ("hazard", "count", "ever", "fault", "VmPTE", "rss", "flushes", "ipis", "grace_periods", "steps")
    return not any(word in text for word in asks)


def settle(proofs: list[Proof]) -> list[Proof]:
    """Demote what was held without a mutant: a forbidden hazard must be found in some other cell under the same bounds."""
    shown = {name for proof in proofs for name in proof.hazards}
    settled = []
    for proof in proofs:
        answers = []
        for answer in proof.answers:
            if answer.verdict == HELD and answer.kind == "forbidden" and answer.hazards and not set(answer.hazards) & shown:
                why = "in no interleaving here, but no cell that was searched shows it: nothing says the search could find it"
                answer = attrs.evolve(answer, verdict=INCONCLUSIVE, reason=why)
            answers.append(answer)
        settled.append(attrs.evolve(proof, answers=tuple(answers)))
    return settled
