"""What the oracles look at and change when they hear an event, as footprints: for a search that reorders steps which commute.

Two events whose footprints do not conflict can be heard in either order: the oracles then know the same and have said the same.
The keys name what the mirror and the oracles keep, by CPU, mm, table or frame; no cell has such a key. An event that nobody
listens to touches nothing; one that is not listed here touches everything. A test holds the list to the truth.

The step at which something happened is told in histories only, except for stores and the beginnings of system calls, whose order
counts (``CLOCK``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptactors.model.event import (
    Cr3Write,
    EntryWrite,
    FrameAlloc,
    FrameFree,
    GatherBegin,
    GatherEnd,
    GatherTable,
    GupPin,
    HardwareBits,
    IpiWait,
    LockAcquire,
    LockFree,
    LockInit,
    LockRelease,
    MachineCheck,
    MemRead,
    MemWrite,
    MightSleep,
    OpBegin,
    OpEnd,
    PgtablesBytes,
    PscEvict,
    PscFill,
    RcuLock,
    RcuUnlock,
    Rss,
    SwitchMm,
    SyscallEnter,
    SyscallExit,
    TableDeposit,
    TableMap,
    TableRead,
    TableUnmap,
    TlbEvict,
    TlbFill,
    TlbFlush,
    TlbFlushEnd,
    TlbInvalidate,
    UserMode,
    WalkRead,
)
from ptactors.model.paging import Level
from ptactors.model.state import Key
from ptactors.model.step import ANY, Footprint

LOCKS, DEAD, RCU, MAPPED, CALL = "seen locks", "seen dead lock", "seen rcu", "seen mapped", "seen call"
PENDING, GATHER, FLUSHING, LAZY = "seen pending", "seen gather", "seen flush", "seen lazy"
FRAME, ENTRIES, PMDS, LINKS = "seen frame", "seen entries", "seen pmds", "seen links"
TLB, UPPER, LOOKED = "seen tlb", "seen upper", "seen looked"
RSS, BYTES, TABLES = "seen rss", "seen bytes", "seen tables"
PAGES, CLOCK, DIRT, NONE = ("seen pages", 0), ("seen clock", 0), ("seen dirt", 0), ("seen protnone", 0)
"""What is stored in anonymous pages, the order of stores, what of files is dirty, whether anything is PROT_NONE."""
FAMILIES = (
    LOCKS, DEAD, RCU, MAPPED, CALL, PENDING, GATHER, FLUSHING, LAZY, FRAME, ENTRIES, PMDS, LINKS, TLB, UPPER, LOOKED, RSS, BYTES,
    TABLES, *(key[0] for key in (PAGES, CLOCK, DIRT, NONE)),
)  # fmt: skip


def _all(*families: str) -> tuple[Key, ...]:
    return tuple((each, ANY) for each in families)


EVERYTHING: Footprint = (), _all(*FAMILIES)
"""Of an event that is not listed."""
SETTLED: tuple[Key, ...] = _all(LOCKS, PENDING, FLUSHING)
"""What is looked at besides where an oracle asks whether every flush of an mm is done."""
_CACHED: tuple[Key, ...] = _all(TLB, LAZY, FRAME)
_MEMORY: tuple[Key, ...] = _all(FRAME, ENTRIES, PMDS)


def _entry(event: EntryWrite) -> Footprint:
    cpu, table = event.cpu, event.table
    who: tuple[Key, ...] = ((LOCKS, cpu), (CALL, cpu), (MAPPED, cpu), *_all(FRAME))
    if event.level == Level.PTE:
        return (*who, (LINKS, table)), ((ENTRIES, table), DIRT, NONE)
    return (*who, *_all(ENTRIES)), ((PMDS, event.mm), *_all(LINKS), DIRT, NONE)


def _bits(event: HardwareBits) -> Footprint:
    return (), ((ENTRIES, event.table) if event.level == Level.PTE else (PMDS, event.mm),)


def _lives(event: FrameAlloc | FrameFree | GatherTable) -> Footprint:
    keys: tuple[Key, ...] = ((FRAME, event.pfn), (ENTRIES, event.pfn), (LINKS, event.pfn))
    return (), (*keys, DIRT, *_all(TABLES))


def _own(*families: str) -> Callable[[Any], Footprint]:
    """It changes something of the event's CPU."""
    return lambda event: ((), tuple((each, event.cpu) for each in families))


