"""The page walk, and the accesses that need it.

A walk is one load per level, each a step of its own, so that software can change the tables in between; the last load enters
the translation. An invalidation on the CPU cuts the walk: its later loads find ``walking`` false and start over. Each load sets
the accessed bit (the leaf's dirty bit on a write) by a locked exchange in the same step, which is what the hardware's re-check
comes to. No entry is made from an entry that is not present.

Source: Intel SDM volume 3, sections 4.8 and 4.10. Simplified: permissions of upper levels are not combined; a program's accesses
are in program order and sequentially consistent.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.config import MixedSizes
from ptactors.hardware.memory import POISON, Token, data, entry, frame, head
from ptactors.hardware.tlb import (
    Translation,
    cr3,
    fill_psc,
    fill_tlb,
    lookup,
    psc,
    tlb,
    walking,
)
from ptactors.model import paging
from ptactors.model.event import HardwareBits, MachineCheck, MemRead, MemWrite, WalkRead
from ptactors.model.paging import ACCESSED, DIRTY, HUGE, PAGE_SIZE, PMD_SIZE, PRESENT, SHIFT, WRITE, Level
from ptactors.model.state import Key, State
from ptactors.model.step import Footprint, Step

FAULT_PRESENT, FAULT_WRITE, FAULT_USER = 1, 2, 4
"""Bits of a page fault's error code."""

HIT, MISS, FAULT, DOWN, FILLED, CUT = "hit", "miss", "fault", "down", "filled", "cut"


class Found(NamedTuple):
    """What an access or one load of a walk came to."""

    kind: str
    value: int | str = 0
    """hit: the value read; fault: the error code; miss, down: the level to read next."""
    table: int = 0
    gen: int = 0


def _begin(state: State, cpu: int, walker: int, va: int) -> Found:
    """Start a walk at the lowest level that the paging-structure caches know."""
    state.write(walking(cpu, walker), True)
    root = state.read(cr3(cpu))
    held = state.read(psc(cpu))
    for level in (Level.PMD, Level.PUD, Level.PGD):
        hit = held.get((root.asid, level, paging.align_down(va, 1 << SHIFT[level])))
        if hit is not None:
            return Found(MISS, level - 1, *hit)
    return Found(MISS, Level.PGD, root.pgd, state.read(frame(root.pgd)).gen)


@attrs.frozen
class Access(Step[Found]):
    """A load or store of the program at ``va``: through the TLB, or a miss that starts a walk, or a fault.

    A store needs a translation whose dirty bit is set; otherwise the walk sets it. With translations of both sizes the CPU may
    use either (``prefer_huge`` offers the other one as a choice of its own).
    """

    cpu: int
    va: int
    store: Token | None
    op: str
    prefer_huge: bool = False
    labels = ("mem_read", "mem_write")

    @property
    def blocking(self) -> bool:  # type: ignore[override]
        """Only the alternative with a guard can block."""
        return self.prefer_huge

    def name(self) -> str:
        """By what it does."""
        return "mem_write" if self.store else "mem_read"

    def ready(self, state: State) -> bool:
        """The choice exists while both sizes are cached."""
        return not self.prefer_huge or all(lookup(state, self.cpu, self.va))

    def waits(self) -> tuple[Key, ...]:
        """The TLB, and which part of it counts."""
        return (tlb(self.cpu), cr3(self.cpu))

    def apply(self, state: State) -> Found:
        """Make the access or find out why not."""
        small, large = lookup(state, self.cpu, self.va)
        used = large if self.prefer_huge or small is None else small
        if used is None:
            return _begin(state, self.cpu, 0, self.va)
        if small is not None and large is not None:
            self._mixed(state, small, large)
        if self.store is not None:
            if not used.write:
                return Found(FAULT, FAULT_PRESENT | FAULT_WRITE | FAULT_USER)
            if not used.dirty:
                return _begin(state, self.cpu, 0, self.va)
        return Found(HIT, self._move(state, used, PMD_SIZE if used is large else PAGE_SIZE))

    def _mixed(self, state: State, small: Translation, large: Translation) -> None:
        differ = small.pfn != large.pfn + paging.index(self.va, Level.PTE) or small.write != large.write
        if differ and state.config.machine.mixed_sizes is MixedSizes.MACHINE_CHECK:
            state.emit(MachineCheck(self.cpu, self.va))

    def _move(self, state: State, used: Translation, size: int) -> int | str:
        pfn = used.pfn + (paging.index(self.va, Level.PTE) if size == PMD_SIZE else 0)
        alive = state.read(frame(head(pfn))).kind != "free"
        mm = state.read(cr3(self.cpu)).mm
        if self.store is not None:
            if alive:
                state.write(data(pfn), self.store)
            state.emit(MemWrite(self.cpu, self.op, mm, self.va, pfn, used.gen, size, *self.store))
            return self.store.value
        content = state.read(data(pfn)) if alive else POISON
        state.emit(MemRead(self.cpu, self.op, mm, self.va, pfn, used.gen, size, *content))
        return content.value

    def touches(self, state: State) -> Footprint:
        """The CPU's caches, and the page behind the translation that is used."""
        keys: list[Key] = [tlb(self.cpu), cr3(self.cpu), psc(self.cpu), frame(state.read(cr3(self.cpu)).pgd)]
        written: list[Key] = [walking(self.cpu, 0)]
        small, large = lookup(state, self.cpu, self.va)
        used = large if self.prefer_huge or small is None else small
        if used is not None:
            pfn = used.pfn + (paging.index(self.va, Level.PTE) if used is large else 0)
            keys += [frame(head(pfn)), data(pfn)]
            if self.store is not None:
                written.append(data(pfn))
        return tuple(keys), tuple(written)


