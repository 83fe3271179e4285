"""The model's observations held against a kernel's, field by field, and in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ptactors.config import PtReclaim, resolve
from ptactors.hardware.cpu import SIGSEGV
from ptactors.host import simulate
from ptactors.host.program import needs, split
from ptactors.host.sequence import Observation, Recording, Step, VmaSeen
from ptactors.model.hazard import Finding

FIELDS = {
    "result": "result",
    "vmpte_kb": "VmPTE, kB",
    "rss_kb": "Rss, kB",
    "faults": "faults",
    "tables": "entries by 2 MiB",
    "vmas": "VMAs",
}
"""Fields of an observation that are compared, with the words for them."""
FAULTING = ("w", "r", "POPULATE_READ", "POPULATE_WRITE")
"""What makes faults that are its own; in the figures of the others the recorder's show."""


SHOWN = 4
"""So many differing tables are named."""


@attrs.frozen(kw_only=True)
class Known:
    """A difference that is known, and why it is left to stand. Never one of page-table memory."""

    sequence: str
    """The recorded sequence it is seen in."""
    field: str
    """Key of FIELDS."""
    preset: str
    """The kernel."""
    reason: str
    """Why."""


KNOWN: tuple[Known, ...] = ()
"""Every known difference."""


@attrs.frozen(kw_only=True)
class Difference:
    """One field after one step."""

    number: int
    """Position of the step, from 0."""
    step: Step
    """The step."""
    field: str
    """Key of FIELDS."""
    model: str
    """What the model shows."""
    kernel: str
    """What the kernel shows."""

    def __str__(self) -> str:
        return f"step {self.number}, {spell(self.step)}: {FIELDS[self.field]}: model {self.model}, kernel {self.kernel}"


@attrs.frozen(kw_only=True)
class Comparison:
    """What came of one sequence."""

    name: str
    """Of the sequence."""
    preset: str
    """The kernel as the model has it."""
    kernel: str
    """The real one's release."""
    operations: int
    """How many steps were compared."""
    differences: tuple[Difference, ...] = ()
    """Those that nothing explains."""
    known: tuple[tuple[Difference, str], ...] = ()
    """Those that are known, each with the reason."""
    findings: tuple[Finding, ...] = ()
    """Hazards that the model's oracles reported: as bad as a difference."""
    status: str = ""
    """How the model's run ended: complete, or something is wrong."""
    skipped: str = ""
    """Why nothing was compared."""

    @property
    def agrees(self) -> bool:
        """Whether everything that was compared is the same or known."""
        return not self.differences and not self.findings and self.status == "complete"


def differences(model: Sequence[Observation], kernel: Sequence[Observation]) -> tuple[Difference, ...]:
    """Where two accounts of the same steps differ, in their order.

    The second thread's stack costs the kernel page tables outside the arena, so VmPTE counts from the thread's first step on; and
    it faults when a signal is delivered there, so the faults of a refused access are not counted.
    """
    found = []
    base = (0, 0)
    threaded = False
    for number, (mine, theirs) in enumerate(zip(model, kernel, strict=False)):
        thread, step = split(mine.step)
        if thread and not threaded:
            threaded, base = True, (mine.vmpte_kb, theirs.vmpte_kb)
        for field in FIELDS:
            if field == "faults" and (not _faults_count(step) or (thread and theirs.result == SIGSEGV)):
                continue
            pair = [getattr(mine, field), getattr(theirs, field)]
            if field == "vmpte_kb":
                pair = [pair[0] - base[0], pair[1] - base[1]]
            if pair[0] != pair[1]:
                texts = _texts(field, *pair)
                found.append(Difference(number=number, step=mine.step, field=field, model=texts[0], kernel=texts[1]))
    return tuple(found)


def _faults_count(step: Step) -> bool:
    if step[0] == "repeat":
        return all(map(_faults_count, step[3:]))
    return step[0] in FAULTING or (step[0] in ("adv", "padv") and step[3] in FAULTING)


def compare(recording: Recording, preset: str, known: Sequence[Known] = KNOWN) -> Comparison:
    """Run a recorded sequence through the model and compare."""
    lacking = needs(recording.steps)
    if lacking:
        return skipped(recording.name, f"the model has no {', no '.join(lacking)}", preset, recording.kernel)
    simulation = simulate.run(recording.steps, simulate.configuration(preset, recording.thp))
    reasons = {(k.sequence, k.field): k.reason for k in known if k.preset == preset}
    found = differences(simulation.observed, recording.observed)
    return Comparison(
        name=recording.name,
        preset=preset,
        kernel=recording.kernel,
        operations=len(recording.steps),
        differences=tuple(d for d in found if (recording.name, d.field) not in reasons),
        known=tuple((d, reasons[recording.name, d.field]) for d in found if (recording.name, d.field) in reasons),
        findings=simulation.findings,
        status=simulation.status,
    )


def skipped(name: str, reason: str, preset: str = "", kernel: str = "") -> Comparison:
    """What stands for a sequence that could not be compared."""
    return Comparison(name=name, preset=preset, kernel=kernel, operations=0, skipped=reason)


BEFORE, RECLAIM = "v6.1", "v6.18"
"""Presets of the two classes of kernels: DONTNEED keeps an emptied PTE page, or frees it."""
_RECLAIM_SINCE = (6, 14)


def preset_of(release: str) -> str:
    """The preset for a kernel that is known by its release only: ``6.18.44`` is ``v6.18``."""
    numbers = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return RECLAIM if tuple(numbers) >= _RECLAIM_SINCE else BEFORE


def same_class(one: str, other: str) -> bool:
    """Whether two presets are of one class."""
    reclaims = [resolve(preset).kernel.pt_reclaim is not PtReclaim.OFF for preset in (one, other)]
    return reclaims[0] == reclaims[1]


def spell(step: Step) -> str:
    """A step as text: ``adv 0 2M DONTNEED``."""
    return " ".join(size(item) if isinstance(item, int) else _word(item) for item in step)


def _word(item: Any) -> str:
    return f"({spell(item)})" if isinstance(item, tuple) else str(item)


def size(number: int) -> str:
    """Bytes with a suffix where that is exact: ``2M``, ``0``, ``36K``."""
    for suffix, unit in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def _texts(field: str, mine: Any, theirs: Any) -> tuple[str, str]:
    """Both values in words: of tables and VMAs only what differs."""
    if field == "tables":
        numbers = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
        shown = numbers[:SHOWN]
        rest = f" and {len(numbers) - len(shown)} more" if len(numbers) > len(shown) else ""
        return _tables(mine, shown) + rest, _tables(theirs, shown) + rest
    if field == "vmas":
        return _vmas(v for v in mine if v not in theirs), _vmas(v for v in theirs if v not in mine)
    return _plain(mine), _plain(theirs)


def _plain(value: int | tuple[int, ...] | str) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _tables(tables: dict[int, tuple[int, int]], numbers: Sequence[int]) -> str:
    counts = [(number, *tables.get(number, (0, 0))) for number in numbers]
    return ", ".join(f"{number}: {present}" + (f" and {marked} marked" if marked else "") for number, present, marked in counts)


def _vmas(vmas: Iterable[VmaSeen]) -> str:
    return "; ".join(map(_vma, vmas)) or "none such"


def _vma(vma: VmaSeen) -> str:
    words = [size(vma.start), f"+{size(vma.length)}", vma.perm, *vma.flags, *([f"{vma.huge_kb} kB huge"] if vma.huge_kb else [])]
    return " ".join(words)
