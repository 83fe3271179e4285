"""What a campaign has been through: branches by name, steps that met on a cell, states; and how much of it was never seen.

Three kinds of items are noted in each run:

``branches``  names of steps made and of events that happened.
``pairs``     ``A -> B``: step A of one actor, then step B of another one on the same cell, at least one of the two a write, and
              nothing between them that would have parted them. Two steps that never met were never raced. The content of a
              folio counts as one cell.
``states``    which step every actor was about to make, taken after each 16th step; CPUs are not told apart. Simplified: what
              the memory holds is no part of it, so that programs with other addresses are in the same states.

How much is unseen is estimated from what was seen once and twice, in sampling units: a mix (its schedules share their programs,
and presets see the same mixes), or one schedule of a scenario. With T units, Q1 items seen in one of them and Q2 in two:

- at least (T - 1) / T * Q1 (Q1 - 1) / (2 (Q2 + 1)) items are unseen. This is the estimator called Chao2 (Chao, "Estimating the
  population size for capture-recapture data with unequal catchability", Biometrics 43, 1987; the name is Colwell's and
  Coddington's, 1994) in its bias-corrected form, which is there for Q2 = 0 too, as "Chao2-bc" of the R package SpadeR.
- the next unit shows something new with a probability near the share of units that alone showed some item: each is left out in
  turn, and would it have been a surprise? Where a unit shows one item this is Good's and Turing's f1 / n (Good, "The population
  frequencies of species", Biometrika 40, 1953); here a unit shows many. It is not Q1 / T, which is how many new items the next
  unit shows on average, nor one minus the sample coverage of incidences, which is their share of all that it shows.

Böhme, "STADS: software testing as species discovery" (TOSEM 27, 2018), brought such estimators to tests. Not confirmed: that it
has these forms, as only summaries of it were at hand. Both assume that units are drawn alike and independently: they speak of
these presets, these strategies and this way of drawing, and of nothing else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ptactors.engine.actor import Actor
from ptactors.hardware.memory import FreeFrames, PutFrames, data, frame, head
from ptactors.model.event import EVENTS, event_name
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Footprint, Step

KINDS = ("branches", "pairs", "states")
SETTLING = ("branches", "pairs")
"""The kinds that saturation waits for: random programs have always more states."""
SAMPLE = 16
"""A state is taken after so many steps."""
FEW = 2
"""Items seen in so many units are rare; of pairs and states it is not counted how many more."""

_FREEING = (FreeFrames, PutFrames)

Items = dict[str, dict[str, None]]
"""Kind -> the items of one run, in the order of their first sight."""
Mark = tuple[int, str]
"""(actor, name of its step)."""


class Watcher:
    """Watches one run; give its ``before`` to the machine as a hook."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._names: dict[str, None] = {}
        self._pairs: dict[tuple[str, str], None] = {}
        self._states: dict[tuple[str, ...], None] = {}
        self._actors: dict[int, Actor] = {}
        self._writer: dict[Key, Mark] = {}
        self._reader: dict[Key, Mark] = {}
        for kind in EVENTS:
            state.listen(kind, self._see)

    def _see(self, step: int, actor: int, event: object) -> None:
        """Note a kind of event, and listen to it no more."""
        kind = type(event)
        self._names[event_name(event)] = None
        listeners = self._state.listeners
        listeners[kind] = tuple(each for each in listeners[kind] if each != self._see)

    def before(self, actor: Actor) -> None:
        """See Hook."""
        step: Step[Any] = actor.options[actor.chosen]
        name = step.name()
        self._names[name] = None
        mark = actor.id, name
        reads, writes = _freed(step) if step.__class__ in _FREEING else step.touches(self._state)
        if step.blocking:
            reads = (*step.waits(), *reads)
        for key in reads:
            if key[0] == "entry":
                self._entry(key, mark, False)
                continue
            if key[0] == "data":
                key = data(head(key[1]))
            writer = self._writer.get(key)
            if writer is not None and writer[0] != mark[0]:
                self._pairs[writer[1], name] = None
            self._reader[key] = mark
        for key in writes:
            if key[0] == "entry":
                self._entry(key, mark, True)
                continue
            if key[0] == "data":
                key = data(head(key[1]))
            for other in (self._writer.get(key), self._reader.get(key)):
                if other is not None and other[0] != mark[0]:
                    self._pairs[other[1], name] = None
            self._writer[key] = mark
        if self._state.step % SAMPLE == 0:
            self._take()
        self._actors[actor.id] = actor

    def after(self, actor: Actor) -> None:
        """See Hook."""

    def _entry(self, key: Key, mark: Mark, writes: bool) -> None:
        """One entry of a table, or all of them: an access of all meets those of each, and the other way round."""
        whole = ("entry", key[1], ANY)
        others = ("single", key[1]) if key[2] == ANY else whole
        for place in (key, others):
            for table in (self._writer, self._reader) if writes else (self._writer,):
                other = table.get(place)
                if other is not None and other[0] != mark[0]:
                    self._pairs[other[1], mark[1]] = None
        noted = self._writer if writes else self._reader
        noted[key] = mark
        if key[2] != ANY:
            noted["single", key[1]] = mark

    def _take(self) -> None:
        """The state: every actor that has moved and is not done, by what it is and what it would do next."""
        self._states[tuple(sorted(_stance(actor) for actor in self._actors.values() if not actor.done))] = None

    def items(self) -> Items:
        """What the run has been through."""
        return {
            "branches": self._names,
            "pairs": {f"{first} -> {then}": None for first, then in self._pairs},
            "states": {_digest(state): None for state in self._states},
        }


