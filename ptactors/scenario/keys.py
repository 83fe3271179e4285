"""Every key of the scenario language, section by section: the loader, the errors and the JSON Schema read these tables."""

from __future__ import annotations

import attrs

from ptactors.config import HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESETS
from ptactors.kernel.operation import PROTECTIONS
from ptactors.scenario.shape import Content, Either, Flag, Form, Integer, Knob, ListOf, TableOf, Text


@attrs.frozen
class Key:
    """One key of a section."""

    name: str
    form: Form
    doc: str
    """One line for the schema and the documentation."""
    required: bool = False


PSEUDO_KNOBS: dict[str, Form] = {
    "preset": Text(tuple(PRESETS), "preset"),
    "hardware": Text(tuple(HARDWARE_PRESETS), "hardware"),
}
"""What a matrix and ``when`` may name beside knobs."""
AXES: dict[str, Form] = {**PSEUDO_KNOBS, **{name: Knob(name) for name in (*KERNEL_KNOBS, *MACHINE_KNOBS)}}
"""Everything that may be an axis of the matrix, in the order of the config."""

KINDS = ("anon", "anon-shared", "file-private", "file-shared", "memfd", "hugetlb")
HUGE = ("none", "hugepage", "nohugepage")
STATES = ("user", "lazy", "idle", "off")
RCU_CALLBACKS = ("early", "late", "any")
CONDITION_KINDS = ("exists", "forbidden", "always")

ADDRESSES = ListOf(Text(what="an address such as 'A+0x3000'"))
SIZE = Either((Integer(1), Text()), "a number of bytes or a text such as '4K', '2M' or '1G'")

TOP = (
    Key("ptactors", Integer(1, 1), "version of the format: 1", required=True),
    Key("name", Text(what="a name"), "the name of the file without .toml", required=True),
    Key("title", Text(), "one line for lists"),
    Key("why", Text(), "what the scenario asks, in words", required=True),
    Key("refs", ListOf(Text()), "mails, commits, manual sections"),
    Key("allow", ListOf(Text(what="a hazard")), "hazards that are tolerated without an expectation"),
)
"""Keys beside the sections."""

