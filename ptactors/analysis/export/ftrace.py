"""The text of /sys/kernel/tracing/trace, for grep, trace viewers, and eyes that are used to it.

A step is a microsecond. The task is the actor; its number is the actor's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from ptactors.analysis.export.timeline import title
from ptactors.log.read import SavedLog

_HEAD = """\
# tracer: nop
#
# {title}
# entries-in-buffer/entries-written: {events}/{events}   #P:{cpus}
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
_FRONT = ("ev", "step", "cpu", "actor", "fn", "cause")
_COMM = 16
"""Longest name of a task."""


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write the one log."""
    (log,) = logs
    ids = {name: i for i, name in enumerate(log.actors)}
    cpus = sum(name.startswith("cpu") for name in log.actors)
    name = " ".join(title(log.header).split())
    out.write(_HEAD.format(title=name, events=log.trailer.get("events", "?"), cpus=cpus).encode())
    off: dict[int, bool] = {}
    for fields in log.raw():
        cpu, ev = fields["cpu"], fields["ev"]
        if ev in ("irq_disable", "irq_enable"):
            off[cpu] = ev == "irq_disable"
        actor = fields["actor"]
        flags = f"{'d' if off.get(cpu) else '.'}.{'h' if actor.startswith('irq') else '.'}.."
        task = f"{'set-up' if actor == '-' else actor[:_COMM]}-{ids.get(actor, -1) + 1}"
        seconds, rest = divmod(fields["step"], 1_000_000)
        place = f"{task:>23} [{max(cpu, 0):03d}] {flags} {seconds:>5}.{rest:06d}"
        out.write(f"{place}: {ev}: {_words(fields)}".rstrip().encode() + b"\n")


def _words(fields: dict[str, Any]) -> str:
    """``name=value``, as the kernel prints tracepoints; spaces inside a value stay, line breaks do not."""
    return " ".join(f"{key}={_value(value)}" for key, value in fields.items() if key not in _FRONT)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return " ".join(str(value).split())
