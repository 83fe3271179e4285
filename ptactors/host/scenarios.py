"""Sequential scenarios as operation sequences that a real kernel can make, or why one cannot be.

What a scenario says is there before the run is made by operations: populated pages are written, an empty table is left by
dropping a page, a huge page is collapsed. Contents that are names become small numbers. Caches and lazy CPUs without a program
leave nothing to see in a run with one order, and are not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ptactors.config import Thp
from ptactors.host.form import REPEATED
from ptactors.host.program import access_count
from ptactors.host.sequence import Step
from ptactors.model.paging import PAGE_SIZE, PGDIR_SIZE, PMD_SIZE, align_down
from ptactors.scenario.model import Allocation, Content, Cpu, Scenario, Vma
from ptactors.scenario.program import BoundCall, flatten

MAX_OPERATIONS = 200_000
"""A scenario with more operations is left out."""
MAX_STEPS = 4000
"""A scenario with more steps, its loops being one each, is left out: each costs the kernel's account a reading of /proc."""
_PERIOD = 4
"""The longest body of a loop that is found again."""
_TURNS = 64
"""Loops with fewer turns stay as they are, with an observation after each operation."""
FIRST_NAME = 128
"""Contents that are names are stored as bytes from here on."""
RANGES = {
    "mmap": "map",
    "madvise": "adv",
    "process_madvise": "padv",
    "munmap": "unmap",
    "mprotect": "prot",
    "mlock": "lock",
    "munlock": "unlock",
}
_SILENT = ("cond_resched",)
"""Operations that leave nothing to see, as ``wait`` does once it is over."""


class Unmappable(Exception):
    """Why a scenario cannot be made on a real kernel, in a sentence."""


def steps_of(scenario: Scenario) -> tuple[Step, ...]:
    """The scenario's operations in their order, after those that make its initial state. Raises Unmappable."""
    programs = [cpu for cpu in scenario.cpus if cpu.program]
    if scenario.stress is not None:
        raise Unmappable("a random mix has no order of its own")
    if not scenario.vmas or not programs:
        raise Unmappable("it has no mapping or no program")
    ordered = list(in_order(programs))
    _check(scenario, programs)
    base = align_down(min(vma.at for vma in scenario.vmas), PGDIR_SIZE)
    if max(vma.end for vma in scenario.vmas) > base + PGDIR_SIZE:
        raise Unmappable("its mappings lie further apart than 512 GiB")
    making = _Making(base)
    thp = Thp(scenario.machine.get("thp", Thp.NEVER))
    for vma in scenario.vmas:
        making.prepare(vma, thp)
    threads = {cpu.number: thread for thread, cpu in enumerate(programs)}
    for cpu in programs:
        making.load(threads[cpu.number], cpu)
    for number, call in ordered:
        making.call(threads[number], call)
    steps = folded(making.steps)
    if len(steps) > MAX_STEPS:
        raise Unmappable(f"it has more than {MAX_STEPS} steps")
    return steps


def folded(steps: list[Step]) -> tuple[Step, ...]:
    """Long loops as one ``repeat`` each: the same few operations again and again, each time as much further on."""
    done: list[Step] = []
    at = 0
    while at < len(steps):
        period, turns = max(((p, _turns(steps, at, p)) for p in range(1, _PERIOD + 1)), key=lambda found: found[0] * found[1])
        if turns < _TURNS:
            done.append(steps[at])
            at += 1
            continue
        body = steps[at : at + period]
        done.append(("repeat", turns, steps[at + period][1] - body[0][1], *body))
        at += period * turns
    return tuple(done)


def _turns(steps: list[Step], at: int, period: int) -> int:
    """How often ``period`` steps from ``at`` on are made, each time the same distance further on."""
    if at + 2 * period > len(steps) or not all(map(_is_one, steps[at : at + period])):
        return 1
    if steps[at + period][0] != steps[at][0]:
        return 1
    stride = steps[at + period][1] - steps[at][1]
    turns = 1
    while (
        stride > 0
        and at + (turns + 1) * period <= len(steps)
        and all(_shifted(steps[at + i], turns * stride) == steps[at + turns * period + i] for i in range(period))
    ):
        turns += 1
    return turns


def _is_one(step: Step) -> bool:
    """Whether a ``repeat`` may hold it: one operation, of the first thread."""
    return step[0] in REPEATED and access_count(step) == 1


def _shifted(step: Step, by: int) -> Step:
    return (step[0], step[1] + by, *step[2:])


def _check(scenario: Scenario, programs: list[Cpu]) -> None:
    """Raises Unmappable for what only the model can do."""
    fault = scenario.fault
    for wrong, reason in (
        (len(programs) > 2, f"it has {len(programs)} programs, and two threads are what sequences have"),
        (scenario.hardware != "intel" or "hardware" in scenario.matrix, "the CPU type is this machine's"),
        (len(scenario.processes) > 1, "it has more than one process"),
        (fault.page_batch_alloc != Allocation() or fault.table_batch_alloc != Allocation(), "it makes allocations fail"),
        (bool(fault.need_resched) or fault.need_resched_maybe, "it says where a reschedule is due"),
        (fault.rcu_callbacks != "any", "it says when RCU callbacks run"),
        (bool(fault.late_ipis), "it says when interrupts arrive"),
        (any(cpu.state != "user" for cpu in programs), "it says that a CPU with a program is lazy or idle at the start"),
    ):
        if wrong:
            raise Unmappable(reason)
    for vma in scenario.vmas:
        _check_vma(vma)


