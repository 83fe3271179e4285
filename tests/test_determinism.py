"""The same scenario, cell and seed give the same bytes in any process, with any hash seed, number of jobs, and after a replay."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_cases import CASES, MAYBE, PRESETS
from small_machines import text, vma

ROOT = Path(__file__).resolve().parent.parent
MIX = text(
    ("write A = 1", "Z: madvise A DONTNEED", "write A+0x5000 = 2", "munmap A+2M 4K"),
    ("read A+0x3000 -> r0", "write A+0x5000 = 5", "gup_fast A -> g", "madvise A+0x5000 2M DONTNEED"),
    "walk A+0x3000 times 2 -> w",
    machine='thp = "always"\nspeculate = { cpu1 = ["A+0x3000", "A+0x5000"] }\nspeculative_fills = 2',
    vmas=vma(size="6M", populate={"A+0x3000": "old", "A+2M": "x"}),
    rest=MAYBE + '[matrix]\npreset = ["rfc-v1", "v6.14"]\n[explore]\nruns = 2\nseed = 11\n',
).replace('name = "small"', 'name = "mix"')


def ptactors(folder: Path, *words: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)}
    line = [sys.executable, "-m", "ptactors", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of the runs: run.json stands beside them and is the only one that may differ."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "run.json"}


def campaign(folder: Path, number: int) -> tuple[str, str, int, dict[str, bytes]]:
    folder.mkdir()
    (folder / "mix.toml").write_text(MIX)
    host = ("trio", "direct")[number % 3 == 2]
    done = ptactors(
        folder, "run", "mix.toml", "--log", "all", "--log-dir", "out", "--jobs", str(1 + number % 2), "--host", host,
        hash_seed=number * 7919,
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode, files(folder / "out")


def test_the_same_bytes_in_several_processes(tmp_path) -> None:
    _in_processes(tmp_path, 6)


@pytest.mark.full
def test_the_same_bytes_in_twenty_processes(tmp_path) -> None:
    _in_processes(tmp_path, 20)


def _in_processes(folder: Path, count: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda n: campaign(folder / f"p{n}", n), range(count)))
    out, err, code, kept = made[0]
    assert (code, err) == (0, "")
    assert "Cell mix/1" in out
    logs = [name for name in kept if name.endswith(".jsonl")]
    assert len(logs) == 4  # two cells, two seeds
    assert len({kept[name] for name in logs}) == 4
    for other in made[1:]:
        assert other == made[0]


def test_a_replay_of_the_saved_schedule_writes_the_same_log(tmp_path) -> None:
    _, _, _, kept = campaign(tmp_path / "p", 0)
    schedules = [name for name in kept if name.endswith(".schedule.json")]
    assert len(schedules) == 4
    for number, name in enumerate(schedules[::2]):
        host = ("direct", "trio")[number % 2]
        done = ptactors(
            tmp_path / "p", "replay", f"out/{name}", "--log-dir", f"again{number}", "--host", host, hash_seed=number + 5
        )
        assert (done.returncode, done.stderr) == (0, "")
        again = files(tmp_path / "p" / f"again{number}")
        written = [each for each in again if each.endswith(".jsonl")]
        assert len(written) == 1
        log = name.replace(".schedule.json", ".jsonl")
        assert again[written[0]] == kept[log]


DIGESTS = """
import sys
sys.path.insert(0, sys.argv[1])
from small_cases import CASES, PRESETS
from small_machines import run
for name in CASES:
    for seed, preset in enumerate(PRESETS):
        done = run(CASES[name], seed, preset=preset, strategy="run-length", record=True)
        print(name, preset, done.digest, len(done.records), done.findings)
"""


def test_every_case_has_the_same_digest_under_any_hash_seed() -> None:
    def digests(seed: int) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)}
        line = [sys.executable, "-c", DIGESTS, str(ROOT / "tests")]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(digests, (0, 99)))
    assert made[0] == made[1]
    assert made[0].count("\n") == len(PRESETS) * len(CASES)
