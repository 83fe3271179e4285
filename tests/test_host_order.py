"""The order of things inside a system call, as it was traced on real kernels (6.18.44, 60 of 60 that freed a table)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from small_machines import run, text, vma

from ptactors.model import event as ev
from ptactors.world import Outcome

PRESET = "v6.18"
SEEDS = range(12)
TWO_PAGES = vma(populate={"A": 1, "A+0x1ff000": 2})
Seen = tuple[Any, str]
"""An event with the stack of kernel functions that it was made in."""
Milestone = tuple[str, Callable[[Any], bool], str]
"""A name, what the event is like, and a function that must be on the stack."""

LAZY_PEER = '[cpu.2]\nstate = "lazy"\n'


@functools.cache
def made(source: str, seed: int) -> Outcome:
    return run(source, seed, preset=PRESET, strategy="run-length")


def of_cpu(done: Outcome, cpu: int = 0) -> list[Seen]:
    """What a CPU did in its program."""
    found = []
    for step, _, event in done.records or ():
        if type(event) is ev.ProgramsDone:
            break
        if getattr(event, "cpu", None) == cpu and step:
            found.append((event, done.functions.get(step, "")))
    return found


def is_a(kind: type, /, **fields: object) -> Callable[[Any], bool]:
    return lambda event: type(event) is kind and all(getattr(event, name) == value for name, value in fields.items())


def check(seen: list[Seen], order: list[Milestone]) -> None:
    """Each milestone's first sighting comes after that of the one before, and in the function that belongs to it."""
    before = -1
    for name, wanted, function in order:
        at = next((i for i, (event, _) in enumerate(seen) if i > before and wanted(event)), None)
        assert at is not None, f"{name} does not come after what stands before it"
        first = next(i for i, (event, _) in enumerate(seen) if wanted(event))
        assert first == at, f"{name} comes too early"
        assert function in seen[at][1].split(" <- "), (name, seen[at][1])
        before = at


# -- MADV_DONTNEED that frees a table -------------------------------------------------------------------------------------

DONTNEED: list[Milestone] = [
    ("the gather begins", is_a(ev.GatherBegin), "madvise"),
    ("the VMA's lock, for reading", is_a(ev.LockAcquire, cls="vma"), "try_vma_read_lock"),
    ("the pte lock", is_a(ev.LockAcquire, cls="pte"), "zap_pte_range"),
    ("a page is queued", is_a(ev.GatherPage), "zap_pte_range"),
    ("the pmd is cleared", is_a(ev.EntryWrite, what="pmd_clear"), "try_get_and_clear_pmd"),
    ("the pte lock is dropped", is_a(ev.LockRelease, cls="pte"), "zap_pte_range"),
    ("a page for the table batch", is_a(ev.FrameAlloc, kind="batch"), "free_pte"),
    ("the table is queued", is_a(ev.GatherTable), "free_pte"),
    ("the VMA's lock is dropped", is_a(ev.LockRelease, cls="vma"), "madvise"),
    ("the flush is decided", is_a(ev.TlbFlush, freed_tables=True), "flush_tlb_mm_range"),
    ("the interrupt is sent", is_a(ev.IpiSend), "call_function_and_wait"),
    ("this CPU flushes", is_a(ev.TlbInvalidate), "flush_tlb_func"),
    ("all have acknowledged", is_a(ev.IpiDone), "call_function_and_wait"),
    ("the flush is done", is_a(ev.TlbFlushEnd), "flush_tlb_mm_range"),
    ("call_rcu", is_a(ev.CallRcu), "_flush_tables"),
    ("a page is freed", is_a(ev.FrameFree, kind="anon"), "flush_mmu"),
    ("the gather ends", is_a(ev.GatherEnd), "finish"),
]
IDLE_USER = text("Z: madvise A DONTNEED", "cond_resched", vmas=TWO_PAGES, rest=LAZY_PEER).replace("cpus = 2", "cpus = 3")


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_a_madvise_that_frees_a_table(seed: int) -> None:
    done = made(IDLE_USER, seed)
    seen = of_cpu(done)
    check(seen, DONTNEED)
    queued = [i for i, (event, _) in enumerate(seen) if type(event) is ev.GatherPage]
    cleared = next(i for i, (event, _) in enumerate(seen) if is_a(ev.EntryWrite, what="pmd_clear")(event))
    assert len(queued) == 2
    assert max(queued) < cleared, "all pages are queued before the table is detached"
    tried = next(event for event, _ in seen if is_a(ev.LockAcquire, cls="pmd")(event))
    assert tried.mode == "try", "the pmd lock is outside the pte lock, which is held"


@pytest.mark.parametrize("seed", SEEDS)
def test_all_cpus_of_the_mm_are_interrupted_and_waited_for(seed: int) -> None:
    """No condition: the lazy one too, since a table is freed."""
    done = made(IDLE_USER, seed)
    assert [event.targets for event, _ in of_cpu(done) if type(event) is ev.IpiSend] == [(1, 2)]
    steps = {kind: [s for s, _, e in done.records or () if type(e) is kind] for kind in (ev.IpiSend, ev.CsdExit, ev.IpiDone)}
    handled = [s for s in steps[ev.CsdExit] if s < steps[ev.IpiDone][0]]
    assert len(handled) == 2
    assert steps[ev.IpiSend][0] < min(handled)


