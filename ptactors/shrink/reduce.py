"""A smaller scenario with the same bug: without operations, CPUs, pages and whatever else it can do without.

Hierarchical delta debugging: large pieces first (the exits, whole programs, chunks of operations), then small ones, each checked
by running what is left along the turns that are left, and where that does not do, by the first few schedules of a bounded search.

Source: Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", TSE 2002; Misherghi, Su, "HDD", ICSE 2006.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs

from ptactors.engine.choices import Follow
from ptactors.engine.schedule import Turn
from ptactors.kernel.operation import Kind
from ptactors.model.paging import PAGE_SIZE
from ptactors.scenario.matrix import Cell
from ptactors.scenario.memory import has_table, is_mapped
from ptactors.scenario.model import Allocation, Cpu, Fault, Fill, Scenario, Vma
from ptactors.scenario.program import OpCall, Program, Repeat, Statement, calls, labels
from ptactors.shrink.proof import Unsettled, search
from ptactors.shrink.trial import Bench, Case

T = TypeVar("T")
FEW = 12
"""Schedules of a bounded search that are tried where the old turns do not lead to the goal."""
Smaller = tuple[Scenario, Cell, dict[int, int]]
"""A scenario, its cell, and how CPUs are renumbered: old -> new."""


def shrink_scenario(bench: Bench, case: Case) -> Case:
    """The case with the smallest scenario that was found."""
    while not bench.over():
        before = case
        for pass_ in PASSES:
            if pass_ is _without_cpus and not bench.goal.hazard:
                continue  # a condition names CPUs
            case = _fixpoint(bench, case, pass_)
        if case is before:
            break
    return case


def _fixpoint(bench: Bench, case: Case, pass_: Callable[[Case], Iterator[Smaller]]) -> Case:
    """Take the pass's first proposal that keeps the goal, as often as there is one; what failed once is not asked again."""
    failed: dict[str, None] = {}
    progress = True
    while progress and not bench.over():
        progress = False
        for smaller in pass_(case):
            if bench.over():
                break
            made = bench.single(_cached_pages_only(smaller[0]), smaller[1])
            if made is None or made[0].digest in failed or made[0].digest == case.scenario.digest:
                continue
            found = _still(bench, case, made, smaller[2])
            if found is not None:
                case, progress = found, True
                break
            failed[made[0].digest] = None
    return case


def _still(bench: Bench, case: Case, made: tuple[Scenario, Cell], numbers: dict[int, int]) -> Case | None:
    """The case of the smaller scenario, if the goal can be met there."""
    steps = case.run.outcome.steps
    turns = [renamed(turn, numbers) for turn in case.run.outcome.schedule.turns]
    run = bench.attempt(*made, Follow(turns), steps=steps)
    if run is not None:
        return bench.case(*made, bench.before_goal(run), steps)
    seed = attrs.evolve(case, scenario=made[0], cell=made[1])
    before = bench.runs
    stop, bench.stop = bench.stop, lambda: bench.runs - before >= FEW
    try:
        choices = next(search(bench, seed, case.preemptions), None)
    except Unsettled:
        choices = None
    finally:
        bench.stop = stop
    return None if choices is None else bench.case(*made, choices, steps)


def renamed(turn: Turn, numbers: dict[int, int]) -> Turn:
    """The turn of the same actor where CPUs have other numbers."""
    actor, alternative, label = turn
    match = re.fullmatch(r"([a-z]+)(\d+)", actor)
    if match is None or int(match[2]) not in numbers:
        return turn
    return f"{match[1]}{numbers[int(match[2])]}", alternative, label


def _same(scenario: Scenario, case: Case) -> Smaller:
    return scenario, case.cell, {}


# -- passes ---------------------------------------------------------------------------------------------------------------


def _without_exits(case: Case) -> Iterator[Smaller]:
    """The run may end when the programs are done."""
    machine = case.cell.config.machine
    if machine.exit:
        config = attrs.evolve(case.cell.config, machine=attrs.evolve(machine, exit=False))
        yield case.scenario, attrs.evolve(case.cell, config=config), {}


def _without_programs(case: Case) -> Iterator[Smaller]:
    """A CPU that does nothing."""
    for cpu in case.scenario.cpus:
        if cpu.program:
            yield _same(_with_program(case.scenario, cpu.number, ()), case)


def _without_operations(case: Case) -> Iterator[Smaller]:
    """A program without some of its operations, large chunks first."""
    for cpu in case.scenario.cpus:
        size = len(cpu.program)
        while size := size // 2:
            for start in range(0, len(cpu.program), size):
                rest = cpu.program[:start] + cpu.program[start + size :]
                yield _same(_with_program(case.scenario, cpu.number, rest), case)


def _shorter_loops(case: Case) -> Iterator[Smaller]:
    """Loops with fewer iterations, or bodies with fewer operations."""
    for cpu in case.scenario.cpus:
        for i, statement in enumerate(cpu.program):
            for shorter in _shorter(statement):
                program = (*cpu.program[:i], shorter, *cpu.program[i + 1 :])
                yield _same(_with_program(case.scenario, cpu.number, program), case)


