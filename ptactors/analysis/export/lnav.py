"""The log's own lines with a time in front, for lnav: it shows nothing without one, and takes none that is zero.

Step N is N microseconds after the first second of 1970. ``ptactors log lnav`` prints the format file that goes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import orjson

from ptactors.log.read import SavedLog


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write the one log."""
    (log,) = logs
    for fields in log.raw():
        seconds, rest = divmod(fields["step"], 1_000_000)
        minutes, second = divmod(seconds + 1, 60)
        hour, minute = divmod(minutes, 60)
        time = f"1970-01-{1 + hour // 24:02d}T{hour % 24:02d}:{minute:02d}:{second:02d}.{rest:06d}"
        out.write(orjson.dumps({"time": time, **fields}) + b"\n")
