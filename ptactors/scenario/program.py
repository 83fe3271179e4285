"""Programs: one operation a line, loops, labels.

::

    Z:  madvise A DONTNEED          # a label, a verb, its arguments
    repeat 4 as i {
        read A+i*2M -> r0
    }

The verbs and their arguments are those of kernel/table.py. An operation without a label gets one: its verb and the number
it has among the operations of that verb in this program, counted from 1 in the order of the text (``read1``, ``read2``,
``madvise1``). The iterations of a loop share their labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import attrs

from ptactors.kernel import table as kernel_table
from ptactors.kernel.operation import Kind, Operation
from ptactors.scenario import expression
from ptactors.scenario.arguments import Argument, Context, Matcher, Value, bind, is_final
from ptactors.scenario.expression import Environment, Scope
from ptactors.scenario.hints import suggest
from ptactors.scenario.syntax import RESERVED, Line, Mistake, Name, Reference, Unresolved, normal, parse_line

LOOP_DEPTH = 4
"""How deep loops may nest; every combination of first and last iterations is checked."""
LOOP_COUNT = 1 << 32
"""The largest number of iterations of one loop."""


@attrs.frozen(kw_only=True)
class OpCall:
    """One line of a program."""

    label: str
    """Unique on its CPU."""
    operation: str
    """A key of OPERATIONS."""
    arguments: tuple[Argument, ...]
    """In the order of the operation's parameters; expressions where a loop variable is involved."""
    text: str
    """The line as written, without label and comment."""
    line: int = attrs.field(default=0, eq=False)
    """1-based line in the scenario file; 0 if it has none."""
    column: int = attrs.field(default=0, eq=False)
    """1-based column of the verb."""
    final: bool = True
    """Whether no argument depends on a loop variable."""

    def declared(self) -> Operation:
        """The operation's declaration."""
        return kernel_table.OPERATIONS[self.operation]

    def of_kind(self, kind: Kind) -> list[Argument]:
        """The arguments for parameters of ``kind``."""
        pairs = zip(self.declared().parameters, self.arguments, strict=True)
        return [argument for parameter, argument in pairs if parameter.kind is kind]

    def __str__(self) -> str:
        """For digests. A result that is not asked for leaves no trace: programs keep their digests of before there were any."""
        given = [
            argument
            for parameter, argument in zip(self.declared().parameters, self.arguments, strict=True)
            if parameter.name != "result" or argument
        ]
        return " ".join([f"{self.label}:", self.operation, *(repr(a) if isinstance(a, str) else str(a) for a in given)])


@attrs.frozen(kw_only=True)
class Repeat:
    """A loop; the variable counts from 0 to ``count``-1."""

    count: int
    variable: str
    body: tuple[Statement, ...]

    def __str__(self) -> str:
        return f"repeat {self.count} as {self.variable} {{ {'; '.join(map(str, self.body))} }}"


Statement = OpCall | Repeat
Program = tuple[Statement, ...]


@attrs.frozen
class BoundCall:
    """One operation that a CPU performs, with its final arguments."""

    label: str
    """Of its line; the iterations of a loop share it."""
    operation: str
    """A key of OPERATIONS."""
    arguments: tuple[Value, ...]
    """In the order of the operation's parameters."""
    text: str
    """The line as written, without label and comment."""
    index: int
    """How many operations the CPU performed before it."""


def flatten(program: Program) -> Iterator[BoundCall]:
    """Every operation in the order of execution; lazily, for a loop may stand for many thousands."""
    return _walk(program, {}, itertools.count())


def _walk(program: Program, environment: dict[str, int], index: Iterator[int]) -> Iterator[BoundCall]:
    for statement in program:
        if isinstance(statement, OpCall):
            yield bound(statement, environment, next(index))
        else:
            for number in range(statement.count):
                yield from _walk(statement.body, {**environment, statement.variable: number}, index)


def bound(call: OpCall, environment: Environment, index: int) -> BoundCall:
    """``call`` with its arguments evaluated in ``environment``."""
    arguments = tuple(bind(argument, environment) for argument in call.arguments)
    return BoundCall(call.label, call.operation, arguments, call.text, index)


def calls(program: Program) -> Iterator[OpCall]:
    """The lines of the program, each once, in the order of the text."""
    for statement in program:
        if isinstance(statement, OpCall):
            yield statement
        else:
            yield from calls(statement.body)


def labels(program: Program) -> tuple[str, ...]:
    """The labels of the program in the order of the text."""
    return tuple(call.label for call in calls(program))


def registers(program: Program) -> tuple[str, ...]:
    """The registers that the program may write, each once."""
    names = (name for call in calls(program) for name in call.of_kind(Kind.REGISTER) if name)
    return tuple(dict.fromkeys(str(name) for name in names))


def contents(program: Program) -> tuple[str, ...]:
    """The names that the program may store in memory, each once."""
    return tuple(dict.fromkeys(v for call in calls(program) for v in call.of_kind(Kind.VALUE) if isinstance(v, str)))


@attrs.frozen(kw_only=True)
class Draft:
    """A program as far as it could be read."""

    program: Program
    mistakes: tuple[Mistake, ...]
    references: tuple[Reference, ...]
    """Labels of other programs that it names, for a check when all are read."""


@attrs.define
class _Loop:
    """A loop that is being read, or the program around all loops."""

    body: list[Statement]
    count: int = 1
    variable: str = ""
    opened: Line | None = None


