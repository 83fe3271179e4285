"""What Linux does: RCU by preemption model, VMA locks against munmap, reclaim's paths, the switching of address spaces."""

from __future__ import annotations

from typing import Any

import pytest
from small_cases import CASES, FEW
from small_machines import A, events, hazards, machine, registers, run, steps_of, text, vma

from ptactors.config import Preemption, resolve
from ptactors.engine import host_direct
from ptactors.hardware.interrupt import in_irq, irqs_off
from ptactors.hardware.tlb import cr3
from ptactors.kernel.lock import preempt, rcu_depth
from ptactors.kernel.rcu import (
    IDLE,
    KERNEL,
    USER,
    CallRcuFree,
    CondResched,
    ContextSwitch,
    GpEnd,
    GpStart,
    InvokeCallback,
    QuiescentState,
    gp,
    mode,
)
from ptactors.model import event as ev
from ptactors.model.state import State

NONE, VOLUNTARY, FULL, LAZY = Preemption.NONE, Preemption.VOLUNTARY, Preemption.FULL, Preemption.LAZY


def pin(*order: str) -> str:
    return "[pin]\norder = [" + ", ".join(f'"{each}"' for each in order) + "]\n"


# -- RCU ------------------------------------------------------------------------------------------------------------------


def in_grace_period(model: Preemption, where: str = KERNEL, **context: int | bool) -> State:
    """CPU 0 owes a quiescent state; ``context`` says what it is in the middle of."""
    made = State(resolve(preemption=model))
    CallRcuFree(1, (), ()).apply(made)
    GpStart(2).apply(made)
    made.write(mode(0), where)
    for name, value in context.items():
        cell: Any = {"rcu": rcu_depth(0), "preempt": preempt(0), "irqs_off": irqs_off(0), "in_irq": in_irq(0)}[name]
        made.write(cell, value)
    return made


def owes(made: State) -> bool:
    return bool(made.read(gp()).waiting & 1)


@pytest.mark.parametrize(
    ("model", "where", "context", "seen"),
    [
        *[(model, where, {}, True) for model in Preemption for where in (USER, IDLE)],
        *[(model, USER, {"in_irq": True}, False) for model in Preemption],
        (NONE, KERNEL, {}, False),  # no PREEMPT_COUNT: the tick cannot tell
        (VOLUNTARY, KERNEL, {}, False),
        (FULL, KERNEL, {}, True),
        (LAZY, KERNEL, {}, True),
        *[(model, KERNEL, {"rcu": 1}, False) for model in Preemption],
        *[(model, KERNEL, {"preempt": 1}, False) for model in Preemption],
        *[(model, KERNEL, {"irqs_off": True}, False) for model in Preemption],
    ],
)
def test_where_the_tick_sees_a_quiescent_state(model: Preemption, where: str, context: dict[str, Any], seen: bool) -> None:
    assert QuiescentState(0).ready(in_grace_period(model, where, **context)) == seen


@pytest.mark.parametrize(("model", "reported"), [(NONE, True), (VOLUNTARY, True), (FULL, False), (LAZY, False)])
def test_cond_resched_reports_only_without_preemption(model: Preemption, reported: bool) -> None:
    made = in_grace_period(model)
    CondResched(0).apply(made)
    assert owes(made) != reported


@pytest.mark.parametrize("model", Preemption)
@pytest.mark.parametrize(("depth", "reported"), [(0, True), (1, False)])
def test_a_context_switch_reports_outside_of_readers(model: Preemption, depth: int, reported: bool) -> None:
    made = in_grace_period(model, rcu=depth)
    ContextSwitch(0).apply(made)
    assert owes(made) != reported


def test_a_grace_period_that_has_begun_does_not_count_for_who_comes_later() -> None:
    made = State(resolve())
    CallRcuFree(0, (5,), ()).apply(made)
    GpStart(2).apply(made)
    CallRcuFree(1, (6,), ()).apply(made)
    for cpu in (0, 1):
        QuiescentState(cpu).apply(made)
    GpEnd().apply(made)
    assert InvokeCallback(0, False).ready(made)
    assert not InvokeCallback(1, False).ready(made)
    assert GpStart(2).ready(made)  # the later one is still needed


