"""The failure text: what a reader pastes into a mail. At most 80 columns but for the command line, no trailing spaces."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from ptactors.model.event import MemRead, MemWrite, OpBegin, PageFault, Register
from ptactors.model.hazard import Finding
from ptactors.model.state import Record
from ptactors.report.diagram import WIDTH, diagram

if TYPE_CHECKING:
    from ptactors.world import Outcome

_OURS = ("run", "access", "walk")
_RULE = "=" * 66


@attrs.frozen(kw_only=True)
class Story:
    """One run as far as the failure text needs it; both a live run and a saved log can give it."""

    scenario: str
    cell: str
    seed: int
    records: Sequence[Record]
    functions: Mapping[int, str]
    """Step -> ``inner <- caller <- ...``."""
    final: Sequence[tuple[str, int | str]] = ()


def story_of(outcome: Outcome) -> Story:
    """The story of a recorded run."""
    schedule = outcome.schedule
    return Story(
        scenario=schedule.scenario,
        cell=schedule.cell,
        seed=schedule.seed,
        records=outcome.records or (),
        functions=outcome.functions,
        final=outcome.final,
    )


def tell(story: Story, findings: Sequence[Finding], named: Sequence[str], expectation: tuple[str, str], replay: str) -> str:
    """The text for a run: of the first finding that is ``named``, else of the ``expectation`` (kind, condition)."""
    about = next((f for f in findings if f.hazard in named), None)
    if about is None:
        return broken_expectation(story, *expectation, replay)
    others = [f for f in findings if f is not about]
    return failure(story, about, replay, others)


def failure(story: Story, finding: Finding, replay: str, others: Sequence[Finding] = ()) -> str:
    """The text for a hazard that was seen; ``replay`` is the command line that shows it again."""
    steps = [step for step, _ in finding.history]
    head = [
        _title(finding.hazard, [story.functions.get(step, "") for step in [*steps, finding.step]]),
        *_wrap(f"scenario {story.scenario}  cell {story.cell or '-'}  seed {story.seed}  step {finding.step}", 1),
        *_wrap(finding.what, 0),
        *_stack(story.functions.get(finding.step, "")),
    ]
    for step, text in finding.history:
        head += _wrap(f"{text} (step {step})" if step > 0 else text, 1)
        head += _stack(story.functions.get(step, ""))
    named = re.findall(r"\bcpu(\d+)\b", " ".join([finding.what, *(text for _, text in finding.history)]))
    body = diagram(story.records, steps, finding.step, cpus=map(int, named))
    for other in others:
        body += _wrap(f"also in this run: {other.hazard} (step {other.step})", 1)
    return _block(head, body, replay)


def broken_expectation(story: Story, kind: str, condition: str, replay: str) -> str:
    """The text for an expectation that is violated by where the run ended, not by a hazard."""
    told = {"always": "is false in this run", "exists": "is true in this run"}.get(kind, "is true in this run")
    interesting = (OpBegin, Register, PageFault, MemRead, MemWrite)
    steps = [step for step, _, event in story.records if isinstance(event, interesting) and step > 0]
    last = max((step for step, _, _ in story.records), default=0)
    title = "EXPECTED" if kind == "exists" else "BUG"
    head = [
        f"{title}: {kind} expectation {'shown' if kind == 'exists' else 'violated'}",
        *_wrap(f"scenario {story.scenario}  cell {story.cell or '-'}  seed {story.seed}  step {last}", 1),
        *_wrap(f"{condition} {told}", 0),
        *_wrap("final state: " + "  ".join(f"{name}={value}" for name, value in story.final[:24]), 1),
    ]
    return _block(head, diagram(story.records, steps, -1), replay)


def _block(head: list[str], body: list[str], replay: str) -> str:
    lines = [_RULE, *head, *body]
    lines += [f" replay:  {replay}"] if len(replay) <= WIDTH - 10 else [" replay:", f"  {replay}"]
    return "\n".join(line.rstrip() for line in [*lines, _RULE])


def _title(hazard: str, stacks: Sequence[str]) -> str:
    inner = list(dict.fromkeys(_functions(stack)[0] for stack in reversed(stacks) if _functions(stack)))
    for count in (2, 1):
        text = f"BUG: {hazard} in {' / '.join(reversed(inner[:count]))}"
        if inner and len(text) <= WIDTH:
            return text
    return f"BUG: {hazard}"


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, WIDTH - 1, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    ) or [""]  # fmt: skip


def _functions(stack: str) -> list[str]:
    """The kernel's functions of a stack, without what is ours alone: helpers, operations, the CPU itself."""
    return [name for name in stack.split(" <- ") if name and not name.startswith(("_", "op_")) and name not in _OURS]


def _stack(stack: str) -> list[str]:
    names = _functions(stack)
    return _wrap(" <- ".join(names), 4) if names else []
