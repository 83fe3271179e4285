"""What /proc says of the process that reads it: parsers, and a meter that looks without disturbing what it measures.

Standard library only: the worker imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

PAGE, PMD = 4096, 1 << 21
FLAGS = ("lo", "hg", "nh", "gu")
"""Of VmFlags those that operations of a sequence set."""
Vma = tuple[int, int, str, int, int, tuple[str, ...]]
"""Start, end, permissions, Rss and AnonHugePages in kB, flags."""
Run = tuple[int, int, int, int]
"""First 2 MiB number, how many follow each other, and of each the pages present and those swapped out or marked.

Runs and not a table of all of them: 50 GiB would need memory whose page tables count in VmPTE.
"""
_PRESENT, _SWAPPED = 1 << 63, 1 << 62  # Documentation/admin-guide/mm/pagemap.rst
_ROWS = PMD // PAGE
_PRESENT_MASK = int.from_bytes(_PRESENT.to_bytes(8, "little") * _ROWS, "little")
_SWAPPED_MASK = int.from_bytes(_SWAPPED.to_bytes(8, "little") * _ROWS, "little")
_CLEAN, _SOFT_DIRTY = bytes(8 * _ROWS), (1 << 55).to_bytes(8, "little") * _ROWS
_CHUNK = 1 << 20


def status_kb(text: bytes, key: bytes) -> int:
    """A figure of /proc/self/status; 0 where the kernel does not have it."""
    at = text.find(b"\n" + key + b":")
    return int(text[at:].split(None, 2)[1]) if at >= 0 else 0


def vmas(text: bytes, first: int, end: int) -> Iterator[Vma]:
    """The mappings of /proc/self/smaps that lie within ``[first, end)``, ascending."""
    inside, rss, huge = False, 0, 0
    low, high, permissions = 0, 0, ""
    for line in text.split(b"\n"):
        key, *values = line.split()[:3] or [b""]
        if not key.endswith(b":"):
            bounds = key.split(b"-")
            inside = False
            if len(bounds) == 2 and values:
                low, high = (int(bound, 16) for bound in bounds)
                inside, permissions, rss, huge = first <= low and high <= end, values[0].decode(), 0, 0
        elif inside and key == b"Rss:":
            rss = int(values[0])
        elif inside and key == b"AnonHugePages:":
            huge = int(values[0])
        elif inside and key == b"VmFlags:":
            set_ = line.decode().split()[1:]
            yield low, high, permissions, rss, huge, tuple(flag for flag in FLAGS if flag in set_)


def passed(text: bytes, end: int) -> bool:
    """Whether the last mapping that smaps text begins with is at ``end`` or behind it."""
    at = text.rfind(b"\nVmFlags:")
    line = text[text.find(b"\n", at + 1) + 1 :].split(b"-", 1)[0] if at >= 0 else b""
    return bool(line) and int(line, 16) >= end


def pages(entries: bytes) -> tuple[int, int]:
    """How many of these pagemap entries (of at most 2 MiB) are present, and how many swapped out or marked."""
    if entries in (_CLEAN, _SOFT_DIRTY):
        return 0, 0
    number = int.from_bytes(entries, "little")
    return (number & _PRESENT_MASK).bit_count(), (number & _SWAPPED_MASK).bit_count()


class Meter:
    """Measures the arena ``[first, end)``. What it needs is allocated beforehand: its own memory would show in VmPTE."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end
        self._status, self._smaps, self._pagemap = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in _FILES)
        self._text = bytearray(_CHUNK)
        self._entries = bytearray(_CHUNK)
        self._text[:], self._entries[:] = bytes(_CHUNK), bytes(_CHUNK)

    def vmpte_kb(self) -> int:
        """VmPTE of the process: its PTE, PMD and PUD pages."""
        return status_kb(bytes(self._text[: os.preadv(self._status, [self._text], 0)]), b"VmPTE")

    def vmas(self) -> list[Vma]:
        """The arena's mappings."""
        length = 0
        view = memoryview(self._text)
        while count := os.preadv(self._smaps, [view[length:]], length):
            length += count
            if passed(bytes(view[max(0, length - 8192) : length]), self._end):
                break
        return list(vmas(bytes(view[:length]), self._first, self._end))

    def tables(self, mapped: Iterable[Vma]) -> list[Run]:
        """The pages of each 2 MiB that has any, present or swapped out or marked."""
        runs = _Runs()
        for start, end, *_ in mapped:
            while start < end:
                stop = min(end, (start // PMD + _CHUNK // 8 // _ROWS) * PMD)
                os.preadv(self._pagemap, [memoryview(self._entries)[: (stop - start) // PAGE * 8]], start // PAGE * 8)
                self._count(start, stop, runs)
                start = stop
        return runs.done()

    def _count(self, start: int, stop: int, runs: _Runs) -> None:
        origin = start
        while start < stop:
            end = min(stop, (start // PMD + 1) * PMD)
            present, marked = pages(bytes(self._entries[(start - origin) // PAGE * 8 : (end - origin) // PAGE * 8]))
            if present or marked:
                runs.add((start - self._first) // PMD, present, marked)
            start = end


class _Runs:
    """Makes runs of counts that come in ascending order, several for one 2 MiB if several mappings share it."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._last = (-1, 0, 0)

    def add(self, number: int, present: int, marked: int) -> None:
        """So many pages of this 2 MiB."""
        last, was_present, was_marked = self._last
        if number == last:
            self._last = number, was_present + present, was_marked + marked
        else:
            self._close()
            self._last = number, present, marked

    def _close(self) -> None:
        number, present, marked = self._last
        if self._runs and self._runs[-1][0] + self._runs[-1][1] == number and self._runs[-1][2:] == (present, marked):
            self._runs[-1] = (self._runs[-1][0], self._runs[-1][1] + 1, present, marked)
        elif number >= 0:
            self._runs.append((number, 1, present, marked))

    def done(self) -> list[Run]:
        """All of them."""
        self._close()
        return self._runs


_FILES = ("status", "smaps", "pagemap")
