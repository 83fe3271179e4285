"""Fewer context switches for the same behaviour: adjacent steps of two actors that touch nothing in common change places.

The steps of a run with their footprints form a partial order; every order of the steps that respects it is the same run to all
that steps can see. So one is built that stays with an actor as long as the partial order lets it, of those steps only that the
goal's own step depends on; the others follow when it has come about. Oracles see also what no step looks at (that a translation
is still cached, say), hence the one replay that verifies the result.

Source: dejafu #248 (trace simplification); Mazurkiewicz, "Trace theory", 1987.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from ptactors.engine.actor import Actor
from ptactors.engine.schedule import Turn
from ptactors.engine.strategy.base import footprint
from ptactors.kernel.rcu import released
from ptactors.model.state import Key, State
from ptactors.model.step import ANY
from ptactors.world.program import exiting

LIMIT = 20_000
"""Steps of the longest run whose partial order is looked at."""


@attrs.frozen
class Made:
    """One turn of a run with what it touched."""

    actor: int
    reads: tuple[Key, ...]
    """Its guard's cells and its gate too."""
    writes: tuple[Key, ...]
    waits: tuple[Key, ...]
    """Its guard's cells."""
    phase: tuple[bool, bool]
    """What the machine itself has allowed so far: callbacks at the end, exits. It does so when nothing else can move."""


class Footprints:
    """A hook that notes what every turn touches."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.made: list[Made] = []

    def before(self, actor: Actor) -> None:
        """The step is granted."""
        state = self._state
        step = actor.next_step()
        reads, writes = footprint(step, state)
        waits = step.waits() if step.blocking else ()
        gate = (actor.gate,) if actor.gate is not None else ()
        phase = state.read(released()), state.read(exiting())
        self.made.append(Made(actor.id, (*reads, *gate), writes, waits, phase))

    def after(self, actor: Actor) -> None:
        """The step is made."""


class _Cells:
    """For each cell who wrote it last and who has read it since; a key that ends in ANY stands for all its kin."""

    def __init__(self) -> None:
        self._writer: dict[Key, int] = {}
        self._readers: dict[Key, list[int]] = {}
        self._kin: dict[Key, dict[Key, None]] = {}

    def note(self, at: int, made: Made) -> dict[int, None]:
        """The earlier turns that turn ``at`` depends on directly."""
        found: dict[int, None] = {}
        for key in made.reads:
            for each in self._meets(key):
                if each in self._writer:
                    found[self._writer[each]] = None
        for key in made.writes:
            for each in self._meets(key):
                found.update(dict.fromkeys(self._readers.get(each, ())))
                if each in self._writer:
                    found[self._writer[each]] = None
        for key in made.reads:
            self._readers.setdefault(key, []).append(at)
        for key in made.writes:
            self._writer[key] = at
            self._readers[key] = []
        found.pop(at, None)
        return found

    def _meets(self, key: Key) -> tuple[Key, ...]:
        """The known cells that the key may be."""
        family = key[:-1] if len(key) > 1 else ()
        kin = self._kin.setdefault(family, {})
        kin[key] = None
        if not family:
            return (key,)
        return tuple(kin) if key[-1] == ANY else (key, (*family, ANY))


def dependences(made: Sequence[Made]) -> list[dict[int, None]]:
    """For each turn the earlier ones that it depends on directly: of its actor, by a cell in common, by a phase."""
    cells = _Cells()
    latest: dict[int, int] = {}
    found: list[dict[int, None]] = []
    opened = 0
    for at, each in enumerate(made):
        if at and each.phase != made[at - 1].phase:
            opened = at
        before = cells.note(at, each)
        if each.actor in latest:
            before[latest[each.actor]] = None
        if opened:
            if at == opened:
                before.update(dict.fromkeys(range(at)))
            else:
                before[opened] = None
        latest[each.actor] = at
        found.append(before)
    return found


def past(before: Sequence[dict[int, None]], at: int) -> list[bool]:
    """Which turns turn ``at`` depends on, directly or not; itself too."""
    needed = [False] * len(before)
    needed[at] = True
    for i in range(at, -1, -1):
        if needed[i]:
            for j in before[i]:
                needed[j] = True
    return needed


def orders(turns: Sequence[Turn], made: Sequence[Made], goal: int) -> Iterator[list[Turn]]:
    """Orders of the turns that step ``goal`` (from 1) needs, with few switches, in several ways; then of all turns up to it.

    None for a goal that is met before the first step, as a condition on the end of a run of no steps is.
    """
    if not 0 < goal <= LIMIT:
        return
    before = dependences(made[:goal])
    needed = past(before, goal - 1)
    for chosen in (needed, [True] * goal):
        kept = [i for i in range(goal) if chosen[i]]
        for latest_first in (False, True):
            yield [turns[i] for i in _linear(kept, before, made, latest_first)]


def _linear(kept: Sequence[int], before: Sequence[dict[int, None]], made: Sequence[Made], latest_first: bool) -> Iterator[int]:
    """The kept turns in an order that respects ``before`` and stays with an actor as long as it can.

    Where it must leave, it takes the actor whose next turn came first in the run; or last, which puts off what can be put off.
    """
    queues: dict[int, list[int]] = {}
    for i in reversed(kept):
        queues.setdefault(made[i].actor, []).append(i)
    wanted = frozenset(kept)
    missing = {i: sum(j in wanted for j in before[i]) for i in kept}
    after: dict[int, list[int]] = {}
    for i in kept:
        for j in before[i]:
            if j in wanted:
                after.setdefault(j, []).append(i)
    actor = -1
    while queues:
        if actor not in queues or missing[queues[actor][-1]]:
            ready = [(queue[-1], each) for each, queue in queues.items() if not missing[queue[-1]]]
            actor = (max if latest_first else min)(ready)[1]
        made_now = queues[actor].pop()
        if not queues[actor]:
            del queues[actor]
        yield made_now
        for i in after.get(made_now, ()):
            missing[i] -= 1
