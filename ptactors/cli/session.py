"""One call of ``ptactors run``: plans made, cells run and printed as they come, witnesses kept, the verdict as exit code."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ptactors.campaign.again import Recording
from ptactors.campaign.run import Batch, Campaign, Plan, prepare
from ptactors.campaign.verdict import HELD, INCONCLUSIVE, SURPRISE, VIOLATED, CellResult, ScenarioResult, conclude, worst
from ptactors.campaign.witness import Kept, keep
from ptactors.cli.clock import wall_facts
from ptactors.cli.main import HELD as EXIT_HELD
from ptactors.cli.main import INCONCLUSIVE as EXIT_INCONCLUSIVE
from ptactors.cli.main import INTERRUPTED as EXIT_INTERRUPTED
from ptactors.cli.main import USAGE as EXIT_USAGE
from ptactors.cli.main import VIOLATED as EXIT_VIOLATED
from ptactors.cli.main import interruption
from ptactors.cli.options import Seeds, painter
from ptactors.cli.progress import Progress
from ptactors.cli.recalling import replay_line
from ptactors.cli.selfcheck import SelfCheck
from ptactors.cli.shrinking import Shrinker
from ptactors.errors import Diagnostic, ScenarioError, UsageError
from ptactors.log.write import LogWriteFault
from ptactors.report.document import Witness, document
from ptactors.report.failure import story_of, tell
from ptactors.report.junit import junit
from ptactors.report.summary import cell_lines, hazard_lines, last_line, scenario_lines
from ptactors.scenario.load import find

EXITS = {HELD: EXIT_HELD, VIOLATED: EXIT_VIOLATED, INCONCLUSIVE: EXIT_INCONCLUSIVE}


@attrs.frozen(kw_only=True)
class Request:
    """The command line, read."""

    scenarios: tuple[str, ...]
    seeds: Seeds | None
    runs: int | None
    budget: str
    strategy: str | None
    overrides: Mapping[str, Any]
    preset: str | None
    only: tuple[str, ...]
    jobs: int
    as_json: bool
    junit: Path | None
    """Where JUnit XML goes; None: nowhere."""
    log: str
    log_dir: Path
    first: bool
    host: str
    color: str
    verbose: bool
    quiet: bool
    shrink: float
    """Seconds for which each of the first failures is shrunk; 0: none is."""

    def plan(self, path: Path) -> Plan:
        """What this command line wants of one scenario."""
        return Plan(
            path=str(path),
            overrides=tuple(self.overrides.items()),
            preset=self.preset,
            only=self.only,
            strategy=self.strategy,
            seed=self.seeds.first if self.seeds else None,
            runs=(self.seeds.count if self.seeds else None) or self.runs,
            full=self.budget == "full",
            exact=self.log == "all" or (self.seeds is not None and self.seeds.count is not None),
            host=self.host,
        )


class Session:
    """Carries out one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._facts = wall_facts()
        self._paint = painter(request.color)
        self._done: dict[str, list[CellResult]] = {}
        self._witnesses: dict[tuple[str, int], Witness] = {}
        self._write_fault: LogWriteFault | None = None
        self._check = SelfCheck(request.host)
        self._shrinker = Shrinker(request.shrink)

    def run(self) -> int:
        """The exit code. Raises PtactorsError for what the user got wrong."""
        batches = self._prepare()
        request = self._request
        interrupted, handler = False, signal.getsignal(signal.SIGINT)
        total = sum(batch.runs for batch in batches for _ in batch.cells)
        with Progress(total, wanted=not request.quiet) as progress:
            campaign = Campaign(batches, jobs=request.jobs, first=request.first, progress=progress.advance)
            try:
                for batch, result in self._results(batches, campaign):
                    with progress.paused():
                        self._finish(batch, result)
            except KeyboardInterrupt as stop:
                interrupted = True
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was done is printed, however often the key is hit
                if str(stop):
                    print(interruption(stop), file=sys.stderr)
                rest = campaign.interrupted()
                if rest is not None:
                    self._done.setdefault(rest.scenario, []).append(rest)
                    self._print(cell_lines(rest, verbose=request.verbose, quiet=request.quiet, paint=self._paint))
        try:
            return self._conclude(batches, interrupted)
        finally:
            signal.signal(signal.SIGINT, handler)

    def _prepare(self) -> list[Batch]:
        """Every scenario, read; the errors of all files at once."""
        batches: list[Batch] = []
        wrong: list[Diagnostic] = []
        for path in find(self._request.scenarios):
            try:
                batches.append(prepare(self._request.plan(path)))
            except ScenarioError as error:
                wrong += error.diagnostics
        if wrong:
            raise ScenarioError(tuple(wrong))
        if not any(batch.cells for batch in batches):
            raise UsageError("there is nothing to run")
        names = [batch.scenario.name for batch in batches]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"two of these files are scenarios of the name {twice!r}; run them one by one")
        return batches

    def _results(self, batches: list[Batch], campaign: Campaign) -> Iterator[tuple[Batch, CellResult]]:
        by_name = {batch.scenario.name: batch for batch in batches}
        for result in campaign.results():
            self._done.setdefault(result.scenario, []).append(result)
            yield by_name[result.scenario], result

    def _finish(self, batch: Batch, result: CellResult) -> None:
        """Print one cell, and keep what shows what was found."""
        request = self._request
        if not request.quiet or result.verdict != HELD:
            self._print(cell_lines(result, verbose=request.verbose, quiet=request.quiet, paint=self._paint))
        witness = result.witness()
        if request.log == "all":
            for seed in range(result.seed, result.seed + result.tally.runs):
                self._keep(batch, result, seed)
        if witness is None:
            self._check.look(batch, result, None)
            return
        seed, why = witness
        kept = self._keep(batch, result, seed)
        self._check.look(batch, result, kept)
        recording = Recording(schedule=kept.outcome.schedule, scenario=batch.scenario, cell=result.cell)
        told = result.verdict == VIOLATED or (request.verbose and not request.quiet)
        replay = self._replay_command(batch, result, seed, kept)
        if told:
            replay = replay_line(recording, replay)
        self._witnesses[result.scenario, result.cell.index] = Witness(
            seed=seed,
            why=why,
            replay=replay,
            schedule=str(kept.schedule) if kept.schedule else None,
            log=str(kept.log) if kept.log else None,
        )
        if told:
            self._print([failure_text(result, kept, replay)])
        elif not request.quiet:
            self._print([f"  witness of {why}: {replay}"])
        if result.verdict == VIOLATED:
            self._shrink(recording, why, replay, kept)

    def _shrink(self, recording: Recording, why: str, replay: str, kept: Kept) -> None:
        """Make the failure small; with --json only the file of it remains."""
        place = kept.log.with_name(f"seed-{recording.schedule.seed}-min.toml") if kept.log is not None else None
        if place is None and self._request.as_json:
            return
        try:
            self._print(list(self._shrinker.lines(recording, why, replay, place)))
        except OSError as error:
            print(f"error: the shrunk scenario cannot be written: {place}: {error.strerror or error}", file=sys.stderr)

    def _keep(self, batch: Batch, result: CellResult, seed: int) -> Kept:
        """Make the run again; a log that cannot be written is told once, and the verdicts go on."""
        folder = None if self._request.log == "none" or self._write_fault else self._request.log_dir

        def again(folder: Path | None) -> Kept:
            return keep(
                batch.scenario, result.cell, strategy=result.strategy, seed=seed, host=self._request.host,
                folder=folder, facts=self._facts,
            )  # fmt: skip

        try:
            return again(folder)
        except LogWriteFault as fault:
            self._write_fault = fault
            print(f"error: {fault}; no more logs are written (--log none runs without them)", file=sys.stderr)
            return again(None)

    def _replay_command(self, batch: Batch, result: CellResult, seed: int, kept: Kept) -> str:
        if kept.schedule is not None:
            return shlex.join(["ptactors", "replay", str(kept.schedule)])
        words = ["ptactors", "run", batch.plan.path, "--seed", str(seed), "--runs", "1", "--strategy", result.strategy]
        if self._request.preset:
            words += ["--preset", self._request.preset]
        for name, value in self._request.overrides.items():
            words += ["--set", f"{name}={_knob_word(value)}"]
        if len(batch.cells) > 1 or self._request.only:
            words += ["--cell", result.cell.name]
        return shlex.join(words)

    def _conclude(self, batches: list[Batch], interrupted: bool) -> int:
        scenarios: list[ScenarioResult] = []
        for batch in batches:
            cells = self._done.get(batch.scenario.name, [])
            if cells:
                whole = len(cells) == len(batch.cells) and not interrupted and not batch.plan.only
                goals = batch.scenario.coverage if whole else ()
                scenarios.append(conclude(batch.scenario.name, batch.scenario.digest, cells, goals))
                self._print(scenario_lines(scenarios[-1], paint=self._paint))
        unwritten = not self._write_junit(scenarios, interrupted)
        if self._request.as_json:
            print(json.dumps(document(scenarios, self._witnesses, interrupted), indent=2, ensure_ascii=False))
        else:
            if not self._request.quiet:
                self._print(hazard_lines(scenarios))
            print(last_line(scenarios, interrupted=interrupted, paint=self._paint))
            if self._request.verbose:
                steps = sum(cell.tally.steps for s in scenarios for cell in s.cells)
                seconds = self._facts()["wall_seconds"]
                print(f"Time: {seconds} s, {steps} steps, {steps / max(seconds, 0.001):.0f} steps a second")
        sys.stdout.flush()
        if interrupted:
            return EXIT_INTERRUPTED
        code = EXITS[worst([s.verdict for s in scenarios])]
        return EXIT_USAGE if (self._write_fault or unwritten) and code == EXIT_HELD else code

    def _write_junit(self, scenarios: list[ScenarioResult], interrupted: bool) -> bool:
        """Whether the file that was asked for is there; the verdicts are printed all the same."""
        path = self._request.junit
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(junit(scenarios, self._witnesses, interrupted), encoding="utf-8")
        except OSError as error:
            print(f"error: --junit: {path}: {error.strerror or error}", file=sys.stderr)
            return False
        return True

    def _print(self, lines: Iterator[str] | list[str]) -> None:
        if not self._request.as_json:
            for line in lines:
                print(line)


def _knob_word(value: object) -> str:
    """A typed knob as ``--set`` takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(getattr(value, "value", value))


def failure_text(result: CellResult, kept: Kept, replay: str) -> str:
    """The text for a cell's witness: of the hazard it is about, else of the expectation."""
    story = story_of(kept.outcome)
    shown = [i for i, each in enumerate(result.expectations) if each.seed == story.seed]
    number = next((i for i in shown if result.expectations[i].verdict == VIOLATED), shown[0] if shown else -1)
    if 0 <= number < len(result.cell.expects):
        named = result.cell.expects[number].condition.hazards()
        expectation = result.expectations[number].kind, result.expectations[number].condition
    else:
        named = tuple(result.tally.surprises) or tuple(result.tally.hazards)
        expectation = "forbidden", SURPRISE
    return tell(story, kept.outcome.findings, named, expectation, replay)
