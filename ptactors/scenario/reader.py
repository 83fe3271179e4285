"""One scenario file while it is read: the parsed data, where everything stands, and the errors found so far."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from ptactors.errors import Diagnostic, ScenarioError
from ptactors.scenario.hints import nearest, suggest
from ptactors.scenario.keys import KERNEL, LISTED, MACHINE, SECTIONS, Key
from ptactors.scenario.positions import Path, Place, Positions
from ptactors.scenario.shape import describe
from ptactors.scenario.syntax import Mistake

DIAGNOSTIC_LIMIT = 20
"""Errors of one file that are shown; the rest is counted."""


class Reader:
    """Gives out values that have the declared form and collects what is wrong with the others."""

    def __init__(self, text: str, path: str) -> None:
        """Raises ScenarioError if ``text`` is not TOML."""
        self.path = path
        self._diagnostics: list[Diagnostic] = []
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
            self.positions = Positions(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise ScenarioError((_syntax_error(text, path, error),)) from None

    # errors

    def complain(self, path: Path, message: str, hint: str = "") -> None:
        """An error about the value at ``path``."""
        self._add(self.positions.value(path), message, hint)

    def complain_key(self, path: Path, message: str, hint: str = "") -> None:
        """An error about the key at ``path``, or the table around it."""
        self._add(self.positions.key(path), message, hint)

    def complain_inside(self, path: Path, mistake: Mistake, key: bool = False) -> None:
        """An error about a part of the string at ``path``, or of the key there."""
        find = self.positions.inside_key if key else self.positions.inside
        self._add(find(path, mistake.start, mistake.end - mistake.start), mistake.message, mistake.hint)

    def _add(self, place: Place | None, message: str, hint: str) -> None:
        at = place or Place(0, 0, 1, "")
        self._diagnostics.append(
            Diagnostic(path=self.path, line=at.line, column=at.column, message=message, source=at.source,
                       length=at.length, hint=hint)
        )  # fmt: skip

    @property
    def failed(self) -> bool:
        """Whether any error was found so far."""
        return bool(self._diagnostics)

    def finish(self) -> None:
        """Raises ScenarioError with all errors found, sorted by position; nothing if there are none."""
        found = sorted(self._diagnostics, key=lambda d: (d.line, d.column))
        if len(found) > DIAGNOSTIC_LIMIT:
            more = Diagnostic(path=self.path, line=0, column=0, message=f"and {len(found) - DIAGNOSTIC_LIMIT} more")
            found = [*found[:DIAGNOSTIC_LIMIT], more]
        if found:
            raise ScenarioError(tuple(found))

    # values

    def top(self, keys: tuple[Key, ...]) -> dict[str, Any]:
        """The keys beside the sections; an unknown section is an error too."""
        plain = {name: value for name, value in self.data.items() if name not in SECTIONS}
        return self._values((), plain, keys, [*(key.name for key in keys), *SECTIONS])

    def section(self, name: str) -> dict[str, Any]:
        """The values of ``[name]`` that are well formed; empty if there is no such section."""
        return self.table((name,), SECTIONS[name]) if name in self.data else {}

    def table(self, path: Path, keys: tuple[Key, ...]) -> dict[str, Any]:
        """The values of the table at ``path`` that are well formed, in the order of the file."""
        value = self._at(path)
        if not isinstance(value, dict):
            self.complain(path, f"expected a table, not {describe(value)}")
            return {}
        return self._values(path, value, keys, [key.name for key in keys])

    def _at(self, path: Path) -> Any:
        value: Any = self.data
        for part in path:
            value = value[part]
        return value

    def _values(self, path: Path, table: dict[str, Any], keys: tuple[Key, ...], known: list[str]) -> dict[str, Any]:
        forms = {key.name: key.form for key in keys}
        good = {}
        for name, value in table.items():
            form = forms.get(name)
            if form is None:
                self.complain_key((*path, name), f"unknown key {name!r}{_where(path)}", _key_hint(path, name, known))
            elif form.check(value, (*path, name), self.complain):
                good[name] = value
        for key in keys:
            if key.required and key.name not in table:
                self.complain_key(path, f"key {key.name!r} is missing{_where(path)}: {key.doc}")
        return good

    def named(self, section: str, pattern: str, what: str) -> Iterable[tuple[str, Path]]:
        """The tables ``[section.NAME]``: their names, checked against ``pattern``, and paths."""
        tables = self.data.get(section, {})
        if not isinstance(tables, dict):
            self.complain((section,), f"expected tables [{section}.NAME], not {describe(tables)}")
            return
        for name, value in tables.items():
            path = (section, name)
            if not isinstance(value, dict):
                self.complain_key(path, f"expected a table [{section}.NAME], not {describe(value)}")
            elif not re.fullmatch(pattern, name):
                self.complain_key(path, f"{name!r} is no {what}")
            else:
                yield name, path

    def listed(self, section: str) -> Iterable[Path]:
        """The paths of the tables ``[[section]]``."""
        assert section in LISTED
        tables = self.data.get(section, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.complain((section,), f"expected tables [[{section}]]", f"write [[{section}]] with two brackets")
            return
        for number in range(len(tables)):
            yield (section, number)


def _where(path: Path) -> str:
    names = ".".join(str(part) for part in path if isinstance(part, str))
    return f" in [{names}]" if names else ""


def _key_hint(path: Path, name: str, known: list[str]) -> str:
    """The nearest known key, or the section where the key would be right."""
    if not nearest(name, known):
        for section, keys in (("machine", MACHINE), ("kernel", KERNEL)):
            if path != (section,) and name in (key.name for key in keys):
                return f"{name!r} belongs in [{section}]; known here: {', '.join(known) or 'none'}"
    return suggest(name, known)


def _syntax_error(text: str, path: str, error: Exception) -> Diagnostic:
    """The complaint of tomllib, with its position, which it gives in words only."""
    if isinstance(error, RecursionError):
        return Diagnostic(path=path, line=0, column=0, message="not TOML: nested too deeply")
    message = str(error)
    lines = text.replace("\r\n", "\n").split("\n")
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found is not None:
        line, column = int(found[1]), int(found[2])
        message = message[: found.start()]
    else:
        line = next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip()), 1)
        column = len(lines[line - 1]) + 1
        message = message.removesuffix(" (at end of document)") + " at the end of the file"
    source = lines[line - 1] if line <= len(lines) else ""
    return Diagnostic(path=path, line=line, column=column, message=f"not TOML: {message}", source=source)
