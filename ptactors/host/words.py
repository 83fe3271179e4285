"""A run of ``DONTNEED(2 MiB) || write x`` as a word, as the same race was traced on a real kernel (6.18.44, 2,000 iterations).

One letter for each thing that a trace shows, in the order of the run. Of the CPU that calls madvise: ``b`` it enters, ``D`` it
detaches a table, ``S`` it sends the shootdown to the peer, ``L`` it flushes itself, ``x`` it returns. Of its peer: ``s`` it
starts its write, ``f`` that faults, ``A`` it allocates a table, ``M`` it allocates a page, ``w`` it has stored, ``R`` it ran the
handler of the shootdown. A handler that ran while the peer's CPU was idle or ran another task is not seen by a trace of the
process; here it is an ``r``, which :func:`observed` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

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

LETTERS = "bDSLRrxsfAMw"
RECORDED = {"bsfDSAMwLRx": 1036, "bsDfSAMwLRx": 394, "bswDSLRx": 273, "bDSLxsfAMw": 69, "sbwDSLRx": 64}
"""The five most frequent words of the trace, with their counts among 2,000."""
SHOOTDOWN = "flush_tlb_func"


class _Reader:
    """Turns events into letters; remembers which task the peer's CPU runs and whether this flush was seen already."""

    def __init__(self, zapper: int, peer: int) -> None:
        self.zapper, self.peer = zapper, peer
        self._runs = False
        self._flushing = False
        self._letters: dict[type, Callable[[Any], str]] = {
            SyscallEnter: lambda e: "b" if e.cpu == zapper else "",
            SyscallExit: lambda e: "x" if e.cpu == zapper else "",
            EntryWrite: lambda e: "D" if e.cpu == zapper and e.what == "pmd_clear" else "",
            IpiSend: lambda e: "S" if e.cpu == zapper and e.func == SHOOTDOWN and peer in e.targets else "",
            OpBegin: lambda e: "s" if e.cpu == peer and e.op == "write" else "",
            PageFault: lambda e: "f" if e.cpu == peer else "",
            FrameAlloc: lambda e: {"pte": "A", "anon": "M"}.get(e.kind, "") if e.cpu == peer else "",
            MemWrite: lambda e: "w" if e.cpu == peer else "",
            CsdExit: lambda e: self._handled() if e.cpu == peer and e.func == SHOOTDOWN else "",
            SwitchMm: self._switched,
            TlbFlush: self._flush_began,
            TlbInvalidate: self._invalidated,
        }

    def letter(self, event: object) -> str:
        """The letter of an event; '' for one that a trace does not show."""
        reader = self._letters.get(type(event))
        return reader(event) if reader is not None else ""

    def _handled(self) -> str:
        return "R" if self._runs else "r"

    def _switched(self, event: SwitchMm) -> str:
        if event.cpu == self.peer:
            self._runs = bool(event.next) and not event.lazy
        return ""

    def _flush_began(self, event: TlbFlush) -> str:
        self._flushing = self._flushing or event.cpu == self.zapper
        return ""

    def _invalidated(self, event: TlbInvalidate) -> str:
        """The first invalidation of a flush: page by page there are several, and the trace has one record."""
        mine = event.cpu == self.zapper and self._flushing
        self._flushing = self._flushing and not mine
        return "L" if mine else ""


def word(records: Iterable[Record], zapper: int = 0, peer: int = 1) -> str:
    """The word of a recorded run, up to the end of its programs."""
    reader = _Reader(zapper, peer)
    letters = []
    for _step, _actor, event in records:
        if type(event) is ProgramsDone:
            break
        letters.append(reader.letter(event))
    return "".join(letters)


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
