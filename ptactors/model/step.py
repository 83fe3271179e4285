"""A step: one visible action on the shared state, as a value.

``entry = await ReadEntry(table, index)``: awaiting a step publishes it; the engine asks its guard, lets a strategy choose among
everybody's published steps, applies the chosen one and sends its result back. Between two steps an actor's code is atomic and
private. A step's arguments are positional, immutable and free of anything that belongs to one run, so that equal steps are
equal objects (the metaclass keeps a bounded cache; equality never depends on it).

What a step declares:

``ready(state)``: its guard, for steps that can block; such a class also says which cells the guard reads in ``waits()``.
``apply(state)``: its effect, whole and at once; events are emitted here; the result is the least that the caller looks at.
``touches(state)``: its footprint in this state: cells read and cells written. A key that ends in ``ANY`` stands for all its
kin. The audit of the engine makes an undeclared access an error.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from ptactors.model.state import Key, State

R = TypeVar("R")
ANY = -1
"""Last item of a footprint key: every index of that object."""

_CACHE_LIMIT = 1 << 14


class _Interned(type):
    """Equal arguments, same object, as long as the cache lasts. Creation is the hot path of every actor."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls._cache: dict[tuple[Any, ...], Any] = {}

    def __call__(cls, *args: Any) -> Any:
        cache = cls._cache
        made = cache.get(args)
        if made is None:
            made = type.__call__(cls, *args)
            if len(cache) >= _CACHE_LIMIT:
                cache.clear()
            cache[args] = made
        return made


Footprint = tuple[tuple[Key, ...], tuple[Key, ...]]
"""(cells read, cells written)."""


@attrs.frozen(slots=True)
class Step(Generic[R], metaclass=_Interned):
    """Base of every step; R is the type of its result."""

    label: ClassVar[str] = ""
    """The name by which scenarios, schedules and logs call it; '' makes it the class name in snake case."""
    labels: ClassVar[tuple[str, ...]] = ()
    """All names that ``name`` can return, for a class that overrides it."""
    blocking: ClassVar[bool] = False
    """Whether ``ready`` can be false."""

    def __await__(self) -> Generator[Step[R], R, R]:
        """Publish this step; resumes with its result."""
        return (yield self)

    def ready(self, state: State) -> bool:
        """Whether the step can be made now."""
        return True

    def waits(self) -> tuple[Key, ...]:
        """The cells that ``ready`` reads."""
        return ()

    def apply(self, state: State) -> R:
        """Make the step."""
        raise NotImplementedError

    def touches(self, state: State) -> Footprint:
        """The cells that ``apply`` reads and writes in this state."""
        raise NotImplementedError

    def name(self) -> str:
        """What this step is called in schedules and pins; a class may tell by its arguments."""
        return type(self).label


class AnyOf:
    """Several steps offered at once: the strategy picks one that is ready; the result is ``(index, result)``."""

    __slots__ = ("steps",)

    def __init__(self, *steps: Step[Any]) -> None:
        self.steps = steps

    def __await__(self) -> Generator[AnyOf, tuple[int, Any], tuple[int, Any]]:
        """Publish all of them; resumes with the chosen index and that step's result."""
        return (yield self)
