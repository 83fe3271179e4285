"""Addresses and numbers: resolved to an int, or to an expression of loop variables that is evaluated for each iteration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import attrs

from ptactors.model.paging import PAGE_SIZE
from ptactors.scenario.hints import suggest
from ptactors.scenario.syntax import Binary, Function, Index, Name, Node, Number, Unresolved

Environment = Mapping[str, int | str]
"""Values of loop variables and placeholders."""


@attrs.frozen
class Variable:
    """A loop variable, or a placeholder of a stress operation."""

    name: str

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Arithmetic:
    """A sum, difference or product with a variable in it."""

    op: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"({self.left}{self.op}{self.right})"


Expression = int | Variable | Arithmetic


def evaluate(expression: Expression, environment: Environment) -> int:
    """The value of ``expression`` where its variables have the values of ``environment``."""
    if isinstance(expression, int):
        return expression
    if isinstance(expression, Variable):
        value = environment[expression.name]
        assert isinstance(value, int)
        return value
    return apply(expression.op, evaluate(expression.left, environment), evaluate(expression.right, environment))


def variables_of(expression: Expression) -> tuple[str, ...]:
    """The variables in ``expression``, in the order of the text."""
    if isinstance(expression, Arithmetic):
        return variables_of(expression.left) + variables_of(expression.right)
    return (expression.name,) if isinstance(expression, Variable) else ()


def apply(op: str, left: int, right: int) -> int:
    """``left op right`` for + - and *."""
    if op == "+":
        return left + right
    return left - right if op == "-" else left * right


@attrs.frozen(kw_only=True)
class Area:
    """Where a VMA lies."""

    name: str
    process: str
    at: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.at + self.size

    def __str__(self) -> str:
        return f"{self.name} is {self.at:#x}..{self.end:#x}"


@attrs.frozen(kw_only=True)
class Scope:
    """The names that an address may use."""

    areas: Mapping[str, Area]
    """VMAs by name."""
    broken: tuple[str, ...] = ()
    """VMAs whose definition has an error of its own; what uses them is not checked."""
    variables: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    """Variables with the extreme values that they take."""

    def known(self) -> list[str]:
        """Every name, variables first."""
        return [*self.variables, *self.areas, *self.broken]

    def find(self, va: int, processes: tuple[str, ...]) -> Area | None:
        """The VMA around ``va`` in one of ``processes``."""
        for area in self.areas.values():
            if area.process in processes and area.at <= va < area.end:
                return area
        return None

    def corners(self, *expressions: Expression) -> Iterator[dict[str, int]]:
        """Every combination of the extreme values of the variables in ``expressions``."""
        used = dict.fromkeys(name for each in expressions for name in variables_of(each))
        for values in itertools.product(*(self.variables[name] for name in used)):
            yield dict(zip(used, values, strict=True))


def build(node: Node, scope: Scope) -> Expression:
    """The expression that ``node`` spells. Raises Mistake, or Unresolved for the name of a broken VMA."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        return _name(node, scope)
    if isinstance(node, Binary):
        left, right = build(node.left, scope), build(node.right, scope)
        if isinstance(left, int) and isinstance(right, int):
            return apply(node.op, left, right)
        return Arithmetic(node.op, left, right)
    if isinstance(node, Function | Index):
        raise node.mistake(f"expected an address or a number; {node.name!r} cannot stand here")
    raise node.mistake("expected an address or a number")


def _name(node: Name, scope: Scope) -> Expression:
    if node.text in scope.variables:
        return Variable(node.text)
    if node.text in scope.areas:
        return scope.areas[node.text].at
    if node.text in scope.broken:
        raise Unresolved(node.text)
    if node.text[0].isdigit():
        raise node.mistake(f"{node.text!r} is no number", f"sizes have capital letters: {node.text.upper()}")
    raise node.mistake(f"unknown name {node.text!r}", suggest(node.text, scope.known()))


def constant(node: Node, scope: Scope) -> int:
    """The integer that ``node`` spells without variables. Raises Mistake or Unresolved."""
    value = build(node, attrs.evolve(scope, variables={}))
    assert isinstance(value, int)
    return value


def check_inside(node: Node, first: Expression, last: Expression, scope: Scope, processes: tuple[str, ...]) -> None:
    """Raises Mistake if ``first`` or ``last`` lies outside the VMAs of ``processes``, for any extreme of the variables."""
    if scope.broken:
        return  # the address may lie in a VMA whose definition is not understood
    for corner in scope.corners(first, last):
        for expression in (first, last):
            va = evaluate(expression, corner)
            if scope.find(va, processes) is None:
                owner = " or ".join(processes)
                where = "".join(f" with {name}={value}" for name, value in corner.items() if "$" not in name)
                known = [str(area) for area in scope.areas.values() if area.process in processes]
                raise node.mistake(
                    f"address {va:#x}{where} lies outside every VMA of process {owner}", "; ".join(known) or "it has none"
                )


def check_page(node: Node, expression: Expression, scope: Scope, what: str) -> None:
    """Raises Mistake if ``expression`` is no multiple of the page size, for any extreme of the variables."""
    for corner in scope.corners(expression):
        value = evaluate(expression, corner)
        if value % PAGE_SIZE:
            raise node.mistake(f"{what} {value:#x} is no multiple of the page size (0x1000)")
