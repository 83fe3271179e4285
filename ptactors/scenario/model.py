"""What a scenario file says, as facts. load.py makes them; the world assembles a machine from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ptactors.engine.strategy.table import DEFAULT_STRATEGY
from ptactors.scenario.condition import Condition
from ptactors.scenario.program import OpCall, Program

Content = int | str
"""What a page holds: a number, or a name that stands for some content."""


@attrs.frozen(kw_only=True)
class Names:
    """Names that tables of higher layers know; the command line passes them in. What is empty is not checked."""

    strategies: tuple[str, ...] = ()
    """Strategies of the engine."""
    step_labels: tuple[str, ...] = ()
    """Labels of steps, as ``[pin]`` and ``[coverage]`` name them."""
    events: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Names of events, each with the names of its fields."""
    values: tuple[str, ...] = ()
    """Names that registers may hold beside those that the scenario itself stores, such as results of operations."""


@attrs.frozen(kw_only=True)
class Fill:
    """Pages of one VMA that are present before the run, each with the same content."""

    start: int
    """First address, page aligned."""
    end: int
    """First address behind the last page."""
    value: Content
    """What each page holds."""


@attrs.frozen(kw_only=True)
class Entry:
    """One PTE that is something else than an ordinary present page before the run."""

    va: int
    """Its address, page aligned."""
    kind: str
    """marker-uffd-wp, guard, swap, zero (the zero page), cow, file or file-dirty."""
    value: Content = ""
    """What the page holds; '' for the kinds without a page of their own."""


@attrs.frozen(kw_only=True)
class Vma:
    """One mapping of a process, and what its page tables hold before the run."""

    name: str
    """Its name in programs and conditions."""
    process: str
    """Whose it is."""
    at: int
    """First address."""
    size: int
    """Bytes; a multiple of the page size."""
    kind: str = "anon"
    """One of keys.KINDS."""
    writable: bool = True
    """VM_WRITE."""
    readable: bool = True
    """VM_READ."""
    mapped: bool = True
    """False: addresses with a name, where nothing is mapped before a program does it."""
    huge: str = "none"
    """none, hugepage (VM_HUGEPAGE) or nohugepage (VM_NOHUGEPAGE)."""
    uffd_wp: bool = False
    """Registered with userfaultfd for write protection."""
    locked: bool = False
    """VM_LOCKED."""
    anon_prepared: bool = True
    """Whether an anon_vma is attached."""
    populate: tuple[Fill, ...] = ()
    """Present pages; they do not overlap."""
    huge_pages: tuple[tuple[int, Content], ...] = ()
    """Addresses, 2 MiB aligned, of huge pages with their content."""
    tables: tuple[int, ...] = ()
    """Addresses, rounded down to 2 MiB, whose PTE table exists even if it is empty."""
    entries: tuple[Entry, ...] = ()
    """Other entries."""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.at + self.size


@attrs.frozen(kw_only=True)
class Cpu:
    """One CPU: what it runs and what its TLB holds at the start."""

    number: int
    """From 0."""
    process: str
    """Whose program it runs."""
    state: str = "user"
    """user, lazy (a kernel thread borrows the mm), idle (the idle task does) or off (the mm was never loaded here)."""
    program: Program = ()
    """What it does."""
    tlb: tuple[int, ...] = ()
    """Addresses whose translation, and the upper-level entry above it, is cached."""
    psc: tuple[int, ...] = ()
    """Addresses whose upper-level entry alone is cached."""


@attrs.frozen(kw_only=True)
class Explore:
    """How schedules are searched."""

    strategy: str = DEFAULT_STRATEGY
    """Who chooses the next actor."""
    runs: int = 200
    """Schedules a cell."""
    full_runs: int = 20_000
    """Schedules a cell in a full campaign."""
    seed: int = 0
    """The first seed."""


@attrs.frozen(kw_only=True)
class Expectation:
    """One ``[[expect]]``."""

    index: int
    """Its number in the file, from 0."""
    kind: str
    """exists, forbidden or always."""
    condition: Condition
    """Of the end of a run."""
    when: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict)
    """Knob, preset or hardware -> typed values; it speaks of the cells that have one of them, for each."""
    note: str = ""
    """Why it is expected."""
    line: int = attrs.field(default=0, eq=False)
    """1-based line of the condition."""
    column: int = attrs.field(default=0, eq=False)
    """1-based column of the condition."""


