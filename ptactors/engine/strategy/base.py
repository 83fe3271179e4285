"""What a strategy is, what it may look at, and what it may know of the runs before."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import attrs

from ptactors.engine.actor import Actor
from ptactors.errors import UsageError
from ptactors.model.state import Key, State
from ptactors.model.step import Footprint, Step

ALTERNATIVES = 64
"""A turn is stored as actor * ALTERNATIVES + alternative."""
Role = tuple[Any, ...]
"""What a cell is to runs in general: its key, or where keys are numbers of the run (frames), its kind."""
RoleOf = Callable[[Key, State], Role]


class Option(NamedTuple):
    """One way to go on: this actor makes this one of the steps it offers."""

    actor: Actor
    alternative: int
    step: Step[Any]


class Run(Protocol):
    """What a strategy may look at while it chooses: the baton, as it were from below."""

    state: State
    actors: tuple[Actor, ...]
    turns: array[int]
    """Every turn so far."""
    eager: dict[int, int]
    """Actor -> how many of its turns were no decision points."""


class Strategy(Protocol):
    """Chooses who moves next. Its only sources are its seed, its profile, and the run it is shown."""

    every_turn: bool
    """Whether it wants to see turns without a choice too."""

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """The index of the option to take for step number ``step``; options[0] is "go on" if the last actor can."""
        ...

    def finished(self, steps: int) -> None:
        """The run is over after so many steps. Raises ReplayDivergence if that is not what was asked for."""
        ...


@attrs.frozen(kw_only=True)
class Profile:
    """What a few fixed probe runs have taught about a cell; nothing that a strategy must have."""

    length: int = 16
    """Decisions of the longest probe run."""
    events: Mapping[int, int] = attrs.field(factory=dict)
    """Actor -> its decision points in a run, on average."""
    shares: Mapping[Role, Mapping[int, int]] = attrs.field(factory=dict)
    """Contested role -> actor -> how many of its steps in a run touch it, on average."""
    role_of: RoleOf = lambda key, state: key
    """The role of a cell."""


UNKNOWN = Profile()
"""For a strategy that is used without probes."""


class Sampler:
    """What strategies that only draw have in common. Made from a seed, parameters from its name, and a profile."""

    every_turn = False
    contested_only = True
    """Whether steps that no other actor can notice are made without asking it."""
    profiled = False
    """Whether it looks at its profile."""

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        if parameters:
            raise UsageError(f"it takes no parameter {parameters[0]!r}")

    def begin(self, run: Run) -> None:
        """The run that it will be asked about."""

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        raise NotImplementedError

    def finished(self, steps: int) -> None:
        """Any end is as good as another."""


MOST = 10_000
"""The greatest number that a strategy takes: more preemptions or delays than any run has contested steps."""


def number(parameters: Sequence[str], default: int, least: int, what: str) -> int:
    """The one parameter of a strategy that takes a number. Raises UsageError."""
    if not parameters:
        return default
    given = ",".join(parameters)
    if len(parameters) > 1 or not given.isdecimal() or len(given) > len(str(MOST)) or not least <= int(given) <= MOST:
        raise UsageError(f"its one parameter is the {what}, a number from {least} to {MOST}; not {given!r}")
    return int(parameters[0])


def footprint(step: Step[Any], state: State) -> Footprint:
    """Cells read and written in this state; a guard reads."""
    reads, writes = step.touches(state)
    return (*step.waits(), *reads) if step.blocking else reads, writes
