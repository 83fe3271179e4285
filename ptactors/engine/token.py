"""A replay token: a whole run in one word that survives a mail, a bug tracker and a shell.

``pt1.NAME.CHECKS.ORIGIN.CHOICES.SUM``

NAME     the scenario; what is not a lower-case letter, a digit or ``-`` is written ``_xx``, a byte in hex
CHECKS   what must be the same for the token to mean the same: the scenario's digest (8 characters), the cell with its knobs (4),
         the outcome of the run (4)
ORIGIN   numbers: the version, where the cell comes from, strategy and seed of the recorded run, its steps
CHOICES  at each decision point an index into what was able to move, 0 = "go on"; of these the ones that are not 0, each with the
         number of 0s before it in one number; the 0s at the end are left out, so what a short bug needs is short
SUM      CRC-32 of everything before it, the dot included: a change of one character, or of two neighbours, is always found

A number is a row of base-16 digits, the lowest first, one character each; characters of the upper half of the alphabet say that
another one follows. There is one spelling for each token: what does not come out of writing again what was read is refused, so
there are no aliases but for what a mail program does: spaces, line ends and ``>`` are passed over. The alphabet is that of
RFC 4648's base 32 in lower case, without 0, 1, 8 and 9.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

import attrs

from ptactors.errors import IncompatibleRecording

PREFIX = "pt1"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
DIGEST, CELL, OUTCOME, SUM = 8, 4, 4, 7
"""Lengths in characters of five bits."""
_VERSION = re.compile(r"\d+(\.\d+)*")
_LONGEST = 1 << 20
"""Characters of the longest token that is read."""
_MOST = 1 << 24
"""Choices that are read."""


class Damaged(IncompatibleRecording):
    """The text is no token, or not the one that was written."""


@attrs.frozen(kw_only=True)
class Token:
    """What a token says."""

    scenario: str
    digest: str
    """First 40 bits of the scenario's digest, as 8 characters; see ``fingerprint``."""
    cell_check: str
    """Of the cell's name, all its knobs and the strategy's name: 4 characters."""
    outcome: str
    """Of the outcome's digest: 4 characters."""
    version: str
    """Of ptactors; '' for one whose version is not a row of numbers."""
    preset: int
    """0: no preset was set from outside; else 1 + its position in PRESETS."""
    cell: int
    """Number of the cell."""
    knobs: tuple[tuple[int, int], ...]
    """Knobs set from outside: (position of the knob, position of its value or the value)."""
    strategy: int
    """Position of the recorded run's strategy among STRATEGIES."""
    parameters: str = ""
    """Of the strategy, in ASCII."""
    seed: int
    """Of the recorded run."""
    steps: int
    """Of the run."""
    choices: tuple[int, ...]
    """Without the 0s at the end."""

    def __str__(self) -> str:
        digits = "".join
        origin = [*_version_numbers(self.version), self.preset, self.cell, len(self.knobs), *_flat(self.knobs),
                  self.strategy, len(self.parameters), *self.parameters.encode("ascii"), self.seed, self.steps]  # fmt: skip
        parts = [PREFIX, _escaped(self.scenario), self.digest + self.cell_check + self.outcome,
                 digits(map(_number, origin)), digits(map(_number, _deviations(self.choices)))]  # fmt: skip
        text = ".".join(parts) + "."
        return text + _fixed(zlib.crc32(text.encode()), SUM)


def is_token(text: str) -> bool:
    """Whether the text means to be a token."""
    return text.lstrip("> \t\r\n").startswith(PREFIX + ".")


def fingerprint(text: str, length: int) -> str:
    """``length`` characters, at most 12, that stand for ``text``."""
    return _fixed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"), length)


