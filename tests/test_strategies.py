"""Every strategy: the same run for the same seed, any run ends, planted bugs are found; and what each one promises of its own."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from toy_programs import BUGS, Lives, between, lesson_of, noise, offering, order_bug, prepared, retrying, run, value
from toy_steps import Get, Life, Put, direct, lock_lives, puts, turns

from ptactors.engine.baton import Baton
from ptactors.engine.probe import Lesson
from ptactors.engine.strategy.base import Profile
from ptactors.engine.strategy.portfolio import MEMBERS, member_of
from ptactors.engine.strategy.table import STRATEGIES, make_strategy
from ptactors.errors import UsageError

PARAMETERS = ("pct:1", "pct:2", "fair-pct:4", "delay:1", "preemption:3", "random:contested", "pos:all", "run-length:contested")
NAMES = (*STRATEGIES, *PARAMETERS)
"""Every strategy, and some with parameters."""


# -- all of them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lives", [order_bug, between, offering], ids=lambda lives: lives.__name__)
def test_a_seed_makes_one_run_and_every_index_is_valid(name: str, lives: Lives) -> None:
    lesson = lesson_of(lives)
    for seed in range(10):
        first, again = (run(lives, name, seed, lesson) for _ in range(2))
        assert turns(first) == turns(again)
        assert not first.limit_reached
    assert lesson.profile == lesson_of(lives).profile
    assert len({tuple(turns(run(lives, name, seed, lesson))) for seed in range(40)}) > 1, "every seed makes the same run"


@pytest.mark.parametrize("name", NAMES)
def test_it_works_without_a_profile(name: str) -> None:
    walk = make_strategy(name, 7)
    assert not direct(prepared(offering, walk)).limit_reached


@pytest.mark.parametrize("depth", BUGS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("pct:1",)])
def test_planted_bugs_are_found_within_a_budget(name: str, depth: str) -> None:
    lives, shows, budget = BUGS[depth]
    if (name, depth) in (("pct:2", "depth 3"), ("delay:1", "depth 3")):
        budget = 0  # too shallow for it by construction: the bug must not be found
    lesson = lesson_of(lives)
    found = any(shows(run(lives, name, seed, lesson)) for seed in range(budget or 100))
    assert found == bool(budget)


@pytest.mark.parametrize("name", [name for name in NAMES if name.partition(":")[0] != "pct"])
def test_who_retries_cannot_starve_whom_it_waits_for(name: str) -> None:
    lesson = lesson_of(retrying)
    assert not any(run(retrying, name, seed, lesson).limit_reached for seed in range(20))


def test_pct_is_not_fair_and_says_so() -> None:
    lesson = lesson_of(retrying)
    assert any(run(retrying, "pct:1", seed, lesson).limit_reached for seed in range(20))
    assert "not fair" in str(STRATEGIES["pct"].__doc__)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_names_its_source_and_its_departure(name: str) -> None:
    text = str(STRATEGIES[name].__doc__)
    own = name in ("run-length", "portfolio")
    assert own or "Source:" in text
    assert own or name == "random" or "depart" in text or "Here" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randm", "unknown strategy 'randm'"),
        ("random:3", "takes no parameter '3'"),
        ("pct:0", "the depth, a number from 1"),
        ("pct:x", "the depth, a number from 1"),
        ("pct:2,3", "not '2,3'"),
        ("delay:-1", "the number of delays"),
        ("portfolio:pct", "takes no parameter"),
    ],
)
def test_bad_names_are_usage_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_strategy(text, 0)


def test_the_filter_is_a_parameter() -> None:
    for name in ("pct:3", "random:contested", "pos"):
        assert make_strategy(name, 0).contested_only
    for name in ("pct:3,all", "random", "pos:all"):
        assert not make_strategy(name, 0).contested_only


def test_lock_programs_end_under_every_strategy() -> None:
    def lives() -> tuple[Life, ...]:
        return tuple(lock_lives(4, 3))

    lesson = lesson_of(lives)
    for name in NAMES:
        assert value(run(lives, name, 3, lesson), "x") > 0


# -- PCT ------------------------------------------------------------------------------------------------------------------


def switches(done: Baton) -> int:
    """Preemptions of a run in which nobody ever blocks."""
    names = turns(done)
    last = {name: at for at, name in enumerate(names)}
    return sum(a != b and last[a] > at for at, (a, b) in enumerate(itertools.pairwise(names)))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_pct_preempts_at_most_one_time_less_than_its_depth(depth: int) -> None:
    def lives() -> tuple[Life, ...]:
        return puts("x", 6), puts("x", 6), puts("x", 6)

    lesson = lesson_of(lives)
    counts = Counter(switches(run(lives, f"pct:{depth}", seed, lesson)) for seed in range(200))
    assert max(counts) == depth - 1, counts


def test_pct_draws_every_order_of_priorities() -> None:
    def lives() -> tuple[Life, ...]:
        return puts("x", 1), puts("x", 1), puts("x", 1), puts("x", 1)

    lesson = lesson_of(lives)
    orders = Counter(tuple(turns(run(lives, "pct:1", seed, lesson))) for seed in range(2400))
    assert len(orders) == 24
    assert sum((count - 100) ** 2 / 100 for count in orders.values()) < 49.7  # chi-square, 23 degrees, 0.1 %


def test_pct_changes_priorities_only_at_decisions_within_the_measured_length() -> None:
    """Its bound: a bug of depth 2 in a program of n actors and K decisions shows in at least 1 of n K runs."""

    def lives() -> tuple[Life, ...]:
        async def a() -> None:
            await noise("a", 40)
            await Put("x", 1)
            await Put("x", 2)

        async def b() -> None:
            await noise("b", 40)
            if await Get("x") == 1:
                await Put("bug", 1)

        return a(), b()

    lesson = lesson_of(lives)
    assert lesson.profile.length <= 4, "eighty steps on private cells are no decisions"
    hits = sum(value(run(lives, "pct:2", seed, lesson), "bug") for seed in range(400))
    everywhere = Lesson(contest=lesson.contest, profile=Profile(length=160))
    unfiltered = sum(value(run(lives, "pct:2,all", seed, everywhere), "bug") for seed in range(400))
    assert hits > 400 / (2 * lesson.profile.length)
    assert hits > 4 * unfiltered


# -- POS ------------------------------------------------------------------------------------------------------------------


def test_pos_draws_again_what_depends_on_the_step_made_and_nothing_else() -> None:
    def lives() -> tuple[Life, ...]:
        return puts("x", 4), puts("x", 4), puts("y", 4)

    walk = make_strategy("pos:all", 5)
    draws: list[int] = []
    shown: list[tuple[int, int]] = []
    inner = walk._rng

    class Counting:
        def next(self) -> int:
            draws[-1] += 1
            return inner.next()

    walk._rng = Counting()
    choose = walk.choose

    def counted(step, options):
        draws.append(0)
        index = choose(step, options)
        shown.append((options[index].actor.id, len(options)))
        return index

    walk.choose = counted
    direct(prepared(lives, walk))
    assert draws[0] == 3
    alive = 3
    for (actor, _), (_, options), drawn in zip(shown, shown[1:], draws[1:], strict=False):
        if alive == options:
            assert drawn == (2 if actor < 2 else 1), actor
        alive = options


def test_pos_reaches_classes_alike_where_a_walk_does_not() -> None:
    """One write among many independent steps of the other: POS makes it first in half of all runs, a walk almost never last."""

    def lives() -> tuple[Life, ...]:
        async def a() -> None:
            for n in range(12):
                await Put(f"a{n}", 1)
            await Put("x", 1)

        async def b() -> None:
            await Put("x", 2)

        return a(), b()

    lesson = lesson_of(lives)
    last = {name: sum(value(run(lives, name, seed, lesson), "x") == 2 for seed in range(400)) for name in ("pos", "random")}
    assert 140 < last["pos"] < 260
    assert last["random"] < 10


# -- URW ------------------------------------------------------------------------------------------------------------------


def chi_square(counts: Counter[tuple[str, ...]], cells: int, runs: int) -> float:
    each = runs / cells
    return sum((count - each) ** 2 / each for count in counts.values()) + (cells - len(counts)) * each


def interleavings(name: str, runs: int) -> Counter[tuple[str, ...]]:
    def lives() -> tuple[Life, ...]:
        return puts("x", 4), puts("x", 2), puts("x", 2)

    profile = Profile(events={0: 4, 1: 2, 2: 2})
    return Counter(tuple(turns(direct(prepared(lives, make_strategy(name, seed, profile))))) for seed in range(runs))


def test_urw_is_uniform_over_interleavings_and_a_walk_is_not() -> None:
    cells, runs, critical = 420, 4200, 513.0  # 8! / (4! 2! 2!); chi-square with 419 degrees at 0.1 %
    assert chi_square(interleavings("urw", runs), cells, runs) < critical
    assert chi_square(interleavings("random", runs), cells, runs) > 3 * critical


def test_urw_learns_its_counts_from_probes() -> None:
    def lives() -> tuple[Life, ...]:
        return puts("x", 7), puts("x", 3), noise("c", 5)

    profile = lesson_of(lives).profile
    assert (profile.events[0], profile.events[1]) == (7, 3)
    assert profile.shares == {("toy", "x"): {0: 7, 1: 3}}


def test_surw_is_uniform_over_the_steps_of_the_role_it_drew() -> None:
    """Interesting: three puts of a and three of b; twelve other steps of b do not bend their order, as they do for a walk."""

    def lives() -> tuple[Life, ...]:
        async def b() -> None:
            for n in range(3):
                for k in range(4):
                    await Put(f"b{n}{k}", 1)
                await Put("x", n)

        return puts("x", 3), b()

    profile = Profile(shares={("toy", "x"): {0: 3, 1: 3}})
    counts = Counter()
    for seed in range(1000):
        done = prepared(lives, make_strategy("surw:all", seed, profile))
        order: list[int] = []
        done.before = lambda actor, order=order: order.append(actor.id) if actor.next_step().name_of == "x" else None
        direct(done)
        counts[tuple(order)] += 1
    assert len(counts) == 20
    assert chi_square(counts, 20, 1000) < 43.8  # 19 degrees, 0.1 %


# -- portfolio ------------------------------------------------------------------------------------------------------------


def test_a_run_of_the_portfolio_is_a_run_of_its_member() -> None:
    lesson = lesson_of(between)
    for seed in range(3 * len(MEMBERS)):
        assert turns(run(between, "portfolio", seed, lesson)) == turns(run(between, member_of(seed), seed, lesson))
    assert {member_of(seed) for seed in range(len(MEMBERS))} == {name for name, *_ in MEMBERS}
