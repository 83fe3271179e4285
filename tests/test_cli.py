from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from fake_world import EXISTS, FORBIDDEN, MATRIX, NEVER, FakeWorld, story, write_sample

from ptactors import __version__
from ptactors.cli.main import COMMANDS, invoke
from ptactors.cli.options import use_colour
from ptactors.engine.schedule import Schedule
from ptactors.errors import ModelError
from ptactors.log.codec import SCHEMA as LOG_SCHEMA
from ptactors.log.read import LogState, SavedLog
from ptactors.log.write import write_log
from ptactors.oracle.table import HAZARDS
from ptactors.report.document import SCHEMA

MIXED = "mixed_page_size_tlb"


def hooked(cell, seed) -> list[str]:
    return [MIXED] if not cell.config.kernel.flush_before_set_huge and seed % 10 == 7 else []


@pytest.fixture
def world(monkeypatch, tmp_path) -> FakeWorld:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return FakeWorld(hazards=hooked).install(monkeypatch)


def run(*arguments: object) -> int:
    return invoke(["run", "--jobs", "1", "--no-shrink", *map(str, arguments)])


def test_run_prints_a_line_for_herd_and_honest_words(world, capsys) -> None:
    assert run(write_sample(Path())) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "Cell sample/0  flush_before_set_huge=n  seeds 0..119  strategy run-length",
        "Observation sample/0 Sometimes 12 108",
        "  held: exists hazard(mixed_page_size_tlb): seen in 12 of 120 schedules",
        "  witness of exists hazard(mixed_page_size_tlb): "
        "ptactors replay logs/sample/flush_before_set_huge=n/seed-7.schedule.json",
        "Cell sample/1  flush_before_set_huge=y  seeds 0..119  strategy run-length",
        "Observation sample/1 Unseen 0 120",
        "  held, sampled: forbidden hazard(mixed_page_size_tlb): not seen in 120 schedules",
        "Seen: mixed_page_size_tlb (condition) in 1 of 2 cells, as expected",
        "Verdict: held; cells: 2 held; schedules: 240",
    ]
    assert err == ""


def test_the_witness_is_kept_with_log_schedule_and_facts(world, capsys) -> None:
    run(write_sample(Path()))
    folder = Path("logs/sample/flush_before_set_huge=n")
    assert sorted(p.name for p in folder.iterdir()) == ["run.json", "seed-7.jsonl", "seed-7.schedule.json"]
    log = SavedLog(folder / "seed-7.jsonl")
    assert list(log.records()) == list(story())
    assert log.state is LogState.COMPLETE
    assert (log.header["cell"], log.header["seed"]) == ("flush_before_set_huge=n", 7)
    assert log.header["knobs"]["flush_before_set_huge"] is False
    assert Schedule.load(folder / "seed-7.schedule.json").seed == 7
    facts = json.loads((folder / "run.json").read_text())
    assert {"started", "wall_seconds", "host", "python", "command"} <= facts.keys()
    assert not Path("logs/sample/flush_before_set_huge=y").exists()


def test_a_violation_exits_1_and_shows_the_failure(world, capsys) -> None:
    assert run(write_sample(Path(), rest=MATRIX + NEVER)) == 1
    out = capsys.readouterr().out
    assert "BUG: mixed_page_size_tlb in zap_pte_range / do_huge_pmd_anonymous_page" in out
    assert " replay:\n  ptactors replay logs/sample/flush_before_set_huge=n/seed-7.schedule.json\n" in out
    assert out.splitlines()[-1] == "Verdict: violated; cells: 1 held, 1 violated; schedules: 240"


def test_not_seen_exits_3(world, capsys) -> None:
    assert run(write_sample(Path()), "--runs", 5) == 3
    assert "inconclusive: exists hazard(mixed_page_size_tlb): not seen in 5 schedules" in capsys.readouterr().out


def test_the_replay_command_of_a_failure_works(world, capsys) -> None:
    run(write_sample(Path(), rest=MATRIX + NEVER))
    command = next(line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("ptactors replay"))
    log = Path("logs/sample/flush_before_set_huge=n/seed-7.jsonl")
    before = log.read_bytes()
    log.unlink()
    assert invoke(shlex.split(command)[1:]) == 1
    out = capsys.readouterr().out
    assert "BUG: mixed_page_size_tlb" in out
    assert f"violated: forbidden hazard({MIXED})" in out
    assert log.read_bytes() == before


def test_without_logs_the_replay_command_runs_the_seed(world, capsys) -> None:
    run(write_sample(Path(), rest=MATRIX + NEVER), "--log", "none", "--set", "thp=always", "--preset", "rfc-v1")
    assert not Path("logs").exists()
    command = next(line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("ptactors run"))
    assert "--set thp=always" in command
    assert invoke([*shlex.split(command)[1:], "--no-shrink"]) == 1
    assert "Observation sample/0 Always 1 0" in capsys.readouterr().out


