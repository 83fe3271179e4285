"""The explicit list of strategies that a campaign can use by name, and how a name is read.

``pct:3`` is strategy ``pct`` with parameter 3. After the strategy's own parameter every name takes ``all`` (each step is a
decision point) or ``contested`` (only steps that another actor can notice are), where that is not its way anyway.
"""

from __future__ import annotations

from ptactors.engine.strategy.base import UNKNOWN, Profile, Sampler
from ptactors.engine.strategy.bounded import Delay, Preemption
from ptactors.engine.strategy.pct import FairPct, Pct
from ptactors.engine.strategy.portfolio import Portfolio
from ptactors.engine.strategy.pos import Pos
from ptactors.engine.strategy.random import Random
from ptactors.engine.strategy.run_length import RunLength
from ptactors.engine.strategy.urw import Surw, Urw
from ptactors.errors import UsageError

STRATEGIES: dict[str, type[Sampler]] = {
    "portfolio": Portfolio,
    "run-length": RunLength,
    "random": Random,
    "pct": Pct,
    "fair-pct": FairPct,
    "pos": Pos,
    "urw": Urw,
    "surw": Surw,
    "delay": Delay,
    "preemption": Preemption,
}
"""Name -> class; each is made from a seed."""

DEFAULT_STRATEGY = "portfolio"
_FILTERS = {"all": False, "contested": True}


def make_strategy(text: str, seed: int, profile: Profile = UNKNOWN) -> Sampler:
    """The strategy that a name with its parameters spells, for one run. Raises UsageError."""
    name, colon, rest = text.partition(":")
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {text!r}; known: {', '.join(STRATEGIES)}")
    parameters = rest.split(",") if colon else []
    filtered = _FILTERS[parameters.pop()] if parameters and parameters[-1] in _FILTERS else None
    try:
        made = STRATEGIES[name](seed, tuple(parameters), profile)
    except UsageError as error:
        raise UsageError(f"strategy {text!r}: {error}") from None
    if filtered is not None:
        made.contested_only = filtered
    return made
