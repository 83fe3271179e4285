"""Which steps are decision points: those that touch a cell that another actor touches too, one of the two writing it.

A step whose cells nobody else can notice commutes with all that others do, so making it at once loses no outcome and spares a
choice. Who touches what is learnt from a few probe runs, which are a sample; so every doubt counts as contested: a cell of a
kind that was never seen, a cell that was never seen of a kind of which any was contested, a step offered among several, a step
of an actor that need not move. Still, a cell that only one actor touched in every probe may be touched by another on a rare
path: interleavings around such a step can then be missed by filtered strategies. Each strategy can do without (``pct:3,all``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from ptactors.engine.actor import Actor
from ptactors.engine.strategy.base import Role, RoleOf, footprint
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Step


@attrs.frozen(kw_only=True)
class Contest:
    """What was learnt; answers whether a step is a decision point."""

    role_of: RoleOf
    contested: frozenset[Role]
    """Roles of which a cell was contested."""
    private: frozenset[Role]
    """Roles that were seen and never contested."""
    shy: frozenset[str]
    """Families of which every role that was seen is private."""
    kinds: frozenset[tuple[int, type]]
    """(actor, class of step) of which some step touched private cells only; all others need no second look."""

    def private_step(self, actor: Actor, state: State) -> bool:
        """Whether the only step that the actor offers can be made at once, without a choice."""
        step = actor.options[0]
        if (actor.id, type(step)) not in self.kinds or actor.optional:
            return False
        reads, writes = footprint(step, state)
        return all(self._is_private(key, state) for key in (*reads, *writes))

    def _is_private(self, key: Key, state: State) -> bool:
        role = self.role_of(key, state)
        return role in self.private or (role not in self.contested and key[0] in self.shy)


class Watch:
    """Notes who touches what in one run after the other; install ``before`` as the baton's hook."""

    def __init__(self, role_of: RoleOf) -> None:
        self._role_of = role_of
        self._cells: dict[Key, _Touched] = {}
        self._steps: dict[tuple[int, type, tuple[Role, ...]], None] = {}
        self._roles: dict[Role, None] = {}
        self._contested: dict[Role, None] = {}

    def before(self, state: State, actor: Actor) -> None:
        """The granted step, before it is made."""
        step: Step[Any] = actor.next_step()
        reads, writes = footprint(step, state)
        roles = [self._note(key, state, actor, False) for key in reads] + [self._note(key, state, actor, True) for key in writes]
        if len(actor.options) == 1:
            self._steps[actor.id, type(step), tuple(roles)] = None

    def _note(self, key: Key, state: State, actor: Actor, writing: bool) -> Role:
        role = self._role_of(key, state)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Touched()
        cell.note(actor.id, role, writing)
        return role

    def left_over(self, state: State, actors: Iterable[Actor]) -> None:
        """What actors still wait for or could have done when the run ended: who never gets a lock contests it all the same."""
        for actor in actors:
            for number, step in enumerate(actor.options):
                reads, writes = footprint(step, state) if number in actor.enabled else (step.waits(), ())
                for key in reads:
                    self._note(key, state, actor, False)
                for key in writes:
                    self._note(key, state, actor, True)

    def next_run(self) -> None:
        """The run is over: keep what it says of roles, forget its cells."""
        kin: dict[Key, _Touched] = {}
        for key in self._cells:
            if key[-1] == ANY and len(key) > 1:
                kin[key[:-1]] = _Touched()
        for key, cell in self._cells.items():
            whole = kin.get(key[:-1])
            if whole is not None:
                whole.merge(cell)
        for cell in (*self._cells.values(), *kin.values()):
            self._roles.update(cell.roles)
            if cell.contested():
                self._contested.update(cell.roles)
        self._cells.clear()

    def learnt(self) -> Contest:
        """What all runs say together."""
        contested = frozenset(self._contested)
        private = frozenset(self._roles) - contested
        loud = {role[0] for role in contested}
        kinds = frozenset((actor, kind) for actor, kind, roles in self._steps if not contested.intersection(roles))
        shy = frozenset(role[0] for role in private) - loud
        return Contest(role_of=self._role_of, contested=contested, private=private, shy=shy, kinds=kinds)


class _Touched:
    """Who touched one cell."""

    __slots__ = ("roles", "users", "writers")

    def __init__(self) -> None:
        self.users = 0
        self.writers = 0
        self.roles: dict[Role, None] = {}

    def note(self, actor: int, role: Role, writing: bool) -> None:
        self.users |= 1 << actor
        if writing:
            self.writers |= 1 << actor
        self.roles[role] = None

    def merge(self, other: _Touched) -> None:
        self.users |= other.users
        self.writers |= other.writers
        self.roles.update(other.roles)

    def contested(self) -> bool:
        """More than one actor, and one of them writes."""
        return bool(self.writers) and bool(self.users & (self.users - 1))


def roles_of(step: Step[Any], state: State, role_of: RoleOf) -> Iterable[Role]:
    """The roles of all cells that a step touches, each once."""
    reads, writes = footprint(step, state)
    return dict.fromkeys(role_of(key, state) for key in (*reads, *writes))
