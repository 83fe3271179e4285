"""The sections [process.NAME] and [vma.NAME]: address spaces and what their page tables hold before the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, TASK_SIZE, align_down
from ptactors.scenario import expression
from ptactors.scenario.expression import Area, Scope
from ptactors.scenario.hints import suggest
from ptactors.scenario.keys import NAME_PATTERN, PROCESS
from ptactors.scenario.keys import VMA as VMA_KEYS
from ptactors.scenario.model import Entry, Fill, Vma
from ptactors.scenario.positions import Path
from ptactors.scenario.reader import Reader
from ptactors.scenario.shape import describe
from ptactors.scenario.syntax import RESERVED, Mistake, Unresolved, integer, parse_place

DEFAULT_PROCESS = "P"
BARE_ENTRIES = ("marker-uffd-wp", "guard", "swap", "zero")
"""Kinds of entries without content."""
FILLED_ENTRIES = {"cow": ("file-private",), "file": ("file-private", "file-shared", "memfd"),
                  "file-dirty": ("file-private", "file-shared", "memfd")}  # fmt: skip
"""Kinds of entries with content, each with the kinds of VMA that can have it."""


def read_processes(reader: Reader) -> tuple[str, ...]:
    """Names of the processes; one process P if the file declares none."""
    names = []
    for name, path in reader.named("process", NAME_PATTERN, "name of a process"):
        reader.table(path, PROCESS)
        if name in ("kthread", "idle", *RESERVED):
            reader.complain_key(path, f"{name!r} is a reserved word")
        names.append(name)
    return tuple(names) or (DEFAULT_PROCESS,)


def read_vmas(reader: Reader, processes: tuple[str, ...]) -> tuple[tuple[Vma, ...], Scope]:
    """The VMAs, and the scope of names that addresses elsewhere in the file may use."""
    areas: dict[str, Area] = {}
    drafts: list[tuple[Path, dict[str, Any]]] = []
    broken: list[str] = []
    for name, path in reader.named("vma", NAME_PATTERN, "name of a VMA"):
        values = reader.table(path, VMA_KEYS)
        area = _area(reader, path, name, values, processes)
        if area is None:
            broken.append(name)
        else:
            _check_overlap(reader, path, area, areas)
            areas[name] = area
        drafts.append((path, values))
    broken += [name for name in _tables(reader) if name not in areas and name not in broken]
    scope = Scope(areas=areas, broken=tuple(broken))
    vmas = tuple(_vma(reader, path, values, scope) for path, values in drafts if path[1] in areas)
    return vmas, scope


def _tables(reader: Reader) -> list[str]:
    vmas = reader.data.get("vma", {})
    return list(vmas) if isinstance(vmas, dict) else []


def _area(reader: Reader, path: Path, name: str, values: dict[str, Any], processes: tuple[str, ...]) -> Area | None:
    """Where the VMA lies; None if that cannot be said, with the reason reported."""
    if name in RESERVED:
        reader.complain_key(path, f"{name!r} is a reserved word")
        return None
    process = values.get("process", processes[0])
    if process not in processes:
        reader.complain((*path, "process"), f"unknown process {process!r}", suggest(process, processes))
        return None
    size = _size(reader, (*path, "size"), values["size"]) if "size" in values else None
    at = values.get("at")
    unit = PMD_SIZE if values.get("kind") == "hugetlb" else PAGE_SIZE
    good = size is not None and at is not None
    for key, value in (("at", at), ("size", size)):
        if value is not None and value % unit:
            reader.complain((*path, key), f"{key} {value:#x} is no multiple of {unit:#x}")
            good = False
    if not good or size is None or at is None:
        return None
    if at + size > TASK_SIZE:
        reader.complain((*path, "at"), f"{name} ends at {at + size:#x}, beyond user space ({TASK_SIZE:#x})")
        return None
    return Area(name=name, process=process, at=at, size=size)


def _size(reader: Reader, path: Path, value: int | str) -> int | None:
    try:
        size = integer(value.strip().replace("_", "")) if isinstance(value, str) else value
    except ValueError:
        reader.complain(path, f"expected a size such as '4K', '2M' or '1G', not {value!r}")
        return None
    if size <= 0:
        reader.complain(path, "the size must be above zero")
        return None
    return size


def _check_overlap(reader: Reader, path: Path, area: Area, others: dict[str, Area]) -> None:
    for other in others.values():
        if other.process == area.process and area.at < other.end and other.at < area.end:
            reader.complain((*path, "at"), f"VMAs {other.name} and {area.name} of process {area.process} overlap",
                            f"{other}; {area}")  # fmt: skip


def _vma(reader: Reader, path: Path, values: dict[str, Any], scope: Scope) -> Vma:
    contents = _ContentReader(reader, path, scope, values.get("kind", "anon"))
    contents.read(values)
    area = contents.area
    if values.get("mapped") is False:
        _check_unmapped(reader, path, values)
        return Vma(name=area.name, process=area.process, at=area.at, size=area.size, mapped=False)
    plain: dict[str, Any] = {
        key: values[key] for key in ("kind", "writable", "huge", "uffd_wp", "locked", "anon_prepared") if key in values
    }
    plain |= _protection(reader, path, values)
    return Vma(
        name=area.name, process=area.process, at=area.at, size=area.size, **plain, populate=tuple(contents.populate),
        huge_pages=tuple(contents.huge_pages), tables=tuple(dict.fromkeys(contents.tables)), entries=tuple(contents.entries),
    )  # fmt: skip


def _protection(reader: Reader, path: Path, values: dict[str, Any]) -> dict[str, bool]:
    """What ``prot`` says; ``writable`` is an older word for a part of it."""
    if "prot" not in values:
        return {}
    if "writable" in values:
        reader.complain_key((*path, "writable"), "prot says already what the program may do", "leave writable out")
    return {"readable": values["prot"] != "none", "writable": values["prot"] == "rw"}


def _check_unmapped(reader: Reader, path: Path, values: dict[str, Any]) -> None:
    """Nothing but its place can be said of a range in which nothing is mapped."""
    for key in values:
        if key not in ("mapped", "at", "size", "process"):
            reader.complain_key((*path, key), f"{path[1]} is not mapped before the run, so it has no {key}", "leave mapped out")


class _ContentReader:
    """Reads populate, huge_pages, tables and entries of one VMA; no page may be given twice."""

    def __init__(self, reader: Reader, path: Path, scope: Scope, kind: str) -> None:
        self._reader = reader
        self._path = path
        self._kind = kind
        self.area = scope.areas[str(path[1])]
        self._scope = attrs.evolve(scope, areas={self.area.name: self.area}, broken=())
        self._taken: list[tuple[int, int, str]] = []
        self.populate: list[Fill] = []
        self.huge_pages: list[tuple[int, int | str]] = []
        self.tables: list[int] = []
        self.entries: list[Entry] = []

    def read(self, values: dict[str, Any]) -> None:
        for path, (start, end), value in self._keyed(values, "populate", PAGE_SIZE):
            if self._kind == "hugetlb":
                self._reader.complain_key(path, "a hugetlb VMA has no small pages", "use huge_pages")
            elif self._take(path, start, end):
                self.populate.append(Fill(start=start, end=end, value=value))
        for path, (start, end), value in self._keyed(values, "huge_pages", PMD_SIZE):
            if self._kind not in ("anon", "hugetlb"):
                # A split drops a file's huge mapping (__split_huge_pmd_locked()); here it would be split as anonymous memory is.
                self._reader.complain_key(path, "only anonymous memory and hugetlb have huge pages here", "use populate")
            elif self._take(path, start, end):
                self.huge_pages.append((start, value))
        for path, (start, end), value in self._keyed(values, "entries", PAGE_SIZE):
            entry = self._entry(path, start, value)
            if entry is not None and self._take(path, start, end):
                self.entries.append(entry)
        for number, text in enumerate(values.get("tables", [])):
            path = (*self._path, "tables", number)
            va = read_address(self._reader, path, text, self._scope, (self.area.process,))
            if va is not None and self._free_of_huge(path, va):
                self.tables.append(align_down(va, PMD_SIZE))

    def _keyed(self, values: dict[str, Any], key: str, unit: int) -> Iterator[tuple[Path, tuple[int, int], Any]]:
        """The addresses or ranges that are the keys of a table, with the values."""
        for text, value in values.get(key, {}).items():
            path = (*self._path, key, text)
            try:
                where = self._span(text, unit, ranges=key == "populate")
            except Mistake as mistake:
                self._reader.complain_inside(path, mistake, key=True)
            else:
                yield path, where, value

    def _span(self, text: str, unit: int, ranges: bool) -> tuple[int, int]:
        nodes = parse_place(text)
        if len(nodes) > 1 and not ranges:
            raise nodes[1].mistake("expected one address, not a range")
        start = expression.constant(nodes[0], self._scope)
        length = expression.constant(nodes[1], self._scope) if len(nodes) > 1 else unit
        for node, value in zip(nodes, (start, length), strict=False):
            if value % unit:
                raise node.mistake(f"{value:#x} is no multiple of {unit:#x}")
        if length <= 0:
            raise nodes[1].mistake("the length must be above zero")
        expression.check_inside(nodes[0], start, start + length - 1, self._scope, (self.area.process,))
        return start, start + length

    def _take(self, path: Path, start: int, end: int) -> bool:
        for other_start, other_end, text in self._taken:
            if start < other_end and other_start < end:
                self._reader.complain_key(path, f"{path[-1]!r} is mapped twice", f"{text!r} maps it as well")
                return False
        self._taken.append((start, end, str(path[-1])))
        return True

    def _free_of_huge(self, path: Path, va: int) -> bool:
        clash = any(start <= va < start + PMD_SIZE for start, _ in self.huge_pages)
        if clash:
            self._reader.complain(path, f"a huge page is mapped at {va:#x}; there is no table")
        return not clash

    def _entry(self, path: Path, va: int, text: str) -> Entry | None:
        kind, colon, value = text.partition(":")
        known = f"known: {', '.join([*BARE_ENTRIES, *(f'{name}:VALUE' for name in FILLED_ENTRIES)])}"
        if not colon and kind in BARE_ENTRIES:
            return Entry(va=va, kind=kind)
        if not colon or not value or kind not in FILLED_ENTRIES:
            self._reader.complain(path, f"unknown entry {describe(text)}", known)
            return None
        if self._kind not in FILLED_ENTRIES[kind]:
            allowed = " or ".join(FILLED_ENTRIES[kind])
            self._reader.complain(path, f"a {kind} entry needs a VMA of kind {allowed}, not {self._kind}")
            return None
        return Entry(va=va, kind=kind, value=int(value) if value.isdecimal() else value)


def read_address(reader: Reader, path: Path, text: str, scope: Scope, processes: tuple[str, ...]) -> int | None:
    """The address that the string at ``path`` spells; None after an error, or where nothing can be said."""
    try:
        nodes = parse_place(text)
        if len(nodes) > 1:
            raise nodes[1].mistake("expected one address, not a range")
        va = expression.constant(nodes[0], scope)
        expression.check_inside(nodes[0], va, va, scope, processes)
    except Mistake as mistake:
        reader.complain_inside(path, mistake)
    except Unresolved:
        pass
    else:
        return va
    return None


def is_mapped(vmas: tuple[Vma, ...], process: str, va: int) -> bool:
    """Whether a translation of ``va`` exists before the run."""
    for vma in vmas:
        if vma.process == process and vma.readable and vma.at <= va < vma.end:
            page = align_down(va, PAGE_SIZE)
            return (
                any(fill.start <= va < fill.end for fill in vma.populate)
                or any(start <= va < start + PMD_SIZE for start, _ in vma.huge_pages)
                or any(e.va == page and e.kind not in ("marker-uffd-wp", "guard", "swap") for e in vma.entries)
            )
    return False


def has_table(vmas: tuple[Vma, ...], process: str, va: int) -> bool:
    """Whether a PTE table for ``va`` exists before the run."""
    start = align_down(va, PMD_SIZE)
    end = start + PMD_SIZE
    return any(
        any(fill.start < end and start < fill.end for fill in vma.populate)
        or any(start <= entry.va < end for entry in vma.entries)
        or start in vma.tables
        for vma in vmas
        if vma.process == process
    )
