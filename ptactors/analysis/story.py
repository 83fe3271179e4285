"""All that happened to one thing: an address, a frame, a lock, a CPU, a gather, a grace period; or why a step came to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ptactors.analysis.judge import judge
from ptactors.analysis.subject import Address, Cpu, Frame, Gather, GracePeriod, Lock, Subject
from ptactors.errors import UsageError
from ptactors.log.codec import FieldFault, decode
from ptactors.log.read import SavedLog
from ptactors.log.symbol import Symbols
from ptactors.model.event import VmaInit

Words = Callable[[Any, Symbols], str]
"""An event in a few words; the report room knows them."""
_JUDGED = 100_000
"""Up to so many events the oracles run, to mark the steps of hazards."""
_ENTRIES = ("sys_enter", "page_fault_user", "csd_function_entry")
_RETURNS = ("sys_exit", "page_fault_done", "csd_function_exit")
"""Events with which a CPU enters and leaves the kernel; of one actor they are nested."""
_FORMS = "A+0x3000, 0x7f0000203000, frame:0x100001, table:0x100004, pte:0x100004, mmap:P, cpu1, gather:1, gp:1 or step:61"


@attrs.frozen(kw_only=True)
class Moment:
    """One event of the story."""

    step: int
    actor: str
    ev: str
    text: str
    cause: int | None
    """The step that made it possible; world/recording.py says which that is."""
    cause_text: str
    """What that step was; '' where it stands in the story itself, or is not known."""
    hazards: tuple[str, ...]
    """Hazards that the oracles saw at this step; only at its last event of the story."""


@attrs.frozen(kw_only=True)
class Story:
    """What a log tells of one thing."""

    about: str
    moments: tuple[Moment, ...]


def tell(log: SavedLog, what: str, words: Words) -> Story:
    """The story of ``what``. Raises UsageError where the log knows no such thing, with the forms there are."""
    index = _index(log)
    chain = re.fullmatch(r"step[: ]\s*(\d+)", what.strip())
    if chain:
        steps = _chain(index, int(chain[1]))
        chosen = [fields for fields in log.raw() if fields["step"] in steps]
        about = f"step {chain[1]} and the chain of its causes"
    else:
        subject = subject_of(what, index)
        chosen = [fields for fields in log.raw() if subject.concerns(fields)]
        about = subject.about
    if not chosen:
        raise UsageError(f"{log.path}: nothing happened to {what!r}; a story is told of {_FORMS}")
    return Story(about=about, moments=_moments(log, chosen, index, words))


@attrs.define
class Index:
    """What one pass over a log learns of its names."""

    symbols: Symbols = attrs.field(factory=Symbols)
    areas: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    """VMA -> its bounds; the first process's where several have one of that name."""
    locks: set[str] = attrs.field(factory=set)
    actors: set[str] = attrs.field(factory=set)
    causes: dict[int, int] = attrs.field(factory=dict)
    actor_of: dict[int, str] = attrs.field(factory=dict)
    """Step -> who made it."""
    inside: dict[int, tuple[int, ...]] = attrs.field(factory=dict)
    """Step -> the steps in which the calls, faults and interrupts it is in the middle of began, outermost first."""
    events: int = 0


def _index(log: SavedLog) -> Index:
    index = Index()
    within: dict[str, tuple[int, ...]] = {}
    for fields in log.raw():
        index.events += 1
        _place(index, within, str(fields.get("actor")), fields)
        area = _area(fields)
        if area is not None:
            index.symbols.learn(area)
            index.areas.setdefault(area.vma, (area.start, area.end))
        if "lock" in fields:
            index.locks.add(str(fields["lock"]))
        if type(fields.get("cause")) is int:
            index.causes[fields["step"]] = fields["cause"]
    return index


