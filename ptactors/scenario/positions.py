"""Where every key and value of a TOML document stands.

tomllib parses but forgets positions, so the accepted text is read a second time here. Because it was accepted before, this
reader needs no error handling of its own; it only has to find where things begin and end.
"""

from __future__ import annotations

import bisect
import re
import tomllib

import attrs

Path = tuple[str | int, ...]
"""From the root to a value: names of tables and keys, indices of arrays: ``("expect", 2, "exists")``."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_FILL = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]+|[^\s,\]}#]+")
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ \t]*\n[ \t\n]*|.)")


@attrs.frozen
class Span:
    """A piece of the text, by offset."""

    start: int
    end: int
    content: int = -1
    """Where the first character of a string's content stands; -1 for what is no string."""


@attrs.frozen
class Place:
    """A piece of one line."""

    line: int
    """1-based."""
    column: int
    """1-based, in characters."""
    length: int
    """Characters from there, at least 1, not beyond the line."""
    source: str
    """The whole line."""


class Positions:
    """The position index of one document."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self._lines = [0, *(m.end() for m in re.finditer("\n", self.text))]
        scanner = _Scanner(self.text)
        scanner.document()
        self.keys: dict[Path, Span] = scanner.keys
        """Where each key, or the name in a table's header, stands; the first time if there are several."""
        self.values: dict[Path, Span] = scanner.values
        """Where each value stands; tables made by headers have none."""

    def place(self, start: int, end: int) -> Place:
        """The line and column of offsets ``start`` to ``end``, cut at the end of the line."""
        number = bisect.bisect_right(self._lines, start)
        begin = self._lines[number - 1]
        stop = self.text.find("\n", begin)
        stop = len(self.text) if stop < 0 else stop
        length = max(1, min(end, stop) - start)
        return Place(number, start - begin + 1, length, self.text[begin:stop])

    def key(self, path: Path) -> Place | None:
        """Where the key at ``path`` stands, or the nearest table around it; None for the document as a whole."""
        for depth in range(len(path), 0, -1):
            span = self.keys.get(path[:depth]) or self.values.get(path[:depth])
            if span is not None:
                return self.place(span.start, span.end)
        return None

    def value(self, path: Path) -> Place | None:
        """Where the value at ``path`` stands; the key's place if it has none of its own."""
        span = self.values.get(path)
        return self.place(span.start, span.end) if span is not None else self.key(path)

    def inside(self, path: Path, offset: int, length: int) -> Place | None:
        """Where ``length`` characters from ``offset`` of the string at ``path`` stand."""
        span = self.values.get(path)
        if span is None or span.content < 0:
            return self.value(path)
        start = self._source_offset(span, offset)
        return self.place(start, self._source_offset(span, offset + length))

    def inside_key(self, path: Path, offset: int, length: int) -> Place | None:
        """The same for a quoted key."""
        span = self.keys.get(path)
        if span is None:
            return self.key(path)
        quoted = self.text[span.start] in "\"'"
        return self.place(span.start + quoted + offset, span.start + quoted + offset + length)

    def _source_offset(self, span: Span, offset: int) -> int:
        """The offset in the document of character ``offset`` of a string's content; escapes count as what they mean."""
        if self.text[span.start] == "'" or "\\" not in self.text[span.content : span.end]:
            return span.content + offset
        at = span.content
        while offset > 0 and at < span.end:
            escape = _ESCAPE.match(self.text, at)
            if escape is None:
                at, offset = at + 1, offset - 1
            else:
                at = escape.end()
                offset -= "\n" not in escape.group()  # a line-ending backslash stands for nothing
        return at


class _Scanner:
    """Reads accepted TOML once, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}
        self._elements: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_FILL)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, what: re.Pattern[str]) -> None:
        match = what.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: Path = ()
        parts = self._dotted()
        for number, (name, span) in enumerate(parts):
            path = (*path, name)
            self.keys.setdefault(path, span)
            last = number == len(parts) - 1
            if array and last:
                self._elements[path] = self._elements.get(path, 0) + 1
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
                self.keys.setdefault(path, span)
        self.at += 2 if array else 1
        return path

    def _dotted(self) -> list[tuple[str, Span]]:
        parts = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key())
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _key(self) -> tuple[str, Span]:
        start = self.at
        bare = _BARE.match(self.text, start)
        if bare is not None:
            self.at = bare.end()
            return bare.group(), Span(start, self.at)
        self._string()
        name: str = tomllib.loads(f"key = {self.text[start : self.at]}")["key"]
        return name, Span(start, self.at)

    def _pair(self, table: Path) -> None:
        path = table
        for name, span in self._dotted():
            path = (*path, name)
            self.keys.setdefault(path, span)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        start, content = self.at, -1
        opening = self.text[start]
        if opening in "\"'":
            content = self._string()
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)
        self.values[path] = Span(start, self.at, content)

    def _array(self, path: Path) -> None:
        self.at += 1
        for number in range(len(self.text)):
            self._skip(_FILL)
            if self.text[self.at] == "]":
                break
            self._value((*path, number))
            self._skip(_FILL)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_FILL)
            if self.text[self.at] == "}":
                break
            self._pair(path)
            self._skip(_FILL)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _string(self) -> int:
        """Moves behind the string that starts here; the offset of its content."""
        quote = self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            content = self.at + 3
            content += self.text.startswith("\n", content)  # TOML drops a line break right after the quotes
            end = self._closing(content, quote * 3)
            while self.text.startswith(quote, end + 3) and end + 3 < len(self.text):
                end += 1  # up to two quotes of the content may touch the closing ones
            self.at = end + 3
            return content
        content = self.at + 1
        self.at = self._closing(content, quote) + 1
        return content

    def _closing(self, start: int, quotes: str) -> int:
        if quotes[0] == "'":
            return self.text.index(quotes, start)
        at = start
        while not self.text.startswith(quotes, at):
            at += 2 if self.text[at] == "\\" else 1
        return at
