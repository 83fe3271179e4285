"""Shrinking: the same bug in the smallest scenario, with a schedule that is proved to preempt as seldom as it can."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machines import scenario as scenario_of
from small_machines import text, vma

from ptactors.campaign.again import Broken
from ptactors.campaign.names import known_names
from ptactors.cli.main import invoke
from ptactors.engine.choices import Choices, Follow, Noted
from ptactors.engine.strategy.bounded import Bounded, preemptions
from ptactors.engine.strategy.pending import Touched
from ptactors.engine.strategy.random import Random
from ptactors.engine.strategy.replay import Replay
from ptactors.errors import UsageError
from ptactors.explain.picture import LINES, picture
from ptactors.kernel.operation import Kind
from ptactors.scenario.load import load, loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.program import calls
from ptactors.shrink.order import Footprints, Made, dependences, orders, past
from ptactors.shrink.pin import Words
from ptactors.shrink.proof import prove, search
from ptactors.shrink.recall import perform
from ptactors.shrink.reduce import renamed
from ptactors.shrink.session import Shrunk, shrink
from ptactors.shrink.text import render
from ptactors.shrink.trial import Bench, Goal, goal_of, goal_of_broken
from ptactors.world import play, play_many

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "scenarios").glob("*.toml"))
WORDS = Words(name="small", title="a title", why='"Why" \\ not?')
NAMED = {
    "case 1": ("case1-mixed-page-size", 8, "mixed_page_size_tlb", 0),
    "case 2": ("case2-two-pte-pages", 8, "two_pte_pages", 0),
    "problem 1": ("single-table-vs-rcu-walker", 10, "page_table_uaf_software_walker", 1),
    "non-empty table": ("nonempty-table", 3, "nonempty_pte_page_freed", 1),
}
"""The four named bugs: scenario, cell, hazard, least number of preemptions."""


def failing_run(scenario, cell, hazard: str, strategy: str = "portfolio"):
    """A random run with that hazard, recorded."""
    for seed in range(1000):
        outcome = next(iter(play_many(scenario, cell, strategy=strategy, seeds=[seed], host="direct")))
        if any(finding.hazard == hazard for finding in outcome.findings):
            return perform(scenario, cell, Replay(outcome.schedule), strategy, seed)
    raise AssertionError(f"no run with {hazard}")


def shrunk_run(run, hazard: str | None = None, stop=lambda: False, most: int | None = None) -> Shrunk:
    return shrink(run, goal=goal_of(run, hazard), words=lambda goal: WORDS, stop=stop, progress=lambda word: None, most=most)


@pytest.fixture(scope="module", params=NAMED)
def named(request):
    """One of the four bugs, shrunk from a random failing run: (its line in the table, the run, what came of it)."""
    name, number, hazard, least = NAMED[request.param]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    return least, run, shrunk_run(run, hazard)


def test_the_least_number_of_preemptions_is_proved(named) -> None:
    least, _, shrunk = named
    assert shrunk.proof.minimal
    assert shrunk.proof.preemptions == shrunk.case.preemptions == least
    assert "least possible" in str(shrunk.proof)
    assert shrunk.in_time


def test_another_search_finds_nothing_below(named) -> None:
    """The strategies' own depth-first search, which shares no code with the proof."""
    least, _, shrunk = named
    case = shrunk.case
    for bound in range(least):
        walks = Bounded(preemptions, bound)
        for walk in walks:
            walk.contested_only = False
            assert not shrunk.goal.met(play(case.scenario, case.cell, strategy="random", seed=0, host="direct", by=walk))
        assert walks.exhausted
        assert walks.schedules > 1


def test_the_same_hazard_of_the_same_kind_survives_in_less(named) -> None:
    _, run, shrunk = named
    before, after = (shrunk.goal.finding(each.outcome) for each in (run, shrunk.case.run))
    assert (before.hazard, before.role) == (after.hazard, after.role)
    assert all(shrunk.last[what] <= shrunk.first[what] for what in shrunk.first)
    assert shrunk.last["steps"] < shrunk.first["steps"]
    assert shrunk.last["operations"] == 2