@pytest.mark.parametrize("model", Preemption)
def test_no_grace_period_ends_inside_a_reader_that_was_there_when_it_began(model: Preemption) -> None:
    """The promise of RCU, held against whole runs: walkers with interrupts on, off, and holders of spinlocks."""
    source = CASES["walkers"]
    periods = 0
    for seed in range(25):
        done = run(source, seed, strategy="run-length", preemption=model)
        begun: dict[int, int] = {}
        readers: dict[int, dict[str, int]] = {}
        for step, _, event in done.records or ():
            if type(event) is ev.RcuLock and event.depth == 1:
                readers.setdefault(event.cpu, {})["rcu"] = step
            elif type(event) is ev.RcuUnlock and event.depth == 0:
                readers[event.cpu].pop("rcu")
            elif type(event) is ev.IrqsOff:
                readers.setdefault(event.cpu, {})["irq"] = step
            elif type(event) is ev.IrqsOn:
                readers[event.cpu].pop("irq", None)
            elif type(event) is ev.RcuGpStart:
                begun[event.seq] = step
            elif type(event) is ev.RcuGpEnd:
                periods += 1
                for held in readers.values():
                    assert all(since > begun[event.seq] for since in held.values())
    assert periods > 10


@pytest.mark.parametrize(("model", "waits"), [("none", True), ("full", False)])
def test_a_long_zap_delays_grace_periods_by_preemption_model(model: str, waits: bool) -> None:
    """On NONE nothing but cond_resched lets the CPU in the kernel pass; with preemption the tick does, between two locks."""
    whys = {
        e.why
        for seed in range(20)
        for e in events(run(CASES["race-fail"], seed, preset="v6.14", preemption=model, table_free="synchronize-rcu"), ev.RcuQs)
    }
    assert ("kernel" in whys) != waits
    assert "user" in whys


# -- VMA locks and munmap -------------------------------------------------------------------------------------------------

UNMAP = ("M: munmap A", "R: read A+0x3000 -> r")


def test_a_fault_does_not_get_the_lock_of_a_vma_that_is_write_locked() -> None:
    done = run(text(*UNMAP, rest=pin("cpu1:R.rcu_read_lock", "cpu0:M.vma_start_write", "cpu1:R.vma_start_read"), vmas=vma()))
    assert [e.cls for e in events(done, ev.LockFail, cpu=1)] == ["vma"]
    assert registers(done)["cpu1:r"] == "SIGSEGV"
    assert hazards(done) == []


def test_munmap_waits_for_a_fault_that_has_the_vma_lock() -> None:
    order = pin("cpu1:R.vma_start_read", "cpu0:M.vma_readers", "cpu1:R.pte_set", "cpu0:M.vma_start_write")
    done = run(text(*UNMAP, rest=order, vmas=vma()))
    released = steps_of(done, ev.LockRelease, cpu=1, cls="vma")[0]
    stored = next(i + 1 for i, (actor, _, name) in enumerate(done.schedule.turns) if (actor, name) == ("cpu0", "vma_start_write"))
    assert released < stored
    assert hazards(done) == []


@pytest.mark.parametrize("preset", ["before", "v6.14"])
@pytest.mark.parametrize("per_vma_lock", [True, False])
def test_an_access_that_races_with_munmap_gets_the_page_or_a_signal(preset: str, per_vma_lock: bool) -> None:
    results = set()
    for seed in range(60):
        done = run(text(*UNMAP), seed, preset=preset, strategy="run-length", record=False, per_vma_lock=per_vma_lock)
        results.add(registers(done)["cpu1:r"])
        assert hazards(done) == []
        assert done.status == "complete"
    assert results == {"old", "SIGSEGV"}


