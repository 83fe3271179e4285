"""Why a run is as it is: what its hazard hangs on, where two runs part, what led to an entry; and runs chosen by hand."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from ptactors.campaign.names import known_names
from ptactors.cli.find import scenario_of
from ptactors.cli.main import invoke
from ptactors.engine.choices import Choices, Follow
from ptactors.engine.strategy.replay import Replay
from ptactors.errors import UsageError
from ptactors.explain.causes import Experiment
from ptactors.explain.diff import diff_lines, part
from ptactors.explain.stepping import Stepper
from ptactors.explain.why import subject, why_lines
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.shrink.pin import Words
from ptactors.shrink.recall import perform, recall, token_of
from ptactors.shrink.session import shrink
from ptactors.shrink.trial import goal_of
from ptactors.world import play_many

ROOT = Path(__file__).resolve().parent.parent
CASE1 = ("case1-mixed-page-size", 8)
WORDS = Words(name="small", title="t", why="w")


def never() -> bool:
    return False


def scenario_and_cell(name: str, number: int, **knobs: object):
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    return scenario, cells(scenario, knobs)[number]


def run_by(choices, name: str = CASE1[0], number: int = CASE1[1], **knobs: object):
    scenario, cell = scenario_and_cell(name, number, **knobs)
    return perform(scenario, cell, Choices(choices), "random", 0)


def shrunk_run(name: str, number: int, hazard: str):
    scenario, cell = scenario_and_cell(name, number)
    for seed in range(500):
        outcome = next(iter(play_many(scenario, cell, strategy="portfolio", seeds=[seed], host="direct")))
        if any(finding.hazard == hazard for finding in outcome.findings):
            run = perform(scenario, cell, Replay(outcome.schedule), "portfolio", seed)
            made = shrink(run, goal=goal_of(run, hazard), words=lambda goal: WORDS, stop=never, progress=lambda word: None)
            return made.case.run, made.goal
    raise AssertionError


@pytest.fixture(scope="module")
def walker() -> Experiment:
    """Problem 1, shrunk: one preemption."""
    return Experiment(*shrunk_run("single-table-vs-rcu-walker", 10, "page_table_uaf_software_walker"))


def told(experiment: Experiment, step: int) -> tuple[str, str]:
    return experiment.turns[step - 1][0], experiment.turns[step - 1][2]


# -- what a hazard hangs on -----------------------------------------------------------------------------------------------


def test_the_hazard_vanishes_without_the_one_preemption(walker) -> None:
    switches = list(walker.switches())
    preemptions = [switch for switch in switches if switch.preempts]
    assert len(preemptions) == 1
    assert (preemptions[0].taken, preemptions[0].left, preemptions[0].vanishes) == ("cpu0", "cpu1", True)


def test_a_switch_that_does_not_matter_is_told_apart(walker) -> None:
    """cpu0 makes a step before all else, then cpu1 as before: that preemption changes nothing."""
    recording, turns = walker.run.recording, list(walker.turns)
    early = turns.pop(next(i for i, turn in enumerate(turns) if turn[0] == "cpu0"))
    run = perform(recording.scenario, recording.cell, Follow([early, *turns]), "random", 0)
    experiment = Experiment(run, walker.goal)
    assert walker.goal.finding(run.outcome) is not None
    by_step = {switch.step: switch for switch in experiment.switches()}
    assert (by_step[2].preempts, by_step[2].vanishes) == (True, True)  # cpu0 would go on to its end, before the walker begins
    assert sum(switch.preempts for switch in by_step.values()) == 2


def test_the_orderings_of_problem_1_are_those_of_the_mail(walker) -> None:
    """The walker maps the table before it is unhooked, and reads it after it is freed."""
    found = {(told(walker, each.first), told(walker, each.second)) for each in walker.orderings(never)}
    assert (("cpu1", "pte_offset_map"), ("cpu0", "pmd_clear")) in found
    assert (("cpu0", "table_free"), ("cpu1", "pte_read")) in found


def test_the_orderings_of_case_1() -> None:
    experiment = Experiment(*shrunk_run(*CASE1, "mixed_page_size_tlb"))
    found = {(told(experiment, each.first), told(experiment, each.second)) for each in experiment.orderings(never)}
    assert (("cpu0", "pmd_clear"), ("cpu1", "pmd_read")) in found  # the fault finds the pmd empty
    assert (("cpu1", "walk_pmd"), ("irq1", "interrupt")) in found  # the huge page is filled before the flush comes
    assert list(experiment.switches()) == []


def test_an_ordering_is_critical_only_if_the_other_one_is_clean(walker) -> None:
    """Each one is tried again here: the second step made first, and no such hazard."""
    for each in walker.orderings(never):
        assert each.first <= walker.last
        assert told(walker, each.first)[0] != told(walker, each.second)[0]


def test_the_chance_grows_to_certainty_and_is_the_same_each_time(walker) -> None:
    chances = list(walker.chances(never))
    assert chances == list(walker.chances(never))
    assert [chance.step for chance in chances] == sorted(chance.step for chance in chances)
    assert (chances[0].step, chances[-1].step) == (0, walker.last - 1)
    assert chances[0].hits < chances[-1].hits == chances[-1].samples


def test_out_of_time_means_less_not_wrong(walker) -> None:
    assert walker.orderings(lambda: True) == ()
    assert list(walker.chances(lambda: True)) == []


# -- why ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case1():
    """Case 1 as it comes by itself: cpu0 waits for the flush, cpu1 writes."""
    run = run_by(())
    assert goal_of(run).hazard == "mixed_page_size_tlb"
    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tlb[cpu1][A]", ("tlb fill A 2M", "set_huge_pmd A", "page fault A+0x5000", "pmd_clear A", "madvise A DONTNEED")),
        ("tlb[cpu1][A+0x3000]", ("tlb fill A+0x3000 4K", "tlb fill A 2M")),
        ("pt[A]", ("pmd_install A", "pmd_clear A", "set_huge_pmd A")),
        ("table[{table}]", ("alloc pte frame", "unmap table", "gather table")),
        ("frame[{frame}]", ("alloc anon frame", "pte_clear A+0x3000", "gather page A+0x3000")),
        ("lock[pmd:{pmd}]", ("lock(pmd:", "unlock(pmd:")),
        ("lock[mmap:P]", ("lock(mmap:P)",)),
        ("pt[A+0x1F_0000]", ("pmd_clear A",)),
    ],
)
def test_why_tells_history_and_chain(case1, text, expected) -> None:
    records = case1.outcome.records
    entries = [event for step, _, event in records if step <= 0 and type(event).__name__ == "EntryWrite"]
    leaf = next(event for event in entries if event.what == "pte_set")
    table = next(event for event in entries if event.what == "pmd_install")
    named = text.format(table=hex(leaf.table), frame=hex(leaf.new >> 12 & 0xFFFFFFFF), pmd=hex(table.table))
    finding = goal_of(case1).finding(case1.outcome)
    lines = list(why_lines(case1, subject(named, case1.recording.scenario), finding.step))
    whole = "\n".join(lines)
    assert lines[0] == f"{named} up to step {finding.step}:"
    for words in expected:
        assert words in whole
    assert "How the last of these came about:" in whole
    steps = [int(m[1]) for m in (re.match(r" +(\d+)  ", line) for line in lines) if m]
    assert max(steps) <= finding.step


@pytest.mark.parametrize("text", ["tlb[A]", "tlb[cpu9][A]", "tlb[cpu1][Q]", "pt", "pt[A][A]", "frame[x]", "cache[A]", "pt[A+q]"])
def test_why_refuses_what_is_not_there(case1, text) -> None:
    with pytest.raises(UsageError, match="--why"):
        subject(text, case1.recording.scenario)


def test_why_of_something_untouched(case1) -> None:
    lines = list(why_lines(case1, subject("frame[0x777777]", case1.recording.scenario), 10))
    assert lines[1].startswith("  nothing happened to it: this run has none of that name; known: 0x1, ")


def test_why_of_a_lock_that_is_spelled_wrong(case1) -> None:
    lines = list(why_lines(case1, subject("lock[mmap:Q]", case1.recording.scenario), 10))
    assert "did you mean 'mmap:P'?" in lines[1]


# -- diff -----------------------------------------------------------------------------------------------------------------


def test_a_run_does_not_part_from_itself() -> None:
    a, b = run_by((0, 0, 1)), run_by((0, 0, 1))
    assert part(a, b) is None
    assert "The runs are the same" in list(diff_lines(a, b, None))[-1]


def test_another_choice_is_told_with_what_was_open() -> None:
    a, b = run_by(()), run_by((0, 0, 0, 1))
    parting = part(a, b)
    assert parting.step == 4
    assert "another choice was made" in parting.reason
    assert "cpu0 " in parting.reason
    assert "cpu1 begin" in parting.reason
    lines = list(diff_lines(a, b, parting))
    assert "The first 3 steps are the same." in lines
    assert any(line.startswith("mixed_page_size_tlb: ") for line in lines)


def test_another_kernel_is_told_by_what_can_happen_next() -> None:
    a, b = run_by((), number=4), run_by((), number=8)
    parting = part(a, b)
    assert "what can happen next is not the same" in parting.reason
    assert "only in B cpu0 trylock_pmd" in parting.reason
    lines = list(diff_lines(a, b, parting))
    assert "Knob pt_reclaim: A rfc, B merged" in lines
    assert "Knob dtor_after_grace_period: A false, B true" in lines


def test_the_same_step_with_another_effect_is_told() -> None:
    a, b = run_by(()), run_by((), table_batch=1)
    parting = part(a, b)
    assert parting is None or parting.step > 0
    one, other = run_by((), "case1-mixed-page-size", 8), run_by((), "case2-two-pte-pages", 8)
    assert part(one, other).step == 0
    assert "They have no step in common." in list(diff_lines(one, other, part(one, other)))


# -- the command line -----------------------------------------------------------------------------------------------------


def test_the_command_line_explains_and_compares(case1, capsys, tmp_path) -> None:
    token, other = str(token_of(case1)), str(token_of(run_by((0, 1))))
    assert invoke(["explain", token]) == 0
    out = capsys.readouterr().out
    for words in ("Switches: none was chosen", "Critical orderings:", "cpu0 pmd_clear", "before  cpu1 pmd_read", "not how"):
        assert words in out
    assert invoke(["explain", token, "--json", "--time", "2m"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["goal"]["role"] == "2M over 4K"
    assert document["complete"]
    assert document["chances"][-1]["hits"] > 0
    assert invoke(["explain", token, "--why", "tlb[cpu1][A]"]) == 0
    assert capsys.readouterr().out.startswith("tlb[cpu1][A] up to step")
    assert invoke(["explain", token, "--why", "tlb[A]"]) == 2
    assert invoke(["diff", token, token]) == 0
    assert invoke(["diff", token, other]) == 1
    assert "another choice was made" in capsys.readouterr().out
    assert invoke(["diff", token, token[:-1] + ("a" if token[-1] != "a" else "b")]) == 4


# -- by hand --------------------------------------------------------------------------------------------------------------


def by_hand(*lines: str, name: str = CASE1[0], number: int = CASE1[1]) -> tuple[list[int], str]:
    scenario, cell = scenario_and_cell(name, number)
    answers, shown = iter(lines), []
    choices = Stepper(scenario, cell, 0, lambda prompt: next(answers, None), shown.append).run()
    return choices, "\n".join(shown)


def test_choices_by_number_name_and_by_themselves() -> None:
    choices, shown = by_hand("0", "cpu1", "", "r 4", "1", "q")
    assert choices[:3] == [0, 1, 0]
    assert choices[-1] == 1
    assert sum(choices) == 2
    for words in ("begin: madvise A DONTNEED", "begin: write A+0x5000", "  0 cpu0", "  1 cpu1"):
        assert words in shown


def test_help_and_quit_may_be_spelled_out() -> None:
    choices, shown = by_hand("help", "quit", "0")
    assert "undo the last answer" in shown
    assert "no option" not in shown
    assert choices == by_hand("q")[0]


def test_undo_is_as_if_it_had_never_been() -> None:
    plain, _ = by_hand("0", "1", "0", "q")
    taken_back, shown = by_hand("0", "0", "u", "1", "r 9", "u", "0", "1", "u", "q")
    assert taken_back == plain
    assert "nothing to undo" not in shown
    assert "nothing to undo" in by_hand("u")[1]


def test_a_whole_run_by_hand_is_that_of_its_choices() -> None:
    choices, shown = by_hand("r")
    assert "The run is over after" in shown
    assert "HAZARD mixed_page_size_tlb" in shown
    scenario, cell = scenario_and_cell(*CASE1)
    run = perform(scenario, cell, Choices(choices), "random", 0)
    assert f"after {run.outcome.steps} steps: complete" in shown
    assert len(choices) == len(run.decisions)
    again, shown = by_hand("0", "r", "u", "1", "r")
    assert again[:2] == [0, 1]
    assert shown.count("The run is over") == 2


@pytest.mark.parametrize("line", ["7", "cpu7", "r x", "what", "-1"])
def test_what_is_not_understood_changes_nothing(line: str) -> None:
    choices, shown = by_hand(line, "?", "1")
    assert choices == [1]
    assert f"no option {line!r}" in shown
    assert "undo the last answer" in shown


def test_a_piped_session_ends_with_a_token(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("0\ncpu1\nu\nr 3\nq\n"))
    assert invoke(["step", "case1-mixed-page-size", "--cell", "8"]) == 0
    out = capsys.readouterr().out
    token = re.search(r"pt1\.\S+", out)[0]
    assert recall(token, scenario_of).outcome.digest == run_by(()).outcome.digest
    assert invoke(["step", "case1-mixed-page-size", "--cell", "99"]) == 2
    assert invoke(["step", str(ROOT / "scenarios")]) == 2