def subject_of(what: str, index: Index) -> Subject:
    """What a word on the command line means in this log. Raises UsageError."""
    text = re.sub(r"\s+", ":", what.strip())
    kind, _, name = text.partition(":")
    if text in index.locks:
        return Lock(text)
    if kind == "lock" and name:
        return Lock(name)
    if kind in ("frame", "pfn", "table") and _hex(name) is not None:
        return Frame(_hex(name) or 0)
    if kind in ("gather", "gp", "grace_period") and name.isdigit():
        return Gather(int(name)) if kind == "gather" else GracePeriod(int(name))
    cpu = re.fullmatch(r"cpu:?(\d+)", text)
    if cpu:
        return Cpu(f"cpu{cpu[1]}", int(cpu[1]))
    if text in index.actors:
        return Cpu(text, None)
    base, plus, offset = text.partition("+")
    if base in index.areas and (not plus or _hex(offset) is not None):
        start, end = index.areas[base]
        address = start + (_hex(offset) or 0)
        if not start <= address < end:
            raise UsageError(f"{what}: {base} is only {end - start:#x} bytes long")
        return Address(address, text)
    number = _hex(text) if re.match(r"(0[xX])?[0-9a-fA-F]{4,}$", text) else None
    if number is not None:
        inside = any(start <= number < end for start, end in index.areas.values())
        return Address(number, index.symbols.name(number)) if inside else Frame(number)
    known = f"; VMAs of this log: {', '.join(index.areas) or 'none'}"
    raise UsageError(f"{what!r} is nothing that a story is told of: {_FORMS}{known}")


def _hex(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _chain(index: Index, step: int) -> dict[int, None]:
    """The step, what it hangs on, what that hangs on, and so on; of each also where the fault or the call began that it is in.

    Code is sequential: where a step itself hangs on nobody, the nearest step before it in the same fault or call stands for it.
    """
    links: dict[int, None] = {}
    told: dict[int, None] = {}
    while step and step not in links:
        links[step] = None
        inside = index.inside.get(step, ())
        told.update(dict.fromkeys((step, *inside[-1:])))
        cause = index.causes.get(step, 0)
        if not cause and inside:
            before = (s for s in range(step - 1, inside[-1] - 1, -1) if index.actor_of.get(s) == index.actor_of[step])
            cause = next((s for s in before if s in index.causes), 0)
        step = cause
    return told


def _moments(log: SavedLog, chosen: list[dict[str, Any]], index: Index, words: Words) -> tuple[Moment, ...]:
    own = {fields["step"] for fields in chosen}
    wanted = {index.causes[step] for step in own if step in index.causes} - own
    causes: dict[int, str] = {}
    for fields in log.raw() if wanted else ():
        step = fields["step"]
        if step in wanted and len(causes.get(step, "")) < 60:
            text = say(fields, index.symbols, words)
            causes[step] = f"{causes[step]}; {text}" if step in causes else f"{fields.get('actor')}: {text}"
    found: dict[int, list[str]] = {}
    if index.events <= _JUDGED:
        for finding, _ in judge(log):
            found.setdefault(finding.step, []).append(finding.hazard)
    last = {fields["step"]: i for i, fields in enumerate(chosen)}
    return tuple(
        Moment(
            step=fields["step"], actor=str(fields.get("actor")), ev=fields["ev"], text=say(fields, index.symbols, words),
            cause=index.causes.get(fields["step"]), cause_text=causes.get(index.causes.get(fields["step"], -1), ""),
            hazards=tuple(found.get(fields["step"], ())) if last[fields["step"]] == i else (),
        )
        for i, fields in enumerate(chosen)
    )  # fmt: skip


def symbols_of(log: SavedLog) -> Symbols:
    """The VMAs that the set-up of a log makes."""
    symbols = Symbols()
    for fields in log.raw():
        if fields["step"] > 0:
            break
        area = _area(fields)
        if area is not None:
            symbols.learn(area)
    return symbols


def _place(index: Index, within: dict[str, tuple[int, ...]], actor: str, fields: Mapping[str, Any]) -> None:
    """Note whose step the line is of, and what that actor was in the middle of."""
    index.actors.add(actor)
    step, ev = fields["step"], fields["ev"]
    index.actor_of.setdefault(step, actor)
    doing = within.get(actor, ())
    if ev in _ENTRIES:
        doing = within[actor] = (*doing, step)
    index.inside.setdefault(step, doing)
    if ev in _RETURNS and doing:
        within[actor] = doing[:-1]


def _area(fields: Mapping[str, Any]) -> VmaInit | None:
    """The VMA of a line that makes one, if this version understands it."""
    try:
        event = decode(fields) if fields["ev"] == "vma_init" else None
    except FieldFault:
        return None
    return event if isinstance(event, VmaInit) else None


def say(fields: Mapping[str, Any], symbols: Symbols, words: Words) -> str:
    """In words; of an event of a later version only the name."""
    try:
        return words(decode(fields), symbols)
    except (FieldFault, AttributeError, TypeError):  # a later version may give a field another type
        return str(fields["ev"])
