"""A world without a machine: outcomes that follow from the seed by arithmetic, for tests of what stands above the world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from ptactors import __version__
from ptactors.engine.schedule import Schedule
from ptactors.errors import ReplayDivergence
from ptactors.model.event import (
    EntryWrite,
    GatherBegin,
    GatherEnd,
    LockAcquire,
    LockRelease,
    OpBegin,
    OpEnd,
    PageFault,
    PageFaultEnd,
    SyscallEnter,
    SyscallExit,
    TlbFill,
    TlbFlush,
    TlbFlushEnd,
    TlbInvalidate,
    VmaInit,
)
from ptactors.model.hazard import Finding
from ptactors.model.paging import HUGE, PRESENT, USER, WRITE, make

A = 0x7F00_0020_0000
ACTORS = ("cpu0", "cpu1", "irq0", "irq1", "hw0", "hw1", "rcu", "bus")
RW = PRESENT | WRITE | USER
TABLE, HUGE_FRAME, PMD = 0x150, 0x200, 0x120
SAMPLE = """
ptactors = 1
name  = "{name}"
title = "A huge page is installed while small translations are cached"
why   = "The flush is batched past the pmd unlock."
{top}
[machine]
cpus = 2
thp  = "always"
[kernel]
preset = "rfc-v1"
[vma.A]
at = 0x7f00_0020_0000
size = "2M"
populate = {{ "A+0x3000" = "old" }}
[cpu.0]
do = "Z: madvise A DONTNEED"
[cpu.1]
do = '''
    read  A+0x3000 -> r0
    read  A+0x5000 -> r1
'''
[explore]
strategy = "run-length"
runs = {runs}
{rest}
"""
MATRIX = "[matrix]\nflush_before_set_huge = [false, true]\n"
EXISTS = '[[expect]]\nwhen = { flush_before_set_huge = false }\nexists = "hazard(mixed_page_size_tlb)"\n'
FORBIDDEN = '[[expect]]\nwhen = { flush_before_set_huge = true }\nforbidden = "hazard(mixed_page_size_tlb)"\n'
NEVER = '[[expect]]\nforbidden = "hazard(mixed_page_size_tlb)"\n'


def write_sample(
    folder: Path, name: str = "sample", *, runs: int = 120, rest: str = MATRIX + EXISTS + FORBIDDEN, top: str = ""
) -> Path:
    """A scenario file."""
    path = folder / f"{name}.toml"
    path.write_text(SAMPLE.format(name=name, runs=runs, rest=rest, top=top))
    return path


def story() -> tuple:
    """The records of case 1, as short as they can be."""
    events = [
        (0, -1, VmaInit(-1, "p", "A", A, A + 0x200000, "anon")),
        (12, 1, OpBegin(1, "l0", "read", "read A+0x3000 -> r0")),
        (13, 1, TlbFill(1, "p", 1, A + 0x3000, 4096, 0x1A2, 1, True, False, TABLE, 1, False)),
        (14, 1, OpEnd(1, "l0", "read", "old")),
        (31, 0, OpBegin(0, "Z", "madvise", "madvise A DONTNEED")),
        (31, 0, SyscallEnter(0, "Z", "madvise", "p", A, A + 0x200000, "MADV_DONTNEED")),
        (32, 0, GatherBegin(0, "p", 1)),
        (38, 0, LockAcquire(0, f"pte:{TABLE:#x}", "pte", "spin")),
    ]
    clears = [EntryWrite("pte_clear", 0, "p", 0, A + i * 4096, TABLE, 1, i, make(0x1A0 + i, RW), 0) for i in range(6)]
    events += [(39 + i, 0, clear) for i, clear in enumerate(clears)]
    events += [
        (45, 0, EntryWrite("pmd_clear", 0, "p", 1, A, PMD, 1, 1, make(TABLE, RW), 0)),
        (46, 0, LockRelease(0, f"pte:{TABLE:#x}", "pte", "spin")),
        (49, 1, OpBegin(1, "l1", "read", "read A+0x5000 -> r1")),
        (50, 1, PageFault(1, "l1", A + 0x5000, 4)),
        (58, 1, EntryWrite("set_huge_pmd", 1, "p", 1, A, PMD, 1, 1, 0, make(HUGE_FRAME, RW | HUGE))),
        (59, 1, PageFaultEnd(1, A + 0x5000, "huge")),
        (61, 1, TlbFill(1, "p", 1, A, 1 << 21, HUGE_FRAME, 1, True, False, PMD, 1, False)),
        (63, 0, TlbFlush(0, "remote shootdown", -1, "p", 0, 1 << 47, 7, True, (1,))),
        (64, 1, TlbInvalidate(1, 1, 0, 1 << 47, "cr3", "all")),
        (65, 0, TlbFlushEnd(0, "p", 7)),
        (66, 0, GatherEnd(0, "p", 0, False)),
        (67, 0, SyscallExit(0, "Z", "madvise", "p", A, A + 0x200000, 0)),
        (67, 0, OpEnd(0, "Z", "madvise", "0")),
    ]
    return tuple(events)


FINDING = Finding(
    "mixed_page_size_tlb", 61, 1,
    "2M translation of A filled into the TLB of cpu1, which still holds the 4K translation A+0x3000",
    ((13, "4K translation A+0x3000 -> frame 0x1a2 filled into the TLB of cpu1"), (45, "its pmd was cleared by cpu0"),
     (58, "huge pmd installed at A by cpu1")),
)  # fmt: skip
FUNCTIONS = {
    45: "zap_pte_range <- zap_pmd_range <- unmap_vmas <- madvise",
    58: "do_huge_pmd_anonymous_page <- handle_mm_fault <- page_fault",
}


@attrs.frozen(kw_only=True)
class Outcome:
    status: str = "complete"
    reason: str = ""
    steps: int = 70
    findings: tuple = ()
    verdicts: tuple = ()
    final: tuple = ()
    metrics: dict = attrs.field(factory=dict)
    reached: tuple = ()
    schedule: Schedule
    digest: str = "d" * 16
    records: tuple | None = None
    causes: dict = attrs.field(factory=dict)
    functions: dict = attrs.field(factory=dict)
    actors: tuple = ACTORS


def finding(hazard: str) -> Finding:
    return attrs.evolve(FINDING, hazard=hazard)


@attrs.define
class FakeWorld:
    """Says what happens in a run: ``hazards(cell, seed)`` and, if wanted, how the run ends."""

    hazards: object = None
    status: object = None
    calls: list = attrs.field(factory=list)
    boom: Exception | None = None
    diverges: bool = False

    def play(self, scenario, cell, *, strategy, seed, record=False, host="trio", replay=None) -> Outcome:
        self.calls.append((scenario.name, cell.index, seed, record))
        if self.boom is not None:
            raise self.boom
        if replay is not None and self.diverges:
            raise ReplayDivergence(17, "cpu0 was recorded to make lock_pte, here it offers unlock_pte")
        names = list(self.hazards(cell, seed)) if self.hazards else []
        status = self.status(cell, seed) if self.status else "complete"
        schedule = Schedule(
            version=__version__, scenario=scenario.name, scenario_path=scenario.path, digest=scenario.digest, cell=cell.name,
            knobs=cell.config.as_dict(), strategy=strategy, seed=seed, turns=(("cpu0", 0, "a"), ("cpu1", 1, "b")),
        )  # fmt: skip
        return Outcome(
            status=status, reason="" if status == "complete" else "200000 steps were made",
            findings=tuple(finding(name) for name in names),
            verdicts=tuple(bool(set(e.condition.hazards()) & set(names)) for e in cell.expects),
            final=(("cpu1:r1", f"v{seed % 3}"), ("mem[A+0x3000]", seed % 2)),
            metrics={"VmPTE_kB_max": 4 + seed % 5, "flushes": 1 + (seed % 4 == 0)},
            reached=("pmd_clear", "tlb_fill"), schedule=schedule, records=story() if record else None,
            causes={61: 58} if record else {}, functions=FUNCTIONS if record else {},
        )  # fmt: skip

    def play_many(self, scenario, cell, *, strategy, seeds: Iterable[int], host="trio") -> Iterator[Outcome]:
        for seed in seeds:
            yield self.play(scenario, cell, strategy=strategy, seed=seed, host=host)

    def install(self, monkeypatch) -> FakeWorld:
        monkeypatch.setattr("ptactors.campaign.run.play_many", self.play_many)
        monkeypatch.setattr("ptactors.campaign.witness.play", self.play)
        monkeypatch.setattr("ptactors.cli.selfcheck.play", self.play)
        return self
