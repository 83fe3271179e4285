"""An actor: something that can move. A coroutine whose only suspension is a step, and what the engine knows of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import attrs

from ptactors.errors import ModelError
from ptactors.model.state import Key
from ptactors.model.step import AnyOf, Step

Offered = Step[Any] | AnyOf


@attrs.define(eq=False, kw_only=True)
class Actor:
    """One actor of one run."""

    id: int
    """Position in the run's list of actors; order of choice everywhere."""
    name: str
    """How schedules and pins call it: ``cpu0``, ``irq0``, ``hw0``, ``rcu``, ``rcuc0``, ``bus``."""
    coroutine: Coroutine[Offered, Any, None]
    """What it does."""
    gate: Key | None = None
    """A cell that stops this actor while it is true: a CPU's program does not move while its interrupt handler runs."""
    optional: bool = False
    """Whether the run may end without this actor's next step: hardware that may speculate but need not."""
    program: bool = False
    """Whether the run is incomplete until this actor is done."""
    label: str = ""
    """The label of the operation it is in, for pins and reports; kept by the operation's first and last step."""
    allowed: frozenset[type] | None = None
    """The step classes its operation declared; None: any."""
    options: tuple[Step[Any], ...] = ()
    """The steps it offers."""
    enabled: tuple[int, ...] = ()
    """Which of them are ready."""
    waiting: tuple[Key, ...] = ()
    """The cells that the guards of its options read; it stands in their wait lists."""
    chosen: int = 0
    """Which of them was granted."""
    several: bool = False
    """Whether it offered a choice, and so wants to be told which was granted."""
    done: bool = False
    """Whether its coroutine has returned."""

    def next_step(self) -> Step[Any]:
        """The step that was granted."""
        return self.options[self.chosen]

    def offer(self, offered: Offered) -> None:
        """Take note of what the coroutine awaits."""
        allowed = self.allowed
        if offered.__class__ is AnyOf:
            self.options, self.several = offered.steps, True
            if allowed is not None:
                for step in self.options:
                    self._require(type(step), allowed)
            return
        self.options, self.several = (offered,), False  # type: ignore[assignment]
        if allowed is not None and offered.__class__ not in allowed:
            self._require(type(offered), allowed)

    def _require(self, kind: type, allowed: frozenset[type]) -> None:
        """An operation makes only the steps that it declared."""
        if kind not in allowed:
            raise ModelError(f"{self.name}: operation {self.label} makes the undeclared step {kind.__name__}")

    def where(self) -> str:
        """The stack of coroutine functions it is in, innermost first: ``spin_lock <- pmd_install <- ...``."""
        names: list[str] = []
        inner: Any = self.coroutine
        while inner is not None and hasattr(inner, "cr_code"):
            names.append(inner.cr_code.co_name)
            inner = inner.cr_await
        return " <- ".join(reversed(names))
