"""Words for the stories of the other test_oracle files, and what holds for the table of hazards as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS
from ptactors.model import event as ev
from ptactors.model.hazard import Finding, Severity
from ptactors.model.paging import DIRTY, HUGE, PAGE_SIZE, PMD_SIZE, TABLE_FLAGS, USER, Level, index, make
from ptactors.model.state import Record
from ptactors.oracle.base import Rule
from ptactors.oracle.mirror import Mirror
from ptactors.oracle.table import HAZARDS, Oracles

NAMES = (
    "mixed_page_size_tlb", "two_translations_one_va", "two_pte_pages", "stale_tlb_to_freed_page",
    "page_table_uaf_software_walker", "page_table_uaf_hardware_walker", "lock_object_uaf", "wrong_data_after_dontneed",
    "wrong_data", "permission_bypass", "lost_write", "lost_dirty", "nonempty_pte_page_freed", "bogus_page_table",
    "double_free", "leak", "counter_mismatch", "deadlock", "livelock", "stall", "lock_order", "rcu_misuse",
    "protocol_violation", "crash",
)  # fmt: skip
CONDITIONS = ("mixed_page_size_tlb", "two_translations_one_va", "two_pte_pages")
SCENARIOS = {path.stem for path in (Path(__file__).parent.parent / "scenarios").glob("*.toml")}

MM = "m"
A = 0x7F00_0020_0000
PGD, PUD, PMD, PTE, PTE2 = 0x10, 0x11, 0x12, 0x20, 0x21
PAGE, PAGE2, FILE, HEAD = 0x100, 0x101, 0x180, 0x4000_0000
RW, RO = 0x1 | USER | 0x2, 0x1 | USER
FLAGS = 0x1 | USER | 0x2 | 0x20


class Story:
    """Records in the making: every event a step of its own, by the actor of its CPU."""

    def __init__(self, kind: str = "anon") -> None:
        self.records: list[Record] = []
        self.step = 0
        self.setup(ev.VmaInit(-1, MM, "A", A, A + PMD_SIZE, kind))
        for pfn, table in ((PGD, "pgd"), (PUD, "pud"), (PMD, "pmd"), (PTE, "pte")):
            self.setup(ev.FrameAlloc(-1, pfn, 1, table, 0, MM))
        for level, table, child in ((Level.PGD, PGD, PUD), (Level.PUD, PUD, PMD), (Level.PMD, PMD, PTE)):
            what = ("", "pmd_install", "pud_install", "p4d_install")[level]
            slot = index(A, level)
            self.setup(ev.EntryWrite(what, -1, MM, level, A, table, 1, slot, 0, make(child, TABLE_FLAGS)))
        for cpu in (0, 1):
            self.setup(ev.Cr3Write(cpu, MM, 1, True))

    def setup(self, *events: Any) -> Story:
        """Before the first step."""
        self.records += [(0, -1, event) for event in events]
        return self

    def do(self, *events: Any) -> Story:
        """One step an event."""
        for event in events:
            self.step += 1
            self.records.append((self.step, event.cpu, event))
        return self

    def findings(self) -> list[Finding]:
        """What the oracles say."""
        return Oracles.judge(self.records)

    def seen(self) -> set[str]:
        """The hazards' names."""
        return {finding.hazard for finding in self.findings()}


def alloc(pfn: int, kind: str = "anon", gen: int = 1, cpu: int = 0, order: int = 0) -> ev.FrameAlloc:
    return ev.FrameAlloc(cpu, pfn, gen, kind, order, MM)


def free(pfn: int, kind: str = "anon", gen: int = 1, cpu: int = 0, order: int = 0) -> ev.FrameFree:
    return ev.FrameFree(cpu, pfn, gen, kind, order)


def take(cpu: int, lock: str, mode: str = "spin") -> ev.LockAcquire:
    return ev.LockAcquire(cpu, lock, lock.partition(":")[0], mode)


def drop(cpu: int, lock: str) -> ev.LockRelease:
    return ev.LockRelease(cpu, lock, lock.partition(":")[0], "spin")


def pte(cpu: int, va: int, old: int, new: int, table: int = PTE, gen: int = 1) -> tuple[Any, ...]:
    """An entry written under its lock."""
    what = "pte_set" if new else "pte_clear"
    lock = f"pte:{table:#x}"
    written = ev.EntryWrite(what, cpu, MM, Level.PTE, va, table, gen, index(va, Level.PTE), old, new)
    return (take(cpu, lock), written, drop(cpu, lock)) if cpu >= 0 else (written,)


