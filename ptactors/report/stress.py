"""What a stress campaign prints: each cell with what it fails by, and what all of them covered together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ptactors.campaign import mix
from ptactors.campaign.coverage import FEW, KINDS, Coverage, Estimate
from ptactors.campaign.stress import StressCampaign, TargetResult, left_out
from ptactors.campaign.verdict import HELD, INCONCLUSIVE, VIOLATED, worst
from ptactors.report.stress_document import never, verdict_of
from ptactors.report.summary import COLOURS, Paint, plain

STATES_SHOWN = 8
_WIDTH = 100


def head_lines(campaign: StressCampaign) -> Iterator[str]:
    """What is run; the same before and after, so that a failure can be made again from it."""
    plan = campaign.plan
    what = ", ".join(plan.paths) if plan.paths else f"random mixes from seed {plan.seed or 0}, {mix.SCHEDULES} schedules of each"
    yield f"Stress {what}; presets {', '.join(plan.presets)}"
    for reason, names in _by_reason(left_out(plan)).items():
        yield f"  left out: {', '.join(names)} ({reason})"
    if not plan.paths and mix.not_drawn():
        yield "  not drawn: " + "; ".join(f"{name} ({why})" for name, why in mix.not_drawn().items())


def _by_reason(table: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in table.items():
        found.setdefault(reason, []).append(name)
    return found


def cell_lines(campaign: StressCampaign, result: TargetResult, *, verbose: bool = False, paint: Paint = plain) -> Iterator[str]:
    """The lines of one cell."""
    tally, target = result.tally, result.target
    many = _many(tally.runs, "schedule")
    yield f"Cell {target.name}  {many}" + (f"  strategy {target.strategy}" if target.strategy else "")
    word = "Sometimes" if 0 < result.failing < tally.runs else "Always" if result.failing else "Unseen"
    yield f"Observation stress/{target.name} {word} {result.failing} {tally.runs - result.failing}"
    verdict = verdict_of(result)
    for why, seen in sorted(result.guilty.items()):
        yield f"  {paint(VIOLATED, COLOURS[VIOLATED])}: {why} in {seen.count} of {many}, first with seed {seen.seed}"
    if verdict == HELD:
        yield f"  {paint('held, sampled', COLOURS[HELD])}: no unexpected violation in {many}"
    if "limit" in tally.statuses:
        cut = f"{tally.statuses['limit'].count} of {many} did not run to their end: {tally.reasons['limit']}"
        yield f"  {paint(INCONCLUSIVE, COLOURS[INCONCLUSIVE])}: {cut}"
    for hazard, seen in sorted(result.excused.items()):
        says = ", ".join(campaign.known_of(hazard, target))
        yield f"  known: {hazard} in {seen.count} of {many}, as {says} says of {target.preset}"
    if verbose:
        yield from _details(result)


def _details(result: TargetResult) -> Iterator[str]:
    tally = result.tally
    for name, seen in sorted(tally.hazards.items()):
        yield f"  hazard {name}: in {seen.count} of {tally.runs}, first with seed {seen.seed}"
    for name, value in tally.summary().items():
        yield f"  metric {name}: {value}"
    states = sorted(tally.finals.items(), key=lambda item: (-item[1].count, item[1].seed))
    for state, seen in states[:STATES_SHOWN]:
        yield f"  {seen.count:>7} *> " + " ".join(f"{name}={value};" for name, value in state)
    if len(states) > STATES_SHOWN or tally.other_finals:
        yield f"          and {len(states) - STATES_SHOWN + bool(tally.other_finals)} more final states"


def coverage_lines(coverage: Coverage, *, verbose: bool = False, mixes: bool = True) -> Iterator[str]:
    """Branches, pairs and states: how many, how they grew, what is missing."""
    if not coverage.runs:
        return
    unit = "mix" if mixes else "schedule"
    yield f"Coverage of {_many(coverage.runs, 'schedule')} ({_many(coverage.units, unit)})"
    for kind in KINDS:
        estimate = coverage.estimate(kind)
        yield f"  {kind}: {_completeness(estimate, unit)}"
        points = coverage.growth(kind)
        yield "    growth " + " ".join(f"{runs}:{items}" for runs, items in (points if verbose else points[-6:]))
    rare = [f"{name} ({units})" for name, units in coverage.rare("branches")]
    yield from _listed(f"  rare branches (reached in at most {FEW} of {_many(coverage.units, unit)}): ", rare, verbose)
    if verbose:
        yield from _listed("  pairs met once: ", [name for name, units in coverage.rare("pairs") if units == 1], False)
    yield from _listed("  never reached: ", never(coverage), verbose)
    yield f"  estimates by Chao2, and by the share of draws that alone showed something, as if each {unit} were drawn alike"
    yield "  and by itself; of these presets, strategies and kinds of programs only"


def _completeness(estimate: Estimate, unit: str) -> str:
    more = f"at least {estimate.unseen:.0f} more by estimate"
    chance = f"{estimate.new:.2g}" if estimate.new else f"below {1 / estimate.units:.2g}"
    return f"{estimate.seen} seen, {more}; the next {unit} shows a new one with probability {chance}"


def _listed(head: str, items: list[str], whole: bool) -> Iterator[str]:
    """A list that fits one line, unless all of it is wanted."""
    if not items:
        return
    text = head
    for number, item in enumerate(items):
        if not whole and len(text) + len(item) > _WIDTH:
            yield text.rstrip(", ") + f" and {len(items) - number} more"
            return
        text += item + ", "
    yield text.rstrip(", ")


def last_line(campaign: StressCampaign, *, interrupted: bool, wanting: bool, paint: Paint = plain) -> str:
    """The verdict of everything."""
    verdicts = [verdict_of(result) for result in campaign.results]
    verdict = worst(verdicts + [INCONCLUSIVE] * (interrupted or wanting))
    told = ", ".join(f"{verdicts.count(v)} {v}" for v in (HELD, VIOLATED, INCONCLUSIVE) if v in verdicts)
    cut = " (interrupted)" if interrupted else " (not saturated)" if wanting else " (saturated)" if campaign.saturated else ""
    return f"Verdict: {paint(verdict, COLOURS[verdict])}{cut}; cells: {told}; schedules: {campaign.runs}"


def _many(count: int, what: str) -> str:
    plural = what + ("es" if what.endswith("x") else "s")
    return f"{count} {what if count == 1 else plural}"
