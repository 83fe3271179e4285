"""A scenario as the text of a file, with one cell and one expectation: what shrinking works on and what it leaves behind."""

from __future__ import annotations

import enum
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, Config, resolve
from ptactors.model.paging import PAGE_SIZE
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Allocation, Cpu, Fault, Scenario, Vma
from ptactors.scenario.program import OpCall, Program

WIDTH = 120


def render(
    scenario: Scenario,
    cell: Cell,
    *,
    name: str,
    title: str,
    why: str,
    exists: str,
    allow: Sequence[str] = (),
    pin: Sequence[str] = (),
) -> str:
    """The file of this cell alone; a pinned one has a single schedule. Programs of [stress] must have been written out."""
    assert scenario.stress is None
    blocks = [
        _head(scenario, name, title, why, allow),
        _machine(scenario, cell),
        _section("kernel", [("preset", cell.preset), *_knobs(cell, KERNEL_KNOBS, cell.config)]),
        *(f"[process.{process}]" for process in scenario.processes if scenario.processes != ("P",)),
        *(_vma(scenario, vma) for vma in scenario.vmas),
        *(_cpu(scenario, cpu) for cpu in scenario.cpus[: cell.config.machine.cpus]),
        _fault(scenario.fault),
        _pin(pin),
        _section("explore", [("runs", 1)]) if pin else "",
        "\n".join(["[[expect]]", f"exists = {_value(exists)}"]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(scenario: Scenario, name: str, title: str, why: str, allow: Sequence[str]) -> str:
    lines = ["ptactors = 1", f"name  = {_value(name)}", f"title = {_value(title)}"]
    prose = why.replace("\\", "\\\\").replace('"""', "'''")
    lines += ['why   = """', *textwrap.wrap(prose, WIDTH, break_on_hyphens=False), '"""']
    if scenario.refs:
        lines.append(f"refs  = [{', '.join(map(_value, scenario.refs))}]")
    if allow:
        lines.append(f"allow = [{', '.join(map(_value, allow))}]")
    return "\n".join(lines)


def _machine(scenario: Scenario, cell: Cell) -> str:
    pairs: list[tuple[str, Any]] = [("hardware", cell.hardware)] if cell.hardware != "intel" else []
    pairs += [("cpus", cell.config.machine.cpus)]
    pairs += [pair for pair in _knobs(cell, MACHINE_KNOBS, cell.config) if pair[0] != "cpus"]
    if scenario.speculate:
        table = {f"cpu{n}": [_address(scenario, va) for va in pages] for n, pages in scenario.speculate.items()}
        pairs += [("speculate", table), ("speculative_fills", scenario.speculative_fills)]
    if scenario.max_steps != 200_000:
        pairs.append(("max_steps", scenario.max_steps))
    return _section("machine", pairs)


def _knobs(cell: Cell, fields: Iterable[str], config: Config) -> Iterator[tuple[str, Any]]:
    """Knobs that preset and hardware do not give by themselves."""
    given, wanted = resolve(cell.preset, cell.hardware).as_dict(), config.as_dict()
    for name in fields:
        if wanted[name] != given[name]:
            yield name, wanted[name]


def _vma(scenario: Scenario, vma: Vma) -> str:
    pairs: list[tuple[str, Any]] = [("at", _Hex(vma.at)), ("size", _size(vma.size))]
    if vma.process != scenario.processes[0]:
        pairs.append(("process", vma.process))
    if not vma.mapped:
        return _section(f"vma.{vma.name}", [*pairs, ("mapped", False)])
    if not vma.readable:
        pairs.append(("prot", "none"))
    for key, default in (("kind", "anon"), ("writable", vma.readable), ("huge", "none"), ("uffd_wp", False), ("locked", False),
                         ("anon_prepared", True)):  # fmt: skip
        if getattr(vma, key) != default:
            pairs.append((key, getattr(vma, key)))
    if vma.populate:
        pairs.append(("populate", {_span(vma, fill.start, fill.end): fill.value for fill in vma.populate}))
    if vma.huge_pages:
        pairs.append(("huge_pages", {_inside(vma, va): value for va, value in vma.huge_pages}))
    if vma.tables:
        pairs.append(("tables", [_inside(vma, max(va, vma.at)) for va in vma.tables]))
    if vma.entries:
        pairs.append(("entries", {_inside(vma, e.va): e.kind + (f":{e.value}" if e.value != "" else "") for e in vma.entries}))
    return _section(f"vma.{vma.name}", pairs)


def _span(vma: Vma, start: int, end: int) -> str:
    return _inside(vma, start) + ("" if end - start == PAGE_SIZE else f" {_size(end - start)}")


def _inside(vma: Vma, va: int) -> str:
    return f"{vma.name}+{va - vma.at:#x}" if va > vma.at else vma.name


def _address(scenario: Scenario, va: int, process: str | None = None) -> str:
    for vma in scenario.vmas:
        if vma.at <= va < vma.end and process in (None, vma.process):
            return _inside(vma, va)
    return hex(va)


def _size(size: int) -> str:
    for unit, letter in ((30, "G"), (20, "M"), (10, "K")):
        if size % (1 << unit) == 0:
            return f"{size >> unit}{letter}"
    return str(size)


def _cpu(scenario: Scenario, cpu: Cpu) -> str:
    pairs: list[tuple[str, Any]] = []
    if cpu.process != scenario.processes[0]:
        pairs.append(("process", cpu.process))
    if cpu.state != "user":
        pairs.append(("state", cpu.state))
    for key in ("tlb", "psc"):
        if getattr(cpu, key):
            pairs.append((key, [_address(scenario, va, cpu.process) for va in getattr(cpu, key)]))
    if cpu.program:
        pairs.append(("do", _Block("\n".join(program_lines(cpu.program)))))
    return _section(f"cpu.{cpu.number}", pairs) if pairs else ""


def program_lines(program: Program, indent: str = "") -> Iterator[str]:
    """The program as text; every operation with its label."""
    for statement in program:
        if isinstance(statement, OpCall):
            yield f"{indent}{statement.label}: {statement.text}"
        else:
            variable = f" as {statement.variable}" if re.match(r"[A-Za-z_]\w*$", statement.variable) else ""
            yield f"{indent}repeat {statement.count}{variable} {{"
            yield from program_lines(statement.body, indent + "    ")
            yield indent + "}"


def _fault(fault: Fault) -> str:
    pairs: list[tuple[str, Any]] = []
    for key in ("page_batch_alloc", "table_batch_alloc"):
        given: Allocation = getattr(fault, key)
        if given.mode != "ok":
            pairs.append((key, f"fail-after {given.after}" if given.mode == "fail-after" else given.mode))
    if fault.need_resched_maybe:
        pairs.append(("need_resched", "maybe"))
    elif fault.need_resched:
        pairs.append(("need_resched", [f"cpu{r.cpu}:{r.label} after {r.after}" for r in fault.need_resched]))
    if fault.rcu_callbacks != "any":
        pairs.append(("rcu_callbacks", fault.rcu_callbacks))
    if fault.late_ipis:
        pairs.append(("late_ipis", [f"cpu{number}" for number in fault.late_ipis]))
    return _section("fault", pairs) if pairs else ""


def _pin(order: Sequence[str]) -> str:
    if not order:
        return ""
    return "\n".join(["[pin]", "order = [", *(f"    {_value(label)}," for label in order), "]"])


# -- TOML -----------------------------------------------------------------------------------------------------------------


class _Hex(int):
    """A number that is written in hex."""


class _Block(str):
    """A text of several lines."""


def _section(name: str, pairs: Sequence[tuple[str, Any]]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {_value(value)}" for key, value in pairs)])


def _value(value: object) -> str:
    if isinstance(value, _Block) and "'''" not in value:
        return f"'''\n{value}\n'''"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Hex):
        digits = f"{value:012x}"
        return "0x" + "_".join(digits[i : i + 4] for i in range(0, len(digits), 4))
    if isinstance(value, enum.Enum):
        return _value(value.value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)
