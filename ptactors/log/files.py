"""Which logs a command line means, and whether each of them is whole, without reading its events one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import orjson

from ptactors.log.read import LogReadFault, LogState, SavedLog

_BLOCK = 1 << 20
_TAIL = 1 << 16
"""A trailer is looked for in so many bytes at the end of a file; one that is longer is found by reading all lines."""


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named; for a folder every log below it, in the order of their names. Raises LogReadFault."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(path.rglob("*.jsonl"), key=_natural)
        if not below:
            raise LogReadFault(f"{path}: no logs (*.jsonl) in this folder")
        found += below
    return list(dict.fromkeys(found))


def _natural(path: Path) -> tuple[str, int, str]:
    """``seed-10`` behind ``seed-9``."""
    head, _, number = path.stem.rpartition("-")
    return (str(path.parent / head), int(number), "") if number.isdigit() else (str(path.parent / path.stem), -1, "")


def survey(path: Path) -> SavedLog:
    """A log whose ``state``, ``fault`` and ``trailer`` are known; its events have not been looked at if it is whole.

    Raises LogReadFault for what is no log.
    """
    log = SavedLog(path)
    if log.state is LogState.FUTURE or _is_whole(log):
        return log
    for _ in log.raw():  # says what is wrong, and where
        pass
    return log


def _is_whole(log: SavedLog) -> bool:
    """Whether trailer, count and digest agree; ``state`` and ``trailer`` are set if so."""
    with log.path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        start = tail.rfind(b"\n", 0, -1) + 1
        if not tail.endswith(b"\n") or start == 0:
            return False
        try:
            trailer = orjson.loads(tail[start:])
        except ValueError:
            return False
        if not isinstance(trailer, dict) or trailer.get("ev") != "trailer":
            return False
        left = size - len(tail) + start
        file.seek(0)
        digest, lines = hashlib.sha256(), 0
        while left:
            block = file.read(min(_BLOCK, left))
            if not block:
                return False
            digest.update(block)
            lines += block.count(b"\n")
            left -= len(block)
    if trailer.get("sha256") != digest.hexdigest() or trailer.get("events") != lines - 1:
        return False
    log.trailer, log.state = trailer, LogState.COMPLETE
    return True
