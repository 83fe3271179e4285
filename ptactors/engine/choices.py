"""Runs made from a list of choices, or along a list of turns that need not fit any more.

A *decision point* is a turn at which more than one option is open; a *choice* is the index of the option taken there, 0 for "go
on" (the actor that moved last, if it can, else the lowest that can). A list of choices that ends early goes on with 0s: that is
the canonical tail.

A *preemption* is a switch away from an actor that could have gone on. What moves while a CPU waits (interrupts, the IPI bus, RCU)
preempts nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ptactors.engine.schedule import Turn
from ptactors.engine.strategy.base import Option, Strategy
from ptactors.errors import ReplayDivergence

WINDOW = 400
"""How far ahead a step that is offered is looked for among the turns that are followed."""


class Decision(NamedTuple):
    """One decision point of a run."""

    step: int
    choice: int
    """The index of the option taken."""
    options: int
    """How many there were."""
    own: int
    """How many of them, the first ones, belong to the actor that moved last; 0: it cannot move, so nobody can be preempted."""
    first: str
    """The actor of option 0, which would have moved by itself."""

    @property
    def preempts(self) -> bool:
        """Whether the choice is a preemption."""
        return 0 < self.own <= self.choice


class Choices:
    """Follows a list of choices, then the canonical tail.

    A choice beyond the options raises ReplayDivergence, and so do choices that are left when the run ends; if lenient, the first
    counts as the last option and the others are ignored.
    """

    every_turn = True

    def __init__(self, choices: Sequence[int], *, lenient: bool = False) -> None:
        self._choices = choices
        self._lenient = lenient
        self._at = 0

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        if len(options) == 1:
            return 0
        index = self._choices[self._at] if self._at < len(self._choices) else 0
        self._at += 1
        if index < len(options):
            return index
        if self._lenient:
            return len(options) - 1
        able = ", ".join(f"{o.actor.name} ({o.step.name()})" for o in options)
        raise ReplayDivergence(step, f"option {index} was taken here; now there are only {len(options)}: {able}")

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""
        left = len(self._choices) - self._at
        if left > 0 and not self._lenient:
            raise ReplayDivergence(steps, f"the run has ended after {steps} steps, {left} recorded choices are left")


class Follow:
    """Makes turns in the order of a recording of which parts may not exist any more, as far as that is possible.

    Each turn is named by actor and step. The earliest recorded turn that can be made is made next; recorded turns of the same
    actor before it are dropped, as it will not make them any more; others are kept for later. A step that the recording does not
    know is made where its actor would have had its turn. Never raises.
    """

    every_turn = True

    def __init__(self, turns: Sequence[Turn], *, window: int = WINDOW) -> None:
        self._turns: list[Turn | None] = list(turns)
        self._first = 0
        self._window = window

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        turns = self._turns
        while self._first < len(turns) and turns[self._first] is None:
            self._first += 1
        end = min(len(turns), self._first + self._window)
        able: dict[str, int] = {option.actor.name: i for i, option in reversed(list(enumerate(options)))}
        names = {(o.actor.name, o.step.name()): i for i, o in reversed(list(enumerate(options)))}
        exact = {(o.actor.name, o.alternative, o.step.name()): i for i, o in enumerate(options)}
        for at in range(self._first, end):
            turn = turns[at]
            if turn is None or turn[0] not in able:
                continue
            index: int | None = exact.get(turn, names.get((turn[0], turn[2])))
            if index is not None:
                for before in range(self._first, at + 1):
                    passed = turns[before]
                    if passed is not None and passed[0] == turn[0]:
                        turns[before] = None
                return index
            if not any(t is not None and t[0] == turn[0] and (t[0], t[2]) in names for t in turns[at:end]):
                return able[turn[0]]
        return 0

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""


class Prefix:
    """Makes the first turns of a recording exactly, then hands over to another strategy."""

    every_turn = True

    def __init__(self, turns: Sequence[Turn], then: Strategy) -> None:
        self._turns = turns
        self._then = then

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        if step > len(self._turns):
            return self._then.choose(step, options) if self._then.every_turn or len(options) > 1 else 0
        name, alternative, _ = self._turns[step - 1]
        for i, option in enumerate(options):
            if option.actor.name == name and option.alternative == alternative:
                return i
        raise ReplayDivergence(step, f"{name} cannot move")

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""
        self._then.finished(steps)


class Noted:
    """Notes the decisions that another strategy makes."""

    every_turn = True

    def __init__(self, inner: Strategy) -> None:
        assert inner.every_turn, "a strategy that is not asked at every turn sees another run with a note taker around it"
        self._inner = inner
        self._last = -1
        self.decisions: list[Decision] = []

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        index = self._inner.choose(step, options)
        if len(options) > 1:
            own = 0
            while own < len(options) and options[own].actor.id == self._last:
                own += 1
            self.decisions.append(Decision(step, index, len(options), own, options[0].actor.name))
        self._last = options[index].actor.id
        return index

    def passed(self) -> None:
        """A turn was taken without asking."""
        self._last = -1

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""
        self._inner.finished(steps)

    @property
    def choices(self) -> list[int]:
        """All choices of the run."""
        return [decision.choice for decision in self.decisions]

    @property
    def preemptions(self) -> int:
        """How many of them preempted somebody."""
        return sum(decision.preempts for decision in self.decisions)


class CallbacksFirst:
    """Lets RCU move whenever it can, as a scenario with early callbacks wants it, and asks a note taker for the rest."""

    every_turn = True

    def __init__(self, inner: Noted) -> None:
        self._inner = inner

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        for i, option in enumerate(options):
            if option.actor.name.startswith("rcu"):
                self._inner.passed()
                return i
        return self._inner.choose(step, options)

    def finished(self, steps: int) -> None:
        """See :class:`Strategy`."""
        self._inner.finished(steps)