def test_the_file_shows_the_bug_by_itself_and_its_diagram_fits_a_screen(named, tmp_path, monkeypatch, capsys) -> None:
    _, _, shrunk = named
    file = tmp_path / "small.toml"
    file.write_text(shrunk.text())
    made = load(file, known_names())
    assert made.digest == shrunk.case.scenario.digest
    assert made.pin
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", "small.toml", "--jobs", "1"]) == 0
    assert "seen in 1 of 1 schedule" in capsys.readouterr().out
    outcome = shrunk.pinned.outcome
    lines = picture(outcome, shrunk.goal.finding(outcome))
    assert 8 < len(lines) <= LINES == 24
    assert all(len(line) <= 80 for line in lines)
    assert sum("<-- HAZARD" in line for line in lines) == 1


def test_nothing_smaller_is_left_lying_about(named) -> None:
    """Every page, cached translation and operation of the shrunk scenario is needed: without it no schedule of few is found."""
    _, _, shrunk = named
    assert shrunk.last["pages"] <= 2
    numbers = [
        value
        for cpu in shrunk.case.scenario.cpus
        for call in calls(cpu.program)
        for parameter, value in zip(call.declared().parameters, call.arguments, strict=True)
        if parameter.kind is Kind.NUMBER and parameter.lead
    ]
    assert all(value == 1 for value in numbers)


# -- other shapes ---------------------------------------------------------------------------------------------------------

LARGE = """
ptactors = 1
name = "large"
why = "a test"
[machine]
cpus = 4
thp = "always"
[kernel]
preset = "v6.14"
[vma.B]
at = 0x7f0000800000
size = "2M"
populate = { "B 64K" = "b" }
[vma.A]
at = 0x7f0000200000
size = "4M"
populate = { "A+0x3000" = "old", "A+0x20_0000 8K" = "x" }
[cpu.0]
do = '''
    write B = 1
    repeat 3 as i { read B+i*4K }
'''
[cpu.2]
tlb = ["A+0x20_0000"]
do = '''
    read B
Y:  write A+0x20_0000 = 3
Z:  madvise A 2M DONTNEED
    read A+0x20_0000
'''
[cpu.3]
tlb = ["A+0x3000", "A+0x20_1000"]
do = '''
    wait cpu2:Y
    write A+0x5000 = "new"
    read A+0x3000 -> r0
'''
[fault]
page_batch_alloc = "maybe"
[[expect]]
forbidden = "hazard(mixed_page_size_tlb)"
"""


def test_programs_cpus_pages_loops_and_faults_go() -> None:
    scenario = loads(LARGE.replace("repeat 3 as i {", "repeat 3 as i {\n").replace("4K }", "4K\n}"), "<large>", known_names())
    run = failing_run(scenario, cells(scenario)[0], "mixed_page_size_tlb", "run-length")
    shrunk = shrunk_run(run)
    assert shrunk.goal == Goal(condition="hazard(mixed_page_size_tlb)", hazard="mixed_page_size_tlb", role="2M over 4K")
    assert (shrunk.last["CPUs"], shrunk.last["operations"], shrunk.last["pages"]) == (2, 2, 1)
    assert [vma.name for vma in shrunk.case.scenario.vmas] == ["A"]
    assert shrunk.case.scenario.fault.page_batch_alloc.mode == "ok"
    assert shrunk.pinned is not None
    assert shrunk.proof.minimal


def test_an_expectation_of_the_end_survives_too() -> None:
    text = LARGE.replace("repeat 3 as i { read B+i*4K }", "").replace(
        'forbidden = "hazard(mixed_page_size_tlb)"', 'forbidden = "cpu3:r0 = 0 or mem[A+0x5000] = new"'
    )
    scenario = loads(text.replace("v6.14", "before"), "<large>", known_names())
    run = perform(scenario, cells(scenario)[0], Choices((0, 1, 0, 1)), "random", 0)
    assert not run.outcome.findings
    shrunk = shrunk_run(run)
    assert shrunk.goal.hazard == ""
    assert shrunk.proof.preemptions == 0
    assert shrunk.last["CPUs"] == 4  # the condition names them
    assert shrunk.last["operations"] < shrunk.first["operations"]
    made = loads(shrunk.text(), "small.toml", known_names())
    assert made.expects[0].condition.text == "cpu3:r0 = 0 or mem[A+0x5000] = new"


