"""Arbitrary operation sequences on this machine's kernel and in the model: the first difference, as small as it gets."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from ptactors.host.arbitrary import sequences
from ptactors.host.compare import Comparison, compare
from ptactors.host.live import CannotRun, execute
from ptactors.host.probe import Host
from ptactors.host.sequence import Recording, Step

FOREVER = 10**9
"""Sequences, where only time is a limit."""
BATCH = 250
"""Sequences that Hypothesis draws at a time: it remembers all of them, so as not to draw one twice."""
AGAIN = 2
"""How often a difference is looked at again before it counts: khugepaged may have passed, or no huge page was free."""
_THP = pathlib.Path("/sys/kernel/mm/transparent_hugepage")


@attrs.define(kw_only=True)
class Fuzzing:
    """What came of it."""

    sequences: int = 0
    """How many were compared, those of the shrinking included."""
    operations: int = 0
    """In all of them."""
    unstable: int = 0
    """Sequences that the kernel answered differently when asked again."""
    refused: int = 0
    """Sequences that this machine did not make."""
    reason: str = ""
    """Why the last of them was refused."""
    found: Comparison | None = None
    """The smallest difference."""
    recording: Recording | None = None
    """The sequence that shows it, as this machine's kernel answers it."""


class Differs(Exception):
    """A sequence on which the two disagree."""


class _TimeIsUp(BaseException):
    """Goes through Hypothesis, which would take an Exception for a finding."""


def hindrance() -> str:
    """Why this machine's huge pages are not what the model has; '' if they are. Raises OSError only for what is unreadable."""
    for path in sorted(_THP.glob("hugepages-*kB/enabled")):
        words = path.read_text(encoding="ascii")
        if path.parent.name != "hugepages-2048kB" and "[never]" not in words:
            return f"{path} is not at 'never', and the model has no huge pages of that size"
    return ""


class Fuzzer:
    """Draws sequences and compares, until something differs or a limit is reached."""

    def __init__(
        self, preset: str, host: Host, *, until: float | None = None, heard: Callable[[Fuzzing], None] | None = None
    ) -> None:
        """``until`` is a time of time.monotonic(); ``heard`` is told of progress."""
        self._preset, self._host, self._until, self._heard = preset, host, until, heard
        self.result = Fuzzing()

    def run(self, runs: int, first_seed: int, most: int) -> Fuzzing:
        """Compare up to ``runs`` sequences of up to ``most`` operations. The same seed draws the same sequences."""
        for batch in range(-(-runs // BATCH)):
            check = settings(
                max_examples=min(BATCH, runs - batch * BATCH),
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )(seed(first_seed << 32 | batch)(given(sequences(most))(self._check)))
            try:
                check()
            except (Differs, Flaky, _TimeIsUp):
                break
        return self.result

    def _check(self, steps: tuple[Step, ...]) -> None:
        if self._until is not None and time.monotonic() > self._until and self.result.found is None:
            raise _TimeIsUp
        try:
            recording = self._record(steps)
        except CannotRun as reason:
            self.result.refused += 1
            self.result.reason = str(reason)
            return
        comparison = compare(recording, self._preset)
        self._count(steps)
        if comparison.agrees:
            return
        if any(self._record(steps).observed != recording.observed for _ in range(AGAIN)):
            self.result.unstable += 1
            return
        self.result.found, self.result.recording = comparison, recording
        raise Differs

    def _record(self, steps: tuple[Step, ...]) -> Recording:
        return Recording(
            name="fuzz",
            steps=steps,
            observed=execute(steps),
            kernel=self._host.release,
            thp=self._host.thp,
            provenance="drawn by ptactors host fuzz, answered by the kernel named here",
        )

    def _count(self, steps: tuple[Step, ...]) -> None:
        self.result.sequences += 1
        self.result.operations += len(steps)
        if self._heard is not None:
            self._heard(self.result)
