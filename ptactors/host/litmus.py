"""Two-thread races on this machine's real CPUs: a scenario's programs, run many times after random delays, and how they ended.

The loop is a small C program (litmus.c), built when it is wanted by the C compiler of the PATH, into memory: no file is left.
What the scenario says of the memory before the run is brought about by writes, reads and advices; a translation that a TLB should
hold is read just before the start. What a paging-structure cache should hold is left to the CPU. A live run is never repeatable:
the counts differ each time, and what is not seen may still be possible.
"""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import attrs

from ptactors.config import Thp
from ptactors.host.abi import ADVICE, PROTECTION
from ptactors.host.live import CannotRun, thp_setting, unable
from ptactors.host.sequence import ARENA
from ptactors.model.paging import PAGE_SIZE, PGDIR_SIZE, PMD_SIZE, align_down
from ptactors.scenario.model import Allocation, Content, Cpu, Scenario, Vma
from ptactors.scenario.program import BoundCall, OpCall, flatten, registers

OPERATIONS_LIMIT = 10_000
"""Of one program."""
THREADS_LIMIT = 64
"""As litmus.c has it."""
GRACE_SECONDS = 60
"""How much longer than it was told the C program may take before it is given up."""
SIGSEGV, UNSET = "SIGSEGV", "unset"
_UNSET, _FAULTED = -(1 << 63), 1 - (1 << 63)
_NAMED = 1_000_000_000
_CALLS = {"mmap": 9, "madvise": 28, "mprotect": 10, "munmap": 11, "mlock": 149, "munlock": 150}
_MADVISE, _MPROTECT, _MLOCK = _CALLS["madvise"], _CALLS["mprotect"], _CALLS["mlock"]
_ANONYMOUS = (0x32, -1, 0)
"""mmap's flags (private, anonymous, fixed), file and offset."""
Value = int | str
State = tuple[tuple[str, Value], ...]
"""How an iteration ended: ``cpu1:r0`` and ``mem[A+0x0]``, in the simulator's terms and order."""


@attrs.frozen(kw_only=True)
class Histogram:
    """How often a litmus test ended in which way."""

    outcomes: tuple[tuple[State, int], ...]
    """Final states with their counts, the commonest first."""
    others: int = 0
    """Iterations whose end was beyond the number of different ends that are kept."""

    @property
    def iterations(self) -> int:
        """All of them."""
        return sum(count for _, count in self.outcomes) + self.others


class Place(NamedTuple):
    """A cell of memory whose final content is asked for."""

    name: str
    va: int


@attrs.frozen(kw_only=True)
class Plan:
    """A scenario as litmus.c takes it."""

    lines: tuple[str, ...]
    """All but the first, which says how long to run."""
    names: tuple[str, ...]
    """What the numbers of an outcome are."""
    places: tuple[Place, ...]
    """Those of ``names`` that are cells of memory."""
    contents: Mapping[int, str]
    """Contents that have names."""
    threads: int
    """Programs."""

    def decode(self, numbers: tuple[int, ...]) -> State:
        """An outcome in the simulator's terms."""
        return tuple((name, self._value(number)) for name, number in zip(self.names, numbers, strict=True))

    def _value(self, number: int) -> Value:
        return {_UNSET: UNSET, _FAULTED: SIGSEGV, **self.contents}.get(number, number)


def plan(scenario: Scenario, places: tuple[int, ...] = ()) -> Plan:
    """The scenario for the C program; ``places`` are more addresses whose final content is wanted. Raises CannotRun."""
    return _Planner(scenario, places).plan()


