"""The core race on the engine's own steps: one PMD, two addresses, an abstraction of the cover letter's race with known answers.

Same step boundaries as the model that flat Python, TLC and SPIN agree on: one step, one atomic piece. A state is the cells and
each actor's position with its live locals: 502 (A), 26,079 (D), 1,555,516 (E) of them with both knobs on. A hazard is an event
(``Seen``) and no cell, so noticing one makes no new state; the run goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core_race_steps import (
    ADDRESSES,
    FAULT,
    FREED,
    HIT,
    HUGE,
    MIXED,
    NONE,
    PMD,
    PMD_LOCK,
    TWO_TABLES,
    Acked,
    BeginGrace,
    CheckPmd,
    ClearPmd,
    ClearPte,
    EndGrace,
    EnterTable,
    Fill,
    FreeTable,
    Interrupt,
    LeaveTable,
    Lock,
    LockTable,
    LookAtPmd,
    Seen,
    SendFlush,
    SetPmd,
    SetPte,
    Translate,
    Unlock,
    pte,
    table_lock,
)

from ptactors.config import Config
from ptactors.engine.actor import Actor
from ptactors.model.state import State

CONFIGS: dict[str, tuple[int, tuple[tuple[tuple[int, ...], bool], ...]]] = {
    "A": (2, (((0, 1), True),)),
    "B": (3, (((0, 1), False), ((0,), False))),
    "C": (3, (((0, 1), False), ((0,), True))),
    "D": (3, (((0, 1), False), ((1, 0), True))),
    "E": (4, (((0, 1), False), ((1, 0), True), ((0, 1), False))),
}
"""Name -> (number of CPUs, for each CPU from 1 on: the addresses it reads in order, and whether it may install a huge page)."""
STATES = {"A": 502, "D": 26_079, "E": 1_555_516}
"""Distinct states with both knobs on."""
HAZARDS: dict[tuple[str, bool, bool], frozenset[str]] = {
    **{(c, False, False): frozenset({MIXED, FREED} | ({TWO_TABLES} if c != "A" else set())) for c in "ADE"},
    **{(c, False, True): frozenset({MIXED} | ({TWO_TABLES} if c != "A" else set())) for c in "ADE"},
    **{(c, True, False): frozenset({FREED}) for c in "ADE"},
    **{(c, True, True): frozenset() for c in "ADE"},
}
"""(configuration, flush before set, free through RCU) -> the hazards that exist."""

Forget = Callable[..., None]
"""``forget(actor id, label, *live locals)``: from here on only these locals matter to that actor."""

# -- the actors -----------------------------------------------------------------------------------------------------------


async def madvise(n: int, rcu: bool) -> None:
    await Lock(table_lock(0))
    for i in ADDRESSES:
        await ClearPte(i)
    await Unlock(table_lock(0))
    await Lock(PMD_LOCK)
    await Lock(table_lock(0))
    await ClearPmd()
    await Unlock(table_lock(0))
    await Unlock(PMD_LOCK)
    await SendFlush(n, 0)
    await Acked(n, 0)
    await FreeTable(rcu)


async def access(me: int, n: int, c: int, addresses: tuple[int, ...], huge: bool, flush: bool, forget: Forget) -> None:
    for i in addresses:
        while True:
            forget(me, "access", i)
            found = await Translate(c, i)
            if found == HIT or (found != FAULT and await Fill(n, c, i, found - 1)):
                break
            await fault(me, n, c, i, huge, flush, forget)
    forget(me, "accessed")


async def fault(me: int, n: int, c: int, i: int, huge: bool, flush: bool, forget: Forget) -> None:
    while True:
        forget(me, "fault", i)
        pmd = await LookAtPmd()
        if pmd == HUGE:
            return
        if pmd == NONE:
            await Lock(PMD_LOCK)
            if await CheckPmd(n, c, flush):
                if flush:
                    await Acked(n, c)
                await SetPmd(HUGE if huge else c + 1)
            forget(me, "fault unlocks", i)
            await Unlock(PMD_LOCK)
            continue
        table = await EnterTable(c)
        if table:
            await LockTable(table - 1)
            await SetPte(i, table - 1)
            await LeaveTable(c, table - 1)
            return


async def interrupts(me: int, n: int, b: int, forget: Forget) -> None:
    while True:
        forget(me, "interrupts")
        await Interrupt(n, b)


async def grace_period(n: int) -> None:
    await BeginGrace(n)
    await EndGrace(n)


def _keep(*_: Any) -> None:
    """Without memoised actors there is nothing to forget."""


def build(config: str, flush: bool, rcu: bool, forget: Forget = _keep) -> tuple[State, tuple[Actor, ...]]:
    """A fresh machine: cpu0 (madvise), cpu1.. (accesses), irq0.., rcu. Interrupts and RCU never finish, so they are optional."""
    n, accesses = CONFIGS[config]
    state = State(Config())
    state.write(PMD, 1)
    for i in ADDRESSES:
        state.write(pte(0, i), 1)
    actors = [Actor(id=0, name="cpu0", coroutine=madvise(n, rcu), program=True)]
    for c, (addresses, huge) in enumerate(accesses, 1):
        life = access(c, n, c, addresses, huge, flush, forget)
        actors.append(Actor(id=c, name=f"cpu{c}", coroutine=life, program=True))
    for b in range(n):
        actors.append(Actor(id=n + b, name=f"irq{b}", coroutine=interrupts(n + b, n, b, forget), optional=True))
    actors.append(Actor(id=2 * n, name="rcu", coroutine=grace_period(n), optional=True))
    return state, tuple(actors)


def hazards_into(state: State, found: set[str]) -> None:
    """Note in ``found`` each hazard that comes to pass on this state."""
    state.listen(Seen, lambda _step, _actor, event: found.add(event.kind))
