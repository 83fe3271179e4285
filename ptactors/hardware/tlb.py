"""A CPU's translation caches: 4 KiB and 2 MiB translations, and the paging-structure caches of the upper levels.

Source: Intel SDM volume 3, sections 4.10.2 to 4.10.4. Entries are tagged by the address-space identifier (the PCID without
KPTI's user half). Simplified: no global pages, no 1 GiB pages, no second TLB level; a full TLB evicts its lowest address (so
that equal contents behave alike), and a CPU drops no more than an invalidation demands (real ones may always drop more, which
hides races and never adds any).
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.model.event import Cr3Write, PscEvict, PscFill, TlbEvict, TlbFill, TlbInvalidate
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, SHIFT, align_down
from ptactors.model.state import Cell, State, family
from ptactors.model.step import Footprint, Step

TlbKey = tuple[int, int, int]
"""(asid, size, va aligned to size)."""
PscKey = tuple[int, int, int]
"""(asid, level of the entry, va aligned to what the entry maps)."""


class Translation(NamedTuple):
    """What a TLB entry says, and where it came from."""

    pfn: int
    gen: int
    write: bool
    dirty: bool
    table: int
    table_gen: int


class Cr3(NamedTuple):
    """What the CPU walks: '' is init_mm, which maps no user address."""

    mm: str
    pgd: int
    asid: int


class Frozen(dict[TlbKey, Translation]):
    """A dictionary that nobody changes once it is in a cell; hashable, so that states can be compared."""

    def __hash__(self) -> int:  # type: ignore[override]
        """By content."""
        return hash(frozenset(self.items()))


class FrozenPsc(dict[PscKey, tuple[int, int]]):
    """The same for the paging-structure caches: entry -> (table, generation)."""

    def __hash__(self) -> int:  # type: ignore[override]
        """By content."""
        return hash(frozenset(self.items()))


NO_CR3 = Cr3("", 0, 0)
FEW_PAGES = 64
"""Up to so many pages an invalidation looks for each by its key; longer ones go through all that is cached."""
WALKERS = 2
"""Walks that a CPU can have in progress: 0 for its program, 1 speculative."""

family("tlb", Frozen(), "translations cached by a CPU")
family("psc", FrozenPsc(), "upper-level entries cached by a CPU")
family("cr3", NO_CR3, "the tables a CPU walks")
family("walking", False, "whether a CPU's page walk is in progress and not cut by an invalidation")


def tlb(cpu: int) -> Cell[Frozen]:
    """The CPU's translations."""
    return ("tlb", cpu)  # type: ignore[return-value]


def psc(cpu: int) -> Cell[FrozenPsc]:
    """The CPU's upper-level entries."""
    return ("psc", cpu)  # type: ignore[return-value]


def cr3(cpu: int) -> Cell[Cr3]:
    """The CPU's CR3."""
    return ("cr3", cpu)  # type: ignore[return-value]


def walking(cpu: int, walker: int) -> Cell[bool]:
    """Whether this walk may still fill."""
    return ("walking", cpu, walker)  # type: ignore[return-value]


def caches(cpu: int) -> tuple[tuple[object, ...], ...]:
    """Everything that an invalidation on this CPU writes."""
    return (tlb(cpu), psc(cpu), walking(cpu, 0), walking(cpu, 1))


def fill_tlb(state: State, cpu: int, key: TlbKey, new: Translation, speculative: bool) -> None:
    """Enter a translation."""
    old = state.read(tlb(cpu))
    now = Frozen(old)
    now.pop(key, None)
    if len(now) >= state.config.machine.tlb_entries:
        victim = min(now)
        del now[victim]
        state.emit(TlbEvict(cpu, victim[0], victim[2], victim[1]))
    now[key] = new
    state.write(tlb(cpu), now)
    mm = state.read(cr3(cpu)).mm
    state.emit(TlbFill(cpu, mm, key[0], key[2], key[1], *new[:4], new.table, new.table_gen, speculative))


def fill_psc(state: State, cpu: int, key: PscKey, table: int, gen: int) -> None:
    """Enter an upper-level entry."""
    old = state.read(psc(cpu))
    if old.get(key) == (table, gen):
        return
    now = FrozenPsc(old)
    now.pop(key, None)
    if len(now) >= state.config.machine.psc_entries:
        victim = min(now)
        del now[victim]
        state.emit(PscEvict(cpu, *victim))
    now[key] = (table, gen)
    state.write(psc(cpu), now)
    state.emit(PscFill(cpu, state.read(cr3(cpu)).mm, *key, table, gen))


def _keys_of(asid: int, start: int, end: int) -> list[TlbKey]:
    """The keys of all translations that can meet a short range."""
    small = [(asid, PAGE_SIZE, va) for va in range(align_down(start, PAGE_SIZE), end, PAGE_SIZE)]
    return small + [(asid, PMD_SIZE, va) for va in range(align_down(start, PMD_SIZE), end, PMD_SIZE)]


