"""VMAs: how they split and merge, what mmap, mprotect, mlock and the advices make of them, and what they return."""

from __future__ import annotations

from typing import Any

import pytest
from small_machines import A, events, hazards, machine, registers, run, text, vma

from ptactors.engine import host_direct
from ptactors.kernel.mm import Vma, anon_vma, vmas
from ptactors.kernel.mprotect import needs_flush
from ptactors.model import event as ev
from ptactors.model.paging import ACCESSED, DIRTY, PRESENT, PROTNONE, USER, WRITE, Level, make
from ptactors.model.state import State
from ptactors.world.machine import Machine

M = 1 << 20
BOTH = ("v6.1", "v6.18")
FREE = vma(size="8M", mapped=False)
"""An area in which nothing is mapped."""
THP = 'thp = "madvise"\n'


def after(*program: str, vmas: str = FREE, preset: str = "v6.18", head: str = THP, **knobs: Any) -> Machine:
    """The machine after one CPU has made the program, its process still there."""
    made = machine(text(program, vmas=vmas, machine=head), preset=preset, exit=False, **knobs)
    host_direct.run(made.baton)
    assert made.finish().status == "complete"
    assert not made.oracles.findings
    return made


def tree(made: Machine | State) -> tuple[Vma, ...]:
    state = made.state if isinstance(made, Machine) else made
    return state.read(vmas("P"))


def looks(made: Machine) -> list[str]:
    """``0-2M rw hugepage locked`` for each VMA."""
    found = []
    for each in tree(made):
        prot = "rw" if each.write else "ro" if each.read else "none"
        words = [each.huge] * (each.huge != "none") + ["locked"] * each.locked
        found.append(" ".join([f"{(each.start - A) / M:g}-{(each.end - A) / M:g}", prot, *words]))
    return found


def results(made: Machine) -> list[int | str]:
    """What the registers r0, r1 ... hold."""
    named = dict(made.finish().final)
    return [named[f"cpu0:r{n}"] for n in range(10) if f"cpu0:r{n}" in named]


MAP = "mmap A rw"
WRITTEN = (MAP, "write A = 1")
TREES: dict[str, tuple[tuple[str, ...], list[str], list[int]]] = {
    "map": ((f"{MAP} -> r0",), ["0-8 rw"], [0]),
    "two adjacent mappings are one": (("mmap A 2M rw", "mmap A+2M 2M rw"), ["0-4 rw"], []),
    "one in front as well": (("mmap A+2M 2M rw", "mmap A 2M rw"), ["0-4 rw"], []),
    "a gap filled joins three": (("mmap A 2M rw", "mmap A+4M 2M rw", "mmap A+2M 2M rw"), ["0-6 rw"], []),
    "different protections stay apart": (("mmap A 2M rw", "mmap A+2M 2M ro"), ["0-2 rw", "2-4 ro"], []),
    "a mapping over another": ((MAP, "mmap A+2M 2M ro -> r0"), ["0-2 rw", "2-4 ro", "4-8 rw"], [0]),
    "the same over itself": ((MAP, "mmap A+2M 2M rw -> r0"), ["0-8 rw"], [0]),
    "unmap the middle": ((MAP, "munmap A+2M 2M -> r0"), ["0-2 rw", "4-8 rw"], [0]),
    "unmap over a hole": ((MAP, "munmap A+2M 2M", "munmap A+1M 4M -> r0"), ["0-1 rw", "5-8 rw"], [0]),
    "unmap nothing": (("munmap A -> r0",), [], [0]),
    "lock the middle": ((MAP, "mlock A+2M 2M -> r0"), ["0-2 rw", "2-4 rw locked", "4-8 rw"], [0]),
    "lock and unlock": ((*WRITTEN, "mlock A+2M 2M", "munlock A+2M 2M -> r0"), ["0-8 rw"], [0]),
    "unlock a part": ((*WRITTEN, "mlock A+2M 2M", "munlock A+3M 1M"), ["0-2 rw", "2-3 rw locked", "3-8 rw"], []),
    "unlock from the left": ((*WRITTEN, "mlock A+2M 2M", "munlock A+2M 1M"), ["0-3 rw", "3-4 rw locked", "4-8 rw"], []),
    "lock up to a hole": (
        (MAP, "munmap A+2M 2M", "mlock A+1M 4M -> r0"),
        ["0-1 rw", "1-2 rw locked", "4-8 rw"],
        [-12],
    ),
    "lock from a hole on": ((MAP, "munmap A 2M", "mlock A 4M -> r0"), ["2-8 rw"], [-12]),
    "protect the middle": ((MAP, "mprotect A+2M 2M none -> r0"), ["0-2 rw", "2-4 none", "4-8 rw"], [0]),
    "and back": ((MAP, "write A = 1", "mprotect A+2M 2M none", "mprotect A+2M 2M rw -> r0"), ["0-8 rw"], [0]),
    "protect over two": ((MAP, "mprotect A+2M 2M ro", "mprotect A 4M none"), ["0-4 none", "4-8 rw"], []),
    "protect up to a hole": ((MAP, "munmap A+2M 2M", "mprotect A 6M ro -> r0"), ["0-2 ro", "4-8 rw"], [-12]),
    "protect from a hole on": ((MAP, "munmap A 2M", "mprotect A 4M ro -> r0"), ["2-8 rw"], [-12]),
    "protect nothing": (("mprotect A ro -> r0",), [], [-12]),
    "advise a part": ((MAP, "madvise A 2M HUGEPAGE -> r0"), ["0-2 rw hugepage", "2-8 rw"], [0]),
    "advise the other way": ((MAP, "madvise A 4M HUGEPAGE", "madvise A NOHUGEPAGE"), ["0-8 rw nohugepage"], []),
    "advise over a hole": (
        (MAP, "munmap A+2M 2M", "madvise A HUGEPAGE -> r0"),
        ["0-2 rw hugepage", "4-8 rw hugepage"],
        [-12],
    ),
    "advise in a hole": ((MAP, "munmap A+2M 4M", "madvise A+2M 4M HUGEPAGE -> r0"), ["0-2 rw", "6-8 rw"], [-12]),
    "advise nothing": (("madvise A HUGEPAGE -> r0", "madvise A DONTNEED -> r1"), [], [-12, -12]),
}


