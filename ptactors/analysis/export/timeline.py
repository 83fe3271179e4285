"""The lines of a log as slices, instants and counters on tracks, for the formats that show time.

A step is a microsecond; events of one step follow each other by nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

BEGIN, END, INSTANT, COUNTER = "B", "E", "i", "C"
NANOSECONDS = 1000
"""Of one step."""
Mark = tuple[str, str, str, int, dict[str, Any]]
"""(phase, track, name, time in ns, fields of the line)."""

_PAIRS = {
    "op_end": "op_begin",
    "sys_exit": "sys_enter",
    "page_fault_done": "page_fault_user",
    "csd_function_exit": "csd_function_entry",
    "gather_finish": "gather_begin",
    "tlb_flush_done": "tlb_flush",
    "ipi_done": "ipi_wait",
    "rcu_gp_end": "rcu_gp_start",
    "rcu_read_unlock": "rcu_read_lock",
}
"""End of a slice -> its begin."""
_NAMES = {
    "op_begin": "text",
    "sys_enter": "call",
    "csd_function_entry": "func",
}
"""Begin -> the field that names its slice."""
_COUNTERS = {"pgtables_bytes": "page tables of", "rss_stat": "rss of"}
COUNTER_TRACKS = tuple(_COUNTERS.values())
"""How the names of counters begin."""


_OPENS, _CLOSES, _COUNTS, _TAKES, _DROPS = range(5)
_ROLES = {
    **dict.fromkeys(_PAIRS.values(), _OPENS),
    **dict.fromkeys(_PAIRS, _CLOSES),
    **dict.fromkeys(_COUNTERS, _COUNTS),
    "lock_acquire": _TAKES,
    "lock_release": _DROPS,
}
"""What an event does to its track; those that are absent are instants."""


def marks(lines: Iterable[dict[str, Any]]) -> Iterator[Mark]:
    """Every line as a mark, in order of time; slices of a track are nested, and what is open at the end is closed."""
    stacks: dict[str, list[tuple[str, str]]] = {}
    held: dict[str, str] = {}
    step, time = -1, 0
    for fields in lines:
        ev, actor = fields["ev"], fields["actor"]
        if fields["step"] == step:
            time += 1
        else:
            step = fields["step"]
            time = max(step * NANOSECONDS, time + 1)
        role = _ROLES.get(ev)
        if role is None:
            yield INSTANT, actor, ev, time, fields
        elif role == _OPENS:
            name = _name(ev, fields)
            stacks.setdefault(actor, []).append((ev, name))
            yield BEGIN, actor, name, time, fields
        elif role == _CLOSES:
            names = _close(stacks.get(actor, []), _PAIRS[ev])
            for name in names:
                yield END, actor, name, time, fields
            if not names:
                yield INSTANT, actor, ev, time, fields
        elif role == _COUNTS:
            kind = f" {fields['kind']}" if "kind" in fields else ""
            if type(fields.get("value")) is int:
                yield COUNTER, f"{_COUNTERS[ev]} {fields.get('mm', '?')}{kind}", ev, time, fields
        else:
            lock = str(fields.get("lock", "?"))
            track = f"lock {lock} {actor}"
            if role == _TAKES and track not in held:
                held[track] = lock
                yield BEGIN, track, lock, time, fields
            elif role == _DROPS and held.pop(track, ""):
                yield END, track, lock, time, fields
            else:
                yield INSTANT, actor, ev, time, fields
    end: dict[str, Any] = {}
    for track, name in held.items():
        yield END, track, name, time + 1, end
    for actor, stack in stacks.items():
        for _, name in reversed(stack):
            yield END, actor, name, time + 1, end


def _close(stack: list[tuple[str, str]], begin: str) -> list[str]:
    """Take the innermost slice of kind ``begin`` off the stack, with all that is in it; their names, [] if there is none."""
    names: list[str] = []
    if any(kind == begin for kind, _ in stack):
        kind = ""
        while kind != begin:
            kind, name = stack.pop()
            names.append(name)
    return names


def _name(ev: str, fields: dict[str, Any]) -> str:
    if ev == "rcu_gp_start":
        return f"grace period {fields.get('seq', '?')}"
    return str(fields.get(_NAMES.get(ev, ""), "") or ev)


def title(header: dict[str, Any]) -> str:
    """A run in one line: scenario, cell and seed."""
    return f"{header.get('scenario', '?')} {header.get('cell') or '-'} seed {header.get('seed', '?')}"
