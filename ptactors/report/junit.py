"""JUnit XML of a campaign, for continuous integration: a suite for each scenario, a case for each expectation of each cell.

A violated expectation is a failure; an inconclusive one is an error, as nothing is known of what was to be tested. Hazards that
an ``exists`` expects are no failures, in contrast to ``log export --to junit``, which judges runs and knows no expectations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from ptactors.campaign.verdict import HELD, INCONCLUSIVE, VIOLATED, CellResult, ScenarioResult
from ptactors.report.document import Witness

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {VIOLATED: ("failure", "failures"), INCONCLUSIVE: ("error", "errors")}
"""Verdict -> the element that says so, and the attribute that counts it."""


def junit(scenarios: Sequence[ScenarioResult], witnesses: Mapping[tuple[str, int], Witness], interrupted: bool = False) -> str:
    """The whole document, without any time; ``witnesses`` by the scenario's name and the cell's number."""
    root = ElementTree.Element("testsuites", name="ptactors", tests="0", failures="0", errors="0")
    for scenario in scenarios:
        suite = ElementTree.SubElement(root, "testsuite", name=scenario.name, tests="0", failures="0", errors="0")
        for cell in scenario.cells:
            _cell(suite, cell, witnesses.get((scenario.name, cell.cell.index)))
        for goal in scenario.missed:
            _case(suite, scenario.name, f"coverage {goal}", INCONCLUSIVE, "never reached")
    if interrupted:
        suite = ElementTree.SubElement(root, "testsuite", name="ptactors", tests="0", failures="0", errors="0")
        _case(suite, "ptactors", "all cells are run", INCONCLUSIVE, "interrupted")
    for suite in root:
        for key in ("tests", "failures", "errors"):
            root.set(key, str(int(root.get(key, "0")) + int(suite.get(key, "0"))))
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _cell(suite: ElementTree.Element, result: CellResult, witness: Witness | None) -> None:
    name = f"{result.scenario}/{result.cell.index}"
    if result.cell.knobs:
        name += f" {result.cell.name}"
    for each in result.expectations:
        what = f"{each.kind} {each.condition}"
        _, _, words = each.sentence().partition(": ")
        replay = f"\n{witness.replay}" if witness is not None and witness.why == what else ""
        _case(suite, name, what, each.verdict, words, replay)
    for reason in result.reasons:
        _case(suite, name, "the cell is conclusive", INCONCLUSIVE, reason)


def _case(suite: ElementTree.Element, place: str, what: str, verdict: str, words: str, replay: str = "") -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(place), name=_clean(what))
    suite.set("tests", str(int(suite.get("tests", "0")) + 1))
    if verdict == HELD:
        ElementTree.SubElement(case, "system-out").text = _clean(words + replay)
        return
    tag, counter = _TAGS[verdict]
    suite.set(counter, str(int(suite.get(counter, "0")) + 1))
    ElementTree.SubElement(case, tag, type=verdict, message=_clean(words)).text = _clean(f"{verdict}: {what}: {words}{replay}")


def _clean(text: str) -> str:
    """XML has no way to write most control characters."""
    return _ILLEGAL.sub("\ufffd", text)
