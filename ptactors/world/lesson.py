"""What probe runs have taught about each cell of a scenario, learnt when a strategy first wants it and kept by the process."""

from __future__ import annotations

from collections.abc import Callable

from ptactors.config import Config
from ptactors.engine.probe import Lesson, Start, learn
from ptactors.engine.strategy.base import Role
from ptactors.hardware.memory import frame
from ptactors.model.state import Key, State
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario

_KEPT = 256
_LESSONS: dict[tuple[str, Config], Lesson] = {}


def role_of(key: Key, state: State) -> Role:
    """Frames are numbered as they come, so what a cell of a frame is to other runs is what kind of frame it is."""
    family = key[0]
    if family in ("frame", "entry"):
        return family, state.read(frame(key[1])).kind
    if family in ("data", "deposits"):
        return (family,)
    if family == "lock":
        return family, key[1]
    return key


def family_of(key: Key, state: State) -> Role:
    """The role where every seed has programs of its own, so that which CPU or VMA it is says nothing either."""
    return role_of(key, state) if key[0] in ("frame", "entry") else (key[0],)


def lesson(scenario: Scenario, cell: Cell, start: Start) -> Lesson:
    """The lesson of this cell; ``start`` makes its probe runs."""
    known = scenario.digest, cell.config
    if known not in _LESSONS:
        if len(_LESSONS) >= _KEPT:
            _LESSONS.clear()
        role: Callable[[Key, State], Role] = role_of if scenario.stress is None else family_of
        _LESSONS[known] = learn(start, role)
    return _LESSONS[known]
