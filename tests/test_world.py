"""Whole runs: both hosts, replays, pinned orders, and how a run ends."""

from __future__ import annotations

import attrs
import pytest
from small_cases import CASES, FEW, PRESETS, RACE
from small_machines import cell, events, hazards, registers, run, scenario, text, vma

from ptactors.engine.schedule import Schedule
from ptactors.errors import ReplayDivergence, UsageError
from ptactors.model import event as ev
from ptactors.world import play, play_many


def pin(*order: str) -> str:
    return "[pin]\norder = [" + ", ".join(f'"{each}"' for each in order) + "]\n"


# -- both hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_both_hosts_make_the_same_run_of_every_case(name: str) -> None:
    for seed, preset in enumerate(PRESETS):
        both = [run(CASES[name], seed, preset=preset, strategy="run-length", host=host) for host in ("trio", "direct")]
        for field in ("digest", "schedule", "records", "causes", "functions", "final", "metrics", "findings", "status", "reason"):
            assert getattr(both[0], field) == getattr(both[1], field), field


@pytest.mark.parametrize("strategy", ["random", "run-length"])
def test_both_hosts_make_the_same_run_of_thirty_seeds(strategy: str) -> None:
    made = {
        host: [
            run(CASES["race-thp-maybe"], seed, preset="rfc-v1", strategy=strategy, host=host, record=False) for seed in range(30)
        ]
        for host in ("trio", "direct")
    }
    assert [o.digest for o in made["trio"]] == [o.digest for o in made["direct"]]
    assert [o.schedule for o in made["trio"]] == [o.schedule for o in made["direct"]]
    assert len({o.digest for o in made["trio"]}) > 20


@pytest.mark.parametrize("host", ["trio", "direct"])
def test_many_runs_are_the_single_runs(host: str) -> None:
    """What the runs of one loop share (oracles) leaves no trace from one to the next."""
    made, point = scenario(CASES["race-thp"]), cell(CASES["race-thp"], "rfc-v1", flush_before_set_huge=False)
    many = list(play_many(made, point, strategy="run-length", seeds=range(40), host=host))
    single = [play(made, point, strategy="run-length", seed=seed, host="direct") for seed in range(40)]
    assert [o.digest for o in many] == [o.digest for o in single]
    assert [o.findings for o in many] == [o.findings for o in single]
    assert any(o.findings for o in many)
    assert any(not o.findings for o in many)


def test_recording_and_auditing_change_nothing() -> None:
    plain = run(CASES["race-thp"], 5, record=False)
    for keys in ({"record": True}, {"audit": True, "record": False}, {"audit": True, "record": True}):
        assert run(CASES["race-thp"], 5, **keys).digest == plain.digest


def test_an_unknown_host_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown host 'tokio'; known: trio, direct"):
        run(CASES["race"], 0, host="tokio")


# -- replay ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_replay_makes_the_same_records(name: str, tmp_path) -> None:
    first = run(CASES[name], 3, preset="rfc-v1", strategy="run-length")
    first.schedule.save(tmp_path / "x.json")
    loaded = Schedule.load(tmp_path / "x.json")
    assert loaded == first.schedule
    for host in ("direct", "trio"):
        again = run(CASES[name], 99, preset="rfc-v1", replay=loaded, host=host)
        assert again.records == first.records
        assert (again.digest, again.causes, again.functions) == (first.digest, first.causes, first.functions)
        assert again.schedule == first.schedule  # strategy and seed of the recording, too


def test_a_schedule_without_names_of_steps_can_be_replayed() -> None:
    first = run(CASES["race"], 3, record=False)
    assert {name for _, _, name in first.schedule.turns} == {""}
    assert run(CASES["race"], 0, replay=first.schedule).digest == first.digest


def tampered(schedule: Schedule, at: int, **changes: object) -> Schedule:
    turns = list(schedule.turns)
    turn = dict(zip(("actor", "alternative", "name"), turns[at], strict=True)) | changes
    turns[at] = (turn["actor"], turn["alternative"], turn["name"])
    return attrs.evolve(schedule, turns=tuple(turns))


