"""From the text of a program line, a condition or an address to a small tree with positions.

The grammar stands in grammar.lark. The tree knows no scenario: names are resolved by program.py, condition.py and
expression.py, which raise :class:`Mistake` with the place of the name.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import attrs
import lark

RESERVED = ("and", "or", "not", "as", "repeat")
"""Words that cannot name a VMA, a register, a label or a loop variable."""
OPERATOR_LIMIT = 200
"""Operators and parentheses in one condition or line; it bounds the depth of the tree."""

_CALL = re.compile(r"\s*(?:\w+:)?\s*\w+\(.*,")
"""An operation spelled as C spells calls."""
_OPERATORS = re.compile(r"[-+*~(\[]|\b(?:and|or|not)\b|/\\|\\/")


class Mistake(Exception):
    """Something is wrong with the characters ``start`` to ``end`` of a text; whoever knows its place in a file catches it."""

    def __init__(self, start: int, end: int, message: str, hint: str = "") -> None:
        self.start = start
        self.end = end
        self.message = message
        self.hint = hint
        super().__init__(message)


class Unresolved(Exception):
    """A name is known but its definition is broken, which was reported there, so nothing more can be said."""


@attrs.frozen(kw_only=True)
class Node:
    """A piece of text that means something."""

    start: int
    """Offset of its first character."""
    end: int
    """Offset behind its last character."""

    def mistake(self, message: str, hint: str = "") -> Mistake:
        """The error that points at this piece."""
        return Mistake(self.start, self.end, message, hint)


@attrs.frozen(kw_only=True)
class Number(Node):
    """An integer, suffix applied."""

    value: int


@attrs.frozen(kw_only=True)
class Name(Node):
    """A bare name, a size such as ``4k``, or a placeholder such as ``$page``."""

    text: str


@attrs.frozen(kw_only=True)
class String(Node):
    """A quoted name."""

    text: str


@attrs.frozen(kw_only=True)
class Reference(Node):
    """``cpu1:R``: a register or a label of a CPU."""

    cpu: int
    name: str


@attrs.frozen(kw_only=True)
class Function(Node):
    """``name(argument, ...)``."""

    name: str
    arguments: tuple[Node, ...]


@attrs.frozen(kw_only=True)
class Index(Node):
    """``name[index].field`` or ``name[index][index].field``; ``field`` is '' if left out."""

    name: str
    indices: tuple[Node, ...]
    field: str


@attrs.frozen(kw_only=True)
class Binary(Node):
    """``left op right`` with + - or *."""

    op: str
    left: Node
    right: Node


@attrs.frozen(kw_only=True)
class Comparison(Node):
    """``left op right`` with == != < <= > or >=."""

    op: str
    left: Node
    right: Node


@attrs.frozen(kw_only=True)
class Junction(Node):
    """Two or more parts joined by ``and`` (all) or ``or`` (any)."""

    all: bool
    parts: tuple[Node, ...]


@attrs.frozen(kw_only=True)
class Negation(Node):
    """``not part``."""

    part: Node


@attrs.frozen(kw_only=True)
class Lead(Node):
    """Punctuation between arguments: ``->`` or ``=``."""

    text: str


@attrs.frozen(kw_only=True)
class Line(Node):
    """One line of a program; an empty one has neither label nor call."""

    label: Name | None = None
    verb: Name | None = None
    arguments: tuple[Node, ...] = ()
    count: Node | None = None
    """The number behind ``repeat``, for the line that opens a loop."""
    variable: Name | None = None
    """The name behind ``as``."""
    closes: bool = False
    """True for ``}``."""


def parse_line(text: str, offset: int = 0) -> Line:
    """One line of a program; ``offset`` is where the line stands in the program. Raises Mistake."""
    try:
        line = _parse(text, "line", offset)
    except Mistake as mistake:
        if _CALL.match(text):
            mistake.hint = "arguments stand without parentheses and commas, as in: madvise A DONTNEED"
        raise
    assert isinstance(line, Line)
    return line


def parse_condition(text: str) -> Node:
    """The condition that ``text`` spells. Raises Mistake."""
    node = _parse(text, "condition", 0)
    assert isinstance(node, Node)
    return node


def parse_place(text: str) -> tuple[Node, ...]:
    """``A+0x3000`` or ``A+0x1000 0x2000``: one or two expressions. Raises Mistake."""
    nodes = _parse(text, "place", 0)
    assert isinstance(nodes, tuple)
    return nodes


def _parse(text: str, start: str, offset: int) -> Any:
    if len(_OPERATORS.findall(text)) > OPERATOR_LIMIT:
        raise Mistake(offset, offset + len(text), f"more than {OPERATOR_LIMIT} operators and parentheses")
    try:
        tree = _parser().parse(text, start)
    except lark.UnexpectedToken as error:
        if error.token.type == "$END":
            end = len(text.split("#", 1)[0].rstrip()) + offset
            raise Mistake(end, end + 1, "something is missing at the end", _expected(error.expected)) from None
        begin = (error.token.start_pos or 0) + offset
        raise Mistake(begin, begin + len(error.token), f"unexpected {str(error.token)!r}", _expected(error.expected)) from None
    except lark.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise Mistake(at + offset, at + offset + 1, f"unexpected {text[at]!r}", _expected(error.allowed)) from None
    return _Builder(offset).transform(tree)


_WORDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": "a quoted name", "CPU_NAME": "cpuN:NAME", "_OR": "or", "_AND": "and",
    "_NOT": "not", "COMPARE": "a comparison", "EQUALS": "=", "LEAD": "->", "PLUS": "+", "MINUS": "-", "TIMES": "*",
    "LPAR": "(", "RPAR": ")", "RSQB": "]", "LSQB": "[", "LBRACE": "{", "RBRACE": "}", "COMMA": ",", "COLON": ":",
    "FIELD": ".level or .pfn", "AS": "as", "REPEAT": "repeat", "CALL": "a function", "$END": "the end",
}  # fmt: skip


def _expected(terminals: Any) -> str:
    names = [words for terminal, words in _WORDS.items() if terminal in (terminals or ())]
    return f"expected {' or '.join(names)}" if 0 < len(names) <= 6 else ""


@functools.cache
def _parser() -> lark.Lark:
    grammar = pathlib.Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", start=["line", "condition", "place"], maybe_placeholders=False)


_SUFFIX = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def integer(text: str) -> int:
    """``4096``, ``0x1000``, ``4K``, ``2M`` or ``50G`` as an int. Raises ValueError."""
    factor = _SUFFIX.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    return int(digits, 16 if digits[:2] in ("0x", "0X") else 10) * factor


class _Builder(lark.Transformer[lark.Token, Any]):
    """lark's tree to nodes; positions are those of the first and the last token, plus the offset of the text."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self._offset = offset

    def _at(self, token: lark.Token) -> dict[str, int]:
        start = (token.start_pos or 0) + self._offset
        return {"start": start, "end": start + len(token)}

    def number(self, items: list[lark.Token]) -> Number:
        return Number(value=integer(str(items[0]).replace("_", "")), **self._at(items[0]))

    def name(self, items: list[lark.Token]) -> Name:
        return Name(text=str(items[0]), **self._at(items[0]))

    def string(self, items: list[lark.Token]) -> String:
        return String(text=str(items[0])[1:-1], **self._at(items[0]))

    def reference(self, items: list[lark.Token]) -> Reference:
        cpu, name = str(items[0]).split(":")
        return Reference(cpu=int(cpu[3:]), name=name, **self._at(items[0]))

    def function(self, items: list[Any]) -> Function:
        head = self._at(items[0])
        end = items[-1].end if len(items) > 1 else head["end"]
        return Function(start=head["start"], end=end + 1, name=str(items[0])[:-1], arguments=tuple(items[1:]))

    def index(self, items: list[Any]) -> Index:
        head = self._at(items[0])
        field = str(items.pop())[1:] if isinstance(items[-1], lark.Token) and len(items) > 1 else ""
        end = items[-1].end + 1 + (len(field) + 1 if field else 0)
        return Index(start=head["start"], end=end, name=str(items[0])[:-1], indices=tuple(items[1:]), field=field)

    def binary(self, items: list[Any]) -> Binary:
        left, op, right = items
        return Binary(start=left.start, end=right.end, op=str(op), left=left, right=right)

    def negative(self, items: list[Any]) -> Binary:
        """-22 is 0 - 22: errno of a system call."""
        at = self._at(items[0])
        return Binary(start=at["start"], end=items[1].end, op="-", left=Number(value=0, **at), right=items[1])

    def comparison(self, items: list[Any]) -> Comparison:
        left, op, right = items
        text = "==" if op == "=" else str(op)
        return Comparison(start=left.start, end=right.end, op=text, left=left, right=right)

    def disjunction(self, items: list[Any]) -> Node:
        return self._junction(items, every=False)

    def conjunction(self, items: list[Any]) -> Node:
        return self._junction(items, every=True)

    def _junction(self, items: list[Any], every: bool) -> Node:
        if len(items) == 1:
            node: Node = items[0]
            return node
        return Junction(start=items[0].start, end=items[-1].end, all=every, parts=tuple(items))

    def negation(self, items: list[Any]) -> Negation:
        return Negation(start=items[0].start, end=items[0].end, part=items[0])

    def place(self, items: list[Any]) -> tuple[Node, ...]:
        return tuple(items)

    def label(self, items: list[lark.Token]) -> Name:
        return self.name(items)

    def call(self, items: list[Any]) -> Line:
        verb = self.name(items[:1])
        arguments = tuple(Lead(text=str(i), **self._at(i)) if isinstance(i, lark.Token) else i for i in items[1:])
        return Line(start=verb.start, end=arguments[-1].end if arguments else verb.end, verb=verb, arguments=arguments)

    def labelled_call(self, items: list[Any]) -> Line:
        call: Line = items[-1]
        return attrs.evolve(call, label=items[0]) if len(items) > 1 else call

    def lone_label(self, items: list[Any]) -> Line:
        return Line(start=items[0].start, end=items[0].end, label=items[0])

    def repeat(self, items: list[Any]) -> Line:
        variable = self.name(items[1:])
        return Line(start=items[0].start, end=variable.end, count=items[0], variable=variable)

    def close(self, _items: list[Any]) -> Line:
        return Line(start=self._offset, end=self._offset + 1, closes=True)

    def nothing(self, _items: list[Any]) -> Line:
        return Line(start=self._offset, end=self._offset)


def normal(text: str) -> str:
    """The text on one line, without comments and with single spaces."""
    lines: Sequence[str] = [_strip_comment(line) for line in text.splitlines()]
    return " ".join(" ".join(lines).split())


def _strip_comment(line: str) -> str:
    """The line up to a ``#`` that stands outside quotes."""
    quoted = False
    for at, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "#" and not quoted:
            return line[:at]
    return line
