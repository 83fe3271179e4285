"""Mixes over all kinds of memory: what they hold, the filters of the series in them, and what the command leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ptactors.campaign import mix
from ptactors.campaign.known import known_violations
from ptactors.campaign.mix_memory import ARMED, KINDS, Area, Memory
from ptactors.campaign.names import known_names
from ptactors.campaign.stress import StressPlan, Task, cover, targets_of
from ptactors.campaign.work import Failure
from ptactors.cli.main import invoke
from ptactors.config import PRESETS, TableFree
from ptactors.model.paging import PMD_SIZE
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.model import Scenario
from ptactors.world import play_many

MIXES = range(400)
FILTERS = ("filter_hugetlb", "filter_vm_hugepage", "filter_uffd_wp", "filter_private_file_write")


def text(number: int, *presets: str, **overrides: Any) -> str:
    return mix.text_of(number, presets or tuple(PRESETS), overrides)


@pytest.fixture(scope="module")
def mixes() -> list[Scenario]:
    return [loads(text(number), f"<mix {number}>", known_names()) for number in MIXES]


# -- what mixes hold --------------------------------------------------------------------------------------------------------


def test_every_kind_of_memory_is_drawn_and_mostly_none_but_anonymous(mixes: list[Scenario]) -> None:
    kinds = [{vma.kind for vma in scenario.vmas} for scenario in mixes]
    assert set().union(*kinds) == {"anon", *KINDS}
    assert all("anon" in found for found in kinds)
    assert len(mixes) / 3 < sum(found == {"anon"} for found in kinds) < len(mixes) * 3 / 4


def test_kinds_hold_what_they_can(mixes: list[Scenario]) -> None:
    vmas = [vma for scenario in mixes for vma in scenario.vmas]
    assert {vma.kind for vma in vmas if vma.uffd_wp} == set(ARMED)
    assert {vma.kind for vma in vmas if vma.huge_pages} == {"anon", "hugetlb"}
    assert any(vma.tables for vma in vmas if vma.kind == "hugetlb")
    entries = {(vma.kind, entry.kind) for vma in vmas for entry in vma.entries}
    assert {("file-private", "cow"), ("file-shared", "file-dirty"), ("memfd", "file"), ("anon", "guard")} <= entries
    assert all(vma.uffd_wp for vma in vmas for e in vma.entries if vma.kind != "anon" and e.kind == "marker-uffd-wp")


def test_nobody_cuts_a_page_of_hugetlb() -> None:
    for number in MIXES:
        drawn = text(number)
        for name in re.findall(r'\[vma\.(\w)\]\n(?:(?!\[)[^\n]*\n)*?kind = "hugetlb"', drawn):
            ranges = re.findall(rf"^(?:p?\w*madvise|m\w+) {name}(?:\+(0x\w+))? (0x\w+)", drawn, re.MULTILINE)
            assert all(int(at or "0", 16) % PMD_SIZE == 0 == int(size, 16) % PMD_SIZE for at, size in ranges), number


def test_caches_hold_something_at_the_start_and_lazy_cpus_speculate(mixes: list[Scenario]) -> None:
    cpus = [cpu for scenario in mixes for cpu in scenario.cpus]
    assert 0 < sum(bool(cpu.tlb) for cpu in cpus) < len(cpus) / 2
    assert 0 < sum(bool(cpu.psc) for cpu in cpus) < len(cpus) / 2
    away = [s for s in mixes if s.speculate and any(cpu.state != "user" for cpu in s.cpus)]
    assert away
    assert all(s.cpus[cpu].state != "user" for s in away for cpu in s.speculate)


# -- the filters of the series ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "filtered"),
    [
        (Area(name="A", process="P", size=PMD_SIZE), False),
        (Area(name="A", process="P", size=PMD_SIZE, huge="hugepage"), True),
        (Area(name="A", process="P", size=PMD_SIZE, huge="nohugepage"), False),
        (Area(name="A", process="P", size=PMD_SIZE, uffd_wp=True), True),
        (Area(name="A", process="P", size=PMD_SIZE, kind="hugetlb"), True),
        (Area(name="A", process="P", size=PMD_SIZE, kind="file-private"), True),
        (Area(name="A", process="P", size=PMD_SIZE, kind="file-shared"), False),
    ],
)
def test_tables_that_the_series_leaves_alone(area: Area, filtered: bool) -> None:
    memory = Memory(areas=(area,), hot=(), blocks=(), mapped=(), tables=("A", "A+0x200000"))
    assert memory.kept(()) == (["A", "A+0x200000"] if filtered else [])
    assert memory.kept(("A",)) == []
    assert memory.has_table("A+0x3ff000")
    assert not memory.has_table("A+0x400000")


def candidates() -> Iterator[int]:
    """Mixes that expect tables to stay and discard whole 2 MiB of one of them."""
    for number in range(4000):
        found = re.search(r'^forbidden = "(.*)"', text(number, "rfc-v1"), re.MULTILINE)
        names = re.findall(r"pt\[(\w)", found[1]) if found else []
        if any(re.search(rf"madvise {name}(?:\+0x[24]00000)?(?: 0x200000)? DONTNEED", text(number, "rfc-v1")) for name in names):
            yield number


def failing(number: int, **overrides: Any) -> list[str]:
    """What the schedules of a mix under the series fail by."""
    plan = StressPlan(presets=("rfc-v1",), seed=number, overrides=tuple(overrides.items()))
    (target,) = targets_of(plan, mix.SCHEDULES, False)
    piece = cover(Task(plan=plan, target=target, seeds=target.seeds(0), known=known_violations()))
    assert not isinstance(piece, Failure), piece
    return [reason for _, why in piece.failing for reason in why]


@pytest.mark.parametrize("knob", FILTERS)
def test_a_filter_that_is_off_is_found(knob: str) -> None:
    """And the same mix is content with it."""
    for tried, number in enumerate(candidates()):
        assert tried < 60, "none in 60 mixes"
        why = failing(number, **{knob: False})
        if why:
            assert all(reason.startswith("forbidden pt[") for reason in why), why
            assert failing(number) == []
            return


def test_filters_are_expected_of_the_series_only() -> None:
    number = next(candidates())
    assert "[[expect]]" in text(number)
    assert "[[expect]]" not in text(number, "v6.14", "before")
    assert "[[expect]]" in text(number, "v6.14", pt_reclaim=PRESETS["rfc-v1"]["pt_reclaim"])
    scenario = loads(text(number), "<mix>", known_names())
    assert [cell.preset for cell in cells(scenario) if cell.expects] == ["rfc-v1"]


# -- what was missed once ---------------------------------------------------------------------------------------------------


def test_a_page_of_hugetlb_can_be_pinned() -> None:
    """It was called wrong data once."""
    made = loads(
        """
