"""Steps that an exhaustive search need not stop before: a sound reduction that checks itself.

A step that follows at once on another of the same actor is *fused* to it: made in the same move, so that no state lies between.
That loses nothing if whatever the others could do in between commutes with it, for then each path has an equal one that makes it
at once (Lipton's left movers; a dynamic relative of the persistent sets of Godefroid). Equal are the final states and deadlocks,
and what a watcher hears, as far as steps that do not commute for it conflict too (``Watched.touched``).

Which steps commute is not guessed beforehand. At first every step is fused that can be. The search then holds every step that it
makes, and every guard that it finds closed, against those that stand fused before an actor that waits there. On a conflict the
node is *banned*: its step is not fused any more, and the search begins anew. It counts only if no ban came while it ran. That a
conflict shows up at all follows by induction: the first step of a path that conflicts with a fused one stands also behind the
reduced path that is equal to what went before, since there nothing conflicted yet.

Two things only look like conflicts. A step that the fused one makes possible cannot have come before it: who waits for a lock
does not conflict with its release. And a handler that shuts an actor's gate merely delays it, if nothing can keep the handler
from going on: where one that might wait has shut an actor out, all that was fused there is banned.

Every state that is kept is expanded in full, so nothing is put off for ever. Actors that need not move are not fused: where they
stand at the end counts. Footprints are believed; the audit of the engine is what holds them to the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from ptactors.engine.automaton import Node
from ptactors.engine.dpor.marks import Mark, Marks, dependent
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Footprint, Step

LONGEST = 64
"""Steps that follow on one in the same move, at most."""
_ABSENT = object()
"""What a cell held that was not there."""
_UNKNOWN = object()
"""What a cell held now this, now that."""
Spot = tuple[int, Node]
"""A mover and what it will do next."""
Guard = tuple[Step[Any], Key | None]
"""A step and its mover's gate."""
Held = dict[Key, Any]
"""What cells held before something was written there."""
Link = tuple[Node, Footprint, Held]
"""One step of a move: where it was offered, what it touched, what it overwrote."""


class Watched(Protocol):
    """A watcher that says what its knowledge has to do with a step."""

    touched: Footprint
    """What it looked at and changed when it last heard something, as keys that no cell has."""


@attrs.define(eq=False)
class Fused:
    """A step that was made in the same move as the one before, as it looks from where the move ended."""

    spot: Spot
    """Where it was offered."""
    number: int
    """Of its mark."""
    before: Held
    """What the cells held that it or a later step of the same move writes."""
    excused: bool = False
    """Whether a step was let pass because of ``before``."""


