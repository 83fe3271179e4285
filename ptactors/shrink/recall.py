"""From a token or a schedule file back to a run, and from a run to its token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ptactors import __version__
from ptactors.campaign.again import Recording, recorded
from ptactors.campaign.names import known_names
from ptactors.campaign.single import single_error
from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, PRESETS
from ptactors.engine import token as tokens
from ptactors.engine.choices import CallbacksFirst, Choices, Decision, Follow, Noted
from ptactors.engine.schedule import Schedule
from ptactors.engine.strategy.base import Strategy
from ptactors.engine.strategy.replay import Replay
from ptactors.engine.strategy.table import STRATEGIES
from ptactors.engine.token import Token
from ptactors.errors import IncompatibleRecording, ReplayDivergence
from ptactors.model.state import State
from ptactors.scenario.load import load
from ptactors.scenario.matrix import Cell, cells
from ptactors.scenario.model import Scenario
from ptactors.world import Outcome, play
from ptactors.world.machine import Hook

Locate = Callable[[Schedule], Path]
"""Finds the scenario's file by what a recording says of it."""
_KNOBS: dict[str, Any] = {**KERNEL_KNOBS, **MACHINE_KNOBS}


@attrs.frozen(kw_only=True)
class Run:
    """A run that was made again."""

    recording: Recording
    outcome: Outcome
    decisions: tuple[Decision, ...]
    """Its decision points."""
    notes: tuple[str, ...] = ()
    """What a lenient replay let pass."""


def recall(text: str, locate: Locate, *, lenient: bool = False, record: bool = True) -> Run:
    """The run that a token or the path of a schedule file means, made again; recorded if that is asked for.

    Raises OSError, ScenarioError, IncompatibleRecording and ReplayDivergence; a lenient one goes on instead wherever it can, with
    a note: a token's choices as far as they go and then the canonical tail, a file's turns in their order as far as they exist.
    """
    notes: list[str] = []
    if means_token(text):
        token = tokens.read(text)
        scenario, cell = _cell_of_token(token, locate, notes if lenient else None)
        strategy = _strategy_name(token)
        made = perform(scenario, cell, Choices(token.choices, lenient=lenient), strategy, token.seed, record=record)
        _compare(token, made.outcome, notes if lenient else None)
        return attrs.evolve(made, notes=tuple(notes))
    if not lenient:
        recording = recorded(Path(text), locate)
        schedule = recording.schedule
        by = Replay(schedule)
        made = perform(recording.scenario, recording.cell, by, schedule.strategy, schedule.seed, record=record)
        return attrs.evolve(made, recording=recording)
    schedule = Schedule.load(Path(text))
    scenario = load(locate(schedule), known_names())
    cell = _nearest_cell(scenario, schedule, notes)
    if schedule.version != __version__:
        notes.append(f"recorded by ptactors {schedule.version}, this is {__version__}")
    if schedule.digest != scenario.digest:
        notes.append(f"scenario {scenario.path} was changed since the recording")
    made = perform(scenario, cell, Follow(schedule.turns), schedule.strategy, schedule.seed, record=True)
    again = made.outcome.schedule.turns
    if again != schedule.turns:
        same = next((i for i, (a, b) in enumerate(zip(again, schedule.turns, strict=False)) if a != b), len(again))
        notes.append(f"the run is that of the recording for {same} of its {len(schedule.turns)} steps")
    return attrs.evolve(made, notes=tuple(notes))


def means_token(text: str) -> bool:
    """Whether the text is meant to be a token, be it a damaged one: no file of that name is there, and it has a token's dots."""
    return tokens.is_token(text) or (text.count(".") >= 4 and "/" not in text and not Path(text).exists())


def perform(
    scenario: Scenario,
    cell: Cell,
    by: Strategy,
    strategy: str,
    seed: int,
    *,
    record: bool = True,
    bound: bool = False,
    watch: Sequence[Callable[[State], Hook]] = (),
) -> Run:
    """Make a run that ``by`` chooses; ``strategy`` and ``seed`` say where it comes from. Raises ReplayDivergence.

    ``bound``: by is asked only where the scenario leaves a choice (callbacks that must run early are no choice).
    """
    noted = Noted(by)
    early = bound and scenario.fault.rcu_callbacks == "early"
    chooser = CallbacksFirst(noted) if early else noted
    with single_error():
        outcome = play(scenario, cell, strategy=strategy, seed=seed, host="direct", record=record, by=chooser, watch=watch)
    recording = Recording(schedule=outcome.schedule, scenario=scenario, cell=cell)
    return Run(recording=recording, outcome=outcome, decisions=tuple(noted.decisions))


# -- to a token -----------------------------------------------------------------------------------------------------------


def token_of(run: Run) -> Token:
    """The token of a run. Raises IncompatibleRecording where its cell cannot be named."""
    scenario, cell, schedule = run.recording.scenario, run.recording.cell, run.recording.schedule
    preset, number, knobs = _origin(scenario, cell)
    strategy, _, parameters = schedule.strategy.partition(":")
    if strategy not in STRATEGIES or not parameters.isascii():
        raise IncompatibleRecording(f"no token can name strategy {schedule.strategy!r}")
    return Token(
        scenario=scenario.name, digest=tokens.fingerprint(scenario.digest, tokens.DIGEST),
        cell_check=_cell_check(cell, schedule.strategy), outcome=tokens.fingerprint(run.outcome.digest, tokens.OUTCOME),
        version=__version__, preset=preset, cell=number, knobs=knobs, strategy=list(STRATEGIES).index(strategy),
        parameters=parameters, seed=schedule.seed, steps=run.outcome.steps,
        choices=tokens.trimmed(d.choice for d in run.decisions),
    )  # fmt: skip


