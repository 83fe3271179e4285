"""Small random programs, rich in deadlocks, with every kind of step that a search can get wrong; and their truth by brute force.

Reads, writes, locks, try-locks, waits whose guards read one or two cells, mailboxes, choices (``AnyOf``), gates, footprints that
depend on the state, and footprints that name a whole object. ``corpus(n)`` is the first n programs that brute force can finish;
it is computed once a session, for whoever compares a search with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import attrs

from ptactors.config import Config
from ptactors.engine.actor import Actor
from ptactors.engine.dpor import Build, Result, brute_force
from ptactors.model.rng import SplitMix64, stream
from ptactors.model.state import Key, State, family
from ptactors.model.step import ANY, AnyOf, Footprint, Step

family("rp_data", 0, "a number (random programs)")
family("rp_lock", 0, "whether a lock is held (random programs)")
family("rp_mail", (), "what is in a mailbox, oldest first (random programs)")

CELLS, LOCKS, BOXES = 3, 2, 2
CONFIG = Config()
MOST_RUNS = 200
"""A program with more schedules is not in the corpus."""
MOST_ORDERS = 1000
"""An upper limit of that if nobody waits, for programs of 2 and 3 actors."""
Op = tuple[Any, ...]
Program = tuple[tuple[int | None, tuple[Op, ...]], ...]
"""For each actor: the cell that gates it, and its operations."""


def data(x: int) -> Key:
    return ("rp_data", x)


def lock(x: int) -> Key:
    return ("rp_lock", x)


def mail(x: int) -> Key:
    return ("rp_mail", x)


# -- steps ----------------------------------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Read(Step[int]):
    x: int
    label = "read"

    def apply(self, state: State) -> int:
        return state.read(data(self.x))

    def touches(self, state: State) -> Footprint:
        return (data(self.x),), ()


@attrs.frozen(slots=True)
class Write(Step[None]):
    x: int
    value: int
    label = "write"

    def apply(self, state: State) -> None:
        state.write(data(self.x), self.value)

    def touches(self, state: State) -> Footprint:
        return (), (data(self.x),)


@attrs.frozen(slots=True)
class Add(Step[int]):
    """Fetch and add, modulo 3."""

    x: int
    label = "add"

    def apply(self, state: State) -> int:
        old = state.read(data(self.x))
        state.write(data(self.x), (old + 1) % 3)
        return old

    def touches(self, state: State) -> Footprint:
        return (data(self.x),), (data(self.x),)


@attrs.frozen(slots=True)
class CopyIf(Step[None]):
    """``if x: y = x``: writes only in some states."""

    x: int
    y: int
    label = "copy_if"

    def apply(self, state: State) -> None:
        value = state.read(data(self.x))
        if value:
            state.write(data(self.y), value)

    def touches(self, state: State) -> Footprint:
        return (data(self.x),), ((data(self.y),) if state.read(data(self.x)) else ())


@attrs.frozen(slots=True)
class Sum(Step[int]):
    """Reads all cells."""

    label = "sum"

    def apply(self, state: State) -> int:
        return sum(state.read(data(x)) for x in range(CELLS)) % 3

    def touches(self, state: State) -> Footprint:
        return (("rp_data", ANY),), ()


@attrs.frozen(slots=True)
class Clear(Step[None]):
    """Writes all cells."""

    label = "clear"

    def apply(self, state: State) -> None:
        for x in range(CELLS):
            state.write(data(x), 0)

    def touches(self, state: State) -> Footprint:
        return (), (("rp_data", ANY),)


@attrs.frozen(slots=True)
class Acquire(Step[None]):
    x: int
    label = "acquire"
    blocking = True

    def ready(self, state: State) -> bool:
        return not state.read(lock(self.x))

    def waits(self) -> tuple[Key, ...]:
        return (lock(self.x),)

    def apply(self, state: State) -> None:
        state.write(lock(self.x), 1)

    def touches(self, state: State) -> Footprint:
        return (), (lock(self.x),)


@attrs.frozen(slots=True)
class TryAcquire(Step[bool]):
    x: int
    label = "try_acquire"

    def apply(self, state: State) -> bool:
        if state.read(lock(self.x)):
            return False
        state.write(lock(self.x), 1)
        return True

    def touches(self, state: State) -> Footprint:
        return (lock(self.x),), (() if state.read(lock(self.x)) else (lock(self.x),))


@attrs.frozen(slots=True)
class Release(Step[None]):
    x: int
    label = "release"

    def apply(self, state: State) -> None:
        state.write(lock(self.x), 0)

    def touches(self, state: State) -> Footprint:
        return (), (lock(self.x),)


GUARDS: dict[str, Callable[[list[int]], bool]] = {
    "all set": all,
    "any set": any,
    "none set": lambda values: not any(values),
    "equal": lambda values: values.count(values[0]) == len(values),
}


@attrs.frozen(slots=True)
class Wait(Step[int]):
    """Until the cells are as ``how`` says."""

    how: str
    cells: tuple[int, ...]
    label = "wait"
    blocking = True

    def ready(self, state: State) -> bool:
        return bool(GUARDS[self.how]([state.read(key) for key in self.waits()]))

    def waits(self) -> tuple[Key, ...]:
        return tuple(data(x) for x in self.cells)

    def apply(self, state: State) -> int:
        return state.read(data(self.cells[0]))

    def touches(self, state: State) -> Footprint:
        return (data(self.cells[0]),), ()


@attrs.frozen(slots=True)
class Send(Step[None]):
    x: int
    value: int
    label = "send"

    def apply(self, state: State) -> None:
        state.write(mail(self.x), (*state.read(mail(self.x)), self.value))

    def touches(self, state: State) -> Footprint:
        return (mail(self.x),), (mail(self.x),)


@attrs.frozen(slots=True)
class Receive(Step[int]):
    x: int
    label = "receive"
    blocking = True

    def ready(self, state: State) -> bool:
        return bool(state.read(mail(self.x)))

    def waits(self) -> tuple[Key, ...]:
        return (mail(self.x),)

    def apply(self, state: State) -> int:
        first, *rest = state.read(mail(self.x))
        state.write(mail(self.x), tuple(rest))
        return first

    def touches(self, state: State) -> Footprint:
        return (mail(self.x),), (mail(self.x),)


# -- programs -------------------------------------------------------------------------------------------------------------


@functools.cache
def _step(op: Op, seen: int) -> Step[Any]:
    """The step of a simple operation; what was read last may be what is written."""
    kind, *rest = op
    if kind in ("write", "send"):
        x, value = rest
        return (Write if kind == "write" else Send)(x, seen if value is None else value)
    return {
        "read": Read, "add": Add, "copy": CopyIf, "sum": Sum, "clear": Clear, "acquire": Acquire, "release": Release,
        "wait": Wait, "receive": Receive,
    }[kind](*rest)  # fmt: skip


async def life_of(ops: tuple[Op, ...]) -> None:
    """One actor's life."""
    seen = 0
    skip = False
    for op in ops:
        if skip:
            skip = False
            continue
        if op[0] == "try":
            skip = not await TryAcquire(op[1])
        elif op[0] == "either":
            which, got = await AnyOf(*(_step(each, seen) for each in op[1:]))
            seen = (got or 0) + which
            skip = which == 1
        elif op[0] == "unless":
            skip = bool(await Read(op[1]))
        else:
            got = await _step(op, seen)
            seen = seen if got is None else got


