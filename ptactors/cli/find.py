"""Scenarios that can be called by their name."""

from __future__ import annotations

from pathlib import Path

from ptactors.scenario.load import folders

DEFAULT_FOLDER = Path("scenarios")


def known() -> dict[str, Path]:
    """Name -> file: ``./scenarios`` first, then what came with the package."""
    table: dict[str, Path] = {}
    for folder in folders(DEFAULT_FOLDER):
        for path in sorted(folder.glob("*.toml")):
            table.setdefault(path.stem, path)
    return table
