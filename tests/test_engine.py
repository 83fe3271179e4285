"""The engine alone, on machines of a few cells: who is asked, in which order, and what ends a run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
import pytest
import trio

from ptactors.config import Config
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.audit import Audit
from ptactors.engine.baton import ALTERNATIVES, Baton
from ptactors.engine.host_trio import TrioHost
from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.base import Option
from ptactors.engine.strategy.replay import Replay
from ptactors.engine.strategy.script import Script
from ptactors.engine.strategy.table import STRATEGIES
from ptactors.errors import IncompatibleRecording, ModelError, ReplayDivergence
from ptactors.model.state import State, family
from ptactors.model.step import AnyOf, Step

family("toy", 0, "a number of the engine's tests")
family("toy_lock", -1, "who holds a lock of the engine's tests")
Life = Coroutine[Any, Any, None]


@attrs.frozen
class Get(Step[int]):
    name_of: str
    label = "get"

    def apply(self, state: State) -> int:
        return state.read(("toy", self.name_of))

    def touches(self, state):
        return (("toy", self.name_of),), ()


@attrs.frozen
class Put(Step[None]):
    name_of: str
    value: int
    label = "put"

    def apply(self, state: State) -> None:
        state.write(("toy", self.name_of), self.value)

    def touches(self, state):
        return (), (("toy", self.name_of),)


@attrs.frozen
class Await(Step[int]):
    """Blocks until the cell is at least so much, and takes that away again."""

    name_of: str
    least: int = 1
    label = "await"
    blocking = True

    def ready(self, state: State) -> bool:
        return state.read(("toy", self.name_of)) >= self.least

    def waits(self):
        return (("toy", self.name_of),)

    def apply(self, state: State) -> int:
        value = state.read(("toy", self.name_of))
        state.write(("toy", self.name_of), value - self.least)
        return value

    def touches(self, state):
        return self.waits(), self.waits()


@attrs.frozen
class Take(Step[None]):
    who: int
    lock: str
    label = "take"
    blocking = True

    def ready(self, state: State) -> bool:
        return state.read(("toy_lock", self.lock)) == -1

    def waits(self):
        return (("toy_lock", self.lock),)

    def apply(self, state: State) -> None:
        state.write(("toy_lock", self.lock), self.who)

    def touches(self, state):
        return self.waits(), self.waits()


@attrs.frozen
class Drop(Step[None]):
    lock: str
    label = "drop"

    def apply(self, state: State) -> None:
        state.write(("toy_lock", self.lock), -1)

    def touches(self, state):
        return (), (("toy_lock", self.lock),)


@attrs.frozen
class Liar(Step[None]):
    """Declares less than it does; ``how`` says what it hides."""

    how: str
    label = "lie"
    blocking = True

    def ready(self, state: State) -> bool:
        return self.how != "guard" or state.read(("toy", "hidden")) == 0

    def waits(self):
        return (("toy", "shown"),)

    def apply(self, state: State) -> None:
        state.write(("toy", "shown"), 1)
        if self.how == "write":
            state.write(("toy", "hidden"), 1)
        if self.how == "erase":
            state.write(("toy", "hidden"), 0)
        if self.how == "read":
            state.read(("toy", "hidden"))

    def touches(self, state):
        return self.waits(), self.waits()


@attrs.frozen
class Burst(Step[None]):
    """Raises."""

    error: BaseException
    label = "burst"

    def apply(self, state: State) -> None:
        raise self.error

    def touches(self, state):
        return (), ()


class Watch:
    """A strategy that notes what it was shown, and takes what a function says."""

    def __init__(self, choose: Callable[[Sequence[Option]], int] = lambda options: 0, every_turn: bool = False) -> None:
        self.every_turn = every_turn
        self.shown: list[tuple[int, list[tuple[str, int, str]]]] = []
        self._choose = choose

    def choose(self, step: int, options: Sequence[Option]) -> int:
        self.shown.append((step, [(o.actor.name, o.alternative, o.step.name()) for o in options]))
        return self._choose(options)

    def finished(self, steps: int) -> None:
        pass


def actors(*lives: Life, **keys: Any) -> tuple[Actor, ...]:
    """Actors a, b, c ...; ``a=dict(gate=...)`` sets fields of one."""
    made = []
    for number, life in enumerate(lives):
        name = "abcdefgh"[number]
        made.append(Actor(id=number, name=name, coroutine=life, **keys.get(name, {})))
    return tuple(made)


def baton(*lives: Life, strategy: Any = None, max_steps: int = 1000, quiet: Callable[[], bool] = lambda: False, **keys: Any) -> Baton:
    return Baton(State(Config()), actors(*lives, **keys), strategy or Watch(), max_steps=max_steps, when_quiet=quiet)


def turns(done: Baton) -> list[str]:
    """Who moved, with the alternative where it was not the first."""
    names = [actor.name for actor in done.actors]
    return [names[t // ALTERNATIVES] + (f"/{t % ALTERNATIVES}" if t % ALTERNATIVES else "") for t in done.turns]


def direct(made: Baton) -> Baton:
    host_direct.run(made)
    return made


def in_trio(made: Baton) -> Baton:
    trio.run(TrioHost(made).run)
    return made


HOSTS = pytest.mark.parametrize("host", [direct, in_trio], ids=["direct", "trio"])


async def puts(name: str, times: int) -> None:
    for number in range(times):
        await Put(name, number + 1)


# -- order of choice ------------------------------------------------------------------------------------------------------


def test_options_are_the_last_actor_first_and_then_in_order_of_actors() -> None:
    watch = Watch(lambda options: len(options) - 1)
    direct(baton(puts("x", 2), puts("y", 2), puts("z", 2), strategy=watch))
    assert [[name for name, _, _ in options] for _, options in watch.shown] == [
        ["a", "b", "c"],  # nobody moved yet: order of actors
        ["c", "a", "b"],  # c moved last: "go on" is choice 0
        ["b", "a", "c"],
        ["a", "b"],  # c is done
    ]


def test_step_numbers_count_from_one_and_a_single_option_is_not_asked_about() -> None:
    watch = Watch()
    done = direct(baton(puts("x", 2), puts("y", 3), strategy=watch))
    assert turns(done) == ["a", "a", "b", "b", "b"]
    assert [step for step, _ in watch.shown] == [1, 2]  # from then on only b can move
    every = Watch(every_turn=True)
    direct(baton(puts("x", 2), puts("y", 3), strategy=every))
    assert [step for step, _ in every.shown] == [1, 2, 3, 4, 5]


def test_the_effect_comes_after_the_choice() -> None:
    """What is shown to the strategy has not happened yet, and what runs before a first step is private."""
    seen = []
    made = baton(puts("x", 1), puts("x", 1))

    def look(options: Sequence[Option]) -> int:
        seen.append(made.state.read(("toy", "x")))
        return 0

    made.strategy = Watch(look)
    direct(made)
    assert seen == [0]


def test_the_result_of_a_step_reaches_its_actor() -> None:
    got = []

    async def life() -> None:
        await Put("x", 7)
        got.append(await Get("x"))

    direct(baton(life()))
    assert got == [7]


# -- guards and wait lists ------------------------------------------------------------------------------------------------


def test_a_blocked_actor_is_not_an_option_until_its_guard_holds() -> None:
    async def waiter() -> None:
        await Await("x", 2)

    watch = Watch(every_turn=True)
    done = direct(baton(waiter(), puts("x", 3), strategy=watch))
    assert [[name for name, _, _ in options] for _, options in watch.shown] == [["b"], ["b"], ["b", "a"], ["a"]]
    assert turns(done) == ["b", "b", "b", "a"]
    assert done.state.read(("toy", "x")) == 1


def test_a_guard_that_turns_false_again_takes_the_option_away() -> None:
    """Both wait for the same token: whoever takes it leaves the other one blocked."""

    async def waiter() -> None:
        await Await("x")

    async def giver() -> None:
        await Put("x", 1)

    done = direct(baton(waiter(), waiter(), giver()))
    assert turns(done) == ["c", "a"]
    assert [actor.done for actor in done.actors] == [True, False, True]


def test_guards_are_asked_only_when_their_cells_were_written() -> None:
    asked = []

    @attrs.frozen
    class Counted(Step[None]):
        label = "counted"
        blocking = True

        def ready(self, state: State) -> bool:
            asked.append(state.step)
            return bool(state.read(("toy", "x")))

        def waits(self):
            return (("toy", "x"),)

        def apply(self, state: State) -> None:
            pass

        def touches(self, state):
            return self.waits(), ()

    async def waiter() -> None:
        await Counted()

    async def busy() -> None:
        for number in range(50):
            await Put("other", number)
        await Put("x", 1)

    direct(baton(waiter(), busy()))
    assert len(asked) == 2  # when it was published, and after step 51
    assert asked[-1] == 51


@pytest.mark.parametrize("seed", range(20))
def test_wait_lists_agree_with_asking_every_guard_at_every_step(seed: int) -> None:
    made = baton(*_lock_lives(4, 3), strategy=STRATEGIES["random"](seed))
    made.start()
    while (actor := made.pick()) is not None:
        made.advance(actor, made.make(actor))
        made._ask_guards_again()
        for each in made.actors:
            expected = tuple(i for i, s in enumerate(each.options) if not s.blocking or s.ready(made.state))
            assert each.enabled == expected
    assert all(actor.done for actor in made.actors)


def _lock_lives(count: int, rounds: int) -> list[Life]:
    async def life(me: int) -> None:
        for number in range(rounds):
            lock = "l" if (me + number) % 2 else "m"
            await Take(me, lock)
            await Put("x", await Get("x") + 1)
            await Drop(lock)

    return [life(me) for me in range(count)]


def test_a_gate_stops_an_actor_while_its_cell_is_true() -> None:
    gate = ("toy", "gate")

    async def warden() -> None:
        await Put("gate", 1)
        await Put("y", 1)
        await Put("gate", 0)

    # a may go first, but "last choice" lets b shut the gate before a moves at all
    watch = Watch(lambda options: len(options) - 1, every_turn=True)
    done = direct(baton(puts("x", 2), warden(), strategy=watch, a={"gate": gate}))
    assert turns(done) == ["b", "b", "b", "a", "a"]
    assert [[name for name, _, _ in options] for _, options in watch.shown][1:3] == [["b"], ["b"]]


# -- alternatives ---------------------------------------------------------------------------------------------------------


def test_any_of_offers_each_ready_alternative_and_tells_which_was_taken() -> None:
    got = []

    async def chooser() -> None:
        got.append(await AnyOf(Get("x"), Await("x"), Get("y")))

    watch = Watch(lambda options: len(options) - 1)
    done = direct(baton(chooser(), strategy=watch))
    assert watch.shown == [(1, [("a", 0, "get"), ("a", 2, "get")])]  # the second one is blocked
    assert got == [(2, 0)]
    assert turns(done) == ["a/2"]


def test_an_any_of_of_one_still_tells_which_was_taken() -> None:
    got = []

    async def chooser() -> None:
        got.append(await AnyOf(Get("x")))
        got.append(await Get("x"))

    direct(baton(chooser()))
    assert got == [(0, 0), 0]


@pytest.mark.parametrize("first", ["x", "y"])
def test_any_of_wakes_by_whichever_guard_comes_true(first: str) -> None:
    got = []

    async def chooser() -> None:
        got.append(await AnyOf(Await("x"), Await("y")))

    async def giver() -> None:
        await Put(first, 1)

    direct(baton(chooser(), giver()))
    assert got == [("xy".index(first), 1)]


# -- what ends a run ------------------------------------------------------------------------------------------------------


def test_optional_actors_do_not_keep_a_run_alive() -> None:
    done = direct(baton(puts("x", 2), puts("y", 100), strategy=Watch(), b={"optional": True}))
    assert turns(done) == ["a", "a"]


def test_optional_actors_may_move_while_others_can() -> None:
    done = direct(baton(puts("x", 2), puts("y", 100), strategy=Watch(lambda o: len(o) - 1), max_steps=50, b={"optional": True}))
    assert "b" in turns(done)


def test_quiet_is_asked_when_nothing_must_happen_and_may_start_a_new_phase() -> None:
    calls = []

    async def second_phase() -> None:
        await Await("phase")
        await Put("x", 1)

    made = baton(puts("y", 1), second_phase())

    def quiet() -> bool:
        calls.append(made.state.step)
        if len(calls) == 1:
            made.state.write(("toy", "phase"), 1)
            return True
        return False

    made._when_quiet = quiet
    direct(made)
    assert calls == [1, 3]
    assert turns(made) == ["a", "b", "b"]
    assert not made.limit_reached


@HOSTS
def test_the_limit_is_its_own_outcome(host) -> None:
    done = host(baton(puts("x", 10), puts("y", 10), max_steps=7))
    assert done.limit_reached
    assert len(done.turns) == 7
    exact = host(baton(puts("x", 3), max_steps=3))
    assert len(exact.turns) == 3


@HOSTS
@pytest.mark.parametrize("lives", [0, 1, 3])
def test_a_run_without_steps_ends(host, lives: int) -> None:
    async def nothing() -> None:
        pass

    done = host(baton(*(nothing() for _ in range(lives))))
    assert turns(done) == []
    assert all(actor.done for actor in done.actors)


@HOSTS
def test_what_is_not_done_is_closed(host) -> None:
    closed = []

    async def stuck() -> None:
        try:
            await Await("never")
        finally:
            closed.append("stuck")

    host(baton(puts("x", 1), stuck()))
    assert closed == ["stuck"]


# -- undeclared steps -----------------------------------------------------------------------------------------------------


@HOSTS
def test_an_undeclared_step_is_refused(host) -> None:
    made = baton(puts("x", 1), a={"allowed": frozenset({Get}), "label": "Z"})
    with pytest.raises(ModelError, match="a: operation Z makes the undeclared step Put"):
        host(made)


@HOSTS
def test_an_undeclared_alternative_is_refused(host) -> None:
    async def chooser() -> None:
        await AnyOf(Get("x"), Put("x", 1))

    with pytest.raises(ModelError, match="undeclared step Put"):
        host(baton(chooser(), a={"allowed": frozenset({Get})}))


# -- the audit of footprints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [("write", "it writes"), ("erase", "it writes"), ("read", "it reads"), ("guard", "its guard reads"), ("", None)],
)
def test_the_audit_catches_a_planted_lie(how: str, says: str | None) -> None:
    async def life() -> None:
        await Liar(how)

    made = baton(life())
    audit = Audit(made.state)
    made.before, made.after = audit.before, audit.after
    if says is None:
        direct(made)
        return
    with pytest.raises(ModelError, match=f"a: step .*Liar.* is undeclared: {says} .*hidden"):
        direct(made)


# -- both hosts -----------------------------------------------------------------------------------------------------------


def _race(_: int) -> list[Life]:
    async def life() -> None:
        for _ in range(4):
            await Put("x", await Get("x") + 1)

    return [life() for _ in range(3)]


def _mailbox(_: int) -> list[Life]:
    async def sender(box: str) -> None:
        for _ in range(5):
            await Put(box, await Get(box) + 1)

    async def receiver() -> None:
        for _ in range(6):
            which, value = await AnyOf(Await("x"), Await("y"))
            await Put("sum", await Get("sum") * 10 + which + value)

    return [sender("x"), sender("y"), receiver()]


def _dining(seed: int) -> list[Life]:
    async def eater(me: int, first: str, second: str) -> None:
        await Take(me, first)
        await Take(me, second)
        await Put("eaten", await Get("eaten") + 1)
        await Drop(second)
        await Drop(first)

    return [eater(0, "l", "m"), eater(1, "m", "n"), eater(2, "n", "l" if seed % 2 else "n2")]


def _short_lives(_: int) -> list[Life]:
    """Actors that end at once, after one step, or never begin."""

    async def nothing() -> None:
        pass

    return [nothing(), puts("x", 1), nothing(), puts("x", 2), puts("x", 9)]


MACHINES = {"race": _race, "mailbox": _mailbox, "dining": _dining, "locks": lambda _: _lock_lives(5, 4), "short": _short_lives}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_hosts_make_the_same_run(name: str, strategy: str) -> None:
    different = set()
    for seed in range(30):
        both = [host(baton(*MACHINES[name](seed), strategy=STRATEGIES[strategy](seed))) for host in (direct, in_trio)]
        assert both[0].turns == both[1].turns
        assert both[0].state.cells == both[1].state.cells
        assert [a.done for a in both[0].actors] == [a.done for a in both[1].actors]
        different.add(tuple(both[0].turns))
    assert len(different) > 5  # seeds matter


async def test_the_trio_host_runs_inside_a_running_loop() -> None:
    """Beside another task of the same loop, twice in a row, with the same run as the plain loop."""
    ticks = 0

    async def other(task_status: trio.TaskStatus[None]) -> None:
        nonlocal ticks
        task_status.started()
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(other)
        for seed in (1, 2):
            made = baton(*_mailbox(0), strategy=STRATEGIES["random"](seed))
            await TrioHost(made).run()
            assert made.turns == direct(baton(*_mailbox(0), strategy=STRATEGIES["random"](seed))).turns
        nursery.cancel_scope.cancel()
    assert ticks > 1


async def test_cancelling_the_trio_host_closes_every_actor() -> None:
    closed = []

    async def life(name: str) -> None:
        try:
            while True:
                await Await(f"never {name}")
        finally:
            closed.append(name)

    async def cancels() -> None:
        scope.cancel()
        await Put("x", 1)
        await Await("never")

    made = baton(life("p"), cancels(), life("q"))
    with trio.CancelScope() as scope:
        await TrioHost(made).run()
    assert sorted(closed) == ["p", "q"]


class Unusual(Exception):
    """An error of the tests' own."""


