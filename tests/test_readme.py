"""What the README says is what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ptactors.config import HARDWARE_PRESETS, PRESETS
from ptactors.oracle.table import HAZARDS
from ptactors.report.document import SCHEMA

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_schema_in_the_readme_is_the_programs() -> None:
    (text,) = re.findall(r"```json\n(.*?)\n```", README, re.S)
    assert json.loads(text) == SCHEMA


def test_the_gate_runs_the_readmes_test_command() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_presets_and_hazards_are_all_named() -> None:
    assert not [name for name in (*PRESETS, *HARDWARE_PRESETS) if f"`{name}`" not in README]
    assert f"{len(HAZARDS)} hazards" in README
