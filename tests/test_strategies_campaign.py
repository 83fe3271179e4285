"""A portfolio in a campaign: how its budget is split, that speed does not matter, who found what; and the bench."""

from __future__ import annotations

import json

import attrs
import jsonschema
import pytest
from fake_world import FakeWorld, write_sample
from small_cases import CASES
from small_machines import cell, scenario

from ptactors.campaign.bench import Row, goals, judge_portfolio, measure
from ptactors.campaign.run import Campaign, Plan, prepare
from ptactors.campaign.shares import FIRST_ROUND, Shares, adapts, round_ends
from ptactors.campaign.tally import Tally, behaviour_of
from ptactors.cli.main import invoke
from ptactors.cli.progress import Progress
from ptactors.engine.strategy.portfolio import MEMBERS, member_of
from ptactors.oracle.table import HAZARDS
from ptactors.report.document import SCHEMA
from ptactors.report.summary import cell_lines
from ptactors.scenario.matrix import cells
from ptactors.world import play, play_many

NAMES = [name for name, *_ in MEMBERS]


# -- shares ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "ends"), [(40, [40]), (100, [100]), (101, [100, 101]), (900, [100, 200, 400, 800, 900])], ids=str
)
def test_rounds_are_fixed(runs: int, ends: list[int]) -> None:
    assert list(round_ends(runs)) == ends


def rounds(first: int, runs: int, news: list[dict[str, int]]) -> list[list[int]]:
    shares = Shares(first, runs)
    made = [list(shares.next_round({}))]
    for new in news:
        made.append(list(shares.next_round(new)))
    return made


@pytest.mark.parametrize("first", [0, 3, 77])
def test_the_first_round_takes_consecutive_seeds(first: int) -> None:
    (seeds,) = rounds(first, 1000, [])
    assert seeds == list(range(first, first + FIRST_ROUND))


def test_the_second_round_goes_to_whom_showed_what_is_new_and_leaves_nobody_out() -> None:
    first, second = rounds(0, 200, [{NAMES[1]: 40, NAMES[2]: 2}])
    counts = {name: sum(member_of(seed) == name for seed in second) for name in NAMES}
    assert sum(counts.values()) == len(second) == 100
    assert counts[NAMES[1]] > 40 > counts[NAMES[2]] > counts[NAMES[0]] >= 10
    assert not set(first) & set(second)
    assert second == sorted(set(second))


def test_only_what_is_new_in_the_round_before_counts() -> None:
    seen = {NAMES[0]: 30}
    _, second, third = rounds(0, 400, [seen, {**seen, NAMES[3]: 50}])
    counts = [[sum(member_of(seed) == name for seed in seeds) for name in NAMES] for seeds in (second, third)]
    assert counts[0].index(max(counts[0])) == 0
    assert counts[1].index(max(counts[1])) == 3


