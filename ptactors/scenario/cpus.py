"""The sections [cpu.N] and [stress]: programs, and what the TLBs hold before the run."""

from __future__ import annotations

from typing import Any

import attrs

from ptactors.kernel.operation import Kind
from ptactors.model.paging import PAGE_SIZE, align_down
from ptactors.scenario import program
from ptactors.scenario.arguments import Context
from ptactors.scenario.expression import Scope
from ptactors.scenario.hints import suggest
from ptactors.scenario.keys import CPU as CPU_KEYS
from ptactors.scenario.keys import CPU_PATTERN
from ptactors.scenario.memory import has_table, is_mapped, read_address
from ptactors.scenario.model import Cpu, Stress, Vma
from ptactors.scenario.positions import Path
from ptactors.scenario.program import Draft, OpCall
from ptactors.scenario.reader import Reader
from ptactors.scenario.stress import extremes
from ptactors.scenario.syntax import Mistake

Labels = dict[int, tuple[str, ...] | None]
"""The labels of each CPU's program; None where the program was not understood, and nothing is checked."""


@attrs.frozen(kw_only=True)
class Surroundings:
    """What the sections of the CPUs refer to."""

    scope: Scope
    vmas: tuple[Vma, ...]
    processes: tuple[str, ...]
    cpus: tuple[int, int]
    """The smallest and the largest number of CPUs over all cells."""


