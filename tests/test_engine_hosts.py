"""Both hosts make the same run, inside a loop of somebody else too, and let errors out as themselves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from toy_steps import (
    HOSTS,
    Await,
    Burst,
    Drop,
    Get,
    Life,
    Put,
    Take,
    Watch,
    baton,
    direct,
    in_trio,
    lock_lives,
    puts,
)

from ptactors.engine.host_trio import TrioHost
from ptactors.engine.strategy.base import Option
from ptactors.engine.strategy.table import STRATEGIES, make_strategy
from ptactors.errors import ModelError, ReplayDivergence
from ptactors.model.step import AnyOf


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


MACHINES = {"race": _race, "mailbox": _mailbox, "dining": _dining, "locks": lambda _: lock_lives(5, 4), "short": _short_lives}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_hosts_make_the_same_run(name: str, strategy: str) -> None:
    different = set()
    for seed in range(30):
        both = [host(baton(*MACHINES[name](seed), strategy=make_strategy(strategy, seed))) for host in (direct, in_trio)]
        assert both[0].turns == both[1].turns
        assert both[0].state.cells == both[1].state.cells
        assert [a.done for a in both[0].actors] == [a.done for a in both[1].actors]
        different.add(tuple(both[0].turns))
    assert len(different) > 2  # seeds matter


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
            made = baton(*_mailbox(0), strategy=make_strategy("random", seed))
            await TrioHost(made).run()
            assert made.turns == direct(baton(*_mailbox(0), strategy=make_strategy("random", seed))).turns
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
