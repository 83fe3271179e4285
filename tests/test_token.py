"""Replay tokens: whole, or refused with the reason; and the run they mean is the run they were made of."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from itertools import islice
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptactors import __version__
from ptactors.campaign.names import known_names
from ptactors.campaign.witness import keep
from ptactors.cli.find import scenario_of
from ptactors.cli.main import invoke
from ptactors.engine import token as tokens
from ptactors.engine.choices import Choices
from ptactors.engine.strategy.replay import Replay
from ptactors.engine.token import ALPHABET, Damaged, Token, read
from ptactors.errors import IncompatibleRecording, ReplayDivergence
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.shrink import recall as recalls
from ptactors.shrink.recall import perform, recall, token_of
from ptactors.world import play_many

ROOT = Path(__file__).resolve().parent.parent
FAILING = (
    ("case1-mixed-page-size", 8),
    ("case2-two-pte-pages", 4),
    ("single-table-vs-rcu-walker", 10),
    ("nonempty-table", 3),
    ("stress-8cpu", 0),
)
"""Scenarios and cells in which random schedules show a hazard."""

SAMPLE = Token(
    scenario="case1-mixed-page-size", digest="afydczdy", cell_check="r44n", outcome="cp7o", version="0.1.0", preset=2, cell=8,
    knobs=((3, 1), (40, 70)), strategy=3, parameters="3,all", seed=417, steps=213,
    choices=(0,) * 31 + (1,) + (0,) * 17 + (2, 7) + (0,) * 4 + (3,),
)  # fmt: skip


def scenario_and_cell(name: str, number: int):
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    return scenario, cells(scenario)[number]


def failing(name: str, number: int):
    """Runs of a cell that show a hazard, as (scenario, cell, seed, outcome), without end."""
    scenario, cell = scenario_and_cell(name, number)
    for seed in range(10_000):
        outcome = next(iter(play_many(scenario, cell, strategy="random", seeds=[seed], host="direct")))
        if outcome.findings or "stress" in name:
            yield scenario, cell, seed, outcome


def failing_run(name: str, number: int):
    """The first of them, made again with a record."""
    scenario, cell, seed, outcome = next(failing(name, number))
    return perform(scenario, cell, Replay(outcome.schedule), outcome.schedule.strategy, seed)


# -- spelling -------------------------------------------------------------------------------------------------------------

names = st.text(min_size=1, max_size=12)
versions = st.lists(st.integers(0, 300), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
checks = st.text(alphabet=ALPHABET, min_size=16, max_size=16)
numbers = st.integers(0, (1 << 63) - 1)


@st.composite
def drawn_tokens(draw) -> Token:
    check = draw(checks)
    choices = draw(st.lists(st.one_of(st.just(0), st.integers(0, 200)), max_size=60))
    return Token(
        scenario=draw(names.filter(lambda name: name.isprintable())), digest=check[:8], cell_check=check[8:12],
        outcome=check[12:], version=draw(st.one_of(st.just(""), versions)), preset=draw(st.integers(0, 40)),
        cell=draw(st.integers(0, 10_000)), knobs=tuple(draw(st.lists(st.tuples(numbers, numbers), max_size=3))),
        strategy=draw(st.integers(0, 40)), parameters=draw(st.text(alphabet="0123456789,al", max_size=6)), seed=draw(numbers),
        steps=draw(st.integers(len(choices), 1 << 40)), choices=tokens.trimmed(choices),
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(drawn_tokens())
def test_what_is_written_is_read(token: Token) -> None:
    assert read(str(token)) == token


def test_one_changed_character_is_refused_everywhere() -> None:
    text = str(SAMPLE)
    assert read(text) == SAMPLE
    for at in range(len(text)):
        for other in ALPHABET + "0189-_.,AZ é":
            if other != text[at]:
                with pytest.raises(Damaged):
                    read(text[:at] + other + text[at + 1 :])


@settings(max_examples=60, deadline=None)
@given(drawn_tokens(), st.data())
def test_one_changed_character_of_any_token_is_refused(token: Token, data) -> None:
    text = str(token)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[at]))
    with pytest.raises(Damaged):
        read(text[:at] + other + text[at + 1 :])


def test_lost_doubled_and_exchanged_characters_are_refused() -> None:
    text = str(SAMPLE)
    wrong = [text[:at] + text[at + 1 :] for at in range(len(text))]
    wrong += [text[:at] + text[at] + text[at:] for at in range(len(text))]
    wrong += [text[:at] + text[at + 1] + text[at] + text[at + 2 :] for at in range(len(text) - 1) if text[at] != text[at + 1]]
    for each in wrong:
        with pytest.raises(Damaged):
            read(each)


NO_TOKENS = ["", "pt1", "pt1.....", "pt2.a.b.c.d.e", "pt1." + "a." * 400, "x" * (1 << 21), str(SAMPLE).upper()]


@pytest.mark.parametrize("text", NO_TOKENS)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Damaged):
        read(text)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (3, lambda origin: "7" + "a" * 3 + origin[1:]),  # a number with digits that add nothing
        (4, lambda choices: choices + "qa"),
        (4, lambda choices: choices + "7"),  # cut off
        (4, lambda choices: choices + "77777777a"),  # more choices than steps
        (1, lambda name: name.replace("-", "_2d", 1)),  # escaped without need
        (1, lambda name: name + "_"),
        (2, lambda check: check + "a"),
    ],
)
def test_there_is_one_spelling(part, change) -> None:
    """A right checksum does not help a token that is not spelled as this program spells it."""
    parts = str(SAMPLE).split(".")
    parts[part] = change(parts[part])
    body = ".".join(parts[:-1]) + "."
    with pytest.raises(Damaged):
        read(body + tokens._fixed(zlib.crc32(body.encode()), tokens.SUM))


def test_a_token_of_a_short_bug_is_short() -> None:
    run = failing_run("case1-mixed-page-size", 8)
    schedule = run.recording.schedule
    plain = perform(run.recording.scenario, run.recording.cell, Choices(()), schedule.strategy, schedule.seed)
    assert len(str(token_of(plain))) <= 80
    assert token_of(plain).choices == ()


# -- replay ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "number"), FAILING)
def test_a_token_means_its_run(name: str, number: int) -> None:
    run = failing_run(name, number)
    again = recall(str(token_of(run)), scenario_of)
    assert again.outcome.digest == run.outcome.digest
    assert again.outcome.schedule.turns == run.outcome.schedule.turns
    assert again.outcome.records == run.outcome.records
    assert token_of(again) == token_of(run)


@pytest.mark.parametrize(
    ("overrides", "preset"),
    [({}, "rfc-v1"), ({"flush_ceiling": 7}, None), ({"flush_ceiling": 7, "flush_before_set_huge": True}, "v6.14-rc1")],
)
def test_a_token_names_cells_set_from_outside(overrides, preset) -> None:
    scenario, _ = scenario_and_cell("case1-mixed-page-size", 0)
    cell = cells(scenario, overrides, preset)[-1]
    run = perform(scenario, cell, Choices((0, 1)), "pct:2,all", 5)
    token = token_of(run)
    assert len(token.knobs) <= len(overrides)
    again = recall(str(token), scenario_of)
    assert (again.recording.cell.name, again.recording.cell.config) == (cell.name, cell.config)
    assert (again.recording.schedule.strategy, again.recording.schedule.seed) == ("pct:2,all", 5)


def test_another_version_scenario_or_model_is_refused_and_lenient_goes_on(tmp_path, monkeypatch) -> None:
    run = failing_run("case1-mixed-page-size", 8)
    token = token_of(run)
    with pytest.raises(IncompatibleRecording, match=rf"made by ptactors 9\.9, this is {__version__}"):
        recall(str(attrs.evolve(token, version="9.9")), scenario_of)
    changed = tmp_path / "case1-mixed-page-size.toml"
    changed.write_text(Path(run.recording.scenario.path).read_text().replace('"A+0x3000" = "old"', '"A+0x3000" = "other"'))
    with pytest.raises(IncompatibleRecording, match="was changed since"):
        recall(str(token), lambda _: changed)
    with pytest.raises(IncompatibleRecording, match="other knobs"):
        recall(str(attrs.evolve(token, cell=6)), scenario_of)
    with pytest.raises(IncompatibleRecording, match="no such cell"):
        recall(str(attrs.evolve(token, cell=600)), scenario_of, lenient=True)
    with pytest.raises(ReplayDivergence, match="what came of them"):
        recall(str(attrs.evolve(token, outcome="aaaa")), scenario_of)
    with pytest.raises(ReplayDivergence, match="the recorded one had"):
        recall(str(attrs.evolve(token, steps=token.steps + 1)), scenario_of)
    with pytest.raises(ReplayDivergence, match="option 9 was taken here"):
        recall(str(attrs.evolve(token, choices=(9,))), scenario_of)
    lenient = recall(str(attrs.evolve(token, version="9.9", choices=(9, *token.choices))), lambda _: changed, lenient=True)
    assert [word for word in ("9.9", "was changed") if any(word in note for note in lenient.notes)] == ["9.9", "was changed"]
    assert lenient.outcome.status == "complete"
    monkeypatch.setattr(recalls, "__version__", "0.2.0")
    with pytest.raises(IncompatibleRecording, match=r"this is 0\.2\.0"):
        recall(str(token), scenario_of)


def test_a_lenient_file_follows_the_turns_that_are_left(tmp_path) -> None:
    """One more operation at the end of cpu1's program: the race happens all the same."""
    run = failing_run("case1-mixed-page-size", 8)
    file, longer = tmp_path / "run.schedule.json", tmp_path / "case1-mixed-page-size.toml"
    run.outcome.schedule.save(file)
    text = Path(run.recording.scenario.path).read_text()
    longer.write_text(text.replace("    read  A+0x3000 -> r0", "    read  A+0x3000 -> r0\n    read A+0x7000"))
    assert longer.read_text() != text
    with pytest.raises(IncompatibleRecording):
        recall(str(file), lambda _: longer)
    made = recall(str(file), lambda _: longer, lenient=True)
    assert [f.hazard for f in made.outcome.findings] == [f.hazard for f in run.outcome.findings]
    assert made.notes


