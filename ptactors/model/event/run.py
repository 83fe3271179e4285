"""Events of the run as a whole: programs, system calls, faults, how it ended."""

from __future__ import annotations

from typing import NamedTuple


class VmaInit(NamedTuple):
    """A VMA exists (set-up)."""

    cpu: int
    mm: str
    vma: str
    start: int
    end: int
    kind: str


class OpBegin(NamedTuple):
    """A program's operation begins."""

    cpu: int
    label: str
    op: str
    text: str


class OpEnd(NamedTuple):
    """A program's operation is done."""

    cpu: int
    label: str
    op: str
    result: str


class Register(NamedTuple):
    """A register of a program gets a value."""

    cpu: int
    reg: str
    value: int | str


class ProgramsDone(NamedTuple):
    """Every program is done and the machine is quiet; what follows is the exit of the processes."""

    cpu: int


class Stuck(NamedTuple):
    """The run cannot go on, or not end. kind: deadlock, stall, livelock."""

    cpu: int
    kind: str
    why: str


class RunEnd(NamedTuple):
    """Nothing is left to happen; complete says whether every program and every exit ran to its end."""

    cpu: int
    complete: bool


class SyscallEnter(NamedTuple):
    """A system call begins: madvise, munmap, exit."""

    cpu: int
    label: str
    call: str
    mm: str
    start: int
    end: int
    arg: str


class SyscallExit(NamedTuple):
    """A system call returns to user mode; ret is 0 or a negative errno."""

    cpu: int
    label: str
    call: str
    mm: str
    start: int
    end: int
    ret: int


class PageFault(NamedTuple):
    """A page fault from user mode; error_code has the architecture's bits (1 present, 2 write, 4 user)."""

    cpu: int
    label: str
    address: int
    error_code: int


class PageFaultEnd(NamedTuple):
    """The fault handler is done; the access is made again."""

    cpu: int
    address: int
    result: str


class ExitMm(NamedTuple):
    """exit_mmap() is done: nothing of this mm may be left."""

    cpu: int
    mm: str
