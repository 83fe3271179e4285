from __future__ import annotations

import attrs
import pytest
from fake_world import EXISTS, FORBIDDEN, MATRIX, NEVER, FakeWorld, Outcome, write_sample

from ptactors.campaign.run import CHUNK, Campaign, Plan, prepare
from ptactors.campaign.tally import FINAL_STATES_LIMIT, Tally
from ptactors.campaign.verdict import SURPRISE, ExpectationResult, conclude, worst
from ptactors.campaign.witness import slug
from ptactors.errors import ModelError, UsageError

MIXED = "mixed_page_size_tlb"


def hooked(cell, seed) -> list[str]:
    """Case 1: seen in every tenth schedule without the hook."""
    return [MIXED] if not cell.config.kernel.flush_before_set_huge and seed % 10 == 7 else []


@pytest.fixture
def world(monkeypatch) -> FakeWorld:
    return FakeWorld(hazards=hooked).install(monkeypatch)


def results(path, world, *, first: bool = False, **plan) -> list:
    return list(Campaign([prepare(Plan(path=str(path), **plan))], first=first).results())


def by_kind(result) -> dict:
    return {e.condition if e.condition == SURPRISE else e.kind: e for e in result.expectations}


def test_every_cell_gets_its_verdict(tmp_path, world) -> None:
    off, on = results(write_sample(tmp_path), world)
    seen = by_kind(off)["exists"]
    assert (seen.verdict, seen.hits, seen.schedules, seen.seed) == ("held", 12, 120, 7)
    assert by_kind(on)["forbidden"].verdict == "held"
    assert by_kind(on)["forbidden"].method == "sampled"
    assert by_kind(on)["forbidden"].sentence() == "held, sampled: not seen in 120 schedules"
    assert (off.verdict, on.verdict) == ("held", "held")
    assert off.tally.hazards[MIXED].count == 12
    assert off.witness() == (7, f"exists hazard({MIXED})")
    assert on.witness() is None


def test_a_forbidden_that_is_seen_once_is_violated(tmp_path, world) -> None:
    off, on = results(write_sample(tmp_path, rest=MATRIX + NEVER, runs=8), world)
    assert (off.verdict, on.verdict) == ("violated", "held")
    assert by_kind(off)["forbidden"].sentence() == "violated: so in 1 of 8 schedules, first with seed 7"
    assert off.witness() == (7, f"forbidden hazard({MIXED})")


def test_an_exists_that_is_not_seen_is_inconclusive_never_violated(tmp_path, world) -> None:
    off, _ = results(write_sample(tmp_path, runs=7), world)
    assert off.verdict == "inconclusive"
    assert by_kind(off)["exists"].sentence() == "inconclusive: not seen in 7 schedules"


def test_always_is_violated_by_one_schedule(tmp_path, monkeypatch) -> None:
    world = FakeWorld(hazards=lambda cell, seed: [] if seed == 63 else [MIXED]).install(monkeypatch)
    (result,) = results(write_sample(tmp_path, rest=f'[[expect]]\nalways = "hazard({MIXED})"\n'), world)
    always = by_kind(result)["always"]
    assert (always.verdict, always.hits, always.schedules, always.seed) == ("violated", 119, 120, 63)
    assert "not so in 1 of 120" in always.sentence()


@pytest.mark.parametrize(
    ("hazard", "top", "verdict"),
    [("lost_write", "", "violated"), ("lost_write", 'allow = ["lost_write"]', "held"), ("two_translations_one_va", "", "held"),
     (MIXED, "", "held")],
    ids=["unnamed violation", "allowed", "only a condition", "named"],
)  # fmt: skip
def test_any_other_violation_is_forbidden_without_saying_so(tmp_path, monkeypatch, hazard, top, verdict) -> None:
    world = FakeWorld(hazards=lambda cell, seed: [MIXED, hazard] if seed == 5 else [MIXED]).install(monkeypatch)
    (result,) = results(write_sample(tmp_path, rest=f'[[expect]]\nexists = "hazard({MIXED})"\n', top=top), world)
    assert by_kind(result)[SURPRISE].verdict == verdict
    assert result.verdict == verdict
    if verdict == "violated":
        assert result.witness() == (5, f"forbidden {SURPRISE}")
        assert by_kind(result)[SURPRISE].hits == 1


