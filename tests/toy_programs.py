"""Programs of a few lines with planted bugs, and runs of them under a strategy: for the tests of strategies."""

from __future__ import annotations

from collections.abc import Callable

from toy_steps import Drop, Get, Life, Put, Take, actors, direct, puts

from ptactors.config import Config
from ptactors.engine.baton import Baton
from ptactors.engine.contest import Contest
from ptactors.engine.probe import Lesson, learn
from ptactors.engine.strategy.base import Sampler
from ptactors.engine.strategy.table import make_strategy
from ptactors.model.state import State
from ptactors.model.step import AnyOf

Lives = Callable[[], tuple[Life, ...]]


def key_role(key, state):
    return key


def start_of(lives: Lives, most: int = 2000):
    def start(walk: Sampler, seed: int, limit: int, contest: Contest | None) -> Baton:
        return prepared(lives, walk, contest, min(most, limit))

    return start


def prepared(lives: Lives, walk: Sampler, contest: Contest | None = None, most: int = 2000) -> Baton:
    state = State(Config())
    made = Baton(state, actors(*lives()), walk, max_steps=most, when_quiet=lambda: False, contest=contest)
    walk.begin(made)
    return made


def lesson_of(lives: Lives) -> Lesson:
    return learn(start_of(lives), key_role)


def run(lives: Lives, name: str, seed: int, lesson: Lesson | None = None) -> Baton:
    known = lesson or lesson_of(lives)
    walk = make_strategy(name, seed, known.profile)
    return direct(prepared(lives, walk, known.contest if walk.contested_only else None))


async def noise(name: str, times: int) -> None:
    for _ in range(times):
        await Put(name, await Get(name) + 1)


def order_bug() -> tuple[Life, ...]:
    """Depth 1: b must not look before a has put."""

    async def a() -> None:
        await noise("a", 2)
        await Put("x", 1)

    async def b() -> None:
        if await Get("x") == 0:
            await Put("bug", 1)

    return a(), b()


def lost_update() -> tuple[Life, ...]:
    """Depth 2: one reads, the other reads and writes, the first writes."""

    async def life(me: str) -> None:
        await noise(me, 3)
        value = await Get("x")
        await Put("x", value + 1)
        if me == "a" or await Get("x") != 2:
            return

    async def judge() -> None:
        await Take(9, "l")
        await Drop("l")

    async def one(me: str) -> None:
        await life(me)
        await Put("done" + me, 1)

    return one("a"), one("b"), judge()


def between() -> tuple[Life, ...]:
    """Depth 3: a puts 1, b looks, a puts 2, b looks again."""

    async def a() -> None:
        await noise("a", 2)
        await Put("x", 1)
        await Put("x", 2)

    async def b() -> None:
        first = await Get("x")
        second = await Get("x")
        if (first, second) == (1, 2):
            await Put("bug", 1)
        await noise("b", 2)

    return a(), b(), noise("c", 4)


def value(done: Baton, name: str) -> int:
    return done.state.read(("toy", name))


BUGS: dict[str, tuple[Lives, Callable[[Baton], bool], int]] = {
    "depth 1": (order_bug, lambda done: value(done, "bug") == 1, 30),
    "depth 2": (lost_update, lambda done: value(done, "x") == 1, 60),
    "depth 3": (between, lambda done: value(done, "bug") == 1, 500),
}
"""Program, whether the bug showed, and within how many schedules it must."""


def offering(choosers: int = 2) -> tuple[Life, ...]:
    """Steps offered together, locks in both orders, so that some runs end in a deadlock."""

    async def chooser(me: int) -> None:
        for _ in range(3):
            await AnyOf(Put("x", me), Put("y", me), Take(me, f"never{me}"))

    async def crossed(me: int, first: str, second: str) -> None:
        await Take(me, first)
        await Take(me, second)
        await Drop(second)
        await Drop(first)

    return *map(chooser, range(choosers)), crossed(2, "l", "m"), crossed(3, "m", "l")


def retrying() -> tuple[Life, ...]:
    """a asks again and again, without blocking, until b has put."""

    async def a() -> None:
        while await Get("x") == 0:
            pass

    return a(), puts("y", 5), puts("x", 1)