def _check_vma(vma: Vma) -> None:
    for wrong, reason in (
        (vma.kind != "anon", f"{vma.name} is a {vma.kind} mapping"),
        (vma.uffd_wp, f"{vma.name} is registered with userfaultfd"),
        (vma.locked, f"{vma.name} is locked at the start, which would populate it"),
        (any(each.kind != "zero" for each in vma.entries), f"{vma.name} has entries that only the model can put there"),
    ):
        if wrong:
            raise Unmappable(reason)


def in_order(programs: list[Cpu]) -> Iterator[tuple[int, BoundCall]]:
    """Every operation with its CPU, in the only order that the programs allow. Raises Unmappable if they overlap."""
    rest = {cpu.number: flatten(cpu.program) for cpu in programs}
    following = {number: next(program, None) for number, program in rest.items()}
    done: set[str] = set()

    def go_on(number: int, call: BoundCall) -> None:
        done.add(f"cpu{number}:{call.label}")
        following[number] = next(rest[number], None)

    for _ in range(MAX_OPERATIONS):
        _pass_silent(following, done, go_on)
        ready = [(number, call) for number, call in following.items() if call is not None and call.operation != "wait"]
        if not ready and any(following.values()):
            raise Unmappable("its programs wait for each other")
        if not ready:
            return
        if len(ready) > 1:
            raise Unmappable("its programs overlap")
        yield ready[0]
        go_on(*ready[0])
    raise Unmappable(f"it has more than {MAX_OPERATIONS} operations")


def _pass_silent(following: dict[int, BoundCall | None], done: set[str], go_on: Callable[[int, BoundCall], None]) -> None:
    """Get every program over what leaves nothing to see, as far as what it waits for is done."""
    while True:
        passed = [
            (number, call)
            for number, call in following.items()
            if call is not None and (call.operation in _SILENT or (call.operation == "wait" and call.arguments[0] in done))
        ]
        if not passed:
            return
        for each in passed:
            go_on(*each)


class _Making:
    """Steps as they are put together."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._values: dict[str, int] = {}
        self.steps: list[Step] = []

    def _value(self, content: Content) -> int:
        """A byte for a page's content: small numbers as they are, names as numbers of their own."""
        if isinstance(content, int):
            if not 0 <= content < FIRST_NAME:
                raise Unmappable(f"it stores {content}, and a sequence stores bytes below {FIRST_NAME}")
            return content
        if len(self._values) >= 256 - FIRST_NAME and content not in self._values:
            raise Unmappable("it stores too many names")
        return self._values.setdefault(content, FIRST_NAME + len(self._values))

    def _write(self, start: int, end: int, content: Content) -> None:
        self.steps.append(("w", start - self._base, end - start, PAGE_SIZE, self._value(content)))

    def prepare(self, vma: Vma, thp: Thp) -> None:
        """Make a VMA as the scenario has it at the start: first the small pages, then what might map huge ones."""
        if not vma.mapped:
            return
        start, size = vma.at - self._base, vma.size
        self.steps.append(("map", start, size))
        for fill in vma.populate:
            self._write(fill.start, fill.end, fill.value)
        for entry in vma.entries:
            self.steps.append(("r", entry.va - self._base))
        for va in vma.tables:
            self._leave_table(vma, va)
        for va, content in vma.huge_pages:
            self._write(va, va + PMD_SIZE, content)
            self.steps.append(("adv", va - self._base, PMD_SIZE, "COLLAPSE"))
        if vma.huge == "nohugepage":
            self.steps.append(("adv", start, size, "NOHUGEPAGE"))
        elif thp is Thp.ALWAYS or (thp is Thp.MADVISE and vma.huge == "hugepage"):
            self.steps.append(("adv", start, size, "HUGEPAGE"))
        if not vma.writable:
            self.steps.append(("prot", start, size, "ro"))

    def _leave_table(self, vma: Vma, va: int) -> None:
        """An empty table: a page that nobody needs comes and goes."""
        first, last = max(align_down(va, PMD_SIZE), vma.at), min(align_down(va, PMD_SIZE) + PMD_SIZE, vma.end)
        taken = [fill for fill in vma.populate if fill.start < last and first < fill.end]
        taken_entries = [entry for entry in vma.entries if first <= entry.va < last]
        if not taken and not taken_entries:
            self.steps += [("w", first - self._base), ("adv", first - self._base, PAGE_SIZE, "DONTNEED")]

    def load(self, thread: int, cpu: Cpu) -> None:
        """What the CPU's TLB holds at the start, its program's thread reads. What other CPUs hold nobody can see."""
        for va in cpu.tlb:
            step = ("r", align_down(va, PAGE_SIZE) - self._base)
            self.steps.append(("t2", *step) if thread else step)

    def call(self, thread: int, call: BoundCall) -> None:
        """One operation of a program."""
        step = self._step(call)
        self.steps.append(("t2", *step) if thread else step)

    def _step(self, call: BoundCall) -> Step:
        first = call.arguments[0] if call.arguments else None
        if call.operation in ("read", "write"):
            assert isinstance(first, int)
            page = align_down(first, PAGE_SIZE) - self._base
            if call.operation == "read":
                return ("r", page)
            content = call.arguments[1]
            assert isinstance(content, int | str)
            return ("w", page, PAGE_SIZE, PAGE_SIZE, self._value(content))
        if call.operation not in RANGES or not isinstance(first, tuple):
            raise Unmappable(f"no operation sequence has {call.operation}")
        where = (first[0] - self._base, first[1] - first[0])
        if call.operation == "mmap":
            return ("map", *where, "anon", *call.arguments[1:-1])
        return (RANGES[call.operation], *where, *call.arguments[1:-1])
