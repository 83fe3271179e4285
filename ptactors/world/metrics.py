"""Numbers of a run, counted from its events."""

from __future__ import annotations

from collections import Counter

from ptactors.model import event as ev
from ptactors.model.state import Listener, State


class Metrics:
    """Counts what ``--json`` and conditions call metrics. VmPTE is in kB, summed over the processes."""

    def __init__(self, state: State) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: Counter[tuple[int, str]] = Counter()
        self._pgtables: dict[str, int] = {}
        self._start: int | None = None
        self._max = 0
        state.listen(ev.PgtablesBytes, self._see_pgtables)
        state.listen(ev.PageFault, self._see_fault)
        state.listen(ev.IpiSend, self._see_ipi)
        for kind, name in _COUNTED.items():
            state.listen(kind, self._counter(name))

    def _counter(self, name: str) -> Listener:
        counts = self.counts

        def count(step: int, actor: int, event: object) -> None:
            counts[name] += 1

        return count

    def _see_pgtables(self, step: int, actor: int, event: ev.PgtablesBytes) -> None:
        if event.cpu >= 0 and self._start is None:
            self._start = self.vm_pte()
        self._pgtables[event.mm] = event.value
        self._max = max(self._max, self.vm_pte())

    def _see_fault(self, step: int, actor: int, event: ev.PageFault) -> None:
        self.counts["faults"] += 1
        self.faults[event.cpu, event.label] += 1

    def _see_ipi(self, step: int, actor: int, event: ev.IpiSend) -> None:
        self.counts["ipis"] += len(event.targets)

    def vm_pte(self) -> int:
        """VmPTE now."""
        return sum(self._pgtables.values()) >> 10

    def numbers(self, steps: int) -> dict[str, int]:
        """All of them, in fixed order."""
        start = self._start if self._start is not None else self.vm_pte()
        named = {"VmPTE_kB_start": start, "VmPTE_kB_max": self._max, "VmPTE_kB_end": self.vm_pte()}
        return named | {name: self.counts[name] for name in _NAMES} | {"steps": steps}


_COUNTED: dict[type, str] = {
    ev.TlbFlush: "flushes",
    ev.RcuGpEnd: "grace_periods",
    ev.CallRcu: "rcu_calls",
    ev.GatherTable: "tables_gathered",
    ev.LockFail: "trylock_fails",
    ev.TlbFill: "tlb_fills",
}
_NAMES = ("flushes", "ipis", "grace_periods", "faults", *(n for n in _COUNTED.values() if n not in ("flushes", "grace_periods")))
