"""Numbers as lines of an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 560, 190, 48, 12, 30
_POINTS = 400
"""Points of a line that are drawn."""

Points = Sequence[tuple[int, int]]


@attrs.frozen(kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    path: str
    """The ``d`` of an SVG path."""
    last: int
    number: int
    """Its place among the lines, from 0, which decides its look."""


@attrs.frozen(kw_only=True)
class Chart:
    """A chart with its axes from 0 to the greatest value."""

    title: str
    across: str
    """What the horizontal axis counts."""
    most_x: int
    most_y: int
    lines: tuple[Line, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    base: int = HEIGHT - BOTTOM


def chart(title: str, across: str, series: Mapping[str, Points]) -> Chart | None:
    """The chart of these lines, drawn as steps; None if there is nothing to draw."""
    points = [point for each in series.values() for point in each]
    if not points:
        return None
    most_x, most_y = max(1, *(x for x, _ in points)), max(1, *(y for _, y in points))
    lines = tuple(
        Line(name=name, path=_path(each, most_x, most_y), last=each[-1][1], number=i)
        for i, (name, each) in enumerate(series.items())
        if each
    )
    return Chart(title=title, across=across, most_x=most_x, most_y=most_y, lines=lines)


def _path(points: Points, most_x: int, most_y: int) -> str:
    every = -(-len(points) // _POINTS)
    kept = [point for i, point in enumerate(points) if i % every == 0 or i == len(points) - 1]
    wide, high = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM
    words: list[str] = []
    for x, y in kept:
        px, py = round(LEFT + wide * x / most_x, 1), round(TOP + high * (1 - y / most_y), 1)
        words.append(f"H{px}V{py}" if words else f"M{px} {py}")
    return "".join(words) + f"H{WIDTH - 10}"
