"""Two translations that met: of a finding about a pair of TLB entries, which records made the new one and kept the old one.

Also, for every invalidation of a run, which translations it dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, PRESENT, align_down, index, is_table, pfn_of
from ptactors.model.state import Record

PAIRS = ("mixed_page_size_tlb", "two_translations_one_va", "two_pte_pages")
"""Hazards that are a new translation beside an old one."""


@attrs.frozen(kw_only=True)
class Pair:
    """Positions of the records; -1 where there is none."""

    va: int
    """The lowest address that both translate."""
    new: int
    """The fill that completed the pair."""
    old: int
    """The fill of the translation that should have gone."""
    installed: int
    """The store of the entry that the new one remembers."""
    hooked: int
    """Where the PTE page with this entry was hooked into the page tables, if that was after the old one's pmd was cleared."""
    cleared: int
    """The store that took the old one's way out of the page tables: of the pmd, or else of the pte."""
    pte_cleared: int
    """The store that cleared the old one's own entry."""
    flush: int
    """The flush that is to drop the old one."""
    sent: int
    """Its interrupt to the CPU that holds the old one."""
    handled: int
    """Where that CPU takes the interrupt."""
    dropped: int
    """What drops the old one in the end."""


class Tlbs:
    """What every TLB holds, learnt record by record: position of the fill by CPU and (asid, address, size)."""

    def __init__(self) -> None:
        self.held: dict[int, dict[tuple[int, int, int], tuple[int, ev.TlbFill]]] = {}

    def learn(self, row: int, event: Any) -> list[tuple[int, ev.TlbFill]]:
        """Take note of one record; what it drops."""
        kind = type(event)
        if kind is ev.TlbFill:
            self.held.setdefault(event.cpu, {})[event.asid, event.va, event.size] = row, event
            return []
        if kind not in (ev.TlbEvict, ev.TlbInvalidate, ev.Cr3Write):
            return []
        space = self.held.get(event.cpu, {})
        gone = [key for key, (_, fill) in space.items() if _drops(event, fill)]
        return [space.pop(key) for key in gone]


def _drops(event: Any, fill: ev.TlbFill) -> bool:
    if type(event) is ev.TlbEvict:
        return (event.asid, event.va, event.size) == (fill.asid, fill.va, fill.size)
    if type(event) is ev.Cr3Write:
        return not event.noflush and event.asid == fill.asid
    return bool(event.asid in (fill.asid, -1) and fill.va < event.end and event.start < fill.va + fill.size)


def drops(records: Sequence[Record]) -> dict[int, list[tuple[int, ev.TlbFill]]]:
    """Position of a record that drops translations -> these, each with the position of its fill."""
    tlbs = Tlbs()
    found = ((row, tlbs.learn(row, event)) for row, (_, _, event) in enumerate(records))
    return {row: gone for row, gone in found if gone}


def pair_of(records: Sequence[Record], finding: Finding, row: int) -> Pair | None:
    """The pair that a finding completed by the record at ``row`` is about; None if it is about something else."""
    new = records[row][2] if records else None
    if finding.hazard not in PAIRS or type(new) is not ev.TlbFill:
        return None
    tlbs = Tlbs()
    for i in range(row):
        tlbs.learn(i, records[i][2])
    rivals = [
        (i, fill)
        for space in tlbs.held.values()
        for i, fill in space.values()
        if fill.mm == new.mm and fill.va < new.va + new.size and new.va < fill.va + fill.size and _differ(new, fill)
    ]
    if finding.hazard == "mixed_page_size_tlb":
        rivals = [(i, fill) for i, fill in rivals if fill.cpu == new.cpu and fill.size != new.size]
    named = {step for step, _ in finding.history}
    rivals.sort(key=lambda rival: (records[rival[0]][0] not in named, rival[0]))
    return _around(records, row, new, *rivals[0]) if rivals else None


def _differ(one: ev.TlbFill, other: ev.TlbFill) -> bool:
    va = max(one.va, other.va)
    return frame_at(one, va) != frame_at(other, va) or one.write != other.write