MACHINE = (
    Key("hardware", PSEUDO_KNOBS["hardware"], "the CPU type"),
    *(Key(name, Knob(name), str(field.metadata["effect"])) for name, field in MACHINE_KNOBS.items()),
    Key("speculate", TableOf(ADDRESSES), "per CPU, addresses that its hardware walker may fill without an access"),
    Key("speculative_fills", Integer(0, 1000), "how many such fills each CPU may make; 1 if speculate is given"),
    Key("max_steps", Integer(1, 1 << 40), "limit of steps in one run; 200000"),
)
KERNEL = (
    Key("preset", PSEUDO_KNOBS["preset"], "the kernel release or series"),
    *(Key(name, Knob(name), str(field.metadata["effect"])) for name, field in KERNEL_KNOBS.items()),
)
PROCESS: tuple[Key, ...] = ()
"""A process has a name only."""
VMA = (
    Key("at", Integer(), "the first address", required=True),
    Key("size", SIZE, "bytes, or text with K, M or G", required=True),
    Key("process", Text(what="a process"), "whose it is; the first process"),
    Key("kind", Text(KINDS, "kind"), "anon"),
    Key("mapped", Flag(), "false: only a name for addresses, which programs map themselves; true"),
    Key("writable", Flag(), "false is prot = 'ro'; true"),
    Key("prot", Text(PROTECTIONS, "protection"), "rw"),
    Key("huge", Text(HUGE, "huge advice"), "VM_HUGEPAGE or VM_NOHUGEPAGE; none"),
    Key("uffd_wp", Flag(), "registered with userfaultfd for write protection; false"),
    Key("locked", Flag(), "VM_LOCKED; false"),
    Key("anon_prepared", Flag(), "an anon_vma is attached already; true"),
    Key("populate", TableOf(Content()), "address or 'address length' -> content of the page mapped before the run"),
    Key("huge_pages", TableOf(Content()), "address -> content of the 2 MiB page mapped before the run"),
    Key("tables", ADDRESSES, "addresses whose PTE table exists, empty, before the run"),
    Key("entries", TableOf(Text(what="an entry")), "address -> marker-uffd-wp, guard, swap, zero, cow:V, file:V, file-dirty:V"),
)
CPU = (
    Key("do", Text(what="a program"), "the program, one operation a line"),
    Key("process", Text(what="a process"), "whose program it runs; the first process"),
    Key("state", Text(STATES, "state"), "what runs there at the start; user"),
    Key("tlb", ADDRESSES, "addresses whose translation the TLB holds at the start"),
    Key("psc", ADDRESSES, "addresses whose upper-level entry alone is cached at the start"),
)
MATRIX = tuple(Key(name, ListOf(form, 1), "axis of the matrix") for name, form in AXES.items())
EXPLORE = (
    Key("strategy", Text(what="a strategy"), "who chooses the next actor; portfolio"),
    Key("runs", Integer(1, 10**9), "schedules a cell; 200"),
    Key("full_runs", Integer(1, 10**9), "schedules a cell in a full campaign; 20000"),
    Key("seed", Integer(0, (1 << 63) - 1), "the first seed; 0"),
)
EXPECT = (
    Key("when", TableOf(Either((Content(), Flag(), ListOf(Either((Content(), Flag()), "a value"), 1)), "a value or a list")),
        "knob -> value or list of values: the cells it speaks of; all"),
    *(Key(kind, Text(what="a condition"), doc) for kind, doc in zip(CONDITION_KINDS, (
        "some schedule ends so", "no schedule ends so", "every schedule ends so"), strict=True)),
    Key("note", Text(), "why it is expected"),
)  # fmt: skip
PIN = (Key("order", ListOf(Text(what="a step such as 'cpu0:Z.pte_clear'"), 1), "the steps, in order", required=True),)
FAULT = (
    Key("page_batch_alloc", Text(what="ok, fail, maybe or 'fail-after N'"), "allocation of a page batch; ok"),
    Key("table_batch_alloc", Text(what="ok, fail, maybe or 'fail-after N'"), "allocation of a table batch; ok"),
    Key("need_resched", Either((Text(("maybe",)), ListOf(Text())), "'maybe' or a list of places such as 'cpu0:Z after 100'"),
        "where a reschedule is due in the middle of a zap; nowhere"),
    Key("rcu_callbacks", Text(RCU_CALLBACKS, "time of callbacks"), "when callbacks run after their grace period; any"),
    Key("late_ipis", Either((Text(("all",)), ListOf(Text())), "'all' or a list of CPUs such as 'cpu1'"),
        "CPUs that an interrupt reaches only when nothing else can move; none"),
)  # fmt: skip
STRESS = (
    Key("ops", TableOf(Integer(1, 1_000_000)), "program line with $page, $pmd, $value ... -> weight", required=True),
    Key("per_cpu", Integer(1, 100_000), "operations on each CPU", required=True),
    Key("seed_ops", Flag(), "each schedule draws its own programs; true"),
    Key("pages", Integer(1, 512), "$page draws from the first so many pages of each 2 MiB; 4"),
)
COVERAGE = (Key("reached", ListOf(Text(what="a step or an event"), 1), "what some schedule must reach", required=True),)

SECTIONS: dict[str, tuple[Key, ...]] = {
    "machine": MACHINE, "kernel": KERNEL, "process": PROCESS, "vma": VMA, "cpu": CPU, "matrix": MATRIX, "explore": EXPLORE,
    "expect": EXPECT, "pin": PIN, "fault": FAULT, "stress": STRESS, "coverage": COVERAGE,
}  # fmt: skip
"""Every section by name; process, vma and cpu are tables of tables, expect is a list of tables."""
NAMED = ("process", "vma", "cpu")
"""Sections of the form ``[section.NAME]``."""
LISTED = ("expect",)
"""Sections of the form ``[[section]]``."""
NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"
CPU_PATTERN = r"[0-9]{1,2}"
