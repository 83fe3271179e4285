"""``ptactors explain``: what a hazard hangs on, and what led to an entry, a table, a frame or a lock."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import click

from ptactors.cli.main import HELD
from ptactors.cli.recalling import make_again, recording_options
from ptactors.cli.shrink import Duration

if TYPE_CHECKING:
    from ptactors.explain.causes import Experiment
    from ptactors.shrink.recall import Run

_ORDERINGS = 10
"""Critical orderings that are printed; the document has them all."""


@click.command("explain")
@click.argument("recorded", metavar="TOKEN|FILE")
@recording_options
@click.option("--hazard", metavar="NAME", help="The hazard to explain; default: the first that an expectation names.")
@click.option(
    "--why",
    "subjects",
    multiple=True,
    metavar="WHAT",
    help="What led to tlb[cpu1][A+0x3000], pt[A], table[0x100004], frame[0x100001] or lock[pte:0x100004]; repeatable.",
)
@click.option("--step", type=click.IntRange(1), help="With --why: as it was after this step; default: at the hazard.")
@click.option("--time", "limit", type=Duration(), default="30s", show_default=True, help="When to stop experimenting.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    recorded: str, scenario: str | None, lenient: bool, hazard: str | None, subjects: tuple[str, ...], step: int | None,
    limit: float, as_json: bool,
) -> int:  # fmt: skip
    """Make a failing run again with one thing changed at a time, and tell what its hazard hangs on.

    A shrunk run has the clearest answers. With --why only the chains that were asked for are told, of any run.
    """
    from ptactors.explain.causes import Experiment
    from ptactors.shrink.trial import goal_of

    started = time.monotonic()
    run = make_again(recorded, scenario, lenient)
    if subjects:
        _chains(run, subjects, step, as_json)
        return HELD
    experiment = Experiment(run, goal_of(run, hazard))
    found = _Found(experiment, lambda: time.monotonic() - started > limit)
    if as_json:
        print(json.dumps(found.document(), indent=2, ensure_ascii=False))
    else:
        for line in found.lines():
            print(line)
    return HELD


def _chains(run: Run, subjects: tuple[str, ...], step: int | None, as_json: bool) -> None:
    from ptactors.explain.why import subject, why_lines

    abouts = [subject(text, run.recording.scenario) for text in subjects]
    findings = run.outcome.findings
    last = step or (findings[0].step if findings else run.outcome.steps)
    told = {about.text: list(why_lines(run, about, last)) for about in abouts}
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for lines in told.values():
        for line in lines:
            print(line)


class _Found:
    """The results of all experiments, made as they are told."""

    def __init__(self, experiment: Experiment, stop: Callable[[], bool]) -> None:
        self._experiment = experiment
        self._switches = list(experiment.switches())
        self._orderings = experiment.orderings(stop)
        self._chances = list(experiment.chances(stop))
        self._cut = stop()

    def document(self) -> dict[str, Any]:
        """For machines."""
        goal = self._experiment.goal
        return {
            "goal": {"hazard": goal.hazard, "role": goal.role, "condition": goal.condition},
            "step": self._experiment.last,
            "switches": [attrs.asdict(each) for each in self._switches],
            "orderings": [
                {**attrs.asdict(each), "steps": [self._step(each.first), self._step(each.second)]} for each in self._orderings
            ],
            "chances": [attrs.asdict(each) for each in self._chances],
            "complete": not self._cut,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        experiment = self._experiment
        yield f"{experiment.goal} at step {experiment.last}"
        finding = experiment.goal.finding(experiment.run.outcome)
        if finding is not None:
            yield from _wrapped(finding.what)
        yield ""
        yield from self._switch_lines()
        yield ""
        yield from self._ordering_lines()
        yield ""
        yield from self._chance_lines()
        if self._cut:
            yield "The time was up before everything was tried; --time gives it more."

    def _switch_lines(self) -> Iterator[str]:
        if not self._switches:
            yield "Switches: none was chosen; every actor went on until it had to wait or was done."
            return
        yield "Switches that were chosen, each taken back by itself:"
        for each in self._switches:
            how = f"{each.left} could go on" if each.preempts else f"nobody is preempted, {each.left} would be next"
            effect = "the hazard vanishes" if each.vanishes else "the hazard is there all the same"
            yield f"  step {each.step}: {each.taken} moves ({how}); without it {effect}"

    def _ordering_lines(self) -> Iterator[str]:
        if not self._orderings:
            yield "Critical orderings: no single pair of steps was found whose order alone decides."
            return
        yield "Critical orderings: the other way round there is no such hazard"
        for each in self._orderings[:_ORDERINGS]:
            yield f"  {self._step(each.first)}  before  {self._step(each.second)}"
        if len(self._orderings) > _ORDERINGS:
            yield f"  ... and {len(self._orderings) - _ORDERINGS} more"

    def _chance_lines(self) -> Iterator[str]:
        yield from textwrap.wrap(
            "Share of random continuations that meet the hazard (every open option equally likely, fixed seed; it says how the"
            " run closed in on the hazard, not how likely that is on a machine):", 79,
        )  # fmt: skip
        for each in self._chances:
            bar = "#" * (each.hits * 20 // each.samples)
            where = f"after {self._step(each.step)}" if each.step else "from the start"
            yield f"  {each.hits:>3} of {each.samples}  {bar:<20}  {where}"

    def _step(self, step: int) -> str:
        actor, _, label = self._experiment.turns[step - 1]
        return f"{actor} {label} ({step})"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 79, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
