"""``ptactors rule``: what a name means."""

from __future__ import annotations

import textwrap

import click

from ptactors.cli.rule_pages import mentions, names, page
from ptactors.errors import UsageError
from ptactors.scenario.hints import holding, nearest, perhaps

_WIDTH = 80
_NEAR = 8
"""Names that an error proposes at most."""


@click.command("rule")
@click.argument("name")
def command(name: str) -> None:
    """Explain NAME: a hazard, a knob, a preset, an operation, a strategy, a scenario, or a word such as pmd, cell or hook.

    Of a hazard: what it means, where the kernel meets it, how it is avoided, which sample shows it. Of a knob: what it does, what
    it is in Linux, where presets turn it, and the hazards and scenarios that hang on it. A name of the kernel leads to pages that
    speak of it.
    """
    found = page(name)
    if found is None:
        raise UsageError(f"no page {name!r}; {_instead(name)}")
    print(textwrap.fill(found.head, _WIDTH) + "\n")
    print(textwrap.fill(found.text, _WIDTH))
    for title, text in found.rest:
        if text:
            print("\n" + textwrap.fill(f"{title}: {text}", _WIDTH, subsequent_indent="  ", break_long_words=False))


def _instead(name: str) -> str:
    """Where to look: names that hold it, pages that speak of it, else the nearest name."""
    every = names()
    longer = holding(name, every)[:_NEAR]
    spoken = [(kind, each) for kind, each in mentions(name) if each not in longer]
    hints = [perhaps(longer)] * bool(longer)
    if spoken:
        shown = ", ".join(f"{kind} {each}" for kind, each in spoken[:_NEAR])
        hints.append(f"it is spoken of by: {shown}{f' and {len(spoken) - _NEAR} more' if len(spoken) > _NEAR else ''}")
    near = nearest(name, every)
    return " ".join(hints) or (perhaps([near]) if near else "'ptactors list' has hazards, knobs, presets and more")
