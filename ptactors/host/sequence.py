"""Operation sequences, and what a kernel (a real one or the model) showed after each operation.

Everything is relative to an arena: addresses are offsets into it, page-table memory is what it grew by.
"""

from __future__ import annotations

from typing import Any

import attrs

Step = tuple[Any, ...]
"""``("map", 0, 0x200000)``, ``("adv", 0, 0x200000, "DONTNEED")``, ``("t2", "w", 0)``: the name of an operation and its arguments.

Strings and numbers, except for ``("fork", (step, ...), hold)``, which holds what the child does and whether it stays, and
``("repeat", count, stride, step, ...)``: these steps so often, each time ``stride`` bytes further on, with one observation after
the last, whose result is 0 or the first error.
"""

ARENA = 1 << 44
"""Where the arena begins: a PGD slot of its own."""


@attrs.frozen(kw_only=True)
class VmaSeen:
    """One mapping of the arena."""

    start: int
    """Offset in the arena, bytes."""
    length: int
    """Bytes."""
    perm: str
    """As /proc/self/smaps has it: ``rw-p``."""
    huge_kb: int = 0
    """AnonHugePages: kB of it that huge pages map."""
    flags: tuple[str, ...] = ()
    """Of VmFlags those that an operation of a sequence sets: ``lo`` (locked), ``hg`` (hugepage), ``nh`` (nohugepage)."""


@attrs.frozen(kw_only=True)
class Observation:
    """What was seen after one operation."""

    step: Step
    result: int | tuple[int, ...] | str
    """What it returned: 0 or a count; the set of values read, ascending; ``-EINVAL``."""
    vmpte_kb: int
    """Growth of VmPTE since the start, kB."""
    rss_kb: int
    """Of the arena, kB."""
    faults: int
    """Minor faults of the operation; means something for w, r and POPULATE only."""
    tables: dict[int, tuple[int, int]]
    """2 MiB number in the arena -> pages present and swapped out or marked; those with neither are left out."""
    vmas: tuple[VmaSeen, ...]
    """Ascending."""
    child: tuple[Observation, ...] = ()
    """What a forked child saw after each of its steps."""


@attrs.frozen(kw_only=True)
class Recording:
    """A sequence as one kernel answered it."""

    name: str
    steps: tuple[Step, ...]
    observed: tuple[Observation, ...]
    kernel: str
    """Release of the kernel that made it: ``6.18.44``."""
    thp: str
    """/sys/kernel/mm/transparent_hugepage/enabled at the time, as the file's chosen word: ``madvise``."""
    provenance: str = ""
    """How and where it was made, in a sentence."""
