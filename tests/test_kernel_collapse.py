"""MADV_COLLAPSE: what it makes of 2 MiB, in which order, what it refuses, and its races with whoever uses the memory."""

from __future__ import annotations

from typing import Any

import pytest
from small_machines import A, events, hazards, registers, run, steps_of, text, vma

from ptactors.errors import ReplayDivergence
from ptactors.kernel.collapse import ClearEntries, Scan, ScanPages, madvise_collapse_errno
from ptactors.model import event as ev
from ptactors.model.paging import HUGE, Level
from ptactors.model.state import State
from ptactors.world import Outcome

FEW = {f"A+{n:#x}000": f"v{n}" for n in (0, 3, 4, 5)}
SOME = vma(populate=FEW)
C = "madvise A COLLAPSE"
ANY_PERMISSION: dict[str, Any] = {"collapse_needs_writable": False}
"""As from v6.18 on."""
PRESETS = ("v6.1", "before", "before-pv", "rfc-v1", "v6.14", "v6.18")
WINDOWS = ("two_translations_one_va", "two_pte_pages", "mixed_page_size_tlb")
"""What a program that races MADV_DONTNEED with its own accesses brings upon itself."""


def returned(done: Outcome, advice: str = "COLLAPSE") -> list[int]:
    """What each madvise of that advice returned, in order."""
    labels = [(e.cpu, e.label) for e in events(done, ev.SyscallEnter, arg=advice)]
    return [e.ret for e in events(done, ev.SyscallExit) if (e.cpu, e.label) in labels]


def level(done: Outcome) -> str:
    """How the last write of a pmd before the exit left it: huge, table or none."""
    over = steps_of(done, ev.ProgramsDone)[0]
    written = [e.new for s, _, e in done.records or () if type(e) is ev.EntryWrite and e.level == Level.PMD and s <= over]
    return "none" if not written or not written[-1] else "huge" if written[-1] & HUGE else "table"


def pin(*order: str) -> str:
    return "[pin]\norder = [" + ", ".join(f'"{each}"' for each in order) + "]\n"


# -- one CPU --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "vmas", "knobs", "expected"),
    [
        pytest.param((C,), SOME, {}, [0], id="some-pages"),
        pytest.param((C, C), SOME, {}, [0, 0], id="huge-already"),
        pytest.param((C,), vma(), {}, [-22], id="no-table"),
        pytest.param((C,), vma(tables=["A"]), {}, [-22], id="empty-table"),
        pytest.param((C,), vma(tables=["A"]), ANY_PERMISSION, [0], id="empty-table-6.18"),
        pytest.param(("read A -> r", C), vma(), {}, [-22], id="zero-pages-only"),
        pytest.param(("read A -> r", "write A+4K = 1", C), vma(), {}, [0], id="zero-page-and-one"),
        pytest.param((C,), vma(populate=FEW, writable=False), {}, [-22], id="read-only"),
        pytest.param((C,), vma(populate=FEW, writable=False), ANY_PERMISSION, [0], id="read-only-6.18"),
        pytest.param((C,), vma(populate=FEW, huge="nohugepage"), {}, [-22], id="nohugepage"),
        pytest.param((C,), vma(populate=FEW, size="1M"), {}, [-22], id="vma-too-small"),
        pytest.param((C,), vma(populate=FEW, anon_prepared=False), {}, [-22], id="no-anon-vma"),
        pytest.param((C,), vma(populate=FEW, entries={"A+8K": "swap"}), {}, [-22], id="swapped-page"),
        pytest.param((C,), vma(populate=FEW, uffd_wp=True), {}, [-16], id="userfaultfd"),
        pytest.param((C,), vma(kind="memfd", entries={"A": "file:1"}), {}, [-22], id="not-anonymous"),
        pytest.param(
            ("madvise A+4K 4092K COLLAPSE",), vma(size="4M", populate={"A": 1}), {}, [-22], id="nothing-in-aligned-part"
        ),
        pytest.param(("madvise A+4K 4092K COLLAPSE",), vma(size="4M", populate={"A+2M": 1}), {}, [0], id="aligned-part"),
        pytest.param(("madvise A+4K 2M COLLAPSE",), vma(size="4M", populate=FEW), {}, [0], id="no-aligned-part"),
        pytest.param(("madvise A+4K 4K COLLAPSE",), vma(size="4M", populate=FEW), {}, [-22], id="inside-one-pmd"),
        pytest.param(("madvise A 4M COLLAPSE",), vma(size="4M", populate={**FEW, "A+2M": 1}), {}, [0], id="two"),
        pytest.param(("madvise A 4M COLLAPSE",), vma(size="4M", populate=FEW), {}, [-22], id="second-empty"),
        pytest.param(("madvise A 4M COLLAPSE",), vma(size="4M", populate={"A+2M": 1}), {}, [-22], id="first-empty"),
    ],
)
def test_what_a_collapse_returns(program: tuple[str, ...], vmas: str, knobs: dict[str, Any], expected: list[int]) -> None:
    done = run(text(program, vmas=vmas), preset="v6.14", **knobs)
    assert returned(done) == expected
    assert hazards(done) == []


