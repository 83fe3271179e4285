"""Random small programs under kernels without known bugs: no oracle may cry, nothing may get stuck, everything is given back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_cases import CASES
from small_machines import machine, text, vma

from ptactors.engine import host_direct
from ptactors.hardware.memory import Frame
from ptactors.model.hazard import Severity
from ptactors.oracle.table import HAZARDS
from ptactors.world.machine import Machine

VIOLATIONS = {name for name, oracle in HAZARDS.items() if oracle.severity is Severity.VIOLATION}
PRESETS = ("before", "rfc-v1", "v6.14")
PAGES = ("A", "A+0x3000", "A+0x1ff000", "A+2M", "A+0x203000")
RANGES = ("A", "A 2M", "A+2M 2M", "A 4K", "A+0x3000 8K", "A+0x1ff000 8K", "A+0x3000 2M")


def settle(made: Machine) -> tuple[Any, list[str]]:
    """Run it; the ending and the violations."""
    host_direct.run(made.baton)
    ending = made.finish()
    return ending, [f"{f.hazard}: {f.what}" for f in made.oracles.findings if f.hazard in VIOLATIONS]


def left_over(made: Machine) -> dict[Any, Any]:
    """What of a process is still there: counters that are not zero, frames that are not free, TLB flushes that are owed."""
    kept = {}
    for key, value in made.state.cells.items():
        if key[0] in (
            "rss",
            "pgtables",
            "gathers",
            "deposits",
            "callbacks",
            "bus",
            "pending",
            "acks",
            "lock",
            "preempt",
            "rcu_depth",
        ):
            kept[key] = value
        if key[0] == "frame" and isinstance(value, Frame) and value.kind not in ("free", "zero", "pgd", "file"):
            kept[key] = value
    return kept


READS = st.sampled_from(PAGES).map(lambda va: f"read {va} -> r")
WRITES = st.tuples(st.sampled_from(PAGES), st.integers(1, 99)).map(lambda p: f"write {p[0]} = {p[1]}")
ZAPS = st.sampled_from(RANGES).map(lambda r: f"madvise {r} DONTNEED")
UNMAPS = st.sampled_from(RANGES).map(lambda r: f"munmap {r}")
WALKS = st.tuples(st.sampled_from(PAGES), st.integers(1, 3)).map(lambda p: f"walk {p[0]} times {p[1]} -> w")
PINS = st.sampled_from(PAGES).map(lambda va: f"gup_fast {va} -> g")
TOUCH = READS | WRITES | ZAPS | PINS
ALL = TOUCH | UNMAPS | WALKS
COLLAPSES = st.sampled_from(RANGES[:3]).map(lambda r: f"madvise {r} COLLAPSE")
POPULATES = st.tuples(st.sampled_from(RANGES[3:6]), st.sampled_from(["READ", "WRITE"])).map(
    lambda p: f"madvise {p[0]} POPULATE_{p[1]}"
)
PROTECTS = st.tuples(st.sampled_from(RANGES), st.sampled_from(["rw", "ro", "none"])).map(lambda p: f"mprotect {p[0]} {p[1]}")
MAPS = st.sampled_from(RANGES).map(lambda r: f"mmap {r} rw")
SHAPE = TOUCH | COLLAPSES | POPULATES | PROTECTS | UNMAPS | MAPS
FAULTS = st.sampled_from(["ok", "fail", "maybe"])
POPULATED = st.sampled_from([{}, {"A+0x3000": "old"}, {"A": 1, "A+0x3000": 2, "A+0x1ff000": 3, "A+2M": 4}])


@st.composite
def stories(draw: st.DrawFn, operations: st.SearchStrategy[str]) -> str:
    """A scenario of two CPUs, perhaps with huge pages, injected failures and speculation."""
    programs = [draw(st.lists(operations, min_size=1, max_size=4)) for _ in range(2)]
    thp = draw(st.sampled_from(["never", "always"]))
    lines = [f'thp = "{thp}"']
    if draw(st.booleans()):
        lines.append('speculate = { cpu1 = ["A+0x3000", "A+2M"], cpu0 = ["A+0x3000"] }')
    faults = [f'page_batch_alloc = "{draw(FAULTS)}"', f'table_batch_alloc = "{draw(FAULTS)}"']
    if draw(st.booleans()):
        faults.append('need_resched = "maybe"')
    mapped = {"huge_pages": {"A+2M": "big"}} if thp == "always" and draw(st.booleans()) else {"populate": draw(POPULATED)}
    return text(*programs, machine="\n".join(lines), vmas=vma(size="4M", **mapped), rest="[fault]\n" + "\n".join(faults) + "\n")


def hunt(examples: int) -> Any:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


def look(source: str, seed: int, preset: str, strategy: str) -> None:
    made = machine(source, seed, preset=preset, strategy=strategy)
    ending, found = settle(made)
    assert (ending.status, ending.reason) == ("complete", "")
    assert found == []
    assert left_over(made) == {}


SEEDS = st.integers(0, 1 << 32)
STRATEGY = st.sampled_from(["random", "run-length"])


@pytest.mark.parametrize("preset", PRESETS)
def test_no_alarm_for_programs_that_fault_zap_and_pin(preset: str) -> None:
    @hunt(120)
    @given(stories(TOUCH), SEEDS, STRATEGY)
    def check(source: str, seed: int, strategy: str) -> None:
        look(source, seed, preset, strategy)

    check()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_alarm_for_programs_that_also_unmap_and_walk(preset: str) -> None:
    """A walker without locks under ``before`` only where nothing unmaps: tables go there right after the flush."""
    operations = TOUCH | UNMAPS if preset == "before" else ALL

    @hunt(120)
    @given(stories(operations), SEEDS, STRATEGY)
    def check(source: str, seed: int, strategy: str) -> None:
        look(source, seed, preset, strategy)

    check()


@pytest.mark.parametrize("preset", ["v6.1", "rfc-v1", "v6.14", "v6.18"])
def test_no_alarm_for_programs_that_collapse_populate_and_protect(preset: str) -> None:
    @hunt(24)
    @given(stories(SHAPE), SEEDS, STRATEGY)
    def check(source: str, seed: int, strategy: str) -> None:
        look(source, seed, preset, strategy)

    check()


@pytest.mark.full
@pytest.mark.parametrize("preset", [*PRESETS, "v6.1", "v6.18"])
def test_no_alarm_in_a_long_hunt(preset: str) -> None:
    operations = SHAPE if preset in ("before", "v6.1") else ALL | SHAPE

    @hunt(5000)
    @given(stories(operations), SEEDS, STRATEGY)
    def check(source: str, seed: int, strategy: str) -> None:
        look(source, seed, preset, strategy)

    check()


@pytest.mark.parametrize("name", CASES)
def test_every_case_gives_everything_back(name: str) -> None:
    for number in range(6):
        preset = (*PRESETS, "before-pv", "v6.14-rc1")[number % 5]
        made = machine(CASES[name], number, preset=preset, strategy="run-length")
        ending, _ = settle(made)
        assert (ending.status, ending.reason) == ("complete", "")
        assert left_over(made) == {}
        assert not {"leak", "counter_mismatch"} & {f.hazard for f in made.oracles.findings}


def test_a_leak_would_be_seen() -> None:
    """The check above can fail: without the exit, everything is still there."""
    made = machine(CASES["race"], 1, exit=False)
    settle(made)
    assert {key[0] for key in left_over(made)} >= {"rss", "pgtables", "frame"}
