"""What conditions may ask of a run: answered from the cells, the oracles and the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ptactors.hardware.memory import data, entry, frame, head
from ptactors.hardware.tlb import lookup
from ptactors.kernel.mm import rss, vmas
from ptactors.kernel.pgtable import upper_tables
from ptactors.model import paging
from ptactors.model.event import ENTRY_NAMES, EVENTS, EntryWrite, event_name
from ptactors.model.paging import HUGE, Level, is_present, is_table
from ptactors.model.state import State
from ptactors.oracle.table import Oracles
from ptactors.world.metrics import Metrics
from ptactors.world.program import register

Value = int | str
NONE, UNSET = "none", "unset"


class EventCounts:
    """Counts the events that some condition asks for, by name and fields."""

    def __init__(self, state: State, wanted: tuple[str, ...]) -> None:
        self._seen: Counter[tuple[str, tuple[tuple[str, Value], ...]]] = Counter()
        self.closed = False
        """Whether what comes now is no longer counted."""
        for kind, name in EVENTS.items():
            if name in wanted or (kind is EntryWrite and set(wanted) & set(ENTRY_NAMES)):
                state.listen(kind, self._see)

    def _see(self, step: int, actor: int, event: Any) -> None:
        if self.closed:
            return
        fields = tuple((name, getattr(event, name)) for name in event._fields)
        self._seen[event_name(event), fields] += 1

    def count(self, name: str, fields: tuple[tuple[str, Value], ...]) -> int:
        """How many events of that name had all these fields."""
        return sum(n for (seen, had), n in self._seen.items() if seen == name and all(f in had for f in fields))


class WorldFacts:
    """Implements the scenario language's Facts."""

    def __init__(
        self,
        state: State,
        oracles: Oracles,
        metrics: Metrics,
        events: EventCounts,
        evers: Mapping[str, bool],
        processes: tuple[str, ...],
    ) -> None:
        self._state = state
        self._oracles = oracles
        self._metrics = metrics
        self._events = events
        self._evers = evers
        self._processes = processes
        self._numbers: dict[str, int] | None = None

    def freeze(self, numbers: dict[str, int]) -> None:
        """From now on speak of the state as it is now; only hazards go on being seen."""
        frozen = State(self._state.config)
        frozen.cells = dict(self._state.cells)
        frozen.step = self._state.step
        self._state, self._numbers = frozen, numbers
        self._events.closed = True

    def _mm(self, va: int) -> str:
        """The process that maps ``va``; the first one where several or none do."""
        for process in self._processes:
            if any(vma.start <= va < vma.end for vma in self._state.read(vmas(process))):
                return process
        return self._processes[0]

    def register(self, cpu: int, name: str) -> Value:
        """See Facts."""
        return self._state.read(register(cpu, name))

    def _leaf(self, va: int) -> tuple[str, int]:
        """Level and frame as software's tables have them: PROT_NONE keeps the page mapped."""
        state = self._state
        upper = upper_tables(state, self._mm(va), va)
        pmd = state.read(entry(upper.pmd, paging.index(va, Level.PMD))) if upper.pmd else 0
        if pmd & HUGE and is_present(pmd):
            return "2m", paging.pfn_of(pmd)
        if not is_table(pmd):
            return NONE, 0
        pte = state.read(entry(paging.pfn_of(pmd), paging.index(va, Level.PTE)))
        return ("4k", paging.pfn_of(pte)) if is_present(pte) else ("table", 0)

    def memory(self, va: int) -> Value:
        """See Facts."""
        level, pfn = self._leaf(va)
        if level not in ("4k", "2m"):
            return UNSET
        page = pfn + (paging.index(va, Level.PTE) if level == "2m" else 0)
        if self._state.read(frame(head(page))).kind == "free":
            return "poison"
        return self._state.read(data(page)).value

    def table(self, va: int) -> tuple[str, Value]:
        """See Facts."""
        level, pfn = self._leaf(va)
        return level, pfn or NONE

    def tlb(self, cpu: int, va: int) -> tuple[str, Value]:
        """See Facts."""
        small, large = lookup(self._state, cpu, va)
        if small is not None:
            return "4k", small.pfn
        return ("2m", large.pfn) if large is not None else (NONE, NONE)

    def hazard(self, name: str) -> bool:
        """See Facts."""
        return any(finding.hazard == name for finding in self._oracles.findings)

    def faults(self, cpu: int, label: str) -> int:
        """See Facts."""
        return self._metrics.faults[cpu, label]

    def count(self, event: str, fields: tuple[tuple[str, Value], ...]) -> int:
        """See Facts."""
        return self._events.count(event, fields)

    def metric(self, name: str, argument: str) -> Value:
        """See Facts."""
        if name == "rss":
            return sum(self._state.read(rss(process, argument)) for process in self._processes)
        numbers = self._numbers if self._numbers is not None else self._metrics.numbers(self._state.step)
        return numbers[_METRICS.get(name, name)]

    def ever(self, text: str) -> bool:
        """See Facts."""
        return self._evers[text]


_METRICS = {"VmPTE": "VmPTE_kB_end", "VmPTE_max": "VmPTE_kB_max", "VmPTE_start": "VmPTE_kB_start"}