@pytest.mark.parametrize(
    ("result", "errno"), [(Scan.PAGE_COUNT, -11), (Scan.EXCEED_NONE_PTE, -16), (Scan.PMD_NONE, -22), (Scan.FAIL, -22)]
)
def test_what_is_said_of_a_failure(result: Scan, errno: int) -> None:
    assert madvise_collapse_errno(result) == errno


def test_an_empty_pmd_ends_the_call_and_a_missing_pmd_page_does_not() -> None:
    """SCAN_PMD_NONE is not among the failures after which madvise_collapse() goes on; SCAN_PMD_NULL is."""
    done = run(text("madvise A 4M COLLAPSE", vmas=vma(size="4M", populate={"A+2M": "w"})), preset="v6.14")
    assert events(done, ev.CollapseCopy) == []
    edge = (A >> 30 << 30) + (1 << 30) - (2 << 20)  # its second 2 MiB begin the next 1 GiB
    done = run(text("madvise B 4M COLLAPSE", vmas=vma("B", edge, size="4M", populate={"B+2M": "w"})), preset="v6.14")
    assert (returned(done), len(events(done, ev.CollapseCopy))) == ([-22], 1)


def test_the_content_the_counters_and_the_tables_come_out_right() -> None:
    program = ("read A+0x9000 -> z", C, "read A+0x3000 -> r", "read A+0x9000 -> n", "read A+0xa000 -> o", "write A = 7")
    done = run(text(program, vmas=SOME), preset="v6.14")
    assert registers(done) | {"cpu0:r": "v3", "cpu0:n": 0, "cpu0:o": 0, "mem[A+0x0]": 7} == registers(done)
    assert level(done) == "huge"
    assert done.metrics["VmPTE_kB_end"] == 12
    assert [e.value for e in events(done, ev.Rss, kind="anon", delta=512 - 4)] == [512]
    assert [e.copied for e in events(done, ev.CollapseCopy)] == [4]
    assert hazards(done) == []


