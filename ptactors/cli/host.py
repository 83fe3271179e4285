"""``ptactors host``: operations on this machine's real kernel, recordings of them, and the model held against either."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptactors.cli.host_compare import compare, fuzz
from ptactors.cli.host_words import words
from ptactors.cli.main import HELD, INCONCLUSIVE, VIOLATED

if TYPE_CHECKING:
    from ptactors.host.here import Shown
    from ptactors.host.probe import Host
    from ptactors.host.sequence import Observation, Step

_TABLES_SHOWN = 4
_OUTCOMES_SHOWN = 20


@click.group("host", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Hold the model against a real kernel: the same operations on both.

    run and record, and "compare --with live" and fuzz, make system calls of their own process on this machine: Linux, x86_64,
    no root needed. What a machine cannot do is said and skipped.
    """


@command.command("run", short_help="Make operations on this kernel; print what it did.")
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option("--runs", type=click.IntRange(1), default=20_000, show_default=True, help="Iterations of a race, at most.")
@click.option(
    "--time", "seconds", type=click.IntRange(1, 86_400), default=10, show_default=True, help="Seconds of a race, at most."
)
@click.option("--seed", type=click.IntRange(0, (1 << 56) - 1), default=0, show_default=True, help="Of the races' delays.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def run(names: tuple[str, ...], runs: int, seconds: int, seed: int, as_json: bool) -> int:
    """Make operations on this machine's kernel and print what it shows, in the simulator's terms.

    NAME is a recorded sequence or a scenario, FILE a scenario, a folder of them, or recordings (.jsonl). A scenario whose
    programs can run in one order only is a sequence: its operations are made one after the other in a fresh process, and page
    tables, mappings and faults are looked at after each. Any other is a race: its programs run on CPUs of their own, again and
    again after random delays, and how they ended is counted (this needs a C compiler). Runs are not deterministic.

    \b
    Exit codes: 0 nothing that an expectation forbids was seen, 1 it was, 2 usage, 3 nothing could be run.
    """
    from ptactors.campaign.names import known_names
    from ptactors.host import here
    from ptactors.host.probe import probe

    host = probe()
    effort = here.Effort(iterations=runs, seconds=seconds, seed=seed)
    if not as_json:
        print(_host_line(host))
    found = []
    for each in here.wanted(names, known_names()):
        found.append(here.run(each, host, effort))
        if not as_json:
            print("\n".join(_lines(found[-1])))
    if as_json:
        print(json.dumps(_document(host, found), indent=2))
    if any(judged.violated for shown in found for judged in shown.judged):
        return VIOLATED
    return INCONCLUSIVE if all(shown.skipped for shown in found) else HELD


@command.command("record", short_help="Make sequences on this kernel; write what it did.")
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE", help="Written anew."
)
@click.option("--times", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs that must agree.")
def record(names: tuple[str, ...], output: Path, times: int) -> int:
    """Make sequences on this machine's kernel and write what it showed, one JSON object a line.

    NAME and FILE are as for run; races have no recordings. A sequence whose runs do not agree is left out, with a word.

    \b
    Exit codes: 0 recorded, 2 usage, 3 nothing could be recorded.
    """
    from ptactors.campaign.names import known_names
    from ptactors.host import here
    from ptactors.host.probe import probe
    from ptactors.host.recordings import dump
    from ptactors.host.sequence import Recording

    host = probe()
    made: list[Recording] = []
    try:
        for each in here.wanted(names, known_names()):
            came = here.record(each, host, times)
            if isinstance(came, Recording):
                made.append(came)
                print(f"recorded  {came.name}: {len(came.steps)} operations")
            else:
                print(f"skipped  {came.name}: {came.skipped}")
    finally:  # an interrupt leaves what was recorded before it
        if made:
            dump(output, made)
            print(f"{len(made)} sequences in {output}")
    return HELD if made else INCONCLUSIVE


command.add_command(compare)
command.add_command(fuzz)
command.add_command(words)


def _host_line(host: Host) -> str:
    if host.reason:
        return f"This machine: nothing can be run: {host.reason}"
    kind = "frees emptied PTE pages" if host.kernel_class == "reclaim" else "keeps emptied PTE pages"
    return f"This machine: Linux {host.release}, {kind}, THP {host.thp or 'not built in'}, CPUs {host.cpus}"


def _lines(shown: Shown) -> Iterator[str]:
    if shown.skipped:
        yield f"skipped  {shown.name}: {shown.skipped}"
        return
    yield shown.name
    for seen in shown.observed:
        yield _observation_line(seen)
        yield from (f"    {_observation_line(each)}" for each in seen.child)
    if shown.histogram is None:
        return
    outcomes = shown.histogram.outcomes
    for state, count in outcomes[:_OUTCOMES_SHOWN]:
        yield f"  {count:>7} *> {' '.join(f'{name}={value};' for name, value in state) or 'nothing is read'}"
    if len(outcomes) > _OUTCOMES_SHOWN or shown.histogram.others:
        rest = sum(count for _, count in outcomes[_OUTCOMES_SHOWN:]) + shown.histogram.others
        yield f"  {rest:>7} in other ways"
    for each in shown.judged:
        verdict = "violated" if each.violated else "seen" if each.kind == "exists" and each.hits else "not seen"
        if each.kind == "always" and not each.violated:
            verdict = "held so far"
        yield f"  {verdict}: {each.kind} {each.condition}: {each.hits} of {each.iterations}"


def _observation_line(seen: Observation) -> str:
    faults = f"  faults {seen.faults}" if str(_plain(seen.step)[0]) in ("w", "r") else ""
    named = [f"{number}:{present}" + (f"+{marked} marked" if marked else "") for number, (present, marked) in seen.tables.items()]
    more = f" and {len(named) - _TABLES_SHOWN} more" if len(named) > _TABLES_SHOWN else ""
    tables = f"  pages {' '.join(named[:_TABLES_SHOWN])}{more}" if named else ""
    result = ",".join(map(str, seen.result)) if isinstance(seen.result, tuple) else seen.result
    return f"  {_step_text(seen.step):<36} {result!s:>8}  VmPTE {seen.vmpte_kb:>4} kB  Rss {seen.rss_kb:>6} kB{faults}{tables}"


def _plain(step: Step) -> Step:
    return step[1:] if step[0] == "t2" else step


def _step_text(step: Step) -> str:
    if step[0] == "fork":
        return f"fork ({len(step[1])} operations)"
    return " ".join(_size(word) if isinstance(word, int) else str(word) for word in step)


def _size(number: int) -> str:
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift}{unit}"
    return str(number)


def _document(host: Host, found: list[Shown]) -> dict[str, Any]:
    import attrs

    from ptactors import __version__
    from ptactors.host.recordings import observation_fields

    return {
        "tool": "ptactors",
        "version": __version__,
        "host": attrs.asdict(host),
        "results": [
            {
                "name": shown.name,
                "skipped": shown.skipped,
                "steps": [each.step for each in shown.observed],
                "observed": [observation_fields(each) for each in shown.observed],
                "iterations": shown.histogram.iterations if shown.histogram else 0,
                "outcomes": [{"count": n, "state": dict(s)} for s, n in (shown.histogram.outcomes if shown.histogram else ())],
                "expectations": [{**attrs.asdict(each), "violated": each.violated} for each in shown.judged],
            }
            for shown in found
        ],
    }