def _by_mm(family: str, *more: str) -> Callable[[Any], Footprint]:
    """It changes something of the event's mm, and of its CPU."""
    return lambda event: ((), ((family, event.mm), *((each, event.cpu) for each in more)))


def _lock(event: LockInit | LockFree) -> Footprint:
    return (), ((DEAD, event.lock),)


def _nothing(event: Any) -> Footprint:
    return (), ()


def _gather_end(event: GatherEnd) -> Footprint:
    return (*_MEMORY, *_all(PENDING)), ((PENDING, event.mm), (GATHER, event.cpu), DIRT)


TOUCHED: dict[type, Callable[[Any], Footprint]] = {
    RcuLock: _own(RCU),
    RcuUnlock: _own(RCU),
    TableMap: lambda e: (((FRAME, e.table),), ((MAPPED, e.cpu),)),
    TableUnmap: _own(MAPPED),
    TableRead: lambda e: ((*_all(FRAME), (MAPPED, e.cpu)), ((LOOKED, e.cpu),)),
    GupPin: lambda e: ((*_all(FRAME), (LOOKED, e.cpu)), ()),
    OpBegin: _nothing,
    OpEnd: lambda e: (((RCU, e.cpu), (LOCKS, e.cpu)), ((MAPPED, e.cpu),)),
    UserMode: lambda e: (((RCU, e.cpu), (LOCKS, e.cpu)), ()),
    MightSleep: _nothing,
    IpiWait: _nothing,
    MachineCheck: _nothing,
    LockAcquire: lambda e: ((*_all(FRAME), (DEAD, e.lock), (MAPPED, e.cpu)), ((LOCKS, e.cpu),)),
    LockRelease: _own(LOCKS),
    LockInit: _lock,
    LockFree: _lock,
    EntryWrite: _entry,
    HardwareBits: _bits,
    FrameAlloc: _lives,
    FrameFree: _lives,
    GatherTable: _lives,
    TableDeposit: lambda e: ((), ((LINKS, e.table),)),
    Rss: _by_mm(RSS),
    PgtablesBytes: _by_mm(BYTES),
    TlbFill: lambda e: (_CACHED, ((TLB, e.cpu),)),
    TlbEvict: _own(TLB),
    TlbInvalidate: _own(TLB, UPPER),
    PscFill: _own(UPPER),
    PscEvict: _own(UPPER),
    Cr3Write: lambda e: (_CACHED, ((TLB, e.cpu), (UPPER, e.cpu))),
    SwitchMm: _own(LAZY),
    WalkRead: lambda e: (((FRAME, e.table),), ()),
    MemRead: lambda e: ((*_MEMORY, PAGES, NONE), ()),
    MemWrite: lambda e: ((*_MEMORY, NONE), (PAGES, CLOCK, DIRT)),
    SyscallEnter: lambda e: ((), ((CALL, e.cpu), PAGES, CLOCK)),
    SyscallExit: lambda e: ((), ((CALL, e.cpu), PAGES)),
    GatherBegin: _by_mm(PENDING, GATHER),
    GatherEnd: _gather_end,
    TlbFlush: _own(FLUSHING),
    TlbFlushEnd: _own(FLUSHING),
}  # fmt: skip
"""Kind of event -> its footprint."""


def touched(event: Any, files: bool) -> Footprint:
    """The footprint of one event that somebody listens to; ``files``: whether any memory is of a file."""
    known = TOUCHED.get(type(event))
    if known is None:
        return EVERYTHING
    reads, writes = known(event)
    if not files:
        writes = tuple(key for key in writes if key is not DIRT)
        if type(event) is GatherEnd:
            reads = ()
    return reads, writes
