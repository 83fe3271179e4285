"""Conditions: what an expectation says about a run, as a tree that is evaluated against :class:`Facts`.

A value is an int or a name. A register or a cell of memory that was never set is the name ``unset``. Names are only
equal or not: an order comparison with a name is false, and arithmetic with a name is the name ``unset``.
condition_text.py makes these trees.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from ptactors.scenario.expression import apply

Value = int | str
UNSET = "unset"
"""What a register or a cell of memory that was never set holds."""

METRICS: dict[str, tuple[str, ...]] = {
    "VmPTE": (), "VmPTE_max": (), "VmPTE_start": (), "rss": ("anon", "file", "shmem", "swap"), "flushes": (), "ipis": (),
    "grace_periods": (), "steps": (),
}  # fmt: skip
"""Numbers of a run by name, each with its possible arguments. VmPTE is in kB."""
TABLE_LEVELS = ("none", "table", "4k", "2m")
"""What maps an address: nothing, an empty entry of an existing PTE table, a PTE, a huge PMD."""
TLB_LEVELS = ("none", "4k", "2m")
LEVEL_SYNONYMS = {"pte": "4k", "huge": "2m"}


class Facts(Protocol):
    """What a condition may ask of a run, or of a state in the middle of one."""

    def register(self, cpu: int, name: str) -> Value:
        """The value of a register, or 'unset'."""
        ...

    def memory(self, va: int) -> Value:
        """The content of the page that is mapped at ``va``, be it inaccessible (PROT_NONE), or 'unset'."""
        ...

    def table(self, va: int) -> tuple[str, Value]:
        """What the page tables say of ``va``: one of TABLE_LEVELS, and the frame or 'none'."""
        ...

    def tlb(self, cpu: int, va: int) -> tuple[str, Value]:
        """What the TLB of ``cpu`` says of ``va``: one of TLB_LEVELS, and the frame or 'none'."""
        ...

    def hazard(self, name: str) -> bool:
        """Whether the hazard was seen."""
        ...

    def faults(self, cpu: int, label: str) -> int:
        """How many page faults the operation took, over all its iterations."""
        ...

    def count(self, event: str, fields: tuple[tuple[str, Value], ...]) -> int:
        """How many events of that name have these fields."""
        ...

    def metric(self, name: str, argument: str) -> Value:
        """One of METRICS; ``argument`` is '' for those that take none."""
        ...

    def ever(self, text: str) -> bool:
        """Whether the sub-condition with that text held after some step."""
        ...


class Term(Protocol):
    """A part of a condition that has a value."""

    def evaluate(self, facts: Facts) -> Value:
        """Its value."""
        ...


class Predicate(Protocol):
    """A part of a condition that holds or not."""

    def evaluate(self, facts: Facts) -> bool:
        """Whether it holds."""
        ...


def _quoted(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@attrs.frozen
class Literal:
    """A number or a name."""

    value: Value

    def evaluate(self, _facts: Facts) -> Value:
        """See Term."""
        return self.value

    def __str__(self) -> str:
        return _quoted(self.value)


@attrs.frozen
class Register:
    """``cpu0:r1``."""

    cpu: int
    name: str

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.register(self.cpu, self.name)

    def __str__(self) -> str:
        return f"cpu{self.cpu}:{self.name}"


@attrs.frozen
class Memory:
    """``mem[A+0x1000]``."""

    va: int

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.memory(self.va)

    def __str__(self) -> str:
        return f"mem[{self.va:#x}]"


FIELDS = ("level", "pfn")
"""Fields of pt and tlb, in the order of the facts' tuples."""


@attrs.frozen
class Table:
    """``pt[A].level`` or ``pt[A].pfn``."""

    va: int
    field: str

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.table(self.va)[FIELDS.index(self.field)]

    def __str__(self) -> str:
        return f"pt[{self.va:#x}].{self.field}"


@attrs.frozen
class Tlb:
    """``tlb[cpu1][A].level`` or ``tlb[cpu1][A].pfn``."""

    cpu: int
    va: int
    field: str

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.tlb(self.cpu, self.va)[FIELDS.index(self.field)]

    def __str__(self) -> str:
        return f"tlb[cpu{self.cpu}][{self.va:#x}].{self.field}"


