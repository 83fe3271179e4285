"""From a file to a scenario, or to all of its errors at once."""

from __future__ import annotations

import codecs
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

import ptactors
from ptactors.errors import Diagnostic, ScenarioError, UsageError
from ptactors.model.paging import PAGE_SIZE, align_down
from ptactors.oracle import table as oracle_table
from ptactors.scenario import condition_text
from ptactors.scenario.condition import UNSET
from ptactors.scenario.condition_text import Vocabulary
from ptactors.scenario.cpus import CpuReader, Surroundings
from ptactors.scenario.hints import nearest, suggest
from ptactors.scenario.keys import AXES, CONDITION_KINDS, EXPECT, TOP
from ptactors.scenario.matrix import cells
from ptactors.scenario.memory import read_address, read_processes, read_vmas
from ptactors.scenario.model import Expectation, Names, Scenario, Vma
from ptactors.scenario.positions import Path
from ptactors.scenario.reader import Reader
from ptactors.scenario.sections import (
    Platform,
    axis_value,
    cpu_numbers,
    read_coverage,
    read_explore,
    read_fault,
    read_matrix,
    read_pin,
    read_platform,
)  # fmt: skip
from ptactors.scenario.shape import knob_text

SIZE_LIMIT = 1 << 20
"""The largest scenario file, in bytes."""


def load(path: str | pathlib.Path, names: Names | None = None) -> Scenario:
    """The scenario in the file at ``path``. Raises ScenarioError with the file's errors, UsageError if it cannot be read."""
    try:
        with pathlib.Path(path).open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > SIZE_LIMIT:
        raise _whole_file(path, f"larger than {SIZE_LIMIT} bytes")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _whole_file(path, "UTF-16 text; a scenario is UTF-8: save it so")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _whole_file(path, f"not UTF-8 text: byte {data[error.start]:#04x} in line {line}") from None
    return loads(text, str(path), names)


def _whole_file(path: str | pathlib.Path, message: str) -> ScenarioError:
    return ScenarioError((Diagnostic(path=str(path), line=0, column=0, message=message),))


def loads(text: str, path: str = "<text>", names: Names | None = None) -> Scenario:
    """The scenario that ``text`` spells; ``path`` is for messages, and gives the expected name unless it starts with ``<``."""
    reader = Reader(text, path)
    scenario = _ScenarioReader(reader, names or Names()).read()
    reader.finish()
    assert scenario is not None
    return scenario


