"""Exhaustive search: breadth first over states, each the shared cells and one node per actor; equal states are visited once.

What was visited is remembered by a 128-bit digest of cells and nodes, kept up to date from the cells that a step wrote. Two
different states might share one: with n states the chance is below n^2 / 2^129 (printed with every verdict). The shortest path to
a finding is found first.

A *watcher* listens to the events of steps (oracles do). What it knows, its *memory*, is a function of the events of a path.
With ``exact`` it is part of a state's identity, so that whatever it says of any path is found; without, two paths to equal cells
and nodes are one, and only findings that the state and the step decide are found exhaustively. Which those are, the caller knows.

A search that grows beyond ``fuse_from`` states begins anew and makes steps that commute with all that others could do meanwhile
in the same move as the step before (engine/fuse.py): the states between are not kept. A state then costs several times as much,
and 14 to 42 % of the states were left in 13 cells of two CPUs, with three by estimate a tenth. The path that is found first is
then the one with the fewest steps among those that are left.

With a *bound of preemptions* (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007) only paths with so many of them are
made, those with the fewest first. Then the actor that moved last is part of the identity as well, and nothing is fused.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from ptactors.engine.automaton import Automaton, Node, digest_of
from ptactors.engine.fuse import LONGEST, Fusion, Link
from ptactors.engine.strategy.base import ALTERNATIVES
from ptactors.model.rng import stream
from ptactors.model.state import Key, Record, State

_MASK = (1 << 128) - 1
_NOTHING = object()
_PROGRESS = 500
"""States between two calls of ``progress``."""
_FIRST_CHECK = 200
"""After so many states, and twice as many each time, a search that has to begin anew does."""
_IDLE_STROLLS = 20
"""Walks in a row that taught nothing before the search itself begins."""
_STATES_PER_STROLL = 400
"""And one more for so many states that were looked at in vain."""
_FARTHEST_STROLL = 1000
"""Steps of a walk, at most."""
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
    fused: int = 0
    """Transitions that were made in the same move as the one before."""
    passes: int = 0
    """How often a search that fuses was begun: anew when a step turned out not to be one that can be; 0: none was."""
    levels: list[int] = attrs.field(factory=list)
    """States by distance from the first; without a bound of preemptions the frontier comes through them in order."""
    moved: list[bool] = attrs.field(factory=list)
    """Whether each mover ever moved."""
    parents: array[int] = attrs.field(factory=lambda: array("L", [0]), repr=False)
    """State number -> the state before."""
    turns: array[int] = attrs.field(factory=lambda: array("H", [0]), repr=False)
    """State number -> the turn that led from there to it."""
    follows: array[int] = attrs.field(factory=lambda: array("B", [0]), repr=False)
    """State number -> how many steps of the same mover were fused to that turn."""

    def without_paths(self) -> Searched:
        """The figures alone."""
        return attrs.evolve(self, parents=array("L", [0]), turns=array("H", [0]), follows=array("B", [0]))

    def path(self, number: int) -> list[Turn]:
        """The turns from the first state to this one."""
        turns: list[Turn] = []
        while number > 0:
            turn = divmod(self.turns[number], ALTERNATIVES)
            turns += [(turn[0], 0)] * self.follows[number] + [turn]
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
        fuse_from: int | None = None,
    ) -> None:
        """``fuse_from``: states, None: never; it needs a watcher to be ``exact`` and to say what it touches."""
        self.state = state
        self.movers = tuple(movers)
        self.result = Searched(moved=[False] * len(self.movers))
        self.when_final: Callable[[Situation], None] | None = None
        """Called with every situation in which nobody must move; ``state`` holds its cells."""
        self.when_found: Callable[[str, int, tuple[Turn, ...]], None] | None = None
        """Called with each finding of the watcher, the number of a state and the turns from there to the finding."""
        self.when_again: Callable[[], None] | None = None
        """Called when the search begins anew: what was found so far is no longer to be had by its number."""
        self.enough = False
        """Set by a listener that wants nothing more."""
        self._watcher = watcher
        self.exact = exact
        self._bound = preemptions
        self._fuse_from = fuse_from
        self._fusion: Fusion | None = None
        self._rng = stream(0, "strolls")
        self._gates = tuple(mover.gate for mover in self.movers)
        self._hashes: dict[tuple[Key, Any], int] = {}
        self._names: dict[tuple[str, int], int] = {}
        self._seen: dict[int, int] = {}
        """Identity -> the least price it was reached at."""
        self._queues: list[deque[Situation]] = []
        """The frontier by price: preemptions made if they are bounded, else steps."""

    def run(self, max_states: int, progress: Callable[[Searched, int], None] | None = None) -> Searched:
        """Search until the frontier is empty, more than ``max_states`` states are known, or it is enough."""
        first, fuse_from = self._first(), self._fuse_from
        if fuse_from is None or self._bound is not None or not (self.exact or self._watcher is None):
            self._empty(first, max_states, progress)
            return self.result
        if fuse_from:
            self._empty(first, min(max_states, fuse_from), progress)
        if self.result.complete or self.enough:
            return self.result
        fusion = Fusion(self._gates, [mover.optional for mover in self.movers], self._watcher)  # type: ignore[arg-type]
        self._fusion, passes, ended = fusion, 0, False
        while not ended:
            self._stroll(first, fusion, _IDLE_STROLLS + (self.result.states // _STATES_PER_STROLL if passes else 0))
            if self.when_again is not None:
                self.when_again()
            passes += 1
            ended = self._empty(first, max_states, progress)
        self.result.passes = passes
        return self.result

    def _stroll(self, first: Situation, fusion: Fusion, patience: int) -> None:
        """Walk at random until so many walks taught nothing new of what cannot be fused; nothing else comes of them."""
        rng = self._rng
        listening = self.when_found, self.when_final
        self.when_found, self.when_final = (lambda *_: None), None
        idle = 0
        while idle < patience:
            known, here, ahead = len(fusion.banned), first, 1
            while ahead and here.depth < _FARTHEST_STROLL:
                self._seen = {}
                self._queues = []
                self._visit(here, 0)
                able = [each for queue in self._queues for each in queue]
                stay = [each for each in able if each.last == here.last]
                ahead = len(able)
                if ahead:
                    here = stay[rng.below(len(stay))] if stay and rng.below(4) else able[rng.below(ahead)]
            idle = 0 if len(fusion.banned) > known else idle + 1
        self.when_found, self.when_final = listening
        self.result = Searched(moved=[False] * len(self.movers))
        fusion.again()

    def _empty(self, first: Situation, max_states: int, progress: Callable[[Searched, int], None] | None) -> bool:
        """Empty the frontier; false if the search has to begin anew."""
        result, fusion = self.result, self._fusion
        seen = self._seen = {first.identity: 0}
        self._queues = [deque([first])]
        check = _FIRST_CHECK
        price = 0
        while price < len(self._queues):
            queue = self._queues[price]
            while queue:
                here = queue.popleft()
                if seen[here.identity] < price:
                    continue  # it was reached more cheaply meanwhile
                result.widest = max(result.widest, len(queue))
                self._visit(here, price)
                if progress is not None and result.states % _PROGRESS == 0:
                    progress(result, sum(map(len, self._queues[price:])))
                if self.enough:
                    return True
                if fusion is not None and fusion.stale and result.states >= check:
                    return False
                if len(seen) > max_states:
                    return True
                if result.states >= check:
                    check *= 2
            price += 1
        result.complete = fusion is None or not fusion.stale
        return result.complete

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
        while here.depth >= len(result.levels):
            result.levels.append(0)
        result.levels[here.depth] += 1
        turns = self._turns(here)
        if all(self.movers[i].optional for i, _ in turns):
            result.finals += 1
            if self.when_final is not None:
                self.when_final(here)
        if self._fusion is not None:
            self._fusion.waits(here.nodes, turns, self.state)
        costly = self._bound is not None and any(i == here.last for i, _ in turns)
        for turn in turns:
            price = made + (costly and turn[0] != here.last)
            if self._bound is not None and price > self._bound:
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
        """Make one step in the copy of the cells and what is fused to it, keep what comes of it if new, and take it back."""
        state, result, old = self.state, self.result, here.cells
        i, option = turn
        state.actor = i
        written: dict[Key, None] = {}
        links: list[Link] = []
        node, memory = self._step(here, i, here.nodes[i], option, here.memory, written, links)
        if self._fusion is not None:
            while self._fusion.may(i, node, state) and len(links) <= LONGEST:
                node, memory = self._step(here, i, node, 0, memory, written, links, option)
            self._fusion.ended(i, node, links[1:])
        follows = max(len(links) - 1, 0)
        cells, digest = state.cells, here.digest
        for key in written:
            if key in old:
                digest -= self._hash(key, old[key])
            if key in cells:
                digest += self._hash(key, cells[key])
        digest = (digest - here.nodes[i].digest + node.digest) & _MASK
        identity = self._identity(digest, memory, i)
        if self._bound is None:
            price += 1 + follows
        if self._seen.get(identity, price + 1) > price:
            self._seen[identity] = price
            result.parents.append(here.number)
            result.turns.append(i * ALTERNATIVES + option)
            result.follows.append(follows)
            tables = state.occupied.copy() if state.occupied != here.occupied else here.occupied
            number = len(result.parents) - 1
            nodes = (*here.nodes[:i], node, *here.nodes[i + 1 :])
            depth = here.depth + 1 + follows
            while len(self._queues) <= price:
                self._queues.append(deque())
            self._queues[price].append(Situation(number, cells.copy(), tables, nodes, digest, memory, depth, i, identity))
        for key in written:
            was = old.get(key, _NOTHING)
            if was is not _NOTHING:
                cells[key] = was
            else:
                cells.pop(key, None)
        if state.occupied != here.occupied:
            state.occupied = here.occupied.copy()

    def _step(
        self,
        here: Situation,
        i: int,
        node: Node,
        option: int,
        memory: Any,
        written: dict[Key, None],
        links: list[Link],
        first: int = 0,
    ) -> tuple[Node, Any]:
        """Make one step of a move that began with option ``first``: what the mover will do next, and what the watcher knows."""
        state, result, fusion = self.state, self.result, self._fusion
        step = node.options[option]
        link = fusion.link(node, option, state) if fusion is not None else None
        writes = state.writes = []
        records = state.ring = []
        value = step.apply(state)
        result.transitions += 1
        result.moved[i] = True
        if records and self._watcher is not None:
            memory, found = self._watcher.hear(memory, records)
            for name in found:
                assert self.when_found is not None
                self.when_found(name, here.number, ((i, first if links else option), *((i, 0),) * len(links)))
        if fusion is not None and link is not None:
            result.fused += bool(links)
            links.append(fusion.made(i, here.nodes, link, step, bool(records), state))
        written.update(dict.fromkeys(writes))
        return node.edges.get((option, value)) or self.movers[i].automaton.follow(node, option, value), memory

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
