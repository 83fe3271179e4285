"""Who takes part in a run: for each actor how it is called, what stops it, and how to make its coroutine afresh."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from ptactors.hardware.cpu import Cpu as Context
from ptactors.hardware.cpu import speculative_walker
from ptactors.hardware.interrupt import Info, in_irq, interrupts, ipi_bus
from ptactors.kernel.fault import do_user_addr_fault
from ptactors.kernel.rcu import callback_thread, grace_periods
from ptactors.kernel.tlbflush import flush_tlb_func
from ptactors.model.state import Key
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Cpu, Scenario
from ptactors.scenario.program import Program, calls, flatten
from ptactors.world.program import Life


@attrs.frozen(kw_only=True)
class Role:
    """One actor of a run."""

    name: str
    enter: Callable[[], tuple[Coroutine[Any, Any, None], Life | None]]
    """A fresh coroutine; for a program also the life it runs, which wants to know its actor."""
    gate: Key | None = None
    """A cell that stops it while it is true."""
    optional: bool = False
    """Whether the run may end without its next step."""

    @property
    def program(self) -> bool:
        """Whether it runs a CPU's program."""
        return self.gate is not None


class Cast:
    """The actors of one cell with these programs."""

    def __init__(self, scenario: Scenario, cell: Cell, programs: tuple[Program, ...]) -> None:
        self._scenario, self._cell = scenario, cell
        self._cpus = range(cell.config.machine.cpus)
        missing = range(len(scenario.cpus), len(self._cpus))  # a knob may give the machine more CPUs than the file speaks of
        self._given = (*scenario.cpus, *(Cpu(number=n, process=scenario.processes[0], state="off") for n in missing))
        self._programs = (*programs, *(() for _ in missing))

    def threads(self) -> dict[str, int]:
        """Process -> number of its threads; one that nobody runs is ended by CPU 0 and counts as one."""
        threads = dict.fromkeys(self._scenario.processes, 0)
        for cpu in self._cpus:
            if self._has_thread(cpu):
                threads[self._given[cpu].process] += 1
        return {process: max(n, 1) for process, n in threads.items()}

    def roles(self) -> tuple[Role, ...]:
        """All of them, in the order of their ids."""
        scenario, config = self._scenario, self._cell.config
        late = scenario.fault.rcu_callbacks == "late"

        async def sync(cpu: int, info: Info) -> None:
            """tlb_remove_table_smp_sync(): being interrupted is all there is to it."""

        async def flush(cpu: int, info: Info) -> None:
            await flush_tlb_func(cpu, info, config.kernel)

        vectors = {"flush_tlb_func": flush, "tlb_remove_table_smp_sync": sync}
        roles = [Role(name=f"cpu{cpu}", enter=self._program(cpu), gate=in_irq(cpu)) for cpu in self._cpus]
        roles += [_daemon(f"irq{cpu}", interrupts, cpu, vectors) for cpu in self._cpus]
        for cpu, addresses in scenario.speculate.items():
            if cpu in self._cpus and addresses:
                roles.append(_daemon(f"hw{cpu}", speculative_walker, cpu, addresses, scenario.speculative_fills, optional=True))
        roles.append(_daemon("bus", ipi_bus, len(self._cpus)))
        roles.append(_daemon("rcu", grace_periods, len(self._cpus)))
        roles += [_daemon(f"rcuc{cpu}", callback_thread, cpu, late) for cpu in self._cpus]
        return tuple(roles)

    def _has_thread(self, number: int) -> bool:
        return self._given[number].state == "user" or bool(self._programs[number])

    def _program(self, number: int) -> Callable[[], tuple[Coroutine[Any, Any, None], Life | None]]:
        scenario = self._scenario
        given = self._given[number]
        alloc_faults, need_resched = self._alloc_faults(), self._need_resched(number)
        awaited = frozenset(self._awaited(number))
        threads = [self._given[cpu].process for cpu in self._cpus if self._has_thread(cpu)]
        orphans = tuple(p for p in scenario.processes if p not in threads) if number == 0 else ()

        def enter() -> tuple[Coroutine[Any, Any, None], Life | None]:
            context = Context(
                id=number,
                config=self._cell.config,
                page_fault=do_user_addr_fault,
                mm=given.process,
                alloc_faults=alloc_faults,
                need_resched=need_resched,
            )
            life = Life(
                cpu=context,
                process=given.process if self._has_thread(number) else "",
                calls=flatten(self._programs[number]),
                awaited=awaited,
                away=given.state != "user",
                orphans=orphans,
            )
            return life.run(), life

        return enter

    def _alloc_faults(self) -> dict[str, str]:
        fault = self._scenario.fault
        given = {"page_batch_alloc": fault.page_batch_alloc, "table_batch_alloc": fault.table_batch_alloc}
        return {name: f"fail-after {a.after}" if a.mode == "fail-after" else a.mode for name, a in given.items()}

    def _need_resched(self, number: int) -> dict[str, int]:
        fault = self._scenario.fault
        if fault.need_resched_maybe:
            return {call.label: -1 for call in calls(self._programs[number])}
        return {each.label: each.after for each in fault.need_resched if each.cpu == number}

    def _awaited(self, number: int) -> list[str]:
        """The labels of this CPU that some program waits for."""
        waits = (call for program in self._programs for call in calls(program) if call.operation == "wait")
        prefix = f"cpu{number}:"
        targets = (str(call.arguments[0]) for call in waits)
        return [target.removeprefix(prefix) for target in targets if target.startswith(prefix)]


def _daemon(name: str, body: Callable[..., Coroutine[Any, Any, None]], *arguments: Any, optional: bool = False) -> Role:
    return Role(name=name, enter=lambda: (body(*arguments), None), optional=optional)