class Fusion:
    """What one search has learnt about what may be fused."""

    def __init__(self, gates: Sequence[Key | None], optional: Sequence[bool], watcher: Watched | None) -> None:
        self.banned: dict[Spot, None] = {}
        """Where a step stands that must not be fused."""
        self.stale = False
        """Whether a ban came since the search began."""
        self._gates, self._optional, self._watcher = tuple(gates), tuple(optional), watcher
        self._gate_keys = {gate for gate in gates if gate is not None}
        self._marks = Marks()
        self._numbers: dict[Mark, int] = {}
        self._by_number: list[Mark] = []
        self._guards: dict[Guard, int] = {}
        self.again()

    def again(self) -> None:
        """The search begins (anew): only the bans are kept."""
        self.stale = False
        self._fused: dict[Node, list[Fused]] = {}
        """Where a move ended -> what was fused on its end."""
        self._beside: dict[Node, dict[int, bool]] = {}
        """Where an actor stood -> the marks of what others did meanwhile, and whether each need not be looked at again."""
        self._frozen: set[Node] = set()
        """Where an actor stood shut out by one that might wait."""
        self._owners: dict[Key, dict[int, None]] = {}
        """Gate -> who ever wrote it."""

    def may(self, i: int, node: Node, state: State) -> bool:
        """Whether the step that the mover offers next is to be made in the same move, being ready."""
        if len(node.options) != 1 or node.several or self._optional[i] or (i, node) in self.banned:
            return False
        gate = self._gates[i]
        step = node.options[0]
        return (gate is None or not state.cells.get(gate)) and (not step.blocking or step.ready(state))

    def link(self, node: Node, option: int, state: State) -> Link:
        """The step that the mover is going to make."""
        step = node.options[option]
        reads, writes = step.touches(state)
        if step.blocking:
            reads = (*step.waits(), *reads)
        cells = state.cells
        return node, (reads, writes), {key: cells.get(key, _ABSENT) for key in writes}

    def made(self, i: int, nodes: Sequence[Node], link: Link, step: Step[Any], heard: bool, state: State) -> Link:
        """The mover made that step while the others stood at ``nodes``; the link with what the watcher touched added to it."""
        node, footprint, held = link
        if heard and self._watcher is not None:
            reads, writes = self._watcher.touched
            footprint = (*footprint[0], *reads), (*footprint[1], *writes)
        for key in self._gate_keys:
            if key in held:
                self._owners.setdefault(key, {})[i] = None
        self._hold(i, nodes, self._number(footprint, self._gates[i]), step, state, held)
        return node, footprint, held

    def waits(self, nodes: Sequence[Node], able: Sequence[tuple[int, int]], state: State) -> None:
        """Look at what cannot be done in a state, and at who is shut out."""
        ready = set(able)
        for i, node in enumerate(nodes):
            gate = self._gates[i]
            for option, step in enumerate(node.options):
                if (i, option) not in ready:
                    number = self._guards.get((step, gate))
                    if number is None:
                        guard = step.waits() if step.blocking else ()
                        number = self._guards[step, gate] = self._number((guard, ()), gate)
                    self._hold(i, nodes, number, step, state, {})
            shut = gate is not None and state.cells.get(gate)
            if shut and node not in self._frozen and self._kept_out(gate, nodes):
                self._frozen.add(node)
                for fused in self._fused.get(node, ()):
                    self._ban(fused.spot)

    def _kept_out(self, gate: Key | None, nodes: Sequence[Node]) -> bool:
        """Whether one that ever wrote this gate, which is shut, stands where it might wait."""
        owners = self._owners.get(gate, {}) if gate is not None else {}
        return any(self._may_wait(owner, nodes[owner]) for owner in owners)

    def ended(self, i: int, node: Node, chain: Sequence[Link]) -> None:
        """A move of the mover ended at ``node`` with these steps fused to its first."""
        known = self._fused.setdefault(node, [])
        later: Held = {}
        for place, footprint, held in reversed(chain):
            later = {**later, **held}
            number = self._number(footprint, None)
            found = next((f for f in known if f.number == number and f.spot[1] is place), None)
            if found is None:
                known.append(Fused((i, place), number, later))
                mark = self._by_number[number]
                if node in self._frozen or any(dependent(mark, self._by_number[n]) for n in self._beside.get(node, ())):
                    self._ban((i, place))
            elif found.before != later:
                found.before = _common(found.before, later)
                if found.excused:
                    self._ban((i, place))

    def _may_wait(self, i: int, node: Node) -> bool:
        """Whether something could keep this mover from going on."""
        return self._gates[i] is not None or all(step.blocking for step in node.options)

    def _hold(self, i: int, nodes: Sequence[Node], number: int, step: Step[Any], state: State, held: Held) -> None:
        for j, node in enumerate(nodes):
            if j != i:
                beside = self._beside.get(node)
                if beside is None:
                    beside = self._beside[node] = {}
                if not beside.get(number):
                    beside[number] = self._against(i, node, number, step, state, held)

    def _against(self, i: int, node: Node, number: int, step: Step[Any], state: State, held: Held) -> bool:
        """False if the question has to be asked again in another state."""
        mark, settled = self._by_number[number], True
        for fused in self._fused.get(node, ()):
            if dependent(mark, self._by_number[fused.number]):
                if self._impossible(i, step, fused, state, held):
                    fused.excused, settled = True, False
                else:
                    self._ban(fused.spot)
        return settled

    def _impossible(self, i: int, step: Step[Any], fused: Fused, state: State, held: Held) -> bool:
        """Whether this step, which overwrote ``held``, could not have been made before the fused one."""
        gate, before = self._gates[i], fused.before
        if any(len(key) > 1 and key[-1] == ANY for key in (*before, *held)):
            return False
        if gate in before:
            return before[gate] not in (_ABSENT, _UNKNOWN) and bool(before[gate])
        waits = step.waits() if step.blocking else ()
        if not any(key in before for key in waits) or any(before.get(key) is _UNKNOWN for key in waits):
            return False
        cells = state.cells
        state.cells = cells.copy()
        for key, value in (*held.items(), *((key, before[key]) for key in waits if key in before)):
            if value is _ABSENT:
                state.cells.pop(key, None)
            else:
                state.cells[key] = value
        ready = step.ready(state)
        state.cells = cells
        return not ready

    def _ban(self, spot: Spot) -> None:
        if spot not in self.banned:
            self.banned[spot] = None
            self.stale = True

    def _number(self, footprint: Footprint, gate: Key | None) -> int:
        mark = self._marks.mark(footprint, gate)
        number = self._numbers.get(mark)
        if number is None:
            number = self._numbers[mark] = len(self._by_number)
            self._by_number.append(mark)
        return number


def _common(one: Held, other: Held) -> Held:
    """What both say."""
    return {key: one[key] if key in one and one[key] == other.get(key, _UNKNOWN) else _UNKNOWN for key in {**one, **other}}