@pytest.mark.parametrize("preset", [*BOTH, "v6.14"])
@pytest.mark.parametrize("name", TREES)
def test_the_tree_after(name: str, preset: str) -> None:
    program, wanted, returned = TREES[name]
    made = after(*program, preset=preset)
    assert looks(made) == wanted
    assert results(made) == returned


# -- objects --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize(
    ("program", "names"),
    [
        ((MAP, "mlock A+2M 2M"), ["A.1", "A", "A.2"]),  # split below, then above: the middle keeps the object
        ((MAP, "mlock A 2M"), ["A", "A.1"]),
        ((MAP, "mlock A+2M 6M"), ["A.1", "A"]),
        ((MAP, "munmap A+2M 2M"), ["A.1", "A.2"]),  # what goes is the old object
        ((MAP, "munmap A", MAP), ["A.1"]),  # a name is never used twice
        ((MAP, "write A = 1", "mprotect A+2M 2M ro", "mprotect A+2M 2M rw"), ["A.1"]),  # prev swallows both
        ((MAP, "write A = 1", "mprotect A+2M 6M ro", "mprotect A+2M 2M rw"), ["A.1", "A"]),  # prev grows
        ((MAP, "write A = 1", "mprotect A 4M ro", "mprotect A+2M 2M rw"), ["A", "A.1"]),  # next grows downwards
        (("mmap A 2M rw", "mmap A+4M 2M rw", "mmap A+2M 2M rw"), ["A"]),
        (("mmap A+2M 2M rw", "mmap A 2M rw"), ["A"]),
    ],
)
def test_which_object_stays(program: tuple[str, ...], names: list[str], preset: str) -> None:
    assert [each.name for each in tree(after(*program, preset=preset))] == names


def test_pieces_share_their_anon_vma() -> None:
    made = after(MAP, "write A = 1", "mlock A+2M 2M")
    assert {made.state.read(anon_vma(each.name)) for each in tree(made)} == {"A"}


def test_neighbours_that_differ_in_permissions_share_it_from_the_first_fault_on() -> None:
    """find_mergeable_anon_vma(): so that they can be merged once their permissions are the same."""
    program = (MAP, "mprotect A+4M 4M ro", "write A = 1", "mprotect A 4M ro", "mprotect A+4M 4M rw", "write A+4M = 1")
    made = after(*program, preset="v6.1")
    assert looks(made) == ["0-4 ro", "4-8 rw"]
    assert [made.state.read(anon_vma(each.name)) for each in tree(made)] == ["A.1", "A.1"]
    assert looks(after(*program, "mprotect A 4M rw", preset="v6.1")) == ["0-8 rw"]


