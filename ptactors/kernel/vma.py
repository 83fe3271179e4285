"""The VMA tree under mmap_lock for writing: splitting, merging, changing.

Source: mm/vma.c (__split_vma, vma_merge_existing_range, vma_merge_new_range, vma_modify, vma_expand), v6.12-6.18, and the same
rules in mm/mmap.c (__split_vma, vma_merge with its eight cases) of v6.1; mm/huge_memory.c (vma_adjust_trans_huge). Simplified:
no memory policies, no names of anonymous memory, no limit of map_count; offsets of anonymous memory always go on where
addresses do, since nothing moves it; file and anon_vma trees are left out.
"""

from __future__ import annotations

import attrs

from ptactors.hardware.cpu import Cpu
from ptactors.kernel.mm import SetVmas, Vma, VmasOf, anon_vma, area_of, areas, same_backing, vma_count
from ptactors.kernel.mmap_lock import vma_start_write
from ptactors.kernel.pgtable import ReadUpper
from ptactors.kernel.thp import split_huge_pmd
from ptactors.model.paging import PMD_SIZE, TASK_SIZE, align_down, align_up
from ptactors.model.state import Cell, State
from ptactors.model.step import Footprint, Step

EINVAL = 22


@attrs.frozen
class AllocVma(Step[str]):
    """vm_area_alloc(), vm_area_dup(): a VMA object that nobody knows yet; the result is its name.

    The first object of an area has the area's name, later ones a number behind it.
    """

    mm: str
    start: int
    like: str = ""
    """The VMA that it is a copy of; '' for a new one."""
    label = "vma_alloc"

    def _area(self, state: State) -> str:
        if self.like:
            return area_of(self.like)
        found = (name for name, start, end in state.read(areas(self.mm)) if start <= self.start < end)
        return next(found, "vma")

    def apply(self, state: State) -> str:
        """Name it."""
        area = self._area(state)
        number = state.read(vma_count(area))
        state.write(vma_count(area), number + 1)
        return f"{area}.{number}" if number else area

    def touches(self, state: State) -> Footprint:
        """The area's count."""
        cell = vma_count(self._area(state))
        return (areas(self.mm), cell), (cell,)


@attrs.frozen
class ReadAnonVma(Step[str]):
    """Read vma->anon_vma: which one it is, '' for none."""

    vma: str
    label = "anon_vma_read"

    def apply(self, state: State) -> str:
        """Read it."""
        return state.read(anon_vma(self.vma))

    def touches(self, state: State) -> Footprint:
        """The pointer."""
        return (anon_vma(self.vma),), ()


@attrs.frozen
class CloneAnonVma(Step[None]):
    """anon_vma_clone(): ``to`` gets the anon_vma of ``source``."""

    to: str
    source: str
    label = "anon_vma_clone"

    def apply(self, state: State) -> None:
        """Copy the pointer."""
        state.write(anon_vma(self.to), state.read(anon_vma(self.source)))

    def touches(self, state: State) -> Footprint:
        """Both pointers."""
        source: Cell[str] = anon_vma(self.source)
        return (source,), (anon_vma(self.to),)


@attrs.define(eq=False)
class Tree:
    """The VMAs of an mm in the hands of the one who holds mmap_lock for writing: what it knows of them nobody else changes."""

    cpu: Cpu
    now: tuple[Vma, ...]
    """Ascending."""
    _locked: tuple[str, ...] = ()

    @classmethod
    async def read(cls, cpu: Cpu) -> Tree:
        """The mm's VMAs as they are."""
        return cls(cpu, await VmasOf(cpu.mm, 0, TASK_SIZE))

    def find(self, va: int) -> Vma | None:
        """find_vma(): the first VMA that ends above ``va``."""
        return next((vma for vma in self.now if va < vma.end), None)

    def named(self, name: str) -> Vma:
        """The VMA of that name, as it is now."""
        return next(vma for vma in self.now if vma.name == name)

    def inside(self, start: int, end: int) -> tuple[Vma, ...]:
        """The VMAs that meet [start, end)."""
        return tuple(vma for vma in self.now if vma.start < end and start < vma.end)

    def neighbours(self, start: int, end: int) -> tuple[Vma | None, Vma | None]:
        """The last VMA that ends at or below ``start`` and the first that starts at or above ``end``."""
        before = [vma for vma in self.now if vma.end <= start]
        after = [vma for vma in self.now if vma.start >= end]
        return (before[-1] if before else None), (after[0] if after else None)

    async def write_lock(self, vma: Vma) -> None:
        """vma_start_write(): at once where it is write-locked already, and nothing without CONFIG_PER_VMA_LOCK."""
        if self.cpu.config.kernel.per_vma_lock and vma.name not in self._locked:
            await vma_start_write(self.cpu.id, self.cpu.mm, vma.name)
            self._locked = (*self._locked, vma.name)

    async def store(self, out: tuple[str, ...], *into: Vma) -> None:
        """vma_iter_store() (v6.17: ..._overwrite()), vma_iter_clear(): the VMAs named ``out`` go, those of ``into`` come."""
        kept = [vma for vma in self.now if vma.name not in out]
        now = tuple(sorted((*kept, *into), key=lambda vma: vma.start))
        if now != self.now:
            await SetVmas(self.cpu.mm, now)
            self.now = now


