"""Two-thread programs as real kernels answered them: the model reaches every outcome that was seen, and none that is forbidden.

``litmus-6.18.jsonl`` has the programs and the outcomes with their counts, recorded on Linux 6.18.44. Each is a shipped scenario,
``litmus-`` and its name. What a recorded outcome is in the registers of the scenario is said in ``PROGRAMS``.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptactors.campaign.names import known_names
from ptactors.cli.main import invoke
from ptactors.host.steer import steered, with_unseen
from ptactors.host.words import RECORDED, all_words, broken_rule, observed, word
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.scenario.load import load
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play, play_many
from ptactors.world.prove import Bounds, CellSearch

FOLDER = Path(__file__).parents[1] / "scenarios"
RECORDS: dict[str, dict[str, Any]] = {
    record["name"]: record
    for record in map(json.loads, Path(__file__).with_name("litmus-6.18.jsonl").read_text(encoding="utf-8").splitlines())
}
PRESET = "v6.18"
Final = dict[str, int | str]
Fields = dict[str, int | str]


def named(*names: str) -> Callable[[Final], Fields]:
    """The fields of an outcome are registers of cpu1, which makes the final reads too."""

    def read(final: Final) -> Fields:
        return {name: final[f"cpu1:{name}"] for name in names}

    return read


def pages(final: Final) -> Fields:
    """How many of 512 pages read 0, 1, or something else, where the first stands for itself and the other for 511."""
    found: Counter[str] = Counter()
    for register, weight in (("cpu1:x", 1), ("cpu1:y", 511)):
        found[{0: "x", 1: "y"}.get(final[register], "t")] += weight  # type: ignore[call-overload]
    return {name: found[name] for name in ("x", "y", "t")}


def returned(final: Final) -> Fields:
    """The pages, and what the system call of the second program returned."""
    return {**pages(final), "ret1": final["cpu1:ret"]}


PROGRAMS: dict[str, Callable[[Final], Fields]] = {
    "L01_dn_rr": named("r0", "r1", "x"),
    "L02_dn_w": named("x"),
    "L04_dn_wneighbour_pmd": named("x", "y"),
    "L05_dn4k_wneighbour_page": named("x", "y"),
    "L07_dn_whigh_wlow": named("x", "y"),
    "L09_mp_dn_flag_hot_tlb": named("r0", "r1"),
    "L10_dn_collapse": returned,
    "L12_dn_populate_write": pages,
    "L17_dn_dn": named("x"),
    "L18_thp_dn_w": named("x"),
    "L22_mprotect_dn": named("x"),
    "L23_dn_then_thp_fault": pages,
}
programs = pytest.mark.parametrize("name", PROGRAMS)


def path_of(name: str) -> Path:
    return FOLDER / f"litmus-{name.lower().replace('_', '-')}.toml"


@functools.cache
def scenario_of(path: Path) -> tuple[Scenario, Cell]:
    scenario = load(path, known_names())
    (cell,) = cells(scenario, {}, PRESET)
    return scenario, cell


def allowed(record: dict[str, Any], fields: Fields) -> bool:
    """Whether the rule of the record lets this outcome be; its expression is Python's."""
    return not eval(record["forbidden"], {"__builtins__": {}}, dict(fields))


def reached(name: str, runs: int) -> Counter[tuple[tuple[str, int | str], ...]]:
    """The outcomes of so many schedules, in the words of the record."""
    scenario, cell = scenario_of(path_of(name))
    seeds = range(runs)
    made = play_many(scenario, cell, strategy=scenario.explore.strategy, seeds=seeds, host="direct")
    return Counter(tuple(sorted(PROGRAMS[name](dict(outcome.final)).items())) for outcome in made)


# -- outcomes -------------------------------------------------------------------------------------------------------------


@programs
def test_every_recorded_outcome_is_reached_and_no_other_than_allowed(name: str) -> None:
    record = RECORDS[name]
    scenario, _ = scenario_of(path_of(name))
    found = reached(name, scenario.explore.runs)
    for outcome in map(dict, found):
        assert allowed(record, outcome), outcome
    for seen in record["observed"]:
        wanted = {key: value for key, value in seen.items() if key != "n"}
        assert any(wanted.items() <= dict(outcome).items() for outcome in found), wanted


@programs
def test_the_scenario_expects_each_recorded_outcome_and_the_rule(name: str) -> None:
    _, cell = scenario_of(path_of(name))
    kinds = Counter(expect.kind for expect in cell.expects)
    assert kinds == {"exists": len(RECORDS[name]["observed"]), "forbidden": 1}


def test_the_rule_of_a_record_can_fail() -> None:
    assert not allowed(RECORDS["L01_dn_rr"], {"r0": 0, "r1": 1, "x": 0})
    assert not allowed(RECORDS["L09_mp_dn_flag_hot_tlb"], {"r0": 1, "r1": 1, "x": 0})
    assert not allowed(RECORDS["L23_dn_then_thp_fault"], pages({"cpu1:x": 2, "cpu1:y": 1}))
    assert pages({"cpu1:x": 2, "cpu1:y": 0}) == {"x": 511, "y": 0, "t": 1}


