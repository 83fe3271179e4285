"""The baton alone, on machines of a few cells: who is asked, in which order, and what ends a run."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from toy_steps import (
    HOSTS,
    Await,
    Get,
    Liar,
    Put,
    Watch,
    baton,
    direct,
    lock_lives,
    puts,
    turns,
)

from ptactors.engine.audit import Audit
from ptactors.engine.strategy.base import Option
from ptactors.engine.strategy.table import make_strategy
from ptactors.errors import ModelError
from ptactors.model.state import State
from ptactors.model.step import AnyOf, Step

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
    made = baton(*lock_lives(4, 3), strategy=make_strategy("random", seed))
    made.start()
    while (actor := made.pick()) is not None:
        made.advance(actor, made.make(actor))
        made._ask_guards_again()
        for each in made.actors:
            expected = tuple(i for i, s in enumerate(each.options) if not s.blocking or s.ready(made.state))
            assert each.enabled == expected
    assert all(actor.done for actor in made.actors)


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


def test_alternatives_are_shown_in_their_order_whoever_moved_last() -> None:
    async def chooser() -> None:
        for _ in range(2):
            await AnyOf(Get("x"), Get("y"), Put("z", 1))

    watch = Watch()
    direct(baton(chooser(), puts("x", 2), strategy=watch))
    assert [[(name, alternative) for name, alternative, _ in options] for _, options in watch.shown[:2]] == [
        [("a", 0), ("a", 1), ("a", 2), ("b", 0)],
        [("a", 0), ("a", 1), ("a", 2), ("b", 0)],
    ]
    last = Watch(lambda options: len(options) - 1)
    direct(baton(chooser(), puts("x", 2), strategy=last))
    assert [(name, alternative) for name, alternative, _ in last.shown[1][1]] == [("b", 0), ("a", 0), ("a", 1), ("a", 2)]


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