def test_two_surprises_in_one_schedule_are_one_hit(tmp_path, monkeypatch) -> None:
    world = FakeWorld(hazards=lambda cell, seed: ["lost_write", "double_free"] if seed < 3 else []).install(monkeypatch)
    (result,) = results(write_sample(tmp_path, rest=""), world)
    assert by_kind(result)[SURPRISE].hits == 3
    assert {name: seen.count for name, seen in result.tally.surprises.items() if name} == {"lost_write": 3, "double_free": 3}


def test_a_run_that_hits_its_limit_makes_held_inconclusive(tmp_path, monkeypatch) -> None:
    world = FakeWorld(hazards=hooked, status=lambda cell, seed: "limit" if seed == 3 else "complete").install(monkeypatch)
    off, on = results(write_sample(tmp_path), world)
    assert by_kind(off)["exists"].verdict == "held", "what was seen was seen"
    assert by_kind(on)["forbidden"].verdict == "inconclusive"
    assert on.verdict == off.verdict == "inconclusive"
    assert on.reasons == ("1 of 120 schedules did not run to their end: 200000 steps were made",)
    assert by_kind(on)["forbidden"].schedules == 119


def test_a_limit_does_not_falsify_always(tmp_path, monkeypatch) -> None:
    world = FakeWorld(status=lambda cell, seed: "limit").install(monkeypatch)
    (result,) = results(write_sample(tmp_path, rest=f'[[expect]]\nalways = "hazard({MIXED})"\n'), world)
    assert by_kind(result)["always"].verdict == "inconclusive"


def test_seeds_budget_strategy_and_cells_come_from_plan_or_scenario(tmp_path, world) -> None:
    path = write_sample(tmp_path, runs=10)
    results(path, world)
    assert [c[2] for c in world.calls if c[1] == 0] == list(range(10))
    world.calls.clear()
    (only,) = results(path, world, seed=100, runs=3, only=("1",))
    assert [c[1:3] for c in world.calls] == [(1, 100), (1, 101), (1, 102)]
    assert (only.seed, only.strategy, only.tally.runs) == (100, "run-length", 3)
    assert prepare(Plan(path=str(path), full=True)).runs == 20_000
    assert prepare(Plan(path=str(path), full=True, runs=3)).runs == 3
    assert [c.name for c in prepare(Plan(path=str(path), only=("flush_before_set_huge=y",))).cells] == ["flush_before_set_huge=y"]


def test_unknown_cell_and_strategy_are_usage_errors(tmp_path) -> None:
    path = str(write_sample(tmp_path))
    with pytest.raises(UsageError, match=r"no cell '7'.*flush_before_set_huge=n"):
        prepare(Plan(path=path, only=("7",)))
    with pytest.raises(UsageError, match=r"unknown strategy 'randm'; did you mean 'random'"):
        prepare(Plan(path=path, strategy="randm"))


def test_overrides_shrink_the_matrix(tmp_path, world) -> None:
    (result,) = results(write_sample(tmp_path), world, overrides=(("flush_before_set_huge", True),))
    assert result.cell.config.kernel.flush_before_set_huge
    assert [e.kind for e in result.expectations] == ["forbidden", "forbidden"]


def test_first_stops_at_the_chunk_with_the_first_violation(tmp_path, world) -> None:
    path = write_sample(tmp_path, rest=MATRIX + NEVER, runs=500)
    (only,) = results(path, world, first=True)
    assert only.verdict == "violated"
    assert only.tally.runs == CHUNK
    assert len(world.calls) == CHUNK, "no schedule of the next cell"


def test_first_leaves_a_cell_whose_exists_are_all_seen(tmp_path, world) -> None:
    off, on = results(write_sample(tmp_path, runs=500, rest=MATRIX + EXISTS + FORBIDDEN), world, first=True)
    assert (off.tally.runs, on.tally.runs) == (CHUNK, 500)


def test_without_first_the_whole_budget_is_run(tmp_path, world) -> None:
    assert [r.tally.runs for r in results(write_sample(tmp_path, runs=130), world)] == [130, 130]


def test_a_model_error_is_internal_and_says_where(tmp_path, world) -> None:
    world.boom = ModelError("an undeclared step")
    with pytest.raises(ModelError, match=r"(?s)cell 0, strategy run-length, seeds 0\.\.49.*Traceback.*an undeclared step"):
        results(write_sample(tmp_path), world)
    world.boom = ZeroDivisionError("x")
    with pytest.raises(ModelError, match="Traceback"):
        results(write_sample(tmp_path), world)