def trimmed(choices: Iterable[int]) -> tuple[int, ...]:
    """Without the 0s at the end."""
    kept = list(choices)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def read(text: str) -> Token:
    """The token that the text spells, be it wrapped and quoted by a mail program. Raises Damaged with the reason."""
    if len(text) > _LONGEST:
        raise Damaged("this is no replay token: it is too long")
    text = "".join(text.replace(">", " ").split())
    parts = text.split(".")
    if parts[0] != PREFIX or len(parts) != 6:
        raise Damaged(f"this is no replay token: one has six parts between dots, the first of them {PREFIX!r}")
    bad = next((c for c in "".join(parts[2:]) if c not in _VALUES), None)
    if bad is not None:
        raise Damaged(f"the token is damaged: {bad!r} is no character of a token (a-z and 2-7)")
    body = text[: -len(parts[-1])] if parts[-1] else text
    if _fixed(zlib.crc32(body.encode()), SUM) != parts[-1]:
        raise Damaged("the token is damaged: its checksum does not fit; a character was lost or changed")
    try:
        token = _parse(*parts[1:5])
    except ValueError:
        raise Damaged("the token is damaged: its parts do not fit together") from None
    if str(token) != text:
        raise Damaged("the token is damaged: this is not how a token is spelled")
    return token


def _parse(name: str, checks: str, origin: str, choices: str) -> Token:
    if len(checks) != DIGEST + CELL + OUTCOME:
        raise ValueError("length")
    numbers = _Numbers(origin)
    version = ".".join(str(numbers.take()) for _ in range(numbers.take()))
    preset, cell = numbers.take(), numbers.take()
    knobs = tuple((numbers.take(), numbers.take()) for _ in range(numbers.take()))
    strategy = numbers.take()
    parameters = bytes(numbers.take() for _ in range(numbers.take())).decode("ascii")
    seed, steps = numbers.take(), numbers.take()
    if numbers.left():
        raise ValueError("more numbers than there should be")
    return Token(
        scenario=_unescaped(name), digest=checks[:DIGEST], cell_check=checks[DIGEST : DIGEST + CELL],
        outcome=checks[DIGEST + CELL :], version=version, preset=preset, cell=cell, knobs=knobs, strategy=strategy,
        parameters=parameters, seed=seed, steps=steps, choices=tuple(_undeviated(_Numbers(choices), min(steps, _MOST))),
    )  # fmt: skip


# -- numbers --------------------------------------------------------------------------------------------------------------


def _number(value: int) -> str:
    text = ""
    while value >= 16:
        text += ALPHABET[16 + value % 16]
        value //= 16
    return text + ALPHABET[value]


class _Numbers:
    """Reads one number after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def left(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._text)

    def take(self) -> int:
        """The next number. Raises ValueError where there is no whole one."""
        value = shift = 0
        while self.left():
            digit = _VALUES[self._text[self._at]]
            self._at += 1
            value |= digit % 16 << shift
            shift += 4
            if digit < 16:
                return value
        raise ValueError("a number is cut off")


def _fixed(value: int, length: int) -> str:
    """The value in base 32, highest digit first."""
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(length)))


def _deviations(choices: Sequence[int]) -> Iterator[int]:
    """For each choice that is not 0: four times the 0s before it plus what it is above 1, up to 3 (then the rest follows)."""
    zeros = 0
    for choice in choices:
        if not choice:
            zeros += 1
            continue
        yield 4 * zeros + min(choice - 1, 3)
        if choice > 3:
            yield choice - 4
        zeros = 0


def _undeviated(numbers: _Numbers, limit: int) -> Iterator[int]:
    made = 0
    while numbers.left():
        zeros, above = divmod(numbers.take(), 4)
        made += zeros + 1
        if made > limit:
            raise ValueError("more choices than steps")
        yield from [0] * zeros
        yield above + 1 if above < 3 else numbers.take() + 4


def _flat(pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    for pair in pairs:
        yield from pair


# -- text -----------------------------------------------------------------------------------------------------------------


def _escaped(name: str) -> str:
    return "".join(c if c in _PLAIN else "".join(f"_{byte:02x}" for byte in c.encode()) for c in name)


def _unescaped(name: str) -> str:
    pieces = re.split(r"(_[0-9a-f]{2})", name)
    return b"".join(bytes([int(p[1:], 16)]) if p[:1] == "_" else p.encode() for p in pieces).decode()


def _version_numbers(version: str) -> list[int]:
    if not _VERSION.fullmatch(version):
        return [0]
    numbers = [int(part) for part in version.split(".")]
    return [len(numbers), *numbers]
