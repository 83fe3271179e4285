"""DPOR, which merges no states and fuses no steps, as an independent witness of what ``prove`` finds on small scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from test_prove_world import SMALL

from ptactors.campaign.run import Plan, prepare
from ptactors.engine.dpor import explore
from ptactors.oracle.table import Oracles
from ptactors.world.machine import Machine
from ptactors.world.prove import Bounds, CellSearch

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


@pytest.mark.parametrize("name", CASES)
def test_search_with_and_without_reduction_finds_what_dpor_finds(name: str, tmp_path: Path) -> None:
    text, observed, hazards = CASES[name]
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    batch = prepare(Plan(path=str(path)))
    cell = batch.cells[0]
    config = attrs.evolve(cell.config, machine=attrs.evolve(cell.config.machine, exit=False))
    benches: list[Oracles] = []

    def build() -> Any:
        benches.append(Oracles())
        machine = Machine(batch.scenario, attrs.evolve(cell, config=config), "random", 0, benches[-1])
        return machine.state, machine.actors

    made = explore(build, max_runs=2_000, observed=observed)
    assert made.complete
    assert made.runs > 3
    assert {finding.hazard for bench in benches for finding in bench.findings} == hazards
    for fuse_from in (None, 0):
        search = CellSearch(batch.scenario, cell, Bounds(fuse_from=fuse_from))
        finals: set[frozenset[Any]] = set()
        search.search.when_final = lambda here, finals=finals: finals.add(frozenset(here.cells.items()))  # type: ignore[misc]
        proof = search.run()
        assert (proof.searched.complete, bool(proof.searched.passes)) == (True, fuse_from == 0)
        assert (finals, set(proof.hazards)) == (set(made.finals), hazards)
