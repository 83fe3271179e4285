"""The machine without an operating system: caches, what drops from them, walks, what cuts them, memory."""

from __future__ import annotations

from typing import Any

import pytest
from small_machines import A, events, run, text, vma

from ptactors.config import resolve
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton
from ptactors.engine.strategy.random import Random
from ptactors.hardware.cpu import SIGSEGV, Cpu, access, speculative_walker
from ptactors.hardware.memory import (
    HUGE_PFN,
    Frame,
    Token,
    data,
    entry,
    frame,
)
from ptactors.hardware.tlb import (
    Cr3,
    FlushAsid,
    Invlpg,
    Translation,
    WriteCr3,
    cr3,
    fill_psc,
    fill_tlb,
    lookup,
    psc,
    tlb,
    walking,
)
from ptactors.hardware.walker import CUT, DOWN, FAULT, FILLED, HIT, MISS, Access, Speculate, WalkLoad
from ptactors.model import event as ev
from ptactors.model.paging import (
    ACCESSED,
    DIRTY,
    HUGE,
    PAGE_SIZE,
    PMD_SIZE,
    PRESENT,
    PUD_SIZE,
    USER,
    WRITE,
    Level,
    align_down,
    index,
    make,
)
from ptactors.model.state import State
from ptactors.model.step import Step

PGD, PUD, PMD, PTE, PAGE = 10, 11, 12, 13, 50
TABLE = PRESENT | WRITE | USER
RW = PRESENT | WRITE | USER


def state(**knobs: Any) -> State:
    """One CPU with asid 1 on a table tree that maps nothing but an empty PTE page at A."""
    made = State(resolve(**knobs))
    made.ring = []
    for pfn, kind in ((PGD, "pgd"), (PUD, "pud"), (PMD, "pmd"), (PTE, "pte"), (PAGE, "anon"), (PAGE + 1, "anon")):
        made.write(frame(pfn), Frame(kind, 1, 0, 1))
    made.write(frame(HUGE_PFN + 512), Frame("anon", 4, 9, 1))
    made.write(entry(PGD, index(A, Level.PGD)), make(PUD, TABLE))
    made.write(entry(PUD, index(A, Level.PUD)), make(PMD, TABLE))
    made.write(entry(PMD, index(A, Level.PMD)), make(PTE, TABLE))
    made.write(cr3(0), Cr3("P", PGD, 1))
    return made


def map_page(made: State, va: int = A, flags: int = RW, pfn: int = PAGE) -> None:
    made.write(entry(PTE, index(va, Level.PTE)), make(pfn, flags))


def walked(made: State, va: int, write: bool = False, walker: int = 0) -> tuple[str, list[int]]:
    """A whole walk without interference: how it ended and the levels that were read."""
    found = Access(0, va, Token(1, "t") if write else None, "r").apply(made) if walker == 0 else Speculate(0, va).apply(made)
    levels = []
    while found.kind in (MISS, DOWN):
        levels.append(int(found.value))
        found = WalkLoad(0, walker, va, int(found.value), found.table, found.gen, write).apply(made)
    return found.kind, levels


def told(made: State, kind: type) -> list[Any]:
    return [event for _, _, event in made.ring or () if type(event) is kind]


# -- walks ----------------------------------------------------------------------------------------------------------------


def test_a_walk_reads_one_entry_a_level_and_fills() -> None:
    made = state()
    map_page(made)
    assert walked(made, A + 0x123) == (FILLED, [3, 2, 1, 0])
    small, large = lookup(made, 0, A + 0xFFF)
    assert small == Translation(PAGE, 1, True, False, PTE, 1)
    assert large is None
    assert made.read(psc(0)) == {
        (1, Level.PGD, align_down(A, 1 << 39)): (PUD, 1),
        (1, Level.PUD, align_down(A, PUD_SIZE)): (PMD, 1),
        (1, Level.PMD, A): (PTE, 1),
    }


def test_upper_levels_are_cached_while_every_pte_is_none() -> None:
    """The walk faults, the PDE stays: the next walk of another page of the 2 MiB begins at the PTE page."""
    made = state()
    assert walked(made, A) == (FAULT, [3, 2, 1, 0])
    assert made.read(tlb(0)) == {}
    assert (1, Level.PMD, A) in made.read(psc(0))
    assert walked(made, A + PAGE_SIZE) == (FAULT, [0])
    assert walked(made, A + PMD_SIZE) == (FAULT, [1])
    assert walked(made, A + PUD_SIZE) == (FAULT, [2])


