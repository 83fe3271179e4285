"""What a step may look like that is made on a live kernel: checked before a process is started for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ptactors.errors import PtactorsError, UsageError
from ptactors.host.abi import ADVICE, ARENA_SIZE, KINDS, PROTECTION
from ptactors.host.sequence import Step


class CannotRun(PtactorsError):
    """The machine, its kernel or its limits do not allow what is asked; says why in a sentence."""


def _number(value: Any) -> None:
    if not isinstance(value, int) or not 0 <= value <= ARENA_SIZE:
        raise UsageError(f"{value!r} is no number of bytes within the arena of {ARENA_SIZE >> 30} GiB")


def _stride(value: Any) -> None:
    _number(value)
    if not value:
        raise UsageError("a stride of 0 never ends")


def _byte(value: Any) -> None:
    if not isinstance(value, int) or not 0 <= value < 256:
        raise UsageError(f"{value!r} is no byte")


def _name(value: Any) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is no name of a file")


def _protection(value: Any) -> None:
    if not isinstance(value, str) or value not in PROTECTION:
        raise UsageError(f"{value!r} is no protection; known: {', '.join(PROTECTION)}")


def _advice(value: Any) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is no advice")
    if value not in ADVICE:
        raise CannotRun(f"the advice {value} is not given to a live kernel")


def _kind(value: Any) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is no kind of a mapping")
    if value not in KINDS:
        raise CannotRun(f"a mapping of kind {value!r} is not made on a live kernel")


_RANGE = (_number, _number)
FORMS: dict[str, tuple[tuple[Callable[[Any], None], ...], int]] = {
    "map": ((*_RANGE, _kind, _protection, _name, _number), 2),
    "unmap": (_RANGE, 2),
    "prot": ((*_RANGE, _protection), 3),
    "adv": ((*_RANGE, _advice), 3),
    "padv": ((*_RANGE, _advice), 3),
    "lock": (_RANGE, 2),
    "unlock": (_RANGE, 2),
    "move": ((*_RANGE, _number), 3),
    "move_dontunmap": ((*_RANGE, _number), 3),
    "w": ((*_RANGE, _stride, _byte), 1),
    "r": ((*_RANGE, _stride), 1),
    "fallocate_punch": ((_name, *_RANGE), 3),
    "truncate": ((_name, _number), 2),
}
"""Operation -> what its arguments are, and how many of them it cannot do without."""

REPEATED = ("w", "adv", "padv", "unmap", "prot", "lock", "unlock", "map")
"""Operations that a ``repeat`` may hold."""


def check(steps: Sequence[Step]) -> None:
    """Raises UsageError for a malformed operation, and if there is none CannotRun for one that is not made live."""
    files: set[str] = set()
    refused: CannotRun | None = None
    for step in steps:
        try:
            _check(step, files, nested=False)
        except CannotRun as error:
            refused = refused or error
        except UsageError as error:
            raise UsageError(f"step {list(step)}: {error}") from None
    if refused is not None:
        raise refused


def _check(step: Step, files: set[str], nested: bool) -> None:
    if not step or (step[0] in ("t2", "fork") and len(step) < 2):
        raise UsageError("an operation is missing")
    name, *arguments = step
    if not isinstance(name, str):
        raise UsageError(f"{name!r} is no name of an operation")
    if name == "t2" and not nested:
        _check(tuple(arguments), files, nested=True)
    elif name == "repeat":
        _check_repeat(arguments, files)
    elif name == "fork" and not nested:
        if not isinstance(arguments[0], tuple | list) or not all(isinstance(each, tuple | list) for each in arguments[0]):
            raise UsageError("a fork needs the list of what the child does")
        for each in arguments[0]:
            _check(each, files, nested=True)
    elif name not in FORMS and (name != "reap" or nested):
        where = "by a child or the second thread" if nested and name in ("t2", "fork", "reap") else "on a live kernel"
        raise CannotRun(f"the operation {name!r} is not made {where}")
    elif name in FORMS:
        _check_arguments(str(name), arguments, files)


def _check_repeat(arguments: list[Any], files: set[str]) -> None:
    if len(arguments) < 3 or not arguments[0]:
        raise UsageError("a repeat needs a count, a stride and at least one operation")
    count, stride, *steps = arguments
    _number(count)
    _stride(stride)
    for step in steps:
        if not isinstance(step, tuple | list) or not step or step[0] not in REPEATED:
            raise UsageError(f"only {', '.join(REPEATED)} are repeated")
        _check(tuple(step), files, nested=True)
        _check((step[0], step[1] + (count - 1) * stride, *step[2:]), files, nested=True)


def _check_arguments(name: str, arguments: list[Any], files: set[str]) -> None:
    kinds, least = FORMS[name]
    if not least <= len(arguments) <= len(kinds):
        wanted = f"{least}" if least == len(kinds) else f"{least} to {len(kinds)}"
        raise UsageError(f"{name} takes {wanted} arguments, not {len(arguments)}")
    for kind, argument in zip(kinds, arguments, strict=False):
        kind(argument)
    if kinds[0] is _number and sum(arguments[:2]) > ARENA_SIZE:
        raise UsageError(f"it ends beyond the arena of {ARENA_SIZE >> 30} GiB")
    if name.startswith("move") and arguments[1] + arguments[2] > ARENA_SIZE:
        raise UsageError(f"it moves to beyond the arena of {ARENA_SIZE >> 30} GiB")
    if name == "map" and len(arguments) > 4:
        files.add(arguments[4])
    if kinds[0] is _name and arguments[0] not in files:
        raise UsageError(f"no mapping before it is of a file {arguments[0]!r}")
