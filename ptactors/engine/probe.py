"""Probe runs: a few fixed runs of a cell from which strategies learn what they cannot know beforehand.

The first ones are unfiltered and say who touches what; the later ones are filtered by that and say how long a run is, counted
in decisions. Their seeds are fixed, so what is learnt is a function of the cell: the same in every process and for every seed.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ptactors.engine import host_direct
from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton
from ptactors.engine.contest import Contest, Watch, roles_of
from ptactors.engine.strategy.base import UNKNOWN, Profile, Role, RoleOf, Sampler
from ptactors.engine.strategy.random import Random
from ptactors.engine.strategy.run_length import RunLength

WATCHED, MEASURED = 8, 4
"""Probe runs of either kind."""
STEPS = 20_000
"""No more steps than this are made in all probe runs of either kind; for long programs that is part of one run."""
_SALT = 0x70726F6265
Start = Callable[[Sampler, int, int, Contest | None], Baton]
"""(strategy, seed of the run's programs, most steps, filter) -> a baton ready to be driven."""


@attrs.frozen(kw_only=True)
class Lesson:
    """What probes have taught about a cell."""

    contest: Contest
    profile: Profile


def learn(start: Start, role_of: RoleOf) -> Lesson:
    """Make the probe runs."""
    contest = _watch(start, role_of)
    return Lesson(contest=contest, profile=_measure(start, role_of, contest))


def _watch(start: Start, role_of: RoleOf) -> Contest:
    watch = Watch(role_of)
    left = STEPS
    for number in range(WATCHED):
        baton = start((Random if number % 2 else RunLength)(_SALT + number), _SALT + number, left, None)
        baton.before = lambda actor, state=baton.state: watch.before(state, actor)
        host_direct.run(baton)
        watch.left_over(baton.state, baton.actors)
        watch.next_run()
        left -= len(baton.turns)
        if left <= 0:
            break
    return watch.learnt()


class _Count(Random):
    """A uniform walk that counts its decisions."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.decisions = 0

    def choose(self, step: int, options: object) -> int:
        """See Strategy."""
        self.decisions += 1
        return super().choose(step, options)  # type: ignore[arg-type]


def _measure(start: Start, role_of: RoleOf, contest: Contest) -> Profile:
    lengths: list[int] = []
    events: dict[int, int] = {}
    shares: dict[Role, dict[int, int]] = {}
    left = STEPS
    for number in range(MEASURED):
        walk = _Count(_SALT + WATCHED + number)
        baton = start(walk, _SALT + WATCHED + number, left, contest)

        def before(actor: Actor, baton: Baton = baton) -> None:
            events[actor.id] = events.get(actor.id, 0) + 1
            for role in roles_of(actor.next_step(), baton.state, role_of):
                if role in contest.contested:
                    counts = shares.setdefault(role, {})
                    counts[actor.id] = counts.get(actor.id, 0) + 1

        baton.before = before
        host_direct.run(baton)
        for actor, eager in baton.eager.items():
            events[actor] -= eager
        lengths.append(walk.decisions)
        left -= len(baton.turns)
        if left <= 0:
            break
    runs = len(lengths)
    return Profile(
        length=max(1, *lengths) if lengths else UNKNOWN.length,
        events={actor: max(1, round(events[actor] / runs)) for actor in sorted(events)},
        shares={
            role: {actor: max(1, round(counts[actor] / runs)) for actor in sorted(counts)} for role, counts in shares.items()
        },
        role_of=role_of,
    )  # fmt: skip
