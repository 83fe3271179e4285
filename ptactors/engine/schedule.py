"""A schedule: the list of choices of a run. It *is* the run; everything else about the run follows from it.

The file is JSON that people can read: consecutive turns of one actor stand in one line, each by the name of its step, with
``/n`` behind it where the actor had offered several and the n-th was taken.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs

from ptactors.errors import IncompatibleRecording

FORMAT = 1
Turn = tuple[str, int, str]
"""(actor's name, alternative, step's name or '')."""


@attrs.frozen(kw_only=True)
class Schedule:
    """One run, ready to be made again."""

    version: str
    """Of ptactors."""
    scenario: str
    scenario_path: str
    digest: str
    """Of the scenario's content."""
    cell: str
    knobs: dict[str, str | int | bool]
    """All knobs of the run."""
    strategy: str
    seed: int
    turns: tuple[Turn, ...]

    def save(self, path: Path) -> None:
        """Write the file. Raises OSError."""
        head = attrs.asdict(self, filter=lambda field, _: field.name != "turns", recurse=False)
        lines = [
            json.dumps([actor, [name + (f"/{alternative}" if alternative else "") for _, alternative, name in turns]])
            for actor, turns in groupby(self.turns, key=lambda turn: turn[0])
        ]
        text = json.dumps({"ptactors-schedule": FORMAT, **head}, indent=1)[:-2]
        path.write_text(f'{text},\n "turns": [\n' + ",\n".join(f"  {line}" for line in lines) + "\n ]\n}\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Schedule:
        """Read the file back. Raises OSError, and IncompatibleRecording for anything that is not a whole schedule."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise IncompatibleRecording(f"{path}: not a schedule file: {error}") from None
        if not isinstance(data, dict) or "ptactors-schedule" not in data:
            raise IncompatibleRecording(f"{path}: not a schedule file")
        if data.pop("ptactors-schedule") != FORMAT:
            raise IncompatibleRecording(f"{path}: a schedule in another format; this version reads format {FORMAT}")
        try:
            turns = tuple(turn for actor, names in data.pop("turns") for turn in (_turn(actor, name) for name in names))
            _check(data)
            return Schedule(**data, turns=turns)
        except KeyError as missing:
            raise IncompatibleRecording(f"{path}: the schedule is damaged: it has no {missing.args[0]!r}") from None
        except (TypeError, ValueError) as error:
            raise IncompatibleRecording(f"{path}: the schedule is damaged: {error}") from None


def _check(data: dict[str, Any]) -> None:
    """Raises KeyError and TypeError where the facts beside the turns are not what they should be."""
    unknown = [name for name in data if name not in attrs.fields_dict(Schedule)]
    if unknown:
        raise TypeError(f"{unknown[0]!r} is nothing that a schedule has")
    for name in ("version", "scenario", "scenario_path", "digest", "cell", "strategy"):
        if not isinstance(data[name], str):
            raise TypeError(f"{name!r} is no text")
    if type(data["seed"]) is not int or data["seed"] < 0:
        raise TypeError("'seed' is no number from 0")
    knobs = data["knobs"]
    if not isinstance(knobs, dict) or not all(isinstance(value, str | int) for value in knobs.values()):
        raise TypeError("'knobs' is no table of texts and numbers")


def _turn(actor: object, text: object) -> Turn:
    if not isinstance(actor, str) or not isinstance(text, str):
        raise TypeError("a turn is no text")
    name, slash, alternative = text.partition("/")
    return actor, int(alternative) if slash else 0, name
