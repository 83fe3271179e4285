"""``ptactors prove``: every interleaving of small scenarios, and what follows from it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.main import INTERRUPTED, interruption
from ptactors.cli.options import check_preset, parse_settings
from ptactors.errors import UsageError

if TYPE_CHECKING:
    from ptactors.campaign.prove import Progress
    from ptactors.campaign.run import Batch
    from ptactors.cli.prove_text import Witnesses
    from ptactors.engine.prove import Searched
    from ptactors.scenario.matrix import Cell
    from ptactors.world.prove import Proof

EXIT = {"held": 0, "violated": 1, "inconclusive": 3}


@click.command("prove")
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--set", "settings", multiple=True, metavar="KNOB=VALUE", help="Set a knob over the scenario; repeatable.")
@click.option("--preset", metavar="NAME", help="Use this kernel instead of the scenario's.")
@click.option("--cell", "only", multiple=True, metavar="NAME", help="Only this cell, by name or number; repeatable.")
@click.option("--max-states", type=click.IntRange(1), default=1_000_000, show_default=True, help="Where a search is cut off.")
@click.option("--preemptions", type=click.IntRange(0), metavar="N", help="Look only at paths with at most so many; default: all.")
@click.option(
    "--every-step", is_flag=True, help="In large searches too, stop between any two steps, even where nothing else matters."
)
@click.option(
    "--mutant",
    multiple=True,
    metavar="KNOB=VALUE",
    help="The fix, switched off, with which a never whose own knobs show nothing must show; repeatable: all at once.",
)
@click.option("--jobs", type=click.IntRange(1), default=None, help="Processes; default: one a CPU. Results do not depend on it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--log-dir", type=click.Path(path_type=Path), default=Path("logs"), help="Where witnesses go.", show_default=True)
def command(scenarios: tuple[str, ...], **options: Any) -> int:
    """Search scenarios exhaustively, cell by cell, and say what holds in all interleavings.

    "Never" is said only of a search that emptied, of the model and not of Linux, and only if the same search, within the same
    bounds, finds the hazard once the fix is switched off.
    """
    from ptactors import __version__
    from ptactors.campaign.prove import prove_cells
    from ptactors.campaign.run import Plan, prepare
    from ptactors.campaign.verdict import INCONCLUSIVE, worst
    from ptactors.cli.prove_text import document, keep, text
    from ptactors.scenario.load import find
    from ptactors.world.prove import Bounds

    overrides = tuple(parse_settings(options["settings"]).items())
    preset = check_preset(options["preset"])
    plans = [Plan(path=str(p), overrides=overrides, preset=preset, only=options["only"]) for p in find(scenarios)]
    batches = [prepare(plan) for plan in plans]
    bounds = Bounds(
        max_states=options["max_states"],
        preemptions=options["preemptions"],
        **({"fuse_from": None} if options["every_step"] else {}),
    )
    mutant = _mutant(options["mutant"])
    jobs = options["jobs"] or os.cpu_count() or 1
    done: list[tuple[Batch, Proof, Witnesses]] = []
    interrupted = False
    try:
        for batch, proof in prove_cells(batches, bounds, mutant, jobs, _progress):
            _wipe()
            witnesses = keep(batch.scenario, proof, options["log_dir"])
            done.append((batch, proof, witnesses))
            if not options["as_json"]:
                print("\n".join(text(batch.scenario, proof, witnesses)), flush=True)
    except KeyboardInterrupt as stop:
        interrupted = True
        _wipe()
        print(interruption(stop), file=sys.stderr)
    verdict = worst([answer.verdict for _, proof, _ in done for answer in proof.answers] + [INCONCLUSIVE] * interrupted)
    if options["as_json"]:
        begun = [batch for batch in batches if any(of is batch for of, _, _ in done)]
        documents = [document(batch.scenario, [(proof, kept) for of, proof, kept in done if of is batch]) for batch in begun]
        facts = {"tool": "ptactors", "version": __version__, "verdict": verdict, "interrupted": interrupted}
        print(json.dumps({**facts, "scenarios": documents}, indent=2))
    else:
        print(f"Verdict: {verdict}{' (interrupted)' * interrupted}; of the model, not of Linux")
    return INTERRUPTED if interrupted else EXIT[verdict]


def _mutant(settings: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    try:
        return tuple(parse_settings(settings).items())
    except UsageError as error:
        raise UsageError(str(error).replace("--set", "--mutant", 1)) from None


def _progress(cell: Cell) -> Progress | None:
    """Writes one line over and over on a terminal's stderr: how far the search is, its size as guessed, and the time left."""
    if not sys.stderr.isatty():
        return None
    from ptactors.engine.estimate import total_states

    start = time.monotonic()

    def show(searched: Searched, frontier: int) -> None:
        line = f"{cell.name}: {searched.states} states, {frontier} to go, depth {searched.deepest}"
        guess = total_states(searched.levels)
        if guess is not None:
            left = (time.monotonic() - start) * (guess / searched.states - 1)
            line += f"; about {guess:.1e} in all, {left:.0f} s left"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    return show


def _wipe() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