async def split_vma(tree: Tree, vma: Vma, addr: int, *, new_below: bool) -> int:
    """__split_vma() at ``addr``: the object ``vma`` keeps the upper part with ``new_below``, else the lower one.

    0, or -EINVAL inside a huge page of hugetlb. A huge page of THP that lies across ``addr`` is split first.
    """
    if vma.kind == "hugetlb" and addr % PMD_SIZE:
        return -EINVAL
    cpu = tree.cpu
    start, end = (vma.start, addr) if new_below else (addr, vma.end)
    new = vma._replace(name=await AllocVma(cpu.mm, start, vma.name), start=start, end=end)
    await CloneAnonVma(new.name, vma.name)
    await tree.write_lock(vma)
    await tree.write_lock(new)
    await vma_adjust_trans_huge(cpu, vma, vma.start, addr)
    kept = vma._replace(start=addr) if new_below else vma._replace(end=addr)
    await tree.store((vma.name,), kept, new)
    return 0


async def vma_adjust_trans_huge(cpu: Cpu, vma: Vma, start: int, end: int, after: Vma | None = None) -> None:
    """Before ``vma`` gets the range [start, end), and ``after`` begins at ``end``: split huge pages across the new bounds."""
    await _split_huge_pmd_if_needed(cpu, vma, start)
    await _split_huge_pmd_if_needed(cpu, vma, end)
    if after is not None:
        await _split_huge_pmd_if_needed(cpu, after, end)


async def _split_huge_pmd_if_needed(cpu: Cpu, vma: Vma, va: int) -> None:
    """Only where all of the 2 MiB around ``va`` is in the VMA can a huge page be."""
    if vma.kind == "hugetlb" or va % PMD_SIZE == 0:
        return
    if vma.start <= align_down(va, PMD_SIZE) and align_up(va, PMD_SIZE) <= vma.end:
        upper = await ReadUpper(cpu.mm, va)
        if upper.pmd:
            await split_huge_pmd(cpu, va, upper.pmd)


async def vma_modify(tree: Tree, vma: Vma, start: int, end: int, wanted: Vma) -> Vma | int:
    """vma_modify_flags(): make [start, end), a part of ``vma``, a VMA that may get the flags of ``wanted``.

    By merging it with neighbours that have them already, else by splitting ``vma``, which keeps its object. The caller sets the
    flags. The result is the VMA that holds the range, or -errno.
    """
    merged = await _merge_existing_range(tree, vma, start, end, wanted)
    if merged is not None:
        return merged
    if vma.start < start:
        error = await split_vma(tree, vma, start, new_below=True)
        if error:
            return error
    if end < vma.end:
        error = await split_vma(tree, tree.named(vma.name), end, new_below=False)
        if error:
            return error
    return tree.named(vma.name)


async def set_flags(tree: Tree, vma: Vma, wanted: Vma) -> Vma:
    """vma_start_write() and vm_flags_reset(): ``vma`` gets the flags of ``wanted``; the result is how it is then."""
    await tree.write_lock(vma)
    now = wanted._replace(name=vma.name, start=vma.start, end=vma.end)
    await tree.store((vma.name,), now)
    return now


