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
