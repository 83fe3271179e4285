"""Where two logs part first, and what follows from it.

The first difference of the files is mostly one of order: another actor was chosen. What matters is where the actors themselves
begin to live differently; so each actor's own events are compared as well, without step numbers and causes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import attrs

from ptactors.analysis.judge import judge
from ptactors.log.read import SavedLog

Line = dict[str, Any]
_PLACE = ("step", "cause")
_JUDGED = 100_000


@attrs.frozen(kw_only=True)
class Parting:
    """Where one actor's events differ first; None: it has no more events."""

    actor: str
    same: int
    """How many of its events are the same in both logs before that."""
    left: Line | None
    right: Line | None


@attrs.frozen(kw_only=True)
class Difference:
    """What two logs do not have in common."""

    header: tuple[tuple[str, Any, Any], ...]
    """Key, here, there; knobs by their names."""
    same: int
    """How many events are the same before the first difference."""
    left: Line | None
    """The first event that differs; None: the log has no more events."""
    right: Line | None
    partings: tuple[Parting, ...]
    """In the order of their steps; actors that live the same life are absent."""
    kinds: tuple[tuple[str, int, int], ...]
    """Event, count here, count there, where they differ; the greatest difference first."""
    hazards: tuple[tuple[str, int | None, int | None], ...] | None
    """Hazard, first step here, there, where only one has it or at another step; None: not looked for."""
    ending: tuple[tuple[str, Any, Any], ...]
    """What the trailers say differently."""

    @property
    def empty(self) -> bool:
        """Whether the logs hold the same events and headers."""
        return not (self.header or self.left or self.right or self.ending)


def compare(here: SavedLog, there: SavedLog) -> Difference:
    """Read both logs side by side."""
    lives = _Lives()
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    same, first = 0, None
    for left, right in zip_longest(here.raw(), there.raw()):
        if first is None:
            if left == right:
                same += 1
            else:
                first = left, right
        for side, line in enumerate((left, right)):
            if line is not None:
                counts[side][line["ev"]] += 1
                if first is not None:
                    lives.add(side, line)
                else:
                    lives.common(line, side)
    kinds = [(ev, counts[0][ev], counts[1][ev]) for ev in sorted(counts[0] | counts[1]) if counts[0][ev] != counts[1][ev]]
    return Difference(
        header=tuple(_header(here.header, there.header)),
        same=same,
        left=first[0] if first else None,
        right=first[1] if first else None,
        partings=tuple(lives.partings()),
        kinds=tuple(sorted(kinds, key=lambda row: (-abs(row[1] - row[2]), row[0]))),
        hazards=_hazards(here, there) if max(sum(c.values()) for c in counts) <= _JUDGED else None,
        ending=tuple(_unequal(here.trailer, there.trailer, ("events", "sha256", "ev", "hazards"))),
    )


class _Lives:
    """Each actor's events of both logs, matched one by one."""

    def __init__(self) -> None:
        self._same: Counter[str] = Counter()
        self._waiting: dict[str, tuple[deque[Line], deque[Line]]] = {}
        self._parted: dict[str, Parting] = {}

    def common(self, line: Line, side: int) -> None:
        """An event that stands at the same place in both logs."""
        if side == 0:
            self._same[line["actor"]] += 1

    def add(self, side: int, line: Line) -> None:
        """An event behind the first difference."""
        actor = line["actor"]
        if actor in self._parted:
            return
        queues = self._waiting.setdefault(actor, (deque(), deque()))
        queues[side].append(line)
        while queues[0] and queues[1]:
            left, right = queues[0].popleft(), queues[1].popleft()
            if _bare(left) != _bare(right):
                self._parted[actor] = Parting(actor=actor, same=self._same[actor], left=left, right=right)
                del self._waiting[actor]
                return
            self._same[actor] += 1

    def partings(self) -> list[Parting]:
        """After the last event."""
        for actor, (left, right) in self._waiting.items():
            if left or right:
                first = left[0] if left else None, right[0] if right else None
                self._parted[actor] = Parting(actor=actor, same=self._same[actor], left=first[0], right=first[1])
        return sorted(self._parted.values(), key=lambda p: (min(x["step"] for x in (p.left, p.right) if x), p.actor))


def _bare(line: Line) -> Line:
    return {key: value for key, value in line.items() if key not in _PLACE}


def _header(here: dict[str, Any], there: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield from _unequal(here, there, ("knobs", "title", "why"))
    yield from _unequal(here.get("knobs") or {}, there.get("knobs") or {}, ())


def _unequal(here: dict[str, Any], there: dict[str, Any], but: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*here, *there]):
        if key not in but and here.get(key) != there.get(key):
            yield key, here.get(key), there.get(key)


def _hazards(here: SavedLog, there: SavedLog) -> tuple[tuple[str, int | None, int | None], ...]:
    left, right = ({f.hazard: f.step for f, _ in judge(log)} for log in (here, there))
    return tuple(
        (name, left.get(name), right.get(name)) for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)
    )
