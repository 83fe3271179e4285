"""The fault that holds interrupts on the bus: what it does to schedules, how it is spelt, that it leaves no trace elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptactors.campaign import mix
from ptactors.campaign.names import known_names
from ptactors.cli.main import invoke
from ptactors.config import PRESETS
from ptactors.errors import ScenarioError
from ptactors.scenario.load import digest, loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.model import Scenario
from ptactors.shrink.text import render
from ptactors.world import play_many

TEXT = """
ptactors = 1
name = "late"
why = "cpu1 goes on reading through its TLB while the interrupt that would empty it is on its way"
[machine]
cpus = 3
[vma.A]
at = 0x7f00_0020_0000
size = "4K"
populate = { "A" = "old" }
[cpu.0]
do = "madvise A DONTNEED"
"""
READER = """
tlb = ["A"]
do = '''
cond_resched
cond_resched
cond_resched
read A -> r
'''
"""
TEXT += "".join(f"[cpu.{cpu}]{READER}" for cpu in (1, 2))


def made(fault: str) -> Scenario:
    return loads(TEXT + (f"[fault]\n{fault}\n" if fault else ""), "<late>", known_names())


def read(fault: str, strategy: str) -> tuple[set[int | str], set[int | str]]:
    """What cpu1 and cpu2 read in many schedules."""
    scenario = made(fault)
    outcomes = play_many(scenario, cells(scenario)[0], strategy=strategy, seeds=range(40), host="direct")
    finals = [dict(outcome.final) for outcome in outcomes]
    return {final["cpu1:r"] for final in finals}, {final["cpu2:r"] for final in finals}


@pytest.mark.parametrize("strategy", ["random", "run-length", "pos:all", "pct:3"])
@pytest.mark.parametrize(
    ("fault", "cpu1", "cpu2"),
    [
        ("", {"old", 0}, {"old", 0}),
        ('late_ipis = "all"', {"old"}, {"old"}),
        ('late_ipis = ["cpu1"]', {"old"}, {"old", 0}),
        ('late_ipis = ["cpu1"]\nrcu_callbacks = "early"', {"old"}, {"old", 0}),
    ],
)
def test_a_late_interrupt_comes_when_nothing_else_can_move(strategy: str, fault: str, cpu1: set[str], cpu2: set[str]) -> None:
    assert read(fault, strategy) == (cpu1, cpu2)


def test_who_waits_for_a_late_interrupt_goes_on_in_the_end() -> None:
    scenario = made('late_ipis = "all"')
    outcomes = play_many(scenario, cells(scenario)[0], strategy="random", seeds=range(20), host="direct")
    assert {outcome.status for outcome in outcomes} == {"complete"}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ('late_ipis = ["cpu3"]', "there is no 'cpu3'"),
        ('late_ipis = "some"', "late_ipis"),
        ("late_ipis = 1", "late_ipis"),
    ],
)
def test_what_is_wrong_is_said(fault: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        made(fault)


def test_a_scenario_that_does_not_speak_of_it_has_the_digest_that_it_had() -> None:
    """Recordings made before there was such a fault can be replayed."""
    plain = made("")
    assert plain.fault.late_ipis == ()
    assert digest(plain) != digest(made('late_ipis = ["cpu0"]'))
    assert plain.digest == "c1f09ea662ef3299"


def test_it_is_written_out_as_it_was_read() -> None:
    scenario = made('late_ipis = ["cpu2", "cpu0"]')
    cell = cells(scenario)[0]
    text = render(scenario, cell, name="again", title="again", why="again", exists="VmPTE == 0")
    assert loads(text, "<again>", known_names()).fault.late_ipis == (0, 2) == scenario.fault.late_ipis


def test_shrinking_takes_it_away_where_it_is_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "late.toml"
    kernel, expect = "[kernel]\npending_flush = false\n", '[[expect]]\nforbidden = "hazard(stale_tlb_to_freed_page)"\n'
    file.write_text(TEXT + kernel + '[fault]\nlate_ipis = "all"\n' + expect)
    assert invoke(["run", str(file), "--runs", "20", "--strategy", "random", "--jobs", "1", "--log-dir", str(tmp_path)]) == 1
    capsys.readouterr()
    (small,) = tmp_path.rglob("*-min.toml")
    assert "pending_flush = false" in small.read_text()
    assert "late_ipis" not in small.read_text()


def test_mixes_have_it_on_all_cpus_on_one_and_not_at_all() -> None:
    scenarios = [loads(mix.text_of(n, tuple(PRESETS), {}), f"<mix {n}>", known_names()) for n in range(80)]
    found = {len(s.fault.late_ipis) == s.machine["cpus"] for s in scenarios if s.fault.late_ipis}
    assert found == {True, False}
    assert not all(s.fault.late_ipis for s in scenarios)


def test_both_hosts_make_the_same_of_it() -> None:
    scenario = made('late_ipis = ["cpu2"]')
    direct, trio = (
        [o.digest for o in play_many(scenario, cells(scenario)[0], strategy="run-length", seeds=range(10), host=host)]
        for host in ("direct", "trio")
    )
    assert direct == trio
