"""The life of a CPU's program: its operations one after the other, then the end of its process."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ptactors.engine.actor import Actor
from ptactors.hardware.cpu import Cpu
from ptactors.kernel.rcu import IDLE, KERNEL, SetMode
from ptactors.kernel.syscall import KTHREAD, EnterSyscall, ExitSyscall, finished, op_switch
from ptactors.kernel.table import OPERATIONS
from ptactors.kernel.unmap import exit_mm
from ptactors.model.event import OpBegin, OpEnd, Register
from ptactors.model.paging import TASK_SIZE
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step
from ptactors.scenario.program import BoundCall

family("register", "unset", "a register of a CPU's program")
family("exiting", False, "whether the programs are done and the processes may exit")

UNSET = "unset"


def register(cpu: int, name: str) -> Cell[int | str]:
    """The register."""
    return ("register", cpu, name)  # type: ignore[return-value]


def exiting() -> Cell[bool]:
    """Whether processes may exit."""
    return ("exiting",)  # type: ignore[return-value]


@attrs.frozen
class BeginOp(Step[None]):
    """An operation begins."""

    cpu: int
    op: str
    verb: str
    text: str
    label = "begin"

    def apply(self, state: State) -> None:
        """Say so."""
        state.emit(OpBegin(self.cpu, self.op, self.verb, self.text))

    def touches(self, state: State) -> Footprint:
        """Nothing."""
        return (), ()


@attrs.frozen
class EndOp(Step[None]):
    """An operation is done: its register gets its result, and who waits for it may go on."""

    cpu: int
    op: str
    verb: str
    result: int | str | None
    reg: str
    awaited: bool
    label = "end"

    def apply(self, state: State) -> None:
        """Store the result and say so."""
        state.emit(OpEnd(self.cpu, self.op, self.verb, "" if self.result is None else str(self.result)))
        if self.reg and self.result is not None:
            state.write(register(self.cpu, self.reg), self.result)
            state.emit(Register(self.cpu, self.reg, self.result))
        if self.awaited:
            state.write(finished(f"cpu{self.cpu}:{self.op}"), True)

    def touches(self, state: State) -> Footprint:
        """The register and the mark."""
        keys: tuple[Key, ...] = (register(self.cpu, self.reg),) if self.reg else ()
        return (), (*keys, finished(f"cpu{self.cpu}:{self.op}")) if self.awaited else keys


@attrs.frozen
class AwaitExit(Step[None]):
    """The program is done; wait until all are."""

    cpu: int
    label = "await_exit"
    blocking = True

    def ready(self, state: State) -> bool:
        """All are done."""
        return state.read(exiting())

    def waits(self) -> tuple[Key, ...]:
        """The mark."""
        return (exiting(),)

    def apply(self, state: State) -> None:
        """Go on."""

    def touches(self, state: State) -> Footprint:
        """The mark."""
        return (exiting(),), ()


@attrs.define(eq=False, kw_only=True)
class Life:
    """What one CPU does in a run."""

    cpu: Cpu
    process: str
    """Whose thread it runs; '' for a CPU that has none."""
    calls: Iterator[BoundCall]
    awaited: frozenset[str]
    """Labels of this CPU that somebody waits for."""
    away: bool
    """Whether the CPU runs a kernel thread or idles, and must switch to its process before it does anything for it."""
    orphans: tuple[str, ...]
    """Processes without threads, which this CPU ends."""
    actor: Actor | None = None
    """Its actor, told which operation it is in."""

    async def run(self) -> None:
        """Everything, from the first operation to the exit."""
        for call in self.calls:
            if self.away and call.operation not in ("switch", "wait"):
                await op_switch(self.cpu, self.cpu.mm)
                self.away = False
            await self._operation(call)
            if call.operation == "switch":
                self.away = call.arguments[0] in (KTHREAD, IDLE)
        await AwaitExit(self.cpu.id)
        if self.process:
            await self._exit(self.process)
        for orphan in self.orphans:
            await self._exit(orphan)

    async def _operation(self, call: BoundCall) -> None:
        operation = OPERATIONS[call.operation]
        cpu = self.cpu
        cpu.op = call.label
        self._tell(call.label, operation.steps | {BeginOp, EndOp})
        await BeginOp(cpu.id, call.label, call.operation, call.text)
        result = await operation.run(cpu, *call.arguments)
        value = result if isinstance(result, int | str) else None
        reg = str(call.arguments[-1]) if operation.parameters and operation.parameters[-1].lead == "->" else ""
        await EndOp(cpu.id, call.label, call.operation, value, reg, call.label in self.awaited)
        cpu.op = ""
        self._tell("", None)

    def _tell(self, label: str, allowed: frozenset[type] | None) -> None:
        if self.actor is not None:
            self.actor.label, self.actor.allowed = label, allowed

    async def _exit(self, process: str) -> None:
        cpu = self.cpu
        cpu.mm, cpu.op = process, "exit"
        self._tell("exit", None)
        await SetMode(cpu.id, KERNEL)
        await EnterSyscall(cpu.id, "exit", "exit", process, 0, TASK_SIZE, "")
        await exit_mm(cpu)
        await ExitSyscall(cpu.id, "exit", "exit", process, 0, TASK_SIZE, 0)
        await SetMode(cpu.id, IDLE)
