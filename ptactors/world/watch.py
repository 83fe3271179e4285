"""The oracles in an exhaustive search: an automaton that is built on demand, like those of the actors.

What the oracles know after a step is a function of what they knew and of the step's events. A *memory* stands for what they
know, an edge for the events of one step; only where an edge is missing are the oracles themselves asked.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import attrs

from ptactors.model.event import MemWrite, SyscallEnter
from ptactors.model.hazard import Finding
from ptactors.model.state import Listener, Record
from ptactors.model.step import Footprint
from ptactors.oracle.mirror import Mirror
from ptactors.oracle.snapshot import Bench, Knowledge
from ptactors.oracle.table import Oracles
from ptactors.world.sight import SETTLED, touched

Heard = tuple["Memory", tuple[str, ...], Footprint]


@attrs.define(eq=False)
class Memory:
    """What the oracles know."""

    number: int
    """In the order of discovery."""
    knowledge: Knowledge
    clock: int
    """System calls begun, for the order of stores and discards."""
    edges: dict[Hashable, Heard] = attrs.field(factory=dict)
    """Events of one step -> what is known then, the hazards seen on the way, and what was looked at and changed."""


class OracleWatcher:
    """Implements the search's Watcher by the oracles of one machine."""

    def __init__(self, oracles: Oracles) -> None:
        """``oracles`` have heard the set-up."""
        self.heard: set[type] = set()
        """Kinds of events that came up."""
        self.findings: dict[str, Finding] = {}
        """The first of each hazard."""
        self.asked = 0
        """How often the oracles themselves were asked."""
        self.memories: list[Memory] = []
        self.touched: Footprint = ((), ())
        """What the oracles looked at and changed when they last heard something."""
        self._oracles = oracles
        self._bench = Bench(oracles)
        self._first: Memory | None = None
        mirror = oracles.mirror
        kinds = (vma.kind for vmas in mirror.vmas.values() for vma in vmas)
        self._files = not all(kind.startswith("anon") and "shared" not in kind for kind in kinds)
        self._asked_if_settled = False

        def settled(mm: str, table: int) -> bool:
            self._asked_if_settled = True
            return Mirror.settled(mirror, mm, table)

        mirror.settled = settled  # type: ignore[method-assign]
        self._known: dict[tuple[int, Knowledge], Memory] = {}
        self._listeners: dict[type, list[Listener]] = {}
        oracles.listen(lambda kind, listener: self._listeners.setdefault(kind, []).append(listener))

    def start(self) -> Memory:
        """See Watcher."""
        if self._first is None:
            self._first = self._memory(0, self._bench.look())
        return self._first

    def hear(self, memory: Memory, records: Sequence[Record]) -> tuple[Memory, tuple[str, ...]]:
        """See Watcher."""
        events = tuple([(event.__class__, event) for _, _, event in records])
        known = memory.edges.get(events)
        if known is None:
            known = memory.edges[events] = self._ask(memory, records)
        after, found, self.touched = known
        return after, found

    def _ask(self, memory: Memory, records: Sequence[Record]) -> Heard:
        self.asked += 1
        self._bench.load(memory.knowledge)
        clock = memory.clock
        self._asked_if_settled = False
        for _, actor, event in records:
            kind = type(event)
            self.heard.add(kind)
            clock += kind is SyscallEnter
            step = clock if kind is SyscallEnter or kind is MemWrite else 0
            for see in self._listeners.get(kind, ()):
                see(step, actor, event)
        found = self._oracles.findings
        for finding in found:
            self.findings.setdefault(finding.hazard, finding)
        knowledge = self._bench.look([type(event) for _, _, event in records])
        return self._memory(clock, knowledge), tuple(finding.hazard for finding in found), self._footprint(records)

    def _footprint(self, records: Sequence[Record]) -> Footprint:
        """What the oracles have looked at and changed."""
        heard = [touched(event, self._files) for _, _, event in records if type(event) in self._listeners]
        reads = dict.fromkeys(key for each in heard for key in each[0])
        writes = dict.fromkeys(key for each in heard for key in each[1])
        return (*reads, *(SETTLED if self._asked_if_settled else ())), tuple(writes)

    def _memory(self, clock: int, knowledge: Knowledge) -> Memory:
        known = self._known.get((clock, knowledge))
        if known is None:
            known = self._known[clock, knowledge] = Memory(len(self.memories), knowledge, clock)
            self.memories.append(known)
        return known