def invalidate(state: State, cpu: int, asid: int, start: int, end: int, kind: str, scope: str) -> None:
    """Drop what an invalidation of [start, end) drops; asid -1 is all of them; scope: upper levels ``all`` or on the ``path``.

    It also cuts the CPU's walks in progress: none of them may fill any more (otherwise every flush would look broken: a walk
    that had read the old entry could fill after it).
    """
    old = state.read(tlb(cpu))
    if asid >= 0 and end - start <= FEW_PAGES * PAGE_SIZE:
        gone = [key for key in _keys_of(asid, start, end) if key in old]
    else:
        gone = [key for key in old if asid in (-1, key[0]) and key[2] < end and start < key[2] + key[1]]
    if gone:
        kept = Frozen(old)
        for key in gone:
            del kept[key]
        state.write(tlb(cpu), kept)
    old_psc = state.read(psc(cpu))
    kept_psc = FrozenPsc(
        {
            key: t
            for key, t in old_psc.items()
            if not (asid in (-1, key[0]) and (scope == "all" or (key[2] < end and start < key[2] + (1 << SHIFT[key[1]]))))
        }
    )
    if len(kept_psc) != len(old_psc):
        state.write(psc(cpu), kept_psc)
    for walker in range(WALKERS):
        if state.cells.get(walking(cpu, walker)):
            state.write(walking(cpu, walker), False)
    state.emit(TlbInvalidate(cpu, asid, start, end, kind, scope))


@attrs.frozen
class Invlpg(Step[None]):
    """__flush_tlb_one_user() for each ``stride`` of [start, end): INVLPG, or INVPCID of single addresses with KPTI.

    On Intel INVLPG drops every upper-level entry of the PCID, on AMD with EFER.TCE only those on the path to its address; INVPCID
    drops those on the path. Source: Intel SDM volume 3, 4.10.4.1; AMD APM volume 2, EFER.TCE. Simplified: the loop over up to 33
    addresses is one step; KPTI's kernel PCID is not modelled, since only programs access user addresses.
    """

    cpu: int
    start: int
    end: int
    stride: int
    label = "invlpg"

    def apply(self, state: State) -> None:
        """Drop the translations, and upper levels as the machine does."""
        machine = state.config.machine
        scope = "path" if machine.tce or machine.kpti else "all"
        asid = state.read(cr3(self.cpu)).asid
        for va in range(self.start, max(self.end, self.start + 1), 1 << self.stride):
            invalidate(state, self.cpu, asid, va, va + PAGE_SIZE, "invpcid" if machine.kpti else "invlpg", scope)

    def touches(self, state: State) -> Footprint:
        """The CPU's caches."""
        return (cr3(self.cpu), *caches(self.cpu)), caches(self.cpu)


@attrs.frozen
class FlushAsid(Step[None]):
    """MOV to CR3 of its own value: everything non-global of this PCID goes. Source: Intel SDM volume 3, 4.10.4.1."""

    cpu: int
    label = "cr3_flush"

    def apply(self, state: State) -> None:
        """Drop all of it."""
        invalidate(state, self.cpu, state.read(cr3(self.cpu)).asid, 0, 1 << 48, "cr3", "all")

    def touches(self, state: State) -> Footprint:
        """The CPU's caches."""
        return (cr3(self.cpu), *caches(self.cpu)), caches(self.cpu)


@attrs.frozen
class WriteCr3(Step[None]):
    """MOV to CR3: walk the tables of another mm; without NOFLUSH the new PCID starts empty.

    Without PCIDs every such move empties the TLB. Walks in progress end.
    """

    cpu: int
    mm: str
    pgd: int
    asid: int
    noflush: bool
    label = "cr3_write"

    def apply(self, state: State) -> None:
        """Switch, and drop what goes."""
        state.write(cr3(self.cpu), Cr3(self.mm, self.pgd, self.asid))
        state.emit(Cr3Write(self.cpu, self.mm, self.asid, self.noflush))
        if not state.config.machine.pcid:
            invalidate(state, self.cpu, -1, 0, 1 << 48, "cr3", "all")
        elif not self.noflush:
            invalidate(state, self.cpu, self.asid, 0, 1 << 48, "cr3", "all")
        else:
            for walker in range(WALKERS):
                state.write(walking(self.cpu, walker), False)

    def touches(self, state: State) -> Footprint:
        """CR3 and the CPU's caches."""
        keys = (cr3(self.cpu), *caches(self.cpu))
        return keys, keys


def lookup(state: State, cpu: int, va: int) -> tuple[Translation | None, Translation | None]:
    """The (4 KiB, 2 MiB) translations of ``va`` that the CPU holds for its current PCID."""
    asid = state.read(cr3(cpu)).asid
    held = state.read(tlb(cpu))
    small = held.get((asid, PAGE_SIZE, align_down(va, PAGE_SIZE)))
    return small, held.get((asid, PMD_SIZE, align_down(va, PMD_SIZE)))
