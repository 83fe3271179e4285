"""A run chosen by hand: the next actor is asked for wherever several can move; undo runs it again without the last answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import attrs

from ptactors.engine import host_direct
from ptactors.engine.strategy.base import ALTERNATIVES, Option
from ptactors.log.symbol import Symbols
from ptactors.oracle.table import Oracles
from ptactors.report.describe import describe
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world.machine import Machine

HELP = """\
  N or NAME  this option, or the actor of that name     Enter  option 0, which is to go on
  r N        N steps by themselves (r: to the end)      u      undo the last answer
  q          stop here                                  ?      this help"""


class _Again(Exception):
    """The run is to be made from the start."""


class _Quit(Exception):
    """Enough."""


@attrs.define
class _Answer:
    choice: int
    asked: bool
    """Whether a person gave it; undo goes back to the last of those."""


class Stepper:
    """One session. ``ask(prompt)`` gives a line or None at the end of input; ``show`` takes lines of text."""

    every_turn = True

    def __init__(
        self, scenario: Scenario, cell: Cell, seed: int, ask: Callable[[str], str | None], show: Callable[[str], None]
    ) -> None:
        self._scenario, self._cell, self._seed = scenario, cell, seed
        self._ask, self._show = ask, show
        self._answers: list[_Answer] = []
        self._alone = 0
        """Steps that are still to be made without asking."""

    def run(self) -> list[int]:
        """Until the run is over or the user has enough: the choices that were made."""
        while True:
            try:
                self._once()
            except _Again:
                continue
            except _Quit:
                break
            if not self._after_the_end():
                break
        return [answer.choice for answer in self._answers]

    def _once(self) -> None:
        self._decisions = self._alone = 0
        self._records = self._found = 0
        self._next = 1
        """The first step that was not shown."""
        explore = self._scenario.explore
        machine = self._machine = Machine(
            self._scenario, self._cell, explore.strategy, self._seed, Oracles(), record=True, by=self
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a run that is given up leaves coroutines that never began
            host_direct.run(machine.baton)
        ending = machine.finish()
        self._news(len(machine.baton.turns))
        reason = f": {ending.reason}" if ending.reason else ""
        self._show(f"The run is over after {machine.state.step} steps: {ending.status}{reason}")
        for name, value in ending.final:
            self._show(f"  {name} = {value}")

    def _after_the_end(self) -> bool:
        """Whether the user takes something back."""
        line = self._ask("the end> ")
        return line is not None and line.strip() == "u" and self._undo()

    # -- the strategy -------------------------------------------------------------------------------------------------

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See Strategy."""
        if self._alone > 0:
            self._alone -= 1
            if len(options) > 1:
                self._note(0, False)
            return 0
        if len(options) == 1:
            return 0
        if self._decisions < len(self._answers):
            self._decisions += 1
            self._next = step
            return self._answers[self._decisions - 1].choice
        self._news(step - 1)
        self._offer(step, options)
        while True:
            line = self._ask(f"step {step}> ")
            if line is None or line.strip() in ("q", "quit", "exit"):
                raise _Quit
            choice = self._command(line.strip(), options)
            if choice is not None:
                return choice

    def finished(self, steps: int) -> None:
        """See Strategy."""

    def _note(self, choice: int, asked: bool) -> None:
        self._answers.append(_Answer(choice, asked))
        self._decisions += 1

    def _command(self, text: str, options: Sequence[Option]) -> int | None:
        """The choice that the line means, or None if another line is wanted. Raises _Again after an undo."""
        word, _, rest = text.partition(" ")
        if word in ("?", "h", "help"):
            self._show(HELP)
        elif word == "u":
            if self._undo():
                raise _Again
            self._show("  there is nothing to undo")
        elif word == "r" and (not rest or rest.strip().isdecimal()):
            self._alone = int(rest) if rest else self._scenario.max_steps
            if self._alone:
                self._alone -= 1
                self._note(0, True)
                return 0
        else:
            found = _option(text, options)
            if found is not None:
                self._note(found, True)
                return found
            self._show(f"  no option {text!r}; a number from 0 to {len(options) - 1}, a name, r N, u, q or ?")
        return None

    def _undo(self) -> bool:
        while self._answers:
            if self._answers.pop().asked:
                return True
        return False

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _offer(self, step: int, options: Sequence[Option]) -> None:
        for i, option in enumerate(options):
            stack = option.actor.where().split(" <- ")[0]
            operation = f"  {option.actor.label}" if option.actor.label else ""
            name = _name(option)
            self._show(f"  {i} {name:<8} {option.step.name():<20} {stack}{operation}")

    def _news(self, upto: int) -> None:
        """Every step that was not shown yet, with its events; after an undo only the last one is shown again."""
        machine, recording = self._machine, self._machine.recording
        assert recording is not None
        symbols = Symbols.of(recording.records)
        told: dict[int, list[str]] = {}
        for step, _, event in recording.records[self._records :]:
            told.setdefault(step, []).append(describe(event, symbols))
        self._records = len(recording.records)
        for step in range(self._next, upto + 1):
            actor = machine.actors[machine.baton.turns[step - 1] // ALTERNATIVES].name
            events = "; ".join(told.get(step, []))
            self._show(f"{step:>5} {actor:<6} {recording.labels[step - 1]}{': ' + events if events else ''}")
        self._next = upto + 1
        for finding in machine.oracles.findings[self._found :]:
            self._show(f"HAZARD {finding.hazard}: {finding.what} (step {finding.step})")
        self._found = len(machine.oracles.findings)


def _name(option: Option) -> str:
    return option.actor.name + (f"/{option.alternative}" if option.alternative else "")


def _option(text: str, options: Sequence[Option]) -> int | None:
    """The option that a number or a name means; nothing means 0."""
    if not text:
        return 0
    if text.isdecimal():
        return int(text) if int(text) < len(options) else None
    return next((i for i, option in enumerate(options) if text in (_name(option), option.actor.name)), None)
