"""The oracles as an automaton: on any run they say what they say when they simply listen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from ptactors.campaign.names import known_names
from ptactors.model.event import MemWrite
from ptactors.model.state import Listener, Record
from ptactors.oracle.snapshot import Bench
from ptactors.oracle.table import Oracles
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play
from ptactors.world.watch import OracleWatcher

SCENARIOS = Path(__file__).parent.parent / "scenarios"
RICH = {
    "nested-gather": {"wrong_data_after_dontneed"},
    "flush-before-free": {"stale_tlb_to_freed_page"},
    "nonempty-table": {"nonempty_pte_page_freed"},
    "atomic-clear": {"lost_dirty"},
    "double-reclaim": {"double_free"},
    "case1-mixed-page-size": {"mixed_page_size_tlb", "two_translations_one_va"},
    "single-table-vs-rcu-walker": {"page_table_uaf_software_walker"},
    "prove-case2": {"two_pte_pages"},
}
"""Scenarios that show much, each with hazards that must be among what is compared."""
SEEDS = 8


def recorded(name: str) -> Iterator[tuple[set[str], list[Record]]]:
    """The hazards and the records of some runs of the first cells."""
    scenario = load(SCENARIOS / f"{name}.toml", known_names())
    for cell in cells(scenario)[:8]:
        for seed in range(SEEDS):
            run = play(scenario, cell, strategy=scenario.explore.strategy, seed=seed, record=True, host="direct")
            yield {finding.hazard for finding in run.findings}, list(run.records)


def told_at_once(records: list[Record], oracles: Oracles) -> list[Record]:
    """Have the oracles hear the set-up; what comes after it."""
    listeners: dict[type, list[Listener]] = {}
    oracles.listen(lambda kind, listener: listeners.setdefault(kind, []).append(listener))
    for step, actor, event in records:
        if step == 0:
            for see in listeners.get(type(event), ()):
                see(step, actor, event)
    return [record for record in records if record[0] > 0]


@pytest.mark.parametrize("name", RICH)
def test_what_is_seen_through_memories_is_what_is_seen_by_listening(name: str) -> None:
    seen: set[str] = set()
    for hazards, records in recorded(name):
        oracles = Oracles()
        rest = told_at_once(records, oracles)
        watcher = OracleWatcher(oracles)
        memory, found = watcher.start(), set()
        for _, step in groupby(rest, key=lambda record: record[0]):
            memory, names = watcher.hear(memory, list(step))
            found |= set(names)
        assert found == hazards
        seen |= found
    assert seen >= RICH[name]


def changing(value: Any, met: dict[int, Any]) -> dict[int, Any]:
    """Every object that can change and can be reached from a value, by identity."""
    inside: list[Any] = []
    slots = [] if isinstance(value, tuple) else getattr(type(value), "__slots__", [])
    if isinstance(value, dict | list | set) or slots:
        if id(value) in met:
            return met
        met[id(value)] = value
    if isinstance(value, dict):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inside = list(value)
    else:
        inside = [getattr(value, name) for name in slots]
    for each in inside:
        changing(each, met)
    return met


@pytest.mark.parametrize("name", ["nested-gather", "atomic-clear", "case1-mixed-page-size"])
def test_pieces_of_knowledge_share_nothing_that_changes(name: str) -> None:
    for _, records in list(recorded(name))[::SEEDS]:
        oracles = Oracles()
        bench = Bench(oracles)
        listeners: dict[type, list[Listener]] = {}
        oracles.listen(lambda kind, listener, to=listeners: to.setdefault(kind, []).append(listener))  # type: ignore[misc]
        for step, actor, event in records:
            for see in listeners.get(type(event), ()):
                see(step, actor, event)
        reached = [changing([getattr(p.part, n) for n in p.names], {}) for p in bench.pieces]
        every = [key for objects in reached for key in objects]
        assert len(every) == len(set(every)) > 50


def test_knowledge_comes_back_and_order_does_not_count() -> None:
    oracles = Oracles()
    bench = Bench(oracles)
    frames = oracles.mirror.memory.filled
    frames[1], frames[2] = 5, 6
    first = bench.look()
    frames[3] = 7
    assert bench.look([MemWrite]) != first
    bench.load(first)
    assert oracles.mirror.memory.filled == {1: 5, 2: 6}
    oracles.mirror.memory.filled = {2: 6, 1: 5}
    assert bench.look() == first
