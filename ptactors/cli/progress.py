"""A progress bar on stderr, only on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Counts schedules; does nothing where stderr is not a terminal."""

    def __init__(self, total: int | None, wanted: bool = True) -> None:
        """``total``: schedules in all; None if nobody knows."""
        self._total = total
        self._wanted = wanted and sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self._wanted:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("schedules", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, batch: Any, cell: Any, runs: int) -> None:
        """So many more schedules of this cell are counted."""
        self.counted(f"{batch.scenario.name}/{cell.index}", runs)

    def counted(self, name: str, runs: int) -> None:
        """So many more schedules of what is called so are counted."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=runs, description=name)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the bar away while results are printed."""
        if self._bar is not None:
            self._bar.stop()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.start()
