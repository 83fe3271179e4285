"""Small points of order and of rechecks, each as the sources of Linux have it (function and release in the docstrings)."""

from __future__ import annotations

from typing import Any

import pytest
from small_machines import A, events, hazards, registers, run, text, vma

from ptactors.model import event as ev
from ptactors.world import Outcome

PAGES = {"A": "old", "A+0x3000": "old"}


def pin(*order: str) -> str:
    return "[pin]\norder = [" + ", ".join(f'"{each}"' for each in order) + "]\n"


def returned(done: Outcome, call: str) -> list[int]:
    return [e.ret for e in events(done, ev.SyscallExit, call=call)]


# -- locks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_vma_lock", "taken"), [(True, ["vma"]), (False, ["mmap"])])
def test_a_discard_takes_mmap_lock_where_vmas_have_no_locks(per_vma_lock: bool, taken: list[str]) -> None:
    """include/linux/mmap_lock.h, v6.17: lock_vma_under_rcu() finds nothing without CONFIG_PER_VMA_LOCK."""
    done = run(text("madvise A DONTNEED"), preset="v6.18", per_vma_lock=per_vma_lock, exit=False)
    assert [e.cls for e in events(done, ev.LockAcquire) if e.cls in ("vma", "mmap")] == taken


def test_without_vma_locks_a_collapse_keeps_discards_out() -> None:
    """Nobody waits for a reader of a VMA's lock that no writer takes."""
    source = text("madvise A DONTNEED", "madvise A COLLAPSE", vmas=vma(populate=PAGES))
    for seed in range(60):
        done = run(source, seed, preset="v6.18", strategy="run-length", per_vma_lock=False)
        assert hazards(done) == []


REPLACED = ("cpu0:R.vma_lookup", "cpu1:M.end", "cpu0:R.vma_start_read")


@pytest.mark.parametrize(
    ("other", "mmap_locks", "value"),
    [
        pytest.param("M: mmap A rw", 0, 0, id="replaced"),
        pytest.param("M: munmap A", 1, "SIGSEGV", id="gone"),
        pytest.param("M: munmap A 4K", 1, "SIGSEGV", id="cut"),
    ],
)
def test_a_fault_that_finds_its_vma_detached_looks_for_it_anew(other: str, mmap_locks: int, value: Any) -> None:
    """lock_vma_under_rcu(), mm/memory.c, v6.4-6.14: retry for a detached VMA, mmap_lock only if there is none or it was cut."""
    source = text("R: read A -> r", other, vmas=vma(populate={"A+0x3000": "old"}), rest=pin(*REPLACED))
    done = run(source, preset="v6.14", exit=False, audit=True)
    assert registers(done)["cpu0:r"] == value
    assert len(events(done, ev.LockAcquire, cpu=0, cls="mmap")) == mmap_locks
    assert hazards(done) == []


# -- collapse -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param({"populate": {"A+4K": 1}, "entries": {"A+8K": "swap"}}, -16, id="missing-then-swapped"),
        pytest.param({"populate": {"A": 1, "A+8K": 1}, "entries": {"A+4K": "swap"}}, -22, id="swapped-then-missing"),
        pytest.param({"entries": {"A": "zero", "A+4K": "swap"}}, -16, id="zero-page-then-swapped"),
    ],
)
def test_the_first_entry_that_stands_in_the_way_decides_what_a_collapse_returns(entries: dict[str, Any], expected: int) -> None:
    """__collapse_huge_page_isolate(), mm/khugepaged.c, v6.1-6.18, of memory that is registered with userfaultfd."""
    done = run(text("madvise A COLLAPSE", vmas=vma(uffd_wp=True, **entries)), preset="v6.14")
    assert returned(done, "madvise") == [expected]


def test_a_pinned_page_before_a_missing_one_is_what_a_collapse_complains_of() -> None:
    """-EAGAIN for the pin, though userfaultfd would have -EBUSY for the hole behind it."""
    source = text("C: madvise A COLLAPSE", "G: gup_fast A -> g", vmas=vma(populate={"A": 1}, uffd_wp=True))
    order = pin("cpu1:G.gup_pin", "cpu0:C.end", "cpu1:G.page_put")
    assert returned(run(source + order, preset="v6.14"), "madvise") == [-11]


# -- protection, populate, split ------------------------------------------------------------------------------------------


def test_mprotect_of_hugetlb_flushes_by_its_pages() -> None:
    """flush_tlb_range(), arch/x86/include/asm/tlbflush.h: its stride is the size of a huge page, so the flush stays partial."""
    mapped = vma(kind="hugetlb", size="4M", huge_pages={"A": "one", "A+2M": "two"})
    done = run(text("mprotect A ro", vmas=mapped), preset="v6.14", exit=False)
    assert [e.pages for e in events(done, ev.TlbFlush)] == [2]


def test_mprotect_of_hugetlb_leaves_page_tables_alone() -> None:
    """hugetlb_change_protection(), mm/hugetlb.c, v6.1-6.18, changes huge pages; a table made PROT_NONE would be lost."""
    source = text(("mprotect A none", "mprotect A rw"), vmas=vma(kind="hugetlb", size="4M", huge_pages={"A": 1}, tables=["A+2M"]))
    done = run(source, preset="v6.14")
    changed = [e.va for e in events(done, ev.EntryWrite, what="set_huge_pmd", cpu=0)]
    assert (changed, hazards(done)) == ([A, A], [])


@pytest.mark.parametrize(("preset", "faults"), [("v6.1", 1), ("before", 0), ("v6.14", 0), ("v6.18", 0)])
@pytest.mark.parametrize("huge", [True, False])
def test_after_mprotect_a_huge_page_takes_a_write_fault_up_to_6_1(preset: str, faults: int, huge: bool) -> None:
    """change_huge_pmd(), mm/huge_memory.c: up to v6.1 a BUG_ON() of writable anonymous ones, then can_change_pmd_writable()."""
    mapped = vma(huge_pages={"A": "old"}) if huge else vma(populate={"A": "old"})
    done = run(text(("mprotect A ro", "mprotect A rw", "write A = 2", "read A -> r"), vmas=mapped), preset=preset)
    assert len(events(done, ev.PageFault)) == faults * huge
    assert (registers(done)["cpu0:r"], hazards(done)) == (2, [])


def test_populate_goes_on_with_small_pages_where_a_huge_one_was_split_meanwhile() -> None:
    """follow_pmd_mask(), mm/gup.c, v6.10-6.18: no longer huge under the pmd lock means follow_page_pte(), not a fault."""
    order = pin("cpu0:P.pmd_read", "cpu1:D.end", "cpu0:P.lock_pmd")
    programs = ("P: madvise A 4K POPULATE_READ", "D: madvise A+4K 4K DONTNEED")
    done = run(text(*programs, vmas=vma(huge_pages={"A": "big"}), rest=order), preset="v6.14", exit=False)
    assert len(events(done, ev.EntryWrite, what="pmd_populate", va=A)) == 1
    assert events(done, ev.FaultIn) == []


def test_a_split_takes_its_references_before_it_withdraws_the_table() -> None:
    """__split_huge_pmd_locked(), mm/huge_memory.c, v6.10-6.18; another order could not be pinned."""
    order = pin("cpu0:Z.page_get", "cpu0:Z.pte_withdraw")
    done = run(text("Z: madvise A 4K DONTNEED", vmas=vma(huge_pages={"A": "big"}), rest=order), preset="v6.14")
    assert done.status == "complete"
