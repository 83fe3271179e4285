"""``ptactors log``: what saved logs tell."""

from __future__ import annotations

from pathlib import Path

import click

from ptactors.cli.log_export import export
from ptactors.cli.log_open import CODES, LOGS, complain, open_logs
from ptactors.cli.log_query import diff, filter_lines, sql, story
from ptactors.cli.main import DIVERGED, HELD, INCONCLUSIVE, USAGE, VIOLATED


@click.group("log")
def command() -> None:
    """Work with saved logs.

    A log is a file of JSON lines that 'ptactors run' writes; jq, pandas and DuckDB read it without help. Where a command takes
    several FILEs, a folder stands for all logs below it.
    """


for each in (filter_lines, story, sql, diff, export):
    command.add_command(each)


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def check(files: tuple[Path, ...]) -> int:
    """Run every oracle on the events of saved logs.

    Exit codes: 0 no violation seen, 1 some seen, 2 not a log or damaged, 3 cut off before its end and nothing seen,
    4 written by a later version.
    """
    from ptactors.log.files import expand

    codes = [_check(path) for path in expand(files)]
    return next(code for code in (USAGE, DIVERGED, VIOLATED, INCONCLUSIVE, HELD) if code in codes)


def _check(path: Path) -> int:
    from ptactors.analysis.judge import judge_records
    from ptactors.log.read import LogReadFault, LogState, SavedLog
    from ptactors.model.hazard import Severity
    from ptactors.oracle.table import HAZARDS

    try:
        log = SavedLog(path)
        findings = judge_records(log, log.records())
    except LogReadFault as fault:
        complain(str(fault))
        return USAGE
    head = log.header
    print(f"{path}: {head.get('scenario', '?')}  cell {head.get('cell', '?')}  seed {head.get('seed', '?')}")
    for finding in findings:
        print(f"  step {finding.step}: {finding.hazard} ({HAZARDS[finding.hazard].severity.value}): {finding.what}")
    if log.fault:
        complain(log.fault)
    if log.state is LogState.FUTURE:
        return DIVERGED
    if not findings:
        print("  no hazard" + ("" if log.state is LogState.COMPLETE else " in what can be read"))
    if log.state is LogState.CORRUPT:
        return USAGE
    if any(HAZARDS[f.hazard].severity is Severity.VIOLATION for f in findings):
        return VIOLATED
    return HELD if log.state is LogState.COMPLETE else INCONCLUSIVE


@command.command("summary", epilog=CODES)
@LOGS
def summary(files: tuple[Path, ...]) -> int:
    """One screen about logs.

    Hazards, the commonest events, the longest locks, flushes and interrupts by reason, windows from a cleared pmd entry to the
    end of the flush, grace periods, faults. All times are in steps.
    """
    logs, code = open_logs(files)
    if logs:
        from ptactors.analysis.database import Database
        from ptactors.analysis.summary import lines, summarise

        with Database(logs) as database:
            for line in lines(summarise(database)):
                print(line)
    return code


@command.command("lnav")
def lnav() -> None:
    """Print the format file that teaches lnav to read logs.

    \b
      ptactors log lnav > ptactors.json && lnav -i ptactors.json
      ptactors log export --to lnav -o run.lnav.jsonl run.jsonl && lnav run.lnav.jsonl
    """
    from ptactors.log.lnav import format_file

    print(format_file(), end="")
