"""A deterministic scheduler, disturbed a bounded number of times: at random places, or depth-first at all of them.

The scheduler keeps the current actor until it blocks and then takes the lowest that can move; that is option 0. What departs
from it has a price: a *delay* passes over one actor, a *preemption* takes the baton from an actor that could go on. Which of
several steps of one actor is made (a failing or a succeeding allocation) costs nothing: it is the world's choice, not the
scheduler's. Nor is a switch a preemption where the actor that moved last cannot go on.

``delay:D`` and ``preemption:D`` draw, as every strategy that a campaign takes by name and seed: they may make one schedule
twice, and never come to an end. ``dfs-delay:D`` and ``dfs-preemption:D`` are the searches of the papers, for who can use a list
of schedules that depends on no seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptactors.engine.strategy.base import ALTERNATIVES, UNKNOWN, Option, Profile, Run, Sampler, number
from ptactors.errors import UsageError
from ptactors.model.rng import SplitMix64

BOUND = 2
PATIENCE = 8
"""A sampled run turns into a uniform walk after so many times the measured length, so that retries come to an end."""
Price = Callable[[Sequence[Option], int, int], int]
"""(options, index, last actor) -> what taking that option costs."""


def delays(options: Sequence[Option], index: int, last: int) -> int:
    """How many actors are passed over."""
    actors = dict.fromkeys(option.actor.id for option in options[: index + 1])
    return len(actors) - 1


def preemptions(options: Sequence[Option], index: int, last: int) -> int:
    """1 if the last actor could go on and does not."""
    return int(options[0].actor.id == last and options[index].actor.id != last)


class _Disturbed(Sampler):
    """Spends its budget at decisions drawn uniformly over the measured length and one beyond: some runs spend less."""

    profiled = True
    what = ""

    def __init__(self, seed: int, parameters: Sequence[str] = (), profile: Profile = UNKNOWN) -> None:
        bound = number(parameters, BOUND, 0, f"number of {self.what}")
        self._rng = rng = SplitMix64(seed)
        length = max(profile.length, 1)
        self._points = sorted((rng.below(length + 1) for _ in range(bound)), reverse=True)
        self._end = PATIENCE * length
        self._decisions = 0

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._run = run

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        if self._decisions >= self._end:
            return self._rng.below(len(options))
        actors = list(dict.fromkeys(option.actor for option in options))
        turns = self._run.turns
        actor = actors[self._turn(len(actors), bool(turns) and turns[-1] // ALTERNATIVES == actors[0].id)]
        self._decisions += 1
        mine = [i for i, option in enumerate(options) if option.actor is actor]
        return mine[0] if len(mine) == 1 else mine[self._rng.below(len(mine))]

    def _due(self) -> int:
        """Disturbances drawn for this decision or one that came to nothing."""
        due = 0
        while self._points and self._points[-1] <= self._decisions:
            self._points.pop()
            due += 1
        return due

    def _turn(self, actors: int, can_go_on: bool) -> int:
        raise NotImplementedError


class Delay(_Disturbed):
    """The deterministic scheduler with D delays at random places: ``delay:D`` (default 2).

    Source: Emmi, Qadeer, Rakamaric, "Delay-bounded scheduling", POPL 2011. It departs in that it samples: each seed draws where
    its delays fall, so a seed alone makes its run again and nothing is ever exhausted; in that delays drawn for one decision
    beyond its actors are lost; and in that only decisions among contested steps can be delayed. As all actors make what comes
    before those at once, it may start from another actor than ``delay:D,all``, and a bug can cost a delay more or less there.
    Depth-first: ``dfs-delay:D``.
    """

    what = "delays"

    def _turn(self, actors: int, can_go_on: bool) -> int:
        return min(self._due(), actors - 1)


class Preemption(_Disturbed):
    """D preemptions at random places, a free choice wherever an actor blocks or ends: ``preemption:D`` (default 2).

    Source: Musuvathi, Qadeer, "Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007. It
    departs as ``delay`` does: it samples, among contested steps. Of preemptions drawn for one decision only one happens; one that
    falls where the last actor cannot go on, or nobody else can move, waits for the next decision. Depth-first:
    ``dfs-preemption:D``.
    """

    what = "preemptions"

    def _turn(self, actors: int, can_go_on: bool) -> int:
        if not can_go_on:
            return self._rng.below(actors)
        if actors > 1 and self._due():
            return 1 + self._rng.below(actors - 1)
        return 0


class Bounded:
    """Every schedule within a bound, depth-first, each once: iterate, make one run with each strategy, go on.

    Sources: Emmi, Qadeer, Rakamaric, "Delay-bounded scheduling", POPL 2011, whose bound works on any deterministic scheduler
    (here: the current actor, then the lowest); Musuvathi, Qadeer, "Iterative context bounding for systematic testing of
    multithreaded programs", PLDI 2007, for preemptions. Without bound (``bound`` None) it is plain depth-first search. The order
    follows the options, so the first schedule is the undisturbed one, and the last decision is changed first.
    It departs in that every step is a decision, not only a synchronisation; and in that it has one bound and not a queue for
    each: who raises it from 0 makes the schedules of the smaller bounds again, and can then say of the first violation that none
    with a smaller price violates. It is not fair (CHESS became that with "Fair stateless model checking", PLDI 2008): a run in
    which an actor retries for ever is cut at the limit of steps, and the search then covers the runs up to there.
    ``exhausted`` says whether the iteration ended by itself.
    """

    def __init__(self, price: Price, bound: int | None) -> None:
        self._price = price
        self._bound = bound
        self.exhausted = False
        self.schedules = 0

    def __iter__(self) -> Iterator[Walk]:
        """One strategy a schedule; each must have been used for a run before the next is taken."""
        prefix: list[int] = []
        while True:
            walk = Walk(prefix, self._price, self._bound)
            yield walk
            self.schedules += 1
            following = walk.following()
            if following is None:
                self.exhausted = True
                return
            prefix = following


SEARCHES: dict[str, Price] = {"dfs-delay": delays, "dfs-preemption": preemptions}
"""Name -> what is bounded."""


def make_search(text: str) -> Bounded | None:
    """The search that ``dfs-delay:D`` or ``dfs-preemption:D`` (default 2) spells; None if it is no search. Raises UsageError."""
    name, colon, rest = text.partition(":")
    if name not in SEARCHES:
        return None
    try:
        return Bounded(SEARCHES[name], number(rest.split(",") if colon else (), BOUND, 0, f"number of {name[4:]}s"))
    except UsageError as error:
        raise UsageError(f"search {text!r}: {error}") from None


class Walk(Sampler):
    """One schedule of a bounded search: given choices first, then the first option to the end.

    It wants to decide at every step: where private steps are made at once, who was interrupted, and so the price, is another.
    """

    contested_only = False

    def __init__(self, prefix: Sequence[int], price: Price, bound: int | None) -> None:
        self._prefix = prefix
        self._price = price
        self._bound = bound
        self._choices: list[int] = []
        self._next: list[int | None] = []
        """For each choice, the next one to try at that place within the bound."""
        self._spent = 0

    def begin(self, run: Run) -> None:
        """See :class:`Sampler`."""
        self._run = run

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """See :class:`Strategy`."""
        turns = self._run.turns
        last = turns[-1] // ALTERNATIVES if turns else -1
        at = len(self._choices)
        index = self._prefix[at] if at < len(self._prefix) else 0
        later = range(index + 1, len(options))
        self._next.append(next((i for i in later if self._within(options, i, last)), None))
        self._choices.append(index)
        self._spent += self._price(options, index, last)
        return index

    def _within(self, options: Sequence[Option], index: int, last: int) -> bool:
        return self._bound is None or self._spent + self._price(options, index, last) <= self._bound

    def following(self) -> list[int] | None:
        """The choices that lead to the next schedule; None if this was the last."""
        for at in range(len(self._next) - 1, -1, -1):
            untried = self._next[at]
            if untried is not None:
                return [*self._choices[:at], untried]
        return None
