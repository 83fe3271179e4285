"""For each record the earlier record that made it possible, with the reason in words: the links of the why-chain.

What the events say themselves comes first: a walk reads what some store wrote, an interrupt was sent by somebody, a callback
waited for a grace period. Where they say nothing, the log's ``cause`` stands, and else what the CPU was just doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ptactors.model import event as ev
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, PRESENT, align_down, index, is_present
from ptactors.model.state import Record
from ptactors.report.page_pair import hidden_tables

_HIDDEN = (
    "the hardware walk (step {step}) used the cached PTE page, whose entry was empty; the kernel's fault handler found the pmd"
    " empty since this"
)
"""The reason for a fault whose walk never saw that the pmd was empty."""


@attrs.frozen
class Why:
    """A link of the chain."""

    row: int
    """Position of the earlier record."""
    reason: str
    """What the earlier record has to do with this one."""


class Causes:
    """Reads the records in order; ``of`` a record is asked before ``learn``."""

    def __init__(self) -> None:
        self._last: dict[Any, int] = {}
        self._doing: dict[int, list[tuple[type, int]]] = {}
        self._step = 0
        self._callback = (-1, -1)
        """Step and position of the RCU callback that ran last: what it frees is freed in its step."""
        self._rules: dict[type, Callable[[Any], Why | None]] = {
            ev.WalkRead: self._read,
            ev.TableRead: self._read,
            ev.TlbFill: self._fill,
            ev.MemRead: lambda e: self._see(("tlb", e.cpu, align_down(e.va, e.size), e.size), "goes through this translation"),
            ev.MemWrite: lambda e: self._see(("tlb", e.cpu, align_down(e.va, e.size), e.size), "goes through this translation"),
            ev.PageFault: self._fault,
            ev.LockAcquire: lambda e: self._see(("lock", e.lock), "the lock was free again after this"),
            ev.IpiSend: lambda e: self._see(("flush", e.cpu), "this flush has to reach other CPUs"),
            ev.IpiArrive: lambda e: self._see(("send", e.source), "was sent here"),
            ev.CsdEnter: lambda e: self._see(("arrive", e.cpu), "the interrupt had arrived"),
            ev.IpiDone: lambda e: self._see(("ack", e.cpu), "the last CPU acknowledged"),
            ev.TlbFlush: lambda e: self._see(("gather", e.cpu), "what was gathered must be flushed before it is freed"),
            ev.TlbFlushEnd: lambda e: self._see(("done", e.cpu), "every CPU acknowledged"),
            ev.GatherPage: lambda e: self._see(("cleared", e.cpu), "its entry was cleared"),
            ev.GatherTable: lambda e: self._see(("cleared", e.cpu), "the table was unhooked"),
            ev.CallRcu: lambda e: self._see(("table", e.cpu), "the table waits to be freed"),
            ev.RcuGpStart: lambda e: self._see("call_rcu", "somebody waits for a grace period"),
            ev.RcuGpEnd: lambda e: self._see("qs", "the last CPU it waited for passed a quiescent state"),
            ev.RcuCallback: lambda e: self._see(("gp", e.seq), "its grace period was over"),
            ev.FrameFree: self._free,
            ev.FrameAlloc: lambda e: self._see(("free", e.pfn), "the frame was free since"),
        }

    def _see(self, key: Any, reason: str) -> Why | None:
        row = self._last.get(key)
        return None if row is None else Why(row, reason)

    def _read(self, event: Any) -> Why | None:
        """Who wrote the entry, or, if that came later, who freed the table."""
        wrote = self._see(("entry", event.table, event.slot), "reads the entry that was written here")
        freed = self._see(("free", event.table), "the table was freed here")
        return max((why for why in (wrote, freed) if why), key=lambda why: why.row, default=None)

    def _fill(self, event: ev.TlbFill) -> Why | None:
        slot = index(event.va, 0 if event.size == PAGE_SIZE else 1)
        return self._see(("entry", event.table, slot), "remembers the entry that was written here")

    def _fault(self, event: ev.PageFault) -> Why | None:
        keys = (("gone", 0, align_down(event.address, PAGE_SIZE)), ("gone", 1, align_down(event.address, PMD_SIZE)))
        row = max((self._last[key] for key in keys if key in self._last), default=None)
        return None if row is None else Why(row, "the walk found nothing since this")

    def _free(self, event: ev.FrameFree) -> Why | None:
        if self._callback[0] == self._step:
            return Why(self._callback[1], "the callback frees it")
        return self._see(("gathered", event.pfn), "was gathered to be freed after the flush")

    def of(self, step: int, event: Any) -> Why | None:
        """The link that the events themselves give."""
        self._step = step
        rule = self._rules.get(type(event))
        return rule(event) if rule else None

    def doing(self, cpu: int) -> Why | None:
        """What the CPU is in the middle of."""
        stack = self._doing.get(cpu)
        return Why(stack[-1][1], "part of this") if stack else None

    def learn(self, row: int, event: Any) -> None:
        """Take note of one record."""
        note = self._last
        kind, cpu = type(event), event.cpu
        if kind is ev.EntryWrite:
            note["entry", event.table, event.slot] = row
            if not is_present(event.new):
                note["cleared", cpu] = row
            if not event.new & PRESENT:  # PROT_NONE as well: an access faults
                note["gone", event.level, align_down(event.va, PMD_SIZE if event.level else PAGE_SIZE)] = row
        elif kind is ev.TlbFill:
            note["tlb", cpu, event.va, event.size] = row
        elif kind in (ev.GatherPage, ev.GatherTable):
            note["gather", cpu] = note["gathered", event.pfn] = row
            if kind is ev.GatherTable:
                note["table", cpu] = row
        elif kind is ev.CsdExit:
            note["ack", event.source] = row
        elif kind is ev.RcuCallback:
            self._callback = (self._step, row)
        else:
            self._note_plain(row, event)
        self._stack(row, kind, cpu)

    def _note_plain(self, row: int, event: Any) -> None:
        keys: dict[type, tuple[Any, ...]] = {
            ev.LockRelease: ("lock", getattr(event, "lock", "")),
            ev.TlbFlush: ("flush", event.cpu),
            ev.IpiSend: ("send", event.cpu),
            ev.IpiArrive: ("arrive", event.cpu),
            ev.IpiDone: ("done", event.cpu),
            ev.RcuGpEnd: ("gp", getattr(event, "seq", 0)),
            ev.FrameFree: ("free", getattr(event, "pfn", 0)),
        }
        key = keys.get(type(event))
        if key is not None:
            self._last[key] = row
        elif type(event) in (ev.CallRcu, ev.RcuSynchronize):
            self._last["call_rcu"] = row
        elif type(event) is ev.RcuQs:
            self._last["qs"] = row

    def _stack(self, row: int, kind: type, cpu: int) -> None:
        stack = self._doing.setdefault(cpu, [])
        if kind in (ev.OpBegin, ev.SyscallEnter, ev.PageFault, ev.CsdEnter):
            stack.append((kind, row))
        elif kind in (ev.OpEnd, ev.SyscallExit, ev.PageFaultEnd, ev.CsdExit):
            opened = {ev.OpEnd: ev.OpBegin, ev.SyscallExit: ev.SyscallEnter, ev.PageFaultEnd: ev.PageFault}.get(kind, ev.CsdEnter)
            self._pop(stack, opened)

    @staticmethod
    def _pop(stack: list[tuple[type, int]], opened: type) -> None:
        position = next((i for i in range(len(stack) - 1, -1, -1) if stack[i][0] is opened), None)
        if position is not None:
            del stack[position:]


def whys(records: Sequence[Record], causes: Mapping[int, int]) -> list[Why | None]:
    """One link for each record, or None where the chain begins; ``causes`` are the log's, step -> step."""
    reader = Causes()
    first: dict[int, int] = {}
    found: list[Why | None] = []
    for row, (step, _, event) in enumerate(records):
        first.setdefault(step, row)
        why = reader.of(step, event)
        if why is None:
            why = reader.doing(event.cpu)
        if why is None and step in causes and causes[step] in first:
            why = Why(first[causes[step]], "made possible by this step")
        found.append(why)
        reader.learn(row, event)
    for row, walk in hidden_tables(records).items():
        why = found[row]
        if why is not None:
            found[row] = Why(why.row, _HIDDEN.format(step=records[walk][0]))
    return found