def build_of(program: Program) -> Build:
    """What makes a fresh machine that runs it."""

    def build() -> tuple[State, tuple[Actor, ...]]:
        return State(CONFIG), tuple(
            Actor(id=i, name=f"a{i}", coroutine=life_of(ops), gate=None if gate is None else data(gate), program=True)
            for i, (gate, ops) in enumerate(program)
        )

    return build


def _simple(rng: SplitMix64) -> Op:
    x, y = rng.below(CELLS), rng.below(CELLS)
    value = (None, 0, 1, 2)[rng.below(4)]
    kinds: tuple[Op, ...] = (
        ("read", x), ("write", x, value), ("write", x, 1), ("add", x), ("copy", x, y), ("sum",), ("clear",),
        ("send", rng.below(BOXES), value), ("send", rng.below(BOXES), 1), ("wait", _how(rng), (x,)),
        ("wait", _how(rng), (x, y)), ("receive", rng.below(BOXES)), ("write", y, 2), ("copy", y, x),
    )  # fmt: skip
    return kinds[rng.below(len(kinds))]


def _how(rng: SplitMix64) -> str:
    return tuple(GUARDS)[rng.below(len(GUARDS))]


def _actor(rng: SplitMix64, length: int, style: int) -> tuple[Op, ...]:
    """Style 0: locks; 1: mail, waits and choices; 2: everything. Two of three actors give back their locks."""
    ops: list[Op] = []
    held: list[int] = []
    tidy = rng.below(3) > 0
    while len(ops) < length:
        draw = rng.below(12)
        if tidy and held and len(ops) + len(held) >= length:
            draw, style = 0, 2
        if style != 1 and draw < 5:
            if held and draw < 2:
                ops.append(("release", held.pop(rng.below(len(held)))))
            else:
                x = rng.below(LOCKS)
                ops.append(("try" if draw == 4 else "acquire", x))
                held.append(x)
        elif draw < 6:
            ops.append(("unless", rng.below(CELLS)))
        elif style != 0 and draw < 8:
            ops.append(("either", _simple(rng), _simple(rng)))
        else:
            ops.append(_simple(rng))
    return tuple(ops)


def program(seed: int) -> Program:
    """The program of this seed: 2 to 4 actors of 2 to 5 operations, not more of them than brute force could order."""
    rng = stream(seed, "random programs")
    count = 2 + (0, 0, 0, 1, 1, 1, 1, 2)[rng.below(8)]
    lengths = [2] * count
    for _ in range(rng.below(3 * count)):
        x = rng.below(count)
        longer = [*lengths[:x], lengths[x] + 1, *lengths[x + 1 :]]
        if longer[x] <= 5 and _orders(longer) <= MOST_ORDERS:
            lengths = longer
    style = (0, 0, 1, 2)[rng.below(4)]
    gates = [rng.below(CELLS) if rng.below(12) == 0 else None for _ in range(count)]
    return tuple((gate, _actor(rng, length, style)) for gate, length in zip(gates, lengths, strict=True))


def _orders(lengths: list[int]) -> int:
    """How many schedules there are if nobody ever waits."""
    return math.factorial(sum(lengths)) // math.prod(map(math.factorial, lengths))


@attrs.frozen(kw_only=True)
class Case:
    """One program of the corpus and the truth about it."""

    seed: int
    program: Program
    build: Build
    truth: Result


@functools.cache
def corpus(count: int, first_seed: int = 0) -> tuple[Case, ...]:
    """The first ``count`` programs from this seed on with at most ``MOST_RUNS`` schedules; few of those with one class."""
    cases: list[Case] = []
    seed = first_seed
    while len(cases) < count:
        made = program(seed)
        truth = brute_force(build_of(made), max_runs=MOST_RUNS)
        if truth.complete and (len(truth.classes or ()) > 1 or seed % 4 == 0):
            cases.append(Case(seed=seed, program=made, build=build_of(made), truth=truth))
        seed += 1
    return tuple(cases)
