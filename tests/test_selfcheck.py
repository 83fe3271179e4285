"""Runs made twice: a model that does not depend on its seed alone is caught by the run itself, at next to no cost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from fake_world import MATRIX, NEVER, FakeWorld, write_sample

from ptactors.cli.main import invoke
from ptactors.cli.selfcheck import FREE, SHARE, SelfCheck
from ptactors.model.event import LockFail
from ptactors.world.program import BeginOp

MIXED = "mixed_page_size_tlb"


def run(*words: object) -> int:
    return invoke(["run", "--jobs", "1", "--no-shrink", *map(str, words)])


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_model_with_a_memory_is_an_internal_error(monkeypatch, capsys) -> None:
    """An operation that does something else every other time in this process, over all runs: as set order or id() would."""
    made = [0]
    apply = BeginOp.apply

    def forgetful(self, state):
        made[0] += 1
        if made[0] % 2:
            state.emit(LockFail(0, "pte:0x1", "pte"))
        return apply(self, state)

    monkeypatch.setattr(BeginOp, "apply", forgetful)
    assert run(write_sample(Path(), rest="", runs=5)) == 70
    err = capsys.readouterr().err
    assert "self-check: sample, cell -, strategy run-length, seed " in err
    assert "is not the same run twice: " in err
    assert "this is a bug in ptactors" in err


def test_the_same_model_without_it_is_none(capsys) -> None:
    assert run(write_sample(Path(), rest="", runs=5)) == 0
    assert capsys.readouterr().err == ""


def test_a_witness_that_does_not_show_it_again_is_an_internal_error(monkeypatch, capsys) -> None:
    """The campaign saw the hazard with seed 3; made again for the log, the run does not have it."""
    world = FakeWorld(hazards=lambda cell, seed: [MIXED] if seed == 3 else []).install(monkeypatch)
    again = FakeWorld()
    monkeypatch.setattr("ptactors.campaign.witness.play", again.play)
    assert run(write_sample(Path(), rest=MATRIX + NEVER)) == 70
    assert f"made again it does not show {MIXED}" in capsys.readouterr().err
    assert world.calls


@attrs.frozen
class Counted:
    """As much of a result as decides whether a check is due."""

    steps: int
    runs: int


def checked(cells: list[Counted], monkeypatch, strategy: str = "run-length") -> tuple[SelfCheck, list[tuple[int, str]]]:
    made: list[tuple[int, str]] = []

    def digest(self, batch, result, seed, host):
        made.append((seed, host))
        return "same"

    monkeypatch.setattr(SelfCheck, "_digest", digest)
    check = SelfCheck("trio")
    for each in cells:
        tally = SimpleNamespace(steps=each.steps, runs=each.runs, hazards={})
        check.look(None, SimpleNamespace(tally=tally, seed=0, strategy=strategy, expectations=()), None)
    return check, made


def test_checks_stay_within_a_hundredth_of_all_steps(monkeypatch) -> None:
    check, made = checked([Counted(50_000, 250)] * 200, monkeypatch)
    assert check.spent <= FREE + check.steps // SHARE
    assert check.spent > check.steps // SHARE // 2, "it is used, too"
    assert {host for _, host in made} == {"trio", "direct"}
    assert len({seed for seed, _ in made}) > 1


def test_runs_of_millions_of_steps_are_not_made_again(monkeypatch) -> None:
    assert checked([Counted(2_000_000, 1)] * 5, monkeypatch)[1] == []


def test_a_strategy_that_needs_probes_is_dearer(monkeypatch) -> None:
    cheap, dear = (len(checked([Counted(20_000, 100)] * 20, monkeypatch, name)[1]) for name in ("random", "pct:3"))
    assert dear < cheap
