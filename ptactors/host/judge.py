"""Which of a scenario's expectations a live histogram can speak of, and what it says of them.

Only registers and the content of memory are seen from user space; of a condition that asks for more, what can be told apart is
judged: of ``forbidden P or hazard(h)`` the P. The expectations are those of a cell without a knob set over the kernel's preset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ptactors.config import resolve
from ptactors.host.litmus import Histogram, Plan
from ptactors.scenario import condition as terms
from ptactors.scenario.condition import Memory, Predicate, Value
from ptactors.scenario.matrix import applies
from ptactors.scenario.model import Expectation, Scenario

_UNSEEN = (terms.Table, terms.Tlb, terms.FaultCount, terms.EventCount, terms.Metric, terms.HazardSeen, terms.Ever)


@attrs.frozen(kw_only=True)
class Judged:
    """One expectation."""

    kind: str
    """exists, forbidden or always."""
    condition: str
    """What was judged."""
    hits: int
    """Iterations that ended so."""
    iterations: int
    """All iterations whose end is known."""

    @property
    def violated(self) -> bool:
        """Whether the kernel did what should not be. That an ``exists`` was not seen says nothing."""
        return bool(self.hits) if self.kind == "forbidden" else self.kind == "always" and self.hits < self.iterations


class _Ended:
    """The Facts of one final state; asked only for what :func:`observable` lets through."""

    def __init__(self, state: Mapping[str, Value], cells: Mapping[int, str]) -> None:
        self._state, self._cells = state, cells

    def register(self, cpu: int, name: str) -> Value:
        """See Facts."""
        return self._state.get(f"cpu{cpu}:{name}", terms.UNSET)

    def memory(self, va: int) -> Value:
        """See Facts."""
        return self._state[self._cells[va]]

    def _unseen(self, *asked: Any, **named: Any) -> Any:
        raise AssertionError(f"no live run knows {asked} {named}")

    table = tlb = hazard = faults = count = metric = ever = _unseen


def expectations(scenario: Scenario, preset: str) -> tuple[Expectation, ...]:
    """Those that speak of the preset's kernel as it is, whatever knobs the scenario sets to see what they do."""
    config = resolve(preset, scenario.hardware, **scenario.machine)
    return tuple(each for each in scenario.expects if applies(each, preset, scenario.hardware, config))


def addresses(scenario: Scenario) -> tuple[int, ...]:
    """The cells of memory that conditions speak of."""
    return tuple(
        dict.fromkeys(part.va for each in scenario.expects for part in _parts(each.condition.root) if isinstance(part, Memory))
    )


def observable(kind: str, root: Predicate) -> Predicate | None:
    """As much of a condition as can be judged, so that its verdict is one of the whole; None for nothing."""
    if not any(isinstance(part, _UNSEEN) for part in _parts(root)):
        return root
    splits = terms.Any if kind == "forbidden" else terms.All
    if kind == "exists" or not isinstance(root, splits):
        return None
    parts = tuple(part for part in root.parts if observable(kind, part) is part)
    return splits(parts) if parts else None


def judge(scenario: Scenario, preset: str, what: Plan, seen: Histogram) -> tuple[Judged, ...]:
    """Every expectation that can be judged, in the order of the file."""
    cells = {place.va: place.name for place in what.places}
    found = []
    for each in expectations(scenario, preset):
        root = observable(each.kind, each.condition.root)
        if root is not None and all(part.va in cells for part in _parts(root) if isinstance(part, Memory)):
            hits = sum(count for state, count in seen.outcomes if root.evaluate(_Ended(dict(state), cells)))
            text = each.condition.text if root is each.condition.root else str(root)
            found.append(Judged(kind=each.kind, condition=text, hits=hits, iterations=seen.iterations - seen.others))
    return tuple(found)


def _parts(root: object) -> Iterator[object]:
    """``root`` and everything below it."""
    yield root
    if isinstance(root, tuple):
        for part in root:
            yield from _parts(part)
    elif attrs.has(type(root)):
        for field in attrs.fields(type(root)):  # type: ignore[arg-type]
            yield from _parts(getattr(root, field.name))
