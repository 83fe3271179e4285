"""Which records of a run a reader of one finding must see.

The finding names its steps. What their events are about - addresses, frames, locks, CPUs - is what the story is about, and every
other record counts by how much it has to do with that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ptactors.model import event as ev
from ptactors.model.paging import PMD_SIZE, align_down
from ptactors.model.state import Record

KEY, FRAME, STORY, DETAIL = range(4)
"""How much a record matters, best first: the finding's own steps; the operations around them; what happens to the same
address or table; locks, gathers, RCU and IPIs."""

_QUIET = (ev.LockRelease, ev.RcuLock, ev.RcuUnlock, ev.Rss, ev.FrameRef, ev.PgtablesBytes, ev.IrqsOff, ev.IrqsOn,
          ev.UserMode, ev.MightSleep, ev.RcuQs, ev.LockInit, ev.LockFree, ev.WalkRead, ev.PscFill, ev.IpiWait)  # fmt: skip
"""Kinds that stand for a key step only if the step has nothing else."""
_OPERATIONS = (ev.OpBegin, ev.SyscallEnter, ev.SyscallExit)
_DETAILS = (ev.GatherBegin, ev.GatherEnd, ev.CallRcu, ev.RcuSynchronize, ev.RcuGpEnd, ev.RcuCallback, ev.IpiSend, ev.CsdEnter,
            ev.CsdExit, ev.IpiDone)  # fmt: skip


@attrs.define
class Concern:
    """What a finding is about."""

    steps: frozenset[int]
    """Its own steps."""
    regions: set[int] = attrs.field(factory=set)
    """2 MiB regions."""
    frames: set[int] = attrs.field(factory=set)
    """Frames and tables."""
    locks: set[str] = attrs.field(factory=set)
    cpus: set[int] = attrs.field(factory=set)

    @classmethod
    def of(cls, steps: Iterable[int], records: Sequence[Record]) -> Concern:
        """What the events of these steps are about."""
        concern = cls(frozenset(steps))
        for step, _, event in records:
            if step in concern.steps and step > 0 and type(event) not in _QUIET:
                concern._learn(event)
        return concern

    def _learn(self, event: Any) -> None:
        if event.cpu >= 0:
            self.cpus.add(event.cpu)
        for name in ("va", "address"):
            if hasattr(event, name):
                self.regions.add(align_down(getattr(event, name), PMD_SIZE))
        for name in ("pfn", "table"):
            if hasattr(event, name):
                frame = getattr(event, name)
                self.frames.add(frame)
                self.locks.update((f"pte:{frame:#x}", f"pmd:{frame:#x}"))
        if hasattr(event, "lock"):
            self.locks.add(event.lock)

    def meets(self, event: Any) -> bool:
        """Whether the event is about the same region, frame or lock."""
        for name in ("va", "address"):
            if align_down(getattr(event, name, -1), PMD_SIZE) in self.regions:
                return True
        if hasattr(event, "start") and any(event.start < r + PMD_SIZE and event.end > r for r in self.regions):
            return True
        if getattr(event, "lock", "") in self.locks:
            return True
        return any(getattr(event, name, -1) in self.frames for name in ("pfn", "table"))


def rank(records: Sequence[Record], concern: Concern) -> dict[int, int]:
    """Position of a record -> how much it matters; positions that do not matter are absent."""
    ranked = _keys(records, concern)
    around = _around(records, list(ranked))
    last = max(ranked, default=0)
    for i, (step, _, event) in enumerate(records):
        if type(event) is ev.ProgramsDone and i > last:
            break
        if i in ranked or step <= 0:
            continue
        if i in around:
            ranked[i] = FRAME
        elif event.cpu in concern.cpus or isinstance(event, ev.FrameFree | ev.FrameAlloc | ev.RcuGpEnd):
            worth = _worth(event, concern)
            if worth is not None:
                ranked[i] = worth
    for i in list(ranked):
        call = _system_call(records, i)
        if call is not None:
            ranked[call] = min(ranked.pop(i), ranked.get(call, DETAIL))
    return dict(sorted(ranked.items()))


def _keys(records: Sequence[Record], concern: Concern) -> dict[int, int]:
    """The loudest records of the finding's own steps."""
    by_step: dict[int, list[int]] = {}
    for i, (step, _, _) in enumerate(records):
        if step in concern.steps and step > 0:
            by_step.setdefault(step, []).append(i)
    keys: dict[int, int] = {}
    for positions in by_step.values():
        loud = [i for i in positions if type(records[i][2]) not in _QUIET]
        keys.update(dict.fromkeys((loud or positions)[:2], KEY))
    return keys


def _around(records: Sequence[Record], keys: Sequence[int]) -> set[int]:
    """The operations that the key records happened in, and the faults."""
    found: set[int] = set()
    open_at: dict[int, list[int]] = {}
    wanted = set(keys)
    for i, (_, _, event) in enumerate(records):
        stack = open_at.setdefault(event.cpu, [])
        kind = type(event)
        if kind in (ev.OpBegin, ev.PageFault, ev.SyscallEnter):
            stack.append(i)
        elif kind is ev.OpEnd:
            stack.clear()
        elif kind in (ev.PageFaultEnd, ev.SyscallExit) and stack:
            stack.pop()
        if i in wanted:
            found.update(stack)
    return found


def _system_call(records: Sequence[Record], position: int) -> int | None:
    """If the record is the begin of an operation, where the entry of its system call is, which tells it better."""
    if type(records[position][2]) is not ev.OpBegin:
        return None
    cpu = records[position][2].cpu
    for i in range(position + 1, min(position + 40, len(records))):
        event = records[i][2]
        if event.cpu == cpu and isinstance(event, ev.SyscallEnter | ev.OpEnd):
            return i if type(event) is ev.SyscallEnter else None
    return None


def _worth(event: Any, concern: Concern) -> int | None:
    kind = type(event)
    if kind in _DETAILS:
        return DETAIL
    if kind is ev.TlbInvalidate and event.kind == "page_fault":
        return None
    if kind in (ev.TlbFlush, ev.TlbFlushEnd):
        return STORY
    if not concern.meets(event):
        return None
    if kind is ev.EntryWrite:
        return STORY if event.level or event.table in concern.frames else DETAIL
    if kind in (ev.PageFault, ev.TlbFill, ev.TlbInvalidate, ev.MachineCheck, ev.FrameFree, ev.FrameAlloc, ev.GupPin):
        return STORY
    if kind in (ev.LockAcquire, ev.LockRelease, ev.GatherTable, ev.TableMap, ev.TableRead, ev.MemRead, ev.MemWrite):
        return DETAIL
    return None
