"""A saved log as records again, and what is wrong with it if something is.

A log that was cut off, damaged or made by a later version still gives the records before the trouble, and the reader says
which it is.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson

from ptactors.errors import PtactorsError
from ptactors.log.codec import NOBODY, SCHEMA, FieldFault, decode
from ptactors.model.state import Record

T = TypeVar("T")
_MAX_LINE = 1 << 24


class LogReadFault(PtactorsError):
    """A file cannot be opened, or is not a log at all."""


class LogState(enum.Enum):
    """What a log turned out to be, once read to its end."""

    UNREAD = "unread"
    """The records were not read to the end yet."""
    COMPLETE = "complete"
    """Header, records, trailer; count and digest agree."""
    TRUNCATED = "truncated"
    """The trailer is missing: the writer was interrupted or the file cut."""
    CORRUPT = "corrupt"
    """A line is damaged, or count or digest do not agree."""
    FUTURE = "future"
    """A later version wrote it, in a format this version does not know."""


class SavedLog:
    """One log file. The header is read at once; the records as they are asked for."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its header. Raises LogReadFault for what is no log of ptactors."""
        self.path = path
        self.state = LogState.UNREAD
        self.fault = ""
        """One sentence, once the state is another than COMPLETE."""
        self.trailer: dict[str, Any] = {}
        try:
            with path.open("rb") as file:
                first = file.readline(_MAX_LINE)
                self.size = file.seek(0, 2)
                """Bytes of the file."""
        except OSError as error:
            raise LogReadFault(f"{path}: {error.strerror or error}") from error
        self.header = _header(path, first)
        if self.header["schema"] > SCHEMA:
            self.state = LogState.FUTURE
            self.fault = (
                f"{path}: written in log format {self.header['schema']} by ptactors {self.header.get('version', '?')};"
                f" this version reads up to format {SCHEMA}: use a later ptactors"
            )

    @property
    def actors(self) -> tuple[str, ...]:
        """Actor id -> name."""
        return tuple(self.header.get("actors", ()))

    def records(self) -> Iterator[Record]:
        """Every record that can be read, in order; sets ``state``, ``fault`` and ``trailer`` when it ends."""
        for record, _ in self.lines():
            yield record

    def lines(self) -> Iterator[tuple[Record, dict[str, Any]]]:
        """As ``records``, each with the fields of its line (for ``cause``, ``fn`` and ``sym``)."""
        if self.state is LogState.FUTURE:
            return
        ids = {name: i for i, name in enumerate(self.actors)} | {NOBODY: -1}

        def make(fields: dict[str, Any]) -> tuple[Record, dict[str, Any]]:
            if not _is_event(fields):
                raise FieldFault("its event name, step, CPU or actor is missing or of another type")
            return (fields["step"], ids[fields["actor"]], decode(fields)), fields

        with self.path.open("rb") as file:
            yield from self._read(file, make)

    def raw(self) -> Iterator[dict[str, Any]]:
        """The fields of every event, without making the event: several times as fast as ``lines``.

        Also gives what a later version wrote, as far as its lines are JSON objects with a step; the state stays FUTURE.
        """
        return self._trusted() if self.state is LogState.COMPLETE else self._checked()

    def _trusted(self) -> Iterator[dict[str, Any]]:
        """The lines of a file whose digest was found to be right. Raises LogReadFault where they are no events all the same."""
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                fields = _fields(line)
                if fields is None or not _is_event(fields):
                    if fields is not None and fields.get("ev") == "trailer":
                        return
                    raise LogReadFault(f"{self.path}: corrupt: line {number} is no event, whatever its trailer says")
                yield fields

    def _checked(self) -> Iterator[dict[str, Any]]:
        def make(fields: dict[str, Any]) -> dict[str, Any]:
            if not _is_event(fields):
                raise FieldFault("its event name, step, CPU or actor is missing or of another type")
            return fields

        future = self.fault if self.state is LogState.FUTURE else ""
        with self.path.open("rb") as file:
            yield from self._read(file, make)
        if future:
            self.state, self.fault = LogState.FUTURE, future

    def texts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The text of every line that is an event, as it stands, with its fields; damaged lines are passed over."""
        with self.path.open("rb") as file:
            file.readline(_MAX_LINE)
            while line := file.readline(_MAX_LINE):
                fields = _fields(line)
                if fields is not None and fields.get("ev") not in ("header", "trailer", None):
                    yield line.decode(errors="replace"), fields

    def _read(self, file: BinaryIO, make: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        line = file.readline(_MAX_LINE)
        digest = hashlib.sha256(line)
        count, number = 0, 1
        while line := file.readline(_MAX_LINE):
            number += 1
            fields = _fields(line)
            if fields is None:
                if not line.endswith(b"\n"):
                    break
                return self._corrupt(number, "is not a JSON object", count)
            if fields.get("ev") == "trailer":
                return self._close(fields, count, digest.hexdigest(), rest=file.read(1))
            try:
                made = make(fields)
            except (FieldFault, KeyError, TypeError, ValueError) as error:
                what = f"has no known {error.args[0]!r}" if isinstance(error, KeyError) else f"cannot be read: {error}"
                return self._corrupt(number, what, count)
            digest.update(line)
            count += 1
            yield made
        self.state = LogState.TRUNCATED
        self.fault = f"{self.path}: truncated: it ends after {count} events without a trailer"
        return None

    def _corrupt(self, number: int, what: str, count: int) -> None:
        self.state = LogState.CORRUPT
        self.fault = f"{self.path}: corrupt: line {number} {what}; the {count} events before it were read"

    def _close(self, fields: dict[str, Any], count: int, digest: str, rest: bytes) -> None:
        self.trailer = fields
        self.state = LogState.CORRUPT
        if fields.get("events") != count:
            self.fault = f"{self.path}: corrupt: the trailer counts {fields.get('events')} events, the file has {count}"
        elif fields.get("sha256") != digest:
            self.fault = f"{self.path}: corrupt: the digest in the trailer is not that of the {count} events before it"
        elif rest:
            self.fault = f"{self.path}: corrupt: something follows the trailer; the {count} events before it were read"
        else:
            self.state = LogState.COMPLETE


def _fields(line: bytes) -> dict[str, Any] | None:
    try:
        fields = orjson.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _is_event(fields: dict[str, Any]) -> bool:
    """Whether what every line has is there and of its type."""
    get = fields.get
    return type(get("step")) is int and type(get("cpu")) is int and type(get("ev")) is str and type(get("actor")) is str


def _header(path: Path, line: bytes) -> dict[str, Any]:
    if not line:
        raise LogReadFault(f"{path}: empty: not even the header of a log was written")
    fields = _fields(line)
    if fields is None or fields.get("ev") != "header" or fields.get("tool") != "ptactors":
        raise LogReadFault(f"{path}: not a log of ptactors: its first line is no header")
    actors, knobs = fields.get("actors", []), fields.get("knobs", {})
    if type(fields.get("schema")) is not int:
        raise LogReadFault(f"{path}: corrupt: its header has no format version")
    if not isinstance(actors, list) or not all(isinstance(name, str) for name in actors) or not isinstance(knobs, dict):
        raise LogReadFault(f"{path}: corrupt: the actors or the knobs in its header are not what they should be")
    for key in ("version", "scenario", "cell", "strategy"):
        if not isinstance(fields.get(key, ""), str):
            raise LogReadFault(f"{path}: corrupt: {key!r} in its header is no text")
    return fields