LOCKED = (MAP, "mlock A+2M 2M", "munlock A+2M 2M")
"""Locking fills the middle, which so gets an anon_vma that the neighbours do not have."""
SEPARATE = ("mmap A+2M 2M rw", "write A+2M = 1", "mprotect A+2M 2M none", "mmap A 2M rw", "mprotect A+2M 2M rw")
"""A VMA with an anon_vma becomes like its neighbour, which has none."""


@pytest.mark.parametrize(("preset", "merges"), [("v6.1", False), ("v6.14", False), ("v6.18", True)])
@pytest.mark.parametrize(
    ("program", "apart", "merged"),
    [(SEPARATE, ["0-2 rw", "2-4 rw"], ["0-4 rw"]), (LOCKED, ["0-2 rw", "2-4 rw", "4-8 rw"], ["0-8 rw"])],
)
def test_a_faulted_vma_is_merged_into_an_unfaulted_one_since_v6_16(
    program: tuple[str, ...], apart: list[str], merged: list[str], preset: str, merges: bool
) -> None:
    made = after(*program, preset=preset)
    assert looks(made) == (merged if merges else apart)
    assert any(made.state.read(anon_vma(each.name)) for each in tree(made))


@pytest.mark.parametrize("preset", BOTH)
def test_an_unfaulted_vma_is_merged_into_a_faulted_one(preset: str) -> None:
    program = ("mmap A 2M rw", "write A = 1", "mmap A+2M 2M none", "mprotect A+2M 2M rw")
    assert looks(after(*program, preset=preset)) == ["0-4 rw"]


@pytest.mark.parametrize("preset", BOTH)
def test_two_anon_vmas_do_not_merge(preset: str) -> None:
    """Each was faulted while a gap was between them, so each has its own; what fills the gap goes to the left one."""
    program = ("mmap A 2M rw", "write A = 1", "mmap A+4M 2M rw", "write A+4M = 1", "mmap A+2M 2M rw")
    assert looks(after(*program, preset=preset)) == ["0-4 rw", "4-6 rw"]


@pytest.mark.parametrize(("kind", "wanted"), [("hugetlb", ["0-2 rw", "2-4 rw"]), ("anon", ["0-4 rw"])])
def test_pieces_of_hugetlb_stay_apart(kind: str, wanted: list[str]) -> None:
    """VM_DONTEXPAND: what was split is not merged again."""
    assert looks(after("mprotect A 2M ro", "mprotect A 2M rw", vmas=vma(size="4M", kind=kind))) == wanted


@pytest.mark.parametrize(("preset", "wanted"), [("v6.1", ["0-2 ro", "2-8 ro"]), ("v6.18", ["0-8 ro"])])
def test_accounting_keeps_vmas_apart(preset: str, wanted: list[str]) -> None:
    """Memory made writable is accounted; since v6.7 mprotect gives that up where nothing was written."""
    assert looks(after("mmap A 2M rw", "mmap A+2M 6M ro", "mprotect A 2M ro", preset=preset)) == wanted


# -- huge pages -----------------------------------------------------------------------------------------------------------

HUGE = vma(size="4M", huge_pages={"A": 7}, huge="hugepage")


@pytest.mark.parametrize(
    ("program", "level"),
    [
        ("mlock A 1M", "4k"),
        ("mlock A 2M", "2m"),
        ("mprotect A+1M 2M ro", "4k"),
        ("mprotect A 2M ro", "2m"),
        ("madvise A+4K 8K NOHUGEPAGE", "4k"),
        ("madvise A 2M NOHUGEPAGE", "2m"),
        ("munmap A+1M 2M", "4k"),
        ("mprotect A+2M 1M ro", "2m"),  # no huge page lies there
    ],
)
@pytest.mark.parametrize("preset", BOTH)
def test_a_vma_boundary_splits_a_huge_page_across_it(program: str, level: str, preset: str) -> None:
    made = after(program, vmas=HUGE, preset=preset)
    assert made.facts.table(A)[0] == level
    assert made.facts.memory(A) == 7