ERRORS = [Unusual("step"), ModelError("broken"), ReplayDivergence(3, "x"), KeyboardInterrupt(), AssertionError("no")]


@HOSTS
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_error_in_a_step_comes_out_as_itself(host, error: BaseException) -> None:
    closed = []

    async def bad() -> None:
        await Put("x", 1)
        await Burst(error)

    async def parked() -> None:
        try:
            await Await("never")
        finally:
            closed.append(True)

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # the type is what is asserted
        host(baton(parked(), bad(), parked()))
    assert caught.value is error
    assert closed == [True, True]


@HOSTS
def test_an_error_of_an_actor_between_steps_comes_out_as_itself(host) -> None:
    async def bad() -> None:
        await Put("x", 1)
        raise Unusual("between")

    async def bad_at_once() -> None:
        raise Unusual("at once")

    with pytest.raises(Unusual, match="between"):
        host(baton(puts("y", 3), bad()))
    with pytest.raises(Unusual, match="at once"):
        host(baton(puts("y", 3), bad_at_once()))


@HOSTS
def test_an_error_of_the_strategy_comes_out_as_itself(host) -> None:
    def refuse(options: Sequence[Option]) -> int:
        raise ReplayDivergence(1, "no")

    with pytest.raises(ReplayDivergence, match="at step 1: no"):
        host(baton(puts("x", 2), puts("y", 2), strategy=Watch(refuse)))


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
    with pytest.raises(ReplayDivergence, match="at step 3: .*ended"):
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

    with pytest.raises(ReplayDivergence, match="the pinned step a:await cannot be reached: a is blocked"):
        pinned(["a:await", "b:put"], waiter(), puts("x", 1))


def test_a_pin_that_never_came_is_reported() -> None:
    with pytest.raises(ReplayDivergence, match="the pinned step a:put#3"):
        pinned(["b:put", "a:put#3"], puts("x", 2), puts("y", 2))


def test_an_unreadable_pin_is_refused() -> None:
    with pytest.raises(ReplayDivergence, match="cannot read the pinned label 'b put'"):
        Script(["b put"])
