"""Exhaustive search: breadth first over states, each the shared cells and one node per actor; equal states are visited once.

What was visited is remembered by a 128-bit digest of cells and nodes, kept up to date from the cells that a step wrote. Two
different states might share one: with n states the chance is below n^2 / 2^129 (printed with every verdict). The shortest path to
a finding is found first.

A *watcher* listens to the events of steps (oracles do). What it knows, its *memory*, is a function of the events of a path.
With ``exact`` it is part of a state's identity, so that whatever it says of any path is found; without, two paths to equal cells
and nodes are one, and only findings that the state and the step decide are found exhaustively. Which those are, the caller knows.

With a *bound of preemptions* (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007) only paths with so many of them are
made, those with the fewest first. Then the actor that moved last is part of the identity as well.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from ptactors.engine.automaton import Automaton, Node, digest_of
from ptactors.engine.strategy.base import ALTERNATIVES
from ptactors.model.state import Key, Record, State

_MASK = (1 << 128) - 1
_NOTHING = object()
_PROGRESS = 500
"""States between two calls of ``progress``."""
Turn = tuple[int, int]
"""(mover, option)."""


class Memory(Protocol):
    """What a watcher knows after some path."""

    number: int
    """Its own among those of one search."""


class Watcher(Protocol):
    """Who listens to a search."""

    def start(self) -> Memory:
        """What it knows before the first step."""
        ...

    def hear(self, memory: Any, records: Sequence[Record]) -> tuple[Memory, tuple[str, ...]]:
        """What it knows after that, and the findings that it makes on the way."""
        ...


@attrs.frozen(kw_only=True)
class Mover:
    """One actor of a search."""

    name: str
    automaton: Automaton
    gate: Key | None = None
    """A cell that stops it while it is true."""
    optional: bool = False
    """Whether a state in which only it could move counts as final."""


@attrs.define(eq=False)
class Situation:
    """One state on the frontier; nothing in it is ever changed."""

    number: int
    cells: dict[Key, Any]
    occupied: dict[int, int]
    nodes: tuple[Node, ...]
    digest: int
    """The sum of those of the cells and nodes."""
    memory: Any
    """The watcher's."""
    depth: int
    last: int
    """The mover that moved last, -1 at first."""
    identity: int


@attrs.define
class Searched:
    """What a search has done."""

    states: int = 0
    """Whose successors were looked at. With a bound of preemptions, states and who moved last."""
    transitions: int = 0
    finals: int = 0
    deepest: int = 0
    widest: int = 0
    complete: bool = False
    """Whether the frontier emptied."""
    refused: int = 0
    """Transitions that would have cost a preemption too many."""
    levels: list[int] = attrs.field(factory=list)
    """States by distance from the first; without a bound of preemptions the frontier comes through them in order."""
    moved: list[bool] = attrs.field(factory=list)
    """Whether each mover ever moved."""
    parents: array[int] = attrs.field(factory=lambda: array("L", [0]), repr=False)
    """State number -> the state before."""
    turns: array[int] = attrs.field(factory=lambda: array("H", [0]), repr=False)
    """State number -> the turn that led from there to it."""

    def without_paths(self) -> Searched:
        """The figures alone."""
        return attrs.evolve(self, parents=array("L", [0]), turns=array("H", [0]))

    def path(self, number: int) -> list[Turn]:
        """The turns from the first state to this one."""
        turns: list[Turn] = []
        while number > 0:
            turns.append(divmod(self.turns[number], ALTERNATIVES))
            number = self.parents[number]
        return turns[::-1]


