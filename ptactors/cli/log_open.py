"""The logs that a command line names, opened; what is wrong with them is said on stderr and by the exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptactors.cli.main import DIVERGED, HELD, INCONCLUSIVE, USAGE

if TYPE_CHECKING:
    from ptactors.log.read import SavedLog

LOGS = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
ONE_LOG = click.argument("file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
CODES = "Exit codes: 0 whole logs, 2 not a log or damaged, 3 cut off before its end, 4 written by a later version."


def open_logs(paths: Iterable[Path]) -> tuple[list[SavedLog], int]:
    """Every log that can be read at all, folders searched; and the worst of their exit codes."""
    from ptactors.log.files import expand, survey
    from ptactors.log.read import LogReadFault, LogState

    codes = {LogState.CORRUPT: USAGE, LogState.FUTURE: DIVERGED, LogState.TRUNCATED: INCONCLUSIVE}
    logs: list[SavedLog] = []
    worst: list[int] = []
    for path in expand(paths):
        try:
            log = survey(path)
        except LogReadFault as fault:
            complain(str(fault))
            worst.append(USAGE)
            continue
        logs.append(log)
        if log.fault:
            complain(log.fault + _note(log.state.value))
        worst.append(codes.get(log.state, HELD))
    return logs, next((code for code in (USAGE, DIVERGED, INCONCLUSIVE) if code in worst), HELD)


def open_log(path: Path) -> tuple[SavedLog, int]:
    """The one log; leaves with the exit code where nothing in it can be read."""
    logs, code = open_logs([path])
    if not logs:
        raise click.exceptions.Exit(code)
    return logs[0], code


def _note(state: str) -> str:
    if state == "future":
        return "; shown as far as this version understands it"
    return "; queries also see the lines after it that can be read" if state == "corrupt" else ""


def complain(text: str) -> None:
    """One sentence on stderr."""
    print(f"error: {text}", file=sys.stderr)