class _Planner:
    """Writes one plan."""

    def __init__(self, scenario: Scenario, places: tuple[int, ...]) -> None:
        self._scenario = scenario
        self._programs = [cpu for cpu in scenario.cpus if cpu.program]
        _check(scenario, self._programs)
        self._base = align_down(min(vma.at for vma in scenario.vmas), PGDIR_SIZE)
        if max(vma.end for vma in scenario.vmas) > self._base + PGDIR_SIZE:
            raise CannotRun("its mappings lie further apart than 512 GiB")
        self._calls = {cpu.number: _calls(cpu) for cpu in self._programs}
        self._threads = {cpu.number: thread for thread, cpu in enumerate(self._programs)}
        self._contents: dict[str, int] = {}
        self._marks = self._awaited()
        self._places = self._finals(places)

    def plan(self) -> Plan:
        """All of it."""
        names = [f"cpu{cpu.number}:{name}" for cpu in self._programs for name in registers(cpu.program)]
        lines = [*self._memory(), *(f"final {self._page(place.va)}" for place in self._places)]
        for cpu in self._programs:
            lines += self._thread(cpu)
        return Plan(
            lines=tuple(lines),
            names=(*names, *(place.name for place in self._places)),
            places=self._places,
            contents={number: name for name, number in self._contents.items()},
            threads=len(self._programs),
        )

    def _at(self, va: int) -> int:
        if not 0 <= va - self._base <= PGDIR_SIZE:
            raise CannotRun(f"its address {va:#x} is further than 512 GiB from its mappings")
        return va - self._base + ARENA

    def _number(self, content: Content) -> int:
        if isinstance(content, int):
            return content
        return self._contents.setdefault(content, _NAMED + len(self._contents))

    # memory

    def _memory(self) -> Iterator[str]:
        spans = [(vma.at, vma.end) for vma in self._scenario.vmas]
        spans += [call.arguments[0] for calls in self._calls.values() for call in calls if isinstance(call.arguments[0], tuple)]
        start, end = min(first for first, _ in spans), max(end for _, end in spans)
        yield f"span {self._at(start)} {end - start}"
        thp = Thp(self._scenario.machine.get("thp", Thp.NEVER))
        for vma in self._scenario.vmas:
            if vma.mapped:
                yield from self._vma(vma, thp)

    def _vma(self, vma: Vma, thp: Thp) -> Iterator[str]:
        wants = thp is not Thp.NEVER if vma.huge == "hugepage" else vma.huge == "none" and thp is Thp.ALWAYS
        setting = thp_setting()
        if (wants or vma.huge_pages) and setting in ("", "never"):
            raise CannotRun(f"{vma.name} wants huge pages, which this machine does not give")
        small = ADVICE["NOHUGEPAGE"] if setting == "always" or vma.huge == "nohugepage" else 0
        at, size = self._at(vma.at), vma.size
        yield f"vma {at} {size} {PROTECTION['rw']} {small}"
        for va in vma.tables:
            page = self._at(max(align_down(va, PMD_SIZE), vma.at))
            yield f"fill {page} {page + PAGE_SIZE} 1"
            yield f"drop {page} {PAGE_SIZE}"
        for fill in vma.populate:
            yield f"fill {self._at(fill.start)} {self._at(fill.end)} {self._number(fill.value)}"
        yield from (f"look {self._at(entry.va)}" for entry in vma.entries)
        if wants or vma.huge_pages:
            yield _call(_MADVISE, at, size, ADVICE["HUGEPAGE"])
        for va, value in vma.huge_pages:
            yield f"fill {self._at(va)} {self._at(va) + PMD_SIZE} {self._number(value)}"
        if vma.huge_pages and not wants:
            yield _call(_MADVISE, at, size, ADVICE["NOHUGEPAGE"])
        if not (vma.readable and vma.writable):
            yield _call(_MPROTECT, at, size, PROTECTION["ro" if vma.readable else "none"])
        if vma.locked:
            yield _call(_MLOCK, at, size)

    def _finals(self, more: tuple[int, ...]) -> tuple[Place, ...]:
        """The pages that straight-line programs access by name, as the simulator's final states have them, and ``more``."""
        touched = {
            int(call.arguments[0])  # type: ignore[arg-type]
            for cpu in self._programs
            if all(isinstance(statement, OpCall) for statement in cpu.program)
            for call in self._calls[cpu.number]
            if call.operation in ("read", "write")
        }
        return tuple(
            Place(f"mem[{vma.name}+{va - vma.at:#x}]", va)
            for vma in self._scenario.vmas
            for va in sorted(touched | set(more))
            if vma.at <= va < vma.end
        )

    # programs

    def _awaited(self) -> dict[str, int]:
        """Labels that somebody waits for, as ``cpu1:R``, each with the number that its thread counts to when it is done."""
        wanted = {str(call.arguments[0]) for calls in self._calls.values() for call in calls if call.operation == "wait"}
        found: dict[str, int] = {}
        for number, calls in self._calls.items():
            labels = dict.fromkeys(f"cpu{number}:{call.label}" for call in calls)
            found |= {label: count for count, label in enumerate((label for label in labels if label in wanted), 1)}
        return found

    def _thread(self, cpu: Cpu) -> Iterator[str]:
        yield f"thread {self._available(self._threads[cpu.number])}"
        yield from (f"warm {self._at(va)}" for va in cpu.tlb)
        names = {name: place for place, name in enumerate(registers(cpu.program))}
        marked: set[str] = set()
        for call in self._calls[cpu.number]:
            yield self._line(call, names)
            label = f"cpu{cpu.number}:{call.label}"
            if label in self._marks and label not in marked:
                marked.add(label)
                yield "mark"

    @staticmethod
    def _available(thread: int) -> int:
        usable = sorted(os.sched_getaffinity(0))
        if thread >= len(usable):
            raise CannotRun(f"it has programs for {thread + 1} CPUs or more, and this process may use {len(usable)}")
        return usable[thread]

    def _line(self, call: BoundCall, names: Mapping[str, int]) -> str:
        arguments = list(call.arguments)
        verb = call.operation
        if verb == "wait":
            label = str(arguments[0])
            return f"await {self._threads[int(label[3:].partition(':')[0])]} {self._marks[label]}"
        if verb == "read":
            return f"read {self._page(arguments[0])} {names.get(str(arguments[1]), -1)}"
        if verb == "write":
            value = arguments[1]
            assert not isinstance(value, tuple)
            return f"write {self._page(arguments[0])} {self._number(value)}"
        if verb not in _CALLS or not isinstance(arguments[0], tuple):
            raise CannotRun(f"the operation {verb!r} is not made in a race on a live kernel")
        start, end = arguments[0]
        register = names.get(str(arguments[-1]), -1) if len(arguments) > 1 else -1
        third = _third(verb, arguments)
        return _call(_CALLS[verb], self._at(start), end - start, third, register, _ANONYMOUS if verb == "mmap" else (0, 0, 0))

    def _page(self, va: object) -> int:
        assert isinstance(va, int)
        return self._at(align_down(va, PAGE_SIZE))


