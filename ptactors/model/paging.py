"""x86-64 four-level paging as arithmetic: indices, entry bits, ranges.

Source: Intel SDM volume 3, section 4.5; arch/x86/include/asm/pgtable_types.h. An entry is an ``int`` with the
architecture's bits, as in memory. Simplified: no 1 GiB pages, no five-level tables, no protection keys, no NX.
"""

from __future__ import annotations

import enum

PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT, PGDIR_SHIFT = 12, 21, 30, 39
PAGE_SIZE, PMD_SIZE, PUD_SIZE, PGDIR_SIZE = 1 << 12, 1 << 21, 1 << 30, 1 << 39
PTRS_PER_TABLE = 512
HPAGE_PMD_NR = 512
HPAGE_PMD_ORDER = 9
TASK_SIZE = 1 << 47


class Level(enum.IntEnum):
    """Depth of a table or entry; a PTE page holds entries of level PTE."""

    PTE = 0
    PMD = 1
    PUD = 2
    PGD = 3


SHIFT = (PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT, PGDIR_SHIFT)

PRESENT = 1 << 0
WRITE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
HUGE = 1 << 7
PROTNONE = 1 << 8
"""_PAGE_PROTNONE, the global bit of an entry that is not present: software's entry stays, the hardware sees none.

Simplified: the frame's number is not inverted (Linux does so against L1TF).
"""
SPECIAL = 1 << 9
"""Software bit: no struct page behind it (zero page)."""
UFFD_WP = 1 << 10
SWAP = 1 << 52
"""Model bit of a non-present entry: a swap entry."""
MARKER = 1 << 53
"""Model bit of a non-present entry: a uffd-wp marker."""
GUARD = 1 << 54
"""Model bit of a non-present entry: a guard marker (MADV_GUARD_INSTALL)."""
INVALID_HUGE = 1 << 55
"""Model bit of a non-present PMD during a split: the hardware sees P=0, pmd_trans_huge() stays true."""

_PFN_MASK = ((1 << 52) - 1) & ~0xFFF
TABLE_FLAGS = PRESENT | WRITE | USER | ACCESSED
"""_PAGE_TABLE: what software sets in an entry that points to a lower table."""


def index(va: int, level: int) -> int:
    """Index of ``va``'s entry in its table of ``level`` (0..511)."""
    return (va >> SHIFT[level]) & 511


def make(pfn: int, flags: int) -> int:
    """An entry that points at frame ``pfn``."""
    return (pfn << PAGE_SHIFT) | flags


def pfn_of(entry: int) -> int:
    """The frame an entry points at."""
    return (entry & _PFN_MASK) >> PAGE_SHIFT


def align_down(va: int, size: int) -> int:
    """The multiple of ``size`` at or below ``va``."""
    return va & ~(size - 1)


def align_up(va: int, size: int) -> int:
    """The multiple of ``size`` at or above ``va``."""
    return (va + size - 1) & ~(size - 1)


def addr_end(va: int, end: int, level: int) -> int:
    """pmd_addr_end() and its kin: the next boundary of ``level``'s entries above ``va``, or ``end`` if nearer."""
    return min(align_down(va, 1 << SHIFT[level]) + (1 << SHIFT[level]), end)


def is_table(entry: int) -> bool:
    """A present entry of an upper level that points to a table (pmd_present and not pmd_leaf)."""
    return bool(entry & PRESENT) and not entry & HUGE


def is_present(entry: int) -> bool:
    """pte_present() and pmd_present(): present to the hardware, or inaccessible by PROT_NONE with its page still mapped."""
    return bool(entry & (PRESENT | PROTNONE))


def is_trans_huge(entry: int) -> bool:
    """pmd_trans_huge(): a huge leaf, or one in the invalid window of a split (kernel-visible as huge)."""
    return bool(entry & (INVALID_HUGE | HUGE))