class _ScenarioReader:
    """Reads the sections in the order in which they refer to each other."""

    def __init__(self, reader: Reader, names: Names) -> None:
        self._reader = reader
        self._names = names

    def read(self) -> Scenario | None:
        """The scenario; None if an error was found, which the reader has."""
        reader = self._reader
        top = reader.top(TOP)
        self._check_top(top)
        platform, matrix = read_platform(reader), read_matrix(reader)
        processes = read_processes(reader)
        vmas, scope = read_vmas(reader, processes)
        around = Surroundings(scope=scope, vmas=vmas, processes=processes, cpus=cpu_numbers(platform, matrix))
        cpu_reader = CpuReader(reader, around)
        cpus = cpu_reader.read()
        stress = cpu_reader.read_stress(cpus)
        labels = cpu_reader.labels()
        rest: dict[str, Any] = {
            "explore": read_explore(reader, self._names),
            "pin": read_pin(reader, labels, self._names),
            "fault": read_fault(reader, labels),
            "coverage": read_coverage(reader, self._names),
            "speculate": self._speculate(platform, around, {cpu.number: cpu.process for cpu in cpus}),
            "expects": self._expects(self._vocabulary(around, cpu_reader)),
        }
        if reader.failed:
            return None
        scenario = Scenario(
            name=top["name"], title=top.get("title", top["name"]), why=top["why"], refs=tuple(top.get("refs", ())),
            path=reader.path, digest="", hardware=platform.hardware, machine=platform.machine, preset=platform.preset,
            kernel=platform.kernel, max_steps=platform.max_steps, speculative_fills=platform.speculative_fills,
            processes=processes, vmas=vmas, cpus=cpus, matrix=matrix, stress=stress, allow=tuple(top.get("allow", ())), **rest,
        )  # fmt: skip
        self._check_expectations_apply(scenario)
        return attrs.evolve(scenario, digest=digest(scenario))

    def _check_top(self, top: dict[str, Any]) -> None:
        stem = pathlib.PurePath(self._reader.path).stem
        if "name" in top and top["name"] != stem and not self._reader.path.startswith("<"):
            self._reader.complain(("name",), f"the name is {top['name']!r}, but the file's name says {stem!r}")
        for number, hazard in enumerate(top.get("allow", [])):
            if hazard not in oracle_table.HAZARDS:
                hint = suggest(hazard, oracle_table.HAZARDS)
                self._reader.complain(("allow", number), f"unknown hazard {hazard!r}", hint)

    def _speculate(self, platform: Platform, around: Surroundings, owners: dict[int, str]) -> dict[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        known = {f"cpu{number}": number for number in range(around.cpus[0])}
        for cpu, texts in platform.speculate.items():
            path: Path = ("machine", "speculate", cpu)
            if cpu not in known:
                self._reader.complain_key(path, f"there is no {cpu}", suggest(cpu, known))
                continue
            number = known[cpu]
            pages = [
                read_address(self._reader, (*path, at), text, around.scope, (owners[number],)) for at, text in enumerate(texts)
            ]
            found[number] = tuple(dict.fromkeys(align_down(va, PAGE_SIZE) for va in pages if va is not None))
        return found

    def _vocabulary(self, around: Surroundings, cpu_reader: CpuReader) -> Vocabulary:
        values: tuple[str, ...] = ()
        if self._names.values:
            stored = [*_contents(around.vmas), *cpu_reader.contents()]
            values = tuple(dict.fromkeys((UNSET, *stored, *self._names.values)))
        return Vocabulary(
            scope=around.scope, cpus=around.cpus[0], registers=cpu_reader.registers(), labels=cpu_reader.labels(),
            events=self._names.events, values=values,
        )  # fmt: skip

    def _expects(self, vocabulary: Vocabulary) -> tuple[Expectation, ...]:
        found = []
        for index, path in enumerate(self._reader.listed("expect")):
            values = self._reader.table(path, EXPECT)
            when = self._when((*path, "when"), values.get("when", {}))
            kinds = [kind for kind in CONDITION_KINDS if kind in values]
            raw = [kind for kind in CONDITION_KINDS if kind in self._reader.data["expect"][index]]
            if len(raw) != 1:
                self._reader.complain_key(path, f"an expectation has exactly one of {', '.join(CONDITION_KINDS)}")
            for kind in kinds:
                where = (*path, kind)
                report = functools.partial(self._reader.complain_inside, where)
                condition = condition_text.parse(values[kind], vocabulary, report)
                place = self._reader.positions.inside(where, 0, 1)
                if condition is not None and place is not None:
                    found.append(
                        Expectation(index=index, kind=kind, condition=condition, when=when, note=values.get("note", ""),
                                    line=place.line, column=place.column)
                    )  # fmt: skip
        return tuple(found)

    def _when(self, path: Path, when: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        typed: dict[str, tuple[Any, ...]] = {}
        for axis, value in when.items():
            if axis not in AXES:
                self._reader.complain_key((*path, axis), f"unknown knob {axis!r}", suggest(axis, AXES))
                continue
            several = isinstance(value, list)
            values = value if several else [value]
            paths: list[Path] = [(*path, axis, n) if several else (*path, axis) for n in range(len(values))]
            checked = [AXES[axis].check(v, p, self._reader.complain) for v, p in zip(values, paths, strict=True)]
            if all(checked):
                typed[axis] = tuple(axis_value(axis, v) for v in values)
        return typed

    def _check_expectations_apply(self, scenario: Scenario) -> None:
        used = {expectation.index for cell in cells(scenario) for expectation in cell.expects}
        for expectation in scenario.expects:
            if expectation.index not in used:
                path = ("expect", expectation.index, "when")
                self._reader.complain(path, "this expectation speaks of no cell of the matrix", _axes_hint(scenario))


def _axes_hint(scenario: Scenario) -> str:
    axes = [f"{axis} = {', '.join(map(knob_text, values))}" for axis, values in scenario.matrix.items()]
    return f"the matrix has {'; '.join(axes)}" if axes else "there is no matrix: the only cell has the values of the file"


def _contents(vmas: Iterable[Vma]) -> list[str]:
    """The names that pages hold before the run."""
    values = [
        value
        for vma in vmas
        for value in (*(f.value for f in vma.populate), *(v for _, v in vma.huge_pages), *(e.value for e in vma.entries))
    ]
    return [value for value in values if isinstance(value, str) and value]


def digest(scenario: Scenario) -> str:
    """16 hex digits of everything that decides what a run of the scenario does: machine, kernel, memory, programs, faults."""
    knobs = {name: knob_text(value) for part in (scenario.machine, scenario.kernel) for name, value in part.items()}
    facts = {
        "hardware": scenario.hardware,
        "preset": scenario.preset,
        "knobs": knobs,
        "limits": [scenario.max_steps, scenario.speculative_fills],
        "speculate": {str(cpu): pages for cpu, pages in scenario.speculate.items()},
        "processes": scenario.processes,
        "vmas": [_said(vma, {"readable": True, "mapped": True}) for vma in scenario.vmas],
        "cpus": [[c.number, c.process, c.state, [str(s) for s in c.program], c.tlb, c.psc] for c in scenario.cpus],
        "matrix": [[axis, [knob_text(value) for value in values]] for axis, values in scenario.matrix.items()],
        "fault": _said(scenario.fault, {"late_ipis": ()}),
        "stress": _stress_facts(scenario),
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _said(fact: Any, later: Mapping[str, Any]) -> dict[str, Any]:
    """What a fact says; keys that came ``later`` leave no trace at their defaults, so that digests stay."""
    return {name: value for name, value in attrs.asdict(fact).items() if name not in later or value != later[name]}


def _stress_facts(scenario: Scenario) -> list[Any]:
    stress = scenario.stress
    if stress is None:
        return []
    return [[[str(call), weight] for call, weight in stress.ops], stress.per_cpu, stress.seed_ops, stress.pages]


def find(names_or_paths: Iterable[str | pathlib.Path], default_dir: str | pathlib.Path = "scenarios") -> list[pathlib.Path]:
    """The scenario files that the arguments mean: files, folders with ``*.toml``, or names; each once, in that order.

    Names are looked up in ``default_dir``, then among the scenarios that came with the package. Raises UsageError.
    """
    found: dict[pathlib.Path, None] = {}
    for given in names_or_paths:
        for path in _files(str(given), pathlib.Path(default_dir)):
            found[path] = None
    return list(found)


def folders(default_dir: pathlib.Path) -> list[pathlib.Path]:
    """Where names are looked up: ``default_dir``, the installed package's scenarios, those of a source tree."""
    package = pathlib.Path(ptactors.__file__).parent
    return [default_dir, package / "_scenarios", package.parent / "scenarios"]


def _files(given: str, default_dir: pathlib.Path) -> list[pathlib.Path]:
    if not given.strip():
        raise UsageError("the name of a scenario is missing: it is empty")
    path = pathlib.Path(given)
    if path.is_dir():
        files = sorted(path.glob("*.toml"))
        if not files:
            raise UsageError(f"no scenario (*.toml) in folder {given}")
        return files
    if path.is_file():
        return [path]
    if path.exists():
        raise UsageError(f"{given} is no file that can be read")
    if path.suffix == ".toml" or len(path.parts) != 1:
        near = nearest(path.name, sorted(file.name for file in path.parent.glob("*.toml")))
        raise UsageError(f"no such file: {given}" + (f"; did you mean '{path.with_name(near)}'?" if near else ""))
    places = folders(default_dir)
    for folder in places:
        file = folder / f"{given}.toml"
        if file.is_file():
            return [file]
    known = sorted({file.stem: None for folder in places for file in folder.glob("*.toml")})
    raise UsageError(f"no scenario named {given!r}; {suggest(given, known)}")
