"""DPOR against brute force, on programs with every kind of blocking; and on the core race with its known answers."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import core_race
import pytest
from random_programs import Case, Op, Program, build_of, corpus, program

from ptactors.engine.audit import Audit
from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.dpor import Build, brute_force, explore
from ptactors.engine.dpor import races as races_module
from ptactors.engine.dpor.live import Live
from ptactors.engine.dpor.marks import Marks, dependent
from ptactors.engine.dpor.races import Races
from ptactors.engine.dpor.trace import offers
from ptactors.engine.strategy import base
from ptactors.engine.strategy.pending import Touched
from ptactors.model.rng import SplitMix64
from ptactors.model.state import State

PROGRAMS = 2000


def differs(case: Case) -> bool:
    """Whether DPOR finds anything but the truth, or makes anything but one run a class."""
    truth = case.truth
    found = explore(case.build, max_runs=20 * truth.runs + 100, classes=True)
    return not (
        found.complete
        and found.runs == len(found.classes or ())
        and (found.classes, found.finals, found.deadlocks) == (truth.classes, truth.finals, truth.deadlocks)
    )


def test_on_random_programs_it_finds_what_brute_force_finds_in_one_run_a_class() -> None:
    assert [case.seed for case in corpus(PROGRAMS) if differs(case)] == []


def test_the_random_programs_are_worth_it() -> None:
    cases = corpus(PROGRAMS)
    assert len({case.seed for case in cases}) == PROGRAMS
    stuck = sum(bool(case.truth.deadlocks) for case in cases)
    both = sum(0 < len({cells for _, cells in case.truth.deadlocks}) < len(case.truth.finals) for case in cases)
    assert stuck > PROGRAMS // 2
    assert both > PROGRAMS // 10
    assert sum(len(case.truth.classes or ()) > 4 for case in cases) > PROGRAMS // 6
    assert {len(case.program) for case in cases} == {2, 3, 4}
    kinds = {op[0] for case in cases for _, ops in case.program for op in ops}
    assert kinds == {
        "read", "write", "add", "copy", "sum", "clear", "unless",
        "acquire", "release", "try", "wait", "send", "receive", "either",
    }  # fmt: skip
    assert sum(any(gate is not None for gate, _ in case.program) for case in cases) > PROGRAMS // 20


def test_runs_cut_short_are_counted_apart() -> None:
    redundant = sum(explore(case.build, max_runs=10**6).redundant for case in corpus(PROGRAMS)[:300])
    assert 0 < redundant < sum(len(case.truth.classes or ()) for case in corpus(PROGRAMS)[:300]) // 4


def test_trying_everything_in_place_of_thinking_is_right_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done where a hindered step has too many pasts to look at."""
    cases = corpus(PROGRAMS)[:300]
    thinking = sum(explore(case.build, max_runs=10**6).redundant for case in cases)
    monkeypatch.setattr(races_module, "_ENOUGH", 0)
    assert [case.seed for case in cases if differs(case)] == []
    assert sum(explore(case.build, max_runs=10**6).redundant for case in cases) > thinking


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_on_many_more_random_programs(part: int) -> None:
    assert [case.seed for case in corpus(PROGRAMS, 1_000_000 * (part + 1)) if differs(case)] == []


# -- each part is needed --------------------------------------------------------------------------------------------------


def _nothing(*_: Any) -> None:
    pass


def _taken_only(points: Any, live: Live, marks: Marks) -> Any:
    return [offer for offer in offers(points, live, marks) if offer.taken_at >= 0]


def _no_choice(points: Any, live: Live, marks: Marks) -> Any:
    return [offer for offer in offers(points, live, marks) if len(offer.options) == 1]


def _unguarded(self: Marks, step: Any, actor: Any, state: State) -> Any:
    return self.mark(step.touches(state), actor.gate)


def _ungated(self: Marks, step: Any, actor: Any, state: State) -> Any:
    reads, writes = step.touches(state)
    return self.mark(((*step.waits(), *reads), writes), None)


def _no_kin(self: Marks, key: Any) -> tuple[int, int]:
    bit = self._bit(("cell", key))
    return bit, bit