def test_log_all_keeps_every_run(world) -> None:
    run(write_sample(Path()), "--runs", 3, "--log", "all", "--log-dir", "kept")
    assert len(list(Path("kept").rglob("*.jsonl"))) == 6


def test_quiet_says_only_what_is_not_held(world, capsys) -> None:
    path = write_sample(Path(), rest=MATRIX + EXISTS + FORBIDDEN)
    run(path, "-q")
    assert capsys.readouterr().out == "Verdict: held; cells: 2 held; schedules: 240\n"
    run(path, "-q", "--runs", 3)
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["Cell", "Observation", "inconclusive:", "Verdict:"]


def test_verbose_adds_hazards_metrics_states_and_the_time(world, capsys) -> None:
    run(write_sample(Path()), "-v")
    out = capsys.readouterr().out
    hazard = "hazard mixed_page_size_tlb: in 12 of 120, first with seed 7"
    for text in (hazard, "metric VmPTE_kB_max: 8", "*> cpu1:r1=v0;", "Time: "):
        assert text in out


def test_the_json_document_fits_its_schema(world, capsys) -> None:
    assert run(write_sample(Path(), rest=MATRIX + NEVER), "--json") == 1
    out = capsys.readouterr().out
    document = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA)
    assert (document["tool"], document["version"], document["verdict"]) == ("ptactors", __version__, "violated")
    (scenario,) = document["scenarios"]
    off, on = scenario["cells"]
    assert off["hazards"] == {MIXED: 12}
    assert off["expectations"][0] == {
        "kind": "forbidden", "condition": f"hazard({MIXED})", "verdict": "violated", "method": "sampled",
        "hits": 12, "schedules": 120,
    }  # fmt: skip
    assert off["witness"]["seed"] == 7
    assert Path(off["witness"]["schedule"]).exists()
    assert off["witness"]["replay"] == "ptactors replay " + off["witness"]["schedule"]
    assert sum(s["count"] for s in off["final_states"]) == off["schedules"] == 120
    assert off["metrics"]["VmPTE_kB_max"] == 8
    assert "witness" not in on
    assert on["knobs"]["flush_before_set_huge"] is True