@attrs.frozen
class Speculate(Step[Found]):
    """The CPU's walker decides by itself to translate ``va``: allowed at any time, without an access, on a lazy CPU as well.

    Source: Intel SDM volume 3, 4.10.2.3. Ready while the address is not cached in any size and CR3 maps user
    space; to let a walker fetch the other size, list another address of the same 2 MiB.
    """

    cpu: int
    va: int
    label = "speculate"
    blocking = True

    def ready(self, state: State) -> bool:
        """Something to gain."""
        return state.read(cr3(self.cpu)).mm != "" and lookup(state, self.cpu, self.va) == (None, None)

    def waits(self) -> tuple[Key, ...]:
        """CR3 and the TLB."""
        return (cr3(self.cpu), tlb(self.cpu))

    def apply(self, state: State) -> Found:
        """Start the walk."""
        return _begin(state, self.cpu, 1, self.va)

    def touches(self, state: State) -> Footprint:
        """The caches, and the mark of the walk."""
        root = state.read(cr3(self.cpu))
        return (cr3(self.cpu), tlb(self.cpu), psc(self.cpu), frame(root.pgd)), (walking(self.cpu, 1),)


@attrs.frozen
class WalkLoad(Step[Found]):
    """One load of a page walk: entry of ``level`` in ``table``; gen is the table's generation when the walker learnt of it."""

    cpu: int
    walker: int
    va: int
    level: int
    table: int
    gen: int
    write: bool
    labels = ("walk_pgd", "walk_pud", "walk_pmd", "walk_pte")

    def name(self) -> str:
        """By level: walk_pgd ... walk_pte."""
        return ("walk_pte", "walk_pmd", "walk_pud", "walk_pgd")[self.level]

    def apply(self, state: State) -> Found:
        """Read, set A and D, and go down, fill, fault or find the walk cut."""
        mark = walking(self.cpu, self.walker)
        if not state.read(mark):
            return Found(CUT)
        root = state.read(cr3(self.cpu))
        slot = paging.index(self.va, self.level)
        value = state.read(entry(self.table, slot))
        speculative = self.walker == 1
        cached = self.level < Level.PGD and self._upper_key(root.asid) in state.read(psc(self.cpu))
        state.emit(WalkRead(self.cpu, root.mm, self.level, self.va, self.table, self.gen, slot, value, cached, speculative))
        code = FAULT_USER | (FAULT_WRITE if self.write else 0)
        if not value & PRESENT:
            state.write(mark, False)
            return Found(FAULT, code)
        leaf = self.level == Level.PTE or value & HUGE
        if leaf and self.write and not value & WRITE:
            state.write(mark, False)
            return Found(FAULT, code | FAULT_PRESENT)
        value = self._set_bits(state, root.mm, slot, value, DIRTY if leaf and self.write else 0)
        if leaf:
            state.write(mark, False)
            return self._fill(state, root.asid, value)
        child = paging.pfn_of(value)
        gen = state.read(frame(child)).gen
        fill_psc(state, self.cpu, (root.asid, self.level, paging.align_down(self.va, 1 << SHIFT[self.level])), child, gen)
        return Found(DOWN, self.level - 1, child, gen)

    def _upper_key(self, asid: int) -> tuple[int, int, int]:
        return asid, self.level + 1, paging.align_down(self.va, 1 << SHIFT[self.level + 1])

    def _set_bits(self, state: State, mm: str, slot: int, old: int, dirty: int) -> int:
        new = old | ACCESSED | dirty
        if new != old:
            state.write(entry(self.table, slot), new)
            state.emit(HardwareBits(self.cpu, mm, self.level, self.va, self.table, slot, old, new))
        return new

    def _fill(self, state: State, asid: int, value: int) -> Found:
        size = PMD_SIZE if self.level == Level.PMD else PAGE_SIZE
        pfn = paging.pfn_of(value)
        new = Translation(pfn, state.read(frame(head(pfn))).gen, bool(value & WRITE), bool(value & DIRTY), self.table, self.gen)
        fill_tlb(state, self.cpu, (asid, size, paging.align_down(self.va, size)), new, self.walker == 1)
        return Found(FILLED)

    def touches(self, state: State) -> Footprint:
        """The entry, the frame it points to, the CPU's caches."""
        slot = entry(self.table, paging.index(self.va, self.level))
        child = paging.pfn_of(state.read(slot))
        own: tuple[Key, ...] = (tlb(self.cpu), psc(self.cpu), walking(self.cpu, self.walker))
        return (slot, cr3(self.cpu), frame(child), frame(head(child)), *own), (slot, *own)


async def walk(cpu: int, walker: int, va: int, write: bool, found: Found) -> Found:
    """Finish a walk that has begun: FILLED, FAULT, or CUT by an invalidation."""
    while found.kind in (MISS, DOWN):
        found = await WalkLoad(cpu, walker, va, int(found.value), found.table, found.gen, write)
    return found
