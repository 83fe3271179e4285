"""Every strategy: the same run for the same seed, any run ends, planted bugs are found; and what each one promises of its own."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from toy_steps import Drop, Get, Life, Put, Take, actors, direct, lock_lives, puts, turns

from ptactors.config import Config
from ptactors.engine.baton import Baton
from ptactors.engine.contest import Contest
from ptactors.engine.probe import Lesson, learn
from ptactors.engine.strategy.base import Profile, Sampler
from ptactors.engine.strategy.bounded import Bounded, delays, preemptions
from ptactors.engine.strategy.pending import Cells, Touched
from ptactors.engine.strategy.portfolio import MEMBERS, member_of
from ptactors.engine.strategy.table import STRATEGIES, make_strategy
from ptactors.errors import UsageError
from ptactors.model.state import State
from ptactors.model.step import ANY, AnyOf

PARAMETERS = ("pct:1", "pct:2", "fair-pct:4", "delay:1", "preemption:3", "random:contested", "pos:all", "run-length:contested")
NAMES = (*STRATEGIES, *PARAMETERS)
"""Every strategy, and some with parameters."""
Lives = Callable[[], tuple[Life, ...]]


def key_role(key, state):
    return key


def start_of(lives: Lives, most: int = 2000):
    def start(walk: Sampler, seed: int, limit: int, contest: Contest | None) -> Baton:
        return prepared(lives, walk, contest, min(most, limit))

    return start


def prepared(lives: Lives, walk: Sampler, contest: Contest | None = None, most: int = 2000) -> Baton:
    state = State(Config())
    made = Baton(state, actors(*lives()), walk, max_steps=most, when_quiet=lambda: False, contest=contest)
    walk.begin(made)
    return made


def lesson_of(lives: Lives) -> Lesson:
    return learn(start_of(lives), key_role)


def run(lives: Lives, name: str, seed: int, lesson: Lesson | None = None) -> Baton:
    known = lesson or lesson_of(lives)
    walk = make_strategy(name, seed, known.profile)
    return direct(prepared(lives, walk, known.contest if walk.contested_only else None))


# -- programs -------------------------------------------------------------------------------------------------------------


async def noise(name: str, times: int) -> None:
    for _ in range(times):
        await Put(name, await Get(name) + 1)


def order_bug() -> tuple[Life, ...]:
    """Depth 1: b must not look before a has put."""

    async def a() -> None:
        await noise("a", 2)
        await Put("x", 1)

    async def b() -> None:
        if await Get("x") == 0:
            await Put("bug", 1)

    return a(), b()


def lost_update() -> tuple[Life, ...]:
    """Depth 2: one reads, the other reads and writes, the first writes."""

    async def life(me: str) -> None:
        await noise(me, 3)
        value = await Get("x")
        await Put("x", value + 1)
        if me == "a" or await Get("x") != 2:
            return

    async def judge() -> None:
        await Take(9, "l")
        await Drop("l")

    async def one(me: str) -> None:
        await life(me)
        await Put("done" + me, 1)

    return one("a"), one("b"), judge()


def between() -> tuple[Life, ...]:
    """Depth 3: a puts 1, b looks, a puts 2, b looks again."""

    async def a() -> None:
        await noise("a", 2)
        await Put("x", 1)
        await Put("x", 2)

    async def b() -> None:
        first = await Get("x")
        second = await Get("x")
        if (first, second) == (1, 2):
            await Put("bug", 1)
        await noise("b", 2)

    return a(), b(), noise("c", 4)


def value(done: Baton, name: str) -> int:
    return done.state.read(("toy", name))


BUGS: dict[str, tuple[Lives, Callable[[Baton], bool], int]] = {
    "depth 1": (order_bug, lambda done: value(done, "bug") == 1, 30),
    "depth 2": (lost_update, lambda done: value(done, "x") == 1, 60),
    "depth 3": (between, lambda done: value(done, "bug") == 1, 500),
}
"""Program, whether the bug showed, and within how many schedules it must."""


def offering(choosers: int = 2) -> tuple[Life, ...]:
    """Steps offered together, locks in both orders, so that some runs end in a deadlock."""

    async def chooser(me: int) -> None:
        for _ in range(3):
            await AnyOf(Put("x", me), Put("y", me), Take(me, f"never{me}"))

    async def crossed(me: int, first: str, second: str) -> None:
        await Take(me, first)
        await Take(me, second)
        await Drop(second)
        await Drop(first)

    return *map(chooser, range(choosers)), crossed(2, "l", "m"), crossed(3, "m", "l")


def retrying() -> tuple[Life, ...]:
    """a asks again and again, without blocking, until b has put."""

    async def a() -> None:
        while await Get("x") == 0:
            pass

    return a(), puts("y", 5), puts("x", 1)


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


# -- bounded search -------------------------------------------------------------------------------------------------------


def everything(lives: Lives, price=preemptions, bound: int | None = None) -> list[tuple[str, ...]]:
    found = []
    search = Bounded(price, bound)
    for walk in search:
        found.append(tuple(turns(direct(prepared(lives, walk)))))
    assert search.exhausted
    assert search.schedules == len(found)
    return found


@pytest.mark.parametrize(
    ("sizes", "count"), [((2, 2), 6), ((3, 2), 10), ((2, 2, 1), 30), ((2, 2, 2), 90), ((1, 1, 1, 1), 24)], ids=str
)
def test_depth_first_makes_each_schedule_once(sizes: tuple[int, ...], count: int) -> None:
    found = everything(lambda: tuple(puts("x", size) for size in sizes))
    assert len(found) == len(set(found)) == count


def priced(schedule: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[int, int]:
    """(delays, preemptions) of an order of steps that never block."""
    left = dict(zip("abcdefgh", sizes, strict=False))
    last, passed, preempted = "", 0, 0
    for name in schedule:
        ready = [last] * bool(left.get(last)) + [other for other, n in left.items() if n and other != last]
        passed += ready.index(name)
        preempted += bool(left.get(last)) and name != last
        left[name] -= 1
        last = name
    return passed, preempted


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
@pytest.mark.parametrize("sizes", [(3, 2), (2, 2, 2)], ids=str)
def test_a_bound_keeps_exactly_what_costs_no_more(bound: int, sizes: tuple[int, ...]) -> None:
    def lives() -> tuple[Life, ...]:
        return tuple(puts("x", size) for size in sizes)

    full = everything(lives)
    for which, price in enumerate((delays, preemptions)):
        found = everything(lives, price, bound)
        assert len(found) == len(set(found))
        assert set(found) == {schedule for schedule in full if priced(schedule, sizes)[which] <= bound}


def test_a_search_with_steps_offered_together_and_deadlocks_ends() -> None:
    found = everything(lambda: offering(1), preemptions, 0)
    assert len(found) == len(set(found)) > 100


def test_no_schedule_with_less_finds_the_bug() -> None:
    """The least number of preemptions of the planted bugs, proved."""
    for lives, least in ((order_bug, 0), (lost_update, 1), (between, 2)):
        shows = next(shows for program, shows, _ in BUGS.values() if program is lives)
        for bound in range(least + 1):
            found = any(shows(direct(prepared(lives, walk))) for walk in Bounded(preemptions, bound))
            assert found == (bound == least), (lives.__name__, bound)


# -- portfolio ------------------------------------------------------------------------------------------------------------


def test_a_run_of_the_portfolio_is_a_run_of_its_member() -> None:
    lesson = lesson_of(between)
    for seed in range(3 * len(MEMBERS)):
        assert turns(run(between, "portfolio", seed, lesson)) == turns(run(between, member_of(seed), seed, lesson))
    assert {member_of(seed) for seed in range(len(MEMBERS))} == {name for name, *_ in MEMBERS}


# -- dependence -----------------------------------------------------------------------------------------------------------


KEYS = [("toy", "x"), ("toy", "y"), ("alone",), ("entry", 1, ANY), ("entry", 1, 5), ("entry", 2, 5), ("entry", 2, ANY), ("e", 1)]


@pytest.mark.parametrize("a", KEYS)
@pytest.mark.parametrize("b", KEYS)
def test_cells_meet_where_the_definition_says_so(a, b) -> None:
    same = a == b or (len(a) == len(b) > 1 and ANY in (a[-1], b[-1]) and a[:-1] == b[:-1])
    assert Cells((a,)).meets(Cells((b,))) == same
    assert Cells((a, ("other", 7))).meets(Cells((("third", 8), b))) == same
    writes, reads, nothing = Touched(None, ((), (a,))), Touched(None, ((b,), ())), Touched(None, ((), ()))
    assert writes.dependent(reads) == reads.dependent(writes) == writes.dependent(Touched(None, ((), (b,)))) == same
    assert not Touched(None, ((a,), ())).dependent(reads), "two reads"
    assert not writes.dependent(nothing)


class _Counted:
    """Counts how often footprints are asked for."""

    def __init__(self, monkeypatch) -> None:
        self.asked = 0
        touches = Put.touches

        def counted(step, state):
            self.asked += 1
            return touches(step, state)

        monkeypatch.setattr(Put, "touches", counted)


def test_footprints_of_waiting_steps_are_not_worked_out_again_and_again(monkeypatch) -> None:
    """One actor waits with a step that nobody touches while the other makes a hundred."""

    def lives() -> tuple[Life, ...]:
        async def busy() -> None:
            for _ in range(100):
                await Put("x", 1)

        async def waiting(name: str) -> None:
            await Put(name, 1)

        return busy(), *(waiting(f"y{n}") for n in range(7))

    lesson = lesson_of(lives)
    counted = _Counted(monkeypatch)
    steps = len(run(lives, "pos:all", 3, lesson).turns)
    assert steps == 107
    assert counted.asked <= 2 * steps


def test_lock_programs_end_under_every_strategy() -> None:
    def lives() -> tuple[Life, ...]:
        return tuple(lock_lives(4, 3))

    lesson = lesson_of(lives)
    for name in NAMES:
        assert value(run(lives, name, 3, lesson), "x") > 0
