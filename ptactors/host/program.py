"""A sequence of steps as a scenario of the model, and what the model lacks for it if it cannot be one."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ptactors.errors import UsageError
from ptactors.host.sequence import ARENA, Step
from ptactors.kernel import operation as declared
from ptactors.kernel.table import OPERATIONS
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE, align_up

_SYSTEM_CALLS = {
    "map": "mmap",
    "unmap": "munmap",
    "prot": "mprotect",
    "adv": "madvise",
    "padv": "process_madvise",
    "lock": "mlock",
    "unlock": "munlock",
}
"""Steps that are one operation each; ``w`` and ``r`` are as many as they make accesses."""
_ACCESSES = {"w": "write", "r": "read"}
_MAX_STEPS = 1 << 30


@attrs.frozen(kw_only=True)
class Translation:
    """A scenario, and which of its operations are which step."""

    text: str
    """The scenario file."""
    steps: tuple[Step, ...]
    """What was translated."""
    accesses: tuple[int, ...]
    """Step -> how many operations it is."""

    def number(self, label: str) -> int | None:
        """The step that the operation with this label belongs to; None for one that only keeps the order."""
        number = label[1:].partition("x")[0]
        return int(number) if label[0] in "sz" and number.isdigit() else None


def split(step: Step) -> tuple[int, Step]:
    """The thread (0 or 1) that makes a step, and the step without ``t2``."""
    return (1, step[1:]) if step[0] == "t2" else (0, step)


def needs(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """What the model has no operation for, each once: ``move``, ``madvise FREE``, ``map memfd_shared``. Empty: nothing."""
    return tuple(dict.fromkeys(lacking for step in steps for lacking in _lacking(split(step)[1])))


def _lacking(step: Step) -> Iterator[str]:
    verb = str(step[0])
    if verb == "repeat":
        for each in step[3:]:
            yield from _lacking(each)
            if each[0] == "r" or access_count(each) > 1:
                yield f"repeat of a {each[0]} that is more than one operation"
        return
    name = _SYSTEM_CALLS.get(verb) or _ACCESSES.get(verb)
    if name is None or name not in OPERATIONS:
        yield verb
    elif verb in ("adv", "padv") and step[3] not in declared.ADVICES:
        yield f"{name} {step[3]}"
    elif verb == "map" and step[3:4] not in ((), ("anon",)):
        yield f"map {step[3]}"


def _span(step: Step) -> tuple[int, int]:
    """Offset and length in the arena."""
    return int(step[1]), int(step[2]) if len(step) > 2 else PAGE_SIZE


def _stride(step: Step) -> int:
    return int(step[3]) if len(step) > 3 else PAGE_SIZE


def _end(step: Step) -> int:
    """The first offset behind all that the step is about."""
    if step[0] == "repeat":
        return max(_end(each) for each in step[3:]) + (int(step[1]) - 1) * int(step[2])
    return sum(_span(step))


def access_count(step: Step) -> int:
    """How many operations a step is: accesses of a ``w`` or ``r``, turns of a ``repeat``, 1 for others."""
    if step[0] == "repeat":
        return int(step[1]) * len(step[3:])
    if step[0] not in _ACCESSES:
        return 1
    return -(-_span(step)[1] // _stride(step))


def _repeat(number: int, step: Step) -> list[str]:
    """All turns but the last as a loop, then the last."""
    count, stride, steps = int(step[1]), int(step[2]), step[3:]
    loop = [f"s{number}x{i}: {_operation(each, f'+i*{stride:#x}')}" for i, each in enumerate(steps)]
    shifted = [(each[0], int(each[1]) + (count - 1) * stride, *each[2:]) for each in steps]
    last = [f"s{number}x{len(steps) + i}: {_operation(each)}" for i, each in enumerate(shifted[:-1])]
    return [f"repeat {count - 1} as i {{", *loop, "}", *last, f"z{number}: {_operation(shifted[-1])}"]


def _operation(step: Step, more: str = "") -> str:
    """A step that is one operation, as a line without a label."""
    start, length = _span(step)
    verb = str(step[0])
    where = f"arena+{start:#x}{more}"
    if verb == "w":
        return f"write {where} = {step[4] if len(step) > 4 else 1}"
    words = [f"{_SYSTEM_CALLS[verb]} {where} {length:#x}"]
    if verb == "map":
        words.append(str(step[4]) if len(step) > 4 else "rw")
    elif verb in ("prot", "adv", "padv"):
        words.append(str(step[3]))
    return " ".join(words)


def _lines(number: int, step: Step) -> list[str]:
    """The program lines of one step; the last operation has a label of its own, since the other thread may wait for it."""
    verb = str(step[0])
    if verb == "repeat":
        return _repeat(number, step)
    start = _span(step)[0]
    where = f"arena+{start:#x}"
    if verb in _ACCESSES:
        count = access_count(step)
        rest = f"-> r{number}" if verb == "r" else f"= {step[4] if len(step) > 4 else 1}"
        last = f"z{number}: {_ACCESSES[verb]} arena+{start + (count - 1) * _stride(step):#x} {rest}"
        loop = [f"repeat {count - 1} as i {{", f"s{number}: {_ACCESSES[verb]} {where}+i*{_stride(step):#x} {rest}", "}"]
        return [*(loop if count > 1 else ()), last]
    return [f"z{number}: {_operation(step)}"]


def translate(steps: tuple[Step, ...]) -> Translation:
    """The scenario that makes ``steps`` one after the other. Raises UsageError for what the model has no operation for."""
    lacking = needs(steps)
    if lacking:
        raise UsageError(f"the model has no {', no '.join(lacking)}")
    programs: tuple[list[str], list[str]] = ([], [])
    before = 0
    for number, given in enumerate(steps):
        thread, step = split(given)
        if thread != before:
            programs[thread].append(f"wait cpu{before}:z{number - 1}")
        programs[thread].extend(_lines(number, step))
        before = thread
    size = align_up(max(_end(split(step)[1]) for step in steps), PMD_SIZE)
    text = _scenario(size, programs)
    return Translation(text=text, steps=steps, accesses=tuple(access_count(split(step)[1]) for step in steps))


def _scenario(size: int, programs: tuple[list[str], list[str]]) -> str:
    lines = [
        "ptactors = 1",
        'name = "sequence"',
        'why = "operations one after the other, for comparison with a real kernel"',
        f"machine = {{ cpus = 2, max_steps = {_MAX_STEPS} }}",
        "[vma.arena]",
        f"at = {ARENA:#x}",
        f"size = {size}",
        "mapped = false",
    ]
    for cpu, program in enumerate(programs):
        if program:
            lines += [f"[cpu.{cpu}]", "do = '''", *program, "'''"]
    return "\n".join(lines) + "\n"
