"""The findings of a run as its page shows them: those of one record together, each with its story, its causes and its rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.model.state import Record
from ptactors.oracle.table import HAZARDS
from ptactors.report.page import clip
from ptactors.report.page_cone import Cone, Line, cone_of
from ptactors.report.page_notes import anchors, folded, notes
from ptactors.report.page_pair import Pair, hidden_tables, pair_of
from ptactors.report.page_setting import Ghost, ghosts
from ptactors.report.page_summary import Link, Teller, ran
from ptactors.report.page_why import Why, whys
from ptactors.report.page_words import SEVERITIES


@attrs.frozen(kw_only=True)
class Shown:
    """What is shown of one finding, and of others that the same record completed."""

    number: int
    """Its position among the run's findings."""
    finding: Finding
    twins: tuple[Finding, ...]
    """Other hazards that the same record completed."""
    cone: Cone
    summary: str
    twin: str
    """The pair as data; '' where it is none."""
    branches: tuple[tuple[str, tuple[Link, ...]], ...]
    ghosts: tuple[Ghost, ...]
    ran: tuple[tuple[str, int], ...]
    """Functions of the rule that ran here, each with its step."""

    @property
    def names(self) -> list[str]:
        """All hazards of this record."""
        return [self.finding.hazard, *(twin.hazard for twin in self.twins)]

    def telling(self, number_of: Mapping[int, str]) -> dict[str, Any]:
        """What the template needs."""
        oracle = HAZARDS[self.finding.hazard]
        return {
            "name": self.finding.hazard, "step": self.finding.step, "what": clip(self.finding.what, 400),
            "violation": oracle.severity.value == "violation", "severity": SEVERITIES[oracle.severity.value],
            "rule": oracle.rule, "source": oracle.source, "story": self._story(), "summary": self.summary, "twin": self.twin,
            "twins": [
                {"name": f.hazard, "what": clip(f.what, 400), "meaning": HAZARDS[f.hazard].rule.meaning} for f in self.twins
            ],
            "branches": self.branches, "ran": self.ran, "anchors": number_of,
        }  # fmt: skip

    def _story(self) -> list[Line | Ghost]:
        told: list[Line | Ghost] = [*self.cone.story]
        for ghost in self.ghosts:
            at = next((i for i, line in enumerate(told) if line.row >= ghost.row), len(told))
            told.insert(at, ghost)
        return told


class Reader:
    """Works out once what several findings of one run share."""

    def __init__(
        self, records: Sequence[Record], causes: Mapping[int, int], functions: Mapping[int, str], knobs: Mapping[str, Any]
    ) -> None:
        self.records = records
        self.functions = functions
        self.knobs = knobs
        self.symbols = Symbols.of(records)
        self.whys: list[Why | None] = whys(records, causes)
        self.notes = notes(records, self.symbols)
        self.hidden = hidden_tables(records)
        self.teller = Teller(records, self.symbols)

    def shown(self, findings: Sequence[Finding]) -> list[Shown]:
        """The findings, those of one record together."""
        cones = [cone_of(self.records, finding, self.symbols) for finding in findings]
        leads = [i for i, cone in enumerate(cones) if cone.row not in [c.row for c in cones[:i]]]
        return [
            self._one(i, findings[i], [f for f, c in zip(findings, cones, strict=True) if c.row == cones[i].row][1:], cones[i])
            for i in leads
        ]

    def anchors(self, shown: Sequence[Shown]) -> list[str]:
        """A fragment for each record."""
        return anchors(self.records, [each.cone.row for each in shown])

    def _one(self, number: int, finding: Finding, twins: list[Finding], cone: Cone) -> Shown:
        pair = pair_of(self.records, finding, cone.row)
        would = ghosts(finding.hazard, self.records, self.functions, self.knobs, cone.row, self.symbols)
        steps = [*(line.step for line in cone.story if line.row <= cone.row)]
        did = ran(HAZARDS[finding.hazard].rule.kernel, self.functions, steps)
        return Shown(
            number=number, finding=finding, twins=tuple(twins), cone=self.thin(cone, [ghost.row for ghost in would], pair),
            summary=self.teller.summary(finding, pair), twin=self.teller.twin(pair) if pair and twins else "",
            branches=tuple((title, tuple(links)) for title, links in self.teller.branches(pair, self.whys)) if pair else (),
            ghosts=tuple(would), ran=tuple(did),
        )  # fmt: skip

    def thin(self, cone: Cone, more: Sequence[int] = (), pair: Pair | None = None) -> Cone:
        """The cone without what only repeats, with what its causes need, and its story with this run's notes."""
        needed = [*more, *(attrs.astuple(pair)[1:] if pair else ())]
        rows = {*cone.rows, *(row for row in needed if row >= 0)}
        rows.update(walk for fault, walk in self.hidden.items() if fault in rows)
        story = tuple(attrs.evolve(line, gloss=self._gloss(line)) for line in cone.story)
        keep = dict.fromkeys([cone.row, *needed, *(line.row for line in story)])
        return attrs.evolve(cone, rows=folded(self.records, sorted(rows), [cone.row], keep), story=story)

    def _gloss(self, line: Line) -> str:
        note = self.notes.get(line.row, "")
        if not note:
            return line.gloss
        if type(self.records[line.row][2]) in (ev.TlbInvalidate, ev.PageFault):
            return note
        return f"{line.gloss}; {note}" if line.gloss else note
