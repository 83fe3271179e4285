"""Random scenarios: a machine, its memory, its programs and its faults, all drawn from one seed and written as a scenario file.

Swarm style (Groce, Zhang, Eide, Chen, Regehr, "Swarm testing", ISSTA 2012): every mix first switches about half of all operations
and faults off entirely, because what is always there hides what needs its absence: with a discard in every program no table
lives long enough to be shared, and with failing allocations everywhere no batch ever fills up. What is left on gets a weight.

Operations come from kernel/table.py by the kinds of their parameters, so a new one takes part by itself. Addresses crowd on a
few pages, so that the programs meet. The text is that of an ordinary scenario file: it can be run, replayed, shrunk and edited.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, FrameReuse, Preemption, Thp
from ptactors.kernel import operation as declared
from ptactors.kernel.operation import Kind, Operation, Parameter
from ptactors.kernel.table import OPERATIONS
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, align_down
from ptactors.model.rng import SplitMix64, stream

T = TypeVar("T")

SCHEDULES = 8
"""Schedules of one mix under each preset: part of what a seed means, so it is the same everywhere."""
STRATEGIES = (("run-length", 3), ("random", 1), ("pos:all", 1))
"""Who chooses in a mix, with weights: strategies that need no probe runs, which would cost more than the schedules do."""
FAULTS: dict[str, tuple[str, ...]] = {
    "page_batch_alloc": ("maybe", "fail", "fail-after 1"),
    "table_batch_alloc": ("maybe", "fail", "fail-after 1"),
    "need_resched": ("maybe",),
    "rcu_callbacks": ("late", "early"),
}
"""What may be injected, each with the values that switch it on."""
NOT_DRAWN = {Kind.LABEL: "it waits for an operation by name, which a random program would do for ever"}
"""Kinds of parameters whose operations are not drawn, and why."""
POPULATING = ("mlock", "POPULATE_READ", "POPULATE_WRITE")
"""Operations and advices that fault in every page of their range, and so get short ones."""
MAX_STEPS = 60_000
_BASE, _STRIDE = 0x7F00_0020_0000, 0x0000_0080_0000
_HUGE = ("none", "hugepage", "nohugepage")
_HOT = ((0, 2), (1, 2), (2, 1), (3, 1), (511, 1))
"""Pages of a 2 MiB that programs crowd on, with weights."""
_RUN = 6
"""The most pages of a short range."""


@attrs.frozen
class Area:
    """A VMA that programs may use."""

    name: str
    process: str
    size: int
    huge: str


def drawable() -> tuple[Operation, ...]:
    """The operations that mixes are drawn from."""
    return tuple(op for op in OPERATIONS.values() if all(p.kind in _WORDS for p in op.parameters))


def not_drawn() -> dict[str, str]:
    """The other ones, each with the reason."""
    left = {}
    for operation in OPERATIONS.values():
        kinds = [p.kind for p in operation.parameters if p.kind not in _WORDS]
        if kinds:
            left[operation.name] = NOT_DRAWN.get(kinds[0], f"parameters of kind {kinds[0].value} cannot be drawn")
    return left


def name_of(number: int) -> str:
    """The name of the mix of this number."""
    return f"mix-{number}"


def strategy_of(number: int) -> str:
    """Who chooses in the mix of this number, if nobody is named."""
    return _weighted(stream(number, "mix strategy"), STRATEGIES)


def text_of(number: int, presets: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """The scenario file of the mix of this number; ``overrides`` are knobs that are set from outside, typed."""
    return _Mix(number, presets, overrides).text()


def _pick(rng: SplitMix64, items: Sequence[T]) -> T:
    return items[rng.below(len(items))]


def _weighted(rng: SplitMix64, items: Sequence[tuple[T, int]]) -> T:
    at = rng.below(sum(weight for _, weight in items))
    for item, weight in items:
        if at < weight:
            return item
        at -= weight
    raise AssertionError("weights do not add up")


def _groups() -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """Operations on ranges, which change what is mapped, and all others."""
    changing = tuple(op for op in drawable() if any(p.kind is Kind.RANGE for p in op.parameters))
    return changing, tuple(op for op in drawable() if op not in changing)


def _enabled(rng: SplitMix64, group: Sequence[Operation]) -> tuple[list[tuple[Operation, int]], int]:
    """About half of a group, at least one, each with a weight; and the weight of the group.

    What takes an advice is many operations in one: three in four mixes have it, and with twice the weight.
    """
    kept = [operation for operation in group if rng.below(4) > (0 if _advises(operation) else 1)] or [_pick(rng, group)]
    return [(operation, (1 + rng.below(8)) * (2 if _advises(operation) else 1)) for operation in kept], 2 + rng.below(4)


def _advises(operation: Operation) -> bool:
    return any(parameter.kind is Kind.ADVICE for parameter in operation.parameters)


class _Mix:
    """One draw. Each part has a stream of its own, so that a change of one part leaves the others as they are."""

    def __init__(self, number: int, presets: Sequence[str], overrides: Mapping[str, Any]) -> None:
        self._number = number
        self._presets = presets
        self._overrides = overrides
        self.rng = stream(number, "mix machine")
        self._cpus = int(overrides.get("cpus") or _weighted(self.rng, ((2, 3), (3, 2), (4, 1))))
        self._processes = ("P", "Q") if self.rng.below(6) == 0 else ("P",)
        self.tasks: tuple[str, ...] = (*self._processes, "kthread", "idle")
        self._machine = self._draw_machine()
        self.areas = self._draw_areas(stream(number, "mix memory"))
        self.hot = self._draw_hot(stream(number, "mix hot pages"))
        self.values = 0

    def text(self) -> str:
        """The whole file."""
        blocks = [self._head(), self._platform(), *self._memory(), *self._programs(), self._faults()]
        return "\n\n".join(block for block in blocks if block) + "\n"

    # -- parts ------------------------------------------------------------------------------------------------------------

    def _head(self) -> str:
        number = self._number
        return "\n".join(
            [
                "ptactors = 1",
                f'name  = "{name_of(number)}"',
                f'title = "Random mix {number} of ptactors stress"',
                'why   = "Drawn at random: nothing that is a violation may come of it."',
            ]
        )

    def _draw_machine(self) -> dict[str, str]:
        rng = self.rng
        return {
            "hardware": _pick(rng, tuple(HARDWARE_PRESETS)),
            "preemption": _pick(rng, tuple(Preemption)).value,
            "thp": _pick(rng, tuple(Thp)).value,
            "frame_reuse": _weighted(rng, ((FrameReuse.LIFO, 3), (FrameReuse.FRESH, 1))).value,
        }

    def _platform(self) -> str:
        machine: dict[str, Any] = {"cpus": self._cpus, "max_steps": MAX_STEPS, **self._machine}
        kernel: dict[str, Any] = {}
        for name, value in self._overrides.items():
            (kernel if name in KERNEL_KNOBS else machine)[name] = value
        speculate = self._speculation(stream(self._number, "mix speculation"))
        lines = ["[machine]", *(f"{key} = {_toml(value)}" for key, value in machine.items())]
        if speculate:
            lines += [f"speculate = {{ {speculate} }}", f"speculative_fills = {1 + self.rng.below(2)}"]
        if kernel:
            lines += ["", "[kernel]", *(f"{key} = {_toml(value)}" for key, value in kernel.items())]
        lines += ["", "[matrix]", f"preset = [{', '.join(_toml(preset) for preset in self._presets)}]"]
        return "\n".join(lines)

    def _speculation(self, rng: SplitMix64) -> str:
        if rng.below(3):
            return ""
        cpu = rng.below(self._cpus)
        process = self._processes[self._home(cpu)]
        pages = [page for area, page in self.hot if area.process == process]
        return f"cpu{cpu} = [{', '.join(_toml(page) for page in pages[:2])}]" if pages else ""

    def _draw_areas(self, rng: SplitMix64) -> tuple[Area, ...]:
        areas = []
        for number, process in enumerate(self._processes):
            for at in range(_weighted(rng, ((1, 4), (2, 1)))):
                name = "ABCD"[2 * number + at]
                size = _weighted(rng, ((1, 3), (2, 2), (3, 1))) * PMD_SIZE
                areas.append(Area(name, process, size, _pick(rng, _HUGE)))
        return tuple(areas)

    def _draw_hot(self, rng: SplitMix64) -> list[tuple[Area, str]]:
        """Two or three pages of one 2 MiB of each process, as its programs call them."""
        found = []
        for process in self._processes:
            area = _pick(rng, [area for area in self.areas if area.process == process])
            chunk = PMD_SIZE * rng.below(area.size // PMD_SIZE)
            for _ in range(2 + rng.below(2)):
                found.append((area, _at(area, chunk + PAGE_SIZE * _weighted(rng, _HOT))))
        return list(dict.fromkeys(found))

    def _memory(self) -> list[str]:
        rng = stream(self._number, "mix contents")
        blocks = [f"[process.{process}]" for process in self._processes if len(self._processes) > 1]
        for at, area in enumerate(self.areas):
            lines = [f"[vma.{area.name}]", f"at = {_BASE + at * _STRIDE:#x}", f"size = {area.size:#x}"]
            if len(self._processes) > 1:
                lines.append(f'process = "{area.process}"')
            if area.huge != "none":
                lines.append(f'huge = "{area.huge}"')
            blocks.append("\n".join(lines + self._contents(rng, area)))
        return blocks

    def _contents(self, rng: SplitMix64, area: Area) -> list[str]:
        """What each 2 MiB holds before the run: nothing, an empty table, the hot pages, or a huge page."""
        pages: list[str] = []
        huge: list[str] = []
        tables: list[str] = []
        entries: list[str] = []
        for chunk in range(0, area.size, PMD_SIZE):
            what = rng.below(10)
            mine = [page for owner, page in self.hot if owner is area and chunk <= _offset(area, page) < chunk + PMD_SIZE]
            if what == 0:
                huge.append(f'"{_at(area, chunk)}" = "h{chunk // PMD_SIZE}"')
            elif what == 1:
                tables.append(f'"{_at(area, chunk)}"')
            elif what == 2 and mine:
                kind = _pick(rng, ("zero", "swap", "guard", "marker-uffd-wp"))
                entries.append(f'"{mine[0]}" = "{kind}"')
                mine = mine[1:]
            if 2 <= what < 9:
                pages += [f'"{page}" = "{page}"' for page in mine]
        lines = [f"{key} = {{ {', '.join(found)} }}" for key, found in
                 (("populate", pages), ("huge_pages", huge), ("entries", entries)) if found]  # fmt: skip
        return [*lines, f"tables = [{', '.join(tables)}]"] if tables else lines

    def _home(self, cpu: int) -> int:
        """Which process a CPU runs: mostly the first."""
        return int(len(self._processes) > 1 and cpu % 2 == 1)

    def _programs(self) -> list[str]:
        rng = stream(self._number, "mix programs")
        groups = [_enabled(rng, group) for group in _groups()]
        most = 3 + rng.below(4)
        blocks = []
        for cpu in range(self._cpus):
            process = self._processes[self._home(cpu)]
            draw = _Line(self, rng, process)
            lines = [f"[cpu.{cpu}]"]
            if process != "P":
                lines.append(f'process = "{process}"')
            state = _weighted(rng, (("user", 8), ("lazy", 1), ("idle", 1))) if cpu else "user"
            if state != "user":
                lines.append(f'state = "{state}"')
            program = [draw.line(_weighted(rng, _weighted(rng, groups))) for _ in range(2 + rng.below(most - 1))]
            lines += ["do = '''", *program, "'''"]
            blocks.append("\n".join(lines))
        return blocks

    def _faults(self) -> str:
        rng = stream(self._number, "mix faults")
        lines = [f'{key} = "{_pick(rng, values)}"' for key, values in FAULTS.items() if rng.below(2)]
        return "\n".join(["[fault]", *lines]) if lines else ""


class _Line:
    """Draws the lines of one CPU's program."""

    def __init__(self, mix: _Mix, rng: SplitMix64, process: str) -> None:
        self.mix, self.rng = mix, rng
        self.areas = [area for area in mix.areas if area.process == process]
        self.hot = [page for area, page in mix.hot if area.process == process]
        self.area = next(area for area, _ in mix.hot if area.process == process)
        self.chunk = align_down(_offset(self.area, self.hot[0]), PMD_SIZE)
        self.registers = 0
        self.short = False
        """Whether the line gets short ranges."""
        self.chosen = ""
        """The advice of the line."""

    def line(self, operation: Operation) -> str:
        """One operation with its arguments."""
        self.chosen = self._advice()
        self.short = operation.name in POPULATING or (_advises(operation) and self.chosen in POPULATING)
        words = [operation.name]
        for parameter in operation.parameters:
            if not parameter.required and parameter.kind is not Kind.REGISTER and self.rng.below(2):
                continue
            words += [parameter.lead, _WORDS[parameter.kind](self, parameter)]
        return " ".join(word for word in words if word)

    def address(self, parameter: Parameter) -> str:
        """A hot page, or now and then any of the first ones."""
        if self.rng.below(8):
            return _pick(self.rng, self.hot)
        area = _pick(self.rng, self.areas)
        return _at(area, PMD_SIZE * self.rng.below(area.size // PMD_SIZE) + PAGE_SIZE * self.rng.below(8))

    def range(self, parameter: Parameter) -> str:
        """A page, some pages, 2 MiB, or a whole VMA; mostly where the hot pages are."""
        rng = self.rng
        area, chunk = self.area, self.chunk
        if rng.below(6) == 0:
            area = _pick(rng, self.areas)
            chunk = PMD_SIZE * rng.below(area.size // PMD_SIZE)
        match rng.below(3 if self.short else 8):
            case 0 | 1:
                return f"{_pick(rng, self.hot)} {PAGE_SIZE:#x}"
            case 2:
                first = rng.below(_RUN)
                return f"{_at(area, chunk + first * PAGE_SIZE)} {(1 + rng.below(_RUN)) * PAGE_SIZE:#x}"
            case 3:
                return area.name
            case _:
                return f"{_at(area, chunk)} {PMD_SIZE:#x}"

    def advice(self, parameter: Parameter) -> str:
        """That of the line."""
        return self.chosen

    def _advice(self) -> str:
        """Any that the model knows, DONTNEED twice as often as all others together."""
        others = [advice for advice in declared.ADVICES if advice != "DONTNEED"]
        return _pick(self.rng, others) if others and self.rng.below(3) == 0 else "DONTNEED"

    def prot(self, parameter: Parameter) -> str:
        """Any."""
        return _pick(self.rng, declared.PROTECTIONS)

    def value(self, parameter: Parameter) -> str:
        """A name that nobody else stores."""
        self.mix.values += 1
        return f'"v{self.mix.values}"'

    def register(self, parameter: Parameter) -> str:
        """A new one."""
        self.registers += 1
        return f"r{self.registers}"

    def task(self, parameter: Parameter) -> str:
        """A process, a kernel thread, or the idle task."""
        return _pick(self.rng, self.mix.tasks)

    def number(self, parameter: Parameter) -> str:
        """A small one."""
        return str(1 + self.rng.below(3))


_WORDS: dict[Kind, Callable[[_Line, Parameter], str]] = {
    Kind.ADDRESS: _Line.address,
    Kind.RANGE: _Line.range,
    Kind.ADVICE: _Line.advice,
    Kind.PROT: _Line.prot,
    Kind.VALUE: _Line.value,
    Kind.REGISTER: _Line.register,
    Kind.TASK: _Line.task,
    Kind.NUMBER: _Line.number,
}
"""How a word of each kind is drawn."""


def _at(area: Area, offset: int) -> str:
    return f"{area.name}+{offset:#x}" if offset else area.name


def _offset(area: Area, page: str) -> int:
    return int(page.partition("+")[2] or "0", 16)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text: object = value.value if isinstance(value, enum.Enum) else value
    return f'"{text}"'