QUICK = ("L01_dn_rr", "L04_dn_wneighbour_pmd", "L05_dn4k_wneighbour_page")
"""Programs that are searched in a second or two; the others take up to a minute."""


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.full) for n in PROGRAMS])
def test_in_all_interleavings(name: str) -> None:
    """Every recorded outcome in some, the forbidden in none."""
    scenario, cell = scenario_of(path_of(name))
    proof = CellSearch(scenario, cell, Bounds()).run()
    assert proof.searched.complete
    assert not proof.unreached
    assert [(a.kind, a.condition, a.reason) for a in proof.answers if a.verdict != "held"] == []


# -- words ----------------------------------------------------------------------------------------------------------------

WORDS = FOLDER / "litmus-words-dn-w.toml"


def run_of(strategy: str, seed: int) -> Outcome:
    scenario, cell = scenario_of(WORDS)
    return play(scenario, cell, strategy=strategy, seed=seed, record=True, host="direct")


@functools.cache
def sampled() -> Counter[str]:
    """The words of some hundred schedules, handlers that nobody would see included."""
    return Counter(word(run_of(s, n).records or ()) for s in ("run-length", "pos") for n in range(150))


@pytest.mark.parametrize("spelled", RECORDED)
def test_the_commonest_words_of_the_real_kernel_are_words_of_the_model(spelled: str) -> None:
    """Where no handler is in the trace, it interrupted another task; in the model it runs all the same."""
    outcome = steered(*scenario_of(WORDS), with_unseen(spelled))
    assert outcome is not None
    assert observed(word(outcome.records or ())) == spelled
    assert {HAZARDS[f.hazard].severity for f in outcome.findings} <= {Severity.CONDITION}


def test_schedules_show_the_commonest_words_that_need_no_luck() -> None:
    seen = {observed(each) for each in sampled()}
    assert {"bswDSLRx", "bDSLxsfAMw", "sbwDSLRx"} <= seen
    assert any("D" in each and "A" in each.split("D")[1] for each in seen), "a new table after the old one is detached"


def test_every_word_of_the_model_obeys_the_rules_of_the_real_kernel() -> None:
    assert len(sampled()) > 50
    assert {each: broken_rule(each) for each in sampled() if broken_rule(each)} == {}
    assert set("".join(sampled())) == set("bDSLRrxsfAMw")


@pytest.mark.full
def test_all_words_of_the_model() -> None:
    """Every interleaving: the five are among them, and none breaks a rule."""
    words, searched = all_words(*scenario_of(WORDS), 2_000_000)
    assert searched.complete
    assert {each for each in words if broken_rule(each)} == set()
    assert RECORDED.keys() <= set(map(observed, words))
    assert {word(run_of("run-length", n).records or ()) for n in range(50)} <= words


def test_a_cut_off_search_for_words_says_so() -> None:
    words, searched = all_words(*scenario_of(WORDS), 2_000)
    assert not searched.complete
    assert not RECORDED.keys() <= words


@pytest.mark.parametrize(
    ("spelled", "says"),
    [
        ("bswDSLxR", "returned before"),
        ("bDLx", ""),
        ("bsRwDSLx", "before its shootdown"),
        ("bSDLRx", "detached after"),
        ("bDSLrx", ""),
        ("bDSLRSLRx", ""),
    ],
)
def test_what_breaks_a_rule(spelled: str, says: str) -> None:
    assert says in broken_rule(spelled)
    assert bool(says) == bool(broken_rule(spelled))


def test_a_model_that_does_not_wait_for_the_others_breaks_a_rule() -> None:
    """The rules are not true of any order: without the flush of the other CPUs no shootdown is sent at all."""
    scenario, _ = scenario_of(WORDS)
    (cell,) = cells(scenario, {"pending_flush": False}, PRESET)
    words = {word(play(scenario, cell, strategy="random", seed=n, record=True, host="direct").records or ()) for n in range(5)}
    assert not any("S" in each for each in words)


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_shows_the_recorded_words_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parent)
    assert invoke(["host", "words", "--runs", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1036/2000", "steered", "bsfDSAMwLRx"]
    assert [line.split()[-1] for line in lines[1:6]] == list(RECORDED)
    assert lines[-1].endswith("30 schedules; 0 break a rule of real kernels")


def test_the_command_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parent)
    assert invoke(["host", "words", "--runs", "9", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(document["words"].values()) == 9
    assert document["recorded"] == RECORDED
    assert {*document["words"], *document["steered"]} >= RECORDED.keys()
    assert document["broken"] == {}


def test_the_command_says_when_it_was_cut_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parent)
    assert invoke(["host", "words", "--all", "--max-states", "3000"]) == 3
    assert "cut off" in capsys.readouterr().out


def test_a_kernel_without_reclaim_has_other_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is detached, so the recorded words are none of its."""
    monkeypatch.chdir(FOLDER.parent)
    monkeypatch.setattr("ptactors.host.steer.TRIES", 3)
    assert invoke(["host", "words", "--preset", "before", "--runs", "9", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert not any("D" in each for each in document["words"])
    assert document["steered"] == []
