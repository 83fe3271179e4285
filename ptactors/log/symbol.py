"""Addresses as people write them: ``A+0x3000`` for the VMA of that name."""

from __future__ import annotations

from collections.abc import Iterable

from ptactors.model.event import VmaInit
from ptactors.model.state import Record


class Symbols:
    """The VMAs of a run, learnt from its records."""

    def __init__(self) -> None:
        self._areas: list[tuple[str, int, int, str]] = []

    @classmethod
    def of(cls, records: Iterable[Record]) -> Symbols:
        """The VMAs that these records set up."""
        symbols = cls()
        for _, _, event in records:
            if type(event) is VmaInit:
                symbols.learn(event)
        return symbols

    def learn(self, event: VmaInit) -> None:
        """Take note of one VMA."""
        self._areas.append((event.mm, event.start, event.end, event.vma))

    def name(self, va: int, mm: str = "") -> str:
        """``A``, ``A+0x3000``, or '' outside of every VMA; ``mm`` decides where two processes use one address."""
        best = ""
        for owner, start, end, vma in self._areas:
            if start <= va < end:
                text = vma if va == start else f"{vma}+{va - start:#x}"
                if owner == mm or not mm:
                    return text
                best = best or text
        return best

    def span(self, start: int, end: int, mm: str = "") -> str:
        """A range: ``A`` for all of a VMA, else ``A+0x1000 0x2000`` (address, length)."""
        for owner, low, high, vma in self._areas:
            if (low, high) == (start, end) and (owner == mm or not mm):
                return vma
        return f"{self.name(start, mm) or hex(start)} {end - start:#x}"
