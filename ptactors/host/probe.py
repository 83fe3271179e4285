"""What kind of kernel this machine runs: found by trying, since a version number says little about a distribution's kernel."""

from __future__ import annotations

import os

import attrs

from ptactors.host.live import CannotRun, execute, thp_setting, unable
from ptactors.host.sequence import Observation, Step

BEFORE, RECLAIM = "before", "reclaim"
"""Classes of kernels: MADV_DONTNEED keeps an emptied PTE page, or frees it."""
_SIZE = 1 << 21
_TOUCH: tuple[Step, ...] = (("map", 0, _SIZE), ("w", 0, _SIZE), ("adv", 0, _SIZE, "DONTNEED"))
_TOUCH_SMALL: tuple[Step, ...] = (_TOUCH[0], ("adv", 0, _SIZE, "NOHUGEPAGE"), *_TOUCH[1:])


@attrs.frozen(kw_only=True)
class Host:
    """The machine, as far as sequences are concerned."""

    release: str
    """Of the kernel: ``6.18.44``; '' where there is none."""
    kernel_class: str
    """BEFORE or RECLAIM; '' if nothing can be run."""
    thp: str
    """always, madvise, never, or '' for a kernel without huge pages."""
    cpus: int
    """CPUs that this process may use."""
    reason: str
    """Why nothing can be run, in a sentence; ''."""


def probe() -> Host:
    """Look at this machine; never fails."""
    reason = unable()
    kernel_class = ""
    if not reason:
        try:
            seen = execute(_TOUCH_SMALL if thp_setting() else _TOUCH)
            kernel_class = classify(seen)
        except CannotRun as cannot:
            reason = str(cannot)
    return Host(release=_release(), kernel_class=kernel_class, thp=thp_setting(), cpus=_cpus(), reason=reason)


def classify(seen: tuple[Observation, ...]) -> str:
    """The class, by whether VmPTE fell when the last step gave up a populated 2 MiB."""
    return RECLAIM if seen[-1].vmpte_kb < seen[-2].vmpte_kb else BEFORE


def _release() -> str:
    return os.uname().release if hasattr(os, "uname") else ""


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
