"""The exhaustive search: known answers, and the audit of merged histories."""

from __future__ import annotations

import dis

import core_race
import pytest

from ptactors.engine import automaton
from ptactors.engine.automaton import Automaton, MergeError
from ptactors.engine.prove import Mover, Search, Searched


def search(config: str, flush: bool, rcu: bool, max_states: int = 2_000_000) -> tuple[Searched, set[str]]:
    """Search the core race with memoised actors."""
    state, actors = core_race.build(config, flush, rcu)
    for actor in actors:
        actor.coroutine.close()

    def entering(number: int):
        def enter():
            _, fresh = core_race.build(config, flush, rcu)
            for other in fresh:
                if other.id != number:
                    other.coroutine.close()
            return fresh[number].coroutine, lambda: ""

        return enter

    movers = [Mover(name=a.name, automaton=Automaton(a.name, entering(a.id)), optional=a.optional) for a in actors]
    found: set[str] = set()
    core_race.hazards_into(state, found)
    return Search(state, movers).run(max_states), found


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("rcu", [False, True])
def test_core_race_a(flush: bool, rcu: bool) -> None:
    searched, found = search("A", flush, rcu)
    assert searched.complete
    assert found == core_race.HAZARDS["A", flush, rcu]
    if flush and rcu:
        assert searched.states == 502


def test_core_race_d_has_exactly_the_known_states() -> None:
    searched, found = search("D", True, True)
    assert (searched.states, searched.complete, found) == (26_079, True, set())


@pytest.mark.full
def test_core_race_e_has_exactly_the_known_states() -> None:
    searched, found = search("E", True, True)
    assert (searched.states, searched.complete, found) == (1_555_516, True, set())


@pytest.mark.full
@pytest.mark.parametrize(("flush", "rcu"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("config", ["D", "E"])
def test_core_race_hazards(config: str, flush: bool, rcu: bool) -> None:
    assert search(config, flush, rcu)[1] == core_race.HAZARDS[config, flush, rcu]


def test_a_search_that_is_cut_off_says_so() -> None:
    searched, _ = search("A", True, True, max_states=100)
    assert not searched.complete


LIVE = [
    (function.__code__, name)
    for function in (core_race.madvise, core_race.access, core_race.fault, core_race.interrupts)
    for name in sorted(
        frozenset().union(
            *(
                automaton.live_after(function.__code__)[i.offset]
                for i in dis.get_instructions(function.__code__)
                if i.opname == "YIELD_VALUE"
            )
        )
    )
]


@pytest.mark.parametrize(("code", "name"), LIVE, ids=lambda each: getattr(each, "co_name", each))
def test_each_live_local_left_out_is_caught_or_changes_nothing(code, name, monkeypatch) -> None:
    """A local that is forgotten wrongly would lose states silently: the audit notices, or something else tells it apart too.

    (A parameter has one value in all of an actor's life; a loop's iterator stands on the stack; an offered step names its table.)
    """
    honest = automaton.live_after

    def lying(asked):
        return {offset: names - {name} if asked is code else names for offset, names in honest(asked).items()}

    monkeypatch.setattr(automaton, "live_after", lying)
    try:
        searched, _ = search("D", True, True)
    except MergeError:
        return
    assert searched.states == 26_079


def test_forgetting_where_a_loop_stands_is_caught(monkeypatch) -> None:
    honest = automaton.live_after
    monkeypatch.setattr(automaton, "live_after", lambda code: {offset: names - {"i"} for offset, names in honest(code).items()})
    monkeypatch.setattr(automaton, "_temporaries", lambda *_: ())
    with pytest.raises(MergeError, match="go on differently"):
        search("D", True, True)
