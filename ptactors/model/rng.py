"""The only source of randomness: SplitMix64, written out so that a seed means the same on every Python for ever.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014); the constants are those of
java.util.SplittableRandom. Python's own ``random`` is used nowhere: its streams may change between releases.
"""

from __future__ import annotations

import zlib

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """The finaliser of SplitMix64: a bijection of 64-bit integers that spreads every bit."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class SplitMix64:
    """One stream of pseudo-random 64-bit integers."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """The next 64 bits, as an int from 0 to 2**64-1."""
        self._state = (self._state + _GAMMA) & _MASK
        return mix(self._state)

    def below(self, n: int) -> int:
        """An int from 0 to ``n``-1, each equally likely; ``n`` from 1 to 2**64."""
        if not 1 <= n <= 1 << 64:
            raise ValueError(f"below() takes a number from 1 to 2**64, not {n}")
        limit = (1 << 64) - (1 << 64) % n  # draws above it would favour the small results
        while True:
            value = self.next()
            if value < limit:
                return value % n

    def random(self) -> float:
        """A float from 0.0 up to, but not including, 1.0, with 53 random bits."""
        return (self.next() >> 11) * (1.0 / (1 << 53))


def stream(seed: int, purpose: str) -> SplitMix64:
    """The stream of ``seed`` for one ``purpose``; streams of different purposes do not disturb each other."""
    return SplitMix64(mix(seed + _GAMMA) ^ mix(zlib.crc32(purpose.encode())))
