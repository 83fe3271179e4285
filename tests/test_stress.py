"""Random mixes, what they cover, who is to blame, and the command line around them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest

from ptactors.campaign import mix
from ptactors.campaign.coverage import KINDS, SETTLING, Coverage, Gathered, Watch, Watcher
from ptactors.campaign.known import known_in, known_of, known_violations
from ptactors.campaign.names import known_names
from ptactors.campaign.stress import Judge, Saturation, StressCampaign, StressPlan, Task, cover, source, targets_of
from ptactors.campaign.stress_pack import Packer
from ptactors.campaign.work import Failure
from ptactors.cli.main import invoke
from ptactors.config import PRESETS, Config, Kernel, resolve
from ptactors.engine.actor import Actor
from ptactors.kernel.operation import Kind
from ptactors.kernel.table import OPERATIONS
from ptactors.model.event import EVENTS
from ptactors.model.rng import stream
from ptactors.model.state import State, family
from ptactors.model.step import ANY, Footprint, Step
from ptactors.report.stress import coverage_lines
from ptactors.report.stress_document import SCHEMA, document
from ptactors.scenario.keys import FAULT
from ptactors.scenario.load import load, loads
from ptactors.scenario.matrix import cells
from ptactors.world import play_many

REPOSITORY = Path(__file__).resolve().parent.parent
MIXES = range(150)


def drawn(number: int) -> Any:
    return loads(mix.text_of(number, tuple(PRESETS), {}), f"<mix {number}>", known_names())


# -- mixes ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixes() -> list[Any]:
    """Every one of them is a valid scenario, or this raises."""
    return [drawn(number) for number in MIXES]


def test_a_mix_is_a_function_of_its_number() -> None:
    texts = [mix.text_of(number, tuple(PRESETS), {}) for number in MIXES]
    assert texts == [mix.text_of(number, tuple(PRESETS), {}) for number in MIXES]
    assert len(set(texts)) == len(texts)


def test_mixes_draw_every_operation_but_those_that_cannot_be(mixes: list[Any]) -> None:
    used = {call.operation for scenario in mixes for cpu in scenario.cpus for call in cpu.program}
    assert used == OPERATIONS.keys() - mix.not_drawn().keys()
    assert mix.not_drawn().keys() == {"wait"}


def test_each_mix_switches_some_operations_and_faults_off(mixes: list[Any]) -> None:
    """And none is off in all of them, nor on in all of them."""
    programs = [{call.operation for cpu in scenario.cpus for call in cpu.program} for scenario in mixes]
    assert all(0 < len(used) < len(mix.drawable()) for used in programs)
    for name in (operation.name for operation in mix.drawable()):
        assert 0 < sum(name in used for used in programs) < len(mixes), name
    faults = [scenario.fault for scenario in mixes]
    assert 0 < sum(fault.need_resched_maybe for fault in faults) < len(mixes)
    assert {fault.page_batch_alloc.mode for fault in faults} == {"ok", "maybe", "fail", "fail-after"}
    assert {fault.rcu_callbacks for fault in faults} == {"any", "late", "early"}


def test_mixes_vary_the_machine(mixes: list[Any]) -> None:
    assert {scenario.machine["cpus"] for scenario in mixes} == {2, 3, 4}
    assert {vma.size >> 21 for scenario in mixes for vma in scenario.vmas} == {1, 2, 3}
    assert {vma.huge for scenario in mixes for vma in scenario.vmas} == {"none", "hugepage", "nohugepage"}
    assert {len(scenario.processes) for scenario in mixes} == {1, 2}
    for knob in ("preemption", "thp"):
        assert len({scenario.machine[knob] for scenario in mixes}) >= 3, knob


def test_every_fault_of_the_language_can_be_drawn() -> None:
    assert {key.name for key in FAULT} == mix.FAULTS.keys()


def test_every_kind_of_parameter_is_drawn_or_excused() -> None:
    kinds = {parameter.kind for operation in mix.drawable() for parameter in operation.parameters}
    assert kinds | mix.NOT_DRAWN.keys() == set(Kind)


def test_knobs_set_from_outside_are_in_the_file() -> None:
    scenario = loads(mix.text_of(3, ("v6.14",), {"reclaim_scan": False, "cpus": 3}), "<mix>", known_names())
    assert [cell.config.kernel.reclaim_scan for cell in cells(scenario)] == [False]
    assert scenario.machine["cpus"] == 3 == len([cpu for cpu in scenario.cpus if cpu.program])


# -- who is to blame --------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_preset_comes_from_what_shipped_scenarios_say_exists() -> None:
    known = known_violations()
    assert "nonempty-table" in known["v6.14-rc1", "intel"]["nonempty_pte_page_freed"]
    assert ("rfc-v1", "intel") not in known
    table = known_in([REPOSITORY / "scenarios" / "scan-before-reclaim.toml"])
    assert table == {}, "its hazards need a knob that no preset has"


def test_a_knob_beside_the_preset_excuses_nothing() -> None:
    known = known_violations()
    pure = resolve("v6.14-rc1")
    assert "leak" in known_of(known, "v6.14-rc1", "intel", pure)
    broken = attrs.evolve(pure, kernel=attrs.evolve(pure.kernel, reclaim_scan=False))
    assert known_of(known, "v6.14-rc1", "intel", broken) == {}


@attrs.frozen
class Seen:
    hazard: str


@attrs.frozen
class Ended:
    findings: tuple[Seen, ...]
    verdicts: tuple[bool, ...] = ()
    status: str = "complete"


@pytest.mark.parametrize(
    ("hazards", "why", "excuse"),
    [
        ((), (), ""),
        (("two_translations_one_va",), (), ""),  # a condition
        (("leak",), (), "leak"),
        (("leak", "lost_write"), (), "leak"),  # what follows on what is known is its consequence
        (("lost_write", "leak"), ("lost_write",), ""),
        (("lost_write", "double_free"), ("lost_write", "double_free"), ""),
    ],
)
def test_a_schedule_fails_by_what_is_not_known(hazards: tuple[str, ...], why: tuple[str, ...], excuse: str) -> None:
    scenario = drawn(0)
    judge = Judge(scenario, cells(scenario)[0], {("before", "intel"): {"leak": ("somewhere",)}}, own=False)
    assert judge.judge(Ended(tuple(map(Seen, hazards)))) == (why, excuse)  # type: ignore[arg-type]


def test_expectations_count_where_the_scenario_speaks_of_the_configuration() -> None:
    scenario = load(REPOSITORY / "scenarios" / "stress-8cpu.toml", known_names())
    cell = cells(scenario)[0]
    verdicts = (True, *(False for _ in cell.expects[1:]))
    outcome: Any = Ended((Seen("stale_tlb_to_freed_page"),), verdicts)
    assert Judge(scenario, cell, {}, own=True).judge(outcome)[0] == (f"forbidden {cell.expects[0].condition.text}",)
    assert Judge(scenario, cell, {}, own=False).judge(outcome)[0] == ("stale_tlb_to_freed_page",)


# -- coverage ---------------------------------------------------------------------------------------------------------------

family("stress_cell", 0, "a number (tests of coverage)")


@attrs.frozen(slots=True)
class Touch(Step[None]):
    """Reads and writes what it is told to."""

    called: str
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    labels = ("touch",)

    def name(self) -> str:
        return self.called

    def apply(self, state: State) -> None:
        return None

    def touches(self, state: State) -> Footprint:
        return self.reads, self.writes


X, Y = ("stress_cell", 1), ("stress_cell", 2)
E0, E1, ALL = ("entry", 7, 0), ("entry", 7, 1), ("entry", 7, ANY)


@pytest.mark.parametrize(
    ("turns", "pairs"),
    [
        ([(0, "r", [X], []), (1, "s", [X], [])], set()),  # two reads
        ([(0, "w", [], [X]), (0, "r", [X], [])], set()),  # one actor
        ([(0, "w", [], [X]), (1, "r", [Y], [])], set()),  # two cells
        ([(0, "w", [], [X]), (1, "r", [X], [])], {"w -> r"}),
        ([(0, "r", [X], []), (1, "w", [], [X])], {"r -> w"}),
        ([(0, "w", [], [X]), (1, "v", [], [X])], {"w -> v"}),
        ([(0, "w", [], [X]), (0, "v", [], [X]), (1, "r", [X], [])], {"v -> r"}),  # the later write parts them
        ([(0, "w", [], [E0]), (1, "r", [E1], [])], set()),
        ([(0, "w", [], [E0]), (1, "scan", [ALL], [])], {"w -> scan"}),
        ([(0, "scan", [ALL], []), (1, "w", [], [E1])], {"scan -> w"}),
        ([(0, "fill", [], [ALL]), (1, "r", [E1], [])], {"fill -> r"}),
    ],
)
def test_pairs_are_steps_that_met_on_a_cell(turns: list[Any], pairs: set[str]) -> None:
    state = State(Config(kernel=Kernel()))
    watcher = Watcher(state)
    actors = [Actor(id=n, name=f"cpu{n}", coroutine=None) for n in range(2)]  # type: ignore[arg-type]
    for number, (actor, name, reads, writes) in enumerate(turns, 1):
        state.step = number
        actors[actor].options = (Touch(name, tuple(reads), tuple(writes)),)
        watcher.before(actors[actor])
    assert set(watcher.items()["pairs"]) == pairs
    assert list(watcher.items()["branches"]) == list(dict.fromkeys(turn[1] for turn in turns))


def test_watching_changes_nothing_and_sees_events() -> None:
    scenario = drawn(4)
    cell = cells(scenario)[-1]
    plain = list(play_many(scenario, cell, strategy="run-length", seeds=range(4), host="direct"))
    watch = Watch()
    for host in ("direct", "trio"):
        watched = list(play_many(scenario, cell, strategy="run-length", seeds=range(4), host=host, watch=(watch,)))
        assert [outcome.digest for outcome in watched] == [outcome.digest for outcome in plain]
        assert all(EVENTS.values() & watch.items()["branches"].keys() for _ in watched)


def pretend(runs: list[set[str]], one_unit: int = 0) -> Coverage:
    """A campaign whose runs show these branches, and one pair each; so many runs a unit, if any are given."""
    coverage, size = Coverage(), one_unit or 1
    for start in range(0, len(runs), size):
        gathered = Gathered(one_unit=bool(one_unit))
        for items in runs[start : start + size]:
            gathered.add({"branches": dict.fromkeys(sorted(items)), "pairs": {"p": None}, "states": {}})
        unit = start // size
        coverage.merge(gathered.kinds, len(runs[start : start + size]), unit, 1)
    return coverage


def test_estimates_by_hand() -> None:
    """Five units; a in all, b in two, c and d in one (the same), e in one."""
    coverage = pretend([{"a"}, {"a", "b"}, {"a", "b"}, {"a", "c", "d"}, {"a", "e"}])
    estimate = coverage.estimate("branches")
    assert (estimate.seen, estimate.once, estimate.twice, estimate.units, estimate.since) == (5, 3, 1, 5, 0)
    assert estimate.unseen == pytest.approx(4 / 5 * 3 * 2 / (2 * (1 + 1)))
    assert estimate.new == pytest.approx(2 / 5)
    assert coverage.growth("branches") == [(1, 1), (2, 2), (4, 4), (5, 5)]
    assert coverage.rare("branches") == [("c", 1), ("d", 1), ("e", 1), ("b", 2)]


def test_nothing_rare_leaves_nothing_to_be_guessed() -> None:
    coverage = pretend([{"a"}, {"a"}])
    assert str(coverage.estimate("branches").unseen) == "0.0"
    assert "at least 0 more by estimate; the next schedule shows a new one with probability below 0.5" in "\n".join(
        coverage_lines(coverage, mixes=False)
    )


def test_schedules_of_one_mix_are_one_unit() -> None:
    coverage = pretend([{"a"}, {"a"}, {"a", "b"}, {"a", "b"}], one_unit=2)
    estimate = coverage.estimate("branches")
    assert (estimate.seen, estimate.once, estimate.units, estimate.new) == (2, 1, 2, 1 / 2)
    assert estimate.since == 1


def test_the_estimate_of_a_toy_with_known_numbers() -> None:
    """60 kinds of things, the n-th with probability 1 / (n + 1): what is unseen is known, and the estimate is near it."""
    rng = stream(1, "toy coverage")
    runs = [{f"i{n}" for n in range(60) if rng.below(4 * n + 4) == 0} for _ in range(40)]
    estimate = pretend(runs).estimate("branches")
    missing = 60 - estimate.seen
    assert missing > 0
    assert missing / 3 < estimate.unseen < missing * 3
    fresh = [{f"i{n}" for n in range(60) if rng.below(4 * n + 4) == 0} for _ in range(2000)]
    seen = set().union(*runs)
    assert estimate.new == pytest.approx(sum(not run <= seen for run in fresh) / len(fresh), abs=0.15)


def test_saturation_needs_quiet_and_a_small_probability() -> None:
    flat = pretend([{"a"}] * 40)
    assert flat.saturated(20, 0.01)
    assert not flat.saturated(40, 0.01), "39 schedules since the last new branch"
    late = pretend([{"a"}] * 30 + [{"a", "b"}] + [{"a"}] * 9)
    assert not late.saturated(5, 0.1), "less than half of all were quiet"
    lone = pretend([{"a", "b"}] + [{"a"}] * 39)
    assert lone.saturated(20, 0.03)
    assert not lone.saturated(20, 0.02), "one unit of 40 alone showed something"
    assert not Coverage().saturated(0, 1.0)
    assert set(SETTLING) < set(KINDS)


# -- campaigns --------------------------------------------------------------------------------------------------------------


def campaign(runs: int = 16, jobs: int = 1, presets: tuple[str, ...] = ("before", "v6.14-rc1"), **keys: Any) -> StressCampaign:
    plan = StressPlan(presets=presets, seed=keys.pop("seed", 40), overrides=keys.pop("overrides", ()))
    made = StressCampaign(plan, targets_of(plan, runs, False), known=known_violations(), jobs=jobs, **keys)
    made.run(None)
    return made


def told(made: StressCampaign) -> str:
    return json.dumps(document(made, {}, False, False))


def test_a_line_of_the_journal_is_as_good_as_the_piece() -> None:
    plan = StressPlan(presets=("v6.14", "rfc-v1"))
    targets = targets_of(plan, 3 * mix.SCHEDULES, False)
    straight = StressCampaign(plan, targets, known={})
    lines, packer, coverage = [], Packer(), Coverage()
    for turn in range(3):
        for target in targets:
            piece = cover(Task(plan=plan, target=target, seeds=target.seeds(turn), known={}))
            assert not isinstance(piece, Failure)
            line = packer.pack(piece, coverage)
            lines.append(json.loads(json.dumps(line)))
            coverage.merge(piece.found, mix.SCHEDULES, turn, 1)
    straight.run(None)
    again = StressCampaign(plan, targets, known={})
    again.restore(lines)
    assert told(again) == told(straight)
    assert len(json.dumps(lines[-1]["new"])) < len(json.dumps(lines[0]["new"])), "known items are not named again"


START, MOST = 1000, 200 * mix.SCHEDULES
"""The mix to begin with and the schedules in which a bug is to be found; which mixes are drawn changes with the tables."""


def test_a_bug_of_a_preset_is_found_and_known() -> None:
    """v6.14-rc1 frees tables that are not empty, as a shipped scenario says; v6.14 does not."""
    plan = StressPlan(presets=("v6.14-rc1",), seed=START)
    naive = StressCampaign(plan, targets_of(plan, MOST, False), known={}, first=True)
    naive.run(None)
    assert naive.failing[0][2][0] == "nonempty_pte_page_freed"
    found = campaign(runs=8, seed=naive.failing[0][1] // mix.SCHEDULES, presets=("v6.14-rc1", "v6.14"))
    bad, good = found.results
    assert bad.excused["nonempty_pte_page_freed"].count > 0
    assert bad.failing == 0
    assert "nonempty_pte_page_freed" not in good.tally.hazards


def test_a_time_that_is_up_ends_a_campaign_at_the_end_of_a_round() -> None:
    plan = StressPlan(presets=("before", "v6.14"))
    made = StressCampaign(plan, targets_of(plan, None, True), known={}, stop=lambda: True)
    made.run(None)
    assert [result.tally.runs for result in made.results] == [mix.SCHEDULES, mix.SCHEDULES]


def test_a_cell_of_another_preset_is_played_with_that_preset() -> None:
    plan = StressPlan(paths=(str(REPOSITORY / "scenarios" / "first-fault.toml"),), presets=("before", "v6.14"))
    for target in targets_of(plan, 3, False):
        _, cell, _, _ = source(plan, target, target.first)
        assert cell.preset == target.preset


# -- the command line -------------------------------------------------------------------------------------------------------


def stress(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = invoke(["stress", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_one_process_and_two_give_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--runs", "16", "--preset", "before", "--preset", "v6.14", "--json"]
    one = stress(capsys, *words, "--jobs", "1", "--log-dir", str(tmp_path / "one"))
    two = stress(capsys, *words, "--jobs", "2", "--log-dir", str(tmp_path / "two"))
    assert one == two
    assert one[0] == 0
    jsonschema.validate(json.loads(one[1]), SCHEMA)
    assert (tmp_path / "one" / "campaign.json").read_text() == one[1]


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failed")
    words = ["--set", "reclaim_scan=false", "--preset", "v6.14", "--seed", str(START), "--runs", str(MOST)]
    words += ["-x", "--jobs", "1"]
    assert invoke(["stress", *words, "--log-dir", str(folder)]) == 1
    return folder


def test_a_broken_knob_is_caught_and_nothing_else(failed: Path) -> None:
    made = json.loads((failed / "campaign.json").read_text())
    first = made["failures"][0]
    assert first["why"][0] == "nonempty_pte_page_freed"
    assert made["cells"][0]["failing"] == len(made["failures"]) > 0
    assert campaign(runs=8, seed=first["mix"], presets=("v6.14",)).results[0].failing == 0


def test_a_failure_is_kept_and_can_be_replayed(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads((failed / "campaign.json").read_text())
    first = made["failures"][0]
    assert first["why"][0] == "nonempty_pte_page_freed"
    capsys.readouterr()
    assert invoke(["replay", str(failed / first["schedule"]), "--log-dir", str(failed / "again")]) == 1
    assert "nonempty_pte_page_freed" in capsys.readouterr().out
    assert invoke(["check", str(failed / first["scenario"])]) == 0


def test_every_failure_has_a_line_that_makes_it_again(failed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads((failed / "campaign.json").read_text())
    assert made["failures_not_listed"] == 0
    words = shlex.split(made["failures"][-1]["replay"])
    assert words[0] == "ptactors"
    assert invoke([*words[1:], "--log-dir", str(tmp_path), "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert made["failures"][-1] in again["failures"]


def test_scenarios_under_presets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(REPOSITORY / "scenarios" / "nonempty-table.toml")
    words = [name, "--runs", "20", "--preset", "v6.14-rc1", "--preset", "v6.14", "--jobs", "1", "--log-dir", str(tmp_path)]
    code, out, _ = stress(capsys, *words)
    assert code == 0
    assert "as nonempty-table says of v6.14-rc1" in out or "nonempty" in out
    made = json.loads((tmp_path / "campaign.json").read_text())
    assert all(cell["schedules"] == 20 for cell in made["cells"])
    assert made["coverage"]["sampling_units"] == made["schedules"]


def test_until_saturated(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptactors.cli.stress_session.SATURATION", Saturation(quiet=50, bound=0.1))
    name = str(REPOSITORY / "scenarios" / "first-fault.toml")
    words = [name, "--until-saturated", "--preset", "v6.14", "--jobs", "1", "--log-dir", str(tmp_path), "--json"]
    code, out, _ = stress(capsys, *words)
    made = json.loads(out)
    assert (code, made["saturated"]) == (0, True)
    assert made["coverage"]["pairs"]["schedules_since_new"] >= max(50, made["schedules"] / 2)
    code, out, _ = stress(capsys, *words, "--runs", "10")
    assert (code, json.loads(out)["saturated"]) == (3, False)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--preset", "v6.41"], 2, "unknown preset 'v6.41'"),
        (["--set", "no_knob=1"], 2, "unknown knob"),
        (["--strategy", "psychic"], 2, "unknown strategy"),
        (["--seed", "3..5", "--runs", "9"], 2, "cannot be used with --runs"),
        (["--resume", "--log", "none"], 2, "--resume needs a journal"),
        (["no-such-scenario"], 2, "no scenario named"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stress(capsys, *words, "--jobs", "1", "--log-dir", str(tmp_path))
    assert made[0] == code
    assert says in made[2]
