"""The journal of a campaign: an append-only file from which a killed campaign goes on where it was.

One JSON object a line, the last field a checksum of the rest: first a header that says which campaign this is, then one line for
each finished piece of work, in the order of the work, numbered from 0. A piece is in the journal whole or not at all: a last
line that is torn is cut off, and its piece is done again. Anything else that is wrong is an error, never a guess. The file is
locked while a campaign writes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptactors import __version__
from ptactors.errors import IncompatibleRecording, PtactorsError, UsageError

FORMAT = 1
NAME, LOCK = "campaign.jsonl", "campaign.lock"
SYNC_EVERY = 16
"""Lines after which the disk is asked to have them; a process that is killed loses none, a machine that is at most these."""


class NothingToResume(PtactorsError):
    """The folder holds no campaign that had begun."""


class JournalFault(PtactorsError):
    """The journal cannot be written: a full disk, as a rule."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, nobody else runs a campaign in this folder. Raises UsageError if somebody does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process runs a campaign in {folder}; wait for it or take another --log-dir") from None
        yield


def _seal(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=True)
    return f'{text[:-1]},"sum":"{_sum(text)}"}}\n'.encode()


def _sum(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _open(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is torn or damaged."""
    head, mark, tail = line.rpartition(b',"sum":"')
    if not mark or not tail.endswith(b'"}\n'):
        return None
    text = head.decode("ascii", errors="replace") + "}"
    if _sum(text).encode() != tail[:-3]:
        return None
    body: dict[str, Any] = json.loads(text)
    return body


class Journal:
    """The open file. Lines are appended; ``pieces`` are those that were there."""

    def __init__(self, path: Path, descriptor: int, pieces: int) -> None:
        self.path = path
        self._file = descriptor
        self.pieces = pieces
        """How many pieces it holds."""

    @classmethod
    def begin(cls, folder: Path, identity: Mapping[str, Any]) -> Journal:
        """A new journal; one that was there is kept under another name. Raises JournalFault."""
        path = folder / NAME
        try:
            if path.exists():
                path.replace(path.with_suffix(".jsonl.old"))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise JournalFault(path, error) from error
        journal = cls(path, descriptor, 0)
        journal._append({"ptactors-campaign": FORMAT, "version": __version__, "identity": dict(identity)})
        journal._sync()
        return journal

    @classmethod
    def again(cls, folder: Path) -> Journal:
        """That of a campaign that is to go on, without what is torn at its end. Raises as ``identity_of``, and JournalFault."""
        path = folder / NAME
        _, pieces, whole = _scan(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.truncate(descriptor, whole)
        except OSError as error:
            raise JournalFault(path, error) from error
        return cls(path, descriptor, pieces)

    def add(self, body: Mapping[str, Any]) -> None:
        """One more piece. Raises JournalFault; then the file is as before."""
        self._append({"piece": self.pieces, **body})
        self.pieces += 1
        if self.pieces % SYNC_EVERY == 0:
            self._sync()

    def close(self) -> None:
        """The end of writing; nothing is lost without it."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def _append(self, body: Mapping[str, Any]) -> None:
        line = _seal(body)
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._file, size)
            raise JournalFault(self.path, error) from error

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise JournalFault(self.path, error) from error


def identity_of(folder: Path) -> dict[str, Any]:
    """Which campaign the folder holds. Raises NothingToResume, and IncompatibleRecording if it is not one of this version's."""
    header, _, _ = _scan(folder / NAME)
    identity: dict[str, Any] = header["identity"]
    return identity


def pieces_of(folder: Path) -> Iterator[dict[str, Any]]:
    """What the finished pieces say, in order."""
    with (folder / NAME).open("rb") as file:
        next(file)
        for line in file:
            body = _open(line)
            if body is None:
                return
            yield body


def _scan(path: Path) -> tuple[dict[str, Any], int, int]:
    """(header, number of pieces, bytes up to the end of the last one)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NothingToResume(f"there is no campaign to resume in {path.parent}") from None
    with file:
        first = file.readline()
        header = _open(first)
        if header is None:
            if file.read(1):
                raise IncompatibleRecording(f"{path}: not the journal of a campaign")
            raise NothingToResume(f"the campaign in {path.parent} was killed before it began")
        _check_header(path, header)
        number, whole, torn = 0, len(first), 0
        for at, line in enumerate(file, 2):
            body = _open(line)
            if body is None:
                torn = torn or at
            elif torn or body.get("piece") != number:
                raise IncompatibleRecording(f"{path}: line {torn or at} is damaged; only the last line of a journal may be")
            else:
                number += 1
                whole += len(line)
    return header, number, whole


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    if header.get("ptactors-campaign") != FORMAT:
        raise IncompatibleRecording(f"{path}: a journal in another format; this version reads format {FORMAT}")
    if header.get("version") != __version__:
        raise IncompatibleRecording(f"{path}: the campaign was run by ptactors {header.get('version')}, this is {__version__}")