@attrs.frozen
class FaultCount:
    """``fault(cpu1:T)``."""

    cpu: int
    label: str

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.faults(self.cpu, self.label)

    def __str__(self) -> str:
        return f"fault(cpu{self.cpu}:{self.label})"


@attrs.frozen
class EventCount:
    """``count(event, field=value)``."""

    event: str
    fields: tuple[tuple[str, Value], ...]

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.count(self.event, self.fields)

    def __str__(self) -> str:
        return f"count({', '.join([self.event, *(f'{name}={_quoted(value)}' for name, value in self.fields)])})"


@attrs.frozen
class Metric:
    """``VmPTE`` or ``rss(anon)``."""

    name: str
    argument: str = ""

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        return facts.metric(self.name, self.argument)

    def __str__(self) -> str:
        return f"{self.name}({self.argument})" if self.argument else self.name


@attrs.frozen
class Calculation:
    """A sum, difference or product."""

    op: str
    left: Term
    right: Term

    def evaluate(self, facts: Facts) -> Value:
        """See Term."""
        left, right = self.left.evaluate(facts), self.right.evaluate(facts)
        if isinstance(left, int) and isinstance(right, int):
            return apply(self.op, left, right)
        return UNSET

    def __str__(self) -> str:
        return f"({self.left} {self.op} {self.right})"


_ORDER: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip


@attrs.frozen
class Compare:
    """``left op right``."""

    op: str
    left: Term
    right: Term

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        left, right = self.left.evaluate(facts), self.right.evaluate(facts)
        if self.op == "==":
            return left == right
        if self.op == "!=":
            return left != right
        return isinstance(left, int) and isinstance(right, int) and _ORDER[self.op](left, right)

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right}"


@attrs.frozen
class HazardSeen:
    """``hazard(name)``."""

    name: str

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        return facts.hazard(self.name)

    def __str__(self) -> str:
        return f"hazard({self.name})"


@attrs.frozen
class Ever:
    """``ever(P)``: P held after some step; the world watches P while the run goes on."""

    text: str
    """The canonical text of P, by which the facts know it."""
    predicate: Predicate

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        return facts.ever(self.text)

    def __str__(self) -> str:
        return f"ever({self.text})"


@attrs.frozen
class All:
    """``P and Q``."""

    parts: tuple[Predicate, ...]

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        return all(part.evaluate(facts) for part in self.parts)

    def __str__(self) -> str:
        return f"({' and '.join(map(str, self.parts))})"


@attrs.frozen
class Any:
    """``P or Q``."""

    parts: tuple[Predicate, ...]

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        return any(part.evaluate(facts) for part in self.parts)

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.parts))})"


@attrs.frozen
class Not:
    """``not P``."""

    part: Predicate

    def evaluate(self, facts: Facts) -> bool:
        """See Predicate."""
        return not self.part.evaluate(facts)

    def __str__(self) -> str:
        return f"not {self.part}"


@attrs.frozen(kw_only=True)
class Condition:
    """One condition, ready to be evaluated."""

    text: str
    """As written, on one line and without comments; of a sub-condition its canonical text."""
    root: Predicate

    def evaluate(self, facts: Facts) -> bool:
        """Whether the condition holds of these facts."""
        return self.root.evaluate(facts)

    def hazards(self) -> tuple[str, ...]:
        """The hazards it names, whether wanted or not, each once."""
        return tuple(dict.fromkeys(p.name for p in _predicates(self.root) if isinstance(p, HazardSeen)))

    @property
    def evers(self) -> tuple[Condition, ...]:
        """The sub-conditions under ``ever``, each once, in the order of the text."""
        found: Mapping[str, Predicate] = {p.text: p.predicate for p in _predicates(self.root) if isinstance(p, Ever)}
        return tuple(Condition(text=text, root=root) for text, root in found.items())

    def canonical(self) -> str:
        """The condition with every name resolved; equal for texts that differ in form only."""
        return str(self.root)


def _predicates(root: Predicate) -> list[Predicate]:
    """``root`` and all predicates below it."""
    found = [root]
    if isinstance(root, All | Any):
        found += [p for part in root.parts for p in _predicates(part)]
    elif isinstance(root, Not):
        found += _predicates(root.part)
    elif isinstance(root, Ever):
        found += _predicates(root.predicate)
    return found
