"""Files that were damaged at random: one clear error each, never a traceback. The damage is drawn from fixed seeds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from saved_logs import save

from ptactors.campaign.names import known_names
from ptactors.cli.main import invoke
from ptactors.engine.schedule import Schedule
from ptactors.engine.token import Token, is_token
from ptactors.engine.token import read as read_token
from ptactors.errors import LINE_LIMIT, MESSAGE_LIMIT, IncompatibleRecording, ScenarioError, UsageError
from ptactors.host.recordings import dump, load_shipped
from ptactors.host.recordings import load as load_recordings
from ptactors.log.read import LogReadFault, SavedLog
from ptactors.model.rng import SplitMix64, stream
from ptactors.scenario.load import find, load, loads
from ptactors.scenario.matrix import cells

SCENARIOS = Path(__file__).parent.parent / "scenarios"
WORDS = (
    "0", "-1", "64", "1e400", "nan", "9223372036854775808", "1" * 5000, "true", '""', '" "', "[]", "{}", "[[]]", "'x'",
    '"' + "(" * 3000 + '"', '"' + "not " * 3000 + 'x"', "[" * 500, "é", "\u2028", "\x00", "\x1b[2J", "\ufeff", "٣", "²",
    "$page", "A+", "cpu9:x", "hazard(", "ever(", "repeat", "}", "->", "'''", "=", "#", "99999999999999999999G", "0x1001", "2M",
    "07:32:00", "madvise", "[cpu.7]",
)  # fmt: skip
JUNK = (
    None,
    True,
    -1,
    0,
    2**62,
    1.5,
    "",
    "x",
    "0x",
    "é",
    "0xffffffffffffffff",
    "cpu9",
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    "A" * 300,
)


def drawn_text(text: str, rng: SplitMix64) -> str:
    """The text with a line or a few characters lost, doubled, exchanged or put in."""
    lines = text.split("\n")
    at, other = rng.below(len(lines)), rng.below(len(lines))
    word = WORDS[rng.below(len(WORDS))]
    way = rng.below(7)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(other, lines[at])
    elif way == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 3 and "=" in lines[at]:
        lines[at] = lines[at].partition("=")[0] + "= " + word
    elif way == 4 and "=" in lines[at]:
        lines[at] = word + " =" + lines[at].partition("=")[2]
    else:
        place = rng.below(len(text))
        return text[:place] + (word if way == 5 else "") + text[place + rng.below(20) :]
    return "\n".join(lines)


def drawn_value(value: object, rng: SplitMix64, deep: int = 0) -> object:
    """A JSON value with one thing in it changed, lost, doubled or added."""
    if isinstance(value, dict) and value and (deep == 0 or rng.below(4)):
        key = list(value)[rng.below(len(value))]
        way = rng.below(8)
        rest = {k: v for k, v in value.items() if k != key}
        return (
            rest if way == 0 else {**rest, key + "x": value[key]} if way == 1 else {**value, key: drawn_value(value[key], rng, 1)}
        )
    if isinstance(value, list) and value and rng.below(5):
        at = rng.below(len(value))
        way = rng.below(6)
        middle = [] if way == 0 else [value[at]] * 2 if way == 1 else [drawn_value(value[at], rng, 1)]
        return [*value[:at], *middle, *value[at + 1 :]]
    return JUNK[rng.below(len(JUNK))]


def test_a_damaged_scenario_gives_diagnostics_and_nothing_else() -> None:
    names, files, rng = known_names(), sorted(SCENARIOS.glob("*.toml")), stream(0, "scenarios")
    texts = [(str(file), file.read_text()) for file in files]
    refused = 0
    for _ in range(1800):
        path, text = texts[rng.below(len(texts))]
        for _ in range(1 + rng.below(3)):
            text = drawn_text(text, rng) or "\n"
        try:
            cells(loads(text, path, names))
        except ScenarioError as error:
            refused += 1
            for found in error.diagnostics:
                assert found.line <= text.count("\n") + 1
                shown = found.render().removeprefix(path).removesuffix(found.hint).split("\n")
                assert all(c.isprintable() or c == "\t" for line in shown[1:] for c in line)
                assert all(len(line) < LINE_LIMIT + 20 for line in shown[1:])
                assert len(shown[0]) < MESSAGE_LIMIT + 60
    assert refused > 900


def damaged_log(lines: list[bytes], rng: SplitMix64) -> bytes:
    """A log in which lines were changed; half of the time its trailer is made to fit again."""
    rows = [json.loads(line) for line in lines]
    for _ in range(1 + rng.below(3)):
        at = rng.below(len(rows) - 1)
        way = rng.below(6)
        if way == 0:
            del rows[at]
        elif way == 1:
            rows.insert(at, rows[rng.below(len(rows) - 1)])
        else:
            rows[at] = drawn_value(rows[at], rng)
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows[:-1])
    trailer = rows[-1]
    if rng.below(2):
        trailer = {**trailer, "events": len(rows) - 2, "sha256": hashlib.sha256(body).hexdigest()}
    if rng.below(8) == 0:
        trailer = {**trailer, "hazards": JUNK[rng.below(len(JUNK))]}
    return body + json.dumps(trailer).encode() + b"\n"


QUESTIONS = (
    ("log", "check"), ("log", "story", "A"), ("log", "filter", "--where", "cpu=1"), ("log", "diff", "GOOD"), ("report", "--text"),
    ("log", "export", "--to", "chrome", "-o", "OUT"), ("log", "export", "--to", "ftrace", "-o", "OUT"), ("log", "summary"),
    ("log", "export", "--to", "junit", "-o", "OUT"), ("log", "story", "step:20"), ("log", "sql", "select count(*) from hazards"),
)  # fmt: skip


def test_a_damaged_log_is_told_of_in_a_sentence(tmp_path, capsys) -> None:
    good, file, rng = save(tmp_path / "good.jsonl"), tmp_path / "bad.jsonl", stream(0, "logs")
    lines = good.read_bytes().splitlines()
    codes: dict[int, int] = {}
    for number in range(165):
        file.write_bytes(damaged_log(lines, rng))
        words = {"GOOD": str(good), "OUT": str(tmp_path / "out")}
        code = invoke([*(words.get(word, word) for word in QUESTIONS[number % len(QUESTIONS)]), str(file)])
        told = capsys.readouterr().err
        assert code in (0, 1, 2, 3, 4), told
        assert code not in (2, 3, 4) or "error: " in told
        assert "Traceback" not in told
        codes[code] = codes.get(code, 0) + 1
    assert codes[0] > 10
    assert codes[2] > 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "3"}, "its event name, step, CPU or actor is missing or of another type"),
        ({"cpu": None}, "its event name, step, CPU or actor is missing or of another type"),
        ({"mm": 3}, "'mm' is 3, expected str"),
        ({"complete": 1}, "'complete' is 1, expected bool"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path, changes, message) -> None:
    lines = [json.loads(line) for line in save(tmp_path / "a.jsonl").read_bytes().splitlines()]
    at = next(n for n, line in enumerate(lines) if n and set(changes) <= set(line) and line["ev"] != "header")
    lines[at] |= changes
    file = tmp_path / "b.jsonl"
    file.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    log = SavedLog(file)
    assert len(list(log.records())) == at - 1
    assert f"corrupt: line {at + 1} " in log.fault
    assert message in log.fault


def test_events_that_cannot_follow_each_other_are_a_damaged_log(tmp_path, capsys) -> None:
    lines = save(tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    level = next(n for n, row in enumerate(rows) if row["ev"] == "pte_clear")
    lines[level] = json.dumps({**rows[level], "level": 77}).encode() + b"\n"
    (tmp_path / "b.jsonl").write_bytes(b"".join(lines))
    assert invoke(["log", "check", str(tmp_path / "b.jsonl")]) == 2
    assert f"corrupt: event {level} does not fit those before it" in capsys.readouterr().err


@pytest.mark.parametrize("header", [{"actors": [[]]}, {"actors": 3}, {"knobs": []}, {"cell": []}, {"scenario": 3}])
def test_a_damaged_header_is_refused(tmp_path, header) -> None:
    first, rest = save(tmp_path / "a.jsonl").read_bytes().split(b"\n", 1)
    (tmp_path / "b.jsonl").write_bytes(json.dumps({**json.loads(first), **header}).encode() + b"\n" + rest)
    with pytest.raises(LogReadFault, match="corrupt"):
        SavedLog(tmp_path / "b.jsonl")


def test_logs_named_in_full_and_not_are_summed_up_together(tmp_path, monkeypatch, capsys) -> None:
    save(tmp_path / "a.jsonl")
    (tmp_path / "sub").mkdir()
    save(tmp_path / "sub" / "b.jsonl", seed=1)
    monkeypatch.chdir(tmp_path)
    assert invoke(["log", "summary", "sub/b.jsonl", str(tmp_path / "a.jsonl")]) == 0
    assert f"Logs 2 below {tmp_path}" in " ".join(capsys.readouterr().out.split())


SCHEDULE = Schedule(
    version="1", scenario="x", scenario_path="x.toml", digest="d", cell="-", knobs={"cpus": 2, "pcid": True, "thp": "never"},
    strategy="pct:3", seed=7, turns=(("cpu0", 0, "pte_clear"), ("cpu0", 2, "flush"), ("rcu", 0, "")),
)  # fmt: skip


def test_a_damaged_schedule_is_refused_or_whole(tmp_path) -> None:
    file, rng, refused = tmp_path / "s.json", stream(0, "schedules"), 0
    SCHEDULE.save(file)
    assert Schedule.load(file) == SCHEDULE
    good = json.loads(file.read_text())
    for _ in range(300):
        file.write_text(json.dumps(drawn_value(good, rng)))
        try:
            Schedule.load(file).save(tmp_path / "again.json")
        except IncompatibleRecording as error:
            refused += str(error).startswith(str(file)) and "__init__" not in str(error)
    assert refused > 200


@pytest.mark.parametrize("text", ["[" * 100_000, "\x00", '{"ptactors-schedule": 1, "turns": []}', "[]", ""])
def test_what_is_no_schedule_is_refused(tmp_path, text) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(IncompatibleRecording, match=r"s\.json"):
        Schedule.load(tmp_path / "s.json")


def test_a_damaged_recording_is_refused_or_compared(tmp_path, capsys) -> None:
    file, rng, refused = tmp_path / "r.jsonl", stream(0, "recordings"), 0
    dump(file, [each for each in load_shipped("linux-6.18") if each.name == "dn_4k_only_page"])
    good = json.loads(file.read_text())
    for _ in range(40):
        file.write_text(json.dumps(drawn_value(good, rng)) + "\n")
        code = invoke(["host", "compare", str(file), "-q"])
        assert code in (0, 1, 2, 3), capsys.readouterr().err
        refused += code == 2
    assert refused > 12


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (["w"], "w takes 1 to 4 arguments, not 0"),
        (["w", "x"], "'x' is no number of bytes"),
        (["adv", 0, 4096, 3], "3 is no advice"),
        (["repeat", 3, 4096], "a repeat needs a count, a stride and at least one operation"),
        (["repeat", 3, 4096, ["w"]], "w takes 1 to 4 arguments"),
        (["fork", 3], "a fork needs the list of what the child does"),
        (["t2"], "an operation is missing"),
        (["t2", ["w", 0]], "is no name of an operation"),
    ],
)
def test_a_step_that_is_none_is_refused_with_its_place(tmp_path, step, message) -> None:
    seen = {"result": 0, "vmpte_kb": 0, "rss_kb": 0, "faults": 0, "tables": {}, "vmas": []}
    line = {
        "name": "n",
        "kernel": "6.18",
        "thp": "never",
        "provenance": "",
        "steps": [["uffd", 0], step],
        "observed": [seen, seen],
    }
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(UsageError) as error:
        load_recordings(file)
    assert str(error.value).startswith(f"{file}:1: recording 'n', step ")
    assert message in str(error.value)
    file.write_text(json.dumps({**line, "thp": "nevr", "steps": [], "observed": []}))
    with pytest.raises(UsageError, match="did you mean 'never'"):
        load_recordings(file)


def test_a_recorded_repeat_is_read_back(tmp_path) -> None:
    file, steps = tmp_path / "r.jsonl", (("map", 0, 2 << 20), ("repeat", 3, 4096, ("w", 0), ("adv", 0, 4096, "DONTNEED")))
    seen = {"result": 0, "vmpte_kb": 0, "rss_kb": 0, "faults": 0, "tables": {}, "vmas": []}
    line = {"name": "n", "kernel": "6.18", "thp": "", "provenance": "", "steps": steps, "observed": [seen, seen]}
    file.write_text(json.dumps(line))
    (recording,) = load_recordings(file)
    assert recording.steps == steps
    dump(file, [recording])
    assert load_recordings(file) == (recording,)


# Files that are no scenarios.

GOOD = 'ptactors = 1\nname = "good"\nwhy = "ä"\n'


def test_a_byte_order_mark_does_no_harm(tmp_path) -> None:
    (tmp_path / "good.toml").write_bytes(GOOD.encode("utf-8-sig"))
    assert load(tmp_path / "good.toml").why == "ä"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD.encode("utf-16"), "UTF-16 text; a scenario is UTF-8"),
        (GOOD.encode("latin-1"), "not UTF-8 text: byte 0xe4 in line 3"),
        (b"\xef\xbb\xbf" + GOOD.encode("latin-1"), "not UTF-8 text: byte 0xe4 in line 3"),
        (b"#" * (1 << 20) + b"\n", "larger than 1048576 bytes"),
    ],
)
def test_bytes_that_are_no_scenario(tmp_path, data, message) -> None:
    (tmp_path / "good.toml").write_bytes(data)
    with pytest.raises(ScenarioError, match=message):
        load(tmp_path / "good.toml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("godo.toml", "no such file: godo.toml; did you mean 'good.toml'?"),
        ("sub/god.toml", "no such file: sub/god.toml; did you mean 'sub/good.toml'?"),
        ("elsewhere/good.toml", "no such file: elsewhere/good.toml"),
        ("/dev/null", "/dev/null is no file that can be read"),
        ("", "the name of a scenario is missing: it is empty"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_neighbour(tmp_path, monkeypatch, given, message) -> None:
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "good.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        find([given])
    assert str(error.value) == message


TOKEN = Token(
    scenario="x", digest="aaaaaaaa", cell_check="bbbb", outcome="cccc", version="0.1.0", preset=0, cell=0, knobs=(), strategy=2,
    seed=77, steps=90, choices=(0, 0, 3, 0, 9, 1),
)  # fmt: skip


@pytest.mark.parametrize("wrap", ["\n", "\r\n", "\n> ", "\n>> ", " ", "\n\t"])
def test_a_token_survives_a_mail_program(wrap) -> None:
    text = str(TOKEN)
    for at in range(len(text)):
        assert is_token(f" > {text[:4]}{wrap}")
        assert read_token(f" {text[:at]}{wrap}{text[at:]}\n") == TOKEN
    with pytest.raises(IncompatibleRecording, match="checksum"):
        read_token(text[:20] + wrap + text[21:])
