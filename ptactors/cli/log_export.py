"""``ptactors log export``: logs in the formats of other tools."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs
import click

from ptactors.cli.log_open import CODES, LOGS, open_logs
from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.log.read import SavedLog


@attrs.frozen
class Exporter:
    """One format: one function ``export(logs, out)`` in a module of its own, imported when it is wanted."""

    module: str
    about: str
    """One line for the help."""
    many: bool = True
    """Whether it can hold several runs."""


def _mermaid(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    from ptactors.report.page_run import mermaid_of, read_run

    out.write(mermaid_of(read_run(logs[0].path)).encode())


EXPORTERS = {
    "perfetto": Exporter("ptactors.analysis.export.perfetto", "TrackEvent protocol buffers, for ui.perfetto.dev"),
    "chrome": Exporter("ptactors.analysis.export.chrome", "Trace Event JSON, for chrome://tracing"),
    "ftrace": Exporter("ptactors.analysis.export.ftrace", "the text of the kernel's trace file", many=False),
    "parquet": Exporter("ptactors.analysis.export.parquet", "a table of all events, for DuckDB, pandas and others"),
    "lnav": Exporter("ptactors.analysis.export.lnav", "its own lines with a time, for lnav; see 'ptactors log lnav'", many=False),
    "mermaid": Exporter("", "a sequence diagram of the first hazard, for READMEs", many=False),
    "junit": Exporter("ptactors.analysis.export.junit", "JUnit XML: a case for each run, judged by the oracles"),
}
"""Name -> exporter."""


def _list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, exporter in EXPORTERS.items():
            print(f"{name:<10} {exporter.about}{'' if exporter.many else '; one run'}")
        context.exit()


@click.command("export", epilog=CODES)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the formats.")
@click.option("--to", "name", required=True, type=click.Choice(list(EXPORTERS)), help="The format.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="OUT", help="The file to write."
)
@LOGS
def export(name: str, output: Path, files: tuple[Path, ...]) -> int:
    """Write logs in the format of another tool. A damaged log is exported as far as it can be read."""
    logs, code = open_logs(files)
    exporter = EXPORTERS[name]
    if not logs:
        return code
    if len(logs) > 1 and not exporter.many:
        raise UsageError(f"{name} shows one run; {len(logs)} logs were given")
    if any(output.exists() and output.samefile(log.path) for log in logs):
        raise UsageError(f"{output} is one of the logs; write to another file")
    write: Callable[[Sequence[SavedLog], BinaryIO], None] = _mermaid
    if exporter.module:
        write = importlib.import_module(exporter.module).export
    try:
        with output.open("wb") as out:
            write(logs, out)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from None
    return code
