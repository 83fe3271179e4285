"""``ptactors bench log``: what recording costs, against runs that could not record at all.

Each way of running has a process of its own, so that none of them meets objects of another kind than its own, and they take turns
with the same seeds; what is compared is the CPU time of those processes, round by round. One way is there twice: what its two
processes differ by is the noise of the machine.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import attrs
import click

from ptactors.campaign.names import known_names
from ptactors.campaign.witness import write_outcome
from ptactors.cli.main import HELD, INCONCLUSIVE, VIOLATED
from ptactors.engine import host_direct
from ptactors.model.state import _DEFAULTS, Cell, State, V
from ptactors.oracle.table import Oracles
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play
from ptactors.world.machine import Machine

WAYS = ("nothing", "again", "none", "record")
"""No recorder at all; the same once more; --log none; a run that is recorded."""
ALLOWED = {"none": 0.05, "record": 0.20}
"""What each may cost, as a share of a run without a recorder."""
STEPS = 8_000
"""Steps of a piece that is timed; at least one run."""
STRATEGY = "run-length"
CELL = 0


class NoRecorder(State):
    """A state that does not even ask whether somebody records."""

    __slots__ = ()

    def write(self, cell: Cell[V], value: V) -> None:
        """See State."""
        name = cell[0]
        if value == _DEFAULTS[name]:
            self.cells.pop(cell, None)
        else:
            self.cells[cell] = value
        if name == "entry":
            self._note_occupied(cell[1], cell[2], value)
        if cell in self.waited:
            self.touched.append(cell)

    def emit(self, event: object) -> None:
        """See State."""
        for see in self.listeners.get(type(event), ()):
            see(self.step, self.actor, event)


@attrs.frozen
class Measured:
    """One scenario's figures."""

    name: str
    microseconds: float
    """A step takes without a recorder."""
    ratios: dict[str, tuple[float, float, float]]
    """Way -> median of its time over that of runs without a recorder, between the bounds of its 95 % confidence interval."""
    writing: float
    """Microseconds a step to find the causes of a recorded run and to write its log."""


@attrs.frozen
class Piece:
    """What one process times at once."""

    path: str
    way: str
    first: int
    seeds: int


@functools.cache
def _cell(path: str) -> tuple[object, object]:
    scenario = load(Path(path), known_names())
    return scenario, cells(scenario)[CELL]


def machine(path: str, way: str, seed: int) -> Machine:
    """A run that is ready to be made in this way."""
    scenario, cell = _cell(path)
    made = Machine(scenario, cell, STRATEGY, seed, Oracles(), record=way == "record")  # type: ignore[arg-type]
    if way in ("nothing", "again"):
        made.state.__class__ = NoRecorder
    return made


def timed(piece: Piece) -> tuple[float, int]:
    """CPU seconds and steps. The collector is off, as it is in campaigns."""
    seconds, steps = 0.0, 0
    gc.collect()
    gc.disable()
    try:
        for seed in range(piece.first, piece.first + piece.seeds):
            one = machine(piece.path, piece.way, seed)
            start = time.process_time()
            host_direct.run(one.baton)
            seconds += time.process_time() - start
            one.finish()
            steps += one.state.step
    finally:
        gc.enable()
    return seconds, steps


def written(path: str) -> float:
    """CPU microseconds a step for the log of a recorded run: causes, lines, file."""
    scenario, cell = _cell(path)
    outcome = play(scenario, cell, strategy=STRATEGY, seed=0, record=True, host="direct")  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        write_outcome(Path(folder) / "log.jsonl", outcome, scenario)  # type: ignore[arg-type]
        return (time.process_time() - start) * 1e6 / outcome.steps


