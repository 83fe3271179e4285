"""JUnit XML, for continuous integration: a suite for each cell, a case for each run; a violation is a failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO
from xml.etree import ElementTree

from ptactors.analysis.judge import judge
from ptactors.log.read import LogState, SavedLog
from ptactors.model.hazard import Severity

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write one document of all logs; every log is judged by the oracles."""
    root = ElementTree.Element("testsuites", name="ptactors")
    suites: dict[str, ElementTree.Element] = {}
    for log in logs:
        name = _clean(f"{log.header.get('scenario', '?')} {log.header.get('cell') or '-'}")
        if name not in suites:
            suites[name] = ElementTree.SubElement(root, "testsuite", name=name, tests="0", failures="0", errors="0")
        _case(suites[name], log, name)
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites.values())))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    out.write(b"\n")


def _case(suite: ElementTree.Element, log: SavedLog, name: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=name, name=_clean(f"seed {log.header.get('seed', '?')}"))
    case.set("file", _clean(str(log.path)))
    _count(suite, "tests")
    findings = judge(log)
    violations = [finding for finding, severity in findings if severity is Severity.VIOLATION]
    if violations:
        _count(suite, "failures")
        failure = ElementTree.SubElement(case, "failure", type=violations[0].hazard, message=_clean(violations[0].what))
        failure.text = "\n".join(_clean(f"step {f.step}: {f.hazard}: {f.what}") for f in violations)
    if log.state is not LogState.COMPLETE:
        _count(suite, "errors")
        ElementTree.SubElement(case, "error", type=log.state.value, message=_clean(log.fault))
    conditions = [f for f, severity in findings if severity is Severity.CONDITION]
    if conditions:
        text = "\n".join(f"step {f.step}: {f.hazard} (condition): {f.what}" for f in conditions)
        ElementTree.SubElement(case, "system-out").text = _clean(text)


def _count(suite: ElementTree.Element, key: str) -> None:
    suite.set(key, str(int(suite.get(key, "0")) + 1))


def _clean(text: str) -> str:
    """XML has no way to write most control characters."""
    return _ILLEGAL.sub("�", text)
