"""Conditions: their value over made-up facts, and the text that names their parts."""

from __future__ import annotations

import pytest

from ptactors.scenario.condition import METRICS, UNSET
from ptactors.scenario.load import loads

A = 0x10_0000
FILE = """
ptactors = 1
name = "c"
why = "conditions"
[vma.A]
at = 0x10_0000
size = "16K"
[cpu.0]
do = "T: read A -> r1"
[cpu.1]
do = "read A -> old"
[[expect]]
exists = '''
{}
'''
"""


class Run:
    """Facts of a run that never was."""

    def register(self, cpu, name):
        return {(0, "r1"): "new"}.get((cpu, name), UNSET)

    def memory(self, va):
        return {A: 5, A + 0x1000: "new"}.get(va, UNSET)

    def table(self, va):
        return ("4k", 0x1A2) if va == A else ("none", "none")

    def tlb(self, cpu, va):
        return ("2m", 0x1A3) if cpu == 1 else ("none", "none")

    def hazard(self, name):
        return name == "leak"

    def faults(self, cpu, label):
        return {(0, "T"): 2, (1, "read1"): 1}[cpu, label]

    def count(self, event, fields):
        return {"tlb_fill": 3 if fields == (("cpu", 1), ("va", A + 0x1000), ("cause", "walk")) else 1}[event]

    def metric(self, name, argument):
        return {"VmPTE": 8, "VmPTE_max": 12, "rss": {"anon": 4, "file": 0}.get(argument)}.get(name, 1)

    def ever(self, text):
        return text == 'pt[0x100000].level == "2m"'


def condition(text):
    return loads(FILE.format(text), "c.toml").expects[0].condition


HOLDS = [
    "hazard(leak)", "not hazard(deadlock)", "~hazard(deadlock)", "cpu0:r1 == new", 'cpu0:r1 = "new"', "cpu0:r1 != 5",
    "cpu1:old == unset", "mem[A] == 5", "mem[A] = 0x5", "mem[A+0x1000] == cpu0:r1", "mem[A+0x2000] == unset",
    "pt[A].level == 4k", "pt[A].level == pte", "pt[A+4K].level == none", "pt[A+4K].pfn == none", "tlb[cpu1][A].level = huge",
    "tlb[cpu1][A].pfn == pt[A].pfn + 1", "tlb[cpu1][A].pfn != pt[A].pfn", "tlb[cpu0][A].level == none",
    "tlb[cpu1][A].level != pt[A].level", "fault(cpu0:T) == 2 and fault(cpu1:read1) == 1", "count(tlb_fill) == 1",
    "count(tlb_fill, cpu=1, va=A+0x1000, cause=walk) == 3", "count(tlb_fill, cpu=cpu1, va=A+4096, cause=\"walk\") > 2",
    "VmPTE < VmPTE_max", "VmPTE_max - VmPTE == 4", "rss(anon) * 2 == VmPTE", "rss(file) == 0 /\\ rss(anon) >= 4",
    "hazard(deadlock) \\/ hazard(leak)", "hazard(deadlock) and hazard(deadlock) or hazard(leak)", "2 <= VmPTE",
    "1+2*3 == steps+6",
    "not (hazard(leak) and hazard(deadlock))", "not(hazard(deadlock))", "final(hazard(leak))", "ever(pt[A].level == 2m)",
    "ever( pt[ A ].level == huge ) # a comment", "flushes == 1\n  and ipis == 1 # more\n  and grace_periods = 1",
    "(cpu0:r1) == (new)", "((hazard(leak)))", "VmPTE - VmPTE_max == -4", "-2*2 = VmPTE - VmPTE_max", "-4 < VmPTE",
]  # fmt: skip
FAILS = [
    "hazard(deadlock)", "cpu0:r1 == old", "cpu0:r1 == 5", "mem[A+0x2000] < 3", "mem[A+0x2000] >= 3", "cpu1:old != unset",
    "cpu0:r1 + 1 == 1", "pt[A].level == table", "pt[A].pfn == none", "VmPTE > VmPTE_max", "hazard(leak) and hazard(deadlock)",
    "ever(hazard(leak))", "VmPTE == -8", "not hazard(leak)", "not hazard(deadlock) and hazard(deadlock)",
]  # fmt: skip


@pytest.mark.parametrize("text", HOLDS)
def test_holds(text):
    assert condition(text).evaluate(Run()) is True


@pytest.mark.parametrize("text", FAILS)
def test_does_not_hold(text):
    assert condition(text).evaluate(Run()) is False


@pytest.mark.parametrize("text", HOLDS + FAILS)
def test_canonical_text_spells_the_same_condition(text):
    first = condition(text)
    again = condition(first.canonical().replace("0x100000", "A").replace("0x101000", "A+4K").replace("0x102000", "A+8K"))
    assert again.root == first.root


def test_parts():
    first = "ever(hazard(leak) and mem[A] == 1) or not ever(hazard(deadlock))"
    found = condition(f"{first} or hazard(leak)\n or ever(hazard(deadlock))")
    assert found.hazards() == ("leak", "deadlock")
    assert [e.text for e in found.evers] == ["(hazard(leak) and mem[0x100000] == 1)", "hazard(deadlock)"]
    assert found.evers[1].evaluate(Run()) is False
    assert found.text.endswith("or hazard(leak) or ever(hazard(deadlock))")


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_named(name):
    for argument in METRICS[name] or ("",):
        assert condition(f"{name}{f'({argument})' if argument else ''} == 1").root


def test_and_binds_closer_than_or():
    assert condition("hazard(leak) or hazard(crash) and hazard(stall)").canonical() == (
        "(hazard(leak) or (hazard(crash) and hazard(stall)))"
    )