def test_a_cached_pde_is_used_after_software_cleared_it() -> None:
    """The reason why a table may be freed only after an invalidation."""
    made = state()
    walked(made, A)
    made.write(entry(PMD, index(A, Level.PMD)), 0)
    map_page(made)
    assert walked(made, A) == (FILLED, [0])


@pytest.mark.parametrize("level", [Level.PGD, Level.PUD, Level.PMD, Level.PTE])
def test_nothing_is_cached_of_an_entry_that_is_not_present(level: Level) -> None:
    made = state()
    map_page(made)
    table = (PTE, PMD, PUD, PGD)[level]
    made.write(entry(table, index(A, level)), make(99, WRITE | USER))
    assert walked(made, A) == (FAULT, [3, 2, 1, 0][: 4 - level])
    assert all(key[1] > level for key in made.read(psc(0)))
    assert made.read(tlb(0)) == {}


def test_a_huge_pmd_fills_a_2m_translation() -> None:
    made = state()
    made.write(entry(PMD, index(A, Level.PMD)), make(HUGE_PFN + 512, RW | HUGE))
    assert walked(made, A + 0x5000) == (FILLED, [3, 2, 1])
    small, large = lookup(made, 0, A + 0x1FFFFF)
    assert small is None
    assert large == Translation(HUGE_PFN + 512, 4, True, False, PMD, 1)


@pytest.mark.parametrize(
    ("flags", "write", "code"),
    [
        (0, False, 4),
        (0, True, 6),
        (PRESENT | USER, True, 7),
    ],
)
def test_error_codes(flags: int, write: bool, code: int) -> None:
    made = state()
    if flags:
        map_page(made, flags=flags)
    walked(made, A)
    made.write(tlb(0), made.read(tlb(0)).__class__())
    made.write(walking(0, 0), True)
    found = WalkLoad(0, 0, A, Level.PTE, PTE, 1, write).apply(made)
    assert (found.kind, found.value) == (FAULT, code)


def test_a_store_through_a_read_only_translation_faults_even_if_memory_says_more() -> None:
    made = state()
    map_page(made, flags=PRESENT | USER)
    walked(made, A)
    map_page(made, flags=RW)
    found = Access(0, A, Token(1, "t"), "w").apply(made)
    assert (found.kind, found.value) == (FAULT, 7)


# -- accessed and dirty ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "bits"), [(False, ACCESSED), (True, ACCESSED | DIRTY)])
def test_a_walk_sets_accessed_on_its_way_and_dirty_on_the_leaf_of_a_store(write: bool, bits: int) -> None:
    made = state()
    map_page(made)
    assert walked(made, A, write)[0] == FILLED
    assert made.read(entry(PTE, index(A, Level.PTE))) == make(PAGE, RW | bits)
    for table, level in ((PMD, Level.PMD), (PUD, Level.PUD), (PGD, Level.PGD)):
        assert made.read(entry(table, index(A, level))) & (ACCESSED | DIRTY) == ACCESSED
    assert [e.level for e in told(made, ev.HardwareBits)] == [3, 2, 1, 0]
    walked(made, A + PAGE_SIZE)
    assert len(told(made, ev.HardwareBits)) == 4  # what is set is not set again


def test_the_first_store_through_a_clean_translation_walks_again_to_set_dirty() -> None:
    made = state()
    map_page(made)
    walked(made, A)
    assert not lookup(made, 0, A)[0].dirty
    assert Access(0, A, Token(1, "t"), "w").apply(made).kind == MISS
    assert walked(made, A, True)[0] == FILLED
    assert lookup(made, 0, A)[0].dirty
    assert Access(0, A, Token(7, "t"), "w").apply(made) == (HIT, 7, 0, 0)
    assert made.read(data(PAGE)) == Token(7, "t")


