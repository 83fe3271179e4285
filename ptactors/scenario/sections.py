"""The sections of a scenario file that stand for themselves: machine, kernel, matrix, explore, fault, pin, coverage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS
from ptactors.scenario.hints import suggest
from ptactors.scenario.keys import PSEUDO_KNOBS
from ptactors.scenario.model import Allocation, Explore, Fault, Names, PinnedStep, Resched
from ptactors.scenario.reader import Reader
from ptactors.scenario.shape import knob_value
from ptactors.scenario.syntax import Mistake

CELL_LIMIT = 10_000
"""The largest number of cells of one matrix."""


@attrs.frozen(kw_only=True)
class Platform:
    """[machine] and [kernel] without the addresses."""

    hardware: str
    machine: dict[str, Any]
    preset: str
    kernel: dict[str, Any]
    max_steps: int
    speculate: dict[str, list[str]]
    """As written; addresses can be read only when the VMAs are known."""
    speculative_fills: int

    @property
    def cpus(self) -> int:
        """Number of CPUs without a matrix."""
        return int(self.machine.get("cpus", MACHINE_KNOBS["cpus"].default or 1))


def read_platform(reader: Reader) -> Platform:
    """[machine] and [kernel]."""
    machine, kernel = reader.section("machine"), reader.section("kernel")
    speculate = machine.get("speculate", {})
    return Platform(
        hardware=machine.get("hardware", "intel"),
        machine={name: knob_value(name, value) for name, value in machine.items() if name in MACHINE_KNOBS},
        preset=kernel.get("preset", "v6.14"),
        kernel={name: knob_value(name, value) for name, value in kernel.items() if name in KERNEL_KNOBS},
        max_steps=machine.get("max_steps", 200_000),
        speculate=speculate,
        speculative_fills=machine.get("speculative_fills", 1 if speculate else 0),
    )


def axis_value(axis: str, value: object) -> Any:
    """The typed value of a knob, or of preset or hardware, that has the right form."""
    return value if axis in PSEUDO_KNOBS else knob_value(axis, value)


def read_matrix(reader: Reader) -> dict[str, tuple[Any, ...]]:
    """[matrix]: axis -> typed values."""
    matrix: dict[str, tuple[Any, ...]] = {}
    cells = 1
    for axis, values in reader.section("matrix").items():
        typed = [axis_value(axis, value) for value in values]
        for number, value in enumerate(typed):
            if value in typed[:number]:
                reader.complain(("matrix", axis, number), f"the value {values[number]!r} of axis {axis!r} stands twice")
        matrix[axis] = tuple(typed)
        cells *= len(typed)
    if cells > CELL_LIMIT:
        reader.complain_key(("matrix",), f"the matrix has {cells} cells; at most {CELL_LIMIT} are allowed")
    return matrix


def cpu_numbers(platform: Platform, matrix: Mapping[str, tuple[Any, ...]]) -> tuple[int, int]:
    """The smallest and the largest number of CPUs over all cells."""
    numbers = matrix.get("cpus", (platform.cpus,))
    return min(numbers), max(numbers)


def read_explore(reader: Reader, names: Names) -> Explore:
    """[explore]."""
    values = reader.section("explore")
    strategy = values.get("strategy")
    if strategy is not None and names.strategies and strategy.partition(":")[0] not in names.strategies:
        reader.complain(("explore", "strategy"), f"unknown strategy {strategy!r}", suggest(strategy, names.strategies))
    return Explore(**values)


_PIN = re.compile(r"cpu(?P<cpu>\d+):(?:(?P<label>\w+)\.)?(?P<step>[\w-]+)(?:#(?P<occurrence>[1-9]\d*))?")


def read_pin(reader: Reader, labels: Mapping[int, tuple[str, ...] | None], names: Names) -> tuple[PinnedStep, ...]:
    """[pin]; ``labels`` are those of each CPU's program."""
    steps = []
    for number, text in enumerate(reader.section("pin").get("order", [])):
        try:
            steps.append(_pinned(text, labels, names))
        except Mistake as mistake:
            reader.complain_inside(("pin", "order", number), mistake)
    return tuple(steps)


