"""What the command line names, run on this machine's kernel: sequences step by step, races many times; and recordings.

Nothing here is deterministic: the kernel, the other processes and the CPUs have their part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from ptactors import __version__
from ptactors.errors import UsageError
from ptactors.host import litmus
from ptactors.host.compare import FAULTING, Comparison
from ptactors.host.judge import Judged, addresses, judge
from ptactors.host.litmus import Histogram
from ptactors.host.live import CannotRun, execute
from ptactors.host.probe import Host
from ptactors.host.recordings import load_shipped, shipped
from ptactors.host.scenarios import Unmappable, steps_of
from ptactors.host.selection import ALL, named, preset_here
from ptactors.host.sequence import Observation, Recording, Step
from ptactors.scenario.load import find, load
from ptactors.scenario.model import Names, Scenario


@attrs.frozen(kw_only=True)
class Wanted:
    """One thing to run: a sequence, a race, or why it is neither."""

    name: str
    """Of the sequence or scenario."""
    steps: tuple[Step, ...] = ()
    """A sequence's; empty for a race."""
    scenario: Scenario | None = None
    """A race's."""
    overlap: str = ""
    """Why the scenario is no sequence."""


@attrs.frozen(kw_only=True)
class Shown:
    """What came of it."""

    name: str
    """Of the sequence or scenario."""
    skipped: str = ""
    """Why nothing came of it, in a sentence; ''."""
    observed: tuple[Observation, ...] = ()
    """Of a sequence, after each step."""
    histogram: Histogram | None = None
    """Of a race."""
    judged: tuple[Judged, ...] = ()
    """Of a race: the expectations that it speaks of."""


@attrs.frozen(kw_only=True)
class Effort:
    """How long races are run."""

    iterations: int
    """At most."""
    seconds: int
    """At most, each."""
    seed: int
    """Of the delays; it does not make a run repeatable."""


def wanted(names: Iterable[str], tables: Names) -> Iterator[Wanted]:
    """What each name stands for. Raises UsageError for an unknown one, ScenarioError for what is no scenario."""
    recorded = {recording.name for name in shipped() for recording in load_shipped(name)}
    for name in names:
        if name == ALL or name in recorded or name.endswith(".jsonl"):
            yield from _sequences(name)
            continue
        try:
            paths = find([name])
        except UsageError:
            yield from _sequences(name)  # which says what else it could have been
            continue
        yield from (_scenario(path, tables) for path in paths)


def _sequences(name: str) -> Iterator[Wanted]:
    """Each once, though several kernels were recorded making it."""
    done: dict[tuple[str, tuple[Step, ...]], None] = {}
    for each in named([name]):
        assert not isinstance(each, Comparison)
        if (each.name, each.steps) not in done:
            done[each.name, each.steps] = None
            yield Wanted(name=each.name, steps=each.steps)


def _scenario(path: Path, tables: Names) -> Wanted:
    scenario = load(path, tables)
    try:
        return Wanted(name=scenario.name, steps=steps_of(scenario))
    except Unmappable as reason:
        return Wanted(name=scenario.name, scenario=scenario, overlap=str(reason))


def run(what: Wanted, host: Host, effort: Effort) -> Shown:
    """Run it here, or say why not."""
    if host.reason:
        return Shown(name=what.name, skipped=host.reason)
    try:
        if what.scenario is None:
            return Shown(name=what.name, observed=execute(what.steps))
        plan = litmus.plan(what.scenario, addresses(what.scenario))
        seen = litmus.run(plan, effort.iterations, effort.seconds, effort.seed)
    except CannotRun as reason:
        return Shown(name=what.name, skipped=str(reason))
    return Shown(name=what.name, histogram=seen, judged=judge(what.scenario, preset_here(host), plan, seen))


def record(what: Wanted, host: Host, times: int) -> Recording | Shown:
    """The sequence as this kernel answers it ``times`` times alike, or why there is no such recording."""
    if host.reason:
        return Shown(name=what.name, skipped=host.reason)
    if what.scenario is not None:
        return Shown(name=what.name, skipped=f"it is no sequence: {what.overlap}")
    try:
        runs = [execute(what.steps) for _ in range(times)]
    except CannotRun as reason:
        return Shown(name=what.name, skipped=str(reason))
    parted = next((n for n, seen in enumerate(zip(*runs, strict=True)) if len({repr(_meant(each)) for each in seen}) > 1), None)
    if parted is not None:
        return Shown(name=what.name, skipped=f"{times} runs do not agree at step {parted} {list(what.steps[parted])}")
    return Recording(
        name=what.name, steps=what.steps, observed=runs[0], kernel=host.release, thp=host.thp,
        provenance=f"recorded by ptactors {__version__} on x86-64 Linux {host.release}; {times} runs in fresh processes agreed",
    )  # fmt: skip


def _meant(seen: Observation) -> Observation:
    """Without the faults of operations that have none of their own."""
    own = any(word in FAULTING for word in seen.step if isinstance(word, str))
    return attrs.evolve(seen, faults=seen.faults if own else 0, child=tuple(map(_meant, seen.child)))
