"""The memory of a random mix: its VMAs of all kinds, what they hold before the run, and what must come of their tables.

Swarm style here too: most mixes have anonymous memory only, in the others about half of the other kinds can occur.
Faults on memory that is not anonymous are not modelled, so what such a VMA holds is all that it ever maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ptactors.campaign.draw import pick, weighted
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, align_down
from ptactors.model.rng import SplitMix64, stream

NAMES = "ABCDEF"
"""Names of VMAs, in the order of their addresses."""
KINDS = ("anon-shared", "file-private", "file-shared", "memfd", "hugetlb")
"""Kinds of VMAs beside anonymous ones."""
ARMED = ("anon", "anon-shared", "memfd", "hugetlb")
"""Kinds that may be registered with userfaultfd for write protection: vma_can_userfault(), which wants no other files."""
ENTRIES: dict[str, tuple[str, ...]] = {
    "anon": ("zero", "swap", "guard", "marker-uffd-wp"),
    "anon-shared": (),
    "file-private": ("cow", "swap", "file"),
    "file-shared": ("file", "file-dirty"),
    "memfd": ("file", "file-dirty"),
}
"""Entries beside plain pages, by kind of VMA; of hugetlb there are none."""
CONTENT = ("cow", "file", "file-dirty")
"""Entries that map a page with content; the zero page is mapped too."""
_BASE, _STRIDE = 0x7F00_0020_0000, 0x0000_0080_0000
_HUGE = ("none", "hugepage", "nohugepage")
_HOT = ((0, 2), (1, 2), (2, 1), (3, 1), (511, 1))
"""Pages of a 2 MiB that programs crowd on, with weights."""


@attrs.frozen(kw_only=True)
class Area:
    """A VMA that programs may use."""

    name: str
    process: str
    size: int
    kind: str = "anon"
    huge: str = "none"
    uffd_wp: bool = False

    @property
    def filtered(self) -> bool:
        """Whether it is one of those in which the cover letter's series looks for no empty tables."""
        return self.kind in ("hugetlb", "file-private") or self.huge == "hugepage" or self.uffd_wp

    @property
    def at(self) -> int:
        """Its first address."""
        return _BASE + NAMES.index(self.name) * _STRIDE

    def place(self, offset: int) -> str:
        """An address in it, as programs call it."""
        return f"{self.name}+{offset:#x}" if offset else self.name

    def offset(self, place: str) -> int:
        """The other way round."""
        return int(place.partition("+")[2] or "0", 16)


@attrs.frozen(kw_only=True)
class Memory:
    """What a mix has before its programs run."""

    areas: tuple[Area, ...]
    hot: tuple[tuple[Area, str], ...]
    """Two or three pages of one 2 MiB of each process, as its programs call them."""
    blocks: tuple[str, ...]
    """The [vma.NAME] sections."""
    mapped: tuple[str, ...]
    """Hot pages that are mapped."""
    tables: tuple[str, ...]
    """2 MiB that have a PTE table."""

    def of(self, process: str) -> list[Area]:
        """The VMAs of a process."""
        return [area for area in self.areas if area.process == process]

    def hot_of(self, process: str) -> list[str]:
        """Its hot pages."""
        return [page for area, page in self.hot if area.process == process]

    def has_table(self, place: str) -> bool:
        """Whether a PTE table stands above this page of a VMA."""
        name, _, offset = place.partition("+")
        found = {area.place(align_down(int(offset or "0", 16), PMD_SIZE)) for area in self.areas if area.name == name}
        return any(table in found for table in self.tables)

    def kept(self, reshaped: Sequence[str]) -> list[str]:
        """2 MiB whose table the series must leave alone: ``reshaped`` are the VMAs that programs map anew, cut or change."""
        found = {area.name: area for area in self.areas if area.filtered and area.name not in reshaped}
        return [place for place in self.tables if place.partition("+")[0] in found]


def draw_memory(number: int, processes: Sequence[str]) -> Memory:
    """That of the mix of this number."""
    areas = _areas(stream(number, "mix memory"), processes)
    hot = _hot(stream(number, "mix hot pages"), areas, processes)
    contents = _Contents(stream(number, "mix contents"), hot)
    blocks = tuple(contents.block(area, len(processes) > 1) for area in areas)
    return Memory(areas=areas, hot=hot, blocks=blocks, mapped=tuple(contents.mapped), tables=tuple(contents.tables))