def test_a_dirty_translation_stores_without_a_look_at_memory() -> None:
    """The lost store: software cleared the PTE, the translation is still there and dirty."""
    made = state()
    map_page(made)
    walked(made, A, True)
    map_page(made, flags=0, pfn=0)
    assert Access(0, A, Token(7, "t"), "w").apply(made).kind == HIT
    assert made.read(entry(PTE, index(A, Level.PTE))) == 0
    assert made.read(data(PAGE)).value == 7


def test_a_failed_store_sets_no_dirty_bit() -> None:
    made = state()
    map_page(made, flags=PRESENT | USER)
    assert walked(made, A, True)[0] == FAULT
    assert not made.read(entry(PTE, index(A, Level.PTE))) & DIRTY


# -- both sizes at once ---------------------------------------------------------------------------------------------------


def both_sizes(**knobs: Any) -> State:
    made = state(**knobs)
    fill_tlb(made, 0, (1, PAGE_SIZE, A), Translation(PAGE, 1, True, True, PTE, 1), False)
    fill_tlb(made, 0, (1, PMD_SIZE, A), Translation(HUGE_PFN + 512, 4, True, True, PMD, 1), False)
    made.write(data(PAGE), Token("small", ""))
    made.write(data(HUGE_PFN + 512), Token("huge", ""))
    return made


def test_with_both_sizes_cached_either_may_be_used() -> None:
    made = both_sizes()
    huge = Access(0, A, None, "r", True)
    assert huge.ready(made)
    assert Access(0, A, None, "r").apply(made).value == "small"
    assert huge.apply(made).value == "huge"
    assert told(made, ev.MachineCheck) == []
    Invlpg(0, A, A + 1, 12).apply(made)
    assert not huge.ready(made)


def test_erratum_383_is_a_machine_check() -> None:
    made = both_sizes(hardware="erratum-383")
    Access(0, A, None, "r").apply(made)
    assert told(made, ev.MachineCheck) == [ev.MachineCheck(0, A)]


# -- what invalidations drop ----------------------------------------------------------------------------------------------


def cached(made: State) -> tuple[set[int], set[tuple[int, int]]]:
    """Addresses of the translations of asid 1, and (level, address) of its upper-level entries."""
    return (
        {va for asid, _, va in made.read(tlb(0)) if asid == 1},
        {(lvl, va) for asid, lvl, va in made.read(psc(0)) if asid == 1},
    )


NEXT_2M, NEXT_1G, FAR = A + PMD_SIZE, A + PUD_SIZE, A + (1 << 39)
UPPER = {
    (lvl, align_down(va, size)) for va in (A, NEXT_2M, NEXT_1G, FAR) for lvl, size in ((1, PMD_SIZE), (2, PUD_SIZE), (3, 1 << 39))
}


def full_caches(**knobs: Any) -> State:
    made = state(**knobs)
    for asid in (1, 2):
        for va in (A, A + PAGE_SIZE, NEXT_2M, NEXT_1G, FAR):
            fill_tlb(made, 0, (asid, PAGE_SIZE, va), Translation(PAGE, 1, True, False, PTE, 1), False)
            for lvl, size in ((1, PMD_SIZE), (2, PUD_SIZE), (3, 1 << 39)):
                fill_psc(made, 0, (asid, lvl, align_down(va, size)), PTE, 1)
    return made


ALL = {A, A + PAGE_SIZE, NEXT_2M, NEXT_1G, FAR}
PATH = {(lvl, align_down(A, size)) for lvl, size in ((1, PMD_SIZE), (2, PUD_SIZE), (3, 1 << 39))}