@pytest.mark.parametrize("preset", BOTH)
def test_a_huge_page_changes_its_protection_whole_and_from_6_2_is_writable_again_at_once(preset: str) -> None:
    program = ("mprotect A 2M ro", "write A = 8", "mprotect A 2M none", "read A -> r0", "mprotect A 2M rw", "W: write A = 9")
    done = run(text(program, vmas=HUGE, machine=THP), preset=preset)
    assert not hazards(done)
    assert registers(done)["cpu0:r0"] == "SIGSEGV"
    assert registers(done)["mem[A+0x0]"] == 9
    assert not events(done, ev.EntryWrite, what="pmd_populate")  # never split
    assert len(events(done, ev.PageFault, label="W")) == (preset == "v6.1")


# -- mprotect's entries ---------------------------------------------------------------------------------------------------

RW, RO, NONE = PRESENT | USER | WRITE | ACCESSED, PRESENT | USER | ACCESSED, PROTNONE | ACCESSED


@pytest.mark.parametrize(
    ("old", "new", "flush"),
    [
        (RW, RO, True),
        (RO, RW, True),  # pte_needs_flush() asks for a change, not for its direction
        (RW, NONE, True),
        (RO, NONE, True),
        (NONE, RW, False),
        (NONE, RO, False),
        (RW, RW, False),
        (RW | DIRTY, RW | DIRTY, False),
        (RW | DIRTY, RW, True),
        (RO, RO & ~ACCESSED, False),
    ],
)
def test_when_a_changed_entry_needs_a_flush(old: int, new: int, flush: bool) -> None:
    assert needs_flush(make(5, old), make(5, new)) == flush
    assert needs_flush(make(5, old), make(6, new)) == bool(old & PRESENT)


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize(
    ("program", "flushes"),
    [
        (("mprotect A ro",), 1),
        (("mprotect A none",), 1),
        (("mprotect A none", "mprotect A rw"), 1),
        (("mprotect A ro", "mprotect A rw"), 2),
        (("mprotect A rw",), 0),
        (("mprotect A+4M 2M none",), 0),  # nothing is mapped there
        (("mprotect A 1M ro", "mprotect A 4M none"), 2),  # two VMAs, one flush
    ],
)
def test_flushes_of_mprotect(program: tuple[str, ...], flushes: int, preset: str) -> None:
    done = run(text(program, vmas=vma(size="8M", populate={"A": 1, "A+1M": 2, "A+2M": 3})), preset=preset, exit=False)
    assert len(events(done, ev.TlbFlush, reason="gather")) == flushes
    assert not any(each.freed_tables for each in events(done, ev.TlbFlush))


def test_only_pages_of_ones_own_become_writable_at_once() -> None:
    done = run(
        text(("mprotect A ro", "mprotect A rw", "Z: write A = 1", "W: write A+4K = 2"), vmas=vma(
            populate={"A+4K": 1}, entries={"A": "zero"})), preset="v6.18"
    )  # fmt: skip
    assert [e.address for e in events(done, ev.PageFault)] == [A]
    assert not hazards(done)


def test_prot_none_keeps_the_page_and_a_zap_gives_it_back() -> None:
    page = vma(populate={"A": 1})
    done = run(text(("mprotect A none", "read A -> r", "madvise A DONTNEED", "mprotect A rw", "read A -> s"), vmas=page))
    assert not hazards(done)
    assert registers(done) == {"cpu0:r": "SIGSEGV", "cpu0:s": 0, "mem[A+0x0]": 0}
    assert next(e for e in events(done, ev.EntryWrite, level=int(Level.PTE)) if e.new & PROTNONE).new & ~0xFFF


def test_pages_of_a_vma_that_begins_as_prot_none() -> None:
    done = run(text(("read A -> r", "mprotect A ro", "read A -> s", "write A = 2"), vmas=vma(populate={"A": 1}, prot="none")))
    assert not hazards(done)
    assert registers(done) == {"cpu0:r": "SIGSEGV", "cpu0:s": 1, "mem[A+0x0]": 1}