def _freed(step: Step[Any]) -> Footprint:
    """What a step that frees pages touches, with each folio once: what it declares names all 512 pages of a huge one."""
    assert isinstance(step, _FREEING)
    heads = dict.fromkeys(map(head, step.pfns))
    return (), tuple(key for pfn in heads for key in (frame(pfn), data(pfn), ("entry", pfn, ANY)))


def _stance(actor: Actor) -> str:
    return f"{actor.name.rstrip('0123456789')}:{actor.options[0].name()}"


def _digest(state: tuple[str, ...]) -> str:
    return hashlib.blake2b("\n".join(state).encode(), digest_size=8).hexdigest()


class Watch:
    """Makes a watcher for each run of ``play_many``, and hands out what they saw in the order of the runs."""

    def __init__(self) -> None:
        self._watchers: deque[Watcher] = deque()

    def __call__(self, state: State) -> Watcher:
        """For ``watch=``."""
        watcher = Watcher(state)
        self._watchers.append(watcher)
        return watcher

    def items(self) -> Items:
        """Those of the first run that was not asked for yet."""
        return self._watchers.popleft().items()


@attrs.define
class Sight:
    """Where one item was seen."""

    first: int
    """The schedule that showed it first, from 0."""
    units: int
    """In how many units; of pairs and states at most one more than FEW."""
    last: int
    """The latest of these units."""


class Gathered:
    """The items of one piece of work: schedules from 0, units from 0."""

    def __init__(self, one_unit: bool) -> None:
        """``one_unit``: all schedules of the piece are one sampling unit; else each is one."""
        self._one = one_unit
        self._runs = 0
        self.kinds: dict[str, dict[str, list[int]]] = {kind: {} for kind in KINDS}
        """Kind -> item -> [first schedule, units, last unit]."""

    def add(self, items: Items) -> None:
        """One more schedule."""
        unit = 0 if self._one else self._runs
        for kind, found in self.kinds.items():
            for item in items[kind]:
                seen = found.get(item)
                if seen is None:
                    found[item] = [self._runs, 1, unit]
                elif seen[2] != unit:
                    seen[1] += 1
                    seen[2] = unit
        self._runs += 1


@attrs.frozen(kw_only=True)
class Estimate:
    """One kind of items, and what is probably missing."""

    seen: int
    once: int
    """Items seen in exactly one unit."""
    twice: int
    """Items seen in exactly two."""
    units: int
    """Sampling units."""
    unseen: float
    """Chao's lower bound of the number of items that were not seen, bias-corrected."""
    new: float
    """Estimate of the probability that the next unit shows some new item: Good's and Turing's, for units of many items."""
    since: int
    """Schedules since the last new item."""


class Coverage:
    """The items of a whole campaign, merged piece by piece in the order of the work."""

    def __init__(self) -> None:
        self.runs = 0
        """Schedules merged."""
        self.units = 0
        """Sampling units begun."""
        self.kinds: dict[str, dict[str, Sight]] = {kind: {} for kind in KINDS}
        """Kind -> item -> where it was seen."""

    def merge(self, found: Mapping[str, Mapping[str, Iterable[int]]], runs: int, unit: int, units: int) -> None:
        """Add a piece of so many schedules; ``unit`` is the number of its first unit, ``units`` how many it has."""
        for kind, items in found.items():
            mine = self.kinds[kind]
            for item, (first, count, last) in items.items():
                seen = mine.get(item)
                if seen is None:
                    mine[item] = Sight(self.runs + first, count, unit + last)
                elif seen.last < unit + last:
                    seen.units += count
                    seen.last = unit + last
                if kind != "branches" and mine[item].units > FEW:
                    mine[item].units = FEW + 1
        self.runs += runs
        self.units = max(self.units, unit + units)

    def settled(self, kind: str, item: str) -> bool:
        """Whether seeing the item once more changes nothing."""
        seen = self.kinds[kind].get(item)
        return kind != "branches" and seen is not None and seen.units > FEW

    def estimate(self, kind: str) -> Estimate:
        """How complete the items of one kind are."""
        items = self.kinds[kind].values()
        once, twice = sum(seen.units == 1 for seen in items), sum(seen.units == 2 for seen in items)
        alone = len({seen.last for seen in items if seen.units == 1})
        units = self.units
        return Estimate(
            seen=len(items),
            once=once,
            twice=twice,
            units=units,
            unseen=(units - 1) * once * (once - 1) / (units * 2 * (twice + 1)) if units else 0.0,
            new=alone / units if units else 1.0,
            since=self.runs - 1 - max((seen.first for seen in items), default=-1),
        )

    def growth(self, kind: str) -> list[tuple[int, int]]:
        """(schedules, items seen in the first so many) for 1, 2, 4 ... schedules and for all."""
        firsts = sorted(seen.first for seen in self.kinds[kind].values())
        table, at = [], 0
        for runs in _doubling(self.runs):
            while at < len(firsts) and firsts[at] < runs:
                at += 1
            table.append((runs, at))
        return table

    def rare(self, kind: str) -> list[tuple[str, int]]:
        """(item, units) of those that were seen in few units, the rarest first."""
        few = [(item, seen.units) for item, seen in self.kinds[kind].items() if seen.units <= FEW]
        return sorted(few, key=lambda each: (each[1], each[0]))

    def saturated(self, quiet: int, bound: float) -> bool:
        """Whether nothing new came in the last ``quiet`` schedules nor in the later half, and probably nothing will.

        Of branches and pairs; ``bound`` is for the estimated probability that the next unit shows a new one.
        """
        estimates = [self.estimate(kind) for kind in SETTLING]
        need = max(quiet, -(-self.runs // 2))
        return all(each.seen and each.since >= need and each.new < bound for each in estimates)


def _doubling(runs: int) -> Iterator[int]:
    at = 1
    while at < runs:
        yield at
        at *= 2
    if runs:
        yield runs
