"""The explicit list of strategies that a campaign can use by name."""

from __future__ import annotations

from collections.abc import Callable

from ptactors.engine.strategy.base import Strategy
from ptactors.engine.strategy.random import Random
from ptactors.engine.strategy.run_length import RunLength

STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "run-length": RunLength,
    "random": Random,
}
"""Name -> class; each is made from a seed."""

DEFAULT_STRATEGY = "run-length"
