"""What a story can be about, and which lines of a log concern it. A subject sees the lines in order and may remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ptactors.model.paging import HPAGE_PMD_NR, HUGE, PAGE_SHIFT, PMD_SHIFT, SHIFT, is_present, pfn_of

Fields = Mapping[str, Any]


class Subject(Protocol):
    """Something that a story is told of."""

    about: str
    """What it is, for the story's title."""

    def concerns(self, fields: Fields) -> bool:
        """Whether this line is part of its story."""


def _number(fields: Fields, name: str) -> int:
    """A hex field; -1 where the line has none."""
    value = fields.get(name)
    try:
        return int(value, 16) if isinstance(value, str) else -1
    except ValueError:  # a token, or a later version's idea
        return -1


def _count(fields: Fields, name: str) -> int:
    """A decimal field; 0 where the line has none."""
    value = fields.get(name)
    return value if type(value) is int else 0


def _points_at(entry: int) -> range:
    """The frames that an entry maps, or the table that it points to."""
    if entry < 0 or not is_present(entry):
        return range(0)
    return range(pfn_of(entry), pfn_of(entry) + (HPAGE_PMD_NR if entry & HUGE else 1))


class Address:
    """One page of a process: its entries at every level, translations, accesses, faults, flushes, and the frames it had."""

    def __init__(self, va: int, name: str) -> None:
        self.about = f"address {name or hex(va)} ({va:#x})"
        self._va = va
        self._frames: set[int] = set()

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        va = _number(fields, "va")
        if va >= 0:
            return self._at(va, fields)
        if "address" in fields:
            return _number(fields, "address") >> PAGE_SHIFT == self._va >> PAGE_SHIFT
        if "start" in fields:
            return _number(fields, "start") <= self._va < _number(fields, "end")
        return fields["ev"] != "mm_page_alloc" and _number(fields, "pfn") in self._frames

    def _at(self, va: int, fields: Fields) -> bool:
        ev = fields["ev"]
        if ev in ("tlb_fill", "tlb_evict"):
            return va <= self._va < va + _count(fields, "size")
        if ev in ("table_read", "gather_add_table"):
            whole = ev == "gather_add_table" or _number(fields, "value") == -1
            return va >> (PMD_SHIFT if whole else PAGE_SHIFT) == self._va >> (PMD_SHIFT if whole else PAGE_SHIFT)
        level = min(_count(fields, "level"), len(SHIFT) - 1)
        near = va >> SHIFT[level] == self._va >> SHIFT[level]
        if near and ev != "walk_read":
            frames = _points_at(_number(fields, "new"))
            if frames and (level == 0 or len(frames) > 1):
                self._frames.add(frames[0])
        return near


class Frame:
    """A frame, as a page or as a page table."""

    def __init__(self, pfn: int) -> None:
        self.about = f"frame {pfn:#x}"
        self._pfn = pfn
        self._locks = tuple(f"{kind}:{pfn:#x}" for kind in ("pte", "pmd"))

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        if _number(fields, "table") == self._pfn or fields.get("lock") in self._locks:
            return True
        pfn = _number(fields, "pfn")
        size = _count(fields, "size") >> PAGE_SHIFT if fields["ev"] == "tlb_fill" else 1 << min(_count(fields, "order"), 64)
        if pfn >= 0 and pfn <= self._pfn < pfn + size:
            return True
        return any(self._pfn in _points_at(_number(fields, name)) for name in ("old", "new"))


class Lock:
    """A lock, by its name."""

    def __init__(self, name: str) -> None:
        self.about = f"lock {name}"
        self._name = name

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        return fields.get("lock") == self._name


class Cpu:
    """A CPU with its interrupts, or an actor that is none."""

    def __init__(self, name: str, cpu: int | None) -> None:
        self.about = name
        self._name = name
        self._cpu = cpu

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        if self._cpu is None:
            return fields.get("actor") == self._name
        targets = fields.get("targets")
        return fields["cpu"] == self._cpu or (isinstance(targets, list) and self._cpu in targets)


class Gather:
    """An mmu_gather by its number in the log, and the tables it queued until they are freed."""

    def __init__(self, number: int) -> None:
        self.about = f"gather {number}"
        self._number = number
        self._seen = 0
        self._actor: str | None = None
        self._tables: set[int] = set()

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        ev, mine = fields["ev"], fields.get("actor") == self._actor
        if ev == "gather_begin":
            self._seen += 1
            if self._seen == self._number:
                self._actor = fields.get("actor")
                return True
        if ev == "mm_page_free" and _number(fields, "pfn") in self._tables:
            self._tables.discard(_number(fields, "pfn"))
            return True
        if not mine:
            return False
        if ev == "gather_finish":
            self._actor = None
            return True
        if ev == "gather_add_table":
            self._tables.add(_number(fields, "pfn"))
        return bool(
            ev.startswith(("gather_", "tlb_", "ipi_", "rcu_call", "rcu_sync", "mm_page_", "page_ref")) or ev.endswith("_clear")
        )


class GracePeriod:
    """An RCU grace period by its number."""

    def __init__(self, seq: int) -> None:
        self.about = f"grace period {seq}"
        self._seq = seq
        self._runs = False

    def concerns(self, fields: Fields) -> bool:
        """See Subject."""
        ev = fields["ev"]
        if fields.get("seq") == self._seq:
            self._runs = ev == "rcu_gp_start" or (self._runs and ev != "rcu_gp_end")
            return True
        return self._runs and ev == "rcu_quiescent_state"
