"""Parquet, by DuckDB: the view ``events`` with every column. A million events take a few megabytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from ptactors.analysis.database import Database
from ptactors.log.read import SavedLog


def export(logs: Sequence[SavedLog], out: BinaryIO) -> None:
    """Write one table of all logs over the file that ``out`` has open."""
    path = out.name.replace("'", "''")
    with Database(logs) as database:
        database.query(f"COPY (SELECT * FROM events) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
