"""What /proc/self/{status,smaps,pagemap} would show of the model's state: VmPTE, resident pages, VMAs, entries by 2 MiB.

Source: fs/proc/task_mmu.c (task_mem, smaps_pte_entry, smaps_pmd_entry, show_smap_vma_flags, pagemap_pmd_range), v6.1-6.18.
Pages without a struct page of their own (the zero pages) are present and not resident, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ptactors.hardware.memory import HUGE_ZERO_PFN, ZERO_PFN, entry, occupied_slots
from ptactors.host.sequence import ARENA, VmaSeen
from ptactors.kernel.mm import Vma, pgtables, vmas
from ptactors.kernel.pgtable import pgd_of
from ptactors.model.paging import (
    GUARD,
    HPAGE_PMD_NR,
    MARKER,
    PAGE_SIZE,
    PMD_SHIFT,
    PMD_SIZE,
    SHIFT,
    SPECIAL,
    SWAP,
    Level,
    is_table,
    pfn_of,
)
from ptactors.model.state import State

_ABSENT = SWAP | MARKER | GUARD
_HUGE_FLAGS = {"hugepage": "hg", "nohugepage": "nh"}


class Mapping(NamedTuple):
    """One entry that maps something, or remembers something."""

    va: int
    value: int
    huge: bool


def mappings(state: State, mm: str) -> Iterator[Mapping]:
    """Every entry of a process that is not none, below the tables; ascending."""
    yield from _below(state, state.read(pgd_of(mm)), Level.PGD, 0)


def _below(state: State, table: int, level: int, base: int) -> Iterator[Mapping]:
    for slot in occupied_slots(state, table):
        value = state.read(entry(table, slot))
        va = base + (slot << SHIFT[level])
        if level > Level.PTE and is_table(value):
            yield from _below(state, pfn_of(value), level - 1, va)
        else:
            yield Mapping(va, value, level == Level.PMD)


def _resident(found: Mapping) -> bool:
    """Whether smaps counts it as Rss."""
    if found.value & _ABSENT:
        return False
    return pfn_of(found.value) not in (ZERO_PFN, HUGE_ZERO_PFN) and (found.huge or not found.value & SPECIAL)


def vmpte_kb(state: State, mm: str) -> int:
    """VmPTE of a process, all of it."""
    return state.read(pgtables(mm)) >> 10


class Snapshot(NamedTuple):
    """The figures."""

    vmpte_kb: int
    rss_kb: int
    tables: dict[int, tuple[int, int]]
    vmas: tuple[VmaSeen, ...]


def take(state: State, mm: str) -> Snapshot:
    """The figures of a process now; its VMAs are the arena's."""
    found = tuple(mappings(state, mm))
    tables: dict[int, tuple[int, int]] = {}
    rss = 0
    for each in found:
        number = (each.va - ARENA) >> PMD_SHIFT
        pages = HPAGE_PMD_NR if each.huge else 1
        present, marked = tables.get(number, (0, 0))
        absent = bool(each.value & _ABSENT)
        tables[number] = (present, marked + pages) if absent else (present + pages, marked)
        rss += pages * _resident(each)
    huge = [each.va for each in found if each.huge and _resident(each)]
    return Snapshot(
        vmpte_kb=vmpte_kb(state, mm),
        rss_kb=rss * PAGE_SIZE >> 10,
        tables=tables,
        vmas=tuple(_vma(vma, huge) for vma in state.read(vmas(mm))),
    )


def _vma(vma: Vma, huge: list[int]) -> VmaSeen:
    flags = (["lo"] if vma.locked else []) + ([_HUGE_FLAGS[vma.huge]] if vma.huge in _HUGE_FLAGS else [])
    inside = sum(vma.start <= va < vma.end for va in huge)
    return VmaSeen(
        start=vma.start - ARENA,
        length=vma.end - vma.start,
        perm=f"{'r' if vma.read else '-'}{'w' if vma.write else '-'}-p",
        huge_kb=inside * PMD_SIZE >> 10,
        flags=tuple(flags),
    )