def test_munmap_of_the_middle_leaves_two_pieces() -> None:
    done = run(
        text(
            (
                "munmap A+0x4000 4K",
                "read A+0x3000 -> before",
                "read A+0x4000 -> middle",
                "write A+0x5000 = 6",
                "read A+0x5000 -> after",
            ),
            vmas=vma(populate=FEW),
        )
    )
    assert registers(done) | {"cpu0:before": "v3", "cpu0:middle": "SIGSEGV", "cpu0:after": 6} == registers(done)


def test_munmap_keeps_the_tables_that_neighbours_need() -> None:
    """The hole's 2 MiB are shared with what is left of the VMA on both sides."""
    source = text("munmap A+0x4000 4K", vmas=vma(populate=FEW))
    assert run(source).metrics["VmPTE_kB_end"] == 12
    assert run(text("munmap A", vmas=vma(populate=FEW))).metrics["VmPTE_kB_end"] == 0


# -- madvise --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "vmas", "ret"),
    [
        ("madvise A DONTNEED", vma(), 0),
        ("madvise A DONTNEED", vma(locked=True), -22),
    ],
)
def test_what_madvise_returns(program: str, vmas: str, ret: int) -> None:
    done = run(text(program, vmas=vmas))
    assert [e.ret for e in events(done, ev.SyscallExit, call="madvise")] == [ret]


def test_madvise_over_a_hole_says_enomem_and_zaps_the_rest() -> None:
    source = text(("munmap A+4K 4K", "Z: madvise A 16K DONTNEED", "read A+12K -> r"), vmas=vma(populate={"A": 1, "A+12K": 2}))
    done = run(source)
    assert [e.ret for e in events(done, ev.SyscallExit, call="madvise")] == [-12]
    assert registers(done)["cpu0:r"] == 0


def test_dontneed_makes_memory_zero() -> None:
    for preset in ("before", "rfc-v1", "v6.14"):
        done = run(text(("read A+0x3000 -> r0", "madvise A DONTNEED", "read A+0x3000 -> r1", "write A = 1")), preset=preset)
        assert registers(done) == {"cpu0:r0": "old", "cpu0:r1": 0, "mem[A+0x3000]": 0, "mem[A+0x0]": 1}


# -- the ways of reclaim --------------------------------------------------------------------------------------------------


def functions(done: Any) -> str:
    return "\n".join(done.functions.values())


def test_the_fast_path_does_not_look_at_the_table() -> None:
    done = run(text("madvise A DONTNEED"), preset="v6.14")
    assert "try_get_and_clear_pmd" in functions(done)
    assert "try_to_free_pte" not in functions(done)


def test_a_reschedule_in_mid_table_makes_it_look_again() -> None:
    source = text("Z: madvise A DONTNEED", vmas=vma(populate=FEW), rest='[fault]\nneed_resched = ["cpu0:Z after 2"]\n')
    done = run(source, preset="v6.14")
    assert "try_to_free_pte" in functions(done)
    assert "try_get_and_clear_pmd" not in functions(done)
    assert len(events(done, ev.GatherTable)) >= 1


def test_without_the_fix_a_table_that_was_filled_meanwhile_is_freed() -> None:
    """v6.14-rc1: the pte lock was dropped in mid-table, somebody mapped a page behind, the fast path frees it all the same."""
    source = text(
        "Z: madvise A DONTNEED", "W: write A+0x1000 = 7", vmas=vma(populate=FEW),
        rest='[fault]\nneed_resched = ["cpu0:Z after 2"]\n' + pin("cpu0:Z.need_resched", "cpu0:Z.pte_unmap", "cpu1:W.end"),
    )  # fmt: skip
    assert "nonempty_pte_page_freed" in hazards(run(source, preset="v6.14-rc1"))
    fixed = run(source, preset="v6.14")
    assert "nonempty_pte_page_freed" not in hazards(fixed)
    assert registers(fixed)["mem[A+0x1000]"] == 7


