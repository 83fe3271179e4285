"""Stateless search that makes one run per equivalence class of schedules, and the brute force that it is held against.

The independent check of the stateful search: it merges no states, memoises no actor and keeps no digests; every run is made from
the start by fresh coroutines. It rests on the declared footprints alone.
"""

from __future__ import annotations

from ptactors.engine.dpor.brute import brute_force
from ptactors.engine.dpor.live import Build, Cells, Deadlock, Result
from ptactors.engine.dpor.source import explore

__all__ = ["Build", "Cells", "Deadlock", "Result", "brute_force", "explore"]
