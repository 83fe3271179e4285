"""``ptactors rule``: the page of a hazard."""

from __future__ import annotations

import textwrap

import click

from ptactors.errors import UsageError
from ptactors.scenario.hints import suggest

_WIDTH = 80


@click.command("rule")
@click.argument("name")
def command(name: str) -> None:
    """Explain the hazard NAME: what it means, where the kernel meets it, how it is avoided, which sample shows it."""
    from ptactors.oracle.table import HAZARDS

    if name not in HAZARDS:
        raise UsageError(f"no hazard {name!r}; {suggest(name, HAZARDS)}")
    oracle = HAZARDS[name]
    rule = oracle.rule
    print(f"{name} ({oracle.severity.value})\n")
    print(textwrap.fill(rule.meaning, _WIDTH))
    for title, text in (
        ("Kernel", rule.kernel),
        ("Avoided by", rule.avoided),
        ("Knobs", rule.knob),
        ("Sample", rule.scenario),
        ("Source", oracle.source),
    ):
        if text:
            print("\n" + textwrap.fill(f"{title}: {text}", _WIDTH, subsequent_indent="  ", break_long_words=False))
