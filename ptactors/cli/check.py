"""``ptactors check``: are these scenario files."""

from __future__ import annotations

import sys

import click

from ptactors.cli.main import HELD, USAGE
from ptactors.errors import ScenarioError


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
def command(files: tuple[str, ...], quiet: bool) -> int:
    """Read scenario FILES (files, folders or names) and report every error of each with line, column and a caret."""
    from ptactors.campaign.names import known_names
    from ptactors.scenario.load import find, load
    from ptactors.scenario.matrix import cells

    code = HELD
    for path in find(files):
        try:
            scenario = load(path, known_names())
            count = len(cells(scenario))
        except ScenarioError as error:
            print(error, file=sys.stderr)
            code = USAGE
            continue
        if not quiet:
            expected = len(scenario.expects)
            print(f"{path}: ok, {count} cell{'s' * (count != 1)}, {expected} expectation{'s' * (expected != 1)}")
    return code
