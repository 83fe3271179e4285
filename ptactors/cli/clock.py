"""What is not part of a run and so stands beside its log: when, where, with what, by which command."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any


def wall_facts() -> Callable[[], dict[str, Any]]:
    """Starts a clock; the function it returns gives the facts of now."""
    started = datetime.datetime.now(datetime.UTC)
    origin = time.monotonic()

    def facts() -> dict[str, Any]:
        return {
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.monotonic() - origin, 3),
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "command": shlex.join(["ptactors", *sys.argv[1:]]),
        }

    return facts
