"""Exhaustive searches of many cells, in one process or several, with the same result in the same order for any number of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from ptactors.campaign.pool import in_order
from ptactors.campaign.run import Batch, Plan, prepare, tolerance
from ptactors.campaign.verdict import SURPRISE
from ptactors.campaign.work import Failure, attempt, checked
from ptactors.errors import UsageError
from ptactors.scenario.matrix import Cell
from ptactors.scenario.model import Scenario
from ptactors.world.mutant import settle
from ptactors.world.prove import VIOLATED, Answer, Bounds, CellSearch, Proof

if TYPE_CHECKING:
    from ptactors.engine.prove import Searched

Progress = Callable[["Searched", int], None]


@attrs.frozen(kw_only=True)
class Task:
    """One cell to be searched; names things instead of carrying them, so that it is cheap to send."""

    plan: Plan
    digest: str
    """Of the scenario."""
    cell: int
    bounds: Bounds
    mutant: tuple[tuple[str, object], ...] = ()
    """Knobs that the user names as the fix to be switched off."""


def prove_cells(
    batches: Sequence[Batch],
    bounds: Bounds,
    mutant: tuple[tuple[str, object], ...],
    jobs: int,
    progress: Callable[[Cell], Progress | None],
) -> Iterator[tuple[Batch, Proof]]:
    """Every cell, proved or not, in order. Raises PtactorsError; ModelError for what is a bug in ptactors."""
    work = [
        (batch, Task(plan=batch.plan, digest=batch.scenario.digest, cell=cell.index, bounds=bounds, mutant=mutant))
        for batch in batches
        for cell in batch.cells
    ]
    if min(jobs, len(work)) <= 1:
        for batch, task in work:
            cell = next(c for c in batch.cells if c.index == task.cell)
            yield batch, checked(prove(task, progress(cell)))
        return
    with contextlib.closing(in_order(prove, iter(work), min(jobs, len(work)))) as proofs:
        for batch, proof in proofs:
            yield batch, checked(proof)


def prove(task: Task, progress: Progress | None = None) -> Proof | Failure:
    """Search one cell and its mutants. Never raises but for an interrupt."""
    what = f"{task.plan.path}, cell {task.cell}"
    return attempt(lambda: _prove(task, progress), what, lambda: f"in {what}")


def _prove(task: Task, progress: Progress | None) -> Proof:
    batch = prepare(task.plan)
    if batch.scenario.digest != task.digest:
        raise UsageError("the file changed while it was searched")
    cell = next(c for c in batch.cells if c.index == task.cell)
    proof = CellSearch(batch.scenario, cell, task.bounds).run(progress)
    given = {**dict(task.plan.overrides), **({"preset": task.plan.preset} if task.plan.preset else {})}
    proof = settle(batch.scenario, proof, given, dict(task.mutant))
    return attrs.evolve(proof, answers=(*proof.answers, *_surprises(batch.scenario, proof)))


def _surprises(scenario: Scenario, proof: Proof) -> list[Answer]:
    """What every cell forbids without saying so: a violation that no expectation names."""
    found = [name for name in proof.hazards if name in tolerance(scenario, proof.cell)]
    if not found:
        return []
    witness = min((proof.hazards[name] for name in found), key=len)
    why = f"hazard({', '.join(found)}) after {len(witness)} steps"
    return [Answer(kind="forbidden", condition=SURPRISE, verdict=VIOLATED, reason=why, witness=witness)]