def pmd(cpu: int, what: str, old: int, new: int) -> tuple[Any, ...]:
    """A's pmd entry written under its lock."""
    lock = f"pmd:{PMD:#x}"
    return take(cpu, lock), ev.EntryWrite(what, cpu, MM, Level.PMD, A, PMD, 1, index(A, Level.PMD), old, new), drop(cpu, lock)


def to_table(table: int) -> int:
    return make(table, TABLE_FLAGS)


def huge(pfn: int) -> int:
    return make(pfn, FLAGS | HUGE | DIRTY)


def fill(
    cpu: int,
    va: int,
    pfn: int,
    size: int = PAGE_SIZE,
    write: bool = True,
    table: int = PTE,
    table_gen: int = 1,
    gen: int = 1,
    asid: int = 1,
) -> ev.TlbFill:
    return ev.TlbFill(cpu, MM, asid, va, size, pfn, gen, write, write, table if size == PAGE_SIZE else PMD, table_gen, False)


def flush(cpu: int, start: int = 0, end: int = 1 << 48, asid: int = 1, psc: str = "all") -> ev.TlbInvalidate:
    return ev.TlbInvalidate(cpu, asid, start, end, "test", psc)


def read(cpu: int, va: int, token: str, pfn: int = PAGE, gen: int = 1) -> ev.MemRead:
    return ev.MemRead(cpu, "R", MM, va, pfn, gen, PAGE_SIZE, 1 if token else 0, token)


def write(cpu: int, va: int, token: str, pfn: int = PAGE, gen: int = 1) -> ev.MemWrite:
    return ev.MemWrite(cpu, "W", MM, va, pfn, gen, PAGE_SIZE, 1, token)


def enter(cpu: int, call: str = "madvise", arg: str = "DONTNEED", start: int = A, end: int = A + PMD_SIZE) -> ev.SyscallEnter:
    return ev.SyscallEnter(cpu, "Z", call, MM, start, end, arg)


def leave(cpu: int, call: str = "madvise", ret: int = 0, start: int = A, end: int = A + PMD_SIZE) -> ev.SyscallExit:
    return ev.SyscallExit(cpu, "Z", call, MM, start, end, ret)


