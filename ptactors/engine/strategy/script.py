"""An order given by labels, as in the diagram of a mail."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ptactors.engine.strategy.base import Option
from ptactors.errors import ReplayDivergence

_LABEL = re.compile(r"(?P<actor>\w+):(?:(?P<op>[\w#]+)\.)?(?P<step>\w+)(?:#(?P<nth>\d+))?$")


class Script:
    """Makes the steps named by ``order`` happen in that order; everything else gives way to them.

    A label is ``actor:step``, ``actor:OPERATION.step`` or either with ``#n`` for the n-th such step of that operation (1 is the
    first). Until the next named step has been made its actor runs; while that actor is blocked the others run, lowest first, but
    none of them may make a step that is named later. When all named steps are made, the last actor goes on while it can.
    """

    every_turn = True

    def __init__(self, order: Sequence[str]) -> None:
        self._order = [self._parse(label) for label in order]
        self._texts = list(order)
        self._at = 0
        self._seen: dict[tuple[str, str, str], int] = {}

    @staticmethod
    def _parse(label: str) -> tuple[str, str | None, str, int]:
        match = _LABEL.match(label)
        if match is None:
            raise ReplayDivergence(0, f"cannot read the pinned label {label!r}")
        return match["actor"], match["op"], match["step"], int(match["nth"] or 1)

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        index = self._index(step, options)
        actor, _, made = options[index]
        for key in ((actor.name, actor.label, made.name()), (actor.name, "", made.name())):
            self._seen[key] = self._seen.get(key, 0) + 1
            if actor.label == "":
                break
        if self._at < len(self._order) and self._matches(self._order[self._at], options[index], 0):
            self._at += 1
        return index

    def _index(self, step: int, options: Sequence[Option]) -> int:
        if self._at == len(self._order):
            return 0
        target = self._order[self._at]
        fallback = -1
        for i, option in enumerate(options):
            if self._matches(target, option, 1):
                return i
            if any(self._matches(later, option, 1) for later in self._order[self._at + 1 :]):
                continue
            if option.actor.name == target[0]:
                return i
            if fallback < 0 or option.actor.id < options[fallback].actor.id:
                fallback = i
        if fallback < 0:
            raise ReplayDivergence(step, f"the pinned step {self._texts[self._at]} cannot be reached: {target[0]} cannot move")
        return fallback

    def _matches(self, label: tuple[str, str | None, str, int], option: Option, ahead: int) -> bool:
        actor, op, name, nth = label
        if option.actor.name != actor or option.step.name() != name or (op is not None and option.actor.label != op):
            return False
        return self._seen.get((actor, op or "", name), 0) + ahead == nth

    def finished(self, steps: int) -> None:
        """Every named step must have been made."""
        if self._at < len(self._texts):
            raise ReplayDivergence(steps, f"the run ended before the pinned step {self._texts[self._at]}")
