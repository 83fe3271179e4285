"""The mirror's picture of every CPU's translation caches."""

from __future__ import annotations

from ptactors.model.event import Cr3Write, PscEvict, PscFill, TlbEvict, TlbFill, TlbInvalidate
from ptactors.model.paging import PAGE_SHIFT, PAGE_SIZE, PMD_SIZE, SHIFT, align_down


class Held:
    """One translation that a TLB holds."""

    __slots__ = ("fill", "op", "step")

    def __init__(self, step: int, fill: TlbFill, op: str) -> None:
        self.step = step
        self.fill = fill
        self.op = op
        """What the CPU was executing when it filled."""

    def frame_of(self, va: int) -> int:
        """The 4 KiB frame that it gives for ``va``."""
        fill = self.fill
        return fill.pfn + ((va - fill.va) >> PAGE_SHIFT)


class Space:
    """What one CPU caches under one address-space identifier."""

    __slots__ = ("huge", "small", "upper")

    def __init__(self) -> None:
        self.small: dict[int, Held] = {}
        """4 KiB translations by address."""
        self.huge: dict[int, Held] = {}
        """2 MiB translations by address."""
        self.upper: dict[tuple[int, int], tuple[int, PscFill]] = {}
        """Paging-structure entries by (level, aligned address), with the step of the fill."""

    def drop(self, start: int, end: int, scope: str) -> None:
        """Forget what an invalidation of [start, end) drops."""
        small, huge = self.small, self.huge
        if not small:
            pass
        elif (end - start) >> PAGE_SHIFT < len(small):
            for va in range(align_down(start, PAGE_SIZE), end, PAGE_SIZE):
                small.pop(va, None)
        else:
            for va in [v for v in small if v < end and start < v + PAGE_SIZE]:
                del small[va]
        if huge:
            for va in [v for v in huge if v < end and start < v + PMD_SIZE]:
                del huge[va]
        if scope == "all":
            self.upper.clear()
        elif scope == "path":
            for key in [k for k in self.upper if k[1] < end and start < k[1] + (1 << SHIFT[k[0]])]:
                del self.upper[key]


Rival = tuple[int, Held]
"""(CPU, a translation that overlaps another one)."""


class Caches:
    """TLBs and paging-structure caches of all CPUs, and what each CPU walks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Empty everything."""
        self.spaces: dict[int, dict[int, Space]] = {}
        """CPU -> asid -> what is cached."""
        self.loaded: dict[int, tuple[str, int]] = {}
        """CPU -> (mm, asid) in its CR3; learnt from a fill where no load was seen."""
        self._asked: TlbFill | None = None
        self._rivals: list[Rival] = []

    def space(self, cpu: int, asid: int) -> Space:
        """What the CPU caches under this asid."""
        try:
            return self.spaces[cpu][asid]
        except KeyError:
            return self.spaces.setdefault(cpu, {}).setdefault(asid, Space())

    def fill(self, step: int, event: TlbFill, op: str) -> None:
        """A translation enters."""
        space = self.space(event.cpu, event.asid)
        (space.small if event.size == PAGE_SIZE else space.huge)[event.va] = Held(step, event, op)
        if event.cpu not in self.loaded:
            self.loaded[event.cpu] = (event.mm, event.asid)
        self._asked = None

    def evict(self, step: int, actor: int, event: TlbEvict) -> None:
        """A translation leaves."""
        self._asked = None
        space = self.space(event.cpu, event.asid)
        (space.small if event.size == PAGE_SIZE else space.huge).pop(event.va, None)

    def invalidate(self, step: int, actor: int, event: TlbInvalidate) -> None:
        """An invalidation; asid -1 is every one."""
        self._asked = None
        spaces = self.spaces.get(event.cpu)
        if spaces is None:
            return
        if event.asid >= 0:
            if event.asid in spaces:
                spaces[event.asid].drop(event.start, event.end, event.psc)
        else:
            for space in spaces.values():
                space.drop(event.start, event.end, event.psc)

    def psc_fill(self, step: int, actor: int, event: PscFill) -> None:
        """An upper-level entry enters."""
        key = (event.level, align_down(event.va, 1 << SHIFT[event.level]))
        self.space(event.cpu, event.asid).upper[key] = (step, event)

    def psc_evict(self, step: int, actor: int, event: PscEvict) -> None:
        """An upper-level entry leaves."""
        key = (event.level, align_down(event.va, 1 << SHIFT[event.level]))
        self.space(event.cpu, event.asid).upper.pop(key, None)

    def load(self, step: int, actor: int, event: Cr3Write) -> None:
        """MOV CR3."""
        self._asked = None
        self.loaded[event.cpu] = (event.mm, event.asid)
        if not event.noflush:
            self.space(event.cpu, event.asid).drop(0, 1 << 64, "all")

    def held(self, cpu: int, va: int) -> list[Held]:
        """The translations of ``va`` that the CPU can use now, the 4 KiB one first."""
        if cpu not in self.loaded:
            return []
        space = self.space(cpu, self.loaded[cpu][1])
        found = (space.small.get(align_down(va, PAGE_SIZE)), space.huge.get(align_down(va, PMD_SIZE)))
        return [each for each in found if each is not None]

    def rivals(self, fill: TlbFill) -> list[Rival]:
        """The other usable translations that meet ``fill``'s range, of any frame: on its own CPU and on every other."""
        if self._asked is not fill:
            self._asked = fill
            self._rivals = self._find_rivals(fill)
        return self._rivals

    def _find_rivals(self, fill: TlbFill) -> list[Rival]:
        found: list[Rival] = []
        va, small_fill = fill.va, fill.size == PAGE_SIZE
        block = align_down(va, PMD_SIZE)
        for cpu, (mm, asid) in self.loaded.items():
            own = cpu == fill.cpu
            if not own and mm != fill.mm:
                continue
            space = self.space(cpu, fill.asid if own else asid)
            if space.huge and not (own and not small_fill):
                huge = space.huge.get(block)
                if huge is not None:
                    found.append((cpu, huge))
            if small_fill:
                if not own:
                    small = space.small.get(va)
                    if small is not None:
                        found.append((cpu, small))
            else:
                found.extend((cpu, small) for page, small in space.small.items() if va <= page < va + PMD_SIZE)
        return found