def test_the_order_is_the_kernels() -> None:
    """Recorded on 6.18: mmap read, drop, mmap write, VMA write, a full flush, the second interrupt, and only then the copy."""
    done = run(text(f"C: {C}", "R: read A -> r", vmas=SOME, rest=pin("cpu1:R.end", "cpu0:C.begin")), preset="v6.14")
    seen = []
    for _, _, e in done.records or ():
        if type(e) is ev.LockAcquire and e.cls == "mmap" and e.cpu == 0:
            seen.append(f"mmap {e.mode}")
        elif type(e) is ev.EntryWrite and e.cpu == 0 and e.what in ("pmd_collapse", "set_huge_pmd"):
            seen.append(e.what)
        elif type(e) is ev.TlbFlush and e.reason == "pmdp_collapse_flush":
            seen.append(f"flush {e.pages}")
        elif type(e) is ev.CsdExit and e.cpu == 1:
            seen.append(f"cpu1 did {e.func}")
        elif type(e) in (ev.CollapseCopy, ev.TableDeposit):
            seen.append(type(e).__name__)
    assert seen[: seen.index("set_huge_pmd") + 1] == [
        "mmap read", "mmap read", "mmap write", "pmd_collapse", "flush -1", "cpu1 did flush_tlb_func",
        "cpu1 did tlb_remove_table_smp_sync", "CollapseCopy", "TableDeposit", "set_huge_pmd",
    ]  # fmt: skip
    stamped = next(i for i, (actor, _, name) in enumerate(done.schedule.turns) if (actor, name) == ("cpu0", "vma_start_write"))
    assert stamped < steps_of(done, ev.EntryWrite, what="pmd_collapse")[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_after_a_collapse_the_page_can_be_split_zapped_and_collapsed_again(preset: str) -> None:
    program = (
        C, "madvise A+0x3000 4K DONTNEED", "read A+0x3000 -> hole", "read A+0x4000 -> r", "write A+0x3000 = 3",
        C, "read A+0x4000 -> s", "read A+0x3000 -> t", "madvise A DONTNEED", "read A+0x4000 -> gone",
    )  # fmt: skip
    done = run(text(program, vmas=SOME), preset=preset)
    assert returned(done) == [0, 0]
    expected: dict[str, int | str] = {"cpu0:hole": 0, "cpu0:r": "v4", "cpu0:s": "v4", "cpu0:t": 3, "cpu0:gone": 0}
    assert registers(done) | expected == registers(done)
    assert hazards(done) == []


def test_what_is_made_of_a_table_that_a_discard_left_behind() -> None:
    """Without reclaim the empty table stays; from 6.18 on a collapse makes 2 MiB of zeros of it, before that it is refused."""
    source = text(("madvise A DONTNEED", C, "read A -> r"), vmas=SOME)
    for knobs, ret, way in (({}, -22, "table"), (ANY_PERMISSION, 0, "huge")):
        done = run(source, preset="before", **knobs)
        assert (returned(done), registers(done)["cpu0:r"], level(done)) == ([ret], 0, way)


# -- races ----------------------------------------------------------------------------------------------------------------


def races(programs: tuple[Any, ...], runs: int = 24, vmas: str = SOME, machine: str = "", **knobs: Any) -> list[Outcome]:
    source = text(*programs, vmas=vmas, machine=machine)
    return [run(source, seed, strategy=("random", "run-length")[seed & 1], **knobs) for seed in range(runs)]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_discard_beside_a_collapse_wins(preset: str) -> None:
    """As real kernels were seen to behave: the collapse returns 0 or -EINVAL, and in the end every page reads zero."""
    seen = set()
    for done in races((C, ("madvise A DONTNEED", "read A -> r", "read A+0x3000 -> s")), preset=preset):
        seen.add(returned(done)[0])
        assert registers(done) | {"cpu1:r": 0, "cpu1:s": 0} == registers(done)
        assert hazards(done) == []
    assert seen == {0, -22}


WRITERS = (C, ("read A+0x3000 -> q", "write A+0x3000 = 7", "write A+0x3000 = 8", "read A+0x3000 -> r"))
NO_FLUSH: dict[str, Any] = {"collapse_flush": False, "collapse_sync_ipi": False}


def test_no_store_beside_a_collapse_is_lost() -> None:
    for done in races(WRITERS):
        assert registers(done) | {"cpu1:r": 8, "mem[A+0x3000]": 8} == registers(done)
        assert hazards(done) == []


def test_without_the_flush_stores_go_to_the_old_page() -> None:
    """cpu1 holds a writable translation of the old page and stores to it once it has been copied."""
    programs = ((f"C: {C}", "read A+0x3000 -> r"), ("W: write A+0x3000 = 7", "X: write A+0x3000 = 8"))
    order = pin("cpu1:W.end", "cpu0:C.collapse_copy", "cpu1:X.end")
    done = run(text(*programs, vmas=SOME, rest=order), **NO_FLUSH)
    assert (registers(done)["cpu0:r"], "lost_write" in hazards(done)) == (7, True)
    assert "stale_tlb_to_freed_page" in {name for done in races(WRITERS, **NO_FLUSH) for name in hazards(done)}


def test_a_pinned_page_stops_the_collapse_and_nothing_is_lost() -> None:
    """is_refcount_suitable() at the scan: -EAGAIN, and nothing has happened."""
    seen = set()
    for done in races(((C, "read A+0x3000 -> r"), "gup_fast A+0x3000 -> g"), preset="before-pv"):
        seen.add(returned(done)[0])
        assert registers(done)["cpu0:r"] == "v3"
        assert hazards(done) == []
    assert seen == {0, -11}


def test_a_page_that_is_pinned_after_the_scan_has_the_table_linked_again() -> None:
    """The pin is found at the isolation, when the pmd is clear already."""
    order = pin("cpu0:C.collapse_scan", "cpu1:G.gup_pin", "cpu0:C.collapse_scan#2", "cpu1:G.page_put")
    done = run(text((f"C: {C}", "read A+0x3000 -> r"), "G: gup_fast A+0x3000 -> g", vmas=SOME, rest=order))
    written = [e.what for e in events(done, ev.EntryWrite, level=Level.PMD, cpu=0)]
    assert (returned(done), written[:2]) == ([-11], ["pmd_collapse", "pmd_populate"])
    assert registers(done) | {"cpu0:r": "v3", "cpu1:g": "v3"} == registers(done)
    assert hazards(done) == []


def test_the_interrupt_waits_for_who_walks_without_locks() -> None:
    """2ba99c5e0881: where the flush sends no interrupt, this one keeps the table while GUP-fast is inside it."""
    programs = ((f"C: {C}", "Z: madvise A DONTNEED"), "G: gup_fast A+0x3000 -> g")
    source = text(*programs, vmas=SOME, rest=pin("cpu1:G.pte_offset_map", "cpu0:Z.end", "cpu1:G.pte_read"))
    done = run(source, pending_flush=False, collapse_sync_ipi=False)
    assert "page_table_uaf_software_walker" in hazards(done)
    with pytest.raises(ReplayDivergence, match="cpu0 cannot move"):
        run(source, pending_flush=False)
    for done in races(programs, pending_flush=False):
        assert "page_table_uaf_software_walker" not in hazards(done)


def test_without_rcu_freed_tables_there_is_no_such_interrupt() -> None:
    """tlb_remove_table_sync_one() is empty without CONFIG_MMU_GATHER_RCU_TABLE_FREE."""
    for table_free, sent in (("page-batch", 0), ("rcu", 1)):
        done = run(text(C, "cond_resched", vmas=SOME), table_free=table_free)
        assert len(events(done, ev.CsdExit, func="tlb_remove_table_smp_sync")) == sent


def test_a_lazy_cpu_may_walk_the_table_that_became_a_deposit() -> None:
    """3ef938c35035 (v6.15): flush_tlb_range() said that no tables go, so a lazy CPU kept its upper-level entries."""
    lazy = '[cpu.1]\nstate = "lazy"\npsc = ["A"]\n'
    machine = 'speculate = { cpu1 = ["A+0x9000"] }\nspeculative_fills = 60\n'
    source = text((C, "madvise A DONTNEED"), "", vmas=SOME, machine=machine, rest=lazy)
    for frees, found in ((False, {"page_table_uaf_hardware_walker"}), (True, set())):
        assert {name for seed in range(12) for name in hazards(run(source, seed, flush_range_frees_tables=frees))} == found


@pytest.mark.parametrize("unlock", [1, 2, 3])
@pytest.mark.parametrize("hole", ["A+4M 2M", "A+4100K 4K", "A 6M"])
def test_a_mapping_that_goes_while_mmap_lock_is_dropped(unlock: int, hole: str) -> None:
    """hugepage_vma_revalidate(): the VMA is looked up again each time, and must hold all of the 2 MiB still."""
    order = pin(f"cpu0:C.mmap_read_unlock#{unlock}", "cpu1:U.end")
    vmas = vma(size="6M", populate={"A": 1, "A+4M": 2})
    done = run(text("C: madvise A+4M 2M COLLAPSE", f"U: munmap {hole}", vmas=vmas, rest=order), preset="v6.14")
    assert (done.status, returned(done), hazards(done)) == ("complete", [0 if unlock == 3 else -22], [])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "programs",
    [
        pytest.param(((C, "write A = 1"), (C, "write A+4K = 2")), id="two-collapses"),
        pytest.param(((C, "madvise A+4K 8K DONTNEED"), ("write A+4K = 2", "read A -> r")), id="split-behind"),
        pytest.param((C, ("munmap A+4K 4K", "read A -> r")), id="munmap-piece"),
        pytest.param(("madvise A 4M COLLAPSE", ("munmap A", "munmap A+2M 2M")), id="munmap-all"),
        pytest.param(((C, "madvise A DONTNEED"), "walk A+0x3000 times 3 -> w"), id="walker"),
        pytest.param(("madvise A 4M COLLAPSE", ("madvise A 4M DONTNEED", "write A+2M = 1"), "read A -> r"), id="three"),
    ],
)
def test_no_alarm_and_no_leak(programs: tuple[Any, ...], preset: str) -> None:
    vmas = vma(size="4M", populate={**FEW, "A+2M": "w"})
    for done in races(programs, 4, vmas=vmas, machine='thp = "always"', preset=preset, audit=True):
        assert done.status == "complete"
        assert [name for name in hazards(done) if name not in WINDOWS] == []


