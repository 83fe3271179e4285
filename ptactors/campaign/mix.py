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
from typing import Any

from ptactors.campaign.draw import pick, weighted
from ptactors.campaign.mix_memory import Area, draw_memory
from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, FrameReuse, Preemption, PtReclaim, Thp, resolve
from ptactors.kernel import operation as declared
from ptactors.kernel.operation import Kind, Operation, Parameter
from ptactors.kernel.table import OPERATIONS
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, align_down
from ptactors.model.rng import SplitMix64, stream

SCHEDULES = 4
"""Schedules of one mix under each preset: part of what a seed means, so it is the same everywhere."""
STRATEGIES = (("run-length", 3), ("random", 1), ("pos:all", 1))
"""Who chooses in a mix, with weights: strategies that need no probe runs, which would cost more than the schedules do."""
SHARES = (2, 4, 6)
"""Eighths of the operations that a mix has on: few that meet often, or many that meet in many ways."""
FAULTS: dict[str, tuple[str, ...]] = {
    "page_batch_alloc": ('"maybe"', '"fail"', '"fail-after 1"'),
    "table_batch_alloc": ('"maybe"', '"fail"', '"fail-after 1"'),
    "need_resched": ('"maybe"',),
    "rcu_callbacks": ('"late"', '"early"'),
    "late_ipis": ('"all"', '["cpu0"]', '["cpu1"]'),
}
"""What may be injected, each with the values that switch it on."""
NOT_DRAWN = {Kind.LABEL: "it waits for an operation by name, which a random program would do for ever"}
"""Kinds of parameters whose operations are not drawn, and why."""
POPULATING = ("mlock", "POPULATE_READ", "POPULATE_WRITE")
"""Operations and advices that fault in every page of their range, and so get short ones."""
RESHAPING = ("mmap", "munmap", "mprotect", "HUGEPAGE", "NOHUGEPAGE", "COLLAPSE")
"""Operations and advices behind which a VMA, or its table, may be another one."""
FILTERS = "RFC v1 4/7, try_to_reclaim_pgtables(): tables of such VMAs stay"
MAX_STEPS = 60_000
NUMBERS = ((1, 1), (2, 1), (16, 1), (64, 3))
"""Numbers of times, with weights."""
_RUN = 6
"""The most pages of a short range."""


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
    return weighted(stream(number, "mix strategy"), STRATEGIES)


