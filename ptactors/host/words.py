"""A run of ``DONTNEED(2 MiB) || write x`` as a word, as the same race was traced on a real kernel (6.18.44, 2,000 iterations).

One letter for each thing that a trace shows, in the order of the run. Of the CPU that calls madvise: ``b`` it enters, ``D`` it
detaches a table, ``S`` it sends the shootdown to the peer, ``L`` it flushes itself, ``x`` it returns. Of its peer: ``s`` it
starts its write, ``f`` that faults, ``A`` it allocates a table, ``M`` it allocates a page, ``w`` it has stored, ``R`` it ran the
handler of the shootdown. A handler that ran while the peer's CPU was idle or ran another task is not seen by a trace of the
process; here it is an ``r``, which :func:`observed` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import attrs

from ptactors.engine.prove import Search, Searched, Situation
from ptactors.kernel.tlbflush import INIT_MM, tlbstate
from ptactors.model.event import (
    CsdExit,
    EntryWrite,
    FrameAlloc,
    IpiSend,
    MemWrite,
    OpBegin,
    PageFault,
    ProgramsDone,
    SwitchMm,
    SyscallEnter,
    SyscallExit,
    TlbFlush,
    TlbInvalidate,
)
from ptactors.model.state import Record
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world.prove import Bounds, CellSearch

SCENARIO = "litmus-words-dn-w"
"""The shipped scenario of the race."""
RECORDED = {"bsfDSAMwLRx": 1036, "bsDfSAMwLRx": 394, "bswDSLRx": 273, "bDSLxsfAMw": 69, "sbwDSLRx": 64}
"""The five most frequent words of the trace, with their counts."""
ITERATIONS = 2000
"""Of the trace."""
ZAPPER, PEER = 0, 1
"""The CPU that calls madvise, and the one that writes."""
SHOOTDOWN = "flush_tlb_func"


class Spelling(NamedTuple):
    """A word as far as it is spelled, and what the next letter hangs on."""

    letters: str = ""
    runs: bool = False
    """Whether the peer's CPU runs the process."""
    flushing: bool = False
    """Whether the other CPU is in a flush that has not reached its own TLB."""

    def hear(self, event: object) -> Spelling:
        """The word after an event."""
        if type(event) is SwitchMm:
            return self._replace(runs=event.next != INIT_MM and not event.lazy) if event.cpu == PEER else self
        if type(event) is TlbFlush:
            return self._replace(flushing=True) if event.cpu == ZAPPER else self
        if type(event) is TlbInvalidate:  # page by page there are several in a flush, and the trace has one record of it
            if event.cpu != ZAPPER or not self.flushing:
                return self
            return self._replace(letters=self.letters + "L", flushing=False)
        if type(event) is CsdExit:
            mine = event.cpu == PEER and event.func == SHOOTDOWN
            return self._replace(letters=self.letters + ("R" if self.runs else "r")) if mine else self
        letter = _LETTERS.get(type(event), _none)(event)
        return self._replace(letters=self.letters + letter) if letter else self


def _none(event: object) -> str:
    return ""


_LETTERS: dict[type, Callable[[Any], str]] = {
    SyscallEnter: lambda e: "b" if e.cpu == ZAPPER else "",
    SyscallExit: lambda e: "x" if e.cpu == ZAPPER else "",
    EntryWrite: lambda e: "D" if e.cpu == ZAPPER and e.what == "pmd_clear" else "",
    IpiSend: lambda e: "S" if e.cpu == ZAPPER and e.func == SHOOTDOWN and PEER in e.targets else "",
    OpBegin: lambda e: "s" if e.cpu == PEER and e.op == "write" else "",
    PageFault: lambda e: "f" if e.cpu == PEER else "",
    FrameAlloc: lambda e: {"pte": "A", "anon": "M"}.get(e.kind, "") if e.cpu == PEER else "",
    MemWrite: lambda e: "w" if e.cpu == PEER else "",
}


def word(records: Iterable[Record]) -> str:
    """The word of a recorded run, up to the end of its programs."""
    spelling = Spelling()
    for _step, _actor, event in records:
        if type(event) is ProgramsDone:
            break
        spelling = spelling.hear(event)
    return spelling.letters


def observed(full: str) -> str:
    """What a trace of the process shows of the word."""
    return full.replace("r", "")


def broken_rule(full: str) -> str:
    """The rule of real kernels that the word of a run breaks; '' if it obeys all three."""
    sent = served = 0
    for at, letter in enumerate(full):
        if letter == "S":
            sent += 1
            if "D" in full[at:]:
                return "a table is detached after the shootdown was sent"
        elif letter in "Rr":
            served += 1
            if served > sent:
                return "a handler ran before its shootdown was sent"
        elif letter == "x" and served < sent:
            return "madvise returned before every queued shootdown was served"
    return ""


# -- all words ------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Memory:
    """What the listener of a search knows after some path."""

    number: int
    spelling: Spelling


class _Listener:
    """Implements the search's Watcher: keeps paths apart by their words."""

    def __init__(self, first: Spelling) -> None:
        self._memories: dict[Spelling, _Memory] = {}
        self._first = first

    def start(self) -> _Memory:
        """See Watcher."""
        return self._memory(self._first)

    def hear(self, memory: _Memory, records: Sequence[Record]) -> tuple[_Memory, tuple[str, ...]]:
        """See Watcher."""
        spelling = memory.spelling
        for _step, _actor, event in records:
            spelling = spelling.hear(event)
        return (memory if spelling is memory.spelling else self._memory(spelling)), ()

    def _memory(self, spelling: Spelling) -> _Memory:
        return self._memories.setdefault(spelling, _Memory(len(self._memories), spelling))


def all_words(scenario: Scenario, cell: Cell, max_states: int) -> tuple[set[str], Searched]:
    """The words of all interleavings, and the search that found them; it says whether it was cut off."""
    whole = CellSearch(scenario, cell, Bounds(max_states=max_states))
    peer = whole.machine.state.read(tlbstate(PEER))
    listener = _Listener(Spelling(runs=peer.loaded != INIT_MM and not peer.lazy))
    search = Search(whole.machine.state, whole.search.movers, listener, exact=True)
    found: set[str] = set()

    def final(here: Situation) -> None:
        found.add(here.memory.spelling.letters)

    search.when_final = final
    return found, search.run(max_states)