class _ProgramReader:
    """Reads one program, going on after errors."""

    def __init__(self, context: Context, locate: Callable[[int], tuple[int, int]]) -> None:
        self._context = context
        self._locate = locate
        self._stack = [_Loop([])]
        self._ordinals: dict[str, int] = {}
        self._labels: dict[str, None] = {}
        self.mistakes: list[Mistake] = []
        self.references: list[Reference] = []

    def read(self, text: str) -> Program:
        lines = self._lines(text)
        self._find_switches([line for line, _ in lines])
        for line, source in lines:
            try:
                self._line(line, source)
            except Mistake as mistake:
                self.mistakes.append(mistake)
            except Unresolved:
                pass
        for loop in self._stack[1:]:
            assert loop.opened is not None
            self.mistakes.append(loop.opened.mistake("this loop is never closed", "close it with a line that has only }"))
        return tuple(self._stack[0].body)

    def _lines(self, text: str) -> list[tuple[Line, str]]:
        lines, offset = [], 0
        for source in text.split("\n"):
            try:
                lines.append((parse_line(source, offset), source))
            except Mistake as mistake:
                self.mistakes.append(mistake)
                if source.split("#")[0].rstrip().endswith("{"):
                    self._recover_loop(lines, source, offset)
            offset += len(source) + 1
        return lines

    def _recover_loop(self, lines: list[tuple[Line, str]], source: str, offset: int) -> None:
        """Stands in for a broken opening line, so that the closing one does not look wrong too."""
        lead = len(source) - len(source.lstrip())
        start, end = offset + lead, offset + len(source.rstrip())
        lines.append((Line(variable=Name(text="?", start=start, end=end), start=start, end=end), source))

    def _find_switches(self, lines: list[Line]) -> None:
        """Adds the processes that the program switches to: their addresses are right as well."""
        targets = dict.fromkeys(self._context.processes)
        for line in lines:
            operation = kernel_table.OPERATIONS.get(line.verb.text) if line.verb else None
            if operation is not None and any(p.kind is Kind.TASK for p in operation.parameters):
                names = [node.text for node in line.arguments if isinstance(node, Name)]
                targets.update(dict.fromkeys(name for name in names if name in self._context.tasks))
        self._context = attrs.evolve(self._context, processes=tuple(targets))

    def _line(self, line: Line, source: str) -> None:
        if line.variable is not None:
            self._open(line, line.variable)
        elif line.closes:
            if len(self._stack) == 1:
                raise line.mistake("no loop is open here")
            loop = self._stack.pop()
            body = tuple(loop.body)
            self._stack[-1].body.append(Repeat(count=loop.count, variable=loop.variable, body=body))
        elif line.verb is not None:
            self._call(line, line.verb, source)
        elif line.label is not None:
            raise line.mistake("a label needs an operation on its line")

    def _open(self, line: Line, variable: Name) -> None:
        loop = _Loop([], 1, variable.text, line)
        outer = [each.variable for each in self._stack]
        self._stack.append(loop)  # first of all: the closing line comes in any case
        if line.count is None:
            return
        if len(self._stack) > LOOP_DEPTH + 1:
            raise line.mistake(f"loops may nest {LOOP_DEPTH} deep")
        if variable.text in RESERVED or variable.text in outer or variable.text in self._context.scope.known():
            loop.variable = "?"
            raise variable.mistake(f"{variable.text!r} cannot name this loop: it is a VMA, an outer loop or a reserved word")
        count = expression.constant(line.count, Scope(areas={}))
        if not 1 <= count <= LOOP_COUNT:
            raise line.count.mistake(f"expected a number of iterations from 1 to {LOOP_COUNT}")
        loop.count = count

    def _call(self, line: Line, verb: Name, source: str) -> None:
        self._ordinals[verb.text] = self._ordinals.get(verb.text, 0) + 1
        operation = kernel_table.OPERATIONS.get(verb.text)
        label = line.label.text if line.label else f"{verb.text}{self._ordinals[verb.text]}"
        clash = label in self._labels
        self._labels.setdefault(label, None)
        if operation is None:
            raise verb.mistake(f"unknown operation {verb.text!r}", suggest(verb.text, kernel_table.OPERATIONS))
        where = self._locate(verb.start)
        matcher = Matcher(operation, line, attrs.evolve(self._context, scope=self._inner_scope()))
        arguments = matcher.arguments()
        self.references += matcher.references
        if clash:
            raise (line.label or verb).mistake(f"label {label!r} stands twice on this CPU", "labels are unique per CPU")
        if label in RESERVED:
            raise (line.label or verb).mistake(f"{label!r} is a reserved word")
        text = normal(source.split(":", 1)[1] if line.label else source)
        self._stack[-1].body.append(
            OpCall(label=label, operation=verb.text, arguments=arguments, text=text, line=where[0], column=where[1],
                   final=all(map(is_final, arguments)))
        )  # fmt: skip

    def _inner_scope(self) -> Scope:
        loops = {loop.variable: (0, loop.count - 1) for loop in self._stack[1:]}
        if "?" in loops:
            raise Unresolved("?")  # the opening line is wrong, so any name may be its variable
        scope = self._context.scope
        return attrs.evolve(scope, variables={**scope.variables, **loops})


def parse(text: str, context: Context, locate: Callable[[int], tuple[int, int]] = lambda _offset: (0, 0)) -> Draft:
    """The program that ``text`` spells; ``locate`` gives line and column in the file for an offset in ``text``."""
    reader = _ProgramReader(context, locate)
    program = reader.read(text)
    return Draft(program=program, mistakes=tuple(reader.mistakes), references=tuple(reader.references))
