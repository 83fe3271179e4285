"""What the command line names: recorded sequences, files of recordings, scenarios; and the comparison of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from ptactors.errors import UsageError
from ptactors.host.compare import BEFORE, RECLAIM, Comparison, compare, preset_of, same_class, skipped
from ptactors.host.live import CannotRun, execute
from ptactors.host.probe import RECLAIM as RECLAIM_CLASS
from ptactors.host.probe import Host
from ptactors.host.program import needs
from ptactors.host.recordings import load, load_shipped, shipped
from ptactors.host.scenarios import Unmappable, steps_of
from ptactors.host.sequence import Recording
from ptactors.scenario.hints import suggest
from ptactors.scenario.load import find
from ptactors.scenario.load import load as load_scenario

ALL = "all"
TIMES = 3
"""A difference counts if it is there so often: khugepaged may have passed, or a huge page may not have been free."""


def named(names: Iterable[str]) -> Iterator[Recording | Comparison]:
    """What each name stands for: recordings, or a scenario's sequence without observations, or why it has none.

    Raises UsageError for an unknown name or a damaged file, ScenarioError for what is no scenario.
    """
    every = [recording for name in shipped() for recording in load_shipped(name)]
    for name in names or (ALL,):
        recorded = [recording for recording in every if name in (ALL, recording.name)]
        if recorded:
            yield from recorded
        elif name.endswith(".jsonl"):
            yield from load(name)
        else:
            for path in _scenario_files(name, every):
                yield _scenario(path)


def _scenario_files(name: str, recorded: Iterable[Recording]) -> list[Path]:
    if Path(name).suffix or len(Path(name).parts) > 1 or Path(name).exists():
        return find([name])
    try:
        return find([name])
    except UsageError as error:
        known = (ALL, *dict.fromkeys(recording.name for recording in recorded))
        raise UsageError(f"no recorded sequence {name!r} ({suggest(name, known)}), and {error}") from None


def _scenario(path: Path) -> Recording | Comparison:
    scenario = load_scenario(path)
    try:
        steps = steps_of(scenario)
    except Unmappable as reason:
        return skipped(scenario.name, str(reason))
    return Recording(name=scenario.name, steps=steps, observed=(), kernel="", thp="")


def with_recorded(names: Iterable[str], preset: str | None) -> Iterator[Comparison]:
    """Compare with recordings: each under the preset of its own kernel, or under ``preset``: of those shipped, its class."""
    both = {(recording.name, recording.kernel) for name in shipped() for recording in load_shipped(name)}
    for each in named(names):
        if isinstance(each, Comparison):
            yield each
        elif not each.observed:
            yield skipped(each.name, "no kernel was recorded doing it; --with live runs it here")
        else:
            own = preset_of(each.kernel)
            if preset is None or same_class(preset, own) or (each.name, each.kernel) not in both:
                yield compare(each, preset or own)


def with_live(names: Iterable[str], preset: str | None, host: Host) -> Iterator[Comparison]:
    """Compare with what this machine's kernel does now."""
    done = set()
    for each in named(names):
        if isinstance(each, Comparison):
            yield each
        elif (each.name, each.steps) not in done:
            done.add((each.name, each.steps))
            yield _here(each, preset or preset_here(host), host)


def preset_here(host: Host) -> str:
    """The preset of this machine's kernel, by what it does."""
    return RECLAIM if host.kernel_class == RECLAIM_CLASS else BEFORE


def _here(wanted: Recording, preset: str, host: Host) -> Comparison:
    if host.reason:
        return skipped(wanted.name, host.reason)
    if needs(wanted.steps):
        return compare(wanted, preset)
    try:
        for _ in range(TIMES):
            seen = execute(wanted.steps)
            comparison = compare(attrs.evolve(wanted, observed=seen, kernel=host.release, thp=host.thp), preset)
            if comparison.agrees:
                break
    except CannotRun as reason:
        return skipped(wanted.name, str(reason))
    return comparison