class CpuReader:
    """Reads every [cpu.N]; labels and registers are kept for the sections that name them."""

    def __init__(self, reader: Reader, around: Surroundings) -> None:
        self._reader = reader
        self._around = around
        self._drafts: dict[int, tuple[Path, Draft]] = {}
        self._templates: tuple[OpCall, ...] = ()
        self.broken: dict[int, None] = {}
        """CPUs whose program has an error, so that its registers are not known."""

    def read(self) -> tuple[Cpu, ...]:
        """Every CPU of the machine, with an empty program for those that have no section."""
        least, most = self._around.cpus
        found: dict[int, Cpu] = {}
        for name, path in self._reader.named("cpu", CPU_PATTERN, "number of a CPU"):
            number = int(name)
            values = self._reader.table(path, CPU_KEYS)
            if number >= least:
                self._reader.complain_key(path, f"there is no cpu{name}", f"the machine has {least} CPUs, from cpu0")
            elif number in found:
                self._reader.complain_key(path, f"cpu{number} has two sections")
            else:
                found[number] = self._cpu(number, path, values)
        self._check_references()
        return tuple(found.get(n) or Cpu(number=n, process=self._around.processes[0]) for n in range(most))

    def _cpu(self, number: int, path: Path, values: dict[str, Any]) -> Cpu:
        process = values.get("process", self._around.processes[0])
        if process not in self._around.processes:
            hint = suggest(process, self._around.processes)
            self._reader.complain((*path, "process"), f"unknown process {process!r}", hint)
            self.broken[number] = None
            return Cpu(number=number, process=process)
        if "do" in values:
            self._program(number, (*path, "do"), values["do"], process)
        state = values.get("state", "user")
        cached = {key: self._cached(path, key, values.get(key, []), process, state) for key in ("tlb", "psc")}
        body = self._drafts[number][1].program if number in self._drafts else ()
        return Cpu(number=number, process=process, state=state, program=body, **cached)

    def _program(self, number: int, path: Path, text: str, process: str) -> None:
        def locate(offset: int) -> tuple[int, int]:
            place = self._reader.positions.inside(path, offset, 1)
            return (place.line, place.column) if place else (0, 0)

        around = self._around
        context = Context(scope=around.scope, tasks=around.processes, processes=(process,))
        draft = program.parse(text, context, locate)
        for mistake in draft.mistakes:
            self._reader.complain_inside(path, mistake)
        if draft.mistakes or around.scope.broken:
            self.broken[number] = None
        self._drafts[number] = (path, draft)

    def _cached(self, path: Path, key: str, texts: list[str], process: str, state: str) -> tuple[int, ...]:
        if texts and state == "off":
            self._reader.complain_key((*path, key), "a CPU in state 'off' never loaded the mm and caches nothing of it")
            return ()
        around, pages = self._around, []
        for number, text in enumerate(texts):
            where = (*path, key, number)
            va = read_address(self._reader, where, text, around.scope, (process,))
            if va is None or around.scope.broken:
                continue
            if key == "tlb" and not is_mapped(around.vmas, process, va):
                self._reader.complain(where, f"nothing is mapped at {text} before the run", "see populate, huge_pages, entries")
            elif key == "psc" and not has_table(around.vmas, process, va):
                self._reader.complain(where, f"no PTE table exists for {text} before the run", "see populate and tables")
            else:
                pages.append(align_down(va, PAGE_SIZE))
        return tuple(dict.fromkeys(pages))

    def _check_references(self) -> None:
        known = self.labels()
        for own, (path, draft) in self._drafts.items():
            for node in draft.references:
                try:
                    labels = known.get(node.cpu, ())
                    if node.cpu not in known:
                        raise node.mistake(f"there is no cpu{node.cpu}", f"the machine has {len(known)} CPUs, from cpu0")
                    if node.cpu == own:
                        raise node.mistake(f"cpu{own} cannot wait for itself", "name an operation of another CPU")
                    if labels is not None and node.name not in labels:
                        raise node.mistake(f"cpu{node.cpu} has no operation {node.name!r}", suggest(node.name, labels))
                except Mistake as mistake:
                    self._reader.complain_inside(path, mistake)

    def labels(self) -> Labels:
        """The labels of every CPU that exists in every cell; None for those of a program that was not understood."""
        found: Labels = dict.fromkeys(range(self._around.cpus[0]), ())
        found |= {n: program.labels(draft.program) for n, (_, draft) in self._drafts.items()}
        return found | dict.fromkeys(self.broken)

    def registers(self) -> dict[int, tuple[str, ...]]:
        """The registers that each CPU writes; a CPU with a broken program is missing."""
        drawn = program.registers(self._templates)
        return {
            n: tuple(dict.fromkeys((*(program.registers(self._drafts[n][1].program) if n in self._drafts else ()), *drawn)))
            for n in range(self._around.cpus[0])
            if n not in self.broken
        }

    def contents(self) -> tuple[str, ...]:
        """The names that programs store in memory."""
        bodies = [draft.program for _, draft in self._drafts.values()] + [self._templates]
        return tuple(name for body in bodies for name in program.contents(body))

    def read_stress(self, cpus: tuple[Cpu, ...]) -> Stress | None:
        """[stress]; None if there is no such section."""
        values = self._reader.section("stress")
        if not {"ops", "per_cpu"} <= values.keys():
            return None
        users = [cpu for cpu in cpus if cpu.state == "user"]
        if not users:
            self._reader.complain_key(("stress",), "no CPU is in state 'user', so nothing is drawn")
        ops = []
        for text, weight in values["ops"].items():
            call = self._template(text, users, values.get("pages", 4))
            if call is not None:
                ops.append((call, weight))
        if not values["ops"]:
            self._reader.complain(("stress", "ops"), "expected at least one operation")
        self._templates = tuple(call for call, _ in ops)
        rest = {key: values[key] for key in ("seed_ops", "pages") if key in values}
        return Stress(ops=tuple(ops), per_cpu=values["per_cpu"], **rest)

    def _template(self, text: str, users: list[Cpu], pages: int) -> OpCall | None:
        """The operation with its placeholders, checked for every process that may draw it."""
        path, around = ("stress", "ops", text), self._around
        if around.scope.broken:
            return None
        call: OpCall | None = None
        for process in dict.fromkeys(cpu.process for cpu in users):
            areas = [area for area in around.scope.areas.values() if area.process == process]
            scope = attrs.evolve(around.scope, variables=extremes(areas, pages))
            draft = program.parse(text, Context(scope=scope, tasks=around.processes, processes=(process,)))
            mistakes = list(draft.mistakes)
            found = list(draft.program)
            if not mistakes and not (len(found) == 1 and isinstance(found[0], OpCall)):
                mistakes = [Mistake(0, len(text), "expected one operation")]
            elif found and isinstance(found[0], OpCall):
                call = found[0]
                if call.of_kind(Kind.LABEL):
                    mistakes = [Mistake(0, len(text), f"{call.operation} cannot be drawn at random")]
            for mistake in mistakes:
                self._reader.complain_inside(path, mistake, key=True)
            if mistakes:
                return None
        return call
