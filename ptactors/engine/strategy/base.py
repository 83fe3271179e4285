"""What a strategy is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ptactors.engine.actor import Actor
from ptactors.model.step import Step


class Option(NamedTuple):
    """One way to go on: this actor makes this one of the steps it offers."""

    actor: Actor
    alternative: int
    step: Step[Any]


class Strategy(Protocol):
    """Chooses who moves next. Its only sources are its seed and the options it is shown."""

    every_turn: bool
    """Whether it wants to see turns without a choice too."""

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """The index of the option to take for step number ``step``; options[0] is "go on" if the last actor can."""
        ...

    def finished(self, steps: int) -> None:
        """The run is over after so many steps. Raises ReplayDivergence if that is not what was asked for."""
        ...


class Sampler:
    """What strategies that only draw have in common."""

    every_turn = False

    def finished(self, steps: int) -> None:
        """Any end is as good as another."""
