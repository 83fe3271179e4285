"""The page of one run: what was asked, what was found and what that means, the picture, the state at every step, the table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors.analysis.judge import judge_records
from ptactors.log.read import SavedLog
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.model.state import Record
from ptactors.oracle.table import HAZARDS
from ptactors.report.failure import Story, broken_expectation, failure
from ptactors.report.page import clip, render
from ptactors.report.page_cone import Cone, cone_of, eventful
from ptactors.report.page_events import rows
from ptactors.report.page_finding import Reader, Shown
from ptactors.report.page_glossary import TERMS
from ptactors.report.page_mermaid import mermaid
from ptactors.report.page_setting import kernels, named_knobs

STYLES = ("base.css", "run.css")
_AREAS = 8
"""VMAs whose place the legend tells."""
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
    def knobs(self) -> dict[str, Any]:
        """The knobs of the run, as the header has them."""
        table = self.header.get("knobs")
        return table if isinstance(table, dict) else {}

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
        functions=functions, findings=_lead_first(judge_records(log, records), str(log.header.get("scenario"))),
        fault=log.fault.replace(f"{path}: ", "", 1),
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
    symbols = run.symbols
    cones = [cone_of(run.records, finding, symbols) for finding in run.findings] or [eventful(run.records, symbols)]
    return mermaid(run.records, cones[number], symbols)


def run_page(run: Run) -> str:
    """The HTML page."""
    reader = Reader(run.records, run.causes, run.functions, run.knobs)
    shown = reader.shown(run.findings)
    anchors = reader.anchors(shown)
    plain = reader.thin(eventful(run.records, reader.symbols))
    areas = [(e.mm, clip(e.vma), e.start, e.end) for _, _, e in run.records if type(e) is ev.VmaInit]
    data = {
        **rows(run.records, reader.whys, run.functions, reader.symbols, anchors),
        "actors": list(run.actors),
        "areas": areas,
        "notes": reader.notes,
        "terms": TERMS,
        "findings": [_picture(run, each, reader) for each in shown] or [_no_finding(run, plain, reader)],
        "found": bool(run.findings),
    }
    return render(
        "run.html", styles=STYLES, scripts=SCRIPTS, data=data, run=run, kernels=kernels(run.text("cell"), run.knobs),
        knobs=named_knobs(run.text("cell"), run.knobs), findings=[each.telling(dict(enumerate(anchors))) for each in shown],
        plain=plain, anchors=anchors, areas=[_area(*area[1:]) for area in areas[:_AREAS]], terms=TERMS, text=text_of(run),
        status=_status(run), count=len(run.records), last=run.records[-1][0] if run.records else 0,
    )  # fmt: skip


def _picture(run: Run, each: Shown, reader: Reader) -> dict[str, Any]:
    return {
        "hazard": each.names[0],
        "names": each.names,
        "row": each.cone.row,
        "rows": list(each.cone.rows),
        "ghosts": [[ghost.row, ghost.cpu, ghost.text] for ghost in each.ghosts],
        "branches": [[title, [[link.row, link.text] for link in links]] for title, links in each.branches],
        "text": text_of(run, each.number),
        "mermaid": mermaid(run.records, each.cone, reader.symbols),
    }


def _no_finding(run: Run, plain: Cone, reader: Reader) -> dict[str, Any]:
    return {
        "hazard": "", "names": [], "row": plain.row, "rows": list(plain.rows), "ghosts": [], "branches": [], "text": text_of(run),
        "mermaid": mermaid(run.records, plain, reader.symbols),
    }  # fmt: skip


def _area(name: str, start: int, end: int) -> str:
    """``A = 0x7f0000200000, 2 MiB``."""
    size, unit = end - start, "bytes"
    for bigger in ("KiB", "MiB", "GiB"):
        if size % 1024 or not size:
            break
        size, unit = size // 1024, bigger
    return f"{clip(name, 40)} = {start:#x}, {size} {unit}"


def _lead_first(findings: Sequence[Finding], scenario: str) -> list[Finding]:
    """Of the hazards of one step the one first that the scenario was written for."""
    steps = list(dict.fromkeys(finding.step for finding in findings))
    return sorted(findings, key=lambda f: (steps.index(f.step), HAZARDS[f.hazard].rule.scenario != scenario))


def _status(run: Run) -> str:
    status, reason = run.trailer.get("status", ""), run.trailer.get("reason", "")
    return "" if status in ("", "complete") else clip(f"{status}: {reason}", 400)


def _final(records: Sequence[Record]) -> list[tuple[str, int | str]]:
    last = {f"cpu{e.cpu}:{e.reg}": e.value for _, _, e in records if type(e) is ev.Register}
    return list(last.items())


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
