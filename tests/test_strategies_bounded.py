"""Bounded depth-first search: every schedule within the bound, each once, and a plain end."""

from __future__ import annotations

import pytest
from toy_programs import BUGS, Lives, between, lost_update, offering, order_bug, prepared
from toy_steps import Life, direct, puts, turns

from ptactors.engine.strategy.bounded import Bounded, delays, make_search, preemptions
from ptactors.errors import UsageError


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


@pytest.mark.parametrize(
    ("text", "price", "bound"), [("dfs-delay:1", delays, 1), ("dfs-delay", delays, 2), ("dfs-preemption:0", preemptions, 0)]
)
def test_a_search_has_a_name(text: str, price, bound: int) -> None:
    def lives() -> tuple[Life, ...]:
        return puts("x", 2), puts("x", 2), puts("x", 1)

    search = make_search(text)
    assert search is not None
    found = [tuple(turns(direct(prepared(lives, walk)))) for walk in search]
    assert search.exhausted
    assert found == everything(lives, price, bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [("dfs-delay:x", "the number of delays, a number from 0"), ("dfs-preemption:1,2", "the number of preemptions")],
)
def test_a_bound_that_is_no_number_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"search '{text}': its one parameter is {message}"):
        make_search(text)


def test_a_strategy_is_no_search() -> None:
    assert make_search("delay:1") is None
    assert make_search("dfs") is None
