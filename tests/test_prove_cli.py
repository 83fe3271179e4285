"""``ptactors prove`` as a user sees it: words, exit codes, witnesses, and the same bytes for any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_prove_world import expects

from ptactors.cli.prove import _progress
from ptactors.engine.prove import Searched

ROOT = Path(__file__).resolve().parent.parent
WALK = (
    expects(
        'when = { table_free = "rcu" }\nforbidden = "hazard(page_table_uaf_software_walker)"',
        'when = { table_free = "semi-rcu" }\nexists = "hazard(page_table_uaf_software_walker)"',
    )
    .replace("A 4K DONTNEED", "A DONTNEED")
    .replace("read A -> r0", "walk A -> r0")
    .replace('tlb = ["A"]\n', "")
    + '[fault]\ntable_batch_alloc = "fail"\n[matrix]\ntable_free = ["semi-rcu", "rcu"]\n'
)


def ptactors(cwd: Path, *words: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
    line = [sys.executable, "-m", "ptactors", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which both cells were proved, and what was printed."""
    folder = tmp_path_factory.mktemp("prove")
    (folder / "small.toml").write_text(WALK, encoding="utf-8")
    done = ptactors(folder, "prove", "small.toml", "--jobs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_what_is_said(told: tuple[Path, str]) -> None:
    _, out = told
    lines = [line.strip() for line in out.splitlines()]
    assert [line for line in lines if line.startswith("Observation")] == [
        "Observation small/0 Sometimes",
        "Observation small/1 Never",
    ]
    assert any(line.startswith("mutant table_free=semi-rcu: caught under the same bounds, after ") for line in lines)
    assert sum("preemptions unbounded" in line for line in lines) == 2
    assert lines[-1] == "Verdict: held; of the model, not of Linux"


def test_a_witness_replays(told: tuple[Path, str]) -> None:
    folder, out = told
    command = next(line.partition("ptactors ")[2] for line in out.splitlines() if "ptactors replay" in line)
    done = ptactors(folder, *command.split())
    assert "page_table_uaf_software_walker" in done.stdout


def test_processes_and_hash_seeds_change_no_byte(told: tuple[Path, str], tmp_path: Path) -> None:
    folder, out = told
    (tmp_path / "small.toml").write_text(WALK, encoding="utf-8")
    done = ptactors(tmp_path, "prove", "small.toml", "--jobs", "2", hash_seed="7")
    assert done.stdout == out
    files = [sorted((p.relative_to(at), p.read_bytes()) for p in at.rglob("prove-*")) for at in (folder, tmp_path)]
    assert files[0] == files[1] != []


def test_a_bound_is_printed_and_never_is_not_said_within_one(told: tuple[Path, str]) -> None:
    folder, _ = told
    done = ptactors(folder, "prove", "small.toml", "--preemptions", "2", "--log-dir", "bounded", "--jobs", "1")
    assert done.returncode == 0
    assert "Observation small/1 -" in done.stdout
    assert done.stdout.count("preemptions at most 2 (") == 2
    none = ptactors(folder, "prove", "small.toml", "--preemptions", "0", "--log-dir", "bounded", "--jobs", "1", "--json")
    document = json.loads(none.stdout)
    assert (none.returncode, document["verdict"]) == (1, "violated")  # exists, in no run without preemptions
    cells = document["scenarios"][0]["cells"]
    assert [cell["bounds"]["preemptions"] for cell in cells] == [0, 0]
    assert [cell["expectations"][0]["verdict"] for cell in cells] == ["violated", "inconclusive"]


def test_a_mutant_can_be_named_and_a_wrong_one_is_an_error(told: tuple[Path, str]) -> None:
    folder, _ = told
    done = ptactors(folder, "prove", "small.toml", "--mutant", "table=rcu")
    assert done.returncode == 2
    assert "--mutant: unknown knob 'table'" in done.stderr


def test_progress_tells_size_and_time_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cell:
        name = "a=b"

    assert _progress(Cell()) is None  # type: ignore[arg-type]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = _progress(Cell())  # type: ignore[arg-type]
    assert show is not None
    show(Searched(states=3, levels=[1, 2]), 4)
    assert capsys.readouterr().err == "\r\033[Ka=b: 3 states, 4 to go, depth 0"
    levels = [1 + 10 * d * (40 - d) for d in range(25)]
    show(Searched(states=sum(levels), deepest=24, levels=levels), 150)
    assert " in all, 0 s left" in capsys.readouterr().err


def test_a_search_that_is_too_large_says_how_large_and_what_else_can_be_asked(tmp_path: Path) -> None:
    words = ("prove", str(ROOT / "scenarios" / "case2-two-pte-pages.toml"), "--cell", "0", "--jobs", "1")
    done = ptactors(tmp_path, *words, "--max-states", "1500")
    assert done.returncode == 3
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.startswith("too large: ") for line in lines)
    advice = next(line for line in lines if line.startswith("instead: "))
    assert "--max-states" in advice
    assert "--preemptions 1 " in advice
    assert "`ptactors prove prove-case2`" in advice
    assert any(line.startswith("reduction: on; ") for line in lines)
    none = ptactors(tmp_path, *words, "--max-states", "1500", "--every-step", "--json")
    assert json.loads(none.stdout)["scenarios"][0]["cells"][0]["reduction"] == {"on": False, "fused": 0, "passes": 0}