def _areas(rng: SplitMix64, processes: Sequence[str]) -> tuple[Area, ...]:
    """The first of each process is anonymous."""
    others = [kind for kind in KINDS if rng.below(2)]
    kinds = tuple(others) if others and rng.below(4) else ("anon",)
    armed = rng.below(4) == 0
    areas: list[Area] = []
    for process in processes:
        for nth in range(weighted(rng, ((1, 5), (2, 3), (3, 1)))):
            kind = pick(rng, kinds) if nth else "anon"
            areas.append(
                Area(
                    name=NAMES[len(areas)], process=process, kind=kind,
                    size=weighted(rng, ((1, 3), (2, 2), (3, 1))) * PMD_SIZE,
                    huge=pick(rng, _HUGE) if kind == "anon" else "none",
                    uffd_wp=armed and kind in ARMED and bool(rng.below(2)),
                )
            )  # fmt: skip
    return tuple(areas)


def _hot(rng: SplitMix64, areas: Sequence[Area], processes: Sequence[str]) -> tuple[tuple[Area, str], ...]:
    """Mostly in anonymous memory, where what was discarded comes back."""
    found = []
    for process in processes:
        area = weighted(rng, [(area, 3 if area.kind == "anon" else 1) for area in areas if area.process == process])
        chunk = PMD_SIZE * rng.below(area.size // PMD_SIZE)
        for _ in range(2 + rng.below(2)):
            found.append((area, area.place(chunk + PAGE_SIZE * weighted(rng, _HOT))))
    return tuple(dict.fromkeys(found))


class _Contents:
    """Draws what each 2 MiB holds before the run: nothing, an empty table, pages, one unusual entry, or a huge page."""

    def __init__(self, rng: SplitMix64, hot: Sequence[tuple[Area, str]]) -> None:
        self._rng = rng
        self._hot = hot
        self.mapped: list[str] = []
        self.tables: list[str] = []
        self._lines: dict[str, list[str]] = {}

    def block(self, area: Area, several: bool) -> str:
        """The section of one VMA; ``several``: there is more than one process."""
        lines = [f"[vma.{area.name}]", f"at = {area.at:#x}", f"size = {area.size:#x}"]
        lines += [f'process = "{area.process}"'] if several else []
        lines += [f'kind = "{area.kind}"'] if area.kind != "anon" else []
        lines += [f'huge = "{area.huge}"'] if area.huge != "none" else []
        lines += ["uffd_wp = true"] if area.uffd_wp else []
        self._lines = {"populate": [], "huge_pages": [], "entries": []}
        tables: list[str] = []
        for chunk in range(0, area.size, PMD_SIZE):
            what = self._rng.below(10)
            if what == 0 and area.kind in ("anon", "hugetlb"):
                self._huge_page(area, chunk)
            elif what == 1 or (area.kind == "hugetlb" and what < 6):
                tables.append(f'"{area.place(chunk)}"')
                self.tables.append(area.place(chunk))
            elif area.kind == "hugetlb":
                self._huge_page(area, chunk)
            elif what < 9:
                self._pages(area, chunk, what == 2)
        lines += [f"{key} = {{ {', '.join(found)} }}" for key, found in self._lines.items() if found]
        return "\n".join([*lines, f"tables = [{', '.join(tables)}]"] if tables else lines)

    def _mine(self, area: Area, chunk: int) -> list[str]:
        return [page for owner, page in self._hot if owner is area and align_down(area.offset(page), PMD_SIZE) == chunk]

    def _huge_page(self, area: Area, chunk: int) -> None:
        self._lines["huge_pages"].append(f'"{area.place(chunk)}" = "h{chunk // PMD_SIZE}"')
        self.mapped += self._mine(area, chunk)

    def _pages(self, area: Area, chunk: int, unusual: bool) -> None:
        """The hot pages; where nobody is to meet, a page all the same, unless the memory is anonymous."""
        mine = self._mine(area, chunk) or ([area.place(chunk)] if area.kind != "anon" else [])
        if not mine:
            return
        self.tables.append(area.place(chunk))
        kinds = [*ENTRIES[area.kind], *(["marker-uffd-wp"] if area.uffd_wp and area.kind != "anon" else [])]
        if kinds and (unusual or area.kind != "anon"):
            entry = pick(self._rng, kinds)
            self._lines["entries"].append(f'"{mine[0]}" = "{entry}' + (f':{mine[0]}"' if entry in CONTENT else '"'))
            if entry in (*CONTENT, "zero"):
                self.mapped.append(mine[0])
            mine = mine[1:]
        self._lines["populate"] += [f'"{page}" = "{page}"' for page in mine]
        self.mapped += mine
