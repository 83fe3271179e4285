"""Many logs as few files of JSON lines, for readers to whom each file costs much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ptactors.errors import PtactorsError
from ptactors.log.read import SavedLog

_PART = 1 << 28
"""A part is ended once it is this long."""


class MergeFault(PtactorsError):
    """The merged copy cannot be written: no space, most likely."""


def merge(logs: Sequence[SavedLog], folder: Path) -> list[Path]:
    """Copy all events into files below ``folder``; each line begins with ``log``, its log's position, and ``n``, its own in it.

    Headers, trailers and what is no JSON object at first sight are left out. Raises MergeFault.
    """
    parts: list[Path] = []
    try:
        lines = _lines(logs)
        line = next(lines, None)
        while line is not None:
            parts.append(folder / f"part-{len(parts)}.jsonl")
            with parts[-1].open("wb") as out:
                line = _fill(out, line, lines)
    except OSError as error:
        raise MergeFault(f"cannot read or copy {len(logs)} logs to {folder}: {error.strerror or error}") from error
    return parts


def _fill(out: BinaryIO, line: bytes | None, lines: Iterator[bytes]) -> bytes | None:
    """Write lines until the part is full; returns the first that is left over."""
    size = 0
    while line is not None and size < _PART:
        size += out.write(line)
        line = next(lines, None)
    return line


def _lines(logs: Sequence[SavedLog]) -> Iterator[bytes]:
    for number, log in enumerate(logs):
        with log.path.open("rb") as file:
            file.readline()
            n = 0
            for line in file:
                if line.startswith(b'{"ev":') and line.endswith(b"}\n") and not line.startswith(_FRAME):
                    yield b'{"log":%d,"n":%d,' % (number, n) + line[1:]
                    n += 1


_FRAME = (b'{"ev":"trailer"', b'{"ev":"header"')
