"""Events and hazards for a reader who knows the cover letter and none of the names of this program."""

from __future__ import annotations

from typing import Any

from ptactors.model import event as ev
from ptactors.model.paging import PAGE_SIZE, is_table

ENTRIES = {
    "pte_set": "a small page (4 KiB) is mapped here",
    "pte_clear": "the small page is taken out of the page table; what TLBs remember of it lives on until they are flushed",
    "pmd_install": "a PTE page (a table of 512 small pages) is hooked into the page tables",
    "pmd_populate": "a PTE page (a table of 512 small pages) is hooked into the page tables",
    "pmd_clear": "the pmd is emptied: whoever walks the page tables from here on finds nothing",
    "set_huge_pmd": "one huge page (2 MiB) is mapped where the table of small pages was or could be",
    "pmd_invalidate": "the huge page is made not present while it is split",
    "pmd_collapse": "the PTE page is taken out of the page tables, so that nobody reaches its small pages while they are copied",
}
"""Name of a write to an entry -> what it does."""
VERBS = {"read": "the program reads", "write": "the program writes", "walk": "the kernel walks the table, protected by RCU"}
"""Operation -> what it is, where its own text does not say it."""
CALLS = {
    "mprotect": "the program changes what it may do with this range",
    "munmap": "the program gives the range up altogether",
    "exit": "the program ends",
}
ADVICES = {
    "DONTNEED": "the program says that it no longer needs this range",
    "DONTNEED_LOCKED": "the program says that it no longer needs this range, even where it is locked in memory",
    "COLLAPSE": "the program asks for huge pages in place of the small ones of this range, now",
    "HUGEPAGE": "the program says that this range may get huge pages",
    "NOHUGEPAGE": "the program says that this range must not get huge pages",
    "POPULATE_READ": "the program asks that every page of this range be there to be read",
    "POPULATE_WRITE": "the program asks that every page of this range be there to be written",
}
"""Advice of madvise and process_madvise -> what it says."""
WORDS: dict[type, str] = {
    ev.PageFault: "the access finds nothing mapped, and the kernel steps in",
    ev.TlbFlush: "now the kernel starts the flush that it owes: other CPUs must be told by interrupt (IPI)",
    ev.TlbFlushEnd: "every CPU has forgotten the old translations",
    ev.IpiSend: "the interrupt is on its way; until it arrives the other CPU remembers what it remembered",
    ev.CsdEnter: "the interrupt is taken, and the CPU begins to forget",
    ev.GatherBegin: "from here on pages, tables and the flush are collected, to be dealt with together at the end",
    ev.GatherTable: "the table is put aside; it may be freed only when nobody can be walking it",
    ev.TableMap: "a walker in software takes a pointer into this table; only RCU keeps the table alive for it",
    ev.FaultIn: "the kernel makes a page fault on the program's behalf, before it looks for the page again",
    ev.CollapseCopy: "the small pages are copied into the huge one; a store to a small page from here on would be lost",
    ev.TableDeposit: "the emptied PTE page is kept with the huge page, for the day it is split",
    ev.GupPin: "the lockless walk hands the page to its caller",
    ev.MachineCheck: "the processor stops",
    ev.RcuGpEnd: "every reader that was inside an RCU section before has left it",
    ev.Stuck: "the run cannot go on",
}
"""Kind of event -> what it means."""
_FREED = {"pte": "the table's page is free: it may become anything now", "pmd": "the table's page is free"}


def gloss(event: Any, *, before: bool = False) -> str:
    """What the event means, in a sentence without a full stop; '' where its own words are plain enough."""
    kind = type(event)
    if kind is ev.EntryWrite:
        if before:
            return "mapped before the run begins"
        if event.what == "pmd_clear" and is_table(event.old):
            return (
                "the PTE page is unhooked: a walk from the top now finds the pmd empty; a CPU that cached where the PTE page is"
                " can still reach it until it is flushed"
            )
        return ENTRIES.get(event.what, "")
    if kind is ev.TlbFill:
        size = "small (4 KiB)" if event.size == PAGE_SIZE else "huge (2 MiB)"
        when = "before the run begins, " if before else ""
        return f"{when}cpu{event.cpu} remembers a {size} translation in its TLB"
    if kind in (ev.MemRead, ev.MemWrite):
        size = "small" if event.size == PAGE_SIZE else "huge"
        return f"the {'load' if kind is ev.MemRead else 'store'} goes through the {size} translation, to frame {event.pfn:#x}"
    if kind is ev.TlbInvalidate:
        return f"cpu{event.cpu} forgets the translations of this range"
    if kind is ev.SyscallEnter:
        return ADVICES.get(event.arg, "") if event.call in ("madvise", "process_madvise") else CALLS.get(event.call, "")
    if kind is ev.OpBegin:
        return VERBS.get(event.op, "")
    if kind is ev.FrameFree:
        return _FREED.get(event.kind, "the page is free: it may be given to anybody now")
    return WORDS.get(kind, "")


SEVERITIES = {
    "violation": "a violation: no kernel and no processor allows it",
    "condition": "a condition: some processors allow it, others do not; whether it matters depends on the machine",
}
"""Severity of a hazard -> in words."""
