"""[stress]: programs drawn from a weighted list of operations with placeholders.

Placeholders: ``$page`` a page, ``$pmd`` a whole 2 MiB (its start), ``$value`` a name never stored before; as ranges ``$vma`` (all
of a VMA) and ``$pages`` (a few pages in a row). The loader reads them as variables, so a draw parses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from ptactors.kernel.operation import Kind
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, align_down, align_up
from ptactors.model.rng import SplitMix64, stream
from ptactors.scenario.arguments import Value, bind
from ptactors.scenario.expression import Area
from ptactors.scenario.model import Scenario, Vma
from ptactors.scenario.program import OpCall, Program, calls

RUN_LENGTH = 8
"""The most pages of one ``$pages``."""


def chunks(area: Area | Vma) -> tuple[int, int]:
    """First and last 2 MiB boundary in ``area``; equal if it holds no whole 2 MiB."""
    first, last = align_up(area.at, PMD_SIZE), align_down(area.end, PMD_SIZE)
    return first, max(first, last)


def extremes(areas: list[Area], pages: int) -> dict[str, tuple[int, ...]]:
    """The placeholders that programs over ``areas`` may use, with their extreme values; an impossible one is missing."""
    values: dict[str, tuple[int, ...]] = {"$value": (0,)}
    if areas:
        values["$page"] = tuple(va for a in areas for va in (a.at, _last_page(a, pages)))
        for name in ("$vma", "$pages"):  # whole ranges inside a VMA: there is nothing left to check
            values |= {f"{name}.start": (0,), f"{name}.length": (PAGE_SIZE,)}
    bounds = [bound for bound in map(chunks, areas) if bound[0] < bound[1]]
    if bounds:
        values["$pmd"] = tuple(va for first, last in bounds for va in (first, last - PMD_SIZE))
    return values


def _last_page(area: Area | Vma, pages: int) -> int:
    last = align_down(area.end - 1, PMD_SIZE)
    return min(max(last, area.at) + pages * PAGE_SIZE, area.end) - PAGE_SIZE


def expand_stress(scenario: Scenario, seed: int) -> tuple[Program, ...]:
    """One program for each CPU: what its ``do`` says, then the operations that ``seed`` draws.

    Only CPUs in state ``user`` draw. Without ``[stress]`` these are the programs of the file.
    """
    stress = scenario.stress
    if stress is None:
        return tuple(cpu.program for cpu in scenario.cpus)
    seed = seed if stress.seed_ops else scenario.explore.seed
    return tuple(
        cpu.program + _Draw(scenario, cpu.number, seed).program() if cpu.state == "user" else cpu.program for cpu in scenario.cpus
    )


class _Draw:
    """Draws the program of one CPU."""

    def __init__(self, scenario: Scenario, number: int, seed: int) -> None:
        assert scenario.stress is not None
        self._stress = scenario.stress
        self._cpu = scenario.cpus[number]
        self._vmas = [vma for vma in scenario.vmas if vma.process == self._cpu.process]
        self._large = [vma for vma in self._vmas if chunks(vma)[0] < chunks(vma)[1]]
        self._weights = sum(weight for _, weight in self._stress.ops)
        self._rng = stream(seed, f"stress cpu{number}")
        self._ordinals: dict[str, int] = {}
        for call in calls(self._cpu.program):
            self._ordinals[call.operation] = self._ordinals.get(call.operation, 0) + 1
        self._taken = {call.label: None for call in calls(self._cpu.program)}

    def program(self) -> Program:
        return tuple(self._call(number) for number in range(self._stress.per_cpu))

    def _call(self, number: int) -> OpCall:
        template = self._template()
        environment = self._environment(number)
        arguments = tuple(bind(argument, environment) for argument in template.arguments)
        text = self._text(template, arguments)
        return OpCall(label=self._label(template.operation), operation=template.operation, arguments=arguments, text=text)

    def _text(self, call: OpCall, arguments: tuple[Value, ...]) -> str:
        """The line as a person would write it."""
        words = [call.operation]
        for parameter, value in zip(call.declared().parameters, arguments, strict=True):
            if value == parameter.default and not parameter.required:
                continue
            words.append(parameter.lead)
            if isinstance(value, tuple):
                words += [self._symbol(value[0]), hex(value[1] - value[0])]
            else:
                words.append(self._symbol(value) if parameter.kind is Kind.ADDRESS and isinstance(value, int) else str(value))
        return " ".join(word for word in words if word)

    def _symbol(self, va: int) -> str:
        vma = next((vma for vma in self._vmas if vma.at <= va < vma.end), None)
        if vma is None:
            return hex(va)
        return f"{vma.name}+{va - vma.at:#x}" if va > vma.at else vma.name

    def _template(self) -> OpCall:
        at = self._rng.below(self._weights)
        for template, weight in self._stress.ops:
            if at < weight:
                return template
            at -= weight
        raise AssertionError("weights do not add up")

    def _label(self, verb: str) -> str:
        while True:
            self._ordinals[verb] = self._ordinals.get(verb, 0) + 1
            label = f"{verb}{self._ordinals[verb]}"
            if label not in self._taken:
                return label

    def _environment(self, number: int) -> Mapping[str, int | str]:
        """Values of all placeholders; every draw takes the same numbers from the stream, whatever it uses."""
        rng = self._rng
        value = f"c{self._cpu.number}n{number}"
        if not self._vmas:
            return {"$value": value}
        vma = _pick(self._vmas, rng)
        large = _pick(self._large, rng) if self._large else None
        page = self._page(vma, rng)
        length = 1 + rng.below(min(RUN_LENGTH, (vma.end - page) // PAGE_SIZE))
        values: dict[str, int | str] = {
            "$value": value,
            "$page": page,
            "$vma.start": vma.at,
            "$vma.length": vma.size,
            "$pages.start": page,
            "$pages.length": length * PAGE_SIZE,
        }
        if large is not None:
            first, last = chunks(large)
            values["$pmd"] = first + rng.below((last - first) // PMD_SIZE) * PMD_SIZE
        return values

    def _page(self, vma: Vma, rng: SplitMix64) -> int:
        """One of the first pages of one of the VMA's pieces between 2 MiB boundaries."""
        base = align_down(vma.at, PMD_SIZE)
        piece = base + rng.below((align_up(vma.end, PMD_SIZE) - base) // PMD_SIZE) * PMD_SIZE
        first = max(piece, vma.at)
        last = min(first + self._stress.pages * PAGE_SIZE, piece + PMD_SIZE, vma.end)
        return first + rng.below((last - first) // PAGE_SIZE) * PAGE_SIZE


def _pick(vmas: list[Vma], rng: SplitMix64) -> Vma:
    return vmas[rng.below(len(vmas))]
