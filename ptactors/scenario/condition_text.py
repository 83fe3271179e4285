"""From the text of a condition to its tree, with every name checked: a condition that cannot fail must not be possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from ptactors.oracle import table as oracle_table
from ptactors.scenario import condition as tree
from ptactors.scenario import expression, syntax
from ptactors.scenario.condition import LEVEL_SYNONYMS, METRICS, TABLE_LEVELS, TLB_LEVELS, Condition, Predicate, Term
from ptactors.scenario.expression import Scope
from ptactors.scenario.hints import suggest
from ptactors.scenario.syntax import Mistake, Node, Unresolved, normal, parse_condition

NUMBER, CONTENT, TABLE_LEVEL, TLB_LEVEL, FRAME, NAME = "number", "content", "table level", "tlb level", "frame", "name"
"""What a term can be equal to. A NAME is a literal whose meaning the other side decides."""

_LEVELS = {TABLE_LEVEL: TABLE_LEVELS, TLB_LEVEL: TLB_LEVELS}
TERMS = ("hazard", "ever", "final", "fault", "count", "rss", "mem", "pt", "tlb")
"""Names of functions and tables in conditions, for hints."""


@attrs.frozen(kw_only=True)
class Vocabulary:
    """What a condition may name."""

    scope: Scope
    cpus: int
    """Number of CPUs."""
    registers: Mapping[int, tuple[str, ...]]
    """Registers that some operation of the CPU writes; a CPU that is missing here has a program that was not understood."""
    labels: Mapping[int, tuple[str, ...] | None]
    """Labels of the CPU's program; None for one that was not understood."""
    events: Mapping[str, tuple[str, ...]]
    """Events with the names of their fields; nothing is checked if empty."""
    values: tuple[str, ...]
    """Names that memory or a register may hold; nothing is checked if empty."""


def parse(text: str, vocabulary: Vocabulary, report: Callable[[Mistake], None]) -> Condition | None:
    """The condition that ``text`` spells; None after errors, each of which was reported.

    It is None without an error where the condition uses the name of something broken.
    """
    builder = _Builder(vocabulary)
    root = None
    try:
        root = builder.predicate(parse_condition(text))
    except Mistake as mistake:
        builder.mistakes.append(mistake)
    except Unresolved:
        pass
    for found in builder.mistakes:
        report(found)
    return None if root is None or builder.mistakes else Condition(text=normal(text), root=root)


