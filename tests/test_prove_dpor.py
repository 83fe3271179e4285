"""DPOR, which merges no states and fuses no steps, as an independent witness of what ``prove`` finds on small scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from test_prove_world import CASE2, SMALL

from ptactors.campaign.run import Batch, Plan, prepare
from ptactors.engine.dpor import explore
from ptactors.oracle.table import Oracles
from ptactors.world.machine import Machine
from ptactors.world.prove import Bounds, CellSearch, Proof

NO_BATCH = '[fault]\ntable_batch_alloc = "fail"\n'
WHOLE = SMALL.replace("A 4K DONTNEED", "A DONTNEED").replace('tlb = ["A"]\n', "")
UAF = "page_table_uaf_software_walker"
CASES: dict[str, tuple[str, frozenset[str], set[str]]] = {
    # what runs: (scenario, families that an oracle sees several cells of at once, hazards)
    "discard of a page, a load": (SMALL, frozenset({"tlb"}), set()),
    "discard of a page, GUP-fast": (SMALL.replace("read A -> r0", "gup_fast A -> r0"), frozenset({"tlb"}), set()),
    "discard of a page, a walk": (SMALL.replace("read A -> r0", "walk A -> r0"), frozenset({"tlb"}), set()),
    "discard of a table, a walk": (WHOLE.replace("read A -> r0", "walk A -> r0") + NO_BATCH, frozenset(), {UAF}),
    "discard of a table, GUP-fast": (WHOLE.replace("read A -> r0", "gup_fast A -> r0") + NO_BATCH, frozenset({"tlb"}), set()),
    "protection of a page, a load": (SMALL.replace("madvise A 4K DONTNEED", "mprotect A 4K ro"), frozenset({"tlb"}), set()),
}


def by_dpor(batch: Batch, observed: frozenset[str], max_runs: int) -> tuple[set[frozenset[Any]], set[str], int]:
    """Final states, hazards and runs of the first cell, each run from the start."""
    cell = batch.cells[0]
    config = attrs.evolve(cell.config, machine=attrs.evolve(cell.config.machine, exit=False))
    benches: list[Oracles] = []

    def build() -> Any:
        benches.append(Oracles())
        machine = Machine(batch.scenario, attrs.evolve(cell, config=config), "random", 0, benches[-1])
        return machine.state, machine.actors

    result = explore(build, max_runs=max_runs, observed=observed)
    assert result.complete
    return set(result.finals), {finding.hazard for bench in benches for finding in bench.findings}, result.runs


def by_search(batch: Batch, bounds: Bounds) -> tuple[set[frozenset[Any]], Proof]:
    """Final states and the proof of the first cell."""
    search = CellSearch(batch.scenario, batch.cells[0], bounds)
    finals: set[frozenset[Any]] = set()
    search.search.when_final = lambda here: finals.add(frozenset(here.cells.items()))
    return finals, search.run()


@pytest.mark.parametrize("name", CASES)
def test_search_with_and_without_reduction_finds_what_dpor_finds(name: str, tmp_path: Path) -> None:
    text, observed, hazards = CASES[name]
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    batch = prepare(Plan(path=str(path)))
    finals, seen, runs = by_dpor(batch, observed, 2_000)
    assert runs > 3
    assert seen == hazards
    for fuse_from in (None, 0):
        found, proof = by_search(batch, Bounds(fuse_from=fuse_from))
        assert (proof.searched.complete, bool(proof.searched.passes)) == (True, fuse_from == 0)
        assert (found, set(proof.hazards)) == (finals, hazards)


@pytest.fixture(scope="module")
def smallest_of_case_2() -> Batch:
    return prepare(Plan(path=str(CASE2), preset="before", only=("0",)))


def test_the_final_states_of_case_2(smallest_of_case_2: Batch) -> None:
    finals, hazards, runs = by_dpor(smallest_of_case_2, frozenset(), 20_000)
    assert finals == by_search(smallest_of_case_2, Bounds())[0]
    assert runs < 1000
    assert hazards == set()  # a hazard of two TLBs at one moment is not a matter of the classes


@pytest.mark.full
def test_the_hazards_of_case_2_if_dpor_is_told_what_is_observed(smallest_of_case_2: Batch) -> None:
    finals, hazards, _ = by_dpor(smallest_of_case_2, frozenset({"tlb"}), 20_000)
    found, proof = by_search(smallest_of_case_2, Bounds())
    assert (finals, hazards) == (found, set(proof.hazards))
    assert hazards == {"two_translations_one_va"}
