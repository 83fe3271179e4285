"""Saved logs in DuckDB: ``events`` read straight from the JSON lines, and the views over it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptactors.analysis.schema import HAZARDS, NEEDED, RUNS, VIEWS, View, columns
from ptactors.errors import UsageError
from ptactors.log.merge import merge
from ptactors.log.read import SavedLog

if TYPE_CHECKING:
    import duckdb

_MEMORY = "700MB"
_LINE = 1 << 20
"""Longest line that DuckDB takes; its buffers grow with it."""


_SMALL = 1 << 26
"""Logs of fewer bytes are asked by one thread, so that rows come in the same order each time."""


class Database:
    """A database in memory over some logs; a context manager.

    One log is read by each query that names ``events``. DuckDB has a buffer of 32 MB for each file of a query, so several logs
    are merged and go into a table.
    """

    def __init__(self, logs: Sequence[SavedLog]) -> None:
        """Nothing is read yet but the headers."""
        import duckdb

        self.logs = logs
        self._errors = duckdb.Error
        self._spill = tempfile.TemporaryDirectory(prefix="ptactors-")
        small = sum(log.size for log in logs) < _SMALL
        self._connection = duckdb.connect(
            config={
                **({"threads": 1} if small else {}),
                "memory_limit": _MEMORY,
                "temp_directory": self._spill.name,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        self._connection.execute("SET enable_progress_bar = false")  # it would write to stdout
        self._done: set[str] = set()
        self._parts: list[Path] | None = None
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
        with self._guarded():
            found: duckdb.DuckDBPyConnection | None = self._connection.execute(sql, parameters)
        if found is None:
            raise UsageError("the query is empty")
        return found

    def fetched(self, result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        """The rows of a query of a user, as they are computed. Raises UsageError with what DuckDB says."""
        with self._guarded():
            yield from iter(result.fetchone, None)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """DuckDB's errors are the user's; it has Ctrl-C for itself and tells of it as a RuntimeError."""
        try:
            yield
        except self._errors as error:
            raise UsageError(_say(error)) from error
        except RuntimeError as error:
            if "interrupted" not in str(error).lower():
                raise
            raise KeyboardInterrupt from None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query of our own."""
        with self._guarded():
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
            self._connection.execute(f"CREATE TEMP VIEW events AS {self._sources(tuple(columns()))[0]}")
        else:
            self._fill("events", tuple(columns()))

    def need_views(self, views: Sequence[View] = VIEWS, more: Sequence[str] = (), *, exact: bool = True) -> None:
        """Read what some views need, and events ``more``, into the table ``core``, and make these views.

        Only the first call counts. Unless ``exact``, ``n`` is the step: enough for the views, which pair events of
        different steps, and twice as fast, because DuckDB then reads a file with several threads.
        """
        if not self._once("views"):
            return
        kinds = ", ".join(f"'{kind}'" for kind in dict.fromkeys([kind for view in views for kind in view.kinds] + [*more]))
        self._fill("core", NEEDED, f" WHERE ev IN ({kinds})", exact=exact)
        for view in views:
            self._connection.execute(f"CREATE TEMP VIEW {view.name} AS {view.select.replace('FROM events', 'FROM core')}")

    def _fill(self, table: str, wanted: Sequence[str], where: str = "", *, exact: bool = True) -> None:
        """A table of these columns of all logs."""
        chosen = "*" if exact or len(self.logs) > 1 else "* EXCLUDE n, step AS n"
        for number, source in enumerate(self._sources(wanted)):
            how = f"INSERT INTO {table}" if number else f"CREATE TEMP TABLE {table} AS"
            with self._guarded():
                self._connection.execute(f"{how} SELECT {chosen} FROM ({source}){where}")

    def _sources(self, wanted: Sequence[str]) -> list[str]:
        """SELECTs that together give these columns of all events, each event with its log and its position in it.

        Header, trailer and what is no JSON are left out.
        """
        known = columns()
        names = ", ".join(f'"{name}"' for name in wanted)
        struct = ", ".join(f"\"{name}\": '{known[name]}'" for name in wanted)
        if len(self.logs) == 1:
            source = _read(self.logs[0].path, struct)
            file = _quote(str(self.logs[0].path))
            where = "ev IS NOT NULL AND ev NOT IN ('header', 'trailer')"
            return [f"SELECT {file} AS file, row_number() OVER () - 1 AS n, {names} FROM (SELECT * FROM {source} WHERE {where})"]
        if self._parts is None:
            self._parts = merge(self.logs, Path(self._spill.name))
        struct = f"log: 'INTEGER', n: 'BIGINT', {struct}"
        return [f"SELECT file, n, {names} FROM {_read(part, struct)} JOIN files USING (log)" for part in self._parts]

    def count_kinds(self) -> list[tuple[str, str, int, int, int]]:
        """(log, event name, how many, greatest step, greatest CPU), the commonest first."""
        select = "SELECT file, ev, count(*), max(step), max(cpu) FROM"
        parts = [f"{select} ({source}) GROUP BY file, ev" for source in self._sources(("ev", "step", "cpu"))]
        return sorted((row for part in parts for row in self.rows(part)), key=lambda row: (-row[2], row[1], row[0]))

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
                str(log.path),
                *(_text(log.header.get(key)) for key in ("scenario", "cell", "strategy")),
                _number(log.header.get("seed")),
                _text(log.header.get("version")),
                log.state.value,
                *(_text(log.trailer.get(key)) for key in ("status", "reason")),
                _number(log.trailer.get("events")),
            )
            for log in self.logs
        ]
        self._connection.execute("CREATE TEMP TABLE files (log INTEGER, file VARCHAR)")
        self._connection.executemany("INSERT INTO files VALUES (?, ?)", [(i, str(log.path)) for i, log in enumerate(self.logs)])
        self._connection.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * len(RUNS))})", rows)


def _read(path: Path, struct: str) -> str:
    return (
        f"read_json([{_quote(_escape(str(path)))}], format='newline_delimited', columns={{{struct}}}, hive_partitioning=false, "
        f"ignore_errors=true, maximum_object_size={_LINE})"
    )


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
