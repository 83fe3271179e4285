"""The command line with the machine under it: every promise about bytes, processes and replays that a fake cannot keep."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_world import MATRIX, NEVER, write_sample

from ptactors.cli.main import invoke
from ptactors.log.read import LogState, SavedLog

ROOT = Path(__file__).resolve().parent.parent


def ptactors(cwd: Path, *words: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
    line = [sys.executable, "-m", "ptactors", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def violated(tmp_path_factory) -> tuple[Path, str]:
    """A folder in which the sample was run with an expectation that does not hold, and what was printed."""
    folder = tmp_path_factory.mktemp("real")
    write_sample(folder, rest=MATRIX + NEVER, runs=60)
    done = ptactors(folder, "run", "sample.toml", "--jobs", "1")
    assert done.stderr == ""
    assert done.returncode == 1
    return folder, done.stdout


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("seed-*"))}


def test_case_1_is_found_and_told(violated) -> None:
    _, out = violated
    assert "Observation sample/0 Sometimes" in out
    assert "Observation sample/1 Unseen 0 60" in out
    block = out[out.index("=====") : out.rindex("=====")]
    assert "BUG: mixed_page_size_tlb in " in block
    assert len(re.findall("<-- HAZARD", block)) == 1
    assert all(len(line) <= 80 and line == line.rstrip() for line in block.splitlines())


@pytest.mark.parametrize(("jobs", "hash_seed"), [("1", "1"), ("2", "2"), ("3", "3")])
def test_jobs_and_hash_seeds_change_no_byte(violated, tmp_path, jobs, hash_seed) -> None:
    folder, out = violated
    write_sample(tmp_path, rest=MATRIX + NEVER, runs=60)
    done = ptactors(tmp_path, "run", "sample.toml", "--jobs", jobs, hash_seed=hash_seed)
    assert done.stdout == out
    assert files(tmp_path) == files(folder)
    assert files(folder)


def test_the_host_changes_no_byte(violated, tmp_path) -> None:
    folder, out = violated
    write_sample(tmp_path, rest=MATRIX + NEVER, runs=60)
    assert ptactors(tmp_path, "run", "sample.toml", "--jobs", "1", "--host", "direct").stdout == out
    assert files(tmp_path) == files(folder)


def test_the_replay_line_of_the_failure_works_and_writes_the_same_log(violated, tmp_path) -> None:
    folder, out = violated
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("ptactors replay"))
    done = ptactors(folder, *shlex.split(command)[1:], "--log-dir", str(tmp_path), hash_seed="7")
    assert (done.returncode, done.stderr) == (1, "")
    title = next(line for line in out.splitlines() if line.startswith("BUG: "))
    assert title in done.stdout
    (log,) = tmp_path.rglob("*.jsonl")
    assert log.read_bytes() == next(data for name, data in files(folder).items() if name.endswith(".jsonl"))


def test_the_replay_line_is_a_token_that_needs_no_file(violated, tmp_path) -> None:
    _, out = violated
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("ptactors replay pt1."))
    assert len(command.split()[-1]) <= 400
    write_sample(tmp_path, rest=MATRIX + NEVER, runs=60)
    assert ptactors(tmp_path, *shlex.split(command)[1:], "--log", "none").returncode == 1


def test_a_scenario_that_is_not_found_by_its_name_is_named_in_the_line(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    write_sample(tmp_path / "deep", rest=MATRIX + NEVER, runs=60)
    done = ptactors(tmp_path, "run", "deep/sample.toml", "--jobs", "1", "--host", "direct", "--no-shrink", "--log", "none")
    command = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("ptactors replay pt1."))
    assert command.endswith(" --scenario deep/sample.toml")
    assert ptactors(tmp_path, *shlex.split(command)[1:], "--log", "none").returncode == 1


def test_the_failure_is_shrunk_and_the_small_file_shows_it(violated) -> None:
    folder, out = violated
    told = out[out.index("Shrunk: ") :]
    assert told.startswith("Shrunk: mixed_page_size_tlb (2M over 4K)\n")
    assert "least possible" in told
    assert told.count("<-- HAZARD") == 1
    assert all(len(line) <= 80 for line in told[: told.index(" replay: ")].splitlines())
    command = next(line.removeprefix(" replay:") for line in told.splitlines() if line.startswith(" replay:"))
    assert "-min.toml" in command
    done = ptactors(folder, *shlex.split(command)[1:], "--log", "none", "--jobs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "seen in 1 of 1 schedule" in done.stdout


@pytest.fixture
def here(tmp_path, monkeypatch) -> list[str]:
    """The command line of a run that fails, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path, rest=MATRIX + NEVER, runs=60)
    return ["run", "sample.toml", "--jobs", "1", "--host", "direct", "--log", "none"]


def test_a_budget_that_is_spent_is_said_to_be(here, monkeypatch, capsys) -> None:
    monkeypatch.setattr("ptactors.cli.shrinking.RATE", 50)
    assert invoke([*here, "--shrink-time", "40s"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "not settled: the budget of 2000 steps was spent" in " ".join(out.split())
    assert " replay:  ptactors shrink pt1." in out


def test_what_the_clock_cuts_goes_to_stderr(here, monkeypatch, capsys) -> None:
    monkeypatch.setattr("ptactors.cli.shrinking.RATE", 10**9)
    assert invoke([*here, "--shrink-time", "1ms"]) == 1
    out, err = capsys.readouterr()
    assert "shrinking was ended after 0.001 s; what it had reached:\nShrunk: mixed_page_size_tlb" in err
    assert invoke([*here, "--no-shrink"]) == 1
    assert capsys.readouterr() == (out, "")


def test_the_saved_log_is_whole_and_the_oracles_find_the_same(violated) -> None:
    folder, _ = violated
    (path,) = folder.rglob("*.jsonl")
    log = SavedLog(path)
    records = list(log.records())
    assert (log.state, log.fault) == (LogState.COMPLETE, "")
    assert records
    done = ptactors(folder, "log", "check", str(path))
    assert ": mixed_page_size_tlb (condition): " in done.stdout
    assert done.returncode == 0, "a condition is no violation"


def test_a_tampered_schedule_diverges_with_step_and_reason(violated, tmp_path) -> None:
    folder, _ = violated
    (path,) = folder.rglob("*.schedule.json")
    data = json.loads(path.read_text())
    actor, names = data["turns"][1]
    data["turns"][1] = [actor, ["no_such_step", *names[1:]]]
    broken = tmp_path / "broken.schedule.json"
    broken.write_text(json.dumps(data))
    done = ptactors(folder, "replay", str(broken), "--log", "none")
    assert done.returncode == 4
    assert re.search(r"replay diverged at step \d+: .* was recorded to make no_such_step", done.stderr)
    data["turns"] = data["turns"][:2]
    broken.write_text(json.dumps(data))
    assert ptactors(folder, "replay", str(broken), "--log", "none").returncode == 4


def test_an_interrupt_prints_and_leaves_no_process(tmp_path) -> None:
    path = write_sample(tmp_path, runs=1_000_000)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "ptactors", "run", str(path), "--jobs", "2", "-x", "--log", "none", "--cell", "1"]
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=3)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.splitlines()[-1].startswith("Verdict: inconclusive (interrupted)")
    assert "Traceback" not in err
    assert _gone(process.pid), "a worker is still there"


def _gone(group: int) -> bool:
    """Whether every process of the group ends within some seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
