"""``ptactors host words``: one race as a word a run, held against the words of a real kernel's trace."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import click

from ptactors.cli.main import HELD, INCONCLUSIVE, VIOLATED
from ptactors.cli.options import check_preset

if TYPE_CHECKING:
    from ptactors.scenario.matrix import Cell
    from ptactors.scenario.model import Scenario

_SHOWN = 10
STRATEGIES = ("run-length", "pos", "random")
"""Take turns, since each is good at other words."""


@click.command("words", short_help="Spell racing runs as words; compare with the model.")
@click.option("--runs", type=click.IntRange(1), default=300, show_default=True, help="Schedules.")
@click.option("--all", "everything", is_flag=True, help="The words of all interleavings instead: a million states, minutes.")
@click.option("--max-states", type=click.IntRange(1), default=2_000_000, show_default=True, help="Where --all is cut off.")
@click.option("--preset", metavar="NAME", help="The model's kernel, instead of that of the trace.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def words(runs: int, everything: bool, max_states: int, preset: str | None, as_json: bool) -> int:
    """Spell runs of MADV_DONTNEED against a write as words, and compare them with those traced on Linux 6.18.

    \b
    A recorded word that no schedule showed by itself is steered for, letter by letter.

    \b
    b enters madvise, D detaches the table, S sends the shootdown, L flushes itself, x returns;
    s starts to write, f faults, A allocates a table, M a page, w has stored, R ran the handler
    (r: while its CPU ran something else, which a trace of the process does not show).

    \b
    Exit codes: 0 the model has the five commonest words of the trace, and none of its own breaks
    a rule of real kernels; 1 not so; 3 the search was cut off.
    """
    from ptactors.campaign.names import known_names
    from ptactors.host import words as spelled
    from ptactors.scenario.load import find, load
    from ptactors.scenario.matrix import cells

    check_preset(preset)
    (path,) = find([spelled.SCENARIO])
    scenario = load(path, known_names())
    (cell,) = cells(scenario, {}, preset)
    complete = True
    if everything:
        found, searched = spelled.all_words(scenario, cell, max_states)
        counts, complete = Counter(sorted(found)), searched.complete
        how = f"{searched.states} states, {'all interleavings' if complete else 'cut off'}"
    else:
        counts, how = _sampled(scenario, cell, runs), f"{runs} schedules"
    broken = {each: rule for each in counts if (rule := spelled.broken_rule(each))}
    seen = Counter[str]()
    for each, count in counts.items():
        seen[spelled.observed(each)] += count
    steered = [] if everything else _steered(scenario, cell, [each for each in spelled.RECORDED if each not in seen])
    if as_json:
        document = {"words": dict(seen.most_common()), "steered": steered, "recorded": spelled.RECORDED, "broken": broken}
        print(json.dumps({**document, "searched": how}, indent=2))
    else:
        print("\n".join(_lines(seen, steered, broken, everything)))
        print(f"{len(seen)} words of the model under {cell.preset}: {how}; {len(broken)} break a rule of real kernels")
    missing = complete and not spelled.RECORDED.keys() <= {*seen, *steered}
    return VIOLATED if broken or missing else HELD if complete else INCONCLUSIVE


def _sampled(scenario: Scenario, cell: Cell, runs: int) -> Counter[str]:
    from ptactors.host.words import word
    from ptactors.world import play

    found = Counter[str]()
    for seed in range(runs):
        strategy = STRATEGIES[seed % len(STRATEGIES)]
        found[word(play(scenario, cell, strategy=strategy, seed=seed, record=True, host="direct").records or ())] += 1
    return found


def _steered(scenario: Scenario, cell: Cell, missing: list[str]) -> list[str]:
    from ptactors.host.steer import steered, with_unseen

    return [each for each in missing if steered(scenario, cell, with_unseen(each)) is not None]


def _lines(seen: Counter[str], steered: list[str], broken: dict[str, str], everything: bool) -> list[str]:
    from ptactors.host.words import ITERATIONS, RECORDED

    lines = [f"{'traced':>11}  {'model':>7}  word"]
    for each, count in RECORDED.items():
        model = "steered" if each in steered else _cell(seen[each], everything)
        lines.append(f"{count:>6}/{ITERATIONS}  {model:>7}  {each}")
    others = [(each, count) for each, count in seen.most_common() if each not in RECORDED]
    lines += [f"{'':>11}  {_cell(count, everything):>7}  {each}" for each, count in others[:_SHOWN]]
    if len(others) > _SHOWN:
        lines.append(f"{'':>11}  {'':>7}  and {len(others) - _SHOWN} more")
    return lines + [f"{each}: {rule}" for each, rule in broken.items()]


def _cell(count: int, everything: bool) -> str:
    return "no" if not count else "yes" if everything else str(count)
