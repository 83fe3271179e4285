"""A smaller schedule for the same scenario: reordering, merging the visits of an actor, then plainer choices.

Each pass keeps what it finds only if the goal is still met and the price (preemptions, departures from "go on", steps to the
goal, the choices) has gone down, and always goes on from the choices of the run that was really made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ptactors.engine.choices import Choices, Follow
from ptactors.engine.schedule import Turn
from ptactors.engine.strategy.base import Strategy
from ptactors.shrink.order import Footprints, orders
from ptactors.shrink.trial import Bench, Case, choices_of


def shrink_schedule(bench: Bench, case: Case) -> Case:
    """The case with the plainest schedule that was found."""
    case = compact(bench, case)
    case = _merge(bench, case)
    return _plain(bench, case)


def better(bench: Bench, case: Case, by: Strategy) -> Case | None:
    """The case of the run that ``by`` makes, if it is one and has a lower price; recorded."""
    run = bench.attempt(case.scenario, case.cell, by, steps=case.run.outcome.steps)
    if run is None:
        return None
    made = bench.case(case.scenario, case.cell, bench.before_goal(run), run.outcome.steps)
    return made if made is not None and made.price < case.price else None


def compact(bench: Bench, case: Case) -> Case:
    """Semantic compaction: the same behaviour with fewer switches, verified by a replay."""
    hooks: list[Footprints] = []

    def watch(state: object) -> Footprints:
        hooks.append(Footprints(state))  # type: ignore[arg-type]  # a State
        return hooks[-1]

    choices = choices_of(case.run.decisions)
    run = bench.attempt(case.scenario, case.cell, Choices(choices), steps=case.run.outcome.steps, record=True, watch=[watch])
    if run is None:
        return case
    for order in orders(run.outcome.schedule.turns, hooks[0].made, bench.last(run)):
        if bench.over():
            break
        case = better(bench, case, Follow(order)) or case
    return case


def _merge(bench: Bench, case: Case) -> Case:
    """For each preemption: let the actor make at once what it makes in its next visit, or the others before it goes on."""
    at = 0
    while not bench.over():
        places = [d.step for d in case.run.decisions if d.preempts]
        if at >= len(places):
            break
        turns = case.run.outcome.schedule.turns
        found = next((c for c in (better(bench, case, Follow(o)) for o in _merged(turns, places[at])) if c is not None), None)
        if found is None:
            at += 1
        else:
            case = found
    return case


def _merged(turns: Sequence[Turn], step: int) -> list[list[Turn]]:
    """The turns without the switch before ``step``: the preempted actor's next visit moved up, its last one put off."""
    preempted = turns[step - 2][0]
    visits = [(name, list(group)) for name, group in groupby(turns, key=lambda turn: turn[0])]
    made, number = 0, 0
    while made < step - 1:
        made += len(visits[number][1])
        number += 1
    following = next((i for i in range(number, len(visits)) if visits[i][0] == preempted), None)
    results = []
    if following is not None:
        up = [*visits[:number], visits[following], *visits[number:following], *visits[following + 1 :]]
        down = [*visits[: number - 1], *visits[number:following], visits[number - 1], *visits[following:]]
        results = [up, down]
    return [[turn for _, visit in order for turn in visit] for order in results]


def _plain(bench: Bench, case: Case) -> Case:
    """Departures from "go on" taken back: in chunks, one by one; then choices lowered."""
    size = 8
    while size and not bench.over():
        start = 0
        while not bench.over():
            places = [i for i, decision in enumerate(case.run.decisions) if decision.choice]
            if start >= len(places):
                break
            choices = choices_of(case.run.decisions)
            for i in places[start : start + size]:
                choices[i] = 0
            found = better(bench, case, Choices(choices, lenient=True))
            if found is None:
                start += size
            else:
                case = found
        size //= 2
    return _earlier(bench, _lower(bench, case))


def _earlier(bench: Bench, case: Case) -> Case:
    """Departures made as early as they can be, so that less happens before."""
    at = 0
    while at < len(case.run.decisions) and not bench.over():
        choices = choices_of(case.run.decisions)
        start = at
        while start and not choices[start - 1]:
            start -= 1
        zeros = at - start
        while choices[at] and zeros and not bench.over():
            found = better(bench, case, Choices(choices[: at - zeros] + choices[at:], lenient=True))
            if found is not None:
                case, at = found, at - zeros
                break
            zeros //= 2
        else:
            at += 1
    return case


def _lower(bench: Bench, case: Case) -> Case:
    at = 0
    while at < len(case.run.decisions) and not bench.over():
        choice = case.run.decisions[at].choice
        for lower in range(1, choice):
            choices = choices_of(case.run.decisions)
            choices[at] = lower
            found = better(bench, case, Choices(choices, lenient=True))
            if found is not None:
                case = found
                break
        at += 1
    return case