def test_all_rounds_together_are_the_budget_and_no_seed_comes_twice() -> None:
    shares, tally, made = Shares(5, 1234), {}, []
    while seeds := shares.next_round(tally):
        made += seeds
        tally = {name: tally.get(name, 0) + len(name) * len(made) // 50 for name in NAMES}
    assert len(made) == len(set(made)) == 1234


def test_only_the_portfolio_adapts() -> None:
    assert [name for name in ("portfolio", "portfolio:all", "pct:3", "random") if adapts(name)] == ["portfolio", "portfolio:all"]


# -- campaigns ------------------------------------------------------------------------------------------------------------


def campaign(path, jobs: int = 1, **plan):
    batch = prepare(Plan(path=str(path), strategy="portfolio", **plan))
    return list(Campaign([batch], jobs=jobs).results())


def dump(results) -> list[dict]:
    return [attrs.asdict(result.tally) for result in results]


def test_members_and_their_finds_are_counted_by_member(tmp_path, monkeypatch) -> None:
    others = [name for name in HAZARDS if name != "mixed_page_size_tlb"][:9]

    def hazards(cell, seed: int) -> list[str]:
        """One member sees something else each time."""
        return ["mixed_page_size_tlb", *(name for bit, name in enumerate(others) if seed >> bit & 1)] if seed % 5 == 2 else []

    world = FakeWorld(hazards=hazards).install(monkeypatch)
    result = campaign(write_sample(tmp_path), runs=350)[0]
    members = result.tally.members
    assert result.chosen
    assert sum(member.runs for member in members.values()) == result.tally.runs == 350
    assert [name for name, member in members.items() if member.hazards] == [NAMES[2]]
    assert members[NAMES[2]].hazards["mixed_page_size_tlb"].count == members[NAMES[2]].runs
    assert sum(member.new for member in members.values()) == len(result.tally.behaviours)
    seeds = [seed for _, index, seed, _ in world.calls if index == 0]
    assert len(set(seeds)) == 350
    assert seeds[:100] == list(range(100))
    assert max(seeds) > 500
    ran = members[NAMES[2]].runs
    assert f"  mixed_page_size_tlb found by {NAMES[2]} in {ran} of {ran}" in list(cell_lines(result))
    lines = list(cell_lines(result, verbose=True))
    assert f"  member {NAMES[2]}: {members[NAMES[2]].runs} schedules, new behaviours" in "\n".join(lines)
    assert "350 seeds from 0" in lines[0]


def test_exact_seeds_are_not_chosen(tmp_path, monkeypatch) -> None:
    world = FakeWorld().install(monkeypatch)
    result = campaign(write_sample(tmp_path), runs=350, exact=True)[0]
    assert not result.chosen
    assert [seed for _, index, seed, _ in world.calls if index == 0] == list(range(350))


def test_a_small_budget_is_consecutive(tmp_path, monkeypatch) -> None:
    world = FakeWorld().install(monkeypatch)
    assert not campaign(write_sample(tmp_path), runs=80)[0].chosen
    assert [seed for _, index, seed, _ in world.calls if index == 0] == list(range(80))


def test_a_real_campaign_is_the_same_for_any_number_of_processes(tmp_path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(CASES["race"], encoding="utf-8")
    results = [dump(campaign(path, jobs, runs=260, host="direct")) for jobs in (1, 2)]
    assert results[0] == results[1]
    assert set(results[0][0]["members"]) == set(NAMES)


def test_a_run_of_a_campaign_is_made_again_by_its_seed_alone() -> None:
    made, point = scenario(CASES["race"]), cell(CASES["race"])
    seeds = [3, 104, 7, 998]
    many = [outcome.digest for outcome in play_many(made, point, strategy="portfolio", seeds=seeds, host="direct")]
    for seed, digest in zip(seeds, many, strict=True):
        (one,) = play_many(made, point, strategy="portfolio", seeds=[seed], host="direct")
        (member,) = play_many(made, point, strategy=member_of(seed), seeds=[seed], host="direct")
        assert one.digest == member.digest == digest


def test_merged_tallies_know_who_was_first() -> None:
    made, point = scenario(CASES["race"]), cell(CASES["race"])
    outcomes = list(play_many(made, point, strategy="portfolio", seeds=range(20), host="direct"))
    whole, front, back = Tally(), Tally(), Tally()
    for seed, outcome in enumerate(outcomes):
        whole.add(seed, outcome, frozenset(), frozenset(), member_of(seed))
        (front if seed < 12 else back).add(seed, outcome, frozenset(), frozenset(), member_of(seed))
    front.merge(back)
    assert front == whole
    assert len(whole.behaviours) == len({behaviour_of(outcome) for outcome in outcomes})
    shorter = attrs.evolve(outcomes[0], metrics={**outcomes[0].metrics, "steps": 1})
    assert behaviour_of(shorter) == behaviour_of(outcomes[0])


# -- the bench ------------------------------------------------------------------------------------------------------------

HAZARD = CASES["race"] + "[matrix]\npreset = ['before', 'rfc-v1']\n[[expect]]\nexists = 'hazard(two_translations_one_va)'\n"


def test_goals_are_what_is_said_to_exist_once_or_in_every_cell() -> None:
    made = scenario(HAZARD)
    assert [goal.cell.index for goal in goals(made)] == [0]
    assert [goal.cell.index for goal in goals(made, every_cell=True)] == [0, 1]
    assert goals(scenario(CASES["race"])) == ()
    assert len(cells(made, {}, None)) == 2


def test_a_row_counts_schedules_up_to_the_first_hit() -> None:
    goal = goals(scenario(HAZARD))[0]
    row = measure(goal, "run-length", seeds=3, cap=60)
    for number, first in enumerate(row.firsts):
        start = number * 1_000_003
        seen = [o.verdicts[0] for o in play_many(goal.scenario, goal.cell, strategy="run-length", seeds=range(start, start + 60), host="direct")]  # fmt: skip  # noqa: E501
        assert first == (seen.index(True) + 1 if True in seen else None)
    assert measure(goal, "run-length", seeds=3, cap=60) == row


def row(strategy: str, *firsts: int | None) -> Row:
    return Row(goal=goals(scenario(HAZARD))[0], strategy=strategy, firsts=firsts, cap=1000)


@pytest.mark.parametrize(
    ("portfolio", "other", "reasons"),
    [
        ((5, 6, 7), (1, 1, 1), []),
        ((60, 60, 60), (20, 20, 20), []),
        ((60, 60, 60), (10, 10, 10), ["median 60 is more than 4 times the best, 10"]),
        ((2, 2, 21), (1, 1, 1), ["worst 21 is more than 10 times the median 2"]),
        ((2, 2, None), (1, 1, 1), ["found in 2 of 3 campaigns"]),
        ((None, None, None), (None, None, None), ["found in 0 of 3 campaigns"]),
    ],
)
def test_the_portfolio_is_judged(portfolio, other, reasons: list[str]) -> None:
    judgement = judge_portfolio([row("pct:2", *other), row("portfolio", *portfolio)])
    assert judgement is not None
    assert list(judgement.reasons) == reasons


def test_the_portfolio_is_not_judged_by_searches() -> None:
    judgement = judge_portfolio([row("pct:2", 60), row("dfs-delay:1", 1), row("portfolio", 60)])
    assert judgement is not None
    assert (judgement.best, judgement.reasons) == (60, ())


def test_without_a_portfolio_there_is_no_judgement() -> None:
    assert judge_portfolio([row("pct:2", 1)]) is None


def test_the_command_prints_a_table_or_a_document(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(HAZARD, encoding="utf-8")
    words = ["bench", "strategies", str(path), "--seeds", "2", "--cap", "40", "--jobs", "1"]
    words += ["--strategy", "run-length", "--strategy", "portfolio"]
    code = invoke(words)
    text = capsys.readouterr().out
    assert "small/0  hazard(two_translations_one_va)\n  run-length           median" in text
    assert f"The portfolio keeps what it promises for {1 - code} of 1 hazards." in text
    assert invoke([*words, "--json"]) == code
    (goal,) = json.loads(capsys.readouterr().out)["goals"]
    assert [each["name"] for each in goal["strategies"]] == ["run-length", "portfolio"]
    assert all(len(each["firsts"]) == 2 for each in goal["strategies"])
    assert bool(goal["portfolio"]) == bool(code)


def test_pieces_of_campaigns_make_the_same_table_for_any_number_of_processes(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(HAZARD, encoding="utf-8")
    words = ["bench", "strategies", str(path), "--seeds", "7", "--cap", "30", "--strategy", "random", "--strategy", "run-length"]
    tables = []
    for jobs in ("1", "2"):
        out = tmp_path / f"{jobs}.txt"
        assert invoke([*words, "--jobs", jobs, "-o", str(out)]) == 0
        tables.append(capsys.readouterr().out)
        assert out.read_text(encoding="utf-8") == tables[-1]
    assert tables[0] == tables[1]
    whole = measure(goals(scenario(HAZARD))[0], "random", seeds=7, cap=30)
    assert f"random               median {whole.median or '>30':>6}" in tables[0].replace(".0", "")


def test_what_was_not_found_is_more_than_the_cap(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(HAZARD.replace("two_translations_one_va", "double_free"), encoding="utf-8")
    words = ["bench", "strategies", str(path), "--seeds", "2", "--jobs", "1", "--strategy", "random", "--strategy", "pos"]
    assert invoke([*words, "--cap", "9", "--cap", "pos=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "  random               median     >9  worst     >9  found in 0 of 2",
        "  pos                  median     >4  worst     >4  found in 0 of 2",
    ]
    assert invoke([*words, "--cap", "9", "--steps", "1", "--json"]) == 0
    assert [each["cap"] for each in json.loads(capsys.readouterr().out)["goals"][0]["strategies"]] == [1, 1]


def test_a_search_says_its_first_hit_or_that_no_schedule_is_left(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(HAZARD.replace("two_translations_one_va", "double_free"), encoding="utf-8")
    words = ["bench", "strategies", str(path), "--jobs", "1", "--strategy", "dfs-preemption:0", "--strategy", "dfs-delay:2"]
    assert invoke([*words, "--cap", "dfs-delay:2=3"]) == 0
    _, ended, capped = capsys.readouterr().out.splitlines()
    assert capped == "  dfs-delay:2          first      >3"
    made = int(ended.removeprefix("  dfs-preemption:0     exhausted "))
    assert made > 1
    for cap, exhausted in ((made, made), (made - 1, None)):
        assert invoke([*words, "--cap", f"dfs-preemption:0={cap}", "--cap", "3", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["goals"][0]["strategies"]
        wanted = [(exhausted, cap, [None]), (None, 3, [None])]
        assert [(each["exhausted"], each["cap"], each["firsts"]) for each in rows] == wanted


def test_a_search_ends_with_its_first_hit(tmp_path, capsys, monkeypatch) -> None:
    made = []

    def hit_by_the_fourth(*args, **keys):
        made.append(play(*args, **keys))
        return attrs.evolve(made[-1], verdicts=(len(made) == 4,))

    monkeypatch.setattr("ptactors.campaign.bench.play", hit_by_the_fourth)
    path = tmp_path / "small.toml"
    path.write_text(HAZARD, encoding="utf-8")
    assert invoke(["bench", "strategies", str(path), "--jobs", "1", "--strategy", "dfs-delay:1"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  dfs-delay:1          first       4"]
    assert len({outcome.digest for outcome in made}) == len(made) == 4, "each schedule once"


def test_a_search_whose_runs_were_cut_short_is_not_called_exhausted() -> None:
    text = HAZARD.replace("two_translations_one_va", "double_free")
    goal = goals(attrs.evolve(scenario(text), max_steps=12))[0]
    row = measure(goal, "dfs-delay:0")
    assert (row.firsts, row.exhausted) == ((None,), None)
    assert row.cap < 1000, "the search did come to its end"
    assert measure(goals(scenario(text))[0], "dfs-delay:0").exhausted is not None


def test_what_is_left_is_told_to_a_terminal_in_campaigns(tmp_path, capsys, monkeypatch) -> None:
    told: list[tuple[str, int]] = []
    totals: list[int | None] = []

    class Told(Progress):
        def __init__(self, total: int | None) -> None:
            totals.append(total)
            super().__init__(total)

        def counted(self, name: str, runs: int) -> None:
            told.append((name, runs))

    monkeypatch.setattr("ptactors.cli.progress.Progress", Told)
    path = tmp_path / "small.toml"
    path.write_text(HAZARD, encoding="utf-8")
    words = ["--strategy", "random", "--strategy", "dfs-delay:0"]
    invoke(["bench", "strategies", str(path), "--seeds", "7", "--cap", "3", "--jobs", "1", *words])
    assert totals == [8]
    assert told == [("campaigns", 0), ("small random", 5), ("small random", 2), ("small dfs-delay:0", 1)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategy", "pctt"], "unknown strategy 'pctt'"),
        (["--strategy", "dfs-delay:x"], "search 'dfs-delay:x': its one parameter is the number of delays"),
        ([], "no scenario given says that a hazard exists"),
        (["--cap", "uwr=3"], "strategy 'uwr' is not compared"),
        (["--cap", "many"], "is neither a number of schedules nor a strategy's NAME=N"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(tmp_path, capsys, words: list[str], message: str) -> None:
    path = tmp_path / "small.toml"
    path.write_text(CASES["race"], encoding="utf-8")
    assert invoke(["bench", "strategies", str(path), *words]) == 2
    assert message in capsys.readouterr().err


def test_run_prints_members_and_its_document_is_valid(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(CASES["race"], encoding="utf-8")
    words = [
        "run",
        str(path),
        "--runs",
        "20",
        "--strategy",
        "portfolio",
        "--host",
        "direct",
        "--jobs",
        "1",
        "--log",
        "none",
        "--json",
    ]
    invoke(words)
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert {name: each["schedules"] for name, each in document["scenarios"][0]["cells"][0]["members"].items()} == dict.fromkeys(
        NAMES, 4
    )


def test_strategies_with_parameters_are_taken_everywhere(tmp_path, capsys) -> None:
    path = tmp_path / "small.toml"
    path.write_text(CASES["race"] + '[explore]\nstrategy = "fair-pct:4"\nruns = 5\n', encoding="utf-8")
    invoke(["run", str(path), "--host", "direct", "--jobs", "1", "--log", "none"])
    assert "strategy fair-pct:4" in capsys.readouterr().out
    assert invoke(["run", str(path), "--strategy", "pct:0"]) == 2
    assert "strategy 'pct:0': its one parameter is the depth" in capsys.readouterr().err
