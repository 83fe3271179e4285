"""``ptactors diff``: where two runs part."""

from __future__ import annotations

import click

from ptactors.cli.main import HELD, VIOLATED
from ptactors.cli.recalling import make_again


@click.command("diff")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--scenario", type=click.Path(dir_okay=False), metavar="FILE", help="The scenario's file, of both.")
@click.option("--lenient", is_flag=True, help="Go on where a recording does not fit any more.")
def command(one: str, other: str, scenario: str | None, lenient: bool) -> int:
    """Make the runs of two recordings (tokens or schedule files) again and tell the first step where they part, and why.

    Exit codes: 0 the runs are the same, 1 they part, 4 one of them cannot be made again.
    """
    from ptactors.explain.diff import diff_lines, part

    a, b = (make_again(each, scenario, lenient) for each in (one, other))
    parting = part(a, b)
    for line in diff_lines(a, b, parting):
        print(line)
    return HELD if parting is None else VIOLATED
