"""The condition of ``log filter --where``: a small part of SQL, asked of one line's fields.

``ev = pmd_clear and cpu in (0, 1)``, ``va = 0x7f0000200000``, ``sym like 'A+%'``, ``lock ~ '^pte:'``, ``cause is not null``.
Words need no quotes. A number equals the same number in hex. A field that a line lacks makes a comparison false, as NULL does. A
list (``targets``) equals each of its elements.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ptactors.errors import UsageError

Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(r"""\s*(?:(?P<text>'(?:[^']|'')*'|"[^"]*")|(?P<op>!=|<>|<=|>=|==|[=<>~(),])|(?P<word>[^\s=<>!~(),'"]+))""")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_EQUAL = ("=", "==", "!=", "<>")
_DEEPEST = 100
"""Brackets and ``not`` within each other."""
_NAMED = ("and", "or", "not", "in", "like", "is", "null")


def parse(text: str, fields: Iterable[str]) -> Predicate:
    """The condition as a function. Raises UsageError with the place; an unknown field is an error."""
    parser = _Parser(text, tuple(fields))
    predicate = parser.either()
    if parser.kind:
        parser.fail("expected 'and', 'or' or the end")
    return predicate


class _Parser:
    """Recursive descent; ``kind`` and ``value`` are the current token, '' at the end."""

    def __init__(self, text: str, fields: tuple[str, ...]) -> None:
        self._text = text
        self._fields = fields
        self._end = 0
        self._start = 0
        self._depth = 0
        self.kind = self.value = ""
        self._next()

    def fail(self, what: str) -> None:
        """Raise UsageError about the current token."""
        found = f"found {self.value!r}" if self.kind else "found the end"
        raise UsageError(f"--where: {what}, {found}\n    {self._text}\n    {' ' * self._start}^")

    def _next(self) -> str:
        value = self.value
        self._start = self._end + len(self._text[self._end :]) - len(self._text[self._end :].lstrip())
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            self.kind, self.value = "", ""
            if self._text[self._start :]:
                self.kind, self.value = "?", self._text[self._start]
                self.fail("cannot read this")
            return value
        self._end = match.end()
        self.kind = match.lastgroup or ""
        self.value = match[self.kind]
        if self.kind == "word" and self.value.lower() in _NAMED:
            self.kind, self.value = "named", self.value.lower()
        return value

    def _take(self, kind: str, value: str) -> bool:
        if (self.kind, self.value) != (kind, value):
            return False
        self._next()
        return True

    def either(self) -> Predicate:
        """One term, or several with ``or`` between them."""
        terms = [self._both()]
        while self._take("named", "or"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else lambda line: any(term(line) for term in terms)

    def _both(self) -> Predicate:
        terms = [self._single()]
        while self._take("named", "and"):
            terms.append(self._single())
        return terms[0] if len(terms) == 1 else lambda line: all(term(line) for term in terms)

    def _single(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.fail(f"more than {_DEEPEST} nested")
        try:
            if self._take("named", "not"):
                inner = self._single()
                return lambda line: not inner(line)
            if self._take("op", "("):
                inner = self.either()
                if not self._take("op", ")"):
                    self.fail("expected ')'")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Predicate:
        field = self._field()
        if self._take("named", "is"):
            wanted = self._take("named", "not")
            if not self._take("named", "null"):
                self.fail("expected 'null'")
            return lambda line: (line.get(field) is not None) == wanted
        negated = self._take("named", "not")
        test = self._list_or_pattern() if self.kind == "named" or self.value == "~" or negated else self._operator()
        if negated:
            return lambda line: line.get(field) is not None and not test(line[field])
        return lambda line: line.get(field) is not None and test(line[field])

    def _field(self) -> str:
        if self.kind != "word":
            self.fail("expected the name of a field")
        if self.value not in self._fields:
            from difflib import get_close_matches

            near = get_close_matches(self.value, self._fields, 1)
            self.fail(f"no event has a field of this name{f' (did you mean {near[0]!r}?)' if near else ''}")
        return self._next()

    def _list_or_pattern(self) -> Callable[[Any], bool]:
        if self._take("named", "in"):
            if not self._take("op", "("):
                self.fail("expected '('")
            values = [self._value()]
            while self._take("op", ","):
                values.append(self._value())
            if not self._take("op", ")"):
                self.fail("expected ',' or ')'")
            return lambda have: any(_equal(have, value) for value in values)
        if self._take("named", "like"):
            pattern = re.compile("".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in self._value()), re.DOTALL)
            return lambda have: pattern.fullmatch(_text(have)) is not None
        if self._take("op", "~"):
            try:
                pattern = re.compile(self._value())
            except re.error as error:
                raise UsageError(f"--where: {error} in the regular expression") from None
            return lambda have: pattern.search(_text(have)) is not None
        self.fail("expected 'in', 'like' or '~'")
        raise AssertionError("fail raises")

    def _operator(self) -> Callable[[Any], bool]:
        if self.kind != "op" or self.value not in (*_EQUAL, *_ORDER):
            self.fail("expected = != < <= > >= ~ in, like or is")
        symbol = self._next()
        value = self._value()
        if symbol in ("=", "=="):
            return lambda have: _equal(have, value)
        if symbol in ("!=", "<>"):
            return lambda have: not _equal(have, value)
        return lambda have: _ordered(have, value, _ORDER[symbol])

    def _value(self) -> str:
        if self.kind == "text":
            text = self._next()
            return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]
        if self.kind != "word":
            self.fail("expected a value")
        return self._next()


def _number(value: object) -> int | None:
    """Of an int or of its decimal or hex text."""
    if isinstance(value, int):
        return value
    try:
        return int(str(value), 0)
    except ValueError:
        return None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equal(have: object, want: str) -> bool:
    if isinstance(have, list):
        return any(_equal(each, want) for each in have)
    if _text(have) == want:
        return True
    number = None if isinstance(have, bool) else _number(have)
    return number is not None and number == _number(want)


def _ordered(have: object, want: str, order: Callable[[Any, Any], bool]) -> bool:
    left, right = _number(have), _number(want)
    if left is not None and right is not None:
        return order(left, right)
    return left is None and order(_text(have), want)
