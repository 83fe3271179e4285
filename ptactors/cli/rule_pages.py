"""Pages of ``ptactors rule``: one for each name that the other commands print or take."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from ptactors.cli.rule_words import words


@attrs.frozen
class Page:
    """What is told of one name."""

    head: str
    """The name and what it is."""
    text: str
    """What it means."""
    rest: tuple[tuple[str, str], ...] = ()
    """Further lines, each with its title; empty ones are not shown."""


def _hazards() -> Iterator[tuple[str, Page]]:
    from ptactors.oracle.table import HAZARDS

    for name, oracle in HAZARDS.items():
        rule = oracle.rule
        rest = (
            ("Kernel", rule.kernel), ("Avoided by", rule.avoided), ("Knobs", rule.knob), ("Sample", rule.scenario),
            ("Source", oracle.source),
        )  # fmt: skip
        yield name, Page(f"{name} ({oracle.severity.value})", rule.meaning, rest)


def _knobs() -> Iterator[tuple[str, Page]]:
    from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESETS

    for part, fields, presets in (("kernel", KERNEL_KNOBS, PRESETS), ("machine", MACHINE_KNOBS, HARDWARE_PRESETS)):
        for name, field in fields.items():
            kind, about = type(field.default), field.metadata
            values = (
                ", ".join(m.value for m in kind) if issubclass(kind, enum.Enum) else "false, true" if kind is bool else "a number"
            )
            elsewhere = [f"{shown(knobs[name])} in {preset}" for preset, knobs in presets.items() if name in knobs]
            rest = (
                ("In Linux", about.get("counterpart", "")), ("Values", f"{values}; default {shown(field.default)}"),
                ("Presets", ", ".join(elsewhere)), ("Hazards", ", ".join(_hazards_of(name))),
                ("Source", about.get("source", "")),
            )  # fmt: skip
            yield name, Page(f"{name} (knob of the {part})", about.get("effect", ""), rest)


def _presets() -> Iterator[tuple[str, Page]]:
    from ptactors.config import HARDWARE_NOTES, HARDWARE_PRESETS, PRESET_NOTES, PRESETS

    for part, table, notes in (("kernel", PRESETS, PRESET_NOTES), ("hardware", HARDWARE_PRESETS, HARDWARE_NOTES)):
        for name, knobs in table.items():
            differs = ", ".join(f"{knob}={shown(value)}" for knob, value in knobs.items()) or "none: these are the defaults"
            yield name, Page(f"{name} (preset, {part})", notes[name], (("Knobs that are not at their default", differs),))


def _operations() -> Iterator[tuple[str, Page]]:
    from ptactors.kernel.table import OPERATIONS

    for name, op in OPERATIONS.items():
        told = without_usage(op.summary)
        rest = (("In Linux", op.mirrors if told else ""), ("Locks", ", ".join(op.locks)), ("Source", op.source))
        yield name, Page(f"{op.usage()} (operation)", told or op.mirrors, rest)


def _strategies() -> Iterator[tuple[str, Page]]:
    from ptactors.engine.strategy.table import STRATEGIES

    for name, strategy in STRATEGIES.items():
        yield name, Page(f"{name} (strategy)", " ".join((inspect.getdoc(strategy) or "").split()))


def _words() -> Iterator[tuple[str, Page]]:
    for heading, meaning, names in words():
        for name in names:
            yield name, Page(f"{heading} (word)", meaning[0].upper() + meaning[1:] + ".")


KINDS: dict[str, Callable[[], Iterator[tuple[str, Page]]]] = {
    "hazard": _hazards, "knob": _knobs, "preset": _presets, "operation": _operations, "strategy": _strategies, "word": _words,
}  # fmt: skip
"""What a page can be about, in the order in which a name is looked up."""


def page(name: str) -> Page | None:
    """The page of a name, or of a scenario's; None where there is none. Words may be in any case."""
    for kind in KINDS.values():
        for known, found in kind():
            if known == name or (kind is _words and known.casefold() == name.casefold()):
                scenarios = ", ".join(_scenarios_with(name)) if kind is _knobs else ""
                return attrs.evolve(found, rest=(*found.rest, ("Scenarios", scenarios)))
    return _scenario(name)


def _scenario(name: str) -> Page | None:
    from ptactors.campaign.names import known_names
    from ptactors.cli.find import known
    from ptactors.scenario.load import load

    path = known().get(name)
    if path is None:
        return None
    scenario = load(path, known_names())
    expects = "; ".join(f"{each.kind} {each.condition.text}{_where(each.when)}" for each in scenario.expects)
    rest = (("Expected", expects), ("From", "; ".join(scenario.refs)), ("File", str(path)))
    return Page(f"{name} (scenario)", f"{scenario.title}. {' '.join(scenario.why.split())}", rest)


def _where(when: Mapping[str, tuple[Any, ...]]) -> str:
    """The cells that an expectation speaks of."""
    said = [f"{knob}={' or '.join(map(shown, values))}" for knob, values in when.items()]
    return f", where {', '.join(said)}" if said else ""


def mentions(text: str) -> list[tuple[str, str]]:
    """(kind, name) of every page that speaks of ``text``: the way from a kernel's function to the knob that stands for it."""
    wanted = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
    found: dict[tuple[str, str], None] = {}
    for kind, pages in KINDS.items():
        for name, each in pages():
            told = [title_text for title, title_text in each.rest if title != "Hazards"]
            if any(wanted.search(part) for part in (each.head, each.text, *told)):
                found[kind, name] = None
    return list(found)


def names() -> list[str]:
    """Every name that has a page, scenarios too."""
    from ptactors.cli.find import known

    return [*dict.fromkeys(name for kind in KINDS.values() for name, _ in kind()), *known()]


def shown(value: Any) -> str:
    """A knob's value as a scenario and --set spell it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value if isinstance(value, enum.Enum) else value)


def without_usage(summary: str) -> str:
    """An operation's summary without the usage that it begins with, which is shown beside it."""
    rest = re.sub(r"^``[^`]*``[:.]?\s*", "", summary).replace("``", "'")
    return rest[:1].upper() + rest[1:]


def _hazards_of(knob: str) -> Iterator[str]:
    from ptactors.oracle.table import HAZARDS

    return (name for name, oracle in HAZARDS.items() if re.search(rf"\b{knob}\b", oracle.rule.knob))


def _scenarios_with(knob: str) -> Iterator[str]:
    """Scenarios that set, vary or ask for the knob: by their text, since reading all of them takes a second."""
    from ptactors.cli.find import known

    for name, path in known().items():
        if re.search(rf"^[^#\n]*\b{knob}\b\s*=", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield name