# -- the oracles still see real mistakes ----------------------------------------------------------------------------------


def test_a_table_that_is_deposited_with_an_entry_in_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ClearEntries.apply

    def all_but_one(step: ClearEntries, state: State) -> tuple[int, ...]:
        place: Any = ("entry", step.table, 3)
        kept = state.read(place)
        pages = whole(step, state)
        state.write(place, kept)
        state.emit(ev.EntryWrite("pte_set", step.cpu, step.mm, Level.PTE, step.va + 0x3000, step.table, 1, 3, 0, kept))
        return pages

    monkeypatch.setattr(ClearEntries, "apply", all_but_one)
    assert "nonempty_pte_page_freed" in hazards(run(text((C, "madvise A DONTNEED"), vmas=SOME), preset="v6.14"))


def test_pages_that_are_not_counted_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing page becomes a part of the huge one, so rss grows by it."""
    whole = ScanPages.apply
    monkeypatch.setattr(ScanPages, "apply", lambda step, state: (whole(step, state)[0], 0))
    assert hazards(run(text(C, vmas=SOME), preset="v6.14")) == ["counter_mismatch"]


def test_a_check_before_the_lock_of_the_vma_links_a_table_that_is_gone() -> None:
    """linux-next, August 2025: a discard under the VMA's lock clears the pmd in between, and nothing is linked "again"."""
    order = pin("cpu1:Z.vma_start_read", "cpu0:C.vma_readers", "cpu1:Z.end")
    source = text(f"C: {C}", "Z: madvise A DONTNEED", vmas=SOME, rest=order)
    wrong = run(source, preset="v6.18", collapse_lock_then_check=False)
    assert "bogus_page_table" in hazards(wrong)
    right = run(source, preset="v6.18")
    assert (returned(right), hazards(right)) == ([-22], [])