def measure(path: Path, rounds: int) -> Measured:
    """Let the ways take turns."""
    length = play(*_cell(str(path)), strategy=STRATEGY, seed=0, host="direct").steps  # type: ignore[arg-type]
    seeds = max(1, STEPS // max(length, 1))
    with contextlib.ExitStack() as stack:
        spawn = get_context("spawn")
        workers = {way: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for way in WAYS}

        def ask(way: str, first: int) -> tuple[float, int]:
            return workers[way].submit(timed, Piece(str(path), way, first, seeds)).result()

        for way in WAYS:
            ask(way, 0)  # what is imported, compiled and cached at first use is not what is measured
        times: list[dict[str, tuple[float, int]]] = []
        for number in range(rounds):
            turn = number % len(WAYS)
            times.append({way: ask(way, number * seeds) for way in (*WAYS[turn:], *WAYS[:turn])})
        writing = workers["record"].submit(written, str(path)).result()
    ratios = {way: median_within([t[way][0] / t["nothing"][0] for t in times]) for way in WAYS if way != "nothing"}
    base = statistics.median(t["nothing"][0] / t["nothing"][1] for t in times) * 1e6
    return Measured(path.stem, base, ratios, writing)


def median_within(values: Sequence[float]) -> tuple[float, float, float]:
    """The median between the order statistics that hold it with 95 %, whatever the distribution (the binomial's normal form)."""
    ranked, n = sorted(values), len(values)
    reach = 0.98 * n**0.5
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))
    return ranked[low], statistics.median(ranked), ranked[high]


def verdict(found: Sequence[Measured], way: str) -> tuple[str, float, float]:
    """(held, violated or inconclusive, what it costs over all scenarios, the noise): the noise decides what can be told.

    The noise is how far the median of runs that differ in nothing lies from 1, or how uncertain it is.
    """
    cost = statistics.median(each.ratios[way][1] for each in found) - 1
    noise = max(max(abs(each.ratios["again"][1] - 1), (each.ratios["again"][2] - each.ratios["again"][0]) / 2) for each in found)
    if abs(cost - ALLOWED[way]) < noise:
        return "inconclusive", cost, noise
    return "held" if cost <= ALLOWED[way] else "violated", cost, noise


def run(paths: Sequence[Path], rounds: int, as_json: bool) -> int:
    """Measure and print; the exit code."""
    found: list[Measured] = []
    if not as_json:
        click.echo(
            f"CPU time of a run, divided by that of one without a recorder; median [where it lies with 95 %] of {rounds} rounds"
        )
    for path in paths:
        found.append(measure(path, rounds))
        if not as_json:
            click.echo(_line(found[-1]))
    verdicts = {way: verdict(found, way) for way in ALLOWED}
    if as_json:
        click.echo(json.dumps(_document(found, verdicts), indent=2))
    else:
        for way, (word, cost, noise) in verdicts.items():
            what = "--log none" if way == "none" else "recording"
            click.echo(f"{word}: {what} costs {100 * cost:.1f} %, allowed {100 * ALLOWED[way]:.0f} %; noise {100 * noise:.1f} %")
    words = [word for word, _, _ in verdicts.values()]
    return VIOLATED if "violated" in words else INCONCLUSIVE if "inconclusive" in words else HELD


def _line(each: Measured) -> str:
    told = {"again": "the same", "none": "--log none", "record": "recorded"}
    ratios = "  ".join(f"{told[way]} {m:.3f} [{low:.3f}, {high:.3f}]" for way, (low, m, high) in each.ratios.items())
    return f"{each.name}: {each.microseconds:.1f} us a step  {ratios}  its log afterwards {each.writing:.1f} us a step"


def _document(found: Sequence[Measured], verdicts: dict[str, tuple[str, float, float]]) -> dict[str, object]:
    return {
        "tool": "ptactors",
        "scenarios": [attrs.asdict(each) for each in found],
        "verdicts": {
            way: {"verdict": word, "cost": cost, "allowed": ALLOWED[way], "noise": noise}
            for way, (word, cost, noise) in verdicts.items()
        },
    }
