"""``prove`` on scenarios: what it claims of them, what it will not claim, and that it agrees with sampling."""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from test_prove import search

from ptactors.campaign.prove import prove_cells
from ptactors.campaign.run import Batch, Campaign, Plan, prepare
from ptactors.engine import automaton
from ptactors.engine.automaton import Automaton, MergeError
from ptactors.engine.estimate import total_states
from ptactors.engine.prove import Search, Searched
from ptactors.world.prove import Bounds, CellSearch, Proof

SCENARIOS = Path(__file__).parent.parent / "scenarios"

SMALL = """
ptactors = 1
name = "small"
title = "t"
why = "w"
[machine]
cpus = 2
[kernel]
preset = "v6.14"
table_free = "semi-rcu"
[vma.A]
at = 0x7f00_0020_0000
size = "2M"
kind = "anon"
populate = { "A" = "old" }
[cpu.0]
do = '''
Z: madvise A 4K DONTNEED
'''
[cpu.1]
tlb = ["A"]
do = '''
read A -> r0
'''
"""


def expects(*lines: str) -> str:
    return SMALL + "".join(f"[[expect]]\n{line}\n" for line in lines)


def proved(path: Path, bounds: Bounds | None = None, jobs: int = 1, fix_off: tuple[Any, ...] = (), **plan: Any) -> list[Proof]:
    batch = prepare(Plan(path=str(path), **plan))
    return [proof for _, proof in prove_cells([batch], bounds or Bounds(), fix_off, jobs, lambda cell: None)]


@pytest.fixture
def told(tmp_path: Path):
    """Writes a scenario of the small machine with these expectations, and proves it."""

    def tell(*lines: str, text: str = "", **keys: object) -> Proof:
        path = tmp_path / "small.toml"
        path.write_text(text or expects(*lines), encoding="utf-8")
        (proof,) = proved(path, **keys)  # type: ignore[arg-type]
        return proof

    return tell


def verdicts(proof: Proof) -> list[str]:
    return [answer.verdict for answer in proof.answers]


# -- what it claims -------------------------------------------------------------------------------------------------------


def test_what_exists_is_found_and_what_does_not_is_not(told) -> None:
    proof = told('exists = "cpu1:r0 == old"', 'exists = "cpu1:r0 == 0"', 'exists = "cpu1:r0 == 1"', 'exists = "hazard(crash)"')
    assert proof.searched.complete
    assert verdicts(proof) == ["held", "held", "violated", "inconclusive"]
    assert [answer.reason for answer in proof.answers[2:]] == [
        "in no interleaving",
        "vacuous: nothing that hazard(crash) looks at ever happened",
    ]


def test_never_needs_a_mutant(told) -> None:
    walk = expects('forbidden = "hazard(page_table_uaf_software_walker)"').replace("A 4K DONTNEED", "A DONTNEED")
    walk = walk.replace("read A -> r0", "walk A times 2 -> r0") + '[fault]\ntable_batch_alloc = "fail"\n'
    violated = told(text=walk)
    assert verdicts(violated) == ["violated"]
    safe = walk.replace("semi-rcu", "rcu")
    alone = told(text=safe)
    assert verdicts(alone) == ["inconclusive"]
    assert "names no knob" in alone.answers[0].reason
    given = told(text=safe, fix_off=(("table_free", "semi-rcu"),))
    assert verdicts(given) == ["held"]
    assert given.answers[0].mutant is not None
    assert given.answers[0].mutant.knobs == (("table_free", "semi-rcu"),)
    when = safe.replace("[[expect]]", '[[expect]]\nwhen = { table_free = ["rcu", "synchronize-rcu", "ipi-then-rcu"] }')
    assert verdicts(told(text=when)) == ["held"]
    blind = safe.replace("[[expect]]", "[[expect]]\nwhen = { gup_recheck = true }")
    answer = told(text=blind).answers[0]
    assert (answer.verdict, answer.mutant) == ("inconclusive", None)
    assert "in none of 1 mutants" in answer.reason


def test_a_mutant_is_looked_for_within_the_same_bounds(told) -> None:
    walk = expects('when = { table_free = "rcu" }\nforbidden = "hazard(page_table_uaf_software_walker)"').replace("A 4K ", "A ")
    walk = walk.replace("read A -> r0", "walk A times 2 -> r0").replace("semi-rcu", "rcu")
    walk += '[fault]\ntable_batch_alloc = "fail"\n'
    none = told(text=walk, bounds=Bounds(preemptions=0))
    assert verdicts(none) == ["inconclusive"]
    assert none.searched.refused > 0
    two = told(text=walk, bounds=Bounds(preemptions=2))
    assert verdicts(two) == ["held"]
    assert two.answers[0].reason == "in no interleaving of at most 2 preemptions"


