"""The page of one run: what was asked, what was found and what that means, the picture, the state at every step, the table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors.config import HARDWARE_NOTES, KERNEL_KNOBS, MACHINE_KNOBS, PRESET_NOTES
from ptactors.log.read import SavedLog
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.model.state import Record
from ptactors.oracle.table import HAZARDS, Oracles
from ptactors.report.failure import Story, broken_expectation, failure
from ptactors.report.page import clip, render
from ptactors.report.page_cone import Cone, cone_of, eventful
from ptactors.report.page_events import rows
from ptactors.report.page_mermaid import mermaid
from ptactors.report.page_why import whys
from ptactors.report.page_words import SEVERITIES

STYLES = ("base.css", "run.css")
SCRIPTS = ("machine.js", "spans.js", "lanes.js", "panel.js", "run.js")


@attrs.frozen(kw_only=True)
class Run:
    """A saved run, read and judged."""

    header: dict[str, Any]
    trailer: dict[str, Any]
    actors: tuple[str, ...]
    records: Sequence[Record]
    causes: dict[int, int]
    functions: dict[int, str]
    findings: Sequence[Finding]
    fault: str
    """What is wrong with the file; '' for a complete one."""

    @property
    def symbols(self) -> Symbols:
        """Names of addresses."""
        return Symbols.of(self.records)

    def text(self, name: str) -> str:
        """A field of the header as text; '' where an older log does not have it."""
        value = self.header.get(name, "")
        return value if isinstance(value, str) else str(value)

    @property
    def command(self) -> str:
        """The command line that makes this run again."""
        words = ["ptactors", "run", clip(self.text("scenario"))]
        if self.text("cell"):
            words += ["--cell", clip(self.text("cell"))]
        return shlex.join([*words, "--seed", self.text("seed"), "--runs", "1", "--strategy", clip(self.text("strategy"))])


def read_run(path: Path) -> Run:
    """Read a log as far as it can be read, and run every oracle over it. Raises LogReadFault."""
    log = SavedLog(path)
    records: list[Record] = []
    causes: dict[int, int] = {}
    functions: dict[int, str] = {}
    for record, line in log.lines():
        records.append(record)
        if isinstance(line.get("cause"), int):
            causes[record[0]] = line["cause"]
        if isinstance(line.get("fn"), str):
            functions[record[0]] = line["fn"]
    return Run(
        header=log.header, trailer=log.trailer, actors=tuple(clip(name) for name in log.actors), records=records, causes=causes,
        functions=functions, findings=Oracles.judge(records), fault=log.fault.replace(f"{path}: ", "", 1),
    )  # fmt: skip


def text_of(run: Run, number: int = 0) -> str:
    """The run as a text for mails: of the finding of that number, or of what happened if there is none."""
    story = Story(
        scenario=clip(run.text("scenario")), cell=clip(run.text("cell")), seed=_number(run.header.get("seed")),
        records=run.records, functions=run.functions, final=_final(run.records),
    )  # fmt: skip
    if run.findings:
        others = [f for i, f in enumerate(run.findings) if i != number]
        return failure(story, run.findings[number], run.command, others)
    return broken_expectation(story, "exists", "no hazard", run.command)


def mermaid_of(run: Run, number: int = 0) -> str:
    """The run as a Mermaid sequence diagram."""
    return mermaid(run.records, _cones(run)[number], run.symbols)


def run_page(run: Run) -> str:
    """The HTML page."""
    symbols = run.symbols
    cones = _cones(run)
    table = rows(run.records, whys(run.records, run.causes), run.functions, symbols)
    data = {
        **table,
        "actors": list(run.actors),
        "areas": [[e.mm, clip(e.vma), e.start, e.end] for _, _, e in run.records if type(e) is ev.VmaInit],
        "findings": [
            {
                "hazard": run.findings[i].hazard if run.findings else "",
                "row": cone.row,
                "rows": list(cone.rows),
                "text": text_of(run, i),
                "mermaid": mermaid(run.records, cone, symbols),
            }
            for i, cone in enumerate(cones)
        ],
        "found": bool(run.findings),
    }
    return render(
        "run.html", styles=STYLES, scripts=SCRIPTS, data=data, run=run, knobs=_knobs(run), notes=_notes(run),
        findings=[_finding(f, cone) for f, cone in zip(run.findings, cones, strict=False)], plain=cones[0],
        text=text_of(run), status=_status(run), count=len(run.records), last=run.records[-1][0] if run.records else 0,
    )  # fmt: skip


def _cones(run: Run) -> list[Cone]:
    symbols = run.symbols
    return [cone_of(run.records, finding, symbols) for finding in run.findings] or [eventful(run.records, symbols)]


def _finding(finding: Finding, cone: Cone) -> dict[str, Any]:
    oracle = HAZARDS[finding.hazard]
    return {
        "name": finding.hazard,
        "step": finding.step,
        "what": clip(finding.what, 400),
        "violation": oracle.severity.value == "violation",
        "severity": SEVERITIES[oracle.severity.value],
        "rule": oracle.rule,
        "source": oracle.source,
        "story": cone.story,
    }


def _knobs(run: Run) -> list[dict[str, str]]:
    """The knobs that the cell's name speaks of, with what they do."""
    known = {**KERNEL_KNOBS, **MACHINE_KNOBS}
    table = run.header.get("knobs")
    values: dict[str, Any] = table if isinstance(table, dict) else {}
    shown = []
    for name in re.findall(r"([A-Za-z_]\w*)=", run.text("cell")):
        if name in known:
            value = values.get(name, "")
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            shown.append({"name": name, "value": clip(text), "effect": known[name].metadata.get("effect", "")})
    return shown


def _notes(run: Run) -> list[tuple[str, str]]:
    """The presets that the cell's name speaks of: a kernel or a CPU, with what it is."""
    named = re.findall(r"(?:preset|hardware)=(\S+)", run.text("cell"))
    return [(name, notes[name]) for name in named for notes in (PRESET_NOTES, HARDWARE_NOTES) if name in notes]


def _status(run: Run) -> str:
    status, reason = run.trailer.get("status", ""), run.trailer.get("reason", "")
    return "" if status in ("", "complete") else clip(f"{status}: {reason}", 400)


def _final(records: Sequence[Record]) -> list[tuple[str, int | str]]:
    last = {f"cpu{e.cpu}:{e.reg}": e.value for _, _, e in records if type(e) is ev.Register}
    return list(last.items())


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
