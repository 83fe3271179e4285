"""Counts that the real kernel has: what is flushed how, how much a gather holds, what page tables cost, who is interrupted."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from small_machines import A, events, run, steps_of, text, vma

from ptactors.hardware.memory import HUGE_PFN
from ptactors.model import event as ev
from ptactors.world import Outcome

KB = 1024
GIB = 0x7F00_0000_0000
"""Where large VMAs begin: a multiple of 1 GiB."""
RECORDED = "v6.18"
"""The kernel that the counts were recorded on, as a preset."""


def pages(count: int, *, at: str = "A", value: object = 1) -> dict[str, object]:
    """``count`` populated pages from ``at``."""
    return {f"{at} {count * 4 * KB:#x}": value}


def zapped(
    count: int, *, record: bool = False, preset: str = "before", peer: str = "", span: str = "", **knobs: object
) -> Outcome:
    """One madvise over ``count`` populated pages."""
    size = f"{-(-count // 512) * 2}M"
    source = text(
        (f"Z: madvise A {span or hex(count * 4 * KB)} DONTNEED",),
        *([peer] if peer else []),
        vmas=vma(size=size, populate=pages(count)),
    )
    return run(source, preset=preset, record=record, **knobs)


# -- one by one, or all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["before", RECORDED])
@pytest.mark.parametrize(("count", "flushed"), [(1, 1), (2, 2), (33, 33), (34, -1), (512, -1)])
def test_up_to_33_pages_are_invalidated_one_by_one(count: int, flushed: int, preset: str) -> None:
    done = zapped(count, record=True, preset=preset)
    assert next(e.pages for e in events(done, ev.TlbFlush, reason="gather")) == flushed
    kinds = [e.kind for e in events(done, ev.TlbInvalidate, cpu=0) if e.kind in ("invlpg", "cr3")]
    assert kinds[: flushed if flushed > 0 else 1] == (["invlpg"] * flushed if flushed > 0 else ["cr3"])


def test_the_ceiling_is_a_knob() -> None:
    assert events(zapped(34, record=True, flush_ceiling=34), ev.TlbFlush)[0].pages == 34
    assert events(zapped(2, record=True, flush_ceiling=1), ev.TlbFlush)[0].pages == -1


def test_holes_count_too() -> None:
    """The range is what counts, from the first to the last page that was cleared."""
    source = text("madvise A DONTNEED", vmas=vma(populate={"A+4K": 1, f"A+{34 * 4}K": 2}))
    assert events(run(source, preset="before"), ev.TlbFlush)[0].pages == -1
    near = text("madvise A DONTNEED", vmas=vma(populate={"A+4K": 1, f"A+{33 * 4}K": 2}))
    assert next((e.start - A, e.end - A) for e in events(run(near, preset="before"), ev.TlbFlush)) == (4 * KB, 34 * 4 * KB)


def test_nothing_cleared_nothing_flushed() -> None:
    assert run(text("madvise A DONTNEED", vmas=vma(tables=["A"])), preset="before").metrics["flushes"] == 0


# -- how much a gather holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["before", RECORDED])
@pytest.mark.parametrize(("count", "flushes"), [(9678, 1), (9679, 2)])
def test_a_gather_holds_9678_pages(count: int, flushes: int, preset: str) -> None:
    """7 on the stack and 19 batches of 509 more: one slot of each batch is kept for an entry that needs two."""
    done = zapped(count, preset=preset)
    assert done.metrics["flushes"] == flushes
    assert done.findings == ()


@pytest.mark.parametrize("preset", ["before", RECORDED])
@pytest.mark.parametrize(("count", "batches"), [(6, 0), (7, 1), (515, 1), (516, 2), (1024, 2), (1025, 3)])
def test_when_a_page_batch_is_allocated(count: int, batches: int, preset: str) -> None:
    """With the 7th page the first, with the 516th the second; one for tables is beside that."""
    done = zapped(count, record=True, preset=preset, exit=False)
    made = [label for _actor, _option, label in done.schedule.turns]
    assert made.count("page_batch_alloc") == batches
    tables = count // 512 if preset != "before" else 0
    assert made.count("table_batch_alloc") == min(tables, 1)
    assert len(events(done, ev.FrameAlloc, kind="batch")) == batches + min(tables, 1)


def test_without_a_batch_page_the_gather_is_full_after_7() -> None:
    source = text("madvise A DONTNEED", vmas=vma(populate=pages(20)), rest='[fault]\npage_batch_alloc = "fail"\n')
    done = run(source, preset="before")
    assert done.metrics["flushes"] == 3  # 7, 7, 6
    assert [len(e) for e in _freed_between_flushes(done)] == [7, 7, 6]


def _freed_between_flushes(done: Outcome) -> list[list[int]]:
    groups: list[list[int]] = []
    for _, _, event in done.records or ():
        if type(event) is ev.TlbFlushEnd:
            groups.append([])
        elif type(event) is ev.ProgramsDone:
            break
        elif type(event) is ev.FrameFree and event.kind == "anon":
            groups[-1].append(event.pfn)
    return groups


@pytest.mark.parametrize(("tables", "flushes"), [(1, 1), (509, 1), (510, 2), (1018, 2), (1019, 3), (2048, 5), (8192, 17)])
def test_a_table_batch_holds_509(tables: int, flushes: int) -> None:
    """Each full batch is flushed and handed to call_rcu, and so is the rest."""
    source = text("madvise A DONTNEED", vmas=vma(at=GIB, size=f"{tables * 2}M", tables=[f"A+{n * 2}M" for n in range(tables)]))
    done = run(source, preset=RECORDED, record=False)
    assert done.metrics["tables_gathered"] == tables
    assert (done.metrics["flushes"], done.metrics["rcu_calls"]) == (flushes, flushes)
    assert done.metrics["VmPTE_kB_max"] - done.metrics["VmPTE_kB_end"] == tables * 4
    assert (done.status, done.findings) == ("complete", ())


@pytest.mark.parametrize(
    ("kilobytes", "flushes"),
    [
        *((size, 1) for size in (4, 64, 128, 136, 1024, 2048, 4096, 16 << 10)),
        (64 << 10, 2),
        (256 << 10, 7),
        pytest.param(1 << 20, 28, marks=pytest.mark.full),
    ],
)
def test_flushes_of_one_madvise_over_a_populated_range(kilobytes: int, flushes: int) -> None:
    """One for each 9678 pages or part of them; the tables go along, or to a batch of their own that fills later."""
    count = kilobytes // 4
    source = text(
        f"Z: madvise A {kilobytes}K DONTNEED",
        vmas=vma(at=GIB, size=f"{max(kilobytes, 2 * KB)}K", populate=pages(count)),
        machine="max_steps = 5_000_000",
    )
    done = run(source, preset=RECORDED, record=False)
    assert done.metrics["flushes"] == flushes == -(-count // 9678)
    assert done.metrics["tables_gathered"] == kilobytes // 2048
    assert (done.status, done.findings) == ("complete", ())


def test_without_reclaim_a_populated_range_takes_as_many_flushes() -> None:
    for size, flushes in ((16, 1), (64, 2)):
        done = zapped(size << 8, preset="before")
        assert (done.metrics["flushes"], done.metrics["tables_gathered"]) == (flushes, 0)
        assert done.findings == ()


# -- what page tables cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("touched", "kilobytes"),
    [
        (("A",), 12),  # PTE, PMD and PUD page
        (("A", "A+4K"), 12),
        (("A", "A+2M"), 16),  # another PTE page
        (("A", "A+1G"), 20),  # another PTE and PMD page
        (("A", "A+2M", "A+1G", "A+1G+2M"), 28),
        (("A", "A+512G"), 24),  # nothing shared but the PGD
    ],
)
def test_what_first_touches_cost(touched: tuple[str, ...], kilobytes: int) -> None:
    source = text(
        [f"write {each.replace('512G', hex(1 << 39))} = 1" for each in touched], vmas=vma(at=0x7000_0000_0000, size="1024G")
    )
    done = run(source)
    assert done.metrics["VmPTE_kB_end"] == kilobytes
    assert events(done, ev.PgtablesBytes)[-1].value == 0  # the exit gives all of it back


def test_a_huge_page_costs_its_deposit() -> None:
    done = run(text("write A = 1", machine='thp = "always"', vmas=vma()))
    assert done.metrics["VmPTE_kB_end"] == 12


@pytest.mark.parametrize(("preset", "end"), [("before", 12), ("before-pv", 12), ("rfc-v1", 8), ("v6.14-rc1", 8), ("v6.14", 8)])
def test_madvise_gives_the_pte_page_back_with_reclaim_only(preset: str, end: int) -> None:
    for seed in range(3):
        done = run(text(("write A = 1", "madvise A DONTNEED"), vmas=vma()), seed, preset=preset)
        assert (done.metrics["VmPTE_kB_max"], done.metrics["VmPTE_kB_end"]) == (12, end)


def test_part_of_the_2m_keeps_its_table() -> None:
    for preset in ("rfc-v1", "v6.14"):
        done = run(text("madvise A+4K 0x1ff000 DONTNEED", vmas=vma(populate={"A+4K": 1})), preset=preset)
        assert done.metrics["VmPTE_kB_end"] == 12


# -- the deposited table --------------------------------------------------------------------------------------------------


def test_the_zap_of_a_huge_page_frees_the_deposit_at_once() -> None:
    """Under the pmd lock, before any flush: no walker, of hardware or software, ever knew that table."""
    for preset in ("before", "rfc-v1", "v6.14"):
        done = run(text("Z: madvise A DONTNEED", machine='thp = "always"', vmas=vma(huge_pages={"A": "big"})), preset=preset)
        freed = steps_of(done, ev.FrameFree, kind="pte")[0]
        cleared = steps_of(done, ev.EntryWrite, what="pmd_clear")[0]
        flushed = steps_of(done, ev.TlbFlush)[0]
        page = next(s for s, _, e in done.records or () if type(e) is ev.FrameFree and e.pfn >= HUGE_PFN)
        assert cleared < freed < flushed < page
        assert done.metrics["rcu_calls"] == 0
        assert done.metrics["VmPTE_kB_end"] == 8


# -- who is interrupted ---------------------------------------------------------------------------------------------------

LAZY = '[cpu.1]\nstate = "lazy"\n'


def lazily(length: str, preset: str, **knobs: object) -> Outcome:
    source = text(f"Z: madvise A {length} DONTNEED", vmas=vma(size="4M", populate=pages(1024)), rest=LAZY).replace(
        "cpus = 1", "cpus = 2"
    )
    return run(source, preset=preset, **knobs)


@pytest.mark.parametrize("length", ["4K", "64K", "132K", "136K", "1M"])
@pytest.mark.parametrize("preset", ["before", "rfc-v1", "v6.14", RECORDED])
def test_a_lazy_cpu_is_not_interrupted_for_pages(preset: str, length: str) -> None:
    done = lazily(length, preset)
    assert done.metrics["flushes"] == 1
    assert done.metrics["ipis"] == 0


@pytest.mark.parametrize("length", ["2M", "4M"])
@pytest.mark.parametrize(
    ("preset", "knobs", "ipis"),
    [
        ("before", {}, 0),
        ("rfc-v1", {}, 1),
        ("v6.14", {}, 1),
        (RECORDED, {}, 1),
        (RECORDED, {"flush_lazy_on_freed_tables": False}, 0),
    ],
)
def test_a_lazy_cpu_is_interrupted_once_a_table_is_freed(
    preset: str, knobs: Mapping[str, object], ipis: int, length: str
) -> None:
    done = lazily(length, preset, **knobs)
    assert done.metrics["ipis"] == ipis
    if ipis:  # it leaves the tables altogether instead of flushing
        assert events(done, ev.Cr3Write, cpu=1)[-1].mm == ""


def test_a_cpu_that_runs_the_process_is_always_interrupted() -> None:
    for preset in ("before", "rfc-v1", "v6.14"):
        assert (
            run(text("madvise A 4K DONTNEED", "read A+8K -> r", vmas=vma(populate=pages(1))), preset=preset).metrics["ipis"] == 1
        )


@pytest.mark.parametrize(
    ("table_free", "ipis", "calls", "periods"),
    [
        ("page-batch", 1, 0, 0),  # the flush alone
        ("semi-rcu", 2, 0, 0),  # and the sync by interrupt
        ("ipi-then-rcu", 2, 1, 1),
        ("rcu", 1, 1, 1),
        ("synchronize-rcu", 1, 0, 1),
    ],
)
def test_what_one_table_costs_when_no_batch_page_can_be_had(table_free: str, ipis: int, calls: int, periods: int) -> None:
    source = text("Z: madvise A DONTNEED", "cond_resched", vmas=vma(tables=["A"]), rest='[fault]\ntable_batch_alloc = "fail"\n')
    for seed in range(5):
        done = run(source, seed, preset="v6.14", table_free=table_free)
        numbers = {name: done.metrics[name] for name in ("ipis", "rcu_calls", "grace_periods", "flushes", "tables_gathered")}
        assert numbers == {"ipis": ipis, "rcu_calls": calls, "grace_periods": periods, "flushes": 1, "tables_gathered": 1}
        how = next(e.how for e in events(done, ev.GatherTable))
        assert how == ("page batch" if table_free == "page-batch" else "single")
        assert done.findings == ()


@pytest.mark.parametrize("table_free", ["semi-rcu", "ipi-then-rcu", "rcu", "synchronize-rcu"])
def test_what_a_batch_of_tables_costs(table_free: str) -> None:
    """With a batch page all methods are the same: one callback with all tables of the batch, and the page it was."""
    source = text("Z: madvise A DONTNEED", "cond_resched", vmas=vma(size="6M", tables=["A", "A+2M", "A+4M"]))
    done = run(source, preset="v6.14", table_free=table_free)
    numbers = [done.metrics[name] for name in ("ipis", "rcu_calls", "grace_periods", "flushes")]
    assert numbers == [1, 1, 1, 1]
    programs = steps_of(done, ev.ProgramsDone)[0]
    callback = steps_of(done, ev.RcuCallback)[0]
    freed = [(e.kind, s) for s, _, e in done.records or () if type(e) is ev.FrameFree and s < programs]
    assert sorted(kind for kind, step in freed if step == callback) == ["batch", "pte", "pte", "pte"]


# -- order of things ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["before", "before-pv", "rfc-v1", "v6.14"])
@pytest.mark.parametrize("operation", ["madvise A DONTNEED", "munmap A"])
def test_pages_and_tables_are_freed_after_the_flush_only(preset: str, operation: str) -> None:
    """Of every frame that was mapped: cleared, flushed on every target, freed; in that order, whatever the schedule."""
    for seed in range(10):
        done = run(text(f"Z: {operation}", ("read A+0x3000 -> r", "write A+0x5000 = 1")), seed, preset=preset)
        cleared: dict[int, int] = {}
        flushed: list[int] = []
        for step, _, event in done.records or ():
            if type(event) is ev.ProgramsDone:
                break
            if type(event) is ev.EntryWrite and event.what in ("pte_clear", "pmd_clear") and event.old & 1:
                cleared[event.old >> 12 & (1 << 40) - 1] = step
            elif type(event) is ev.TlbFlushEnd:
                flushed.append(step)
            elif type(event) is ev.FrameFree and event.pfn in cleared:
                assert any(cleared[event.pfn] < at < step for at in flushed)
