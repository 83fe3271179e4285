"""The entries from user mode: what the operations of a program do, each between the kernel's entry and exit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from ptactors.hardware.cpu import Cpu, access
from ptactors.hardware.memory import Token
from ptactors.kernel.gup import get_user_page_fast, walk_pte
from ptactors.kernel.madvise import madvise, process_madvise
from ptactors.kernel.mlock import mlock, munlock
from ptactors.kernel.mmap import mmap
from ptactors.kernel.mprotect import mprotect
from ptactors.kernel.rcu import IDLE, KERNEL, USER, CondResched, ContextSwitch, SetMode, mode
from ptactors.kernel.tlbflush import enter_lazy_tlb, switch_mm
from ptactors.kernel.unmap import munmap
from ptactors.model.event import SyscallEnter, SyscallExit, UserMode
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step

KTHREAD = "kthread"

family("finished", False, "whether an operation that somebody waits for is done")


def finished(label: str) -> Cell[bool]:
    """Whether the operation with this label (``cpu1:R``) is done."""
    return ("finished", label)  # type: ignore[return-value]


@attrs.frozen
class EnterSyscall(Step[None]):
    """SYSCALL: the CPU enters the kernel."""

    cpu: int
    op: str
    call: str
    mm: str
    start: int
    end: int
    arg: str
    label = "sys_enter"

    def apply(self, state: State) -> None:
        """Enter."""
        state.write(mode(self.cpu), KERNEL)
        state.emit(UserMode(self.cpu, KERNEL))
        state.emit(SyscallEnter(self.cpu, self.op, self.call, self.mm, self.start, self.end, self.arg))

    def touches(self, state: State) -> Footprint:
        """The mode."""
        return (), (mode(self.cpu),)


@attrs.frozen
class ExitSyscall(Step[None]):
    """SYSRET: back to user mode with the result."""

    cpu: int
    op: str
    call: str
    mm: str
    start: int
    end: int
    ret: int
    label = "sys_exit"

    def apply(self, state: State) -> None:
        """Leave."""
        state.write(mode(self.cpu), USER)
        state.emit(SyscallExit(self.cpu, self.op, self.call, self.mm, self.start, self.end, self.ret))
        state.emit(UserMode(self.cpu, USER))

    def touches(self, state: State) -> Footprint:
        """The mode."""
        return (), (mode(self.cpu),)


@attrs.frozen
class Wait(Step[None]):
    """Wait in user mode for another CPU's operation."""

    target: str
    label = "wait"
    blocking = True

    def ready(self, state: State) -> bool:
        """It is done."""
        return state.read(finished(self.target))

    def waits(self) -> tuple[Key, ...]:
        """Its mark."""
        return (finished(self.target),)

    def apply(self, state: State) -> None:
        """Go on."""

    def touches(self, state: State) -> Footprint:
        """Its mark."""
        return (finished(self.target),), ()


async def _syscall(cpu: Cpu, call: str, where: tuple[int, int], arg: str, body: Callable[..., Awaitable[int]]) -> int:
    """The call of that name: ``body(cpu, start, end)``, with ``arg`` as a fourth argument if there is one."""
    await EnterSyscall(cpu.id, cpu.op, call, cpu.mm, *where, arg)
    ret = await (body(cpu, *where, arg) if arg else body(cpu, *where))
    await ExitSyscall(cpu.id, cpu.op, call, cpu.mm, *where, ret)
    return ret


async def op_mmap(cpu: Cpu, where: tuple[int, int], prot: str, result: str) -> int:
    """``mmap RANGE PROT``: private anonymous memory, rw, ro or none, at that place instead of what is there."""
    return await _syscall(cpu, "mmap", where, prot, mmap)


async def op_munmap(cpu: Cpu, where: tuple[int, int], result: str) -> int:
    """``munmap RANGE``."""
    return await _syscall(cpu, "munmap", where, "", munmap)


async def op_mprotect(cpu: Cpu, where: tuple[int, int], prot: str, result: str) -> int:
    """``mprotect RANGE PROT``: let the program do there what rw, ro or none says."""
    return await _syscall(cpu, "mprotect", where, prot, mprotect)


async def op_mlock(cpu: Cpu, where: tuple[int, int], result: str) -> int:
    """``mlock RANGE``: lock the memory and have all of it there."""
    return await _syscall(cpu, "mlock", where, "", mlock)


async def op_munlock(cpu: Cpu, where: tuple[int, int], result: str) -> int:
    """``munlock RANGE``."""
    return await _syscall(cpu, "munlock", where, "", munlock)


async def op_madvise(cpu: Cpu, where: tuple[int, int], advice: str, result: str) -> int:
    """``madvise RANGE ADVICE``: DONTNEED, DONTNEED_LOCKED, HUGEPAGE, NOHUGEPAGE, POPULATE_READ, POPULATE_WRITE or COLLAPSE."""
    return await _syscall(cpu, "madvise", where, advice, madvise)


async def op_process_madvise(cpu: Cpu, where: tuple[int, int], advice: str, result: str) -> int:
    """``process_madvise RANGE ADVICE``: of the process itself; the result is the number of bytes advised."""
    return await _syscall(cpu, "process_madvise", where, advice, process_madvise)


async def op_read(cpu: Cpu, va: int, register: str) -> int | str:
    """``read VA -> r``."""
    return await access(cpu, va, None)


async def op_write(cpu: Cpu, va: int, value: int | str) -> int | str:
    """``write VA = value``."""
    return await access(cpu, va, Token(value, f"cpu{cpu.id}:{cpu.op}"))


async def op_walk(cpu: Cpu, va: int, times: int, register: str) -> int | str:
    """``walk VA times N -> r``: a software walker, as the kernel runs it on behalf of this process."""
    await SetMode(cpu.id, KERNEL)
    seen = await walk_pte(cpu, va, times)
    await SetMode(cpu.id, USER)
    return seen


async def op_gup_fast(cpu: Cpu, va: int, register: str) -> int | str:
    """``gup_fast VA -> r``."""
    await SetMode(cpu.id, KERNEL)
    value = await get_user_page_fast(cpu, va)
    await SetMode(cpu.id, USER)
    return value


async def op_switch(cpu: Cpu, task: str) -> None:
    """``switch P``: another process; ``switch kthread`` or ``switch idle``: a task without user memory, on borrowed tables."""
    await SetMode(cpu.id, KERNEL)
    await ContextSwitch(cpu.id)
    if task in (KTHREAD, IDLE):
        await enter_lazy_tlb(cpu)
        await SetMode(cpu.id, IDLE)  # a kernel thread has nothing to do here, so it sleeps
    else:
        await switch_mm(cpu, task)
        cpu.mm = task
        await SetMode(cpu.id, USER)


async def op_wait(cpu: Cpu, target: str) -> None:
    """``wait cpu1:R``: until that operation is done."""
    await Wait(target)


async def op_cond_resched(cpu: Cpu) -> None:
    """``cond_resched``: a point in the kernel where it offers to be rescheduled."""
    await SetMode(cpu.id, KERNEL)
    await CondResched(cpu.id)
    await SetMode(cpu.id, USER)
