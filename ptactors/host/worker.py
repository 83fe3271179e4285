"""The fresh process that makes a sequence's operations: started by live.py with the sequence on stdin, answers on stdout.

A line of JSON for each step, as recordings have them. It prepares everything first and takes the arena's state by a meter that
allocates nothing of note, so that VmPTE grows by the arena's tables alone. It dies with its parent, leaves no file, and makes no
core. Standard library only: what is not imported does not disturb.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ptactors.host.abi import ADVICE, ARENA, ARENA_SIZE, KINDS, PROTECTION
from ptactors.host.native import READ, WRITE, Block, Native, Refused, libc
from ptactors.host.proc import PAGE, Meter

_FIXED, _NORESERVE = 0x10, 0x4000
_ACCOUNTED = 4 << 30
"""Larger mappings are made with MAP_NORESERVE: a small machine would refuse them, though little of them is ever touched."""
_MMAP, _MPROTECT, _MUNMAP, _MREMAP, _MADVISE, _MLOCK, _MUNLOCK = 9, 10, 11, 25, 28, 149, 150
_FTRUNCATE, _FALLOCATE, _PIDFD_OPEN, _PROCESS_MADVISE = 77, 285, 434, 440
_MOVE = {"move": 0x3, "move_dontunmap": 0x7}  # MREMAP_MAYMOVE, FIXED, DONTUNMAP
_PUNCH = 0x3  # FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE
_PR_SET_PDEATHSIG = 1
_NOTHING: tuple[list[Any], ...] = (["adv", 0, 0, "NORMAL"], ["r", 0, 0], ["adv", 1, 0, "NORMAL"])
"""Operations without effect: a fresh child makes them first, so that the code for it is mapped before anything is measured."""
Answer = tuple[Any, int]
"""Result and minor faults."""


def shown(result: int) -> int | str:
    """A system call's result: itself, or the error by name."""
    return result if result >= 0 else f"-{errno.errorcode.get(-result, str(-result))}"


class Hand:
    """Makes operations on behalf of one thread."""

    def __init__(self, native: Native, files: dict[str, int]) -> None:
        self._block = Block(native)
        self._files = files

    def do(self, step: list[Any]) -> Answer:
        """One operation: its result as recordings have it, and its minor faults."""
        name, *arguments = step
        if name in ("w", "r"):
            return self._sweep(name, *arguments)
        if name == "repeat":
            return self._repeat(*arguments)
        call: Callable[..., tuple[int, int]] = getattr(self, f"_{name}")
        result, faults = call(*arguments)
        return shown(result), faults

    def _sweep(self, name: str, offset: int, length: int = PAGE, stride: int = PAGE, value: int = 1) -> Answer:
        start = ARENA + offset
        result, faults = self._block.sweep(READ if name == "r" else WRITE, start, start + length, stride, value)
        return (signal.Signals(-result).name if isinstance(result, int) and result else result), faults

    def _repeat(self, count: int, stride: int, *steps: list[Any]) -> Answer:
        """The steps again and again, each time ``stride`` further on: 0, or the first error."""
        first: Any = 0
        faults = 0
        for turn in range(count):
            for name, offset, *rest in steps:
                result, made = self.do([name, offset + turn * stride, *rest])
                first, faults = first or (result if isinstance(result, str) else 0), faults + made
        return first, faults

    def _map(
        self, offset: int, length: int, kind: str = "anon", prot: str = "rw", fd: str = "", foff: int = 0
    ) -> tuple[int, int]:
        file = -1 if kind.startswith("anon") else self._file(fd, foff + length)
        wanted = ARENA + offset
        flags = KINDS[kind] | _FIXED | (_NORESERVE if length > _ACCOUNTED else 0)
        got, faults = self._block.call(_MMAP, wanted, length, PROTECTION[prot], flags, file, foff)
        return (0 if got == wanted else got), faults

    def _file(self, name: str, size: int) -> int:
        """The memfd of that name; '' for a new one each time."""
        if not name or name not in self._files:
            self._files[name] = os.memfd_create("ptactors")
        if os.fstat(self._files[name]).st_size < size:
            os.ftruncate(self._files[name], size)
        return self._files[name]

    def _unmap(self, offset: int, length: int) -> tuple[int, int]:
        return self._block.call(_MUNMAP, ARENA + offset, length)

    def _prot(self, offset: int, length: int, prot: str) -> tuple[int, int]:
        return self._block.call(_MPROTECT, ARENA + offset, length, PROTECTION[prot])

    def _adv(self, offset: int, length: int, advice: str) -> tuple[int, int]:
        return self._block.call(_MADVISE, ARENA + offset, length, ADVICE[advice])

    def _padv(self, offset: int, length: int, advice: str) -> tuple[int, int]:
        myself, _ = self._block.call(_PIDFD_OPEN, os.getpid(), 0)
        if myself < 0:
            return myself, 0
        answer = self._block.call(_PROCESS_MADVISE, myself, self._block.vector(ARENA + offset, length), 1, ADVICE[advice], 0)
        os.close(myself)
        return answer

    def _lock(self, offset: int, length: int) -> tuple[int, int]:
        return self._block.call(_MLOCK, ARENA + offset, length)

    def _unlock(self, offset: int, length: int) -> tuple[int, int]:
        return self._block.call(_MUNLOCK, ARENA + offset, length)

    def _move(self, offset: int, length: int, new: int, how: str = "move") -> tuple[int, int]:
        got, faults = self._block.call(_MREMAP, ARENA + offset, length, length, _MOVE[how], ARENA + new)
        return (0 if got == ARENA + new else got), faults

    def _move_dontunmap(self, offset: int, length: int, new: int) -> tuple[int, int]:
        return self._move(offset, length, new, "move_dontunmap")

    def _fallocate_punch(self, fd: str, offset: int, length: int) -> tuple[int, int]:
        return self._block.call(_FALLOCATE, self._files[fd], _PUNCH, offset, length)

    def _truncate(self, fd: str, length: int) -> tuple[int, int]:
        return self._block.call(_FTRUNCATE, self._files[fd], length)

    def knows(self, advice: str) -> bool:
        """Whether the kernel knows the advice: over no bytes at all every known one succeeds."""
        return self._block.call(_MADVISE, ARENA, 0, ADVICE[advice])[0] == 0