@pytest.mark.parametrize(
    ("vmas", "knob"),
    [
        (vma(kind="file-private", tables=["A"]), "filter_private_file_write"),
        (vma(huge="hugepage", tables=["A"]), "filter_vm_hugepage"),
        (vma(uffd_wp=True, tables=["A"]), "filter_uffd_wp"),
    ],
)
def test_the_filters_of_the_series_keep_tables(vmas: str, knob: str) -> None:
    source = text("madvise A DONTNEED", vmas=vmas)
    assert run(source, preset="rfc-v1").metrics["VmPTE_kB_end"] == 12
    assert run(source, preset="rfc-v1", **{knob: False}).metrics["VmPTE_kB_end"] == 8
    assert run(source, preset="v6.14").metrics["VmPTE_kB_end"] == 8  # what was merged has none of them


@pytest.mark.parametrize("entry", ["guard", "marker-uffd-wp"])
def test_an_entry_that_stays_vetoes_reclaim(entry: str) -> None:
    kind = {"kind": "file-private", "uffd_wp": True} if entry == "marker-uffd-wp" else {}
    done = run(text("madvise A DONTNEED", vmas=vma(entries={"A+0x3000": entry}, **kind)), preset="v6.14")
    assert done.metrics["VmPTE_kB_end"] == 12
    assert hazards(done) == []


# -- switching of address spaces ------------------------------------------------------------------------------------------

TWO = "[process.P1]\n[process.P2]\n" + vma(process="P1", populate={"A+0x3000": "old"}) + vma("C", A + (1 << 30), process="P2")


def test_each_process_has_an_asid_of_its_own_and_keeps_its_translations() -> None:
    program = ("read A+0x3000 -> r0", "switch P2", "write C = 1", "switch P1", "read A+0x3000 -> r1")
    done = run(text(program, vmas=TWO))
    writes = events(done, ev.Cr3Write, cpu=0)
    assert len({e.asid for e in writes[:3]}) == 2
    assert writes[2].noflush
    assert len(events(done, ev.TlbFill, va=A + 0x3000)) == 1


def test_who_was_away_during_a_flush_catches_up_on_its_return() -> None:
    order = pin("cpu0:R.end", "cpu0:S.end", "cpu1:Z.end")
    program = ("R: read A+0x3000 -> r0", "S: switch P2", "switch P1", "read A+0x3000 -> r1")
    for left_mask in ("clear", "keep"):
        done = run(text(program, "Z: madvise A DONTNEED", vmas=TWO, rest=order), left_mask=left_mask)
        assert registers(done)["cpu0:r1"] == 0
        assert hazards(done) == []
        back = list(events(done, ev.Cr3Write, cpu=0, mm="P1"))[-1]
        assert not back.noflush


def test_a_lazy_cpu_flushes_when_it_comes_back() -> None:
    order = pin("cpu0:R.end", "cpu0:S.end", "cpu1:Z.end")
    program = ("R: read A+0x3000 -> r0", "S: switch kthread", "switch P", "read A+0x3000 -> r1")
    done = run(text(program, "Z: madvise A+0x3000 4K DONTNEED", rest=order))
    assert registers(done)["cpu0:r1"] == 0
    assert done.metrics["ipis"] == 0
    assert hazards(done) == []


def test_without_pcids_a_switch_empties_the_tlb() -> None:
    program = ("read A+0x3000 -> r0", "switch P2", "switch P1", "read A+0x3000 -> r1")
    assert len(events(run(text(program, vmas=TWO), pcid=False), ev.TlbFill, va=A + 0x3000)) == 2


# -- the end --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["before", "before-pv", "rfc-v1", "v6.14-rc1", "v6.14"])
def test_the_last_thread_tears_the_address_space_down(preset: str) -> None:
    for seed in range(5):
        made = machine(text("write A = 1", "write A+0x4000 = 2", "read A -> r"), seed, preset=preset)
        made.state.ring = []
        host_direct.run(made.baton)
        assert made.finish().status == "complete"
        exits = [e for _, _, e in made.state.ring if type(e) is ev.ExitMm]
        assert exits == [ev.ExitMm(exits[0].cpu, "P")]
        assert not [key for key in made.state.cells if key[0] in ("rss", "pgtables", "tlb_pending")]
        assert all(made.state.read(cr3(cpu)).mm in ("", "P") for cpu in range(3))