def _shorter(statement: Statement) -> Iterator[Statement]:
    if isinstance(statement, OpCall):
        return
    for count in _below(statement.count):
        yield attrs.evolve(statement, count=count)
    for i, inner in enumerate(statement.body):
        if len(statement.body) > 1:
            yield attrs.evolve(statement, body=statement.body[:i] + statement.body[i + 1 :])
        for shorter in _shorter(inner):
            yield attrs.evolve(statement, body=(*statement.body[:i], shorter, *statement.body[i + 1 :]))


def _without_cpus(case: Case) -> Iterator[Smaller]:
    """A machine without one of its CPUs; those behind it move up."""
    scenario, machine = case.scenario, case.cell.config.machine
    for gone in reversed(range(machine.cpus)):
        awaited = any(f"cpu{gone}:" in str(call) for cpu in scenario.cpus for call in calls(cpu.program))
        if machine.cpus == 1 or scenario.cpus[gone].program or awaited:
            continue
        numbers = {old: old - (old > gone) for old in range(machine.cpus) if old != gone}
        config = attrs.evolve(case.cell.config, machine=attrs.evolve(machine, cpus=machine.cpus - 1))
        yield _renumbered(scenario, numbers), attrs.evolve(case.cell, config=config), numbers


def _without_faults(case: Case) -> Iterator[Smaller]:
    """Nothing injected; no speculation."""
    scenario, fault = case.scenario, case.scenario.fault
    plain = Fault()
    for name in ("page_batch_alloc", "table_batch_alloc", "rcu_callbacks", "need_resched_maybe", "late_ipis"):
        if getattr(fault, name) != getattr(plain, name):
            yield _same(attrs.evolve(scenario, fault=_with(fault, name, getattr(plain, name))), case)
    for name in ("page_batch_alloc", "table_batch_alloc"):
        if getattr(fault, name).mode == "maybe":
            yield _same(attrs.evolve(scenario, fault=_with(fault, name, Allocation(mode="fail"))), case)
    for i in range(len(fault.need_resched)):
        places = fault.need_resched[:i] + fault.need_resched[i + 1 :]
        yield _same(attrs.evolve(scenario, fault=attrs.evolve(fault, need_resched=places)), case)
    for cpu, pages in scenario.speculate.items():
        for rest in _fewer(pages):
            table = {n: rest if n == cpu else kept for n, kept in scenario.speculate.items()}
            yield _same(attrs.evolve(scenario, speculate={n: kept for n, kept in table.items() if kept}), case)
    if scenario.speculate and scenario.speculative_fills > 1:
        yield _same(attrs.evolve(scenario, speculative_fills=scenario.speculative_fills - 1), case)


def _smaller_numbers(case: Case) -> Iterator[Smaller]:
    """Numbers of operations, and of entries before a reschedule."""
    scenario = case.scenario
    for cpu in scenario.cpus:
        for i, statement in enumerate(cpu.program):
            for smaller in _with_smaller_numbers(statement):
                program = (*cpu.program[:i], smaller, *cpu.program[i + 1 :])
                yield _same(_with_program(scenario, cpu.number, program), case)
    for i, place in enumerate(scenario.fault.need_resched):
        for after in _below(place.after):
            places = (*scenario.fault.need_resched[:i], attrs.evolve(place, after=after), *scenario.fault.need_resched[i + 1 :])
            yield _same(attrs.evolve(scenario, fault=attrs.evolve(scenario.fault, need_resched=places)), case)


def _with_smaller_numbers(call: Statement) -> Iterator[OpCall]:
    if not isinstance(call, OpCall):
        return
    for parameter, value in zip(call.declared().parameters, call.arguments, strict=True):
        if parameter.kind is Kind.NUMBER and parameter.lead and isinstance(value, int):
            for smaller in _below(value):
                text = re.sub(rf"\b{parameter.lead} +{value}\b", f"{parameter.lead} {smaller}", call.text)
                yield attrs.evolve(call, text=text)


