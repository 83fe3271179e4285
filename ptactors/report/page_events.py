"""The records of a run as the page's script wants them: short rows, names cut to a bearable length, entries taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.event import event_name
from ptactors.model.paging import ACCESSED, DIRTY, HUGE, INVALID_HUGE, PRESENT, WRITE, is_present, pfn_of
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.report.page import clip
from ptactors.report.page_why import Why

Stacks = Mapping[int, str]

FIELDS: dict[type, tuple[str, ...]] = {
    ev.VmaInit: ("mm", "vma", "start", "end"),
    ev.FrameAlloc: ("pfn", "gen", "kind", "order", "mm"),
    ev.FrameFree: ("pfn", "kind", "order"),
    ev.EntryWrite: ("mm", "level", "va", "table", "slot", "new"),
    ev.HardwareBits: ("mm", "level", "va", "table", "slot", "new"),
    ev.TlbFill: ("mm", "asid", "va", "size", "pfn", "write", "dirty", "speculative"),
    ev.TlbEvict: ("asid", "va", "size"),
    ev.TlbInvalidate: ("asid", "start", "end", "psc"),
    ev.PscFill: ("asid", "level", "va", "table"),
    ev.PscEvict: ("asid", "level", "va"),
    ev.Cr3Write: ("mm", "asid", "noflush"),
    ev.SwitchMm: ("next", "lazy"),
    ev.UserMode: ("mode",),
    ev.LockAcquire: ("lock", "cls", "mode"),
    ev.LockRelease: ("lock", "cls"),
    ev.RcuLock: ("depth",),
    ev.RcuUnlock: ("depth",),
    ev.CallRcu: ("callback", "seq"),
    ev.RcuGpStart: ("seq", "waiting"),
    ev.RcuGpEnd: ("seq",),
    ev.IpiSend: ("targets", "func"),
    ev.IpiArrive: ("source", "func"),
    ev.CsdEnter: ("source",),
    ev.CsdExit: ("source",),
    ev.GatherBegin: ("mm", "pending"),
    ev.GatherPage: ("mm", "va", "pfn"),
    ev.GatherTable: ("mm", "va", "pfn"),
    ev.GatherEnd: ("mm", "pending"),
    ev.PgtablesBytes: ("mm", "value"),
}
"""Kind -> the fields that the picture and the state panel are made from."""


def entry(value: int) -> list[Any]:
    """An entry taken apart: [kind, frame, flags]; kind is none, table, leaf or other (swap, marker, invalid, PROT_NONE)."""
    if not value:
        return ["none", 0, ""]
    if not value & PRESENT and is_present(value):  # no walker in hardware finds it
        return ["other", pfn_of(value), f"{'2M ' if value & HUGE else ''}page {pfn_of(value):#x}, PROT_NONE"]
    if not value & PRESENT:
        return ["other", pfn_of(value), "huge, invalid for now" if value & INVALID_HUGE else "not present"]
    marks = [("w", WRITE), ("a", ACCESSED), ("d", DIRTY)]
    flags = "r" + "".join(mark if value & bit else "-" for mark, bit in marks)
    return ["huge" if value & HUGE else "leaf", pfn_of(value), flags]


def _value(event: Any, name: str) -> Any:
    value = getattr(event, name)
    if name == "new":
        kind, frame, flags = entry(value)
        return ["table" if kind == "leaf" and event.level else kind, frame, flags]
    if isinstance(value, tuple):
        return list(value)
    return clip(value) if isinstance(value, str) else value


def rows(
    records: Sequence[Record], whys: Sequence[Why | None], functions: Stacks, symbols: Symbols, anchors: Sequence[str]
) -> dict[str, Any]:
    """``events``: [step, cpu, actor, name, text, fields, cause row, reason, stack, anchor] each; ``stacks``: their texts."""
    stacks: dict[str, int] = {}
    reasons: dict[str, int] = {}
    events: list[list[Any]] = []
    for (step, actor, event), why, anchor in zip(records, whys, anchors, strict=True):
        fields = {name: _value(event, name) for name in FIELDS.get(type(event), ())}
        stack = clip(functions.get(step, ""), 1000)
        number = stacks.setdefault(stack, len(stacks)) if stack else -1
        reason = reasons.setdefault(why.reason, len(reasons)) if why else -1
        text = clip(describe(event, symbols))
        link = why.row if why else -1
        events.append([step, event.cpu, actor, event_name(event), text, fields, link, reason, number, anchor])
    return {"events": events, "stacks": list(stacks), "reasons": list(reasons)}
