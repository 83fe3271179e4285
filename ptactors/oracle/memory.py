"""The mirror's picture of memory: which frames live, what software has written into page tables, and which table hangs where.

Everything is sparse: only entries that are not zero are kept, and a table's entries go with its frame, so that a run with 25,600
tables costs what its live entries cost.
"""

from __future__ import annotations

from ptactors.model.event import EntryWrite, FrameAlloc, FrameFree, GatherTable, HardwareBits, TableDeposit
from ptactors.model.paging import (
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HUGE,
    PAGE_SHIFT,
    PMD_SHIFT,
    PRESENT,
    PROTNONE,
    Level,
    is_present,
    is_table,
    pfn_of,
)

TABLE_KINDS = ("pte", "pmd", "pud")
"""Kinds of frames that count in pgtables_bytes."""


_NO_PMDS: dict[int, int] = {}


class Frame:
    """The latest life of a physical frame."""

    __slots__ = ("born", "died", "frees", "gen", "kind", "mm", "order", "pfn", "queued", "queues", "unlinked", "unlinker")

    def __init__(self, step: int, event: FrameAlloc) -> None:
        self.pfn = event.pfn
        self.gen = event.gen
        self.kind = event.kind
        self.order = event.order
        self.mm = event.mm
        self.born = step
        self.died = -1
        """Step of the first free, -1 while it lives."""
        self.frees = 0
        """How often this life was ended: 0 while it lives; more than once is a double free."""
        self.queued = -1
        """Step at which a gather first queued it as a table."""
        self.queues = 0
        """How often a gather queued it as a table."""
        self.unlinked = -1
        """Step at which the last entry that pointed to this table ceased to; -1 while linked, and before it ever was."""
        self.unlinker = -1
        """The CPU that did that."""


class Memory:
    """Frames and page tables of a run."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Empty everything."""
        self.frames: dict[int, Frame] = {}
        """Frame number -> its latest life; a frame that was never announced is absent, and nothing is known of it."""
        self.entries: dict[int, int] = {}
        """Entries of PTE pages that are not zero, by table * 512 + slot."""
        self.filled: dict[int, int] = {}
        """PTE page -> how many of its entries are not zero."""
        self.pmds: dict[str, dict[int, int]] = {}
        """mm -> (va >> 21) -> value of the PMD entry, if not zero."""
        self.links: dict[int, tuple[int, str]] = {}
        """Table -> (place of the entry that points to it, mm)."""
        self.protnone = False
        """Whether any entry was ever made inaccessible (PROT_NONE)."""

    def frame(self, pfn: int) -> Frame | None:
        """The frame that page ``pfn`` belongs to (of a huge page: its head), or None where nothing is known."""
        found = self.frames.get(pfn)
        if found is not None and (not found.frees or found.order):
            return found
        head = self.frames.get(pfn & ~(HPAGE_PMD_NR - 1))
        if head is not None and head.order == HPAGE_PMD_ORDER and (not head.frees or found is None):
            return head
        return found

    def alloc(self, step: int, actor: int, event: FrameAlloc) -> None:
        """A frame begins a new life; what stood in it is gone."""
        pfn = event.pfn
        if self.filled.pop(pfn, 0):
            for slot in range(512):
                self.entries.pop(pfn << 9 | slot, None)
        self.links.pop(pfn, None)
        self.frames[pfn] = Frame(step, event)

    def free(self, step: int, actor: int, event: FrameFree) -> None:
        """A frame is given back; entries still in it are kept until its next life, for whoever asks what was lost."""
        found = self.frames.get(event.pfn)
        if found is None:
            return
        if found.died < 0:
            found.died = step
        found.frees += 1

    def queue(self, step: int, actor: int, event: GatherTable) -> None:
        """A gather queues a table."""
        found = self.frames.get(event.pfn)
        if found is not None:
            if found.queued < 0:
                found.queued = step
            found.queues += 1

    def deposit(self, step: int, actor: int, event: TableDeposit) -> None:
        """A table that was unlinked is a huge page's spare now: whoever fills it next may do so before it is linked."""
        self._note_link(event.table, -1, -1)

    def write(self, step: int, event: EntryWrite) -> None:
        """Software writes an entry."""
        if event.new & PROTNONE and not event.new & PRESENT:
            self.protnone = True
        if event.level == Level.PTE:
            self._write_pte(event.table, event.slot, event.new)
            return
        if event.level == Level.PMD:
            self._write_pmd(event.mm, event.va, event.new)
        place = event.table << 9 | event.slot
        new_child = pfn_of(event.new) if is_table(event.new) else -1
        if is_table(event.old):
            child = pfn_of(event.old)
            if child != new_child and self.links.get(child, (-1, ""))[0] == place:
                del self.links[child]
                self._note_link(child, step, event.cpu)
        if new_child >= 0:
            self.links[new_child] = (place, event.mm)
            self._note_link(new_child, -1, -1)

    def _note_link(self, table: int, step: int, cpu: int) -> None:
        found = self.frames.get(table)
        if found is not None:
            found.unlinked, found.unlinker = step, cpu

    def hardware_bits(self, step: int, actor: int, event: HardwareBits) -> None:
        """The hardware sets A or D in an entry."""
        if event.level == Level.PTE:
            self._write_pte(event.table, event.slot, event.new)
        elif event.level == Level.PMD:
            self._write_pmd(event.mm, event.va, event.new)

    def _write_pte(self, table: int, slot: int, value: int) -> None:
        place = table << 9 | slot
        entries = self.entries
        if value:
            if place not in entries:
                self.filled[table] = self.filled.get(table, 0) + 1
            entries[place] = value
        elif place in entries:
            del entries[place]
            left = self.filled[table] - 1
            if left:
                self.filled[table] = left
            else:
                del self.filled[table]

    def _write_pmd(self, mm: str, va: int, value: int) -> None:
        pmds = self.pmds.setdefault(mm, {})
        if value:
            pmds[va >> PMD_SHIFT] = value
        else:
            pmds.pop(va >> PMD_SHIFT, None)

    def table_for(self, mm: str, va: int) -> int:
        """The PTE page that maps ``va`` by software's tables; -1 where none or a huge page does."""
        pmd = self.pmds.get(mm, _NO_PMDS).get(va >> PMD_SHIFT, 0)
        return pfn_of(pmd) if is_table(pmd) else -1

    def maps(self, mm: str, va: int, pfn: int) -> int:
        """The value of the entry by which ``va`` maps frame ``pfn`` now, inaccessible ones included, or 0."""
        pmd = self.pmds.get(mm, _NO_PMDS).get(va >> PMD_SHIFT, 0)
        if not is_present(pmd):
            return 0
        slot = (va >> PAGE_SHIFT) & 511
        if pmd & HUGE:
            return pmd if pfn_of(pmd) + slot == pfn else 0
        value = self.entries.get(pfn_of(pmd) << 9 | slot, 0)
        return value if is_present(value) and pfn_of(value) == pfn else 0
