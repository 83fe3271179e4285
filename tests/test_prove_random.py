"""The stateful search against brute force, on the random programs that DPOR is held against as well."""

from __future__ import annotations

import pytest
from random_programs import CONFIG, Case, corpus, data, life_of
from test_dpor import PROGRAMS

from ptactors.engine import automaton
from ptactors.engine.automaton import Automaton, MergeError
from ptactors.engine.baton import ALTERNATIVES
from ptactors.engine.dpor import Cells, Deadlock
from ptactors.engine.dpor.live import Found, Live
from ptactors.engine.prove import Mover, Search, Searched, Situation
from ptactors.model.state import State


def searched(case: Case, preemptions: int | None = None, reduce: bool = False) -> tuple[Searched, set[Cells], set[Deadlock]]:
    """What the search does, the final states that it finds, and the deadlocks among them."""
    state = State(CONFIG)
    movers = [
        Mover(
            name=f"a{i}",
            automaton=Automaton(f"a{i}", lambda ops=ops: (life_of(ops), str)),  # type: ignore[misc]
            gate=None if gate is None else data(gate),
        )
        for i, (gate, ops) in enumerate(case.program)
    ]
    finals: set[Cells] = set()
    deadlocks: set[Deadlock] = set()

    def final(here: Situation) -> None:
        cells = frozenset(here.cells.items())
        finals.add(cells)
        stuck = tuple(mover.name for mover, node in zip(movers, here.nodes, strict=True) if node.options)
        if stuck:
            deadlocks.add((stuck, cells))

    def again() -> None:
        finals.clear()
        deadlocks.clear()

    search = Search(state, movers, preemptions=preemptions, fuse_from=0 if reduce else None)
    search.when_final, search.when_again = final, again
    return search.run(100_000), finals, deadlocks


def differs(case: Case, reduce: bool = False) -> bool:
    """Whether the search finds anything but the truth."""
    found, finals, deadlocks = searched(case, reduce=reduce)
    return not found.complete or (finals, deadlocks) != (case.truth.finals, case.truth.deadlocks)


def test_on_random_programs_it_finds_what_brute_force_finds() -> None:
    assert [case.seed for case in corpus(PROGRAMS) if differs(case)] == []


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_on_many_more_random_programs(part: int) -> None:
    assert [case.seed for case in corpus(PROGRAMS, 1_000_000 * (part + 1)) if differs(case)] == []


@pytest.mark.parametrize("watched", [True, False])
def test_forgetting_where_a_loop_stands_is_noticed_before_a_state_is_lost(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value stack says where a loop stands. What is learned after a merge must be compared too."""
    monkeypatch.setattr(automaton, "_temporaries", lambda *_: ())
    if not watched:
        monkeypatch.setattr(automaton, "_WATCHED", 0)
    noticed = wrong = 0
    for case in corpus(PROGRAMS)[:300]:
        try:
            wrong += differs(case)
        except MergeError:
            noticed += 1
    assert (noticed > 20, wrong == 0) == (watched, watched)


def by_hand(case: Case, bound: int) -> tuple[set[Cells], set[Deadlock]]:
    """The ends of every run with at most so many preemptions: turns taken while the one who moved last could go on."""
    found = Found()

    def go_on(turns: list[int], made: int) -> None:
        live = Live(case.build)
        for turn in turns:
            live.make(turn)
        able = live.able()
        if not able:
            found.ended(live)
        live.close()
        last = turns[-1] // ALTERNATIVES if turns else -1
        could = any(turn // ALTERNATIVES == last for turn in able)
        for turn in able:
            price = made + (could and turn // ALTERNATIVES != last)
            if price <= bound:
                go_on([*turns, turn], price)

    go_on([], 0)
    result = found.result(True, False)
    return set(result.finals), set(result.deadlocks)


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_within_a_bound_of_preemptions_it_finds_what_runs_within_the_bound_find(bound: int) -> None:
    fewer = 0
    for case in corpus(PROGRAMS)[:200]:
        found, finals, deadlocks = searched(case, bound)
        assert found.complete
        assert (finals, deadlocks) == by_hand(case, bound), case.seed
        fewer += finals != case.truth.finals
    assert fewer > 0 if bound < 2 else fewer >= 0
