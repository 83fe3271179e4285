"""Weighted walks: uniform over interleavings, of all steps or of a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from ptactors.engine.strategy.base import ALTERNATIVES, UNKNOWN, Option, Profile, Role, Run, Sampler
from ptactors.engine.strategy.pending import Pending, Touched
from ptactors.model.rng import SplitMix64

_SCALE = 16
"""Weight of one step that is left; an actor that has used up its estimate weighs 1."""


def _draw(rng: SplitMix64, weights: Sequence[int]) -> int:
    """An index, each with a probability in proportion to its weight."""
    sums = list(accumulate(weights))
    drawn = rng.below(sums[-1])
    return next(i for i, total in enumerate(sums) if drawn < total)


class Urw(Sampler):
    """A walk that picks an actor in proportion to the steps it has left: every interleaving is as likely as any other.

    Source: Zhao, Wolff, Mathur, Roychoudhury, "Selectively uniform concurrency testing", ASPLOS 2025 (URW): for programs that do
    not block and whose steps are counted right, uniform exactly. It departs in the counts, which are means over probe runs of
    the decision points of each actor; an actor that has more than its estimate keeps a small weight, so that nothing starves.
    """

    profiled = True

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        self._rng = SplitMix64(seed)
        self._events = profile.events
        self._made: dict[int, int] = {}
        self._seen = 0

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._run = run

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        self._count()
        offers: dict[int, int] = {}
        for option in options:
            offers[option.actor.id] = offers.get(option.actor.id, 0) + 1
        # Actors that offer several steps at once count once: their share is divided, in units that keep it whole.
        unit = 1
        for offered in offers.values():
            unit = unit * offered if unit % offered else unit
        return _draw(self._rng, [self._left(o.actor.id) * unit // offers[o.actor.id] for o in options])

    def _count(self) -> None:
        turns, made = self._run.turns, self._made
        for turn in turns[self._seen :]:
            actor = turn // ALTERNATIVES
            made[actor] = made.get(actor, 0) + 1
        self._seen = len(turns)

    def _left(self, actor: int) -> int:
        made = self._made.get(actor, 0) - self._run.eager.get(actor, 0)
        return max(1, _SCALE * (self._events.get(actor, 1) - made))


class Surw(Sampler):
    """URW on the steps that touch one kind of object, drawn for each run; all other steps are a uniform walk around them.

    Source: Zhao, Wolff, Mathur, Roychoudhury, "Selectively uniform concurrency testing", ASPLOS 2025 (SURW): the actor whose
    interesting step comes next is drawn in proportion to the interesting steps it has left; interesting steps of others wait
    for it. It departs in what is interesting: one contested role (the entries of PTE pages, the TLB of one CPU, a lock), each
    as likely as any other, from footprints; and where nothing but interesting steps of others can move, one of those is drawn.
    """

    profiled = True

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        super().__init__(seed, parameters, profile)
        self._rng = SplitMix64(seed)
        self._role_of = profile.role_of
        roles = [role for role, counts in profile.shares.items() if len(counts) > 1]
        self._role: Role | None = roles[self._rng.below(len(roles))] if roles else None
        self._counts: Mapping[int, int] = profile.shares[self._role] if self._role is not None else {}
        self._made: dict[int, int] = {}
        self._intended = -1

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._run = run
        self._pending = Pending(run)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        marked = [self._interesting(touched) for touched in self._pending.look(options)] if self._role else [False] * len(options)
        if self._intended < 0 or self._run.actors[self._intended].done:
            self._intend()
        free = [i for i, option in enumerate(options) if not marked[i] or option.actor.id == self._intended]
        among = free or range(len(options))
        index = among[self._rng.below(len(among))]
        if self._role:
            self._pending.take(options, index)
        if marked[index]:
            actor = options[index].actor.id
            self._made[actor] = self._made.get(actor, 0) + 1
            if actor == self._intended or not free:
                self._intended = -1
        return index

    def _intend(self) -> None:
        alive = [actor for actor in self._counts if not self._run.actors[actor].done]
        weights = [max(1, _SCALE * (self._counts[actor] - self._made.get(actor, 0))) for actor in alive]
        self._intended = alive[_draw(self._rng, weights)] if alive else -1

    def _interesting(self, touched: Touched) -> bool:
        """Whether the step touches a cell of the role; the first item of a role is the family of its cells."""
        if touched.marked is None:
            role, role_of, state = self._role, self._role_of, self._run.state
            family = role[0] if role else ""
            keys = (key for cells in (touched.reads, touched.writes) for key in cells.keys if key[0] == family)
            touched.marked = any(role_of(key, state) == role for key in keys)
        return touched.marked