def test_a_departing_replay_says_at_which_step_and_why() -> None:
    first = run(CASES["race"], 3)
    whole = first.schedule
    steps = len(whole.turns)
    at = next(i for i, turn in enumerate(whole.turns) if turn[2] == "pte_clear")
    cases = [
        (tampered(whole, at, name="pmd_clear"), at + 1, "cpu0 was recorded to make pmd_clear, here it offers pte_clear"),
        (tampered(whole, at, actor="rcuc1"), at + 1, "rcuc1 was recorded to make pte_clear, but it cannot move; able to move: "),
        (tampered(whole, at, alternative=7), at + 1, "cpu0 was recorded to make pte_clear, but it cannot move"),
        (attrs.evolve(whole, turns=whole.turns[:-1]), steps, f"the recording ends after {steps - 1} steps, the run does not"),
        (attrs.evolve(whole, turns=whole.turns[:5]), 6, "the recording ends after 5 steps, the run does not"),
    ]
    for host in ("direct", "trio"):
        for schedule, step, why in cases:
            with pytest.raises(ReplayDivergence) as caught:
                run(CASES["race"], 3, replay=schedule, host=host)
            assert caught.value.step == step
            assert caught.value.reason.startswith(why)


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_a_recording_that_goes_on_after_the_run_has_ended_departs(host: str) -> None:
    whole = run(CASES["race"], 3).schedule
    steps = len(whole.turns)
    longer = attrs.evolve(whole, turns=(*whole.turns, ("cpu0", 0, "pte_clear")))
    with pytest.raises(ReplayDivergence, match=f"at step {steps + 1}: .*ended") as caught:
        run(CASES["race"], 3, replay=longer, host=host)
    assert caught.value.step == steps + 1


def test_a_recording_does_not_fit_another_kernel() -> None:
    whole = run(CASES["race"], 3, preset="v6.14").schedule
    with pytest.raises(ReplayDivergence, match="at step "):
        run(CASES["race"], 3, preset="before", replay=whole)


# -- a pinned order -------------------------------------------------------------------------------------------------------

CASE_1 = ("cpu1:read1.end", "cpu0:Z.pmd_clear", "cpu1:write1.set_huge_pmd", "cpu0:Z.tlb_flush")


def test_a_pinned_order_makes_case_1_at_once() -> None:
    found = run(text(*RACE, machine='thp = "always"', rest=pin(*CASE_1)), preset="rfc-v1", flush_before_set_huge=False)
    assert "mixed_page_size_tlb" in hazards(found)
    steps = [(name, step) for (_, _, name), step in zip(found.schedule.turns, range(1, found.steps + 1), strict=True)]
    where = [next(s for n, s in steps if n == name) for name in ("pmd_clear", "set_huge_pmd", "tlb_flush")]
    assert where == sorted(where)


def test_the_fix_holds_under_the_same_pin() -> None:
    """The hook flushes under the pmd lock; the order of the named steps stays possible, the hazard does not."""
    fixed = run(text(*RACE, machine='thp = "always"', rest=pin(*CASE_1)), preset="rfc-v1")
    assert "mixed_page_size_tlb" not in hazards(fixed)


def test_a_pinned_step_whose_actor_is_blocked_for_good_is_reported() -> None:
    with pytest.raises(ReplayDivergence, match=r"the pinned step cpu1:read1.end#2 cannot be reached"):
        run(text(*RACE, rest=pin("cpu1:read1.end#2", "cpu0:Z.end")))


@pytest.mark.parametrize("last", ["cpu0:Z.pmd_clear#2", "cpu1:set_huge_pmd", "cpu0:Z.end#3"])
def test_a_pinned_step_that_never_comes_is_reported(last: str) -> None:
    """The run ends without it; saying nothing would pass a diagram off as possible."""
    with pytest.raises(ReplayDivergence, match=f"the pinned step {last}"):
        run(text(*RACE, rest=pin("cpu1:read1.end", last)))


# -- how a run ends -------------------------------------------------------------------------------------------------------

INVERSION = text(
    "Y: madvise A DONTNEED",
    "Z: madvise A DONTNEED",
    vmas=vma(populate=FEW),
    rest='[fault]\nneed_resched = ["cpu0:Y after 1"]\n' + pin("cpu0:Y.unlock_pte#2", "cpu1:Z.lock_pte", "cpu0:Y.lock_pmd"),
)


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_a_deadlock_says_who_waits_for_what_and_who_has_it(host: str) -> None:
    """The merged fast path with a blocking pmd lock inside the pte lock meets the slow path, which takes them the other way."""
    stuck = run(INVERSION, reclaim_trylock=False, host=host)
    assert stuck.status == "deadlock"
    first, second = stuck.reason.split("; ")
    assert first.startswith("cpu0 waits for pte:0x")
    assert ", held by cpu1, in " in first
    assert second.startswith("cpu1 waits for pmd:0x")
    assert ", held by cpu0, in " in second
    assert "deadlock" in hazards(stuck)
    assert events(stuck, ev.Stuck, kind="deadlock")[0].why == stuck.reason
    assert events(stuck, ev.RunEnd)[-1].complete is False


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_a_deadlock_says_in_which_functions_they_wait(host: str) -> None:
    reason = run(INVERSION, reclaim_trylock=False, host=host).reason
    assert "try_to_free_pte <- zap_pte_range" in reason
    assert "try_get_and_clear_pmd <- zap_pte_range" in reason


