"""The reduction of the exhaustive search: it shows what the search without it shows, and each of its parts is needed."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from random_programs import corpus
from test_dpor import PROGRAMS
from test_prove_random import differs, searched

from ptactors.campaign.run import Plan, prepare
from ptactors.engine.dpor.marks import Marks, dependent
from ptactors.engine.fuse import Fusion
from ptactors.model import event as events
from ptactors.model.rng import stream
from ptactors.model.step import Footprint
from ptactors.oracle import snapshot
from ptactors.oracle.table import Oracles
from ptactors.world import sight, watch
from ptactors.world.prove import Bounds, CellSearch, Proof, Turns

SCENARIOS = Path(__file__).parent.parent / "scenarios"
FULL = pytest.mark.full


# -- programs of every kind of blocking -----------------------------------------------------------------------------------


def test_on_random_programs_it_finds_what_brute_force_finds_in_fewer_states() -> None:
    cases = corpus(PROGRAMS)
    assert [case.seed for case in cases if differs(case, reduce=True)] == []
    full, less = (sum(searched(case, reduce=reduce)[0].states for case in cases[:300]) for reduce in (False, True))
    assert less < 0.75 * full


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_on_many_more_random_programs(part: int) -> None:
    assert [case.seed for case in corpus(PROGRAMS, 1_000_000 * (part + 1)) if differs(case, reduce=True)] == []


def _nothing(*_: Any) -> None:
    pass


def _always(*_: Any) -> bool:
    return True


def _never(*_: Any) -> bool:
    return False


BROKEN = {
    "what others do": ("_hold", _nothing),
    "what others wait for, and who is shut out": ("waits", _nothing),
    "handlers that may wait": ("_may_wait", _never),
    "what cannot have come before": ("_impossible", _always),
}


@pytest.mark.parametrize("part", BROKEN)
def test_without_any_of_its_parts_it_fails(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = corpus(PROGRAMS)
    monkeypatch.setattr(Fusion, *BROKEN[part])
    assert any(differs(case, reduce=True) for case in cases)


# -- scenarios ------------------------------------------------------------------------------------------------------------


def outcome(path: Path, cell: int, reduce: bool) -> tuple[Proof, object]:
    """The proof, and what may not change: hazards, final states and what the oracles then know, verdicts, kinds of events."""
    batch = prepare(Plan(path=str(path)))
    search = CellSearch(batch.scenario, batch.cells[cell], Bounds(fuse_from=0 if reduce else None))
    finals: set[tuple[Any, ...]] = set()
    final, again = search.search.when_final, search.search.when_again
    assert final is not None
    assert again is not None

    def note(here: Any) -> None:
        known = search.watcher.memories[here.memory.number]
        finals.add((frozenset(here.cells.items()), known.clock, known.knowledge))
        final(here)

    def forget() -> None:
        finals.clear()
        again()

    search.search.when_final, search.search.when_again = note, forget
    proof = search.run()
    assert proof.searched.complete
    contents = [[snapshot.freeze(pickle.loads(each)) for each in piece._saved] for piece in search.watcher._bench.pieces]
    ends = {(cells, clock, tuple(map(list.__getitem__, contents, known))) for cells, clock, known in finals}
    verdicts = [answer.verdict for answer in proof.answers]
    return proof, (set(proof.hazards), ends, verdicts, proof.unreached, proof.unmoved, search.watcher.heard)


CELLS = [
    ("prove-case2", (0,), (1, 2, 3, 4, 5)),
    ("case1-mixed-page-size", (), (0, 4, 5, 8, 9)),
    ("single-table-vs-rcu-walker", (0,), (6, 8, 10, 12, 14)),
]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        *((name, cell) for name, fast, _ in CELLS for cell in fast),
        *(pytest.param(name, cell, marks=FULL) for name, _, slow in CELLS for cell in slow),
    ],
)
def test_on_scenarios_it_finds_what_the_search_without_it_finds(name: str, cell: int) -> None:
    path = SCENARIOS / f"{name}.toml"
    (less, one), (full, other) = (outcome(path, cell, reduce) for reduce in (True, False))
    assert one == other
    assert less.searched.states < 0.6 * full.searched.states
    assert less.searched.fused > 0 == full.searched.fused


def test_with_a_bound_of_preemptions_nothing_is_fused() -> None:
    batch = prepare(Plan(path=str(SCENARIOS / "prove-case2.toml"), only=("0",)))
    proof = CellSearch(batch.scenario, batch.cells[0], Bounds(preemptions=1, fuse_from=0)).run()
    assert (proof.searched.fused, proof.searched.passes) == (0, 0)


# -- what the oracles look at ---------------------------------------------------------------------------------------------


def swapped(name: str, cell: int, walks: int, paths: Iterable[Turns] = (), most: int = 1_000) -> tuple[int, list[str]]:
    """Pairs of steps that do not conflict, met on random walks of ``most`` steps; those of which the order counts after all.

    Walks along ``paths`` stop short of the last step; then everybody else goes on.
    """
    batch = prepare(Plan(path=str(SCENARIOS / f"{name}.toml")))
    made = CellSearch(batch.scenario, batch.cells[cell], Bounds())
    search, watcher, marks, rng = made.search, made.watcher, Marks(), stream(1, name)
    start = search._first()
    mover_of = {mover.name: i for i, mover in enumerate(search.movers)}
    pairs, bad = 0, []

    def step(here: Any, turn: tuple[int, int]) -> tuple[Any, Any, tuple[str, ...]]:
        """(what is then, the mark of the step, what was found)."""
        state, (i, option) = search.state, turn
        state.cells, state.occupied, state.actor = dict(here[0]), dict(here[1]), i
        node = here[2][i]
        offered = node.options[option]
        reads, writes = offered.touches(state)
        reads = (*offered.waits(), *reads) if offered.blocking else reads
        state.writes, records = [], []
        state.ring = records
        result = offered.apply(state)
        memory, found = watcher.hear(here[3], records) if records else (here[3], ())
        seen: Footprint = watcher.touched if records else ((), ())
        mark = marks.mark(((*reads, *seen[0]), (*writes, *seen[1])), search._gates[i])
        after = search.movers[i].automaton.follow(node, option, result)
        return (state.cells, state.occupied, (*here[2][:i], after, *here[2][i + 1 :]), memory), mark, found

    def able(here: Any) -> list[tuple[int, int]]:
        state = search.state
        state.cells, state.occupied = dict(here[0]), dict(here[1])
        offers = [(i, k, s) for i, node in enumerate(here[2]) for k, s in enumerate(node.options)]
        shut = [gate is not None and state.cells.get(gate) for gate in search._gates]
        return [(i, k) for i, k, s in offers if not shut[i] and (not s.blocking or s.ready(state))]

    for path in (*paths, *((),) * walks):
        ahead_of_us = [(mover_of[actor], option) for actor, option in path]
        frozen = ahead_of_us.pop()[0] if ahead_of_us else -1
        here: Any = (start.cells, start.occupied, start.nodes, start.memory)
        last = -1
        for _ in range(most):
            if not (turns := able(here)):
                break
            ahead = {turn: step(here, turn) for turn in turns}
            for a, b in itertools.combinations(turns, 2):
                if a[0] != b[0] and not dependent(ahead[a][1], ahead[b][1]):
                    pairs += 1
                    ab, ba = step(ahead[a][0], b), step(ahead[b][0], a)
                    said = [sorted((*ahead[x][2], *after[2])) for x, after in ((a, ab), (b, ba))]
                    if ab[0][0] != ba[0][0] or ab[0][2:] != ba[0][2:] or said[0] != said[1]:
                        bad.append(f"{here[2][a[0]].options[a[1]]} and {here[2][b[0]].options[b[1]]}")
            if ahead_of_us:
                here = ahead[ahead_of_us.pop(0)][0]
                continue
            turns = [turn for turn in turns if turn[0] != frozen] or turns
            stay = [turn for turn in turns if turn[0] == last and rng.below(4)] or turns
            turn = stay[rng.below(len(stay))]
            here, last = ahead[turn][0], turn[0]
    return pairs, bad


@pytest.mark.parametrize(("name", "cell"), [("prove-case2", 4), ("single-table-vs-gup-fast", 0)])
def test_steps_that_do_not_conflict_commute_for_the_oracles_too(name: str, cell: int) -> None:
    pairs, bad = swapped(name, cell, 10)
    assert pairs > 200
    assert bad == []


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(path.stem for path in SCENARIOS.glob("*.toml")))
def test_steps_that_do_not_conflict_commute_for_the_oracles_too_everywhere(name: str) -> None:
    assert swapped(name, 0, 2, most=200)[1] == []


def witnesses(name: str, cell: int) -> list[Turns]:
    """Paths to every hazard of a cell."""
    batch = prepare(Plan(path=str(SCENARIOS / f"{name}.toml")))
    return list(CellSearch(batch.scenario, batch.cells[cell], Bounds(fuse_from=None)).run().hazards.values())


def _forgetful(*families: str) -> Any:
    """``touched`` with these families left out."""
    honest = sight.touched

    def lying(event: Any, files: bool) -> Footprint:
        reads, writes = honest(event, files)
        return reads, tuple(key for key in writes if key[0] not in families)

    return lying


def test_a_list_that_forgets_what_an_event_changes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "touched", _forgetful(sight.PAGES[0], sight.CLOCK[0]))
    assert swapped("case2-two-pte-pages", 0, 10)[1] != []


@pytest.mark.parametrize(
    ("name", "cell", "families"),
    [
        ("prove-case2", 0, (sight.TLB,)),
        pytest.param("prove-case2", 4, (sight.TLB,), marks=FULL),
    ],
)
def test_on_the_way_to_a_hazard_steps_that_do_not_conflict_commute(
    name: str, cell: int, families: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = witnesses(name, cell)
    assert paths
    assert swapped(name, cell, 0, paths)[1] == []
    monkeypatch.setattr(watch, "touched", _forgetful(*families))
    assert swapped(name, cell, 0, paths)[1] != []


def test_what_is_listed_is_listened_to_and_families_are_known() -> None:
    kinds: set[type] = set()
    Oracles().listen(lambda kind, _: kinds.add(kind))
    assert set(sight.TOUCHED) <= {*kinds, *events.EVENTS}
    unlisted = {events.VmaInit, events.ProgramsDone, events.RunEnd, events.ExitMm, events.Stuck, events.FolioDirty}
    assert kinds - set(sight.TOUCHED) == unlisted
    assert {key[0] for key in sight.EVERYTHING[1]} == set(sight.FAMILIES)


def test_only_a_search_that_gets_large_is_reduced() -> None:
    batch = prepare(Plan(path=str(SCENARIOS / "prove-case2.toml"), only=("0",)))
    small, large, cut = (
        CellSearch(batch.scenario, batch.cells[0], Bounds(max_states=most, fuse_from=fuse_from)).run().searched
        for most, fuse_from in ((10_000, 5_000), (10_000, 1_000), (100, 5_000))
    )
    assert (small.complete, small.passes, small.fused) == (True, 0, 0)
    assert large.complete
    assert large.passes > 0 < large.fused
    assert large.states < 1_000 < small.states
    assert (cut.complete, cut.passes) == (False, 1)
