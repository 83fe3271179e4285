"""Interrupts: the bus and its order, what is pending, what stands still meanwhile."""

from __future__ import annotations

from typing import Any

from ptactors.config import resolve
from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton
from ptactors.engine.strategy.random import Random
from ptactors.hardware.interrupt import (
    IrqRestore,
    IrqSave,
    Message,
    SendIpi,
    TakeInterrupt,
    WaitIpi,
    bus,
    call_function_and_wait,
    in_irq,
    interrupts,
    ipi_bus,
    pending,
)
from ptactors.kernel.lock import SpinLock, SpinUnlock
from ptactors.model import event as ev
from ptactors.model.state import State


def hosted(made: State, strategy: Any, *lives: Any, gates: dict[int, Any] | None = None) -> Baton:
    actors = tuple(
        Actor(id=n, name=f"a{n}", coroutine=life, gate=(gates or {}).get(n), program=True) for n, life in enumerate(lives)
    )
    return Baton(made, actors, strategy, max_steps=10_000, when_quiet=lambda: False)


async def handler(cpu: int, info: tuple[Any, ...]) -> None:
    """Nothing to do."""


def sender(cpu: int, *messages: tuple[tuple[int, ...], str]) -> Any:
    async def life() -> None:
        for targets, func in messages:
            await SendIpi(cpu, targets, func, ())

    return life()


def arrivals(seed: int) -> list[ev.IpiArrive]:
    made = State(resolve(cpus=3))
    made.ring = []
    lives = (sender(0, ((1, 2), "first"), ((1, 2), "second"), ((1, 2), "third")), ipi_bus(3))
    host_direct.run(hosted(made, Random(seed), *lives))
    assert {cpu: [m.func for m in made.read(pending(cpu))] for cpu in (1, 2)} == {1: ["first", "second", "third"]} | {
        2: ["first", "second", "third"]
    }
    return [e for _, _, e in made.ring if type(e) is ev.IpiArrive]


def test_the_bus_reorders_across_targets_but_never_within_one() -> None:
    orders = {tuple((e.cpu, e.func) for e in arrivals(seed)) for seed in range(60)}
    assert len(orders) > 5
    for order in orders:
        for cpu in (1, 2):
            assert [func for at, func in order if at == cpu] == ["first", "second", "third"]
    position = [order.index((1, "second")) - order.index((2, "first")) for order in orders]
    assert min(position) < 0 < max(position)  # one target is a whole message ahead of the other, either way


def test_an_interrupt_stays_pending_while_interrupts_are_disabled() -> None:
    made = State(resolve())
    IrqSave(1).apply(made)
    made.write(pending(1), (Message(0, "f", ()),))
    take = TakeInterrupt(1)
    assert not take.ready(made)
    IrqRestore(1).apply(made)
    assert take.ready(made)
    assert take.apply(made) == Message(0, "f", ())
    assert made.read(in_irq(1))
    assert not take.ready(made)


def rounds(seed: int, program: Any, *, gate: bool = True) -> State:
    """CPU 0 interrupts CPU 1, which runs ``program`` meanwhile."""
    made = State(resolve())
    made.ring = []

    async def caller() -> None:
        await call_function_and_wait(0, (1,), "f", (), None)

    lives = (caller(), program(), ipi_bus(2), interrupts(1, {"f": handler}))
    baton = hosted(made, Random(seed), *lives, gates={1: in_irq(1)} if gate else {})
    host_direct.run(baton)
    assert baton.actors[0].done, "the sender waits for ever"
    return made


def test_a_program_stands_still_while_its_handler_runs() -> None:
    async def program() -> None:
        for _ in range(8):
            await IrqSave(1)
            await IrqRestore(1)

    for seed in range(40):
        made = rounds(seed, program)
        inside = False
        for _, actor, event in made.ring or ():
            if type(event) is ev.CsdEnter:
                inside = True
            elif type(event) is ev.CsdExit:
                inside = False
            assert not (inside and actor == 1), "the program moved inside its own interrupt"


def test_an_interrupt_is_never_taken_inside_a_region_with_interrupts_off() -> None:
    async def program() -> None:
        for _ in range(8):
            await IrqSave(1)
            await IrqRestore(1)

    for seed in range(40):
        off = False
        for _, _, event in rounds(seed, program).ring or ():
            if type(event) is ev.IrqsOff:
                off = True
            elif type(event) is ev.IrqsOn:
                off = False
            assert not (off and type(event) is ev.CsdEnter)


def test_an_interrupt_is_taken_while_the_cpu_spins_on_a_lock() -> None:
    """CPU 0 holds the lock and waits for the acknowledgement of CPU 1, which spins on it: no deadlock."""
    lock = ("pte", 5)

    async def holder() -> None:
        await SpinLock(0, lock)
        await call_function_and_wait(0, (1,), "f", (), None)
        await SpinUnlock(0, lock)

    async def spinner() -> None:
        await SpinLock(1, lock)
        await SpinUnlock(1, lock)

    for seed in range(20):
        made = State(resolve())
        baton = hosted(
            made, Random(seed), holder(), spinner(), ipi_bus(2), interrupts(1, {"f": handler}), gates={0: in_irq(0), 1: in_irq(1)}
        )
        host_direct.run(baton)
        assert baton.actors[0].done
        assert baton.actors[1].done


def test_spinning_with_interrupts_off_on_that_lock_is_a_deadlock() -> None:
    lock = ("pte", 5)

    async def holder() -> None:
        await SpinLock(0, lock)
        await call_function_and_wait(0, (1,), "f", (), None)
        await SpinUnlock(0, lock)

    async def spinner() -> None:
        await IrqSave(1)
        await SpinLock(1, lock)
        await SpinUnlock(1, lock)
        await IrqRestore(1)

    ends = set()
    for seed in range(40):
        baton = hosted(State(resolve()), Random(seed), holder(), spinner(), ipi_bus(2), interrupts(1, {"f": handler}))
        host_direct.run(baton)
        ends.add(baton.actors[0].done)
    assert ends == {True, False}


def test_the_sender_waits_for_every_target() -> None:
    made = State(resolve(cpus=3))
    SendIpi(0, (1, 2), "f", ()).apply(made)
    assert not WaitIpi(0).ready(made)
    assert [len(made.read(bus(cpu))) for cpu in (0, 1, 2)] == [0, 1, 1]
    lives = (ipi_bus(3), interrupts(1, {"f": handler}))
    host_direct.run(hosted(made, Random(0), *lives))
    assert not WaitIpi(0).ready(made)
    host_direct.run(hosted(made, Random(0), interrupts(2, {"f": handler})))
    assert WaitIpi(0).ready(made)
