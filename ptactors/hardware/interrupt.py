"""Inter-processor interrupts: the bus owns the time between sending and arrival; a CPU takes what is pending between two steps.

Messages to one CPU arrive in the order they were put on the bus; messages to different CPUs in any order. An interrupt that has
arrived stays pending while the CPU has interrupts disabled. While a handler runs, the CPU's program does not move (the program
actor's gate is ``in_irq``); a handler is not interrupted (Linux runs it with interrupts disabled).
An interrupt may fall between two loads of the program's page walk; it is the invalidation in the handler that cuts the walk.

Source: kernel/smp.c, smp_call_function_many_cond(): queue, send, run locally, then wait for every target's acknowledgement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import attrs

from ptactors.model.event import CsdEnter, CsdExit, IpiArrive, IpiDone, IpiSend, IpiWait, IrqsOff, IrqsOn
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import AnyOf, Footprint, Step

Info = tuple[int | str | bool, ...]
"""What a message carries; the handler knows its form."""


class Message(NamedTuple):
    """One interrupt on its way or pending."""

    source: int
    func: str
    info: Info


family("irqs_off", False, "whether a CPU has interrupts disabled")
family("in_irq", False, "whether a CPU runs an interrupt handler")
family("bus", (), "messages on their way to a CPU, oldest first")
family("pending", (), "messages that have arrived at a CPU, oldest first")
family("acks", 0, "bit mask of the CPUs whose acknowledgement a sender still awaits")


def irqs_off(cpu: int) -> Cell[bool]:
    """Whether the CPU has interrupts disabled."""
    return ("irqs_off", cpu)  # type: ignore[return-value]


def in_irq(cpu: int) -> Cell[bool]:
    """Whether the CPU runs an interrupt handler."""
    return ("in_irq", cpu)  # type: ignore[return-value]


def bus(cpu: int) -> Cell[tuple[Message, ...]]:
    """What is on its way to the CPU."""
    return ("bus", cpu)  # type: ignore[return-value]


def pending(cpu: int) -> Cell[tuple[Message, ...]]:
    """What has arrived at the CPU and waits to be taken."""
    return ("pending", cpu)  # type: ignore[return-value]


def acks(cpu: int) -> Cell[int]:
    """Whose acknowledgements the CPU awaits."""
    return ("acks", cpu)  # type: ignore[return-value]


@attrs.frozen
class IrqSave(Step[None]):
    """local_irq_save()."""

    cpu: int
    label = "irq_disable"

    def apply(self, state: State) -> None:
        """Disable."""
        state.write(irqs_off(self.cpu), True)
        state.emit(IrqsOff(self.cpu))

    def touches(self, state: State) -> Footprint:
        """The flag."""
        return (), (irqs_off(self.cpu),)


@attrs.frozen
class IrqRestore(Step[None]):
    """local_irq_restore()."""

    cpu: int
    label = "irq_enable"

    def apply(self, state: State) -> None:
        """Enable: what is pending can be taken now."""
        state.write(irqs_off(self.cpu), False)
        state.emit(IrqsOn(self.cpu))

    def touches(self, state: State) -> Footprint:
        """The flag."""
        return (), (irqs_off(self.cpu),)


@attrs.frozen
class SendIpi(Step[None]):
    """Put a message for each target on the bus and remember whose acknowledgement is awaited."""

    cpu: int
    targets: tuple[int, ...]
    func: str
    info: Info
    label = "ipi_send"

    def apply(self, state: State) -> None:
        """Send."""
        mask = 0
        for target in self.targets:
            state.write(bus(target), (*state.read(bus(target)), Message(self.cpu, self.func, self.info)))
            mask |= 1 << target
        state.write(acks(self.cpu), mask)
        state.emit(IpiSend(self.cpu, self.targets, self.func))
        state.emit(IpiWait(self.cpu, state.read(irqs_off(self.cpu))))

    def touches(self, state: State) -> Footprint:
        """The targets' lanes and the sender's acknowledgements."""
        keys: tuple[Key, ...] = (*(bus(target) for target in self.targets), acks(self.cpu))
        return (irqs_off(self.cpu),), keys


@attrs.frozen
class WaitIpi(Step[None]):
    """csd_lock_wait() for every target: ready once all have acknowledged."""

    cpu: int
    label = "ipi_done"
    blocking = True

    def ready(self, state: State) -> bool:
        """No acknowledgement is missing."""
        return state.read(acks(self.cpu)) == 0

    def waits(self) -> tuple[Key, ...]:
        """The acknowledgements."""
        return (acks(self.cpu),)

    def apply(self, state: State) -> None:
        """Go on."""
        state.emit(IpiDone(self.cpu))

    def touches(self, state: State) -> Footprint:
        """The acknowledgements."""
        return (acks(self.cpu),), ()


@attrs.frozen
class Deliver(Step[None]):
    """The bus hands the oldest message for ``cpu`` to its local interrupt controller."""

    cpu: int
    label = "ipi_arrive"
    blocking = True

    def ready(self, state: State) -> bool:
        """Something is on its way."""
        return bool(state.read(bus(self.cpu)))

    def waits(self) -> tuple[Key, ...]:
        """The CPU's lane."""
        return (bus(self.cpu),)

    def apply(self, state: State) -> None:
        """Move it."""
        first, *rest = state.read(bus(self.cpu))
        state.write(bus(self.cpu), tuple(rest))
        state.write(pending(self.cpu), (*state.read(pending(self.cpu)), first))
        state.emit(IpiArrive(self.cpu, first.source, first.func))

    def touches(self, state: State) -> Footprint:
        """The lane and the pending messages."""
        keys = (bus(self.cpu), pending(self.cpu))
        return keys, keys


