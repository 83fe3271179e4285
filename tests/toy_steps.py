"""Steps, actors and a strategy of a few lines, for the tests of the engine: numbers, locks, liars."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
import pytest
import trio

from ptactors.config import Config
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.baton import ALTERNATIVES, Baton
from ptactors.engine.host_trio import TrioHost
from ptactors.engine.strategy.base import Option, Sampler
from ptactors.model.state import State, family
from ptactors.model.step import Step

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


def baton(
    *lives: Life, strategy: Any = None, max_steps: int = 1000, quiet: Callable[[], bool] = lambda: False, **keys: Any
) -> Baton:
    chooser = strategy or Watch()
    made = Baton(State(Config()), actors(*lives, **keys), chooser, max_steps=max_steps, when_quiet=quiet)
    if isinstance(chooser, Sampler):
        chooser.begin(made)
    return made


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


def lock_lives(count: int, rounds: int) -> list[Life]:
    async def life(me: int) -> None:
        for number in range(rounds):
            lock = "l" if (me + number) % 2 else "m"
            await Take(me, lock)
            await Put("x", await Get("x") + 1)
            await Drop(lock)

    return [life(me) for me in range(count)]