async def _merge_existing_range(tree: Tree, vma: Vma, start: int, end: int, wanted: Vma) -> Vma | None:
    """vma_merge_existing_range(): prev, vma and next, of which the left one that is whole keeps its object."""
    prev, after = tree.neighbours(vma.start, vma.end)
    left = prev if vma.start == start and prev is not None and prev.end == start and _alike(prev, wanted) else None
    right = after if vma.end == end and after is not None and after.start == end and _alike(after, wanted) else None
    if left is None and right is None:
        return None
    mine = await ReadAnonVma(vma.name)
    if left is not None and not await _is_mergeable_anon_vma(tree.cpu, left, mine):
        left = None
    if right is not None and not await _is_mergeable_anon_vma(tree.cpu, right, mine):
        right = None
    if left is not None and right is not None and not await _are_anon_vmas_compatible(left, right):
        right = None
    if left is None and right is None:
        return None
    return await _commit_merge(tree, vma, start, end, left, right)


async def _commit_merge(tree: Tree, vma: Vma, start: int, end: int, left: Vma | None, right: Vma | None) -> Vma:
    """dup_anon_vma(), vma_adjust_trans_huge() and the store; ``vma`` shrinks, or goes if all of it is merged."""
    cpu = tree.cpu
    for each in (vma, right, left):
        if each is not None:
            await tree.write_lock(each)
    target = left or right
    assert target is not None
    await _dup_anon_vma(target, (right, vma) if left is not None and right is not None else (vma,))
    if left is not None:
        upto = right.end if right is not None else end
        rest = vma._replace(start=end) if end < vma.end else None
        await vma_adjust_trans_huge(cpu, left, left.start, upto, vma if rest is not None else None)
        target = left._replace(end=upto)
    else:
        assert right is not None
        rest = vma._replace(end=start) if vma.start < start else None
        if rest is not None:
            await vma_adjust_trans_huge(cpu, vma, vma.start, start)
        target = right._replace(start=start)
    out = tuple(each.name for each in (left, vma, right) if each is not None)
    await tree.store(out, target, *([rest] if rest is not None else []))
    return target


async def merge_new_range(tree: Tree, new: Vma) -> Vma | None:
    """vma_merge_new_range(): extend a neighbour over the range of ``new``, which has no object and no anon_vma yet."""
    prev, after = tree.neighbours(new.start, new.end)
    left = prev if prev is not None and prev.end == new.start and new.anon and _alike(prev, new) else None
    right = after if after is not None and after.start == new.end and new.anon and _alike(after, new) else None
    if left is not None and right is not None and not await _are_anon_vmas_compatible(left, right):
        right = None
    target = left or right
    if target is None:
        return None
    await tree.write_lock(target)
    if left is not None and right is not None:
        await tree.write_lock(right)
        await _dup_anon_vma(left, (right,))
    out = tuple(each.name for each in (left, right) if each is not None)
    merged = target._replace(start=left.start if left else new.start, end=right.end if right else new.end)
    await tree.store(out, merged)
    return merged


def _alike(vma: Vma, wanted: Vma) -> bool:
    """is_mergeable_vma(): the same flags, the same file; never with VM_SPECIAL, of which hugetlbfs sets VM_DONTEXPAND."""
    return vma.kind != "hugetlb" and vma.flags() == wanted.flags() and same_backing(vma, wanted)


async def _is_mergeable_anon_vma(cpu: Cpu, target: Vma, source: str) -> bool:
    """Whether a range with the anon_vma ``source`` may go into ``target``.

    Up to v6.15 one that has an anon_vma could not go into one that has none: the test for an anon_vma of a parent
    process, a chain of one, took the empty chain for a longer one.
    """
    theirs = await ReadAnonVma(target.name)
    if theirs == source or (theirs and not source):
        return True
    return not theirs and cpu.config.kernel.merge_into_unfaulted


async def _are_anon_vmas_compatible(left: Vma, right: Vma) -> bool:
    """Both neighbours of a range: equal, or one has none."""
    first, second = await ReadAnonVma(left.name), await ReadAnonVma(right.name)
    return not first or not second or first == second


async def _dup_anon_vma(target: Vma, sources: tuple[Vma, ...]) -> None:
    """dup_anon_vma(): a target without anon_vma takes that of what it swallows."""
    if await ReadAnonVma(target.name):
        return
    for source in sources:
        if await ReadAnonVma(source.name):
            await CloneAnonVma(target.name, source.name)
            return
