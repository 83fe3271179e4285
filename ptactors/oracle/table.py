"""The explicit list of hazards, and the bench that the oracles sit on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ptactors.model.hazard import Finding
from ptactors.model.state import Listener, Record
from ptactors.oracle.accounting import CounterMismatch, Leak
from ptactors.oracle.base import Oracle
from ptactors.oracle.content import LostDirty, LostWrite, WrongData, WrongDataAfterDontneed
from ptactors.oracle.lifetime import (
    BogusPageTable,
    DoubleFree,
    HardwareWalkerUaf,
    LockObjectUaf,
    NonemptyPtePageFreed,
    SoftwareWalkerUaf,
)
from ptactors.oracle.locking import LockOrder, ProtocolViolation, RcuMisuse
from ptactors.oracle.mirror import Mirror
from ptactors.oracle.progress import Deadlock, Livelock, Stall
from ptactors.oracle.translation import (
    Crash,
    MixedPageSizeTlb,
    PermissionBypass,
    StaleTlbToFreedPage,
    TwoPtePages,
    TwoTranslations,
)

HAZARDS: dict[str, type[Oracle]] = {
    oracle.name: oracle
    for oracle in (
        MixedPageSizeTlb,
        TwoTranslations,
        TwoPtePages,
        StaleTlbToFreedPage,
        SoftwareWalkerUaf,
        HardwareWalkerUaf,
        LockObjectUaf,
        WrongDataAfterDontneed,
        WrongData,
        PermissionBypass,
        LostWrite,
        LostDirty,
        NonemptyPtePageFreed,
        BogusPageTable,
        DoubleFree,
        Leak,
        CounterMismatch,
        Deadlock,
        Livelock,
        Stall,
        LockOrder,
        RcuMisuse,
        ProtocolViolation,
        Crash,
    )
}


class Oracles:
    """All oracles on one mirror. Listen to a run, or judge its records; :meth:`reset` makes it ready for the next run."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.findings: list[Finding] = []
        """The first sighting of each hazard, in the order of the sightings."""
        self.oracles: dict[str, Oracle] = {name: oracle(self.mirror, self._publish) for name, oracle in HAZARDS.items()}

        self._listeners = [*self.mirror.listeners().items()]
        for each in self.oracles.values():
            self._listeners += each.listeners().items()

    def _publish(self, finding: Finding) -> None:
        self.findings.append(finding)

    @property
    def counts(self) -> dict[str, int]:
        """How often each hazard was seen; hazards never seen are absent."""
        return {name: oracle.count for name, oracle in self.oracles.items() if oracle.count}

    def reset(self) -> None:
        """A new run begins; what was registered stays registered. ``findings`` is a new list."""
        self.mirror.reset()
        self.findings = []
        for oracle in self.oracles.values():
            oracle.reset()

    def listen(self, register: Callable[[type, Listener], None]) -> None:
        """Have ``register(kind, listener)`` called for every kind of event that is needed, the mirror's listeners first."""
        for kind, listener in self._listeners:
            register(kind, listener)

    @classmethod
    def judge(cls, records: Iterable[Record]) -> list[Finding]:
        """The findings of a recorded run."""
        bench = cls()
        listeners: dict[type, list[Listener]] = {}
        bench.listen(lambda kind, listener: listeners.setdefault(kind, []).append(listener))
        for step, actor, event in records:
            for see in listeners.get(type(event), ()):
                see(step, actor, event)
        return bench.findings