def _below(number: int) -> Iterator[int]:
    yield from (n for n in dict.fromkeys((1, number // 2, number - 1)) if 0 < n < number)


def _without_memory(case: Case) -> Iterator[Smaller]:
    """Fewer VMAs, pages, tables, entries and cached translations."""
    scenario = case.scenario
    for i in range(len(scenario.vmas)):
        yield _same(attrs.evolve(scenario, vmas=scenario.vmas[:i] + scenario.vmas[i + 1 :]), case)
    for i, vma in enumerate(scenario.vmas):
        for smaller in _emptier(vma):
            yield _same(attrs.evolve(scenario, vmas=(*scenario.vmas[:i], smaller, *scenario.vmas[i + 1 :])), case)
    for cpu in scenario.cpus:
        for key in ("tlb", "psc"):
            for rest in _fewer(getattr(cpu, key)):
                yield _same(_with_cpu(scenario, _with(cpu, key, rest)), case)


def _emptier(vma: Vma) -> Iterator[Vma]:
    for key in ("populate", "huge_pages", "tables", "entries"):
        for rest in _fewer(getattr(vma, key)):
            yield _with(vma, key, rest)
    for i, fill in enumerate(vma.populate):
        pages = (fill.end - fill.start) // PAGE_SIZE
        middle = fill.start + pages // 2 * PAGE_SIZE
        halves = ((fill.start, middle), (middle, fill.end)) if pages > 1 else ()
        edges = ((fill.start + PAGE_SIZE, fill.end), (fill.start, fill.end - PAGE_SIZE)) if pages > 2 else ()
        for start, end in (*halves, *edges):
            part = Fill(start=start, end=end, value=fill.value)
            yield attrs.evolve(vma, populate=(*vma.populate[:i], part, *vma.populate[i + 1 :]))


def _fewer(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """All gone, then each half, then each one."""
    if items:
        yield ()
    size = len(items)
    while size := size // 2:
        for start in range(0, len(items), size):
            yield (*items[:start], *items[start + size :])


PASSES = (
    _without_exits, _without_programs, _without_operations, _shorter_loops, _without_cpus, _without_faults, _smaller_numbers,
    _without_memory,
)  # fmt: skip


# -- parts ----------------------------------------------------------------------------------------------------------------


def written_out(scenario: Scenario, programs: Sequence[Program]) -> Scenario:
    """The scenario with these programs, one for each CPU, instead of what it draws."""
    cpus = tuple(attrs.evolve(cpu, program=program) for cpu, program in zip(scenario.cpus, programs, strict=False))
    return attrs.evolve(scenario, cpus=(*cpus, *scenario.cpus[len(cpus) :]), stress=None, pin=(), coverage=())


def _with(fact: T, key: str, value: object) -> T:
    """The fact with another value for one field."""
    changes: dict[str, Any] = {key: value}
    return attrs.evolve(fact, **changes)  # type: ignore[misc]  # every fact is an attrs class


def _with_cpu(scenario: Scenario, cpu: Cpu) -> Scenario:
    return attrs.evolve(scenario, cpus=tuple(cpu if cpu.number == each.number else each for each in scenario.cpus))


def _with_program(scenario: Scenario, number: int, program: Program) -> Scenario:
    made = _with_cpu(scenario, attrs.evolve(scenario.cpus[number], program=program))
    known = labels(program)
    places = tuple(r for r in scenario.fault.need_resched if r.cpu != number or r.label in known)
    return attrs.evolve(made, fault=attrs.evolve(scenario.fault, need_resched=places))


def _renumbered(scenario: Scenario, numbers: dict[int, int]) -> Scenario:
    cpus = tuple(
        attrs.evolve(cpu, number=numbers[cpu.number], program=tuple(_repointed(s, numbers) for s in cpu.program))
        for cpu in scenario.cpus
        if cpu.number in numbers
    )
    places = tuple(attrs.evolve(r, cpu=numbers[r.cpu]) for r in scenario.fault.need_resched if r.cpu in numbers)
    late = tuple(numbers[cpu] for cpu in scenario.fault.late_ipis if cpu in numbers)
    return attrs.evolve(
        scenario, cpus=cpus, fault=attrs.evolve(scenario.fault, need_resched=places, late_ipis=late),
        speculate={numbers[cpu]: pages for cpu, pages in scenario.speculate.items() if cpu in numbers},
    )  # fmt: skip


def _repointed(statement: Statement, numbers: dict[int, int]) -> Statement:
    """The statement with the CPUs of the labels that it waits for renumbered."""
    if isinstance(statement, Repeat):
        return attrs.evolve(statement, body=tuple(_repointed(inner, numbers) for inner in statement.body))
    if not statement.of_kind(Kind.LABEL):
        return statement
    text = re.sub(r"\bcpu(\d+):", lambda match: f"cpu{numbers.get(int(match[1]), int(match[1]))}:", statement.text)
    return attrs.evolve(statement, text=text)


def _cached_pages_only(scenario: Scenario) -> Scenario:
    """The scenario without cached translations of what is not mapped any more."""
    cpus = tuple(
        attrs.evolve(
            cpu,
            tlb=tuple(va for va in cpu.tlb if is_mapped(scenario.vmas, cpu.process, va)),
            psc=tuple(va for va in cpu.psc if has_table(scenario.vmas, cpu.process, va)),
        )
        for cpu in scenario.cpus
    )
    return attrs.evolve(scenario, cpus=cpus)


def size(scenario: Scenario, cell: Cell) -> dict[str, int]:
    """How large a case is: what a reader has to understand."""
    cpus = scenario.cpus[: cell.config.machine.cpus]
    pages = sum((fill.end - fill.start) // PAGE_SIZE for vma in scenario.vmas for fill in vma.populate)
    others = sum(len(part) for vma in scenario.vmas for part in (vma.huge_pages, vma.tables, vma.entries))
    return {
        "CPUs": len(cpus),
        "operations": len(list(itertools.chain.from_iterable(calls(cpu.program) for cpu in cpus))),
        "pages": pages + others,
        "cached translations": sum(len(cpu.tlb) + len(cpu.psc) for cpu in cpus),
    }