@attrs.frozen
class TakeInterrupt(Step[Message]):
    """The CPU takes the oldest pending interrupt, at an instruction boundary, if interrupts are enabled."""

    cpu: int
    label = "interrupt"
    blocking = True

    def ready(self, state: State) -> bool:
        """Something is pending and may be taken."""
        return bool(state.read(pending(self.cpu))) and not state.read(irqs_off(self.cpu))

    def waits(self) -> tuple[Key, ...]:
        """The pending messages and the flag."""
        return (pending(self.cpu), irqs_off(self.cpu))

    def apply(self, state: State) -> Message:
        """Enter the handler: the program of this CPU stops."""
        first, *rest = state.read(pending(self.cpu))
        state.write(pending(self.cpu), tuple(rest))
        state.write(in_irq(self.cpu), True)
        state.emit(CsdEnter(self.cpu, first.source, first.func))
        return first

    def touches(self, state: State) -> Footprint:
        """The messages and the mark."""
        return (pending(self.cpu), irqs_off(self.cpu)), (pending(self.cpu), in_irq(self.cpu))


@attrs.frozen
class Acknowledge(Step[None]):
    """csd_unlock() and the return from the interrupt: the sender need not wait for this CPU any more, the program goes on.

    Simplified: one step, since nothing that others see happens between the two.
    """

    cpu: int
    source: int
    func: str
    label = "ipi_ack"

    def apply(self, state: State) -> None:
        """Acknowledge and return."""
        state.write(acks(self.source), state.read(acks(self.source)) & ~(1 << self.cpu))
        state.write(in_irq(self.cpu), False)
        state.emit(CsdExit(self.cpu, self.source, self.func))

    def touches(self, state: State) -> Footprint:
        """The sender's acknowledgements and the mark."""
        return (acks(self.source),), (acks(self.source), in_irq(self.cpu))


Handler = Callable[[int, Info], Awaitable[None]]
"""What a vector does: ``handler(cpu, info)``."""


async def interrupts(cpu: int, vectors: Mapping[str, Handler]) -> None:
    """The life of a CPU's interrupt side; ``vectors`` is its interrupt descriptor table."""
    while True:
        message = await TakeInterrupt(cpu)
        await vectors[message.func](cpu, message.info)
        await Acknowledge(cpu, message.source, message.func)


async def ipi_bus(cpus: int) -> None:
    """The life of the bus: deliver to any CPU that something is on its way to."""
    lanes = AnyOf(*(Deliver(cpu) for cpu in range(cpus)))
    while True:
        await lanes


async def call_function_and_wait(
    cpu: int, targets: tuple[int, ...], func: str, info: Info, local: Callable[[], Awaitable[None]] | None
) -> None:
    """smp_call_function_many_cond(wait=true): send, run ``local`` here, wait for all acknowledgements."""
    if targets:
        await SendIpi(cpu, targets, func, info)
    if local is not None:
        await local()
    if targets:
        await WaitIpi(cpu)