def frame_at(fill: ev.TlbFill, va: int) -> int:
    """The frame that a translation gives for one of its addresses."""
    return int(fill.pfn + (va - fill.va) // PAGE_SIZE)


def _around(records: Sequence[Record], row: int, new: ev.TlbFill, old_row: int, old: ev.TlbFill) -> Pair:
    va = max(new.va, old.va)
    slot = index(new.va, 0 if new.size == PAGE_SIZE else 1)
    installed = hooked = pte = pmd = -1
    for i in range(row):
        event = records[i][2]
        if type(event) is not ev.EntryWrite or event.mm != new.mm:
            continue
        if event.new & PRESENT and (event.table, event.slot) == (new.table, slot):
            installed = i
        if event.level == 1 and is_table(event.new) and pfn_of(event.new) == new.table and i > pmd >= 0:
            hooked = i
        if event.new & PRESENT or i < old_row or event.level > 1:
            continue
        if event.level == 0 and old.size == PAGE_SIZE and event.va == align_down(va, PAGE_SIZE):
            pte = i
        elif event.level == 1 and align_down(event.va, PMD_SIZE) == align_down(va, PMD_SIZE):
            pmd = i
    cleared = pmd if pmd >= 0 else pte
    flush, sent, handled = _flush(records, max(pte, pmd), records[cleared][2].cpu, old) if cleared >= 0 else (-1, -1, -1)
    gone = (i for i in range(row + 1, len(records)) if records[i][2].cpu == old.cpu and _ends(records[i][2], old))
    return Pair(va=va, new=row, old=old_row, installed=installed, hooked=hooked, cleared=cleared, pte_cleared=pte,
                flush=flush, sent=sent, handled=handled, dropped=next(gone, -1))  # fmt: skip


def _ends(event: Any, fill: ev.TlbFill) -> bool:
    return type(event) in (ev.TlbEvict, ev.TlbInvalidate, ev.Cr3Write) and _drops(event, fill)


def _flush(records: Sequence[Record], after: int, sender: int, old: ev.TlbFill) -> tuple[int, int, int]:
    """The first flush of the clearing CPU that covers the old translation, its interrupt, and where that is taken."""
    flush = sent = -1
    for i in range(after, len(records)):
        event = records[i][2]
        kind = type(event)
        if flush < 0:
            if kind is ev.TlbFlush and event.cpu == sender and (event.pages < 0 or event.start <= old.va < event.end):
                flush = i
        elif sent < 0:
            if kind is ev.TlbFlushEnd and event.cpu == sender:
                break
            if kind is ev.IpiSend and event.cpu == sender and old.cpu in event.targets:
                sent = i
        elif kind is ev.CsdEnter and event.cpu == old.cpu and event.source == sender:
            return flush, sent, i
    return flush, sent, -1


def hidden_tables(records: Sequence[Record]) -> Mapping[int, int]:
    """Position of a page fault -> that of the walk before it, if this read an empty pte in a table that was unhooked already.

    The processor had kept the address of the PTE page; the kernel's handler walks from the top and finds the pmd empty.
    """
    unhooked: dict[int, int] = {}
    walked: dict[int, int] = {}
    found: dict[int, int] = {}
    for row, (_, _, event) in enumerate(records):
        kind = type(event)
        if kind is ev.EntryWrite and event.level == 1:
            if is_table(event.old):
                unhooked[pfn_of(event.old)] = row
            unhooked.pop(pfn_of(event.new), None)
        elif kind is ev.WalkRead:
            walked[event.cpu] = row
        elif kind is ev.PageFault and event.cpu in walked:
            walk = records[walked[event.cpu]][2]
            same = walk.va // PAGE_SIZE == event.address // PAGE_SIZE and walk.level == 0 and not walk.value & PRESENT
            if same and unhooked.get(walk.table, row) < walked[event.cpu]:
                found[row] = walked[event.cpu]
    return found
