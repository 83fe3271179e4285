"""``ptactors host compare`` and ``ptactors host fuzz``: the model held against a real kernel, recorded or this machine's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.main import HELD, INCONCLUSIVE, INTERRUPTED, VIOLATED
from ptactors.cli.options import check_preset
from ptactors.cli.shrink import Duration

if TYPE_CHECKING:
    from ptactors.host.compare import Comparison, Difference
    from ptactors.host.fuzz import Fuzzing


@click.command("compare", short_help="Hold the model against recordings, or this kernel.")
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@click.option(
    "--with",
    "source",
    type=click.Choice(["recorded", "live"]),
    default="recorded",
    show_default=True,
    help="What to compare with: recordings, or this machine's kernel.",
)
@click.option("--preset", metavar="NAME", help="The model's kernel, instead of that of the recording or of this machine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Only what differs, and the last line.")
def compare(names: tuple[str, ...], source: str, preset: str | None, as_json: bool, quiet: bool) -> int:
    """Run operation sequences through the model and compare what a real kernel showed after each operation.

    NAME is a recorded sequence, or "all" (the default); FILE is a file of recordings (.jsonl), or a scenario, a folder of
    scenarios or a scenario's name: those whose programs can run in one order only.

    \b
    Exit codes: 0 all agree, 1 a difference, 2 usage, 3 nothing could be compared.
    """
    from ptactors.host.probe import probe
    from ptactors.host.selection import with_live, with_recorded

    check_preset(preset)
    each = with_live(names, preset, probe()) if source == "live" else with_recorded(names, preset)
    found = []
    for comparison in each:
        found.append(comparison)
        if not as_json:
            _print(_lines(comparison, quiet))
    if as_json:
        print(json.dumps(_document(found), indent=2))
    else:
        print(_last_line(found))
    return _code(found)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _verdict(comparison: Comparison) -> str:
    if comparison.skipped:
        return "skipped"
    return "agrees" if comparison.agrees else "differs"


def _lines(comparison: Comparison, quiet: bool) -> list[str]:
    """One line, and below it what differs, known or not."""
    verdict = _verdict(comparison)
    if quiet and verdict != "differs":
        return []
    what = f"{comparison.name}, {comparison.kernel} against {comparison.preset}" if comparison.preset else comparison.name
    if comparison.skipped:
        return [f"{verdict}  {what}: {comparison.skipped}"]
    lines = [f"{verdict}  {what}: {comparison.operations} operations"]
    lines += [f"    {difference}" for difference in comparison.differences]
    lines += [f"    known: {difference} ({reason})" for difference, reason in comparison.known]
    lines += [f"    the model's oracle: {finding.hazard}: {finding.what}" for finding in comparison.findings]
    if comparison.status not in ("", "complete"):
        lines.append(f"    the model's run ended as {comparison.status}")
    return lines


def _counts(found: list[Comparison]) -> dict[str, int]:
    verdicts = [_verdict(comparison) for comparison in found]
    return {
        "compared": len(found) - verdicts.count("skipped"),
        "agree": verdicts.count("agrees"),
        "differ": verdicts.count("differs"),
        "skipped": verdicts.count("skipped"),
        "known": sum(len(comparison.known) for comparison in found),
    }


def _last_line(found: list[Comparison]) -> str:
    counts = _counts(found)
    known = f", {counts['known']} known differences" if counts["known"] else ""
    return (
        f"{counts['compared']} compared: {counts['agree']} agree, {counts['differ']} differ{known}; {counts['skipped']} skipped"
    )


def _code(found: list[Comparison]) -> int:
    counts = _counts(found)
    if counts["differ"]:
        return VIOLATED
    return HELD if counts["compared"] else INCONCLUSIVE


def _document(found: list[Comparison]) -> dict[str, Any]:
    from ptactors import __version__

    return {
        "tool": "ptactors",
        "version": __version__,
        **_counts(found),
        "sequences": [
            {
                "name": comparison.name,
                "kernel": comparison.kernel,
                "preset": comparison.preset,
                "verdict": _verdict(comparison),
                "operations": comparison.operations,
                "differences": [_fields(difference) for difference in comparison.differences],
                "known": [{**_fields(difference), "reason": reason} for difference, reason in comparison.known],
                "hazards": [{"hazard": finding.hazard, "what": finding.what} for finding in comparison.findings],
                "status": comparison.status,
                "skipped": comparison.skipped,
            }
            for comparison in found
        ],
    }


def _fields(difference: Difference) -> dict[str, Any]:
    return {
        "step": difference.number,
        "operation": difference.step,
        "field": difference.field,
        "model": difference.model,
        "kernel": difference.kernel,
    }


@click.command("fuzz", short_help="Draw sequences, make each here and in the model.")
@click.option("--time", "seconds", type=Duration(), help="Stop after so long; without --runs the only limit.")
@click.option("--runs", type=click.IntRange(1), help="So many sequences; 1000 if neither this nor --time is given.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed draws the same sequences.")
@click.option("--ops", type=click.IntRange(2, 100), default=10, show_default=True, help="The most operations of a sequence.")
@click.option("--preset", metavar="NAME", help="The model's kernel, instead of that of this machine.")
@click.option(
    "--save-as",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the smallest difference as a recording (.jsonl), for `ptactors host compare FILE`.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def fuzz(
    seconds: float | None, runs: int | None, seed: int, ops: int, preset: str | None, file: Path | None, as_json: bool
) -> int:
    """Draw arbitrary operation sequences, make each on this machine's kernel and in the model, and shrink the first difference.

    \b
    Exit codes: 0 no difference, 1 a difference, 2 usage, 3 this machine cannot do it.
    """
    from ptactors.host.fuzz import FOREVER, Fuzzer, hindrance
    from ptactors.host.probe import probe
    from ptactors.host.selection import preset_here

    check_preset(preset)
    host = probe()
    reason = host.reason or hindrance()
    if reason:
        print(f"nothing was compared: {reason}", file=sys.stderr)
        return INCONCLUSIVE
    model = preset or preset_here(host)
    until = time.monotonic() + seconds if seconds else None
    fuzzer = Fuzzer(model, host, until=until, heard=_tell if sys.stderr.isatty() else None)
    interrupted = False
    try:
        fuzzer.run(runs or (FOREVER if seconds else 1000), seed, ops)
    except KeyboardInterrupt:
        interrupted = True
    result = fuzzer.result
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if result.recording is not None and file is not None:
        from ptactors.host.recordings import dump

        dump(file, [result.recording])
    if as_json:
        print(json.dumps(_fuzz_document(result, model, seed), indent=2))
    else:
        _print(_fuzz_lines(result, model, seed, file))
    if interrupted:
        return INTERRUPTED
    if result.found:
        return VIOLATED
    return HELD if result.sequences else INCONCLUSIVE


def _tell(result: Fuzzing) -> None:
    print(f"\r{result.sequences} sequences, {result.operations} operations ", end="", file=sys.stderr, flush=True)


def _fuzz_lines(result: Fuzzing, model: str, seed: int, file: Path | None) -> list[str]:
    lines = [f"seed {seed}, preset {model}: {result.sequences} sequences with {result.operations} operations compared"]
    if result.unstable:
        lines.append(f"{result.unstable} left out: the kernel answered differently when asked again")
    if result.refused:
        lines.append(f"{result.refused} left out: {result.reason}")
    if result.found is None or result.recording is None:
        return [*lines, "no difference"]
    lines += ["the smallest difference:", *(f"    {json.dumps(step)}," for step in result.recording.steps)]
    lines += _lines(result.found, False)
    return [*lines, f"again:  ptactors host compare {file}" if file else "--save-as FILE keeps it as a recording"]


def _fuzz_document(result: Fuzzing, model: str, seed: int) -> dict[str, Any]:
    found = _document([result.found])["sequences"][0] if result.found else None
    return {
        "seed": seed,
        "preset": model,
        "sequences": result.sequences,
        "operations": result.operations,
        "unstable": result.unstable,
        "refused": result.refused,
        "steps": result.recording.steps if result.recording else None,
        "found": found,
    }