class Search:
    """One exhaustive search."""

    def __init__(
        self,
        state: State,
        movers: Sequence[Mover],
        watcher: Watcher | None = None,
        *,
        exact: bool = False,
        preemptions: int | None = None,
    ) -> None:
        self.state = state
        self.movers = tuple(movers)
        self.result = Searched(moved=[False] * len(self.movers))
        self.when_final: Callable[[Situation], None] | None = None
        """Called with every situation in which nobody must move; ``state`` holds its cells."""
        self.when_found: Callable[[str, int, Turn], None] | None = None
        """Called with each finding of the watcher, the number of the state before the step and its turn."""
        self.enough = False
        """Set by a listener that wants nothing more."""
        self._watcher = watcher
        self.exact = exact
        self._bound = preemptions
        self._gates = tuple(mover.gate for mover in self.movers)
        self._hashes: dict[tuple[Key, Any], int] = {}
        self._names: dict[tuple[str, int], int] = {}
        self._seen: dict[int, int] = {}
        """Identity -> the fewest preemptions it was reached with."""
        self._queues: list[deque[Situation]] = []
        """The frontier, by preemptions made."""

    def run(self, max_states: int, progress: Callable[[Searched, int], None] | None = None) -> Searched:
        """Search until the frontier is empty, more than ``max_states`` states are known, or it is enough."""
        result, seen = self.result, self._seen
        first = self._first()
        seen[first.identity] = 0
        self._queues = [deque([first])]
        for made in range(1 if self._bound is None else self._bound + 1):
            self._queues.append(deque())
            queue = self._queues[made]
            while queue:
                here = queue.popleft()
                if made and seen[here.identity] < made:
                    continue  # it was reached more cheaply meanwhile
                result.widest = max(result.widest, len(queue))
                self._visit(here, made)
                if progress is not None and result.states % _PROGRESS == 0:
                    progress(result, len(queue))
                if len(seen) > max_states or self.enough:
                    return result
        result.complete = True
        return result

    def _first(self) -> Situation:
        nodes = tuple(mover.automaton.root for mover in self.movers)
        cells = dict(self.state.cells)
        digest = sum(self._hash(key, value) for key, value in cells.items()) + sum(node.digest for node in nodes)
        memory = self._watcher.start() if self._watcher is not None else None
        identity = self._identity(digest, memory, -1)
        return Situation(0, cells, dict(self.state.occupied), nodes, digest, memory, 0, -1, identity)

    def _visit(self, here: Situation, made: int) -> None:
        result = self.result
        result.states += 1
        result.deepest = max(result.deepest, here.depth)
        if here.depth == len(result.levels):
            result.levels.append(0)
        result.levels[here.depth] += 1
        turns = self._turns(here)
        if all(self.movers[i].optional for i, _ in turns):
            result.finals += 1
            if self.when_final is not None:
                self.when_final(here)
        costly = self._bound is not None and any(i == here.last for i, _ in turns)
        for turn in turns:
            price = made + (costly and turn[0] != here.last)
            if price > made and price > (self._bound or 0):
                result.refused += 1
            else:
                self._move(here, turn, price)

    def _turns(self, here: Situation) -> list[Turn]:
        """What can be done; the state holds a copy of the cells from here on."""
        state, cells, gates = self.state, here.cells, self._gates
        state.cells, state.occupied = cells.copy(), here.occupied.copy()
        turns: list[Turn] = []
        for i, node in enumerate(here.nodes):
            gate = gates[i]
            if gate is None or not cells.get(gate):
                for option, step in enumerate(node.options):
                    if not step.blocking or step.ready(state):
                        turns.append((i, option))
        return turns

    def _move(self, here: Situation, turn: Turn, price: int) -> None:
        """Make one step in the copy of the cells, keep what comes of it if it is new, and take the step back."""
        state, result, old = self.state, self.result, here.cells
        i, option = turn
        node = here.nodes[i]
        state.actor = i
        writes = state.writes = []
        records = state.ring = []
        value = node.options[option].apply(state)
        result.transitions += 1
        result.moved[i] = True
        memory = here.memory
        if records and self._watcher is not None:
            memory, found = self._watcher.hear(memory, records)
            for name in found:
                assert self.when_found is not None
                self.when_found(name, here.number, turn)
        cells, digest = state.cells, here.digest
        written = dict.fromkeys(writes)
        for key in written:
            if key in old:
                digest -= self._hash(key, old[key])
            if key in cells:
                digest += self._hash(key, cells[key])
        after = node.edges.get((option, value)) or self.movers[i].automaton.follow(node, option, value)
        digest = (digest - node.digest + after.digest) & _MASK
        identity = self._identity(digest, memory, i)
        if self._seen.get(identity, price + 1) > price:
            self._seen[identity] = price
            result.parents.append(here.number)
            result.turns.append(i * ALTERNATIVES + option)
            tables = state.occupied.copy() if state.occupied != here.occupied else here.occupied
            number = len(result.parents) - 1
            nodes = (*here.nodes[:i], after, *here.nodes[i + 1 :])
            made = Situation(number, cells.copy(), tables, nodes, digest, memory, here.depth + 1, i, identity)
            self._queues[price if self._bound is not None else 0].append(made)
        for key in written:
            was = old.get(key, _NOTHING)
            if was is not _NOTHING:
                cells[key] = was
            else:
                cells.pop(key, None)
        if state.occupied != here.occupied:
            state.occupied = here.occupied.copy()

    def _hash(self, key: Key, value: Any) -> int:
        pair = (key, value)
        known = self._hashes.get(pair)
        if known is None:
            content = sorted(value.items()) if isinstance(value, dict) else value
            known = self._hashes[pair] = digest_of((key, content))
        return known

    def _identity(self, digest: int, memory: Memory | None, last: int) -> int:
        if self.exact and memory is not None:
            digest += self._name("memory", memory.number)
        if self._bound is not None:
            digest += self._name("last", last)
        return digest & _MASK

    def _name(self, what: str, number: int) -> int:
        known = self._names.get((what, number))
        if known is None:
            known = self._names[what, number] = digest_of((what, number))
        return known