def text_of(number: int, presets: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """The scenario file of the mix of this number; ``overrides`` are knobs that are set from outside, typed."""
    return _Mix(number, presets, overrides).text()


def _groups() -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """Operations on ranges, which change what is mapped, and all others."""
    changing = tuple(op for op in drawable() if any(p.kind is Kind.RANGE for p in op.parameters))
    return changing, tuple(op for op in drawable() if op not in changing)


def _enabled(rng: SplitMix64, group: Sequence[Operation], share: int) -> tuple[list[tuple[Operation, int]], int]:
    """So many eighths of a group, at least one operation, each with a weight; and the weight of the group.

    What takes an advice is many operations in one: more mixes have it, and with twice the weight.
    """
    kept = [op for op in group if rng.below(8) < share + (2 if _advises(op) else 0)] or [pick(rng, group)]
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
        self._cpus = int(overrides.get("cpus") or weighted(self.rng, ((2, 3), (3, 2), (4, 1))))
        self._processes = ("P", "Q") if self.rng.below(6) == 0 else ("P",)
        self.tasks: tuple[str, ...] = (*self._processes, "kthread", "idle")
        self._machine = self._draw_machine()
        self.memory = draw_memory(number, self._processes)
        self._states = self._draw_states(stream(number, "mix states"))
        self.values = 0
        self.reshaped: dict[str, None] = {}
        """VMAs that programs map anew, cut, or change in what the series' filters look at."""

    def text(self) -> str:
        """The whole file."""
        number = self._number
        processes = [f"[process.{process}]" for process in self._processes if len(self._processes) > 1]
        before = [self._head(), self._platform(), *processes, *self.memory.blocks]
        blocks = [*before, *self._programs(), self._faults(stream(number, "mix faults")), self._filters()]
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
            "hardware": pick(rng, tuple(HARDWARE_PRESETS)),
            "preemption": pick(rng, tuple(Preemption)).value,
            "thp": pick(rng, tuple(Thp)).value,
            "frame_reuse": weighted(rng, ((FrameReuse.LIFO, 3), (FrameReuse.FRESH, 1))).value,
        }

    def _draw_states(self, rng: SplitMix64) -> tuple[str, ...]:
        """What runs on each CPU at the start: mostly its process."""
        return ("user", *(weighted(rng, (("user", 8), ("lazy", 1), ("idle", 1))) for _ in range(1, self._cpus)))

    def _platform(self) -> str:
        machine: dict[str, Any] = {"cpus": self._cpus, "max_steps": MAX_STEPS, **self._machine}
        kernel: dict[str, Any] = {}
        for name, value in self._overrides.items():
            (kernel if name in KERNEL_KNOBS else machine)[name] = value
        lines = ["[machine]", *(f"{key} = {_toml(value)}" for key, value in machine.items())]
        lines += self._speculation(stream(self._number, "mix speculation"))
        if kernel:
            lines += ["", "[kernel]", *(f"{key} = {_toml(value)}" for key, value in kernel.items())]
        lines += ["", "[matrix]", f"preset = [{', '.join(_toml(preset) for preset in self._presets)}]"]
        return "\n".join(lines)

    def _speculation(self, rng: SplitMix64) -> list[str]:
        """One CPU in three mixes; one that is lazy if there is any, as nothing else walks there."""
        if rng.below(3):
            return []
        lazy = [cpu for cpu, state in enumerate(self._states) if state != "user"]
        cpu = pick(rng, lazy or range(self._cpus))
        pages = self.memory.hot_of(self._home(cpu))[:2]
        fills = weighted(rng, ((1, 2), (2, 2), (12, 1)))
        return [f"speculate = {{ cpu{cpu} = [{', '.join(_toml(page) for page in pages)}] }}", f"speculative_fills = {fills}"]

    def _home(self, cpu: int) -> str:
        """Whose program a CPU runs; of two CPUs neither is left alone, the other process is one to switch to."""
        return self._processes[cpu % len(self._processes) if self._cpus > 2 else 0]

    def _programs(self) -> list[str]:
        rng = stream(self._number, "mix programs")
        share = pick(rng, SHARES)
        groups = [_enabled(rng, group, share) for group in _groups()]
        most = 3 + rng.below(4)
        cached = stream(self._number, "mix caches")
        blocks = []
        for cpu, state in enumerate(self._states):
            process = self._home(cpu)
            draw = _Line(self, rng, process)
            lines = [f"[cpu.{cpu}]"]
            if process != "P":
                lines.append(f'process = "{process}"')
            if state != "user":
                lines.append(f'state = "{state}"')
            lines += self._caches(cached, process)
            program = [draw.line(weighted(rng, weighted(rng, groups))) for _ in range(2 + rng.below(most - 1))]
            lines += ["do = '''", *program, "'''"]
            blocks.append("\n".join(lines))
        return blocks

    def _caches(self, rng: SplitMix64, process: str) -> list[str]:
        """What a CPU has cached at the start: in one of three the hot pages, in one of four what leads to them."""
        mine = self.memory.hot_of(process)
        pages = [page for page in mine if page in self.memory.mapped]
        tables = [page for page in mine if self.memory.has_table(page)]
        found = {"tlb": pages if rng.below(3) == 0 else [], "psc": tables[:1] if rng.below(4) == 0 else []}
        return [f"{key} = [{', '.join(map(_toml, places))}]" for key, places in found.items() if places]

    def _faults(self, rng: SplitMix64) -> str:
        lines = [f"{key} = {pick(rng, values)}" for key, values in FAULTS.items() if rng.below(2)]
        return "\n".join(["[fault]", *lines]) if lines else ""

    def _filters(self) -> str:
        """The series leaves tables of some VMAs alone; nothing else takes them where no program changes the VMA."""
        kept = self.memory.kept(tuple(self.reshaped))
        kernel = {name: value for name, value in self._overrides.items() if name in KERNEL_KNOBS}
        if not kept or not any(resolve(preset, **kernel).kernel.pt_reclaim is PtReclaim.RFC for preset in self._presets):
            return ""
        gone = " or ".join(f"pt[{place}].level == none" for place in kept)
        return "\n".join(["[[expect]]", 'when = { pt_reclaim = "rfc" }', f'forbidden = "{gone}"', f'note = "{FILTERS}"'])