def test_the_milestones_are_told_apart() -> None:
    seen = of_cpu(made(IDLE_USER, 0))
    swapped = [*DONTNEED[:-2], DONTNEED[-1], DONTNEED[-2]]
    with pytest.raises(AssertionError, match="a page is freed"):
        check(seen, swapped)


def test_a_kernel_that_flushes_nobody_else_sends_nothing() -> None:
    done = run(IDLE_USER, preset=PRESET, pending_flush=False)
    with pytest.raises(AssertionError, match="the interrupt is sent"):
        check(of_cpu(done), DONTNEED)


# -- the second of two that race ------------------------------------------------------------------------------------------

RACING = text("Z: madvise A DONTNEED", "Y: madvise A DONTNEED", vmas=TWO_PAGES)
RACES = range(150)


@functools.cache
def seconds() -> tuple[tuple[Outcome, int], ...]:
    """Runs in which one of the two found nothing while the other was at it, each with the CPU of that one."""
    found = []
    for seed in RACES:
        done = made(RACING, seed)
        for cpu in (0, 1):
            seen = [event for event, _ in of_cpu(done, cpu)]
            ended = next(event for event in seen if type(event) is ev.GatherEnd)
            if ended.nested and not any(type(event) in (ev.GatherPage, ev.GatherTable) for event in seen):
                found.append((done, cpu))
    return tuple(found)


def test_the_second_of_two_frees_nothing_and_flushes_everything() -> None:
    assert len(seconds()) > 5
    for done, cpu in seconds():
        seen = [event for event, _ in of_cpu(done, cpu)]
        (flush,) = [event for event in seen if type(event) is ev.TlbFlush]
        assert (flush.pages, flush.freed_tables, flush.targets) == (-1, True, (1 - cpu,))
        assert not any(type(event) in (ev.CallRcu, ev.FrameFree) for event in seen)
        assert done.metrics["tables_gathered"] == 1
        assert done.findings == ()


def test_a_local_flush_is_skipped_where_the_generation_is_loaded_already() -> None:
    """The shootdown of the other had caught up with both generations."""
    skipped = 0
    for done, cpu in seconds():
        by = [function.split(" <- ") for event, function in of_cpu(done, cpu) if type(event) is ev.TlbInvalidate]
        if not any("_flush_here" in stack for stack in by):
            skipped += 1
            assert any("interrupts" in stack for stack in by), "somebody must have flushed this CPU"
    assert 0 < skipped < len(seconds())


# -- MADV_COLLAPSE --------------------------------------------------------------------------------------------------------

COLLAPSE: list[Milestone] = [
    ("mmap_lock, for reading", is_a(ev.LockAcquire, cls="mmap", mode="read"), "take_mmap_lock"),
    ("mmap_lock is dropped", is_a(ev.LockRelease, cls="mmap", mode="read"), "collapse_huge_page"),
    ("the huge page", is_a(ev.FrameAlloc, order=9), "collapse_huge_page"),
    ("mmap_lock, for writing", is_a(ev.LockAcquire, cls="mmap", mode="write"), "collapse_huge_page"),
    ("the VMA's lock, for writing", is_a(ev.MightSleep, what="vma_start_write"), "vma_start_write"),
    ("the pmd is cleared", is_a(ev.EntryWrite, what="pmd_collapse"), "pmdp_collapse_flush"),
    ("the flush", is_a(ev.TlbFlush, pages=-1), "pmdp_collapse_flush"),
    ("the flush is done", is_a(ev.TlbFlushEnd), "pmdp_collapse_flush"),
    ("the second interrupt", is_a(ev.IpiSend, func="tlb_remove_table_smp_sync"), "tlb_remove_table_sync_one"),
    ("the copy", is_a(ev.CollapseCopy), "_collapse_locked"),
    ("the small pages are freed", is_a(ev.FrameFree, kind="anon"), "_collapse_locked"),
    ("the old table is the deposit", is_a(ev.TableDeposit), "collapse_huge_page"),
    ("the huge pmd", is_a(ev.EntryWrite, what="set_huge_pmd"), "collapse_huge_page"),
    ("mmap_lock for writing is dropped", is_a(ev.LockRelease, cls="mmap", mode="write"), "collapse_huge_page"),
]
COLLAPSING = text("C: madvise A COLLAPSE -> r", "cond_resched", vmas=TWO_PAGES)


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_a_collapse(seed: int) -> None:
    done = made(COLLAPSING, seed)
    seen = of_cpu(done)
    check(seen, COLLAPSE)
    sent = [event.func for event, _ in seen if type(event) is ev.IpiSend]
    assert sent == ["flush_tlb_func", "tlb_remove_table_smp_sync"]
    assert done.findings == ()
