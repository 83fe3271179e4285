"""One call of ``ptactors stress``: the campaign begun or resumed, run, judged, and what failed kept."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ptactors.campaign import mix
from ptactors.campaign.journal import Journal, JournalFault, NothingToResume, identity_of, locked, pieces_of
from ptactors.campaign.known import known_violations
from ptactors.campaign.names import known_names
from ptactors.campaign.stress import PINNED, Saturation, StressCampaign, StressPlan, Target, source, targets_of
from ptactors.campaign.verdict import HELD, INCONCLUSIVE, SURPRISE, worst
from ptactors.campaign.witness import Kept, keep
from ptactors.cli.clock import wall_facts
from ptactors.cli.main import INTERRUPTED as EXIT_INTERRUPTED
from ptactors.cli.main import USAGE as EXIT_USAGE
from ptactors.cli.main import interruption
from ptactors.cli.options import Seeds, painter, parse_settings
from ptactors.cli.progress import Progress
from ptactors.cli.session import EXITS
from ptactors.errors import IncompatibleRecording, UsageError
from ptactors.log.write import LogWriteFault
from ptactors.report.failure import story_of, tell
from ptactors.report.stress import cell_lines, coverage_lines, head_lines, last_line
from ptactors.report.stress_document import Files, document, replay_command, verdict_of
from ptactors.scenario.load import find, load
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.scenario.shape import knob_text

DOCUMENT = "campaign.json"
SATURATION = Saturation(quiet=400, bound=0.02)
"""When --until-saturated is content."""


@attrs.frozen(kw_only=True)
class Request:
    """The command line, read."""

    scenarios: tuple[str, ...]
    presets: tuple[str, ...]
    runs: int | None
    limit: float | None
    """Seconds."""
    until_saturated: bool
    seed: Seeds | None
    strategy: str | None
    overrides: Mapping[str, Any]
    jobs: int
    resume: bool
    as_json: bool
    log: str
    first: bool
    host: str
    log_dir: Path
    color: str
    verbose: bool
    quiet: bool
    given: tuple[str, ...]
    """The options that were given and that say which campaign it is."""
    default_runs: int
    """Schedules of each preset, where no budget is given."""
    cap: int
    """Schedules of each cell at most, until saturated."""

    def identity(self) -> dict[str, Any]:
        """What says which campaign it is, as the journal has it."""
        return {
            "scenarios": [str(path) for path in find(self.scenarios)],
            "presets": list(self.presets),
            "runs": self.runs,
            "seed": [self.seed.first, self.seed.count] if self.seed else None,
            "strategy": self.strategy,
            "settings": {name: _word(value) for name, value in self.overrides.items()},
            "until_saturated": self.until_saturated,
            "first": self.first,
        }


def _word(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else knob_text(value)


class Session:
    """Carries out one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._facts = wall_facts()
        self._paint = painter(request.color)
        self._write_fault: LogWriteFault | None = None
        self._wanting = False

    def run(self) -> int:
        """The exit code. Raises PtactorsError for what the user got wrong."""
        with contextlib.ExitStack() as stack:
            if self._request.log == "none":
                return self._run(None, self._request.identity(), self._request.limit, stack)
            stack.enter_context(locked(self._request.log_dir))
            return self._run(*self._open(), stack)

    def _open(self) -> tuple[Journal, dict[str, Any], float | None]:
        """The journal, the campaign's identity, and for how long to go on."""
        request, folder = self._request, self._request.log_dir
        if request.resume:
            try:
                header = identity_of(folder)
            except NothingToResume as nothing:
                print(f"note: {nothing}; it begins now", file=sys.stderr)
            else:
                self._check(header["campaign"], folder)
                return Journal.again(folder), header, header["time"] if request.limit is None else request.limit
        header = self._header(request.identity(), request.limit)
        return Journal.begin(folder, header), header, request.limit

    def _header(self, campaign: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
        known = {f"{preset} {hardware}": dict(row) for (preset, hardware), row in known_violations().items()}
        return {"campaign": campaign, "time": limit, "digests": self._digests(campaign["scenarios"]), "known": known}

    def _digests(self, paths: Iterable[str]) -> dict[str, str]:
        return {path: load(path, known_names()).digest for path in paths}

    def _check(self, campaign: Mapping[str, Any], folder: Path) -> None:
        """Raises IncompatibleRecording if the options that were given are not those of the campaign."""
        mine = self._request.identity()
        for name in self._request.given:
            if mine[name] != campaign[name]:
                raise IncompatibleRecording(
                    f"the campaign in {folder} was begun with {name} {json.dumps(campaign[name])}, not {json.dumps(mine[name])}; "
                    "leave that out, or take another --log-dir"
                )

    # -- the campaign -----------------------------------------------------------------------------------------------------

    def _campaign(self, campaign: Mapping[str, Any], limit: float | None) -> StressCampaign:
        request = self._request
        first, count = campaign["seed"] or (None, None)
        plan = StressPlan(
            paths=tuple(campaign["scenarios"]), presets=tuple(campaign["presets"]), strategy=campaign["strategy"], seed=first,
            overrides=tuple(parse_settings(f"{name}={text}" for name, text in campaign["settings"].items()).items()),
            host=request.host,
        )  # fmt: skip
        runs, endless = campaign["runs"], limit is not None
        if count is not None:
            runs = count if plan.paths else count * mix.SCHEDULES
        elif runs is None and not endless:
            runs = request.cap if campaign["until_saturated"] else None if plan.paths else request.default_runs
        targets = targets_of(plan, runs, endless)
        if not targets:
            raise UsageError(f"there is nothing to run: of each scenario, {PINNED}")
        ends = None if limit is None else time.monotonic() + limit
        return StressCampaign(
            plan, targets, known=known_violations(), jobs=request.jobs, first=campaign["first"],
            saturation=SATURATION if campaign["until_saturated"] else None,
            stop=lambda: ends is not None and time.monotonic() >= ends,
        )  # fmt: skip

    def _run(self, journal: Journal | None, header: Mapping[str, Any], limit: float | None, stack: contextlib.ExitStack) -> int:
        request = self._request
        identity = header.get("campaign", header)
        campaign = self._campaign(identity, limit)
        if journal is not None:
            stack.callback(journal.close)
            self._restore(campaign, header)
        self._print(head_lines(campaign))
        interrupted, fault, handler = False, None, signal.getsignal(signal.SIGINT)
        total = None if limit is not None else sum(r.target.runs or 0 for r in campaign.results) - campaign.runs
        with Progress(total, wanted=not request.quiet) as progress:
            campaign.progress = lambda target, runs: progress.counted(target.name, runs)
            try:
                campaign.run(journal)
            except KeyboardInterrupt as stop:
                interrupted = True
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was done is printed, however often the key is hit
                if str(stop):
                    print(interruption(stop), file=sys.stderr)
            except JournalFault as error:
                fault = error
        try:
            self._wanting = identity["until_saturated"] and not campaign.saturated
            code = self._conclude(campaign, interrupted or fault is not None)
        finally:
            signal.signal(signal.SIGINT, handler)
        if fault is not None:
            print(f"error: {fault}; what is done is kept", file=sys.stderr)
        if journal is not None and (interrupted or fault is not None):
            print(f"resume: {shlex.join(['ptactors', 'stress', '--resume', '--log-dir', str(request.log_dir)])}", file=sys.stderr)
        return EXIT_INTERRUPTED if interrupted else EXIT_USAGE if fault is not None else code

    def _restore(self, campaign: StressCampaign, header: Mapping[str, Any]) -> None:
        """Merge what the journal has. Raises IncompatibleRecording if a scenario says something else now."""
        now = self._header(header["campaign"], header["time"])
        for name, what in (("digests", "a scenario of it"), ("known", "what the shipped scenarios say exists")):
            if json.loads(json.dumps(now[name])) != json.loads(json.dumps(header[name])):
                raise IncompatibleRecording(f"the campaign in {self._request.log_dir} cannot go on: {what} was changed")
        campaign.restore(pieces_of(self._request.log_dir))

    # -- the end ----------------------------------------------------------------------------------------------------------

    def _conclude(self, campaign: StressCampaign, interrupted: bool) -> int:
        request = self._request
        kept: dict[tuple[int, int], Files] = {}
        for result in campaign.results:
            if not request.quiet or verdict_of(result) != HELD:
                self._print(cell_lines(campaign, result, verbose=request.verbose, paint=self._paint))
        shown: dict[tuple[int, str], None] = {}
        for target, seed, why in campaign.failing:
            if (target.number, why[0]) not in shown:
                shown[target.number, why[0]] = None
                kept[target.number, seed] = self._witness(campaign, target, seed, why)
        if request.log == "all":
            for target, seed in _every(campaign):
                if (target.number, seed) not in kept:
                    kept[target.number, seed] = self._files(self._keep(campaign, target, seed), target, seed)
        if not request.quiet:
            self._print(coverage_lines(campaign.coverage, verbose=request.verbose, mixes=not campaign.plan.paths))
        text = json.dumps(document(campaign, kept, interrupted, self._wanting), indent=2, ensure_ascii=False)
        if request.log != "none" and not interrupted:
            self._save(request.log_dir / DOCUMENT, text + "\n")
        print(text if request.as_json else last_line(campaign, interrupted=interrupted, wanting=self._wanting, paint=self._paint))
        if request.verbose and not request.as_json:
            print(f"Time: {self._facts()['wall_seconds']} s")
        sys.stdout.flush()
        code = EXITS[worst([verdict_of(result) for result in campaign.results] + [INCONCLUSIVE] * self._wanting)]
        return EXIT_USAGE if self._write_fault and code == EXITS[HELD] else code

    def _witness(self, campaign: StressCampaign, target: Target, seed: int, why: tuple[str, ...]) -> Files:
        """Keep the first schedule that fails so, and tell what happened in it."""
        kept = self._keep(campaign, target, seed)
        replay = replay_command(campaign, target, seed)
        if kept.schedule is not None:
            replay = shlex.join(["ptactors", "replay", str(kept.schedule)])
        story, (kind, _, condition) = story_of(kept.outcome), why[0].partition(" ")
        expectation = (kind, condition) if condition else ("forbidden", SURPRISE)
        named = tuple(reason for reason in why if " " not in reason)
        self._print([tell(story, kept.outcome.findings, named, expectation, replay)])
        return self._files(kept, target, seed)

    def _keep(self, campaign: StressCampaign, target: Target, seed: int) -> Kept:
        """Make the schedule again; a log that cannot be written is told once, and the verdicts go on."""
        folder = None if self._request.log == "none" or self._write_fault else self._request.log_dir
        try:
            return self._again(campaign, target, seed, folder)
        except LogWriteFault as fault:
            self._write_fault = fault
            print(f"error: {fault}; no more logs are written", file=sys.stderr)
            return self._again(campaign, target, seed, None)

    def _again(self, campaign: StressCampaign, target: Target, seed: int, folder: Path | None) -> Kept:
        scenario, cell, _, strategy = source(campaign.plan, target, seed)
        if folder is not None and target.mix(seed) is not None:
            scenario, cell = self._written(campaign, target, seed, folder)
        place = folder / target.preset if folder is not None and target.path else folder
        return keep(
            scenario, cell, strategy=strategy, seed=seed, host=self._request.host, folder=place, facts=self._facts
        )  # fmt: skip

    def _written(self, campaign: StressCampaign, target: Target, seed: int, folder: Path) -> tuple[Scenario, Cell]:
        """A mix as a file of its own, so that it can be run, replayed and shrunk."""
        path, plan = _mix_file(folder, seed // target.size), campaign.plan
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(mix.text_of(seed // target.size, plan.presets, dict(plan.overrides)), encoding="utf-8")
        except OSError as error:
            raise LogWriteFault(path, error) from error
        scenario = load(path, known_names())
        return scenario, next(cell for cell in cells(scenario) if cell.preset == target.preset)

    def _files(self, kept: Kept, target: Target, seed: int) -> Files:
        folder = self._request.log_dir
        if kept.schedule is None or kept.log is None:
            return Files()
        file = None if target.path else _mix_file(folder, seed // target.size).relative_to(folder).as_posix()
        return Files(
            scenario=file,
            schedule=kept.schedule.relative_to(folder).as_posix(),
            log=kept.log.relative_to(folder).as_posix(),
        )

    def _save(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self._write_fault = LogWriteFault(path, error)
            print(f"error: {self._write_fault}", file=sys.stderr)

    def _print(self, lines: Iterable[str]) -> None:
        if not self._request.as_json:
            for line in lines:
                print(line)


def _mix_file(folder: Path, number: int) -> Path:
    name = mix.name_of(number)
    return folder / name / f"{name}.toml"


def _every(campaign: StressCampaign) -> Iterator[tuple[Target, int]]:
    """Every schedule that was made, cell by cell."""
    for result in campaign.results:
        left, turn = result.tally.runs, 0
        while left > 0:
            seeds = result.target.seeds(turn)
            yield from ((result.target, seed) for seed in seeds)
            left -= len(seeds)
            turn += 1
