"""Every knob and preset, as data.

A knob is one field of :class:`Kernel` (what Linux does) or :class:`Machine` (what it runs on), with its story in the field's
metadata: effect, kernel counterpart, source. A preset is a named set of knobs. Scenario files, ``--set``, the log's header and
``ptactors list knobs`` all read these tables; the model receives one frozen :class:`Config` and looks nowhere else.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs

from ptactors.config.kernel import FlushFilter, Kernel, LeftMask, PtReclaim, TableFree
from ptactors.config.machine import FrameReuse, Machine, MixedSizes, Preemption, Thp
from ptactors.config.preset import HARDWARE_NOTES, HARDWARE_PRESETS, PRESET_NOTES, PRESETS
from ptactors.errors import UsageError

__all__ = [
    "HARDWARE_NOTES",
    "HARDWARE_PRESETS",
    "KERNEL_KNOBS",
    "MACHINE_KNOBS",
    "PRESETS",
    "PRESET_NOTES",
    "Config",
    "FlushFilter",
    "FrameReuse",
    "Kernel",
    "LeftMask",
    "Machine",
    "MixedSizes",
    "Preemption",
    "PtReclaim",
    "TableFree",
    "Thp",
    "parse_knob",
    "resolve",
]


@attrs.frozen(kw_only=True)
class Config:
    """All knobs of one run."""

    kernel: Kernel = attrs.field(factory=Kernel)
    machine: Machine = attrs.field(factory=Machine)

    def as_dict(self) -> dict[str, str | int | bool]:
        """Every knob by name, with enums as their text; the form of logs, ``--json`` and digests."""
        values: dict[str, str | int | bool] = {}
        for part in (self.kernel, self.machine):
            for field in attrs.fields(type(part)):
                value = getattr(part, field.name)
                values[field.name] = value.value if isinstance(value, enum.Enum) else value
        return values


KNOB_LIMIT = (1 << 31) - 1
"""The greatest value of a knob that is a number."""
KERNEL_KNOBS = {f.name: f for f in attrs.fields(Kernel)}
MACHINE_KNOBS = {f.name: f for f in attrs.fields(Machine)}


def parse_knob(name: str, value: object) -> Any:
    """The typed value of knob ``name`` given as TOML or command-line text gives it.

    Raises UsageError with the values that are possible.
    """
    field = KERNEL_KNOBS.get(name) or MACHINE_KNOBS.get(name)
    if field is None:
        raise UsageError(f"unknown knob {name!r}")
    kind = type(field.default)
    if issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        if value in choices:
            return kind(value)
        raise UsageError(f"knob {name}: expected one of {', '.join(choices)}, not {value!r}")
    if kind is bool:
        known: dict[object, bool] = {True: True, False: False, "true": True, "false": False, "y": True, "n": False}
        if type(value) in (bool, str) and value in known:
            return known[value]
        raise UsageError(f"knob {name}: expected true or false, not {value!r}")
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value, 0) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
        if number > KNOB_LIMIT:
            raise UsageError(f"knob {name}: expected an integer of at most {KNOB_LIMIT}, not {value!r}")
        if number < field.metadata["least"] or (number != value and not isinstance(value, str)):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"knob {name}: expected an integer of at least {field.metadata['least']}, not {value!r}") from None
    return number


def resolve(preset: str = "v6.14", hardware: str = "intel", **knobs: Any) -> Config:
    """The configuration of ``preset`` on ``hardware`` with single ``knobs`` (typed values) set over both.

    Raises UsageError for an unknown preset or knob.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    if hardware not in HARDWARE_PRESETS:
        raise UsageError(f"unknown hardware {hardware!r}; known: {', '.join(HARDWARE_PRESETS)}")
    unknown = [k for k in knobs if k not in KERNEL_KNOBS and k not in MACHINE_KNOBS]
    if unknown:
        raise UsageError(f"unknown knob {unknown[0]!r}")
    values = {**PRESETS[preset], **HARDWARE_PRESETS[hardware], **knobs}
    return Config(
        kernel=Kernel(**{k: v for k, v in values.items() if k in KERNEL_KNOBS}),
        machine=Machine(**{k: v for k, v in values.items() if k in MACHINE_KNOBS}),
    )