BROKEN = {
    "hindered steps": (Races, "_hindered", _nothing),
    "races": (Races, "_race", _nothing),
    "steps pending at the end": (races_module, "offers", _taken_only),
    "alternatives": (races_module, "offers", _no_choice),
    "turns that make a hindered step possible": (races_module, "_free", lambda *_: 0),
    "guards are read": (Marks, "of", _unguarded),
    "gates are read": (Marks, "of", _ungated),
    "ANY meets its kin": (Marks, "_place", _no_kin),
}


@pytest.mark.parametrize("part", BROKEN)
def test_without_any_of_its_parts_it_fails(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = corpus(PROGRAMS)
    monkeypatch.setattr(*BROKEN[part])
    assert any(differs(case) for case in cases)


# -- machines with known numbers of classes -------------------------------------------------------------------------------

LOCKED: tuple[Op, ...] = (("acquire", 0), ("add", 0), ("release", 0))
UPDATE: tuple[Op, ...] = (("read", 0), ("write", 0, None))


def free(*lives: tuple[Op, ...]) -> Program:
    return tuple((None, ops) for ops in lives)


KNOWN: dict[str, tuple[Program, int, int, int]] = {
    # name: (program, schedules, classes, different deadlocks)
    "independent": (free(*((("write", x, 1),) * 3 for x in range(3))), 1680, 1, 0),
    "two lost updates": (free(UPDATE * 2, UPDATE * 2), 70, 34, 0),
    "readers": (free((("read", 0),) * 2, (("read", 0),) * 2, (("read", 0),)), 30, 1, 0),
    "one lock, two users": (free(LOCKED, LOCKED), 2, 2, 0),
    "one lock, three users": (free(LOCKED, LOCKED, LOCKED), 6, 6, 0),
    "a lock that nobody gives back": (free((("acquire", 0),), (("acquire", 0),)), 2, 2, 2),
    "two locks, two orders": (
        free(
            (("acquire", 0), ("acquire", 1), ("release", 1), ("release", 0)),
            (("acquire", 1), ("acquire", 0), ("release", 0), ("release", 1)),
        ),
        6, 3, 1,
    ),
    "a try-lock": (free(LOCKED, (("try", 0), ("write", 1, 1))), 4, 3, 1),
    "nobody sends": (free((("receive", 0),), (("read", 0),)), 1, 1, 1),
    "who sends first": (free((("send", 0, 1),), (("send", 0, 2),), (("receive", 0),)), 4, 4, 0),
    "two receivers of one letter": (free((("send", 0, 1),), (("receive", 0),), (("receive", 0),)), 2, 2, 2),
    "hindered by either of two": (
        free((("write", 0, 1),), (("write", 1, 1),), (("wait", "none set", (0, 1)), ("write", 2, 1))), 8, 2, 1
    ),
    "possible only between two": (
        free((("write", 0, 1),), (("write", 1, 1),), (("wait", "equal", (0, 1)), ("write", 2, 1))), 8, 2, 0
    ),
    "a choice that comes later": (
        free((("either", ("receive", 0), ("receive", 1)), ("write", 0, 1)), (("send", 0, 1), ("send", 1, 1))), 4, 2, 0
    ),
    "a choice that must not wait": (free((("either", ("receive", 0), ("add", 0)),), (("send", 0, 1),)), 3, 2, 0),
    "a gate that closes": (((0, (("write", 1, 1),)), (None, (("write", 0, 1),))), 2, 2, 1),
    "all cells at once": (free((("clear",),), (("write", 0, 1),), (("write", 2, 1),)), 6, 4, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_numbers(name: str) -> None:
    made, schedules, classes, deadlocks = KNOWN[name]
    truth = brute_force(build_of(made), max_runs=5000)
    assert (truth.runs, len(truth.classes or ()), len(truth.deadlocks)) == (schedules, classes, deadlocks)
    found = explore(build_of(made), max_runs=5000, classes=True)
    assert found.complete
    assert found.runs == classes
    assert (found.classes, found.finals, found.deadlocks) == (truth.classes, truth.finals, truth.deadlocks)


def test_a_deadlock_says_who_and_where() -> None:
    made = free((("acquire", 0), ("write", 0, 1)), (("acquire", 0),))
    found = explore(build_of(made), max_runs=100)
    held = (("rp_lock", 0), 1)
    assert found.deadlocks == {(("a1",), frozenset({held, (("rp_data", 0), 1)})), (("a0",), frozenset({held}))}


# -- limits ---------------------------------------------------------------------------------------------------------------

ENDLESS = free((("read", 0),) * 40, (("write", 0, 1),))


@pytest.mark.parametrize("search", [explore, brute_force])
def test_a_search_that_ran_out_of_runs_is_not_complete(search: Any) -> None:
    made, *_ = KNOWN["two lost updates"]
    found = search(build_of(made), max_runs=7)
    assert not found.complete
    assert found.runs + found.redundant + found.limited == 7
    assert search(build_of(made), max_runs=71).complete


@pytest.mark.parametrize("search", [explore, brute_force])
def test_a_run_that_ran_out_of_steps_is_no_run_and_the_search_not_complete(search: Any) -> None:
    found = search(build_of(ENDLESS), max_runs=1000, max_steps=20)
    assert not found.complete
    assert found.limited > 0
    assert found.runs == 0
    assert search(build_of(ENDLESS), max_runs=1000, max_steps=41).complete


def test_the_same_search_twice_is_the_same() -> None:
    for case in corpus(PROGRAMS)[:50]:
        assert explore(case.build, max_runs=10**6) == explore(case.build, max_runs=10**6)
    assert program(7) == program(7)


# -- what it rests on -----------------------------------------------------------------------------------------------------


def machines() -> list[Build]:
    """Random programs, and the core race with every knob."""
    knobs = [(flush, rcu) for flush in (False, True) for rcu in (False, True)]
    races: list[Build] = [lambda f=f, r=r: core_race.build("D", f, r) for f, r in knobs for _ in range(15)]  # type: ignore[misc]
    return races + [case.build for case in corpus(PROGRAMS)[:300]]


def applied(live: Live, first: int, second: int) -> tuple[Any, dict[int, Any]]:
    """The cells and both results after two turns."""
    state = State(live.state.config)
    state.cells = dict(live.state.cells)
    results: dict[int, Any] = {}
    for turn in (first, second):
        step = live.actors[turn // ALTERNATIVES].options[turn % ALTERNATIVES]
        assert not step.blocking or step.ready(state)
        results[turn] = step.apply(state)
    return state.cells, results


def test_footprints_are_the_truth_and_what_is_independent_commutes() -> None:
    pairs = 0
    rng = SplitMix64(5)
    for build in machines():
        live, marks = Live(build), Marks()
        audit = Audit(live.state)
        while turns := live.able():
            actors = [live.actors[turn // ALTERNATIVES] for turn in turns]
            steps = [actor.options[turn % ALTERNATIVES] for actor, turn in zip(actors, turns, strict=True)]
            of = [marks.of(step, actor, live.state) for step, actor in zip(steps, actors, strict=True)]
            for i, j in combinations(range(len(turns)), 2):
                if actors[i].gate is None and actors[j].gate is None:
                    one, other = (Touched(steps[k], base.footprint(steps[k], live.state)) for k in (i, j))
                    assert dependent(of[i], of[j]) == dependent(of[j], of[i]) == one.dependent(other)
                if actors[i] is not actors[j] and not dependent(of[i], of[j]):
                    pairs += 1
                    assert applied(live, turns[i], turns[j]) == applied(live, turns[j], turns[i])
            k = rng.below(len(turns))
            actors[k].chosen = turns[k] % ALTERNATIVES
            audit.before(actors[k])
            live.make(turns[k])
            audit.after(actors[k])
        live.close()
    assert pairs > 2000


# -- the core race --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rcu", [False, True])
@pytest.mark.parametrize("flush", [False, True])
def test_the_core_race_has_the_known_hazards(flush: bool, rcu: bool) -> None:
    seen: set[str] = set()

    def build() -> Any:
        state, actors = core_race.build("A", flush, rcu)
        core_race.hazards_into(state, seen)
        return state, actors

    found = explore(build, max_runs=2000, classes=True)
    assert found.complete
    assert found.runs == len(found.classes or ()) == (69 if flush else 41)
    assert seen == core_race.HAZARDS["A", flush, rcu]
    assert found.deadlocks == frozenset()
