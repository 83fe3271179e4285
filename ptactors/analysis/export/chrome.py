"""Chrome's Trace Event Format: one JSON document, for chrome://tracing, Speedscope and others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

from ptactors.analysis.export.timeline import BEGIN, COUNTER, END, INSTANT, marks, title
from ptactors.log.read import SavedLog


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write one document of all logs: a process for each."""
    out.write(b'{"displayTimeUnit":"ns","traceEvents":[')
    separator = b"\n"
    for number, log in enumerate(logs):
        for event in _events(log, number + 1):
            out.write(separator + orjson.dumps(event))
            separator = b",\n"
    out.write(b"\n]}\n")


def _events(log: SavedLog, pid: int) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": title(log.header)}}
    threads: dict[str, int] = {}
    for phase, track, name, time, fields in marks(log.raw()):
        tid = threads.get(track)
        if tid is None and phase != COUNTER:
            tid = threads[track] = len(threads) + 1
            shown = "set-up" if track == "-" else track
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": shown}}
            yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
        event: dict[str, Any] = {"ph": phase, "name": name, "pid": pid, "ts": time / 1000}
        if phase == COUNTER:
            event |= {"name": track, "args": {"value": fields["value"]}}
        else:
            event["tid"] = tid
        if phase == INSTANT:
            event["s"] = "t"
        if phase in (BEGIN, INSTANT):
            event["args"] = {key: value for key, value in fields.items() if key not in ("ev", "actor")}
        yield event


PHASES = (BEGIN, END, INSTANT, COUNTER, "M")
"""The phases that a document can have."""