@pytest.mark.parametrize(
    ("hardware", "step", "gone", "upper_gone"),
    [
        ("intel", Invlpg(0, A, A + PAGE_SIZE, 12), {A}, UPPER),
        ("intel-kpti", Invlpg(0, A, A + PAGE_SIZE, 12), {A}, PATH),
        ("amd-tce", Invlpg(0, A, A + PAGE_SIZE, 12), {A}, PATH),
        ("intel", Invlpg(0, A, A + 2 * PAGE_SIZE, 12), {A, A + PAGE_SIZE}, UPPER),
        ("amd-tce", Invlpg(0, A, A + 2 * PAGE_SIZE, 12), {A, A + PAGE_SIZE}, PATH),
        ("amd-tce", Invlpg(0, A, A + 2 * PMD_SIZE, 21), {A, NEXT_2M}, PATH | {(1, NEXT_2M)}),
        ("intel", FlushAsid(0), ALL, UPPER),
        ("amd-tce", FlushAsid(0), ALL, UPPER),
    ],
    ids=lambda v: str(v) if isinstance(v, str | Step) else "",
)
def test_what_an_invalidation_drops(hardware: str, step: Step[None], gone: set[int], upper_gone: set[tuple[int, int]]) -> None:
    made = full_caches(hardware=hardware)
    before = {key for key in made.read(tlb(0)) if key[0] == 2}, {key for key in made.read(psc(0)) if key[0] == 2}
    step.apply(made)
    assert cached(made) == (ALL - gone, UPPER - upper_gone)
    assert before == (
        {k for k in made.read(tlb(0)) if k[0] == 2},
        {k for k in made.read(psc(0)) if k[0] == 2},
    )  # other PCIDs stay


@pytest.mark.parametrize(("at", "hit"), [(A, True), (A + 0x5000, True), (A + PMD_SIZE - PAGE_SIZE, True), (NEXT_2M, False)])
def test_an_invalidation_of_any_page_drops_the_2m_translation_around_it(at: int, hit: bool) -> None:
    made = state()
    fill_tlb(made, 0, (1, PMD_SIZE, A), Translation(HUGE_PFN + 512, 4, True, True, PMD, 1), False)
    Invlpg(0, at, at + PAGE_SIZE, 12).apply(made)
    assert (made.read(tlb(0)) == {}) == hit


@pytest.mark.parametrize(
    ("pcid", "noflush", "left"),
    [
        (True, True, {1: ALL, 2: ALL}),
        (True, False, {1: ALL, 2: set()}),
        (False, True, {1: set(), 2: set()}),
        (False, False, {1: set(), 2: set()}),
    ],
)
def test_what_a_move_to_cr3_drops(pcid: bool, noflush: bool, left: dict[int, set[int]]) -> None:
    made = full_caches(pcid=pcid)
    WriteCr3(0, "Q", PGD, 2, noflush).apply(made)
    assert {asid: {va for a, _, va in made.read(tlb(0)) if a == asid} for asid in (1, 2)} == left
    assert {asid: bool([k for k in made.read(psc(0)) if k[0] == asid]) for asid in (1, 2)} == {
        a: bool(v) for a, v in left.items()
    }


def test_a_full_tlb_evicts_its_oldest() -> None:
    made = state(tlb_entries=2, psc_entries=2)
    for number in range(3):
        fill_tlb(made, 0, (1, PAGE_SIZE, A + number * PAGE_SIZE), Translation(PAGE, 1, True, False, PTE, 1), False)
        fill_psc(made, 0, (1, Level.PMD, A + number * PMD_SIZE), PTE, 1)
    assert [va for _, _, va in made.read(tlb(0))] == [A + PAGE_SIZE, A + 2 * PAGE_SIZE]
    assert told(made, ev.TlbEvict) == [ev.TlbEvict(0, 1, A, PAGE_SIZE)]
    assert told(made, ev.PscEvict) == [ev.PscEvict(0, 1, Level.PMD, A)]
    fill_tlb(made, 0, (1, PAGE_SIZE, A + PAGE_SIZE), Translation(PAGE, 1, True, True, PTE, 1), False)  # replaces itself
    assert len(told(made, ev.TlbEvict)) == 1


# -- walks that are cut (H10) ---------------------------------------------------------------------------------------------

CUTS = [
    Invlpg(0, NEXT_1G, NEXT_1G + PAGE_SIZE, 12),
    FlushAsid(0),
    WriteCr3(0, "P", PGD, 1, True),
    WriteCr3(0, "Q", PGD, 2, False),
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda s: s.name())
@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("walker", [0, 1])
def test_a_walk_that_an_invalidation_cuts_fills_nothing(cut: Step[None], after: int, walker: int) -> None:
    """Whatever the invalidation names: a walk that read an entry before must not make a translation after it."""
    made = state()
    map_page(made)
    found = Speculate(0, A).apply(made) if walker else Access(0, A, None, "r").apply(made)
    for _ in range(after):
        found = WalkLoad(0, walker, A, int(found.value), found.table, found.gen, False).apply(made)
    cut.apply(made)
    before = dict(made.cells)
    found = WalkLoad(0, walker, A, int(found.value), found.table, found.gen, False).apply(made)
    assert found.kind == CUT
    assert made.cells == before