def test_without_time_the_run_stays_and_nothing_is_claimed() -> None:
    name, number, hazard, _ = NAMED["problem 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    shrunk = shrunk_run(run, stop=lambda: True)
    assert not shrunk.proof.minimal
    assert "not settled: the time was up" in str(shrunk.proof)
    assert not shrunk.in_time
    assert shrunk.goal.finding(shrunk.case.run.outcome) is not None


def test_a_budget_of_steps_ends_it_whatever_the_clock_says() -> None:
    name, number, hazard, _ = NAMED["problem 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    one, same, whole = (shrunk_run(run, hazard, most=most) for most in (5000, 5000, None))
    assert one.text() == same.text()
    assert (one.last, one.runs) == (same.last, same.runs)
    assert one.unfinished == "the budget of 5000 steps was spent"
    assert "not settled: the budget of 5000 steps was spent" in str(one.proof)
    assert one.runs < whole.runs
    assert whole.unfinished == ""


@pytest.mark.parametrize(
    ("kind", "condition", "alone"),
    [
        ("forbidden", "hazard(mixed_page_size_tlb)", True),
        ("forbidden", "hazard(leak) or (hazard(mixed_page_size_tlb))", True),
        ("forbidden", "any other violation", True),
        ("forbidden", "hazard(mixed_page_size_tlb) and VmPTE == 4", False),
        ("forbidden", "not hazard(mixed_page_size_tlb)", False),
        ("always", "hazard(mixed_page_size_tlb)", False),
    ],
)
def test_a_violated_expectation_becomes_the_goal(kind: str, condition: str, alone: bool) -> None:
    """Where the hazard by itself violates it, the hazard; else all of it must stay true, or false."""
    name, number, hazard, _ = NAMED["case 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    goal = goal_of_broken(run, Broken(kind, condition, ("leak", "mixed_page_size_tlb")))
    if alone:
        assert goal.hazard == "mixed_page_size_tlb"
    else:
        assert goal == Goal(condition=condition if kind == "forbidden" else f"not ({condition})")


def test_a_run_without_anything_wrong_cannot_be_shrunk() -> None:
    scenario = load(ROOT / "scenarios" / "case1-mixed-page-size.toml", known_names())
    run = perform(scenario, cells(scenario)[0], Choices(()), "random", 0)
    with pytest.raises(UsageError, match="nothing to shrink"):
        goal_of(run)
    with pytest.raises(UsageError, match="no hazard 'leak'"):
        goal_of(run, "leak")


def test_a_proof_raises_the_bound_until_it_finds_a_schedule() -> None:
    """A case that begins with many more preemptions than it needs."""
    name, number, hazard, least = NAMED["problem 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    cell = cells(scenario, {"exit": False})[number]
    run = failing_run(scenario, cell, hazard, "random")
    bench = Bench(goal=goal_of(run, hazard), strategy="random", seed=0, stop=lambda: False)
    single = bench.single(scenario, cell)
    case = bench.case(*single, [d.choice for d in run.decisions], run.outcome.steps)
    assert case.preemptions > least + 1
    proved, proof = prove(bench, case)
    assert (proved.preemptions, proof.below, proof.minimal) == (least, least, True)
    assert list(search(bench, proved, 0)) == []


def test_the_search_makes_every_schedule_once() -> None:
    text = LARGE[: LARGE.index("[cpu.0]")].replace("cpus = 4", "cpus = 2\nexit = false") + (
        "[cpu.0]\ndo = 'read A+0x3000 -> r0'\n[cpu.1]\ndo = 'read A+0x3000 -> r0'\n[[expect]]\nexists = \"cpu0:r0 = old\"\n"
    )
    scenario = loads(text, "<two>", known_names())
    cell = cells(scenario)[0]
    bench = Bench(goal=Goal(condition="cpu0:r0 = old"), strategy="random", seed=0, stop=lambda: False)
    case = bench.case(scenario, cell, [], 50)
    for bound in (0, 1):
        made = [tuple(choices) for choices in search(bench, case, bound)]
        walks = Bounded(preemptions, bound)
        for walk in walks:
            walk.contested_only = False
            play(scenario, cell, strategy="random", seed=0, host="direct", by=walk)
        assert len(made) == len(set(made)) == walks.schedules > 1


# -- parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_survives_being_written(path: Path) -> None:
    scenario = load(path, known_names())
    if scenario.stress is not None:
        scenario = attrs.evolve(scenario, stress=None)
    every = cells(scenario)
    for cell in (every[0], every[-1]):
        text = render(scenario, cell, name="small", title="t", why=WORDS.why, exists="hazard(leak)", allow=["leak"])
        again = loads(text, "small.toml", known_names())
        assert cells(again)[0].config == cell.config
        assert (again.vmas, again.fault, again.speculate) == (scenario.vmas, scenario.fault, scenario.speculate)
        assert again.processes == scenario.processes
        mine, theirs = (
            [(cpu.state, cpu.process, cpu.tlb, cpu.psc, list(map(str, cpu.program))) for cpu in each.cpus]
            for each in (again, scenario)
        )
        assert mine == theirs[: cell.config.machine.cpus]


@pytest.mark.parametrize(
    "keys", [{"prot": "none"}, {"prot": "ro"}, {"prot": "rw"}, {"writable": False}, {"mapped": False}], ids=str
)
def test_what_a_program_may_do_with_a_vma_survives(keys: dict[str, object]) -> None:
    made = scenario_of(text("madvise A DONTNEED", vmas=vma(**keys)))
    written = render(made, cells(made)[0], name="small", title="t", why="w", exists="hazard(leak)")
    assert loads(written, "small.toml", known_names()).vmas == made.vmas


def test_what_is_true_of_a_run_without_steps_shrinks_to_one() -> None:
    """A failed ``always`` on counts, say: the fewest programs that break it may be none."""
    made = scenario_of(text("madvise A DONTNEED", "read A -> r"))
    first = play(made, cells(made)[0], strategy="random", seed=0, host="direct")
    run = perform(made, cells(made)[0], Replay(first.schedule), "random", 0)
    goal = goal_of_broken(run, Broken("always", "flushes == 4", ()))
    shrunk = shrink(run, goal=goal, words=lambda goal: WORDS, stop=lambda: False, progress=lambda word: None)
    assert (shrunk.last["steps"], shrunk.last["operations"], shrunk.case.preemptions) == (0, 0, 0)
    (again,) = cells(loads(shrunk.text(), "small.toml", known_names()))
    assert [expect.condition.text for expect in again.expects] == ["not (flushes == 4)"]


keys = st.sampled_from([("a",), ("b", 0), ("b", 1), ("b", -1), ("c", 2, 3), ("c", 2, -1)])
made = st.builds(
    Made, st.integers(0, 2), st.lists(keys, max_size=2).map(tuple), st.lists(keys, max_size=2).map(tuple),
    st.just(()), st.just((False, False)),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(made, min_size=1, max_size=12))
def test_orders_keep_every_dependence(steps: list[Made]) -> None:
    """Against the definition: whatever conflicts, and each actor's own steps, stay in order."""
    before = dependences(steps)
    for later, step in enumerate(steps):
        reached = past(before, later)
        for earlier in range(later):
            other = steps[earlier]
            if other.actor == step.actor or Touched(None, (other.reads, other.writes)).dependent(
                Touched(None, (step.reads, step.writes))
            ):
                assert reached[earlier], (earlier, later)
    turns = [(f"cpu{step.actor}", at, "") for at, step in enumerate(steps)]
    for order in orders(turns, steps, len(steps)):
        places = [turn[1] for turn in order]
        assert places[-1] == len(steps) - 1 or len(places) == len(steps)
        for at, place in enumerate(places):
            needed = past(before, place)
            assert not any(needed[later] for later in places[at + 1 :])


def test_a_phase_is_a_fence() -> None:
    given = ((0, "a", False), (1, "b", True), (2, "c", True))
    steps = [Made(actor, (), ((name,),), (), (later, False)) for actor, name, later in given]
    assert past(dependences(steps), 2) == [True, True, True]


def test_reordered_turns_are_the_same_run() -> None:
    """Semantic compaction: fewer switches, and every actor makes the same steps with the same effects."""
    name, number, hazard, _ = NAMED["problem 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    hooks: list[Footprints] = []

    def watch(state):
        hooks.append(Footprints(state))
        return hooks[-1]

    schedule = run.outcome.schedule
    perform(scenario, run.recording.cell, Replay(schedule), "random", 0, watch=[watch])
    whole = list(orders(schedule.turns, hooks[0].made, len(schedule.turns)))[-1]
    again = perform(scenario, run.recording.cell, Follow(whole), "random", 0)
    assert sorted(again.outcome.schedule.turns) == sorted(schedule.turns)
    assert again.outcome.final == run.outcome.final
    switches = [sum(a[0] != b[0] for a, b in pairwise(turns)) for turns in (whole, schedule.turns)]
    assert switches[0] < switches[1] / 3


def test_turns_of_renumbered_cpus() -> None:
    numbers = {0: 0, 2: 1}
    turns = [("cpu2", 1, "x"), ("irq2", 0, "y"), ("rcu", 0, "z"), ("rcuc2", 0, ""), ("cpu1", 0, "gone")]
    assert [renamed(turn, numbers)[0] for turn in turns] == ["cpu1", "irq1", "rcu", "rcuc1", "cpu1"]


def test_a_note_taker_must_be_asked_every_turn() -> None:
    with pytest.raises(AssertionError, match="another run"):
        Noted(Random(0))


# -- the command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> str:
    name, number, hazard, _ = NAMED["case 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    run = failing_run(scenario, cells(scenario)[number], hazard)
    monkeypatch.chdir(tmp_path)
    run.outcome.schedule.save(tmp_path / "run.schedule.json")
    return "run.schedule.json"


def test_shrink_writes_a_scenario_and_says_what_it_did(recorded, capsys) -> None:
    assert invoke(["shrink", recorded, "--save-as", "tiny.toml"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Shrunk case1-mixed-page-size: mixed_page_size_tlb (2M over 4K)\n")
    assert "<-- HAZARD" in out
    assert out.endswith("again:  ptactors run tiny.toml\n")
    assert invoke(["run", "tiny.toml", "--jobs", "1"]) == 0
    assert invoke(["replay", "tiny.schedule.json", "--log", "none"]) == 0
    capsys.readouterr()
    assert invoke(["shrink", recorded, "--hazard", "two_translations_one_va", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["goal"]["hazard"] == "two_translations_one_va"
    assert document["preemptions"]["proved_least"] is True
    assert Path(document["scenario"]) == Path("logs/shrunk/case1-mixed-page-size-min.toml")


def test_what_no_order_of_cpus_shows_is_kept_as_a_schedule(tmp_path, monkeypatch, capsys) -> None:
    """The hardware walker of an idle CPU moves by itself: a pin cannot name it."""
    scenario = load(ROOT / "scenarios" / "hardware-walker-vs-reclaim.toml", known_names())
    run = failing_run(scenario, cells(scenario)[1], "page_table_uaf_hardware_walker")
    monkeypatch.chdir(tmp_path)
    run.outcome.schedule.save(Path("run.schedule.json"))
    assert invoke(["shrink", "run.schedule.json", "--save-as", "idle.toml"]) == 0
    out = capsys.readouterr().out
    assert "the scenario is not pinned" in out
    assert "[pin]" not in Path("idle.toml").read_text()
    assert out.endswith("again:  ptactors replay idle.schedule.json\n")
    assert invoke(["replay", "idle.schedule.json", "--log", "none"]) == 0
    assert "BUG: page_table_uaf_hardware_walker" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--time", "0s"], 3, ""),
        (["--time", "soon"], 2, "no time such as"),
        (["--hazard", "leak"], 2, "no hazard 'leak'"),
        (["--save-as", "tiny.txt"], 2, "scenario file"),
    ],
)
def test_shrink_has_the_common_exit_codes(recorded, capsys, words, code, complaint) -> None:
    name, number, hazard, _ = NAMED["problem 1"]
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    failing_run(scenario, cells(scenario)[number], hazard).outcome.schedule.save(Path(recorded))
    assert invoke(["shrink", recorded, "-q", *words]) == code
    assert complaint in capsys.readouterr().err
