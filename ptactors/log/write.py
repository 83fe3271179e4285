"""A kept run as JSON lines: header, one line a record, trailer; and ``run.json`` with what is not part of the run.

Everything goes through one bound structlog logger. A log holds no wall-clock time, no host and no path, so that the same run
gives the same bytes anywhere. The trailer counts the records and carries the SHA-256 of all bytes before it: what was cut off is
seen. Lines go to the file as they are made; after a full disk or an interrupt, what is there can be read and is known to be cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson
import structlog

from ptactors.errors import PtactorsError
from ptactors.log.codec import NOBODY, SCHEMA, encode
from ptactors.log.symbol import Symbols
from ptactors.model.event import VmaInit
from ptactors.model.state import Record


class LogWriteFault(PtactorsError):
    """A log cannot be written: no space, no permission, no such folder."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        super().__init__(f"cannot write {path}: {error.strerror or error}")


class _Sink:
    """What structlog calls a logger: takes finished lines, counts and hashes them, and writes them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def msg(self, line: bytes) -> None:
        whole = line + b"\n"
        self.digest.update(whole)
        self._file.write(whole)


def _render(_: object, __: str, fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields)


class LogWriter:
    """Writes one log; a context manager that ends the file with its trailer unless an exception passes through."""

    def __init__(self, path: Path, header: Mapping[str, Any], actors: tuple[str, ...]) -> None:
        """Create the file and its folders. Raises LogWriteFault."""
        self.path = path
        self._actors = actors
        self._symbols = Symbols()
        self._count = 0
        self._ending: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")
        except OSError as error:
            raise LogWriteFault(path, error) from error
        self._sink = _Sink(self._file)
        self._logger = structlog.wrap_logger(
            self._sink, processors=[_render], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=True
        ).bind()
        self._line({"ev": "header", "schema": SCHEMA, **header, "actors": list(actors)})

    def _line(self, fields: dict[str, Any]) -> None:
        try:
            self._logger.msg(None, **fields)
        except OSError as error:
            raise LogWriteFault(self.path, error) from error

    def record(self, record: Record, cause: int | None = None, function: str = "") -> None:
        """Add one record, with the step that made it possible and the kernel function it happened in, where known."""
        step, actor, event = record
        if type(event) is VmaInit:
            self._symbols.learn(event)
        fields = encode(step, self._actors[actor] if actor >= 0 else NOBODY, event, self._symbols)
        if cause is not None:
            fields["cause"] = cause
        if function:
            fields["fn"] = function
        self._line(fields)
        self._count += 1

    def end(self, **fields: Any) -> None:
        """Give the trailer more to say: how the run ended."""
        self._ending.update(fields)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                digest = self._sink.digest.hexdigest()
                self._line({"ev": "trailer", "events": self._count, **self._ending, "sha256": digest})
            self._file.close()
        except OSError as error:
            if kind is None:
                raise LogWriteFault(self.path, error) from error


def write_log(
    path: Path,
    header: Mapping[str, Any],
    actors: tuple[str, ...],
    records: Iterable[Record],
    *,
    causes: Mapping[int, int],
    functions: Mapping[int, str],
    ending: Mapping[str, Any],
) -> None:
    """Write a whole log. Raises LogWriteFault; what had been written by then stays and is readable."""
    with LogWriter(path, header, actors) as log:
        for record in records:
            log.record(record, causes.get(record[0]), functions.get(record[0], ""))
        log.end(**ending)


def write_run_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write what stands beside logs: wall time, host, Python, command line. Raises LogWriteFault."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(dict(facts), option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise LogWriteFault(path, error) from error
