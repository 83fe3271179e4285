"""From the words behind a verb to the arguments that the operation declared."""

from __future__ import annotations

import attrs

from ptactors.kernel import operation as declared
from ptactors.kernel.operation import Kind, Operation, Parameter
from ptactors.scenario import expression
from ptactors.scenario.expression import Arithmetic, Environment, Expression, Scope, Variable
from ptactors.scenario.hints import suggest
from ptactors.scenario.syntax import RESERVED, Lead, Line, Mistake, Name, Node, Reference, String

BORROWERS = ("kthread", "idle")
"""What ``switch`` may name beside a process: tasks without an mm of their own."""


@attrs.frozen
class RangeOf:
    """A range with a variable in it."""

    start: Expression
    length: Expression

    def __str__(self) -> str:
        return f"{self.start} {self.length}"


Value = int | str | tuple[int, int]
"""What an operation receives."""
Argument = Value | Variable | Arithmetic | RangeOf
"""The same, or what it is computed from."""


def bind(argument: Argument, environment: Environment) -> Value:
    """The final value of ``argument``."""
    if isinstance(argument, int | str | tuple):
        return argument
    if isinstance(argument, Variable):
        return environment[argument.name]
    if isinstance(argument, Arithmetic):
        return expression.evaluate(argument, environment)
    start = expression.evaluate(argument.start, environment)
    return start, start + expression.evaluate(argument.length, environment)


def is_final(argument: Argument) -> bool:
    """Whether ``argument`` needs no environment."""
    return isinstance(argument, int | str | tuple)


@attrs.frozen(kw_only=True)
class Context:
    """What the arguments of a line may refer to."""

    scope: Scope
    tasks: tuple[str, ...]
    """Processes of the scenario."""
    processes: tuple[str, ...]
    """Processes whose address space the CPU may be in."""


class Matcher:
    """Takes the words of one line apart by the parameters of its operation."""

    def __init__(self, operation: Operation, line: Line, context: Context) -> None:
        self._operation = operation
        self._line = line
        self._words = list(line.arguments)
        self._context = context
        self.references: list[Reference] = []
        """Labels named by the line; whether they exist is known only when all programs are read."""

    def arguments(self) -> tuple[Argument, ...]:
        """One argument for each parameter. Raises Mistake or Unresolved."""
        values = tuple(self._parameter(parameter) for parameter in self._operation.parameters)
        if self._words:
            raise self._words[0].mistake("unexpected argument", self._usage())
        return values

    def _usage(self) -> str:
        return f"usage: {self._operation.usage()}"

    def _parameter(self, parameter: Parameter) -> Argument:
        if parameter.lead:
            present = bool(self._words) and _is_lead(self._words[0], parameter.lead)
            if present:
                self._words.pop(0)
            elif not parameter.required:
                return parameter.default
            else:
                raise self._missing(f"expected {parameter.lead!r} and the {parameter.name}")
        elif not parameter.required and (not self._words or self._starts_later(parameter)):
            return parameter.default
        if not self._words or isinstance(self._words[0], Lead):
            raise self._missing(f"expected the {parameter.name} of {self._operation.name}")
        return self._value(parameter)

    def _missing(self, message: str) -> Mistake:
        if self._words:
            return self._words[0].mistake(message, self._usage())
        return Mistake(self._line.end, self._line.end + 1, message, self._usage())

    def _starts_later(self, parameter: Parameter) -> bool:
        """Whether the next word is the lead of a parameter behind the optional ``parameter``."""
        parameters = self._operation.parameters
        later = parameters[parameters.index(parameter) + 1 :]
        return any(p.lead and _is_lead(self._words[0], p.lead) for p in later)

    def _value(self, parameter: Parameter) -> Argument:
        node = self._words.pop(0)
        scope = self._context.scope
        match parameter.kind:
            case Kind.ADDRESS:
                value = expression.build(node, scope)
                expression.check_inside(node, value, value, scope, self._context.processes)
                return value
            case Kind.RANGE:
                return self._range(node)
            case Kind.ADVICE:
                return _choice(node, declared.ADVICES, "advice")
            case Kind.PROT:
                return _choice(node, declared.PROTECTIONS, "protection")
            case Kind.VALUE:
                return _content(node, scope)
            case Kind.REGISTER:
                return _new_name(node, "register")
            case Kind.TASK:
                return _choice(node, (*self._context.tasks, *BORROWERS), "task")
            case Kind.LABEL:
                return self._label(node)
            case Kind.NUMBER:
                return _number(node, scope)

    def _range(self, node: Node) -> Argument:
        scope = self._context.scope
        if self._words and self._is_length(self._words[0]):
            length_node = self._words.pop(0)
            start, length = expression.build(node, scope), expression.build(length_node, scope)
        elif isinstance(node, Name) and node.text in scope.areas:
            length_node, length = node, scope.areas[node.text].size
            start = scope.areas[node.text].at
        elif isinstance(node, Name) and f"{node.text}.length" in scope.variables:
            return RangeOf(Variable(f"{node.text}.start"), Variable(f"{node.text}.length"))
        else:
            expression.build(node, scope)
            raise Mistake(node.end, node.end + 1, "expected a length behind the address", self._usage())
        expression.check_page(node, start, scope, "address")
        expression.check_page(length_node, length, scope, "length")
        if any(expression.evaluate(length, corner) <= 0 for corner in scope.corners(length)):
            raise length_node.mistake("the length must be above zero")
        last = Arithmetic("+", start, Arithmetic("-", length, 1))
        expression.check_inside(node, start, last, scope, self._context.processes)
        if isinstance(start, int) and isinstance(length, int):
            return start, start + length
        return RangeOf(start, length)

    def _is_length(self, node: Node) -> bool:
        """A bare name behind an address is a length only if it is a variable; it may be an advice."""
        if isinstance(node, Name):
            return node.text in self._context.scope.variables or node.text[0].isdigit()
        return not isinstance(node, Lead | String | Reference)

    def _label(self, node: Node) -> str:
        if not isinstance(node, Reference):
            raise node.mistake("expected a label such as cpu1:R", self._usage())
        self.references.append(node)
        return f"cpu{node.cpu}:{node.name}"


def _is_lead(node: Node, lead: str) -> bool:
    return isinstance(node, Lead | Name) and node.text == lead


def _choice(node: Node, known: tuple[str, ...], what: str) -> str:
    if not isinstance(node, Name):
        raise node.mistake(f"expected the name of the {what}", f"known: {', '.join(known)}")
    if node.text not in known:
        raise node.mistake(f"unknown {what} {node.text!r}", suggest(node.text, known))
    return node.text


def _new_name(node: Node, what: str) -> str:
    if not isinstance(node, Name) or node.text[0] in "$0123456789":
        raise node.mistake(f"expected the name of a {what}")
    if node.text in RESERVED:
        raise node.mistake(f"{node.text!r} is a reserved word")
    return node.text


def _content(node: Node, scope: Scope) -> Argument:
    if isinstance(node, String):
        if not node.text:
            raise node.mistake("a value needs a name or a number")
        return node.text
    if isinstance(node, Name) and node.text not in scope.variables:
        return _new_name(node, "value")
    return expression.build(node, attrs.evolve(scope, areas={}, broken=()))


def _number(node: Node, scope: Scope) -> Argument:
    value = expression.build(node, attrs.evolve(scope, areas={}, broken=()))
    if any(expression.evaluate(value, corner) < 0 for corner in scope.corners(value)):
        raise node.mistake("expected a number that is not negative")
    return value