def token_of_recording(recording: Recording) -> Token:
    """The token of a recorded run, which is made once more to learn what was open at each turn. Raises ReplayDivergence."""
    schedule = recording.schedule
    run = perform(
        recording.scenario, recording.cell, Replay(schedule), schedule.strategy, schedule.seed, record=False
    )  # fmt: skip
    return token_of(run)


def _cell_check(cell: Cell, strategy: str) -> str:
    knobs = " ".join(f"{name}={value}" for name, value in cell.config.as_dict().items())
    return tokens.fingerprint(f"{strategy} {cell.name} {knobs}", tokens.CELL)


def _origin(scenario: Scenario, cell: Cell) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """(preset, number of the cell, knobs) that give the cell with the fewest knobs set from outside."""
    wanted = cell.config.as_dict()
    best: tuple[int, int, tuple[tuple[int, int], ...]] | None = None
    for preset, bases in _bases(scenario):
        for base in bases:
            have = base.config.as_dict()
            changed = {name: value for name, value in wanted.items() if value != have[name]}
            if best is not None and len(changed) >= len(best[2]):
                continue
            for each in cells(scenario, changed, _preset(preset)):
                if each.name == cell.name and each.config == cell.config:
                    best = preset, each.index, tuple((_position(name), _coded(name, value)) for name, value in changed.items())
                    break
    if best is None:
        raise IncompatibleRecording(f"scenario {scenario.name} has no cell {cell.name!r} with these knobs")
    return best


def _bases(scenario: Scenario) -> Iterator[tuple[int, tuple[Cell, ...]]]:
    for number in range(len(PRESETS) + 1):
        yield number, cells(scenario, {}, _preset(number))


def _preset(number: int) -> str | None:
    return list(PRESETS)[number - 1] if number else None


def _position(knob: str) -> int:
    return list(_KNOBS).index(knob)


def _values(knob: str) -> list[Any]:
    """The texts of an enumeration, false and true; empty for numbers."""
    kind = type(_KNOBS[knob].default)
    if kind is bool:
        return [False, True]
    return [] if kind is int else [member.value for member in kind]


def _coded(knob: str, value: Any) -> int:
    return int(value) if type(value) is int else _values(knob).index(value)


# -- from a token ---------------------------------------------------------------------------------------------------------


def _cell_of_token(token: Token, locate: Locate, notes: list[str] | None) -> tuple[Scenario, Cell]:
    """The scenario and cell; with ``notes`` what does not fit is noted there as long as there is such a cell."""

    def refuse(sentence: str) -> None:
        if notes is None:
            raise IncompatibleRecording(f"the token cannot be replayed: {sentence}; --lenient tries all the same")
        notes.append(sentence)

    if token.version != __version__:
        refuse(f"it was made by ptactors {token.version or 'of another version'}, this is {__version__}")
    scenario = load(locate(named_only(token)), known_names())
    if tokens.fingerprint(scenario.digest, tokens.DIGEST) != token.digest:
        refuse(f"scenario {scenario.path} was changed since it was made")
    cell = _cell(scenario, token)
    if cell is None:
        raise IncompatibleRecording(f"the token cannot be replayed: scenario {scenario.path} has no such cell")
    if _cell_check(cell, _strategy_name(token)) != token.cell_check:
        refuse(f"cell {cell.index} ({cell.name}) of {scenario.path} has other knobs than then")
    return scenario, cell


def named_only(token: Token) -> Schedule:
    """A schedule that says no more than a token does of where its scenario is: its name."""
    return Schedule(
        version=token.version, scenario=token.scenario, scenario_path=f"{token.scenario}.toml", digest="", cell="", knobs={},
        strategy="", seed=token.seed, turns=(),
    )  # fmt: skip


def _cell(scenario: Scenario, token: Token) -> Cell | None:
    names = list(_KNOBS)
    if token.preset > len(PRESETS) or any(knob >= len(names) for knob, _ in token.knobs):
        return None
    overrides: dict[str, Any] = {}
    for knob, value in token.knobs:
        values = _values(names[knob])
        if values and value >= len(values):
            return None
        overrides[names[knob]] = values[value] if values else value
    return next((c for c in cells(scenario, overrides, _preset(token.preset)) if c.index == token.cell), None)


def _strategy_name(token: Token) -> str:
    names = list(STRATEGIES)
    name = names[token.strategy] if token.strategy < len(names) else names[0]
    return f"{name}:{token.parameters}" if token.parameters else name


def _compare(token: Token, outcome: Outcome, notes: list[str] | None) -> None:
    """Raises ReplayDivergence if the run is not the one that the token was made of."""
    reason = ""
    if outcome.steps != token.steps:
        reason = f"the run has {outcome.steps} steps, the recorded one had {token.steps}"
    elif tokens.fingerprint(outcome.digest, tokens.OUTCOME) != token.outcome:
        reason = "the same choices were made, but what came of them is not what was recorded"
    if reason and notes is None:
        raise ReplayDivergence(min(outcome.steps, token.steps), reason)
    if reason:
        notes.append(reason)  # type: ignore[union-attr]  # not None here


def _nearest_cell(scenario: Scenario, schedule: Schedule, notes: list[str]) -> Cell:
    """The cell with the name and knobs of the recording, else one of that name, else the first."""
    every = [cell for _, bases in _bases(scenario) for cell in bases]
    every += cells(scenario, {name: value for name, value in schedule.knobs.items() if name in _KNOBS})
    exact = next((c for c in every if c.name == schedule.cell and c.config.as_dict() == schedule.knobs), None)
    if exact is not None:
        return exact
    named = next((c for c in every if c.name == schedule.cell), every[0])
    notes.append(f"no cell {schedule.cell!r} with the recorded knobs; {named.name!r} is used")
    return named
