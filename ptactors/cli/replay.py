"""``ptactors replay``: a recorded schedule made again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ptactors.cli.main import HELD, VIOLATED
from ptactors.cli.options import keeping, painter
from ptactors.cli.recalling import recording_of, recording_options, replay_line


@click.command("replay")
@click.argument("recorded", metavar="TOKEN|FILE")
@recording_options
@click.option("--log", type=click.Choice(["none", "all"]), default="all", show_default=True, help="Whether the log is written.")
@keeping()
def command(
    recorded: str, scenario: str | None, lenient: bool, log: str, host: str, log_dir: str, color: str, verbose: bool, quiet: bool
) -> int:
    """Make the run of a replay token or of a schedule file again, step by step, and show what was found in it.

    The same log is written as for the first run. A step that differs from the recording ends the replay with exit code 4, and so
    does a recording of another version or of a scenario that was changed. Exit code 1: this run violates an expectation.
    """
    from ptactors.campaign.again import judge_run, replay
    from ptactors.cli.clock import wall_facts
    from ptactors.report.failure import failure, story_of, tell

    facts = wall_facts()
    recording = recording_of(recorded, scenario, lenient)
    kept = replay(recording, host=host, folder=Path(log_dir) if log == "all" else None, facts=facts)
    paint = painter(color)
    violated = judge_run(recording, kept.outcome)
    schedule = recording.schedule
    if not quiet:
        where = f"{schedule.scenario}/{recording.cell.index}"
        print(f"Replay {where}  {schedule.cell}  seed {schedule.seed}  {kept.outcome.steps} steps")
        line = replay_line(
            recording, shlex.join(["ptactors", "replay", recorded, *(["--scenario", scenario] if scenario else [])])
        )
        story, findings = story_of(kept.outcome), kept.outcome.findings
        if violated:
            first = violated[0]
            print(tell(story, findings, first.hazards, (first.kind, first.condition), line))
        elif findings:
            print(failure(story, findings[0], line, findings[1:]))
        if kept.outcome.status != "complete":
            print(f"The run ended early: {kept.outcome.status}: {kept.outcome.reason}")
    if verbose:
        _details(kept.outcome, facts()["wall_seconds"])
    for each in violated:
        print(f"{paint('violated', 'red')}: {each.kind} {each.condition}")
    if kept.log is not None and not quiet:
        print(f"log: {kept.log}")
    verdict = paint("violated", "red") if violated else paint("held", "green")
    tolerated = "" if violated or not kept.outcome.findings else ", as its expectations let what was found pass"
    print(f"Verdict: {verdict} in this schedule{tolerated}; digest {kept.outcome.digest}")
    return VIOLATED if violated else HELD


def _details(outcome: Any, seconds: float) -> None:
    for name, value in sorted(outcome.metrics.items()):
        print(f"  metric {name}: {value}")
    for name, value in outcome.final:
        print(f"  final {name}={value}")
    print(f"Time: {seconds} s")
