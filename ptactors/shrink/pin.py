"""The order of a run as the labels of a ``[pin]``: few of them, and verified by running the file.

A pin names steps of CPUs only, and while the next of them waits, the others run as they come. So an order is proposed (the last
step of each visit of a CPU, then also the first, then every step up to the goal), tried, and thinned out while it still leads to
the goal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import attrs

from ptactors.campaign.names import known_names
from ptactors.errors import PtactorsError, ReplayDivergence
from ptactors.model.event import OpBegin, OpEnd
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.model import PinnedStep
from ptactors.shrink.text import render
from ptactors.shrink.trial import Bench, Case
from ptactors.world import Outcome, play

MANY = 8
"""Labels; an order with more is thinned out, one with fewer is kept as it says where each CPU stops."""


@attrs.frozen(kw_only=True)
class Pinned:
    """A file that shows the goal by itself."""

    text: str
    order: tuple[str, ...]
    outcome: Outcome
    """Of its one run, recorded."""


@attrs.frozen(kw_only=True)
class Words:
    """The prose of the file."""

    name: str
    title: str
    why: str


def pinned(bench: Bench, case: Case, words: Words) -> Pinned | None:
    """The case as a pinned file; None if no order of CPU steps leads to the goal. Its run must be recorded."""
    labels = _labels(case)
    for order in _proposals(labels):
        if _attempt(bench, case, words, order) is not None:
            if len(order) > MANY:
                order = _thinned(bench, case, words, order)
            return _attempt(bench, case, words, order, record=True)
    return None


def _attempt(bench: Bench, case: Case, words: Words, order: Sequence[str], *, record: bool = False) -> Pinned | None:
    """The file with this order, if running it meets the goal."""
    bench.runs += 1
    allow: tuple[str, ...] = ()
    while True:
        text = render(
            case.scenario, case.cell, name=words.name, title=words.title, why=words.why, exists=bench.goal.condition,
            allow=allow, pin=order,
        )  # fmt: skip
        try:
            made = loads(text, f"{words.name}.toml", known_names())
            cell, explore = cells(made)[0], made.explore
            outcome = play(made, cell, strategy=explore.strategy, seed=explore.seed, host="direct", record=record)
        except ReplayDivergence:
            return None
        except PtactorsError:
            if allow:
                raise
            return None
        bench.steps += outcome.steps
        if not bench.goal.met(outcome):
            return None
        others = tuple(dict.fromkeys(f.hazard for f in outcome.findings if f.hazard != bench.goal.hazard))
        if others == allow:
            return Pinned(text=text, order=tuple(order), outcome=outcome)
        allow = others


def _thinned(bench: Bench, case: Case, words: Words, order: list[str]) -> list[str]:
    """The order without the labels that it can do without, in chunks, then one by one."""
    size = max(len(order) // 2, 1)
    while size:
        start = 0
        while start < len(order) and len(order) > 1 and not bench.over():
            rest = order[:start] + order[start + size :]
            if rest and _attempt(bench, case, words, rest) is not None:
                order = rest
            else:
                start += size
        size //= 2
    return order


def _labels(case: Case) -> list[tuple[str, str]]:
    """(actor, label) of every turn up to the goal; '' for an actor that is no CPU."""
    outcome = case.run.outcome
    begins = {step: event.label for step, _, event in outcome.records or () if isinstance(event, OpBegin)}
    ends = {step: event.label for step, _, event in outcome.records or () if isinstance(event, OpEnd)}
    inside: dict[str, str] = {}
    seen: dict[tuple[str, str, str], int] = {}
    found: list[tuple[str, str]] = []
    for step, (actor, _, name) in enumerate(outcome.schedule.turns[: case.last], start=1):
        if not actor.startswith("cpu"):
            found.append((actor, ""))
            continue
        operation = begins.get(step, inside.get(actor, ""))
        inside[actor] = "" if step in ends else operation
        keys = dict.fromkeys(((actor, operation, name), (actor, "", name)))
        for key in keys:
            seen[key] = seen.get(key, 0) + 1
        nth = seen[actor, operation, name]
        found.append((actor, str(PinnedStep(cpu=int(actor[3:]), label=operation, step=name, occurrence=nth))))
    return found


def _proposals(labels: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    of_cpus = [each for each in labels if each[1]]
    visits = [[label for _, label in group] for _, group in groupby(of_cpus, key=lambda each: each[0])]
    yield [visit[-1] for visit in visits]
    yield [label for visit in visits for label in dict.fromkeys((visit[0], visit[-1]))]
    yield [label for visit in visits for label in visit]