@pytest.mark.parametrize("preset", ["v6.1", "v6.14", "v6.18"])
@pytest.mark.parametrize("prot", ["ro", "none"])
def test_once_mprotect_has_returned_nobody_writes(prot: str, preset: str) -> None:
    """Both CPUs have the page in their TLBs; a store after the call is refused, one that races with it may be either."""
    racing = text(
        (f"P: mprotect A {prot}",),
        ("write A = 2", "wait cpu0:P", "write A = 3"),
        vmas=vma(populate={"A": 1}),
    )
    seen = set()
    for seed in range(40):
        done = run(racing, seed, preset=preset, strategy="run-length", record=False)
        assert not hazards(done)
        seen.add(registers(done)["mem[A+0x0]"])
    assert seen == {1, 2}


@pytest.mark.parametrize(("flush", "stored"), [(True, 1), (False, 3)])
def test_without_the_flush_a_store_gets_through(flush: bool, stored: int) -> None:
    """Why it is there: CPU 1's TLB knows the page as writable."""
    program = text(("mprotect A ro",), ("wait cpu0:mprotect1", "write A = 3"), vmas=vma(populate={"A": 1}))
    done = run(program.replace("[cpu.1]", "[cpu.1]\ntlb = ['A']"), preset="v6.18", record=False, pending_flush=flush)
    assert registers(done)["mem[A+0x0]"] == stored


# -- advices --------------------------------------------------------------------------------------------------------------

TWO = ("mmap A 2M rw", "mmap A+2M 2M ro", "write A = 1", "read A+2M -> r0")


@pytest.mark.parametrize(("preset", "flushes"), [("v6.1", 2), ("v6.14", 2), ("v6.18", 1)])
def test_one_gather_for_all_vmas_since_v6_16(preset: str, flushes: int) -> None:
    done = run(text((*TWO, "madvise A 4M DONTNEED -> r1"), vmas=FREE), preset=preset, exit=False)
    assert registers(done)["cpu0:r1"] == 0
    assert len(events(done, ev.TlbFlush, reason="gather")) == flushes
    assert len(events(done, ev.GatherBegin)) == flushes


@pytest.mark.parametrize(
    ("range_", "preset", "mmap", "vma_lock"),
    [
        ("A 2M", "v6.18", False, True),
        ("A 4M", "v6.18", True, True),
        ("A 2M", "v6.14", True, False),
        ("A 2M", "v6.1", True, False),
    ],
)
def test_dontneed_inside_one_vma_leaves_mmap_lock_alone_since_v6_17(range_: str, preset: str, mmap: bool, vma_lock: bool) -> None:
    done = run(text((*TWO, f"Z: madvise {range_} DONTNEED"), vmas=FREE), preset=preset, exit=False)
    began = next(s for s, _, e in done.records or () if type(e) is ev.OpBegin and e.label == "Z")
    taken = [e.cls for s, _, e in done.records or () if type(e) is ev.LockAcquire and s > began]
    assert ("mmap" in taken) == mmap
    assert ("vma" in taken) == vma_lock


@pytest.mark.parametrize("preset", BOTH)
def test_holes_are_passed_over_and_told_at_the_end(preset: str) -> None:
    program = (MAP, "write A = 1", "write A+6M = 1", "munmap A+2M 2M", "madvise A DONTNEED -> r0")
    made = after(*program, "read A -> r1", "read A+6M -> r2", preset=preset)
    assert results(made) == [-12, 0, 0]


@pytest.mark.parametrize("preset", BOTH)
def test_locked_memory_goes_only_by_its_own_advice(preset: str) -> None:
    program = (
        MAP,
        "mlock A+2M 2M",
        "write A+2M = 1",
        "write A = 1",
        "write A+4M = 1",
        "madvise A DONTNEED -> r0",
        "read A -> r1",
    )
    made = after(*program, "read A+4M -> r2", "madvise A+2M 2M DONTNEED_LOCKED -> r3", "read A+2M -> r4", preset=preset)
    assert results(made) == [-22, 0, 1, 0, 0]  # what lies behind the locked VMA was not reached


@pytest.mark.parametrize(("preset", "dontneed"), [("v6.1", -22), ("rfc-v1", -22), ("before", 2 * M), ("v6.18", 2 * M)])
def test_what_process_madvise_takes(preset: str, dontneed: int) -> None:
    made = after(
        MAP, "write A = 1", "process_madvise A 2M DONTNEED -> r0", "write A = 2", "process_madvise A 2M COLLAPSE -> r1",
        "munmap A", "process_madvise A 2M COLLAPSE -> r2", preset=preset,
    )  # fmt: skip
    assert results(made) == [dontneed, 2 * M, -12]


