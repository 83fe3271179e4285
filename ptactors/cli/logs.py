"""``ptactors log``: what saved logs tell."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ptactors.cli.main import DIVERGED, HELD, INCONCLUSIVE, USAGE, VIOLATED


@click.group("log")
def command() -> None:
    """Work with saved logs."""


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE...")
def check(files: tuple[Path, ...]) -> int:
    """Run every oracle on the events of saved logs.

    Exit codes: 0 no violation seen, 1 some seen, 2 not a log or damaged, 3 cut off before its end and nothing seen,
    4 written by a later version.
    """
    codes = [_check(path) for path in files]
    return next(code for code in (USAGE, DIVERGED, VIOLATED, INCONCLUSIVE, HELD) if code in codes)


def _check(path: Path) -> int:
    from ptactors.log.read import LogReadFault, LogState, SavedLog
    from ptactors.model.hazard import Severity
    from ptactors.oracle.table import HAZARDS, Oracles

    try:
        log = SavedLog(path)
    except LogReadFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return USAGE
    findings = Oracles.judge(log.records())
    head = log.header
    print(f"{path}: {head.get('scenario', '?')}  cell {head.get('cell', '?')}  seed {head.get('seed', '?')}")
    for finding in findings:
        print(f"  step {finding.step}: {finding.hazard} ({HAZARDS[finding.hazard].severity.value}): {finding.what}")
    if log.fault:
        print(f"error: {log.fault}", file=sys.stderr)
    if log.state is LogState.FUTURE:
        return DIVERGED
    if not findings:
        print("  no hazard" + ("" if log.state is LogState.COMPLETE else " in what can be read"))
    if log.state is LogState.CORRUPT:
        return USAGE
    if any(HAZARDS[f.hazard].severity is Severity.VIOLATION for f in findings):
        return VIOLATED
    return HELD if log.state is LogState.COMPLETE else INCONCLUSIVE
