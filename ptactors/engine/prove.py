"""Exhaustive search: breadth first over states, each the shared cells and one node per actor; equal states are visited once.

What was visited is remembered by a 128-bit digest of cells and nodes, kept up to date from the cells that a step wrote. Two
different states might share one: with n states the chance is below n^2 / 2^129 (printed with every verdict). The shortest path to
a finding is found first.

A *watcher* listens to the events of steps (oracles do). Its own state is saved and restored with the states of the search and is
not part of their identity, so only findings that the state and the step decide are found exhaustively; which those are, the
caller knows.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from ptactors.engine.automaton import Automaton, Node
from ptactors.model.state import Key, State

_MASK = (1 << 128) - 1


class Watcher(Protocol):
    """Who listens to a search."""

    def save(self) -> Any:
        """What it knows now."""
        ...

    def load(self, saved: Any) -> None:
        """Know that again, and nothing else."""
        ...

    def heard(self) -> bool:
        """Whether anything happened since ``load``."""
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


@attrs.frozen
class Situation:
    """One state on the frontier."""

    cells: dict[Key, Any]
    occupied: dict[int, int]
    nodes: tuple[Node, ...]
    digest: int
    """Of the cells alone, additive."""
    saved: Any
    """The watcher's."""
    depth: int
    came: tuple[int, int, int] | None
    """(number of the state before, mover, option); None for the first."""


@attrs.define
class Searched:
    """What a search has done."""

    states: int = 0
    transitions: int = 0
    finals: int = 0
    deepest: int = 0
    widest: int = 0
    complete: bool = False
    """Whether the frontier emptied."""
    parents: list[tuple[int, int, int]] = attrs.field(factory=list, repr=False)
    """State number -> (state before, mover, option), to walk back from a finding."""

    def path(self, number: int) -> list[tuple[int, int]]:
        """The (mover, option) turns from the first state to this one."""
        turns: list[tuple[int, int]] = []
        while number > 0:
            number, mover, option = self.parents[number]
            turns.append((mover, option))
        return turns[::-1]


class Search:
    """One exhaustive search."""

    def __init__(self, state: State, movers: Sequence[Mover], watcher: Watcher | None = None) -> None:
        self.state = state
        self.movers = tuple(movers)
        self.result = Searched()
        self.when_final: Callable[[int, tuple[Node, ...]], None] | None = None
        """Called with the number and the nodes of every state in which nobody must move; ``state`` holds its cells."""
        self.when_stepped: Callable[[int, int, int], None] | None = None
        """Called after every transition with (number of the state before, mover, option)."""
        self._watcher = watcher
        self._hashes: dict[tuple[Key, Any], int] = {}
        self._node_hashes: dict[tuple[int, int], int] = {}

    def run(self, max_states: int, progress: Callable[[Searched, int], None] | None = None) -> Searched:
        """Search until the frontier is empty or more than ``max_states`` states are known."""
        result = self.result
        frontier: deque[tuple[int, Situation]] = deque([(0, self._first())])
        first = frontier[0][1]
        seen = {self._identity(first.digest, first.nodes)}
        result.parents.append((0, 0, 0))
        while frontier:
            number, here = frontier.popleft()
            result.states += 1
            result.deepest = here.depth
            result.widest = max(result.widest, len(frontier))
            for situation in self._successors(number, here):
                identity = self._identity(situation.digest, situation.nodes)
                if identity not in seen:
                    seen.add(identity)
                    assert situation.came is not None
                    result.parents.append(situation.came)
                    frontier.append((len(seen) - 1, situation))
            if progress is not None and result.states % 1000 == 0:
                progress(result, len(frontier))
            if len(seen) > max_states:
                return result
        result.complete = True
        return result

    def _first(self) -> Situation:
        nodes = tuple(mover.automaton.root for mover in self.movers)
        cells = dict(self.state.cells)
        digest = sum(self._hash(key, value) for key, value in cells.items()) & _MASK
        saved = self._watcher.save() if self._watcher is not None else None
        return Situation(cells, dict(self.state.occupied), nodes, digest, saved, 0, None)

    def _successors(self, number: int, here: Situation) -> list[Situation]:
        state = self.state
        state.cells, state.occupied = here.cells, here.occupied
        moves: list[tuple[int, int]] = []
        busy = False
        for i, mover in enumerate(self.movers):
            if mover.gate is not None and here.cells.get(mover.gate):
                continue
            for option, step in enumerate(here.nodes[i].options):
                if not step.blocking or step.ready(state):
                    moves.append((i, option))
                    busy = busy or not mover.optional
        if not busy:
            self.result.finals += 1
            if self.when_final is not None:
                if self._watcher is not None:
                    self._watcher.load(here.saved)
                self.when_final(number, here.nodes)
        return [self._move(number, here, *move) for move in moves]

    def _move(self, number: int, here: Situation, i: int, option: int) -> Situation:
        state, node = self.state, here.nodes[i]
        state.cells, state.occupied = dict(here.cells), dict(here.occupied)
        state.step, state.actor, state.writes = here.depth + 1, i, []
        if self._watcher is not None:
            self._watcher.load(here.saved)
        value = node.options[option].apply(state)
        self.result.transitions += 1
        if self.when_stepped is not None:
            self.when_stepped(number, i, option)
        digest = here.digest
        for key in dict.fromkeys(state.writes):
            if key in here.cells:
                digest -= self._hash(key, here.cells[key])
            if key in state.cells:
                digest += self._hash(key, state.cells[key])
        nodes = list(here.nodes)
        nodes[i] = self.movers[i].automaton.follow(node, option, value)
        saved = here.saved
        if self._watcher is not None and self._watcher.heard():
            saved = self._watcher.save()
        return Situation(state.cells, state.occupied, tuple(nodes), digest & _MASK, saved, here.depth + 1, (number, i, option))

    def _hash(self, key: Key, value: Any) -> int:
        pair = (key, value)
        known = self._hashes.get(pair)
        if known is None:
            content = sorted(value.items()) if isinstance(value, dict) else value
            text = repr((key, content)).encode()
            known = self._hashes[pair] = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
        return known

    def _identity(self, digest: int, nodes: tuple[Node, ...]) -> int:
        total = digest
        for i, node in enumerate(nodes):
            name = (i, node.number)
            known = self._node_hashes.get(name)
            if known is None:
                text = repr(("node", *name)).encode()
                known = self._node_hashes[name] = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
            total += known
        return total & _MASK