def _call(
    number: int, start: int, length: int, third: int = 0, register: int = -1, rest: tuple[int, int, int] = (0, 0, 0)
) -> str:
    return " ".join(map(str, ("call", number, start, length, third, *rest, register)))


def _third(verb: str, arguments: Sequence[object]) -> int:
    if verb == "madvise":
        advice = str(arguments[1])
        if advice not in ADVICE:
            raise CannotRun(f"the advice {advice} is not given to a live kernel")
        return ADVICE[advice]
    if verb in ("mmap", "mprotect"):
        return PROTECTION[str(arguments[1])]
    return 0


def _calls(cpu: Cpu) -> list[BoundCall]:
    found: list[BoundCall] = []
    for call in flatten(cpu.program):
        if len(found) == OPERATIONS_LIMIT:
            raise CannotRun(f"the program of cpu{cpu.number} has more than {OPERATIONS_LIMIT} operations")
        if call.operation != "cond_resched":
            found.append(call)
    return found


def _check(scenario: Scenario, programs: list[Cpu]) -> None:
    """Raises CannotRun for what only the model can do."""
    fault = scenario.fault
    for wrong, reason in (
        (scenario.stress is not None, "a random mix is drawn anew for each schedule, and only the model does so"),
        (len(scenario.processes) > 1, "it has more than one process"),
        (not scenario.vmas or not programs, "it has no mapping or no program"),
        (len(programs) > THREADS_LIMIT, f"it has more than {THREADS_LIMIT} programs"),
        (fault.page_batch_alloc != Allocation() or fault.table_batch_alloc != Allocation(), "it makes allocations fail"),
        (bool(fault.need_resched) or fault.need_resched_maybe, "it says where a reschedule is due"),
        (any(cpu.state != "user" for cpu in scenario.cpus), "it says that a CPU is lazy or idle at the start"),
    ):
        if wrong:
            raise CannotRun(reason)
    for vma in scenario.vmas:
        if vma.kind != "anon" or vma.uffd_wp:
            raise CannotRun(f"{vma.name} is not a plain anonymous mapping")
        if any(entry.kind != "zero" for entry in vma.entries):
            raise CannotRun(f"{vma.name} has entries that only the model can put there")


def run(what: Plan, iterations: int, seconds: int, seed: int) -> Histogram:
    """Run it until so many iterations or seconds are over. Raises CannotRun."""
    reason = unable()
    if reason:
        raise CannotRun(reason)
    program = _build()
    request = "\n".join((f"run {iterations} {seconds} {seed} {os.getpid()}", *what.lines, ""))
    try:
        done = subprocess.run(
            [f"/proc/self/fd/{program}"], input=request, text=True, capture_output=True, pass_fds=(program,), check=False,
            timeout=seconds + GRACE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CannotRun(f"the race did not end within {GRACE_SECONDS} seconds of its time") from None
    if done.returncode:
        raise CannotRun(f"the C program ended with code {done.returncode}: {done.stderr.strip() or 'no word'}")
    return histogram(what, done.stdout)


@functools.cache
def _build() -> int:
    """A descriptor of the built program, which has no name and lives as long as this process. Raises CannotRun."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise CannotRun("no C compiler is on the PATH, and races need one (cc, gcc or clang)")
    writable = os.memfd_create("ptactors-litmus")
    try:
        path = f"/proc/{os.getpid()}/fd/{writable}"
        done = subprocess.run(
            [compiler, "-O2", "-pipe", "-pthread", "-x", "c", "-", "-o", path], check=False, capture_output=True,
            input=pathlib.Path(__file__).with_name("litmus.c").read_bytes(), pass_fds=(writable,),
        )  # fmt: skip
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
            raise CannotRun(f"{compiler} cannot build the C program: {words[-1]}")
        return os.open(path, os.O_RDONLY)
    finally:
        os.close(writable)


def histogram(what: Plan, text: str) -> Histogram:
    """The C program's output."""
    found: list[tuple[State, int]] = []
    others = 0
    for line in text.splitlines():
        first, *numbers = line.split()
        if first == "others":
            others = int(numbers[0])
        else:
            found.append((what.decode(tuple(map(int, numbers))), int(first)))
    found.sort(key=lambda outcome: -outcome[1])
    return Histogram(outcomes=tuple(found), others=others)