@pytest.mark.parametrize(("preset", "behind"), [("v6.1", "4k"), ("v6.18", "none")])
def test_populate_behind_a_hole(preset: str, behind: str) -> None:
    made = after(MAP, "munmap A+8K 4K", "madvise A 16K POPULATE_WRITE -> r0", preset=preset)
    assert results(made) == [-12]
    assert made.facts.table(A)[0] == "4k"
    assert made.facts.table(A + 0x3000)[0] == ("4k" if behind == "4k" else "table")


@pytest.mark.parametrize("preset", BOTH)
def test_mlock_brings_the_pages_and_says_where_it_cannot(preset: str) -> None:
    made = after("mmap A 8K rw", "mlock A 8K -> r0", "mmap A+8K 8K none", "mlock A+8K 8K -> r1", preset=preset)
    assert results(made) == [0, -12]
    assert [made.facts.table(A + offset)[0] for offset in (0, 0x1000, 0x2000)] == ["4k", "4k", "table"]
    assert all(each.locked for each in tree(made))


@pytest.mark.parametrize("preset", BOTH)
def test_locked_memory_that_becomes_writable_is_copied_ahead(preset: str) -> None:
    done = run(text(("mmap A 8K ro", "mlock A 8K", "mprotect A 8K rw", "W: write A = 1"), vmas=FREE), preset=preset)
    assert not events(done, ev.PageFault, label="W")
    assert not hazards(done)


def test_a_collapse_of_two_vmas_looks_again_after_the_first() -> None:
    made = after(MAP, "write A = 1", "write A+2M = 1", "mprotect A+2M 2M ro", "madvise A 4M COLLAPSE -> r0", "read A+2M -> r1")
    assert results(made) == [0, 1]
    assert [made.facts.table(A + offset)[0] for offset in (0, 2 * M)] == ["2m", "2m"]


# -- hugetlb --------------------------------------------------------------------------------------------------------------

HUGETLB = vma(size="4M", kind="hugetlb", huge_pages={"A": 7, "A+2M": 8})


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize(
    ("operation", "result", "left"),
    [
        ("munmap A 1M", -22, ["0-4 rw"]),
        ("mprotect A+1M 2M ro", -22, ["0-4 rw"]),
        ("mprotect A 2M ro", 0, ["0-2 ro", "2-4 rw"]),
        ("mlock A 2M", 0, ["0-4 rw"]),
        ("madvise A+1M 2M DONTNEED", -22, ["0-4 rw"]),
        ("madvise A 1M DONTNEED", 0, ["0-4 rw"]),
    ],
)
def test_hugetlb_is_cut_between_its_pages_only(operation: str, result: int, left: list[str], preset: str) -> None:
    made = after(f"{operation} -> r0", vmas=HUGETLB, preset=preset)
    assert results(made) == [result]
    assert looks(made) == left
    assert [made.facts.memory(A), made.facts.memory(A + 2 * M)] == [7, 8]


# -- the gather of older kernels ------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"gather_bundle": 2, "gather_batch": 3}


@pytest.mark.parametrize(("spare", "flushes"), [(True, 2), (False, 1)])
def test_a_slot_of_each_batch_stays_empty_since_v6_9(spare: bool, flushes: int) -> None:
    """Two and three slots: five pages fill them; with one to spare in each, three pages do."""
    source = text("madvise A DONTNEED", vmas=vma(populate={"A 20K": 1}))
    done = run(source, preset="before", gather_spare_slot=spare, gather_batch_count=1, **SMALL)
    assert len(events(done, ev.TlbFlush, reason="gather")) == flushes + 1  # the last one is of the exit


@pytest.mark.parametrize(("delayed", "batches"), [(True, 1), (False, 2)])
def test_dirty_file_pages_open_one_page_batch_since_v6_2(delayed: bool, batches: int) -> None:
    pages = {f"A+{4 * n}K": f"file-dirty:v{n}" for n in range(4)}
    source = text("madvise A DONTNEED", vmas=vma(kind="file-shared", entries=pages))
    done = run(source, preset="before", delayed_rmap=delayed, exit=False, gather_batch_count=2, **SMALL)
    assert len(events(done, ev.FrameAlloc, kind="batch")) == batches