def test_the_trylock_avoids_that_deadlock() -> None:
    assert run(INVERSION, reclaim_trylock=True).status == "complete"


def test_a_program_that_waits_for_one_that_waits_for_it_is_a_deadlock() -> None:
    stuck = run(text(("wait cpu1:R", "W: read A -> r"), ("wait cpu0:W", "R: read A -> r")))
    assert stuck.status == "deadlock"
    assert "cpu0 waits for operation cpu1:R" in stuck.reason
    assert "cpu1 waits for operation cpu0:W" in stuck.reason


def repeat(times: int, *lines: str) -> str:
    return "\n".join([f"repeat {times} as i {{", *lines, "}"])


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_the_limit_of_steps_is_an_outcome_of_its_own(host: str) -> None:
    ended = run(text(repeat(1000, "read A -> r"), machine="max_steps = 300"), host=host)
    assert (ended.status, ended.steps) == ("limit", 300)
    assert ended.reason == "stopped after 300 steps"
    assert hazards(ended) == []


def test_a_livelock_is_a_finding_and_a_limit_is_not() -> None:
    """A fault that maps nothing is made again for ever: nothing ends in half of the steps."""
    import ptactors.kernel.fault as fault
    from ptactors.kernel.fault import DONE

    async def forgets(*_: object) -> str:
        return DONE

    keep = fault.handle_mm_fault
    fault.handle_mm_fault = forgets
    try:
        ended = run(text("read A -> r", machine="max_steps = 500"))
    finally:
        fault.handle_mm_fault = keep
    assert ended.status == "livelock"
    assert "livelock" in hazards(ended)
    assert "no operation ended in the last" in ended.reason


def test_a_long_operation_that_makes_progress_is_no_livelock() -> None:
    """One madvise over many tables may take longer than half of the limit; it is stopped, not stuck."""
    wide = vma(size="128M", populate={f"A+{n * 2}M": n + 1 for n in range(64)})
    ended = run(text("madvise A DONTNEED", vmas=wide, machine="max_steps = 600"))
    assert ended.status == "limit"
    assert hazards(ended) == []


# -- phases and results ---------------------------------------------------------------------------------------------------


def test_the_final_state_is_that_of_the_programs_and_not_of_the_exit() -> None:
    done = run(text(("write A+0x3000 = 5", "read A+0x3000 -> r"), ("wait cpu0:read1", "read A+0x4000 -> q")))
    assert registers(done) == {"cpu0:r": 5, "cpu1:q": 0, "mem[A+0x3000]": 5, "mem[A+0x4000]": 0}
    assert len(events(done, ev.ProgramsDone)) == 1
    assert len(events(done, ev.ExitMm)) == 1
    assert events(done, ev.RunEnd)[-1].complete


def test_without_exit_nothing_is_torn_down() -> None:
    done = run(text("write A = 5"), exit=False)
    assert events(done, ev.ExitMm) == []
    assert done.status == "complete"
    assert done.metrics["VmPTE_kB_end"] == 12


def test_a_segmentation_fault_is_a_value() -> None:
    assert registers(run(CASES["read-only"], 0)) == {"cpu1:r": "old", "mem[A+0x3000]": "old"}
    assert registers(run(text(("munmap A", "read A -> r"))))["cpu0:r"] == "SIGSEGV"


def test_late_callbacks_run_only_after_the_programs() -> None:
    for seed in range(5):
        late = run(CASES["late-callbacks"], seed)
        quiet = [s for s, _, e in late.records or () if type(e) is ev.OpEnd]
        assert min(s for s, _, e in late.records or () if type(e) is ev.RcuCallback) > max(quiet)


def test_early_callbacks_run_before_anything_else_can() -> None:
    early = [run(CASES["early-callbacks"], seed) for seed in range(10)]
    ends = [[s for s, _, e in o.records or () if type(e) is ev.OpEnd] for o in early]
    calls = [[s for s, _, e in o.records or () if type(e) is ev.RcuCallback] for o in early]
    assert any(c and min(c) < max(e) for c, e in zip(calls, ends, strict=True))


def test_functions_are_the_kernels_names() -> None:
    done = run(CASES["race"], 1)
    stacks = set(done.functions.values())
    assert any(stack.startswith("zap_pte_range <- zap_pmd_range") or "zap_pte_range" in stack for stack in stacks)
    assert any("do_user_addr_fault" in stack for stack in stacks)
