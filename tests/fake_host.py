"""A machine that could run everything, what it might show, and a race."""

from __future__ import annotations

import os

import pytest

from ptactors.host import litmus, live
from ptactors.host.sequence import Observation

MIB, GIB = 1 << 20, 1 << 30


def pretend_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were a machine that can run everything; nothing is run."""
    for room in (live, litmus):
        monkeypatch.setattr(room, "unable", lambda: "")
        monkeypatch.setattr(room, "thp_setting", lambda: "madvise")
    monkeypatch.setattr(live, "collapses", lambda: 0)
    monkeypatch.setattr(live, "_proc", lambda name: "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)


def seen(step: tuple, vmpte_kb: int = 0, **fields) -> Observation:
    return Observation(
        **{"step": step, "result": 0, "vmpte_kb": vmpte_kb, "rss_kb": 0, "faults": 0, "tables": {}, "vmas": ()} | fields
    )


RACE = """
ptactors = 1
name = "race"
why = "of a kind"
[machine]
cpus = 2
[vma.A]
at = 0x7f00_0020_0000
size = "4M"
huge = "nohugepage"
populate = { "A 8K" = "old" }
entries = { "A+0x3000" = "zero" }
tables = ["A+2M"]
[vma.B]
at = 0x7f00_0080_0000
size = "2M"
writable = false
[cpu.0]
do = '''
Z:  madvise A 2M DONTNEED -> ret
    write A+0x1008 = 7
    mprotect A 4K none
'''
[cpu.1]
tlb = ["A"]
do = '''
    read A -> r0
    wait cpu0:Z
    read A -> r1
    munmap B
'''
[matrix]
preset = ["before", "v6.14"]
[[expect]]
forbidden = "cpu1:r1 == old or hazard(deadlock)"
[[expect]]
when = { preset = "before" }
forbidden = "cpu1:r0 == 0"
[[expect]]
exists = "cpu0:ret == 0 and mem[A+0x1000] == 7"
[[expect]]
exists = "VmPTE == 12"
[[expect]]
always = "cpu1:r0 == old and VmPTE == 8"
"""