@attrs.frozen(kw_only=True)
class PinnedStep:
    """One step of a pinned order."""

    cpu: int
    """Who makes it."""
    label: str
    """The operation it belongs to; '' for any."""
    step: str
    """The label of the step."""
    occurrence: int = 1
    """Which one of those that match, counted from 1."""

    def __str__(self) -> str:
        label = f"{self.label}." if self.label else ""
        return f"cpu{self.cpu}:{label}{self.step}" + (f"#{self.occurrence}" if self.occurrence > 1 else "")


@attrs.frozen(kw_only=True)
class Allocation:
    """What becomes of an allocation that may fail."""

    mode: str = "ok"
    """ok, fail, fail-after or maybe (the strategy chooses each time)."""
    after: int = 0
    """With fail-after: how many succeed first."""


@attrs.frozen(kw_only=True)
class Resched:
    """Where a reschedule becomes due in the middle of a zap."""

    cpu: int
    """On which CPU."""
    label: str
    """In which operation."""
    after: int
    """After how many entries of that operation were zapped."""


@attrs.frozen(kw_only=True)
class Fault:
    """What is injected."""

    page_batch_alloc: Allocation = attrs.field(factory=Allocation)
    """Allocation of another page batch of the gather."""
    table_batch_alloc: Allocation = attrs.field(factory=Allocation)
    """Allocation of a table batch of the gather."""
    need_resched: tuple[Resched, ...] = ()
    """Places where a reschedule becomes due."""
    need_resched_maybe: bool = False
    """True if the strategy chooses at every entry."""
    rcu_callbacks: str = "any"
    """early, late or any: when callbacks run once their grace period is over."""
    late_ipis: tuple[int, ...] = ()
    """CPUs that an interrupt reaches only when nothing else can move: how schedules are sampled, not what is possible."""


@attrs.frozen(kw_only=True)
class Stress:
    """A random mix of operations."""

    ops: tuple[tuple[OpCall, int], ...]
    """Operations with placeholders as variables, each with its weight."""
    per_cpu: int
    """How many operations each CPU draws."""
    seed_ops: bool = True
    """True if each schedule's seed draws its own programs; False if all share those of the first seed."""
    pages: int = 4
    """``$page`` is drawn from the first so many pages of each 2 MiB."""


@attrs.frozen(kw_only=True)
class Scenario:
    """One scenario file."""

    name: str
    """The file's name without .toml."""
    title: str
    """One line for lists."""
    why: str
    """What it asks, in words."""
    refs: tuple[str, ...]
    """Mails, commits, manual sections."""
    path: str
    """The file, as the user named it."""
    digest: str
    """16 hex digits of what decides what a run does; prose, comments, layout, budgets and expectations do not change it."""
    hardware: str
    """CPU type: a key of HARDWARE_PRESETS."""
    machine: Mapping[str, Any]
    """Machine knobs set beside the CPU type, typed."""
    preset: str
    """Kernel: a key of PRESETS."""
    kernel: Mapping[str, Any]
    """Kernel knobs set beside the preset, typed."""
    max_steps: int
    """Limit of steps in one run."""
    speculate: Mapping[int, tuple[int, ...]]
    """CPU -> pages that its hardware walker may fill without an access."""
    speculative_fills: int
    """How many such fills each CPU may make."""
    processes: tuple[str, ...]
    """Names of processes; the first is the default."""
    vmas: tuple[Vma, ...]
    """In the order of the file."""
    cpus: tuple[Cpu, ...]
    """Every CPU of the machine; of the largest one if the matrix varies their number."""
    matrix: Mapping[str, tuple[Any, ...]]
    """Axis -> typed values, in the order of the file."""
    explore: Explore
    """How schedules are searched."""
    expects: tuple[Expectation, ...]
    """What should come of it."""
    allow: tuple[str, ...]
    """Hazards that are tolerated without an expectation."""
    pin: tuple[PinnedStep, ...]
    """An order of steps that is enforced; empty for none."""
    fault: Fault
    """What is injected."""
    stress: Stress | None
    """A random mix of operations behind the programs."""
    coverage: tuple[str, ...]
    """Steps and events that some schedule of some cell must reach."""

    def vma(self, name: str) -> Vma:
        """The VMA of that name. Raises KeyError."""
        for vma in self.vmas:
            if vma.name == name:
                return vma
        raise KeyError(name)