def test_an_invalidation_on_another_cpu_cuts_nothing() -> None:
    made = state()
    map_page(made)
    found = Access(0, A, None, "r").apply(made)
    Invlpg(1, A, A + PAGE_SIZE, 12).apply(made)
    FlushAsid(1).apply(made)
    assert WalkLoad(0, 0, A, int(found.value), found.table, found.gen, False).apply(made).kind == DOWN


def test_a_cut_access_starts_over() -> None:
    got, reads = [], []

    async def no_fault(*_: object) -> bool:
        raise AssertionError("no fault here")

    async def program(made: State) -> None:
        got.append(await access(Cpu(id=0, config=made.config, page_fault=no_fault), A, None))

    async def flusher() -> None:
        await FlushAsid(0)

    for seed in range(20):
        made = state()
        map_page(made)
        host_direct.run(hosted(made, Random(seed), program(made), flusher()))
        reads.append(len(told(made, ev.WalkRead)))
    assert got == [0] * 20
    assert min(reads) == 4
    assert max(reads) > 4


def hosted(made: State, strategy: Any, *lives: Any, gates: dict[int, Any] | None = None) -> Baton:
    actors = tuple(
        Actor(id=n, name=f"a{n}", coroutine=life, gate=(gates or {}).get(n), program=True) for n, life in enumerate(lives)
    )
    return Baton(made, actors, strategy, max_steps=10_000, when_quiet=lambda: False)


def test_an_access_that_no_handler_repairs_is_a_segmentation_fault() -> None:
    made = state()
    got = []

    async def refuse(cpu: Cpu, va: int, code: int) -> bool:
        got.append((va, code))
        return False

    async def program() -> None:
        got.append(await access(Cpu(id=0, config=made.config, page_fault=refuse), A + 8, Token(1, "t")))

    host_direct.run(hosted(made, Random(0), program()))
    assert got == [(A + 8, 6), SIGSEGV]


# -- speculation ----------------------------------------------------------------------------------------------------------


def test_a_speculative_walk_fills_without_an_access_and_says_so() -> None:
    made = state()
    map_page(made)
    assert walked(made, A, walker=1) == (FILLED, [3, 2, 1, 0])
    assert told(made, ev.TlbFill)[0].speculative
    assert all(read.speculative for read in told(made, ev.WalkRead))
    assert not made.read(entry(PTE, index(A, Level.PTE))) & DIRTY
    assert not Speculate(0, A).ready(made)  # nothing to gain any more


def test_no_speculation_without_user_tables() -> None:
    made = state()
    made.write(cr3(0), Cr3("", 0, 1))
    assert not Speculate(0, A).ready(made)


def test_the_number_of_speculative_fills_is_bounded() -> None:
    made = state()

    async def flusher() -> None:
        for _ in range(100):
            await FlushAsid(0)

    host_direct.run(hosted(made, Random(1), speculative_walker(0, (A, NEXT_2M), 3), flusher()))
    assert 0 < len([r for r in told(made, ev.WalkRead) if r.level == Level.PGD]) <= 3


def test_a_lazy_cpu_fills_speculatively() -> None:
    """The kernel thread makes no access; the borrowed tables are walked all the same."""
    source = text(
        "write A = 1",
        "",
        machine='speculate = { cpu1 = ["A+0x3000"] }',
        rest='[cpu.1]\nstate = "lazy"\n',
        vmas=vma(populate={"A+0x3000": 7}),
    )
    fills = [e for seed in range(20) for e in events(run(source, seed), ev.TlbFill, cpu=1, speculative=True)]
    assert fills
    assert {e.va for e in fills} == {A + 0x3000}


def test_a_speculating_cpu_need_not_speculate() -> None:
    source = text("write A = 1", machine='speculate = { cpu0 = ["A+0x3000"] }', vmas=vma(populate={"A+0x3000": 7}))
    counts = {len(events(run(source, seed), ev.TlbFill, speculative=True)) for seed in range(30)}
    assert counts == {0, 1}
