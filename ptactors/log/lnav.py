"""The format file for lnav, a terminal viewer of logs (https://lnav.org)."""

from __future__ import annotations

from importlib.resources import files


def format_file() -> str:
    """Its text."""
    return (files("ptactors.log") / "ptactors.lnav.json").read_text(encoding="utf-8")
