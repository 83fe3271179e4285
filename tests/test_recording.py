"""What is kept beside the events of a run: where each step was made, and what it hangs on; and what keeping it costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_runs import case1
from saved_logs import TEXTS
from small_machines import cell, scenario

from ptactors.cli import bench_log
from ptactors.cli.main import invoke
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.model.state import State
from ptactors.model.step import ANY
from ptactors.world import Outcome, play
from ptactors.world.recording import Recording

SEEDS = range(6)


class Reference:
    """The definition of a cause, worked out while the run is made, and every actor's stack by asking the actor itself."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.causes: dict[int, int] = {}
        self.stacks: dict[int, str] = {}
        self._writes: dict[tuple, list[tuple[int, int]]] = {}
        self._last: dict[int, int] = {}

    def before(self, actor: Actor) -> None:
        step, now = actor.next_step(), self.state.step
        self.stacks[now] = actor.where()
        reads, writes = step.touches(self.state)
        found = [0]
        for key in reads:
            for at, by in self._of(key):
                content = key[0] == "entry" or (key[0] == "data" and key not in writes)
                if (content or by != actor.id) and (key[0] == "entry" or key not in writes):
                    found.append(at)
        for key in (*step.waits(), *((actor.gate,) if actor.gate else ())):
            found += [at for at, by in self._of(key) if by != actor.id and at > self._last.get(actor.id, 0)]
        if max(found):
            self.causes[now] = max(found)
        self._last[actor.id] = now

    def _of(self, key: tuple) -> list[tuple[int, int]]:
        """The last write of the cell; of a key that stands for a table, the last of each of its entries."""
        if key[-1] == ANY and len(key) > 1:
            return [marks[-1] for other, marks in self._writes.items() if other[:-1] == key[:-1]]
        return self._writes.get(key, [])[-1:]

    def after(self, actor: Actor) -> None:
        """Note what was really written, which is less than what a step declares."""
        state = self.state
        assert state.writes is not None
        for key in state.writes:
            self._writes.setdefault(key, []).append((state.step, actor.id))


def recorded(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Reference]:
    """A recorded run with the reference beside it; the reference reads the written keys before the recorder clears them."""
    made: list[Reference] = []
    after = Recording.after

    def both(self: Recording, actor: Actor) -> None:
        made[0].after(actor)
        after(self, actor)

    def watch(state: State) -> Reference:
        made.append(Reference(state))
        return made[0]

    monkeypatch.setattr(Recording, "after", both)
    hookless = type("Hook", (), {"before": lambda _, actor: made[0].before(actor), "after": lambda _, actor: None})
    text = TEXTS[name]
    outcome = play(
        scenario(text), cell(text), strategy="run-length", seed=seed, host="direct", record=True,
        watch=[lambda state: (watch(state), hookless())[1]],
    )  # fmt: skip
    return outcome, made[0]


@pytest.mark.parametrize("name", TEXTS)
def test_causes_and_functions_are_those_of_the_definition(name: str, monkeypatch) -> None:
    seen = 0
    for seed in SEEDS:
        with monkeypatch.context() as patch:
            outcome, reference = recorded(name, seed, patch)
        assert dict(outcome.causes) == reference.causes
        assert {step for step, actor, _ in outcome.records or () if step > 0 and actor >= 0} <= outcome.functions.keys()
        assert all(reference.stacks[step] == stack for step, stack in outcome.functions.items())
        seen += len(outcome.causes)
    assert seen > 100


def test_set_up_is_nobodys_step() -> None:
    """The first step writes nothing; what was written before it must not be taken for its work."""
    text = TEXTS["race"]
    for seed in SEEDS:
        assert 1 not in play(scenario(text), cell(text), strategy="random", seed=seed, record=True).causes.values()


def test_a_lock_that_was_free_all_along_has_no_cause_and_one_that_was_waited_for_has() -> None:
    text = TEXTS["busy"]
    waited = free = 0
    for seed in range(12):
        outcome = play(scenario(text), cell(text), strategy="random", seed=seed, host="direct", record=True)
        released: dict[str, int] = {}
        own: dict[int, int] = {}
        for step, actor, event in outcome.records or ():
            name = type(event).__name__
            if name == "LockAcquire" and event.lock in released and event.mode == "spin":
                if released[event.lock] > own.get(actor, 0):
                    waited += outcome.causes.get(step) == released[event.lock]
                elif outcome.causes.get(step) != released[event.lock]:
                    free += 1
            elif name == "LockRelease":
                released[event.lock] = step
            if step > 0:
                own[actor] = step
    assert waited
    assert free


def test_the_chain_of_case_1_reads_as_the_bug_does(tmp_path: Path, capsys) -> None:
    log = case1(tmp_path)
    assert invoke(["log", "story", "A", str(log), "--json"]) == 0
    moments = json.loads(capsys.readouterr().out)["moments"]
    hazard = next(m for m in moments if "mixed_page_size_tlb" in m["hazards"])
    assert invoke(["log", "story", f"step:{hazard['step']}", str(log), "--json"]) == 0
    chain = [m["ev"] for m in json.loads(capsys.readouterr().out)["moments"]]
    told = ["sys_enter", "pmd_clear", "page_fault_user", "set_huge_pmd", "tlb_fill"]
    assert [ev for ev in chain if ev in told] == told


# -- what it costs --------------------------------------------------------------------------------------------------------

PATH = Path(__file__).parent.parent / "scenarios" / "case1-mixed-page-size.toml"


def test_every_way_of_running_makes_the_same_run() -> None:
    """The machine without a recorder is the same machine."""
    told = {}
    for way in bench_log.WAYS:
        one = bench_log.machine(str(PATH), way, 3)
        host_direct.run(one.baton)
        told[way] = one.baton.turns.tolist(), one.finish(), [f.hazard for f in one.oracles.findings]
    assert told["nothing"] == told["again"] == told["none"] == told["record"]
    assert bench_log.timed(bench_log.Piece(str(PATH), "record", 0, 2))[1] > 100


def measured(none: float, record: float, again: float = 1.0, spread: float = 0.0) -> bench_log.Measured:
    ratios = {way: (m - spread, m, m + spread) for way, m in (("again", again), ("none", none), ("record", record))}
    return bench_log.Measured("x", 10.0, ratios, 5.0)


@pytest.mark.parametrize(
    ("each", "none", "record"),
    [
        (measured(1.01, 1.15), "held", "held"),
        (measured(1.06, 1.25), "violated", "violated"),
        (measured(1.01, 1.19, again=1.02), "held", "inconclusive"),
        (measured(1.0, 1.10, spread=0.06), "inconclusive", "held"),
    ],
)
def test_noise_decides_what_can_be_told(each, none: str, record: str) -> None:
    assert (bench_log.verdict([each], "none")[0], bench_log.verdict([each], "record")[0]) == (none, record)


def test_the_command_measures_in_processes_that_take_turns(monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench_log, "STEPS", 1)
    code = invoke(["bench", "log", str(PATH), "--rounds", "2", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document["verdicts"]) == {"none", "record"}
    assert set(document["scenarios"][0]["ratios"]) == {"again", "none", "record"}
    words = [each["verdict"] for each in document["verdicts"].values()]
    assert code == (1 if "violated" in words else 3 if "inconclusive" in words else 0)


def test_the_median_is_known_the_better_the_more_rounds_there_are() -> None:
    few, many = bench_log.median_within([1.0, 2.0, 3.0]), bench_log.median_within([n / 100 for n in range(101)])
    assert few == (1.0, 2.0, 3.0)
    assert many == (0.4, 0.5, 0.6)
