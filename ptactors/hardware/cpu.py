"""What a CPU's program carries with it, and its accesses to memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs

from ptactors.config import Config, Thp
from ptactors.hardware.memory import Token
from ptactors.hardware.walker import CUT, FAULT, FILLED, HIT, MISS, Access, Speculate, walk
from ptactors.model.step import AnyOf

SIGSEGV = "SIGSEGV"
"""What an access that no handler can repair reads."""

PageFaultHandler = Callable[["Cpu", int, int], Awaitable[bool]]


@attrs.define(eq=False, kw_only=True)
class Cpu:
    """The context of one CPU's program: private to its actor, and never part of a step."""

    id: int
    config: Config
    page_fault: PageFaultHandler
    """The vector of the page fault: ``handler(cpu, va, error_code)``; false if the access cannot be made (SIGSEGV)."""
    mm: str = ""
    """The process whose program runs."""
    op: str = ""
    """The label of the operation that runs."""
    alloc_faults: Mapping[str, str] = attrs.field(factory=dict)
    """The scenario's injections: which batch allocations fail (ok, fail, fail-after N, maybe)."""
    need_resched: Mapping[str, int] = attrs.field(factory=dict)
    """The scenario's injections: operation -> after how many zapped entries it finds need_resched set; -1: maybe, at any."""


async def access(cpu: Cpu, va: int, store: Token | None) -> int | str:
    """A load (``store`` None) or store by the program: walk on a miss, fault and try again until it is done.

    The result is the value read, or SIGSEGV.
    """
    both_sizes = cpu.config.machine.thp is not Thp.NEVER
    plain = Access(cpu.id, va, store, cpu.op)
    offered = AnyOf(plain, Access(cpu.id, va, store, cpu.op, True)) if both_sizes else None
    while True:
        found = (await offered)[1] if offered is not None else await plain
        if found.kind == MISS:
            found = await walk(cpu.id, 0, va, store is not None, found)
        if found.kind == HIT:
            return found.value
        if found.kind == FAULT:
            if not await cpu.page_fault(cpu, va, int(found.value)):
                return SIGSEGV
        else:
            assert found.kind in (FILLED, CUT)


async def speculative_walker(cpu: int, addresses: tuple[int, ...], fills: int) -> None:
    """The life of a CPU's speculation: at most ``fills`` walks, each to any of ``addresses``, at any time."""
    targets = AnyOf(*(Speculate(cpu, va) for va in addresses))
    for _ in range(fills):
        which, found = await targets
        await walk(cpu, 1, addresses[which], False, found)