def _pinned(text: str, labels: Mapping[int, tuple[str, ...] | None], names: Names) -> PinnedStep:
    found = _PIN.fullmatch(text)
    if found is None:
        raise Mistake(0, len(text), "expected cpuN:LABEL.step, cpuN:step, each perhaps with #k behind it")
    cpu, label, step = int(found["cpu"]), found["label"] or "", found["step"]
    _check_label(found, cpu, label, labels)
    if names.step_labels and step not in names.step_labels:
        raise Mistake(*found.span("step"), f"unknown step {step!r}", suggest(step, names.step_labels))
    return PinnedStep(cpu=cpu, label=label, step=step, occurrence=int(found["occurrence"] or 1))


def _check_label(found: re.Match[str], cpu: int, label: str, labels: Mapping[int, tuple[str, ...] | None]) -> None:
    if cpu not in labels:
        raise Mistake(0, found.end("cpu"), f"there is no cpu{cpu}", f"the machine has {len(labels)} CPUs, from cpu0")
    known = labels[cpu]
    if label and known is not None and label not in known:
        raise Mistake(*found.span("label"), f"cpu{cpu} has no operation {label!r}", suggest(label, known))


_RESCHED = re.compile(r"cpu(?P<cpu>\d+):(?P<label>\w+) +after +(?P<after>\d+)")


def read_fault(reader: Reader, labels: Mapping[int, tuple[str, ...] | None]) -> Fault:
    """[fault]; ``labels`` are those of each CPU's program."""
    values = reader.section("fault")
    places: list[Resched] = []
    where = values.get("need_resched", [])
    for number, text in enumerate(where if isinstance(where, list) else []):
        try:
            places.append(_resched(text, labels))
        except Mistake as mistake:
            reader.complain_inside(("fault", "need_resched", number), mistake)
    return Fault(
        page_batch_alloc=_allocation(reader, values, "page_batch_alloc"),
        table_batch_alloc=_allocation(reader, values, "table_batch_alloc"),
        need_resched=tuple(places),
        need_resched_maybe=where == "maybe",
        rcu_callbacks=values.get("rcu_callbacks", "any"),
        late_ipis=_late_ipis(reader, values.get("late_ipis", []), tuple(labels)),
    )


def _late_ipis(reader: Reader, given: str | list[str], cpus: tuple[int, ...]) -> tuple[int, ...]:
    """The CPUs, ascending."""
    known = {f"cpu{number}": number for number in cpus}
    wanted = list(known) if isinstance(given, str) else given
    for at, text in enumerate(wanted):
        if text not in known:
            reader.complain(("fault", "late_ipis", at), f"there is no {text!r}", suggest(text, known))
    return tuple(number for name, number in known.items() if name in wanted)


def _resched(text: str, labels: Mapping[int, tuple[str, ...] | None]) -> Resched:
    found = _RESCHED.fullmatch(text.strip())
    if found is None:
        raise Mistake(0, len(text), "expected a place such as 'cpu0:Z after 100'", 'or need_resched = "maybe"')
    cpu, label = int(found["cpu"]), found["label"]
    _check_label(found, cpu, label, labels)
    return Resched(cpu=cpu, label=label, after=int(found["after"]))


def _allocation(reader: Reader, values: Mapping[str, Any], key: str) -> Allocation:
    text = values.get(key, "ok")
    if text in ("ok", "fail", "maybe"):
        return Allocation(mode=text)
    found = re.fullmatch(r"fail-after +(\d+)", text)
    if found is None:
        reader.complain(("fault", key), f"unknown outcome {text!r}", "known: ok, fail, maybe, fail-after N")
        return Allocation()
    return Allocation(mode="fail-after", after=int(found[1]))


def read_coverage(reader: Reader, names: Names) -> tuple[str, ...]:
    """[coverage] reached."""
    reached = reader.section("coverage").get("reached", [])
    known = (*names.step_labels, *names.events)
    for number, name in enumerate(reached):
        if known and name not in known:
            reader.complain(("coverage", "reached", number), f"unknown step or event {name!r}", suggest(name, known))
    return tuple(reached)