def test_always_is_judged_like_never(told) -> None:
    proof = told('always = "cpu1:r0 == old or cpu1:r0 == 0"', 'always = "cpu1:r0 == old"')
    assert verdicts(proof) == ["inconclusive", "violated"]
    text = expects('when = { pending_flush = true }\nalways = "cpu1:r1 == 0"').replace(
        "read A -> r0", "wait cpu0:Z\nread A -> r1"
    )
    assert verdicts(told(text=text)) == ["held"]


def test_what_was_cut_off_or_not_reached_is_inconclusive(told) -> None:
    line = 'when = { table_free = "semi-rcu" }\nforbidden = "hazard(double_free)"'
    cut = told(line, bounds=Bounds(max_states=50))
    assert (verdicts(cut), cut.answers[0].reason) == (["inconclusive"], "the search was cut off by its bound of states")
    each_other = expects(line).replace("read A -> r0", "Y: wait cpu0:Z").replace("Z: madvise", "wait cpu1:Y\nZ: madvise")
    stuck = told(text=each_other)
    assert stuck.unreached == ("cpu0", "cpu1")
    assert stuck.answers[0].reason == "vacuous: cpu0, cpu1 never came to its end"
    assert stuck.answers[1].verdict == "violated"  # nobody expected a deadlock


def test_what_it_does_not_decide_it_says(told) -> None:
    proof = told('forbidden = "hazard(leak)"', 'exists = "count(ipi_arrive) > 7"')
    assert {answer.reason for answer in proof.answers} == {"the search does not decide this condition"}


# -- the memory of the oracles --------------------------------------------------------------------------------------------

CASE2 = SCENARIOS / "prove-case2.toml"
CASE1 = SCENARIOS / "case1-mixed-page-size.toml"
PROBLEM1 = SCENARIOS / "single-table-vs-rcu-walker.toml"


def hazards(batch: Batch, cell: int, exact: bool) -> tuple[set[str], int]:
    search = CellSearch(batch.scenario, batch.cells[cell], Bounds())
    search.search.exact = exact
    proof = search.run()
    assert proof.searched.complete
    return set(proof.hazards), proof.searched.states


FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("path", "cell"),
    [(CASE2, 0), *(pytest.param(*cell, marks=FULL) for cell in ((PROBLEM1, 6), (CASE2, 2), (CASE2, 4), (CASE1, 4), (CASE1, 8)))],
)
def test_hazards_of_the_tables_and_tlbs_are_decided_by_state_and_step(path: Path, cell: int) -> None:
    """What oracles remember splits states, and shows no hazard that the states without it do not show."""
    batch = prepare(Plan(path=str(path)))
    (coarse, fewer), (fine, more) = (hazards(batch, cell, exact) for exact in (False, True))
    assert coarse == fine != set()
    assert fewer <= more


# -- the races of the cover letter ----------------------------------------------------------------------------------------


def sampled(path: Path, preset: str | None, runs: int, only: tuple[str, ...] = ()) -> dict[tuple[int, int], str]:
    """(cell, expectation) -> what sampling says, where it claims anything."""
    batch = prepare(Plan(path=str(path), preset=preset, runs=runs, only=only, host="direct"))
    found = {}
    for result in Campaign([batch]).results():
        for i, each in enumerate(result.expectations[:-1]):
            found[result.cell.index, i] = each.verdict
    return found


def agrees(path: Path, preset: str | None, runs: int, only: tuple[str, ...] = ()) -> None:
    proofs = proved(path, preset=preset, only=only)
    claims = sampled(path, preset, runs, only)
    assert len(claims) == sum(len(proof.answers) for proof in proofs) > 0
    for proof in proofs:
        assert proof.searched.complete
        assert proof.unreached == ()
        for i, answer in enumerate(proof.answers):
            assert answer.verdict == claims[proof.cell.index, i] == "held", (proof.cell.name, answer)
            assert (answer.mutant is not None) == (answer.kind == "forbidden")


def test_the_smallest_cells_of_case_2() -> None:
    agrees(CASE2, None, 120, ("0", "2"))


@pytest.mark.full
@pytest.mark.parametrize("preset", ["rfc-v1", "v6.14"])
@pytest.mark.parametrize("path", [CASE1, CASE2, PROBLEM1], ids=lambda path: path.stem)
def test_each_cell_is_settled_and_agrees_with_sampling(path: Path, preset: str) -> None:
    agrees(path, preset, 200)