ptactors = 1
name = "pin"
why = "GUP-fast on hugetlb"
[vma.H]
at = 0x7f00_0020_0000
size = "2M"
kind = "hugetlb"
huge_pages = { "H" = "h" }
[cpu.0]
do = "gup_fast H+0x1000 -> r"
[cpu.1]
do = "madvise H DONTNEED"
""",
        "<pin>",
        known_names(),
    )
    outcomes = list(play_many(made, cells(made)[0], strategy="random", seeds=range(30), host="direct"))
    assert {str(dict(outcome.final)["cpu0:r"]) for outcome in outcomes} == {"h", "none"}
    assert not any(outcome.findings for outcome in outcomes)


def test_a_table_freed_without_a_grace_period_is_found_under_a_walker() -> None:
    """Mixes have walkers that stay long enough for a whole discard."""
    for number in range(1500):
        drawn = text(number, "v6.14", table_free=TableFree.PAGE_BATCH)
        if not (re.search(r"walk \S+ times 64", drawn) and "DONTNEED" in drawn):
            continue
        scenario = loads(drawn, "<mix>", known_names())
        seeds = range(number * mix.SCHEDULES, (number + 1) * mix.SCHEDULES)
        outcomes = play_many(scenario, cells(scenario)[0], strategy=mix.strategy_of(number), seeds=seeds, host="direct")
        if any(finding.hazard == "page_table_uaf_software_walker" for outcome in outcomes for finding in outcome.findings):
            return
    pytest.fail("no mix shows it")


# -- the command line -------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = invoke([*words])
    return code, capsys.readouterr().out


def test_pinned_scenarios_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stress", "first-fault", "install-recheck", "gup-recheck", "--runs", "2", "--preset", "v6.14", "--jobs", "1"]
    code, out = run(capsys, *words, "--log-dir", str(tmp_path))
    assert code == 0
    (line,) = (line for line in out.splitlines() if "left out" in line)
    assert "install-recheck" in line
    assert "gup-recheck" in line
    assert "first-fault" not in line
    assert "ptactors run" in line
    assert len(json.loads((tmp_path / "campaign.json").read_text())["left_out"]) == 2


def test_the_schema_of_the_document_is_printed_and_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "schema", "stress")
    assert code == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    words = ["stress", "--set", "reclaim_trylock=false", "--preset", "v6.14", "--jobs", "1", "--json"]
    found = [json.loads(run(capsys, *words, "--seed", seed, "--log-dir", str(tmp_path))[1]) for seed in ("0..12", "40..41")]
    for made in found:
        jsonschema.validate(made, schema)
    assert any(made["failures"] for made in found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found[0], "more": 1}, schema)