def test_the_schema_refuses_what_is_no_document(world, capsys) -> None:
    run(write_sample(Path()), "--json")
    document = json.loads(capsys.readouterr().out)
    for damage in (
        lambda d: d.pop("verdict"),
        lambda d: d.update(verdict="maybe"),
        lambda d: d["scenarios"][0]["cells"][0].pop("hazards"),
        lambda d: d["scenarios"][0]["cells"][0].update(extra=1),
    ):
        broken = json.loads(json.dumps(document))
        damage(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_same_command_prints_the_same_bytes(world, capsys) -> None:
    path = write_sample(Path(), rest=MATRIX + NEVER)
    outs = set()
    for _ in range(3):
        run(path)
        outs.add(capsys.readouterr().out)
    assert len(outs) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "flush_before_set_hug=y"], "did you mean 'flush_before_set_huge'"),
        (["--set", "thp"], "knob=value"),
        (["--set", "thp=perhaps"], "always, madvise, never"),
        (["--preset", "v6.15"], "unknown preset 'v6.15'; did you mean 'v6.1'"),
        (["--strategy", "randm"], "did you mean 'random'"),
        (["--cell", "9"], "has no cell '9'"),
        (["--seed", "5..3"], "empty"),
        (["--seed", "x"], "neither a seed nor a range"),
        (["--seed", "1..5", "--runs", "2"], "cannot be used with --runs"),
        (["--runs", "0"], "0"),
        (["no-such-scenario"], "no-such-scenario"),
        (["missing/folder.toml"], "missing/folder.toml"),
    ],
)
def test_usage_errors_exit_2_with_a_sentence(world, capsys, arguments, says) -> None:
    assert run(write_sample(Path()), *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err


def test_broken_scenarios_are_all_told_before_anything_runs(world, capsys) -> None:
    good = write_sample(Path())
    for name in ("one", "two"):
        bad = write_sample(Path(), name)
        bad.write_text(bad.read_text().replace("read  A+0x5000", "raed  A+0x5000"))
    assert run(good, "one.toml", "two.toml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("one", "two"):
        assert f"{name}.toml:21:5: error: unknown operation 'raed'" in err
    assert "^~~~" in err
    assert world.calls == []


def test_a_range_of_seeds_says_how_many(world, capsys) -> None:
    assert run(write_sample(Path()), "--seed", "7..9", "--cell", "0") == 0
    assert "Observation sample/0 Sometimes 1 2" in capsys.readouterr().out


def test_names_and_folders_find_scenarios(world, capsys) -> None:
    Path("scenarios").mkdir()
    write_sample(Path("scenarios"), "first")
    write_sample(Path("scenarios"), "second")
    assert run("first", "-q", "--runs", 10) == 0
    assert run("scenarios", "--runs", 10) == 0
    assert "Cell second/1" in capsys.readouterr().out


def test_two_scenarios_of_one_name_are_refused(world, capsys) -> None:
    Path("other").mkdir()
    assert run(write_sample(Path()), write_sample(Path("other"))) == 2
    assert "of the name 'sample'" in capsys.readouterr().err


def test_an_internal_error_exits_70_and_says_what_to_send(world, capsys) -> None:
    world.boom = ModelError("cpu0 makes the undeclared step Nop")
    assert run(write_sample(Path())) == 70
    err = capsys.readouterr().err
    assert "this is a bug in ptactors" in err
    assert "undeclared step Nop" in err
    assert "seeds 0..49" in err
    assert __version__ in err


def test_an_interrupt_prints_what_was_done(world, capsys, monkeypatch) -> None:
    def interrupted(scenario, cell, *, strategy, seeds, host):
        if cell.index == 1 and 50 in seeds:
            raise KeyboardInterrupt
        return world.play_many(scenario, cell, strategy=strategy, seeds=seeds, host=host)

    monkeypatch.setattr("ptactors.campaign.run.play_many", interrupted)
    path = write_sample(Path())
    assert run(path) == 130
    lines = capsys.readouterr().out.splitlines()
    assert "Cell sample/1  flush_before_set_huge=y  seeds 0..49  strategy run-length" in lines
    assert lines[-1] == "Verdict: inconclusive (interrupted); cells: 2 held; schedules: 170"
    assert run(path, "--json") == 130
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert document["interrupted"] is True


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_the_verdicts_and_exits_2(world, capsys, monkeypatch) -> None:
    folder = Path("logs/sample/flush_before_set_huge=n")
    folder.mkdir(parents=True)
    (folder / "seed-7.jsonl").symlink_to("/dev/full")
    assert run(write_sample(Path())) == 2
    out, err = capsys.readouterr()
    assert "Verdict: held; cells: 2 held" in out
    assert "cannot write logs/sample/flush_before_set_huge=n/seed-7.jsonl: No space left on device" in err


def test_a_replay_that_departs_exits_4(world, capsys) -> None:
    run(write_sample(Path()))
    world.diverges = True
    assert invoke(["replay", "logs/sample/flush_before_set_huge=n/seed-7.schedule.json"]) == 4
    assert "replay diverged at step 17: cpu0 was recorded to make lock_pte" in capsys.readouterr().err


def test_a_replay_of_what_changed_is_refused(world, capsys) -> None:
    path = write_sample(Path())
    run(path)
    schedule = Path("logs/sample/flush_before_set_huge=n/seed-7.schedule.json")
    text = path.read_text()
    path.write_text(text.replace("0x5000", "0x6000"))
    assert invoke(["replay", str(schedule)]) == 4
    assert "was changed since the recording" in capsys.readouterr().err
    path.write_text(text)
    assert invoke(["replay", str(schedule)]) == 0
    schedule.write_text(schedule.read_text().replace(f'"{__version__}"', '"0.0.9"'))
    assert invoke(["replay", str(schedule)]) == 4
    assert "recorded by ptactors 0.0.9" in capsys.readouterr().err
    schedule.write_text("{}")
    assert invoke(["replay", str(schedule)]) == 4
    assert invoke(["replay", "none.json"]) == 2
    path.unlink()
    assert "Traceback" not in capsys.readouterr().err


def test_a_replay_finds_its_cell_under_set_and_preset(world, capsys) -> None:
    path = write_sample(Path())
    run(path, "--set", "flush_ceiling=7", "--set", "flush_before_set_huge=false", "--preset", "v6.14")
    command = next(line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines() if "witness of" in line)
    assert invoke(shlex.split(command)[1:]) == 0
    log = SavedLog(next(Path("logs").rglob("*.jsonl")))
    assert (log.header["knobs"]["flush_ceiling"], log.header["knobs"]["pt_reclaim"]) == (7, "merged")


def test_check_counts_and_complains(world, capsys) -> None:
    good, bad = write_sample(Path()), write_sample(Path(), "bad")
    bad.write_text(bad.read_text().replace("flush_before_set_huge = [", "flush_before_set_hug = ["))
    assert invoke(["check", str(good)]) == 0
    assert capsys.readouterr().out == "sample.toml: ok, 2 cells, 2 expectations\n"
    assert invoke(["check", str(good), str(bad)]) == 2
    assert "bad.toml:27:1: error: unknown key 'flush_before_set_hug'" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["scenarios", "operations", "hazards", "knobs", "presets", "strategies", "events"])
def test_list_lists(world, capsys, what) -> None:
    assert invoke(["list", what]) == 0
    text = capsys.readouterr().out
    assert invoke(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows or what == "scenarios"
    assert all(row["name"] in text for row in rows)


@pytest.mark.parametrize("name", HAZARDS)
def test_every_hazard_has_a_page(name, capsys) -> None:
    assert invoke(["rule", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name} (")
    assert all(len(line) <= 80 for line in out.splitlines())


def test_rule_suggests(capsys) -> None:
    assert invoke(["rule", "mixed_page_size"]) == 2
    assert "did you mean 'mixed_page_size_tlb'?" in capsys.readouterr().err


HEADER = {"tool": "ptactors", "version": __version__, "scenario": "case1", "cell": "-", "seed": 417}


def _log(path: Path, records) -> Path:
    write_log(path, HEADER, ("cpu0", "cpu1", "irq0"), records, causes={}, functions={}, ending={"status": "complete"})
    return path


def test_log_check_runs_the_oracles_on_a_file(tmp_path, capsys) -> None:
    path = _log(tmp_path / "x.jsonl", story()[:4])
    assert invoke(["log", "check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: case1  cell -  seed 417\n  no hazard\n"
    path = _log(tmp_path / "x.jsonl", story())
    invoke(["log", "check", str(path)])
    assert "step 61: mixed_page_size_tlb (condition): " in capsys.readouterr().out


def test_log_check_tells_what_is_wrong_with_a_file(tmp_path, capsys) -> None:
    path = _log(tmp_path / "x.jsonl", story()[:4])
    data = path.read_bytes()
    cases = {
        "cut": (data[: data.rindex(b'{"ev":"trailer"')], 3, "truncated"),
        "bad": (data.replace(b'"step":12', b'"step":11'), 2, "corrupt"),
        "new": (data.replace(b'"schema":%d' % LOG_SCHEMA, b'"schema":99'), 4, "use a later ptactors"),
        "other": (b"hello", 2, "not a log"),
    }
    for name, (content, code, says) in cases.items():
        path.write_bytes(content)
        assert invoke(["log", "check", str(path)]) == code, name
        assert says in capsys.readouterr().err


def test_schemas_and_completions(capsys) -> None:
    for what in ("scenario", "document"):
        assert invoke(["schema", what]) == 0
        jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))
    for shell in ("zsh", "fish"):
        assert invoke(["completion", shell]) == 0
        assert "_PTACTORS_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys) -> None:
    assert invoke([command, "--help"]) == 0
    assert "Usage: ptactors " + command in capsys.readouterr().out


def test_unknown_commands_get_a_suggestion(capsys) -> None:
    assert invoke(["rnu", "x"]) == 2
    assert "did you mean 'run'?" in capsys.readouterr().err
    assert invoke(["run"]) == 2


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "terminal", "environment", "colour"),
    [
        ("auto", True, {}, True), ("auto", False, {}, False), ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", False, {"FORCE_COLOR": "1"}, True), ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False), ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"FORCE_COLOR": "1"}, False),
    ],
)  # fmt: skip
def test_when_there_is_colour(choice, terminal, environment, colour) -> None:
    assert use_colour(choice, _Terminal() if terminal else io.StringIO(), environment) is colour


def test_colour_paints_the_verdicts_only(world, capsys) -> None:
    path = write_sample(Path())
    run(path)
    plain = capsys.readouterr().out
    run(path, "--color", "always")
    coloured = capsys.readouterr().out
    assert "\x1b[32m\x1b[1mheld\x1b[0m" in coloured
    assert coloured.replace("\x1b[32m\x1b[1m", "").replace("\x1b[0m", "") == plain


LIGHT = """
import sys
from ptactors.cli.main import invoke
code = invoke(sys.argv[1:])
assert "trio" not in sys.modules
sys.exit(code)
"""
ROOT = Path(__file__).resolve().parent.parent


def shell(*words: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["list", "hazards"], ["list", "operations"], ["list", "strategies"], ["check", "sample.toml"],
     ["rule", "leak"], ["log", "check", "x.jsonl"], ["schema", "document"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_do_not_import_trio(tmp_path, arguments) -> None:
    write_sample(tmp_path)
    _log(tmp_path / "x.jsonl", story()[:4])
    done = shell(sys.executable, "-c", LIGHT, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()


def test_a_closed_pipe_is_no_error_and_no_violation(tmp_path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "ptactors", "list", "knobs"]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told(tmp_path) -> None:
    done = shell("bash", "-c", f"{shlex.quote(sys.executable)} -m ptactors list knobs > /dev/full", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, b"error: No space left on device\n")
