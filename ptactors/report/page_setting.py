"""What a run was set to: the preset with what differs from it, and where a mechanism that is off would have acted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors.config import HARDWARE_NOTES, KERNEL_KNOBS, MACHINE_KNOBS, PRESET_NOTES, PRESETS, resolve
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.paging import PMD_SIZE, align_down
from ptactors.model.state import Record
from ptactors.oracle.table import HAZARDS
from ptactors.report.page import clip

HOOKS = {
    "flush_before_set_huge": ("set_huge_pmd", "do_huge_pmd_anonymous_page"),
    "flush_before_set_pte": ("pmd_install", "pmd_install"),
}
"""Knob of a flush under the pmd lock -> the store that it comes before, and the function that makes it."""
SHORT = {"flush_before_set_huge": "its huge-page flush", "flush_before_set_pte": "its PTE-page flush"}
"""Knob -> what it is called in a chip; others by their kernel counterpart."""
_LETTERS = {"rfc-v1": "RFC v1"}


@attrs.frozen(kw_only=True)
class Ghost:
    """Something that did not happen, between two records."""

    row: int
    """The record that it would have come before."""
    cpu: int
    text: str


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else clip(value, 60)


def differing(preset: str, knobs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The kernel knobs of a run that are not what the preset says: name, value, the preset's value."""
    if preset not in PRESETS:
        return []
    usual = resolve(preset).as_dict()
    return [(n, knobs[n], usual[n]) for n in KERNEL_KNOBS if n in knobs and knobs[n] != usual[n]]


def _switched(name: str, value: Any) -> str:
    if not isinstance(value, bool):
        return f"{name} = {_word(value)}"
    what = SHORT.get(name) or KERNEL_KNOBS[name].metadata.get("counterpart") or name
    return f"{what} switched {'ON' if value else 'OFF'}"


def kernels(cell: str, knobs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The kernel and the CPU type that a cell's name speaks of: name, note, chip ('' if nothing differs), and what differs."""
    shown = []
    for name in re.findall(r"\bpreset=(\S+)", cell):
        other = differing(name, knobs)
        chip = f"{_LETTERS.get(name, name)} with {', and '.join(_switched(n, v) for n, v, _ in other)}" if other else ""
        but = ", ".join(f"{n} = {_word(v)}" for n, v, _ in other)
        note = PRESET_NOTES.get(name, "")
        if note:
            shown.append({"kind": "Kernel", "name": name, "but": but, "chip": chip,
                          "note": f"The preset by itself: {note}" if other else note})  # fmt: skip
    for name in re.findall(r"\bhardware=(\S+)", cell):
        if name in HARDWARE_NOTES:
            shown.append({"kind": "Processor", "name": name, "but": "", "chip": "", "note": HARDWARE_NOTES[name]})
    return shown


def named_knobs(cell: str, knobs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The knobs that a cell's name speaks of, with what they do."""
    known = {**KERNEL_KNOBS, **MACHINE_KNOBS}
    names = [name for name in re.findall(r"([A-Za-z_]\w*)=", cell) if name in known]
    return [
        {"name": n, "value": _word(knobs.get(n, "")), "effect": known[n].metadata.get("effect", "")} for n in dict.fromkeys(names)
    ]


def ghosts(
    hazard: str, records: Sequence[Record], functions: Mapping[int, str], knobs: Mapping[str, Any], before: int, symbols: Symbols
) -> list[Ghost]:
    """Where a flush that the hazard's rule blames, and that is off, would have acted: at the last such place up to ``before``."""
    blamed = re.findall(r"\b(\w+)=false\b", HAZARDS[hazard].rule.knob)
    found = []
    for name in blamed:
        if name not in HOOKS or knobs.get(name) is not False:
            continue
        row = _place(*HOOKS[name], records, functions, before)
        if row >= 0:
            event = records[row][2]
            counterpart = str(KERNEL_KNOBS[name].metadata["counterpart"]).split(" ", 1)[0]
            start = align_down(event.va, PMD_SIZE)
            at = clip(symbols.name(start, event.mm) or hex(start), 60)
            text = f"cpu{event.cpu}, pmd lock held: {counterpart} would flush {at}..{at}+2M here: OFF in this run"
            found.append(Ghost(row=row, cpu=event.cpu, text=text))
    return found


def _place(what: str, function: str, records: Sequence[Record], functions: Mapping[int, str], before: int) -> int:
    """The last such store by such a function while a gather was pending on the mm: the hooks do nothing else."""
    pending: dict[str, int] = {}
    found = -1
    for row, (step, _, event) in enumerate(records[: before + 1]):
        if type(event) in (ev.GatherBegin, ev.GatherEnd):
            pending[event.mm] = event.pending
        elif type(event) is ev.EntryWrite and event.what == what and pending.get(event.mm):
            found = row if function in functions.get(step, "").split(" <- ") else found
    return found