def test_the_command_line_replays_tokens(tmp_path, capsys) -> None:
    run = failing_run("case1-mixed-page-size", 8)
    token = str(token_of(run))
    assert invoke(["replay", token, "--log-dir", str(tmp_path)]) == 0
    assert f"digest {run.outcome.digest}" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1
    middle = len(token) // 2
    for bad in (token[:middle] + ("b" if token[middle] == "a" else "a") + token[middle + 1 :], "q" + token[1:], token[:-1]):
        assert invoke(["replay", bad]) == 4
        assert capsys.readouterr().err.startswith("error: the token is damaged") or bad[0] == "q"
    assert invoke(["replay", "no-such-file"]) == 2


# -- the same bytes in a fresh process --------------------------------------------------------------------------------------

FRESH = """
import hashlib, json, sys
from pathlib import Path
from ptactors.campaign.again import recorded, replay
from ptactors.campaign.witness import keep
from ptactors.cli.find import scenario_of
from ptactors.shrink.recall import recall
jobs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
made = []
for number, job in enumerate(jobs):
    whole = recorded(Path(job["file"]), scenario_of)
    host = ("direct", "trio")[number % 2]
    kinds = {
        "file": lambda f: replay(whole, host=host, folder=f, facts=dict),
        "token": lambda f: replay(recall(job["token"], scenario_of, record=False).recording, host=host, folder=f, facts=dict),
        "seed": lambda f: keep(whole.scenario, whole.cell, strategy="random", seed=job["seed"], host=host, folder=f, facts=dict),
    }
    made.append({k: hashlib.sha256(run(out / f"{number}-{k}").log.read_bytes()).hexdigest() for k, run in kinds.items()})
print(json.dumps(made))
"""


def same_bytes(folder: Path, count: int) -> None:
    jobs, expected = [], []
    for name, number in FAILING:
        for scenario, cell, seed, _ in islice(failing(name, number), count // len(FAILING)):
            kept = keep(
                scenario, cell, strategy="random", seed=seed, host="trio", folder=folder / f"{name}-{seed}", facts=dict
            )  # fmt: skip
            run = recall(str(kept.schedule), scenario_of)
            jobs.append({"file": str(kept.schedule), "token": str(token_of(run)), "seed": seed})
            expected.append(hashlib.sha256(kept.log.read_bytes()).hexdigest())
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711"}
    line = [sys.executable, "-c", FRESH, str(folder / "jobs.json"), str(folder / "out")]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [dict.fromkeys(("file", "token", "seed"), digest) for digest in expected]
    assert len(jobs) == count


def test_token_file_and_seed_give_the_same_bytes_in_a_fresh_process(tmp_path) -> None:
    same_bytes(tmp_path, 5)


@pytest.mark.full
def test_a_hundred_runs_give_the_same_bytes_in_a_fresh_process(tmp_path) -> None:
    same_bytes(tmp_path, 100)
