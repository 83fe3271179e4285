"""What a scenario's program may ask for: each operation's name, parameters, the C it mirrors and the steps it may make.

The list itself is ``OPERATIONS`` in kernel/table.py; this module has the words to declare one.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

import attrs


class Kind(enum.Enum):
    """What a parameter of an operation is; decides how its text is read and what the operation receives."""

    ADDRESS = "address"
    """``A``, ``A+0x3000``, ``A+i*2M``; received as an int."""
    RANGE = "range"
    """``A`` (all of the VMA) or ``A+0x1000 0x2000`` (address, length); received as ``(start, end)``."""
    ADVICE = "advice"
    """One of madvise's advices by name, without ``MADV_``; received as that str."""
    PROT = "prot"
    """A protection: rw, ro or none; received as that str."""
    VALUE = "value"
    """An integer or a quoted name, stored in memory; received as int or str."""
    REGISTER = "register"
    """The name behind ``->``; received as str ('' where left out)."""
    TASK = "task"
    """A process of the scenario, or ``kthread``, or ``idle``; received as str."""
    LABEL = "label"
    """``cpu1:R``: an operation of some CPU; received as that str."""
    NUMBER = "number"
    """A non-negative integer; received as int."""


@attrs.frozen
class Parameter:
    """One parameter, in the order of the text."""

    name: str
    kind: Kind
    lead: str = ""
    """Punctuation or word that stands before it in the text: ``=``, ``->``, ``times``; '' for none."""
    required: bool = True
    default: int | str = ""


@attrs.frozen(kw_only=True)
class Operation:
    """One verb of the scenario language."""

    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., Awaitable[object]]
    """The coroutine function: ``run(cpu, *arguments)`` with the arguments in the order of ``parameters``."""
    mirrors: str
    """The C function or the instruction it stands for."""
    source: str
    """File and release, mail or manual section."""
    locks: tuple[str, ...] = ()
    """Classes of locks it may take, outermost first."""
    steps: frozenset[type] = frozenset()
    """The step classes it may make; the engine refuses any other."""
    summary: str = ""
    """One line for ``ptactors list operations``."""

    def usage(self) -> str:
        """The verb with its parameters, as a line of a program."""
        words = [self.name]
        for p in self.parameters:
            word = f"{p.lead} {p.name.upper()}".strip()
            words.append(word if p.required else f"[{word}]")
        return " ".join(words)


ADVICES = (
    "DONTNEED",
    "DONTNEED_LOCKED",
    "HUGEPAGE",
    "NOHUGEPAGE",
    "POPULATE_READ",
    "POPULATE_WRITE",
    "COLLAPSE",
)
"""Advices that the model knows."""
PROTECTIONS = ("rw", "ro", "none")
"""Protections by name: PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE."""