class _Line:
    """Draws the lines of one CPU's program."""

    def __init__(self, mix: _Mix, rng: SplitMix64, process: str) -> None:
        self.mix, self.rng = mix, rng
        self.areas = mix.memory.of(process)
        self.hot = mix.memory.hot_of(process)
        self.area = next(area for area, _ in mix.memory.hot if area.process == process)
        self.chunk = align_down(self.area.offset(self.hot[0]), PMD_SIZE)
        self.registers = 0
        self.short = False
        """Whether the line gets short ranges."""
        self.reshapes = False
        self.chosen = ""
        """The advice of the line."""

    def line(self, operation: Operation) -> str:
        """One operation with its arguments."""
        self.chosen = self._advice()
        kinds = (operation.name, self.chosen) if _advises(operation) else (operation.name,)
        self.short = any(kind in POPULATING for kind in kinds)
        self.reshapes = any(kind in RESHAPING for kind in kinds)
        words = [operation.name]
        for parameter in operation.parameters:
            if not parameter.required and parameter.kind not in (Kind.REGISTER, Kind.NUMBER) and self.rng.below(2):
                continue
            words += [parameter.lead, _WORDS[parameter.kind](self, parameter)]
        return " ".join(word for word in words if word)

    def address(self, parameter: Parameter) -> str:
        """A hot page, or now and then any of the first ones."""
        if self.rng.below(8):
            return pick(self.rng, self.hot)
        area = pick(self.rng, self.areas)
        return area.place(PMD_SIZE * self.rng.below(area.size // PMD_SIZE) + PAGE_SIZE * self.rng.below(8))

    def range(self, parameter: Parameter) -> str:
        """Mostly where the hot pages are."""
        rng = self.rng
        area, chunk = self.area, self.chunk
        if rng.below(6 if len(self.areas) == 1 else 3) == 0:
            area = pick(rng, self.areas)
            chunk = PMD_SIZE * rng.below(area.size // PMD_SIZE)
        if self.reshapes:
            self.mix.reshaped[area.name] = None
        return self._part(area, chunk)

    def _part(self, area: Area, chunk: int) -> str:
        """A page, some pages, 2 MiB, or the whole VMA; nobody cuts the pages of hugetlb, for it could not be done."""
        rng = self.rng
        what = rng.below(3 if self.short else 8)
        if what < 3 and area.kind == "hugetlb":
            what = 4
        if what < 2 and area is self.area:
            return f"{pick(rng, self.hot)} {PAGE_SIZE:#x}"
        if what < 3:
            return f"{area.place(chunk + rng.below(_RUN) * PAGE_SIZE)} {(1 + rng.below(_RUN)) * PAGE_SIZE:#x}"
        return area.name if what == 3 else f"{area.place(chunk)} {PMD_SIZE:#x}"

    def advice(self, parameter: Parameter) -> str:
        """That of the line."""
        return self.chosen

    def _advice(self) -> str:
        """Any that the model knows, DONTNEED twice as often as all others together."""
        others = [advice for advice in declared.ADVICES if advice != "DONTNEED"]
        return pick(self.rng, others) if others and self.rng.below(3) == 0 else "DONTNEED"

    def prot(self, parameter: Parameter) -> str:
        """Any."""
        return pick(self.rng, declared.PROTECTIONS)

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
        return pick(self.rng, self.mix.tasks)

    def number(self, parameter: Parameter) -> str:
        """A small one, or one that lets others do much meanwhile."""
        return str(weighted(self.rng, NUMBERS))


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


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text: object = value.value if isinstance(value, enum.Enum) else value
    return f'"{text}"'