class SecondThread:
    """Another thread of the process on another CPU; makes one operation at a time, in turn with the first.

    A bare thread and two locks: what a module for threads would set up beside it would be in the account of the first.
    """

    def __init__(self, hand: Hand, cpu: int) -> None:
        self._hand, self._cpu = hand, cpu
        self._asked, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._asked.acquire()
        self._done.acquire()
        self._step: list[Any] = []
        self._answer: Answer = (0, 0)
        _thread.start_new_thread(self._life, ())

    def _life(self) -> None:
        os.sched_setaffinity(0, {self._cpu})
        while True:
            self._asked.acquire()
            self._answer = self._hand.do(self._step)
            self._done.release()

    def do(self, step: list[Any]) -> Answer:
        """Have it made there."""
        self._step = step
        self._asked.release()
        self._done.acquire()
        return self._answer


class Worker:
    """The process: its hands, its meter and its children."""

    def __init__(self, steps: list[list[Any]], cpus: list[int]) -> None:
        native = Native()
        files: dict[str, int] = {}
        os.sched_setaffinity(0, {cpus[0]})
        self._hand = Hand(native, files)
        self._second = SecondThread(Hand(native, files), cpus[1 % len(cpus)]) if any(s[0] == "t2" for s in steps) else None
        self._meter = Meter(ARENA, ARENA + ARENA_SIZE)
        self._held: list[tuple[int, int]] = []
        self._base = self._child_base = 0
        self._forks = any(step[0] == "fork" for step in steps)

    def unknown(self, steps: list[list[Any]]) -> str:
        """The first advice of the steps that this kernel does not know; ''."""
        asked = [step[1:] if step[0] == "t2" else step for step in steps]
        asked += [each for step in asked if step[0] == "repeat" for each in step[3:]]
        names = [step[3] for step in asked if step[0] in ("adv", "padv")]
        return next((name for name in names if not self._hand.knows(name)), "")

    def prepare(self) -> None:
        """Do once what the steps will do, so that whatever Python and the C library allocate for it is there before the start."""
        for _ in range(3):
            self._rehearse()
        if self._forks:
            pid, lines, _ = self._fork([], hold=False)
            os.waitpid(pid, 0)
            self._child_base = lines["base"]
            self._rehearse()
        self._base = self._meter.vmpte_kb()

    def _rehearse(self) -> None:
        size = 4 * 512 * PAGE
        for step in (["map", 0, size], ["w", 0, size], ["adv", 0, size // 2, "DONTNEED"], ["r", 0, size], ["unmap", 0, size]):
            self.observe(step)
            if self._second is not None and step[0] == "r":
                self.observe(["t2", *step])

    def observe(self, step: list[Any]) -> str:
        """Make the step and say what is seen then, as a line of JSON."""
        child: list[Any] = []
        if step[0] == "fork":
            child = self._run_child(step[1], bool(step[2:3] and step[2]))
            answer: Answer = (0, 0)
        elif step[0] == "reap":
            answer = self._reap()
        elif step[0] == "t2":
            assert self._second is not None
            answer = self._second.do(step[1:])
        else:
            answer = self._hand.do(step)
        return json.dumps(self._seen(*answer) | ({"child": child} if child else {}))

    def _seen(self, result: Any, faults: int) -> dict[str, Any]:
        vmpte = self._meter.vmpte_kb() - self._base
        mapped = self._meter.vmas()
        return {
            "result": result,
            "vmpte_kb": vmpte,
            "rss_kb": sum(vma[3] for vma in mapped),
            "faults": faults,
            "tables": self._meter.tables(mapped),
            "vmas": [(start - ARENA, end - start, perm, huge, flags) for start, end, perm, _, huge, flags in mapped],
        }

    # children

    def _run_child(self, steps: list[list[Any]], hold: bool) -> list[Any]:
        pid, answer, leave = self._fork(steps, hold)
        self._held.append((pid, leave))
        if not hold:
            self._reap()
        return list(answer["seen"])

    def _reap(self) -> Answer:
        for pid, leave in self._held:
            os.close(leave)
            os.waitpid(pid, 0)
        self._held.clear()
        return 0, 0

    def _fork(self, steps: list[list[Any]], hold: bool) -> tuple[int, dict[str, Any], int]:
        """A child that does ``steps``, its answer, and the pipe whose closing lets it end."""
        answers, theirs = os.pipe()
        ours, leave = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            os.close(leave)
            self._be_child(parent, steps, theirs)
            os.close(theirs)
            if hold:
                os.read(ours, 1)
            os._exit(0)
        os.close(theirs)
        os.close(ours)
        with open(answers, "rb") as pipe:
            return pid, json.loads(pipe.read()), leave

    def _be_child(self, parent: int, steps: list[list[Any]], pipe: int) -> None:
        die_with(parent)
        self._meter = Meter(ARENA, ARENA + ARENA_SIZE)
        for _ in range(3):
            for step in _NOTHING:
                self._seen(*self._hand.do(step))
        base, self._base = self._meter.vmpte_kb(), self._child_base
        seen = []
        for step in steps:
            answer = self._hand.do(step)
            seen.append(self._seen(*answer))
        data = json.dumps({"base": base, "seen": seen}).encode()
        while data:
            data = data[os.write(pipe, data) :]


def die_with(parent: int) -> None:
    """Be killed when the parent ends, however it does."""
    libc.prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def humble() -> None:
    """No core, and the first to go where memory runs out."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # a container may have it read-only
        file.write("1000")


def main() -> None:
    """Read the request, answer it line by line. A last line with ``cannot`` says why there are no more answers."""
    request = json.load(sys.stdin)
    die_with(request["parent"])
    humble()
    gc.disable()
    steps: list[list[Any]] = request["steps"]
    try:
        worker = Worker(steps, request["cpus"])
    except Refused:
        _say(json.dumps({"cannot": "this system lets no process have executable memory of its own making"}))
        return
    unknown = worker.unknown(steps)
    if unknown:
        _say(json.dumps({"cannot": f"this kernel does not know the advice MADV_{unknown}"}))
        return
    worker.prepare()
    for step in steps:
        line = worker.observe(step)
        if '"-ENOSYS"' in line:
            _say(json.dumps({"cannot": f"this kernel has no system call for {step}"}))
            return
        _say(line)


def _say(line: str) -> None:
    data = line.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]
