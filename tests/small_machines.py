"""Small scenarios as text and ways to run them, for the tests of engine, hardware, kernel and world."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

from ptactors.engine.baton import Baton
from ptactors.engine.schedule import Schedule
from ptactors.model.state import State
from ptactors.oracle.table import Oracles
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play
from ptactors.world.machine import Machine

A = 0x7F00_0020_0000
"""Where the VMA A of most small scenarios lies."""
HEAD = 'ptactors = 1\nname = "small"\nwhy = "a test"\n'
E = TypeVar("E")


def vma(name: str = "A", at: int = A, size: str = "2M", **keys: object) -> str:
    """A ``[vma.NAME]`` section; values are written as TOML writes them."""
    lines = [f"[vma.{name}]", f"at = {at:#x}", f'size = "{size}"', *(f"{key} = {_toml(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(each)}' for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def text(*programs: str | Sequence[str], machine: str = "", rest: str = "", vmas: str | None = None) -> str:
    """A scenario in which CPU n runs the n-th program, over one VMA A of 2 MiB with one page in it unless ``vmas`` says else."""
    mapped = vma(populate={"A+0x3000": "old"}) if vmas is None else vmas
    bodies = [each if isinstance(each, str) else "\n".join(each) for each in programs]
    cpus = "".join(f"[cpu.{n}]\ndo = '''\n{body}\n'''\n" for n, body in enumerate(bodies) if body)
    return f"{HEAD}[machine]\ncpus = {max(len(programs), 1)}\n{machine}\n{mapped}{cpus}{rest}"


@functools.lru_cache(maxsize=256)
def scenario(source: str) -> Scenario:
    """The scenario that ``source`` spells."""
    return loads(source)


def cell(source: str, preset: str | None = None, **knobs: object) -> Cell:
    """Its first cell, with knobs set over it."""
    return cells(scenario(source), knobs, preset)[0]


def run(
    source: str,
    seed: int = 0,
    *,
    preset: str | None = None,
    strategy: str = "random",
    host: str = "direct",
    record: bool = True,
    audit: bool = False,
    replay: Schedule | None = None,
    **knobs: object,
) -> Outcome:
    """One run of the first cell."""
    made = scenario(source)
    return play(
        made, cell(source, preset, **knobs), strategy=strategy, seed=seed, host=host, record=record, audit=audit, replay=replay
    )


def machine(source: str, seed: int = 0, *, preset: str | None = None, strategy: str = "random", **knobs: object) -> Machine:
    """The assembled machine of the first cell, not yet run."""
    return Machine(scenario(source), cell(source, preset, **knobs), strategy, seed, Oracles())


def advance(baton: Baton, steps: int) -> bool:
    """Make up to ``steps`` steps of a started machine; false if it ended before."""
    for _ in range(steps):
        actor = baton.pick()
        if actor is None:
            return False
        baton.advance(actor, baton.make(actor))
    return True


def copy_of(state: State) -> State:
    """A state with cells of its own and no listeners."""
    copied = State(state.config)
    copied.cells = dict(state.cells)
    copied.occupied = dict(state.occupied)
    copied.step, copied.actor = state.step, state.actor
    return copied


def events(outcome: Outcome, kind: type[E], /, **fields: Any) -> list[E]:
    """The run's events of one kind whose fields have these values, in order."""
    assert outcome.records is not None
    return [e for _, _, e in outcome.records if type(e) is kind and all(getattr(e, k) == v for k, v in fields.items())]


def steps_of(outcome: Outcome, kind: type, /, **fields: Any) -> list[int]:
    """The steps in which they happened."""
    assert outcome.records is not None
    return [s for s, _, e in outcome.records if type(e) is kind and all(getattr(e, k) == v for k, v in fields.items())]


def hazards(outcome: Outcome) -> list[str]:
    """Names of what was found."""
    return [finding.hazard for finding in outcome.findings]


def registers(outcome: Outcome) -> dict[str, int | str]:
    """The final state by name."""
    return dict(outcome.final)
