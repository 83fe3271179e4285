"""Schedules on disk, replays that depart, orders that are pinned."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from toy_steps import (
    Await,
    Life,
    Put,
    baton,
    direct,
    puts,
    turns,
)

from ptactors.engine.baton import Baton
from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.replay import Replay
from ptactors.engine.strategy.script import Script
from ptactors.errors import IncompatibleRecording, ReplayDivergence

# -- schedules ------------------------------------------------------------------------------------------------------------


def schedule(turns_: tuple[tuple[str, int, str], ...] = (("a", 0, "put"), ("a", 2, "get"), ("b", 0, ""))) -> Schedule:
    return Schedule(
        version="1", scenario="s", scenario_path="s.toml", digest="d", cell="-", knobs={"a": 1, "b": True, "c": "x"},
        strategy="random", seed=3, turns=turns_,
    )  # fmt: skip


def test_a_schedule_comes_back_from_its_file(tmp_path) -> None:
    made = schedule()
    made.save(tmp_path / "x.json")
    assert Schedule.load(tmp_path / "x.json") == made
    Schedule.load(tmp_path / "x.json").save(tmp_path / "y.json")
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()
    empty = schedule(())
    empty.save(tmp_path / "empty.json")
    assert Schedule.load(tmp_path / "empty.json") == empty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[: len(text) // 2], "not a schedule file"),
        (lambda text: "[]", "not a schedule file"),
        (lambda text: '{"a": 1}', "not a schedule file"),
        (lambda text: text.replace('"ptactors-schedule": 1', '"ptactors-schedule": 99'), "format 1"),
        (lambda text: text.replace('"seed"', '"sead"'), "damaged"),
        (lambda text: text.replace('"get/2"', '"get/two"'), "damaged"),
        (lambda text: text.replace('["get', '"[get').replace('"turns": [', '"turns": [7, '), "damaged|not a schedule"),
        (lambda text: text.replace('"turns"', '"torns"'), "damaged"),
    ],
)
def test_what_is_no_whole_schedule_is_refused(tmp_path, change, says: str) -> None:
    path = tmp_path / "x.json"
    schedule().save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(IncompatibleRecording, match=says):
        Schedule.load(path)


def replayed(turns_: Sequence[tuple[str, int, str]], *lives: Life) -> Baton:
    return direct(baton(*lives, strategy=Replay(schedule(tuple(turns_)))))


def test_a_replay_knows_whether_the_run_ended_where_the_recording_did() -> None:
    replay = Replay(schedule((("a", 0, "put"), ("a", 0, "put"), ("a", 0, "put"))))
    done = direct(baton(puts("x", 2), strategy=replay))
    with pytest.raises(ReplayDivergence, match=r"at step 3: .*ended"):
        replay.finished(len(done.turns))
    replay.finished(3)


def test_a_replay_follows_its_turns() -> None:
    done = replayed([("b", 0, "put"), ("a", 0, "put"), ("b", 0, ""), ("a", 0, "")], puts("x", 2), puts("y", 2))
    assert turns(done) == ["b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("given", "step", "says"),
    [
        ([("b", 0, "put")], 2, "the recording ends after 1 steps, the run does not"),
        ([("c", 0, "put")], 1, "c was recorded to make put, but it cannot move; able to move: a .put., b .put."),
        ([("a", 1, "put")], 1, "a was recorded to make put, but it cannot move"),
        ([("a", 0, "put"), ("a", 0, "get")], 2, "a was recorded to make get, here it offers put"),
        ([("a", 0, "")] * 3, 3, "a was recorded to make a step, but it cannot move"),
    ],
)
def test_a_replay_that_departs_says_where_and_why(given, step: int, says: str) -> None:
    with pytest.raises(ReplayDivergence, match=f"replay diverged at step {step}: {says}") as caught:
        replayed(given, puts("x", 2), puts("y", 2))
    assert caught.value.step == step


# -- a pinned order -------------------------------------------------------------------------------------------------------


def pinned(order: Sequence[str], *lives: Life, labels: dict[str, str] | None = None) -> list[str]:
    script = Script(order)
    keys = {name: {"label": label} for name, label in (labels or {}).items()}
    done = direct(baton(*lives, strategy=script, **keys))
    script.finished(len(done.turns))
    return turns(done)


def test_a_pinned_order_is_followed() -> None:
    assert pinned(["b:put", "a:put", "b:put#2"], puts("x", 2), puts("y", 2)) == ["b", "a", "b", "a"]
    assert pinned(["a:Z.put#2", "b:put"], puts("x", 3), puts("y", 1), labels={"a": "Z"}) == ["a", "a", "b", "a"]


def test_whoever_the_pinned_step_waits_for_moves_without_overtaking_later_pins() -> None:
    async def waiter() -> None:
        await Await("x")
        await Put("y", 5)

    assert pinned(["a:put", "b:put#2"], waiter(), puts("x", 2), puts("z", 2))[:2] == ["b", "a"]


def test_an_impossible_pin_is_reported() -> None:
    async def waiter() -> None:
        await Await("x")

    with pytest.raises(ReplayDivergence, match="the pinned step a:await cannot be reached: a cannot move"):
        pinned(["a:await", "b:put"], waiter(), puts("x", 1))


def test_a_pin_that_never_came_is_reported() -> None:
    with pytest.raises(ReplayDivergence, match="the pinned step a:put#3"):
        pinned(["b:put", "a:put#3"], puts("x", 2), puts("y", 2))


def test_an_unreadable_pin_is_refused() -> None:
    with pytest.raises(ReplayDivergence, match="cannot read the pinned label 'b put'"):
        Script(["b put"])