# -- how it is done -------------------------------------------------------------------------------------------------------


def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    rows = 'when = { table_free = "rcu" }\nforbidden = "hazard(double_free)"', 'exists = "cpu1:r0 == old"'
    path.write_text(expects(*rows) + '[matrix]\ntable_free = ["semi-rcu", "rcu", "ipi-then-rcu"]\n', encoding="utf-8")
    assert proved(path, jobs=2) == proved(path, jobs=1)


def test_preemptions_are_bounded_and_the_bound_is_reached_at_last() -> None:
    batch = prepare(Plan(path=str(CASE2), only=("0",)))
    found = []
    for most in (0, 1, None):
        search = CellSearch(batch.scenario, batch.cells[0], Bounds(preemptions=most))
        found.append((sorted(search.run().hazards), search.search.result.complete))
    assert found == [([], True), (["two_translations_one_va"], True), (["two_translations_one_va"], True)]


def test_the_size_is_guessed_within_a_factor_of_three_from_the_middle_on() -> None:
    levels = search("D", True, True)[0].levels
    total = sum(levels)
    half = next(d for d in range(len(levels)) if sum(levels[:d]) > total / 2)
    for depth in range(half, len(levels) - 5):
        guess = total_states(levels[:depth])
        assert guess is not None
        assert total / 3 < guess < total * 3


@pytest.mark.parametrize("levels", [[], [1, 2, 3], [2**d for d in range(40)]])
def test_no_size_is_guessed_too_early_or_while_growth_does_not_slow_down(levels: list[int]) -> None:
    assert total_states(levels) is None


# -- the audit of merged histories ----------------------------------------------------------------------------------------

ONE_ACCESS = "    read  A+0x3000 -> r0            # either translation may serve this\n"


def plain_search(batch: Batch) -> tuple[Searched, list[Automaton]]:
    """The states alone, without oracles."""
    cell = CellSearch(batch.scenario, batch.cells[0], Bounds())
    movers = cell.search.movers
    return Search(cell.search.state, movers).run(200_000), [mover.automaton for mover in movers]


def locals_that_live(codes: Iterable[CodeType]) -> Iterator[tuple[CodeType, str]]:
    """Each local that is live where a function can stand."""
    for code in codes:
        stops = [i.offset for i in dis.get_instructions(code) if i.opname == "YIELD_VALUE"]
        for name in sorted(frozenset().union(*(automaton.live_after(code)[offset] for offset in stops))):
            yield code, name


def forgetting(code: CodeType, name: str) -> Any:
    """``live_after``, lying about one local of one function."""
    honest = automaton.live_after
    return functools.cache(lambda asked: {at: live - {name} if asked is code else live for at, live in honest(asked).items()})


@pytest.mark.full
def test_each_live_local_of_case_1_left_out_is_caught_or_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 1 with one access: every local of every frame in which an actor ever stands, forgotten in turn.

    As long as all nodes of the honest automata still differ, the search is the same, step by step; only else is it made.
    """
    path = tmp_path / "case1-mixed-page-size.toml"
    text = CASE1.read_text(encoding="utf-8")
    assert ONE_ACCESS in text
    path.write_text(text.replace(ONE_ACCESS, ""), encoding="utf-8")
    batch = prepare(Plan(path=str(path), preset="rfc-v1", only=("0",)))
    searched, automata = plain_search(batch)
    lives = [[(node.options, each._replay(node.history)[0]) for node in each.nodes if node.options] for each in automata]
    frames = [coroutine for life in lives for _, coroutine in life]
    codes = dict.fromkeys(key[0] for coroutine in frames for key in automaton.frames(coroutine))  # type: ignore[union-attr,attr-defined]
    caught, unchanged, missed = [], [], []
    for code, name in list(locals_that_live(codes)):
        with monkeypatch.context() as lie:
            lie.setattr(automaton, "live_after", forgetting(code, name))
            keys = [[(options, automaton.frames(coroutine)) for options, coroutine in life] for life in lives]
            try:
                same = all(len(set(each)) == len(each) for each in keys) or plain_search(batch)[0].states == searched.states
                (unchanged if same else missed).append((code.co_qualname, name))
            except MergeError:
                caught.append((code.co_qualname, name))
    print(
        f"{len(codes)} functions, {searched.states} states: {len(caught)} locals caught, {len(unchanged)} change nothing", missed
    )
    for coroutine in frames:
        coroutine.close()
    assert missed == []
    assert len(caught) >= 5