def test_of_a_group_of_errors_the_first_counts_and_an_interrupt_above_all(tmp_path, world) -> None:
    world.boom = ExceptionGroup("tasks", [ExceptionGroup("more", [ModelError("deep")]), ValueError("other")])
    with pytest.raises(ModelError, match="deep"):
        results(write_sample(tmp_path), world)
    world.boom = BaseExceptionGroup("tasks", [ValueError("other"), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        results(write_sample(tmp_path), world)


def test_an_interrupt_keeps_what_was_counted(tmp_path, monkeypatch) -> None:
    world = FakeWorld(hazards=hooked).install(monkeypatch)
    campaign = Campaign([prepare(Plan(path=str(write_sample(tmp_path)), runs=120))])

    def interrupted(scenario, cell, *, strategy, seeds, host):
        if 100 in seeds and cell.index == 1:
            raise KeyboardInterrupt
        return world.play_many(scenario, cell, strategy=strategy, seeds=seeds, host=host)

    monkeypatch.setattr("ptactors.campaign.run.play_many", interrupted)
    got = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(campaign.results())
    rest = campaign.interrupted()
    assert rest is not None
    assert (rest.cell.index, rest.tally.runs) == (1, 100)


def test_progress_hears_of_every_schedule(tmp_path, world) -> None:
    heard = []
    batch = prepare(Plan(path=str(write_sample(tmp_path)), runs=120))
    list(Campaign([batch], progress=lambda b, c, n: heard.append((c.index, n))).results())
    assert heard == [(0, 50), (0, 50), (0, 20), (1, 50), (1, 50), (1, 20)]


def test_coverage_is_asked_of_all_cells_together(tmp_path, world) -> None:
    path = write_sample(tmp_path, rest=MATRIX + EXISTS + '[coverage]\nreached = ["pmd_clear", "rcu_gp_end"]\n')
    cells = results(path, world)
    goals = prepare(Plan(path=str(path))).scenario.coverage
    judged = conclude("sample", "d", cells, goals)
    assert judged.missed == ("rcu_gp_end",)
    assert judged.verdict == "inconclusive"
    assert conclude("sample", "d", cells, ()).verdict == "held"


def tally_of(seeds, **fields) -> Tally:
    tally = Tally()
    for seed in seeds:
        values = {name: value(seed) for name, value in fields.items()}
        tally.add(seed, Outcome(schedule=None, **values), frozenset(), frozenset())
    return tally


def test_merged_tallies_equal_one_that_counted_all() -> None:
    fields = {
        "final": lambda s: (("r", s * 7919 % (FINAL_STATES_LIMIT + 300)),), "metrics": lambda s: {"x_max": s % 7, "y": s % 3},
        "verdicts": lambda s: (s % 5 == 3, s > 1000), "status": lambda s: "limit" if s % 100 == 99 else "complete",
    }  # fmt: skip
    whole = tally_of(range(2600), **fields)
    merged = Tally()
    for first in range(0, 2600, 100):
        merged.merge(tally_of(range(first, first + 100), **fields))
    assert attrs.asdict(merged) == attrs.asdict(whole)
    assert list(merged.finals) == list(whole.finals)
    assert whole.other_finals > 0
    assert whole.other_finals + sum(s.count for s in whole.finals.values()) == 2600


def test_metrics_the_greatest_max_else_the_commonest_first_seen() -> None:
    tally = tally_of(range(6), metrics=lambda s: {"VmPTE_kB_max": s * 4, "ipis": [3, 3, 2, 2, 9, 9][s]})
    assert tally.summary() == {"VmPTE_kB_max": 20, "ipis": 3}


@pytest.mark.parametrize(
    ("hits", "schedules", "word"), [(0, 5, "Unseen"), (2, 5, "Sometimes"), (5, 5, "Always"), (0, 0, "Unseen")]
)
def test_the_word_of_the_observation(hits, schedules, word) -> None:
    result = ExpectationResult(kind="exists", condition="x", verdict="held", hits=hits, schedules=schedules, seed=None)
    assert result.observation == word


def test_the_worst_verdict() -> None:
    assert worst(["held", "inconclusive", "violated"]) == "violated"
    assert worst(["held", "inconclusive"]) == "inconclusive"
    assert worst([]) == "held"


def test_folders_of_cells_are_safe_and_distinct() -> None:
    assert slug("-") == "all"
    assert slug("a=n b=rfc-v1") == "a=n-b=rfc-v1"
    assert slug("../../etc/passwd") == "etc-passwd"
    long = [slug(f"{'k=v ' * 40}{i}") for i in range(3)]
    assert len(set(long)) == 3
    assert max(map(len, long)) < 100
