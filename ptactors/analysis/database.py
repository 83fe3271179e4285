"""Saved logs in DuckDB: ``events`` read straight from the JSON lines, and the views over it."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptactors.analysis.schema import HAZARDS, KINDS, NEEDED, RUNS, VIEWS, columns
from ptactors.errors import UsageError
from ptactors.log.read import SavedLog

if TYPE_CHECKING:
    import duckdb

_MEMORY = "700MB"
_LINE = 1 << 20
"""Longest line that DuckDB takes; its buffers grow with it."""
_FILES = 8
"""Files of one query: each has a buffer of 32 MB."""


class Database:
    """A database in memory over some logs; a context manager.

    One log is read by each query that names ``events``. DuckDB keeps a buffer of fixed size for each file of a query, so several
    logs go into a table, a few at a time.
    """

    def __init__(self, logs: Sequence[SavedLog]) -> None:
        """Nothing is read yet but the headers."""
        import duckdb

        self.logs = logs
        self._errors = duckdb.Error
        self._spill = tempfile.TemporaryDirectory(prefix="ptactors-")
        self._connection = duckdb.connect(
            config={
                "memory_limit": _MEMORY, "temp_directory": self._spill.name, "autoinstall_known_extensions": False,
                "autoload_known_extensions": False, "python_enable_replacements": False,
            }
        )  # fmt: skip
        self._done: set[str] = set()
        self._runs_table()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        self._spill.cleanup()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Run one query of a user; views that it names are there. Raises UsageError with what DuckDB says of it."""
        words = set(re.findall(r"\w+", sql.lower()))
        if words & {view.name for view in VIEWS}:
            self.need_views()
        if "events" in words:
            self.need_events()
        if "hazards" in words:
            self.need_hazards()
        try:
            return self._connection.execute(sql, parameters)
        except self._errors as error:
            raise UsageError(_say(error)) from error

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query of our own."""
        return self._connection.execute(sql).fetchall()

    def _once(self, what: str) -> bool:
        if what in self._done:
            return False
        self._done.add(what)
        return True

    def need_events(self) -> None:
        """Make ``events``, with every column."""
        if not self._once("events"):
            return
        if len(self.logs) == 1:
            self._connection.execute(f"CREATE TEMP VIEW events AS {_source(self.logs, tuple(columns()))}")
        else:
            self._fill("events", tuple(columns()), "")

    def need_views(self) -> None:
        """Read what the views need into a table, and make them."""
        if not self._once("views"):
            return
        kinds = ", ".join(f"'{kind}'" for kind in KINDS)
        self._fill("core", NEEDED, f" WHERE ev IN ({kinds})")
        for view in VIEWS:
            self._connection.execute(f"CREATE TEMP VIEW {view.name} AS {view.select.replace('FROM events', 'FROM core')}")

    def _fill(self, table: str, wanted: Sequence[str], where: str) -> None:
        """A table of these columns of all logs."""
        for start in range(0, len(self.logs), _FILES):
            how = f"INSERT INTO {table}" if start else f"CREATE TEMP TABLE {table} AS"
            self._connection.execute(f"{how} SELECT * FROM ({_source(self.logs[start : start + _FILES], wanted)}){where}")

    def count_kinds(self) -> dict[str, int]:
        """Event name -> how many, the commonest first."""
        counts: Counter[str] = Counter()
        for start in range(0, len(self.logs), _FILES):
            some = self.logs[start : start + _FILES]
            counts.update(dict(self.rows(f"SELECT ev, count(*) FROM ({_source(some, ('ev',), number=False)}) GROUP BY ev")))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def need_hazards(self) -> None:
        """Have the oracles judge every log, once."""
        if not self._once("hazards"):
            return
        from ptactors.analysis.judge import judge

        self._connection.execute(
            "CREATE TEMP TABLE hazards (file VARCHAR, hazard VARCHAR, severity VARCHAR, step BIGINT, what VARCHAR)"
        )
        for log in self.logs:
            rows = [(str(log.path), f.hazard, severity.value, f.step, f.what) for f, severity in judge(log)]
            if rows:
                self._connection.executemany(f"INSERT INTO hazards VALUES ({', '.join('?' * len(HAZARDS))})", rows)

    def _runs_table(self) -> None:
        types = {"seed": "BIGINT", "events": "BIGINT"}
        declared = ", ".join(f"{name} {types.get(name, 'VARCHAR')}" for name, _ in RUNS)
        self._connection.execute(f"CREATE TEMP TABLE runs ({declared})")
        rows = [
            (
                str(log.path), *(_text(log.header.get(key)) for key in ("scenario", "cell", "strategy")), _number(log.header.get("seed")),
                _text(log.header.get("version")), log.state.value, _text(log.trailer.get("status")), _text(log.trailer.get("reason")),
                _number(log.trailer.get("events")),
            )
            for log in self.logs
        ]  # fmt: skip
        self._connection.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * len(RUNS))})", rows)


def _source(logs: Sequence[SavedLog], wanted: Sequence[str], *, number: bool = True) -> str:
    """SELECT of these columns from a few files, each event with its position in its log.

    Header, trailer and what is no JSON are left out.
    """
    known = columns()
    struct = ", ".join(f"\"{name}\": '{known[name]}'" for name in wanted)
    files = ", ".join(_quote(_escape(str(log.path))) for log in logs)
    names = ", ".join(f'"{name}"' for name in wanted)
    plain = (
        f"SELECT filename AS file, {names} FROM read_json([{files}], format='newline_delimited', columns={{{struct}}}, "
        f"filename=true, hive_partitioning=false, ignore_errors=true, maximum_object_size={_LINE}) "
        "WHERE ev IS NOT NULL AND ev NOT IN ('header', 'trailer')"
    )
    if not number:
        return plain
    numbered = f"SELECT file, row_number() OVER () - 1 AS n, {names} FROM ({plain})"
    if len(logs) == 1:
        return numbered
    return f"SELECT file, n - min(n) OVER (PARTITION BY file) AS n, {names} FROM ({numbered})"


def _say(error: Exception) -> str:
    """DuckDB's message without its advice to look at its web page."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines) or type(error).__name__


def _escape(path: str) -> str:
    """DuckDB takes a path for a pattern."""
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if type(value) is int else None
