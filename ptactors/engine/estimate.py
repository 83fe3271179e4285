"""How large a breadth-first search will get, guessed from how its levels have grown so far.

The number of states at a distance from the first grows, peaks and falls; on a logarithmic scale it bends like a parabola. One
is fitted to the younger half of the levels and followed until it comes down to one state. It is a guess for a progress line:
early it is off by factors, and while growth does not slow down there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_LEAST = 12
"""Levels that are needed for a guess."""
_FARTHEST = 20
"""A parabola that goes on for so many times the levels seen says nothing."""


def total_states(levels: Sequence[int]) -> int | None:
    """About how many states there are in all; ``levels`` are those by distance, the last one perhaps not complete."""
    whole = levels[:-1]
    if len(whole) < _LEAST:
        return None
    first = len(whole) // 2
    a, b, c = _parabola([(d - len(whole), math.log(n)) for d, n in enumerate(whole) if d >= first and n])
    guess = float(sum(whole))
    for x in range(_FARTHEST * len(whole)):
        height = a + (b + c * x) * x
        if height <= 0 and b + 2 * c * x < 0:
            return max(round(guess), sum(levels))
        guess += math.exp(min(max(height, 0.0), 60.0))
    return None


def _parabola(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """a, b and c of a + bx + cx^2, by least squares."""
    s = [sum(x**k for x, _ in points) for k in range(5)]
    t = [sum(y * x**k for x, y in points) for k in range(3)]
    rows = [[float(s[i + j]) for j in range(3)] + [t[i]] for i in range(3)]
    for i in range(3):
        pivot = max(range(i, 3), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(3):
            if k != i:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [v - factor * w for v, w in zip(rows[k], rows[i], strict=True)]
    return rows[0][3] / rows[0][0], rows[1][3] / rows[1][1], rows[2][3] / rows[2][2]
