"""``ptactors report``: the HTML page of a run or of a campaign."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ptactors.cli.main import DIVERGED, HELD, USAGE
from ptactors.errors import UsageError


@click.command("report")
@click.argument("file", type=click.Path(exists=True, path_type=Path), metavar="FILE")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT", help="The page's file.")
@click.option("--text", "form", flag_value="text", help="The text diagram instead of a page.")
@click.option("--mermaid", "form", flag_value="mermaid", help="A Mermaid sequence diagram instead of a page.")
@click.option("--with-runs", is_flag=True, help="Of a campaign: also a page for each witness, in a folder beside OUT.")
def command(file: Path, output: Path | None, form: str | None, with_runs: bool) -> int:
    """Make one self-contained HTML page of FILE.

    FILE is the log of a run (*.jsonl) or the schedule beside it, the document that 'ptactors run --json' or 'ptactors stress
    --json' printed, the folder of a stress campaign, or a folder of logs. A log that is cut off or damaged is shown as far as it
    can be read.
    """
    from ptactors.log.read import LogReadFault

    file = _log_of(file)
    try:
        if file.is_dir() or not _is_log(file):
            return _campaign(file, output, form, with_runs)
        return _run(file, output, form)
    except LogReadFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return USAGE


def _log_of(file: Path) -> Path:
    """A schedule stands for the log that was written beside it."""
    log = file.with_name(file.name.removesuffix(".schedule.json") + ".jsonl")
    return log if file.name.endswith(".schedule.json") and log.is_file() else file


def _is_log(file: Path) -> bool:
    """A log, by its first bytes: its name says nothing about a file that was renamed."""
    with file.open("rb") as opened:
        start = opened.read(64)
    return start.startswith(b'{"ev":') or not start.lstrip().startswith(b"{")


def _run(file: Path, output: Path | None, form: str | None) -> int:
    from ptactors.report.page_run import mermaid_of, read_run, run_page, text_of

    run = read_run(file)
    if run.fault:
        print(f"error: {file}: {run.fault}", file=sys.stderr)
    if not run.records:
        return DIVERGED if "use a later ptactors" in run.fault else USAGE
    if form is None:
        _write(_needed(output), run_page(run))
    else:
        text = mermaid_of(run) if form == "mermaid" else text_of(run) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            _write(output, text)
    return HELD


def _campaign(file: Path, output: Path | None, form: str | None, with_runs: bool) -> int:
    from ptactors.report.page_campaign import campaign_page, read_campaign, run_pages

    if form is not None:
        raise UsageError(f"--{form} takes the log of one run; {file} is none")
    out = _needed(output)
    campaign = read_campaign(file)
    pages: dict[str, Path] = {}
    if with_runs:
        for log, page in run_pages(campaign, out.with_suffix(".runs")):
            _write(page[0], page[1])
            pages[log] = page[0]
    _write(out, campaign_page(campaign, out, pages))
    return HELD


def _needed(output: Path | None) -> Path:
    if output is None:
        raise UsageError("say where the page goes: -o OUT.html")
    return output


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