def test_every_fixed_name_has_its_oracle_in_order():
    assert tuple(HAZARDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_oracle_explains_itself(name):
    oracle = HAZARDS[name]
    assert oracle.name == name
    assert oracle.severity is (Severity.CONDITION if name in CONDITIONS else Severity.VIOLATION)
    assert oracle.source
    assert oracle.kinds
    assert set(oracle.kinds) <= set(ev.EVENTS)
    assert set(oracle(Mirror(), print).listeners()) == set(oracle.kinds)
    assert (oracle.__doc__ or "").strip()
    for field in attrs.fields(Rule):
        assert getattr(oracle.rule, field.name).strip(), field.name
    assert oracle.rule.scenario in SCENARIOS


@pytest.mark.parametrize("name", NAMES)
def test_knobs_of_a_rule_exist(name):
    text = HAZARDS[name].rule.knob
    named = {word.partition("=")[0].strip("(),;") for word in text.split() if "=" in word}
    assert named <= {*KERNEL_KNOBS, *MACHINE_KNOBS}
    assert any(knob in text for knob in (*KERNEL_KNOBS, *MACHINE_KNOBS))


def test_mirror_listens_before_every_oracle_and_only_to_known_kinds():
    bench = Oracles()
    order: dict[type, list[object]] = {}
    bench.listen(lambda kind, listener: order.setdefault(kind, []).append(listener))
    assert set(order) <= set(ev.EVENTS)
    noted = bench.mirror.listeners()
    for kind, listeners in order.items():
        judges = [
            listener for listener in listeners if hasattr(listener, "__self__") and listener.__self__ in bench.oracles.values()
        ]
        assert len(listeners) - len(judges) == (1 if kind in noted else 0)
        if kind in noted:
            assert listeners[0] not in judges


def test_first_sighting_is_reported_and_later_ones_counted():
    bench = Oracles()
    listeners: dict[type, list[Any]] = {}
    bench.listen(lambda kind, listener: listeners.setdefault(kind, []).append(listener))
    for step in (1, 2, 3):
        for see in listeners[ev.MachineCheck]:
            see(step, 0, ev.MachineCheck(0, A))
    assert [(finding.hazard, finding.step) for finding in bench.findings] == [("crash", 1)]
    assert bench.counts == {"crash": 3}
    bench.reset()
    assert bench.findings == []
    assert bench.counts == {}


def test_reset_forgets_the_run_and_keeps_the_listeners():
    story = Story().do(alloc(PAGE), fill(0, A, PAGE), free(PAGE), read(0, A, "", PAGE))
    bench = Oracles()
    listeners: dict[type, list[Any]] = {}
    bench.listen(lambda kind, listener: listeners.setdefault(kind, []).append(listener))

    def play() -> list[Finding]:
        for step, actor, event in story.records:
            for see in listeners.get(type(event), ()):
                see(step, actor, event)
        return bench.findings

    first = play()
    assert [finding.hazard for finding in first] == ["stale_tlb_to_freed_page"]
    bench.reset()
    assert play() == first == story.findings()


def test_an_empty_run_has_no_findings():
    assert Oracles.judge([]) == []
    assert Story().findings() == []


def test_histories_are_sorted_and_name_addresses():
    story = Story().do(
        ev.OpBegin(1, "R", "read", "read A+0x3000"), alloc(PAGE), *pte(1, A + 0x3000, 0, make(PAGE, FLAGS)),
        fill(1, A + 0x3000, PAGE), *pte(0, A + 0x3000, make(PAGE, FLAGS), 0), alloc(HEAD, order=9),
        *pmd(0, "pmd_clear", to_table(PTE), 0), *pmd(1, "set_huge_pmd", 0, huge(HEAD)), fill(1, A, HEAD, PMD_SIZE),
    )  # fmt: skip
    (mixed,) = (finding for finding in story.findings() if finding.hazard == "mixed_page_size_tlb")
    steps = [step for step, _ in mixed.history]
    assert steps == sorted(steps)
    assert min(steps) > 0
    texts = "\n".join(text for _, text in mixed.history)
    assert "2M translation of A filled into the TLB of cpu1" in mixed.what
    assert "4K translation A+0x3000 -> frame 0x100 filled into the TLB of cpu1, by read A+0x3000" in texts
    assert "set_huge_pmd A by cpu1" in texts
    assert "pmd_clear A by cpu0" in texts


def test_mirror_keeps_nothing_of_what_is_gone():
    """25,600 tables in a row cost no more at the end than one: sizes are counted, nothing is timed."""
    bench = Oracles()
    listeners: dict[type, list[Any]] = {}
    bench.listen(lambda kind, listener: listeners.setdefault(kind, []).append(listener))
    calls = 0
    records = Story().records
    for n in range(3000):
        va, table, page = A + (n + 1) * PMD_SIZE, PTE2 + 0x1000 + n % 4, PAGE + 0x1000 + n % 4
        slot, entry = index(va, Level.PMD), make(page, FLAGS)
        records += [
            (n, 0, event)
            for event in (
                ev.FrameAlloc(0, table, n, "pte", 0, MM),
                ev.EntryWrite("pmd_install", 0, MM, Level.PMD, va, PMD, 1, slot, 0, to_table(table)),
                ev.FrameAlloc(0, page, n, "anon", 0, MM),
                ev.EntryWrite("pte_set", 0, MM, Level.PTE, va, table, n, 0, 0, entry),
                ev.TlbFill(0, MM, 1, va, PAGE_SIZE, page, n, True, True, table, n, False),
                ev.PscFill(0, MM, 1, Level.PMD, va, table, n),
                ev.EntryWrite("pte_clear", 0, MM, Level.PTE, va, table, n, 0, entry, 0),
                ev.EntryWrite("pmd_clear", 0, MM, Level.PMD, va, PMD, 1, slot, to_table(table), 0),
                ev.TlbInvalidate(0, 1, va, va + PAGE_SIZE, "invlpg", "path"),
                ev.FrameFree(0, page, n, "anon", 0),
                ev.FrameFree(0, table, n, "pte", 0),
            )
        ]
    for step, actor, event in records:
        for see in listeners.get(type(event), ()):
            calls += 1
            see(step, actor, event)
    memory, caches = bench.mirror.memory, bench.mirror.caches
    space = caches.space(0, 1)
    assert (len(memory.entries), len(memory.filled), len(memory.pmds[MM])) == (0, 0, 1)
    assert len(memory.frames) == 4 + 8
    assert len(memory.links) == 3
    assert (len(space.small), len(space.huge), len(space.upper)) == (0, 0, 0)
    assert calls <= 9 * len(records)