class _Builder:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        self._in_ever = False
        self.mistakes: list[Mistake] = []
        """Errors in parts of a junction, behind which the other parts are still read."""

    # what holds or not

    def predicate(self, node: Node) -> Predicate:
        if isinstance(node, syntax.Junction):
            return self._junction(node)
        if isinstance(node, syntax.Negation):
            return tree.Not(self.predicate(node.part))
        if isinstance(node, syntax.Comparison):
            return self._comparison(node)
        if isinstance(node, syntax.Function) and node.name in ("hazard", "ever", "final"):
            return self._temporal(node)
        if isinstance(node, syntax.Function) and node.name not in (*METRICS, *TERMS):
            raise self._unknown_function(node)
        if isinstance(node, syntax.Name) and node.text in oracle_table.HAZARDS:
            raise node.mistake("a hazard stands in hazard(...)", f"write hazard({node.text})")
        raise node.mistake("expected something that holds or not; this is a value", "compare it: ==, !=, <, <=, >, >=")

    def _junction(self, node: syntax.Junction) -> Predicate:
        parts = []
        for part in node.parts:
            try:
                parts.append(self.predicate(part))
            except Mistake as mistake:
                self.mistakes.append(mistake)
        return tree.All(tuple(parts)) if node.all else tree.Any(tuple(parts))

    def _temporal(self, node: syntax.Function) -> Predicate:
        if len(node.arguments) != 1:
            raise node.mistake(f"{node.name}() takes one argument")
        inner = node.arguments[0]
        if node.name == "hazard":
            return tree.HazardSeen(_name(inner, tuple(oracle_table.HAZARDS), "hazard"))
        if self._in_ever:
            raise node.mistake(f"{node.name}() cannot stand inside ever()")
        if node.name == "final":
            return self.predicate(inner)
        self._in_ever = True
        try:
            predicate = self.predicate(inner)
        finally:
            self._in_ever = False
        return tree.Ever(str(predicate), predicate)

    def _comparison(self, node: syntax.Comparison) -> Predicate:
        (left, left_kind), (right, right_kind) = self._term(node.left), self._term(node.right)
        if left_kind == NAME:
            if right_kind == NAME:
                raise node.mistake("both sides are constant names", f"known numbers: {', '.join(METRICS)}")
            left, left_kind = self._literal(node.left, right_kind), right_kind
        elif right_kind == NAME:
            right, right_kind = self._literal(node.right, left_kind), left_kind
        if isinstance(left, tree.Literal) and isinstance(right, tree.Literal):
            raise node.mistake("both sides are constants")
        if node.op not in ("==", "!="):
            for side, kind in ((node.left, left_kind), (node.right, right_kind)):
                if kind in _LEVELS:
                    raise side.mistake("a level has no order", "use == or !=")
        self._compatible(node, left_kind, right_kind)
        return tree.Compare(node.op, left, right)

    def _compatible(self, node: syntax.Comparison, left: str, right: str) -> None:
        if (left in _LEVELS) != (right in _LEVELS):
            known = ", ".join(TABLE_LEVELS)
            raise node.mistake(f"a {left} is compared with a {right}", f"a level is one of {known}")

    def _literal(self, node: Node, kind: str) -> tree.Literal:
        """The name at ``node`` where a term of ``kind`` stands on the other side."""
        assert isinstance(node, syntax.Name | syntax.String)
        text = node.text
        if kind == NUMBER:
            raise node.mistake(f"unknown name {text!r}: a number is expected here", suggest(text, METRICS))
        if kind == FRAME and text != "none":
            raise node.mistake(f"unknown frame {text!r}", "known: none; or compare it with another .pfn")
        if kind in _LEVELS:
            text = LEVEL_SYNONYMS.get(text, text)
            if text not in _LEVELS[kind]:
                raise node.mistake(f"unknown level {text!r}", suggest(text, _LEVELS[kind]))
        if kind == CONTENT and self._words.values and text not in self._words.values:
            raise node.mistake(f"no operation and no page of this scenario has the value {text!r}",
                               suggest(text, self._words.values))  # fmt: skip
        return tree.Literal(text)

    # what has a value

    def _term(self, node: Node) -> tuple[Term, str]:
        if isinstance(node, syntax.Number):
            return tree.Literal(node.value), NUMBER
        if isinstance(node, syntax.String):
            return tree.Literal(node.text), NAME
        if isinstance(node, syntax.Name):
            if node.text in METRICS:
                return self._metric(node, node.text, ()), NUMBER
            return tree.Literal(node.text), NAME
        if isinstance(node, syntax.Reference):
            return self._register(node), CONTENT
        if isinstance(node, syntax.Binary):
            return tree.Calculation(node.op, self._operand(node.left), self._operand(node.right)), NUMBER
        if isinstance(node, syntax.Index):
            return self._index(node)
        if isinstance(node, syntax.Function):
            return self._function(node), NUMBER
        raise node.mistake("expected a value; this holds or not")

    def _operand(self, node: Node) -> Term:
        term, kind = self._term(node)
        if kind == NAME:
            assert isinstance(node, syntax.Name | syntax.String)
            raise node.mistake(f"unknown name {node.text!r}: a number is expected here", suggest(node.text, METRICS))
        if kind in _LEVELS:
            raise node.mistake("a level is no number")
        return term

    def _register(self, node: syntax.Reference) -> Term:
        self._cpu(node, node.cpu)
        known = self._words.registers.get(node.cpu)
        if known is None:
            raise Unresolved(node.name)
        if node.name not in known:
            raise node.mistake(f"no operation of cpu{node.cpu} writes a register {node.name!r}", suggest(node.name, known))
        return tree.Register(node.cpu, node.name)

    def _cpu(self, node: Node, number: int) -> int:
        if number >= self._words.cpus:
            raise node.mistake(f"there is no cpu{number}", f"the machine has {self._words.cpus} CPUs, from cpu0")
        return number

    def _index(self, node: syntax.Index) -> tuple[Term, str]:
        if node.name not in ("mem", "pt", "tlb"):
            raise node.mistake(f"unknown term {node.name!r}", suggest(node.name, TERMS))
        indices = 2 if node.name == "tlb" else 1
        if len(node.indices) != indices:
            raise node.mistake(f"write {'tlb[cpu1][ADDRESS].pfn' if indices == 2 else f'{node.name}[ADDRESS]'}")
        va = self._address(node.indices[-1])
        if node.name == "mem":
            if node.field:
                raise node.mistake(f"mem has no field {node.field!r}")
            return tree.Memory(va), CONTENT
        if node.field not in tree.FIELDS:
            raise node.mistake(f"expected {node.name}[...].level or .pfn")
        if node.name == "pt":
            return tree.Table(va, node.field), TABLE_LEVEL if node.field == "level" else FRAME
        first = node.indices[0]
        found = re.fullmatch(r"cpu(\d+)", first.text) if isinstance(first, syntax.Name) else None
        if found is None:
            raise first.mistake("expected a CPU such as cpu1")
        return tree.Tlb(self._cpu(first, int(found[1])), va, node.field), TLB_LEVEL if node.field == "level" else FRAME

    def _address(self, node: Node) -> int:
        scope = self._words.scope
        va = expression.constant(node, scope)
        owners = tuple(dict.fromkeys(area.process for area in scope.areas.values()))
        expression.check_inside(node, va, va, scope, owners)
        return va

    def _function(self, node: syntax.Function) -> Term:
        if node.name in METRICS:
            return self._metric(node, node.name, node.arguments)
        if node.name == "fault":
            return self._fault(node)
        if node.name == "count":
            return self._count(node)
        if node.name in ("hazard", "ever", "final"):
            raise node.mistake(f"expected a value; {node.name}() holds or not")
        raise self._unknown_function(node)

    def _unknown_function(self, node: syntax.Function) -> Mistake:
        return node.mistake(f"unknown term {node.name!r}", suggest(node.name, (*TERMS, *METRICS)))

    def _metric(self, node: Node, name: str, arguments: tuple[Node, ...]) -> Term:
        known = METRICS[name]
        if len(arguments) != bool(known):
            raise node.mistake(f"{name} takes {'one of ' + ', '.join(known) if known else 'no argument'}")
        return tree.Metric(name, _name(arguments[0], known, f"argument of {name}") if known else "")

    def _fault(self, node: syntax.Function) -> Term:
        if len(node.arguments) != 1 or not isinstance(node.arguments[0], syntax.Reference):
            raise node.mistake("write fault(cpu1:LABEL)")
        target = node.arguments[0]
        known = self._words.labels.get(self._cpu(target, target.cpu), ())
        if known is None:
            raise Unresolved(target.name)
        if target.name not in known:
            raise target.mistake(f"cpu{target.cpu} has no operation {target.name!r}", suggest(target.name, known))
        return tree.FaultCount(target.cpu, target.name)

    def _count(self, node: syntax.Function) -> Term:
        if not node.arguments or not isinstance(node.arguments[0], syntax.Name):
            raise node.mistake("write count(EVENT) or count(EVENT, FIELD=VALUE, ...)")
        events = self._words.events
        event = _name(node.arguments[0], tuple(events), "event") if events else node.arguments[0].text
        return tree.EventCount(event, tuple(self._field(event, argument) for argument in node.arguments[1:]))

    def _field(self, event: str, node: Node) -> tuple[str, tree.Value]:
        if not isinstance(node, syntax.Comparison) or node.op != "==" or not isinstance(node.left, syntax.Name):
            raise node.mistake("expected FIELD=VALUE")
        events = self._words.events
        name = _name(node.left, events[event], f"field of {event}") if events else node.left.text
        value = node.right
        if isinstance(value, syntax.String):
            return name, value.text
        if isinstance(value, syntax.Name) and value.text not in self._words.scope.known():
            cpu = re.fullmatch(r"cpu(\d+)", value.text)
            return name, self._cpu(value, int(cpu[1])) if cpu else value.text
        return name, expression.constant(value, self._words.scope)


def _name(node: Node, known: tuple[str, ...], what: str) -> str:
    """The name at ``node``, which must be one of ``known``."""
    if not isinstance(node, syntax.Name | syntax.String):
        raise node.mistake(f"expected the name of a {what}", f"known: {', '.join(known)}")
    if node.text not in known:
        raise node.mistake(f"unknown {what} {node.text!r}", suggest(node.text, known))
    return node.text
