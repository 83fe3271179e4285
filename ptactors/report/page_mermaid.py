"""A finding as a Mermaid sequence diagram, for READMEs and pages that render it."""

from __future__ import annotations

from collections.abc import Sequence

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.state import Record
from ptactors.report.describe import describe
from ptactors.report.page_cone import Cone

_TEXT = 70
_ESCAPES = {ord(c): f"#{ord(c)};" for c in '#;<>"`%{}&'}


def _words(text: str) -> str:
    """The text on one line, with what Mermaid or a browser would understand taken literally."""
    short = " ".join(text.split())
    return (short if len(short) <= _TEXT else short[: _TEXT - 1] + "…").translate(_ESCAPES)


def mermaid(records: Sequence[Record], cone: Cone, symbols: Symbols) -> str:
    """The lines of ``cone``'s story as notes over the CPUs, with the interrupts between them as arrows."""
    cpus = sorted({records[line.row][2].cpu for line in cone.story if records[line.row][2].cpu >= 0})
    senders = [records[line.row][2] for line in cone.story if type(records[line.row][2]) in (ev.IpiSend, ev.TlbFlush)]
    cpus = sorted({*cpus, *(target for send in senders for target in send.targets)})
    lines = ["sequenceDiagram", *(f"    participant cpu{cpu}" for cpu in cpus)]
    for each in cone.story:
        event = records[each.row][2]
        if event.cpu < 0 and not cpus:
            continue
        over = [event.cpu] if event.cpu >= 0 else dict.fromkeys((cpus[0], cpus[-1]))
        who = ",".join(f"cpu{cpu}" for cpu in over)
        step = f"step {each.step}: " if each.step > 0 else "before: "
        if type(event) is ev.IpiSend:
            lines += [f"    {who}-)cpu{target}: {_words(step + describe(event, symbols))}" for target in event.targets]
        else:
            lines.append(f"    Note over {who}: {_words(('HAZARD, ' if each.hazard else '') + step + each.text)}")
    return "\n".join(lines) + "\n"
