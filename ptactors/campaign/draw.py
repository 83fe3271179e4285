"""Draws from lists, by integer arithmetic, so that every machine agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ptactors.model.rng import SplitMix64

T = TypeVar("T")


def pick(rng: SplitMix64, items: Sequence[T]) -> T:
    """One of them, each as likely as the others."""
    return items[rng.below(len(items))]


def weighted(rng: SplitMix64, items: Sequence[tuple[T, int]]) -> T:
    """One of them by weight."""
    at = rng.below(sum(weight for _, weight in items))
    for item, weight in items:
        if at < weight:
            return item
        at -= weight
    raise AssertionError("weights do not add up")
