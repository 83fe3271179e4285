"""The cells of a scenario: every point of its matrix, with the configuration and the expectations that belong to it."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from typing import Any

import attrs

from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESETS, Config, resolve
from ptactors.errors import UsageError
from ptactors.scenario.hints import suggest
from ptactors.scenario.keys import AXES
from ptactors.scenario.model import Expectation, Scenario
from ptactors.scenario.shape import knob_text, knob_value

NO_AXES = "-"
"""The name of the only cell of an empty matrix."""


@attrs.frozen(kw_only=True)
class Cell:
    """One point of the matrix."""

    index: int
    """Its number, from 0; the last axis of the file varies fastest."""
    name: str
    """``flush_before_set_huge=n preset=rfc-v1``, or ``-`` if there is no matrix."""
    preset: str
    """The kernel."""
    hardware: str
    """The CPU type."""
    knobs: Mapping[str, str]
    """The axes' values in this cell, as text."""
    config: Config
    """Every knob, resolved."""
    expects: tuple[Expectation, ...]
    """The expectations that speak of this cell."""


def cells(scenario: Scenario, overrides: Mapping[str, object] | None = None, preset: str | None = None) -> tuple[Cell, ...]:
    """Every cell of ``scenario``, in the order of the file.

    ``overrides`` are knobs (or ``preset`` and ``hardware``) with their values as text or typed; they replace what the file says,
    and the axis of that name shrinks to the one value. ``preset`` is short for the override of that name.
    Raises UsageError for an unknown knob or an impossible value.
    """
    given = dict(overrides or {})
    if preset is not None:
        given["preset"] = preset
    fixed = {name: _typed(name, value) for name, value in given.items()}
    axes = {axis: (fixed[axis],) if axis in fixed else values for axis, values in scenario.matrix.items()}
    base = {"preset": scenario.preset, "hardware": scenario.hardware, **scenario.machine, **scenario.kernel, **fixed}
    return tuple(
        _cell(scenario, index, dict(zip(axes, point, strict=True)), base)
        for index, point in enumerate(itertools.product(*axes.values()))
    )


def _typed(name: str, value: object) -> Any:
    if name not in AXES:
        raise UsageError(f"unknown knob {name!r}; {suggest(name, AXES)}")
    known = {"preset": PRESETS, "hardware": HARDWARE_PRESETS}.get(name)
    if known is not None:
        if value not in known:
            raise UsageError(f"unknown {name} {value!r}; {suggest(str(value), known)}")
        return value
    return knob_value(name, value.value if isinstance(value, enum.Enum) else value)


def _cell(scenario: Scenario, index: int, point: dict[str, Any], base: dict[str, Any]) -> Cell:
    values = {**base, **point}
    knobs = {name: value for name, value in values.items() if name in KERNEL_KNOBS or name in MACHINE_KNOBS}
    config = resolve(values["preset"], values["hardware"], **knobs)
    _check_cpus(scenario, config)
    shown = {axis: knob_text(value) for axis, value in point.items()}
    return Cell(
        index=index,
        name=" ".join(f"{axis}={text}" for axis, text in shown.items()) or NO_AXES,
        preset=values["preset"],
        hardware=values["hardware"],
        knobs=shown,
        config=config,
        expects=tuple(e for e in scenario.expects if applies(e, values["preset"], values["hardware"], config)),
    )


def _check_cpus(scenario: Scenario, config: Config) -> None:
    needed = max((cpu.number + 1 for cpu in scenario.cpus if cpu.program), default=1)
    if config.machine.cpus < needed:
        raise UsageError(f"knob cpus: scenario {scenario.name} has programs for {needed} CPUs, not {config.machine.cpus}")


def applies(expectation: Expectation, preset: str, hardware: str, config: Config) -> bool:
    """Whether ``expectation`` speaks of a cell with this configuration."""
    return all(value_of(axis, preset, hardware, config) in values for axis, values in expectation.when.items())


def value_of(axis: str, preset: str, hardware: str, config: Config) -> Any:
    """The typed value that a configuration has on ``axis``."""
    if axis == "preset":
        return preset
    if axis == "hardware":
        return hardware
    return getattr(config.kernel if axis in KERNEL_KNOBS else config.machine, axis)
