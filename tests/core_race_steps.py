"""The cells and the steps of the core race (see core_race.py): one class, one atomic piece of the original.

``pmd`` holds 0 (none), k + 1 (table k) or ``HUGE``; table 0 and its pages are there at first, table c belongs to CPU c.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from ptactors.model.state import Key, State, family
from ptactors.model.step import Footprint, Step

NONE, HUGE = 0, 9
FAULT, HIT = 0, 9
ADDRESSES = (0, 1)
MIXED, TWO_TABLES, FREED = "mixed sizes", "two tables", "freed table"

PMD: Key = ("cr_pmd",)
PMD_LOCK: Key = ("cr_pmd_lock",)
GRACE: Key = ("cr_grace",)
GOT: Key = ("cr_got",)
for _name, _meaning in (
    ("cr_pmd", "the PMD entry"),
    ("cr_pmd_lock", "whether the PMD lock is held"),
    ("cr_pte", "whether entry i of table k is present"),
    ("cr_table_lock", "whether the lock of table k is held"),
    ("cr_freed", "whether table k was freed"),
    ("cr_small", "small translation of address i in CPU c's TLB: its table + 1"),
    ("cr_huge", "whether CPU c's TLB holds the huge translation"),
    ("cr_ipi", "whether CPU b owes CPU a an answer to its IPI"),
    ("cr_walk", "whether CPU c's hardware walk is under way"),
    ("cr_reader", "whether CPU c is in an RCU section"),
    ("cr_snap", "whether the grace period waits for CPU c"),
    ("cr_grace", "1: asked for, 2: waiting for readers, 3: over"),
    ("cr_got", "whether the reclaim took the table"),
):
    family(_name, 0, f"{_meaning} (core race)")


class Seen(NamedTuple):
    """A hazard came to pass."""

    kind: str


def pte(k: int, i: int) -> Key:
    return ("cr_pte", k, i)


def table_lock(k: int) -> Key:
    return ("cr_table_lock", k)


def small(c: int, i: int) -> Key:
    return ("cr_small", c, i)


def one(name: str, c: int) -> Key:
    return (f"cr_{name}", c)


def ipi(to: int, by: int) -> Key:
    return ("cr_ipi", to, by)


def _others(n: int, c: int) -> tuple[int, ...]:
    return tuple(b for b in range(n) if b != c)


def _flush_keys(c: int) -> tuple[Key, ...]:
    return (*(small(c, i) for i in ADDRESSES), one("huge", c))


def _send_keys(n: int, c: int) -> tuple[Key, ...]:
    return (*(ipi(b, c) for b in _others(n, c)), *_flush_keys(c))


def _send(state: State, n: int, c: int) -> None:
    for b in _others(n, c):
        state.write(ipi(b, c), 1)
    _flush(state, c)


def _flush(state: State, c: int) -> None:
    for key in _flush_keys(c):
        state.write(key, 0)


# -- steps of several actors ----------------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Lock(Step[None]):
    key: Key
    label = "lock"
    blocking = True

    def ready(self, state: State) -> bool:
        return not state.read(self.key)

    def waits(self) -> tuple[Key, ...]:
        return (self.key,)

    def apply(self, state: State) -> None:
        state.write(self.key, 1)

    def touches(self, state: State) -> Footprint:
        return (), (self.key,)


@attrs.frozen(slots=True)
class Unlock(Step[None]):
    key: Key
    label = "unlock"

    def apply(self, state: State) -> None:
        state.write(self.key, 0)

    def touches(self, state: State) -> Footprint:
        return (), (self.key,)


@attrs.frozen(slots=True)
class Acked(Step[None]):
    """Everybody has answered the IPIs of CPU c."""

    n: int
    c: int
    label = "acked"
    blocking = True

    def ready(self, state: State) -> bool:
        return not any(state.read(key) for key in self.waits())

    def waits(self) -> tuple[Key, ...]:
        return tuple(ipi(b, self.c) for b in _others(self.n, self.c))

    def apply(self, state: State) -> None:
        pass

    def touches(self, state: State) -> Footprint:
        return (), ()


# -- madvise(MADV_DONTNEED) on CPU 0 --------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class ClearPte(Step[None]):
    i: int
    label = "clear_pte"

    def apply(self, state: State) -> None:
        state.write(pte(0, self.i), 0)

    def touches(self, state: State) -> Footprint:
        return (), (pte(0, self.i),)


@attrs.frozen(slots=True)
class ClearPmd(Step[None]):
    """Take the table away if it is empty."""

    label = "clear_pmd"

    def apply(self, state: State) -> None:
        if not any(state.read(pte(0, i)) for i in ADDRESSES):
            state.write(PMD, NONE)
            state.write(GOT, 1)

    def touches(self, state: State) -> Footprint:
        for i in ADDRESSES:
            if state.read(pte(0, i)):
                return tuple(pte(0, j) for j in ADDRESSES[: i + 1]), ()
        return tuple(pte(0, j) for j in ADDRESSES), (PMD, GOT)


@attrs.frozen(slots=True)
class SendFlush(Step[None]):
    """Ask all other CPUs to flush, and flush CPU c's own TLB."""

    n: int
    c: int
    label = "send_flush"

    def apply(self, state: State) -> None:
        _send(state, self.n, self.c)

    def touches(self, state: State) -> Footprint:
        return (), _send_keys(self.n, self.c)


@attrs.frozen(slots=True)
class FreeTable(Step[None]):
    """Free the table that was taken, through RCU or at once."""

    rcu: bool
    label = "free_table"

    def _target(self) -> Key:
        return GRACE if self.rcu else one("freed", 0)

    def apply(self, state: State) -> None:
        if state.read(GOT):
            state.write(self._target(), 1)

    def touches(self, state: State) -> Footprint:
        return (GOT,), ((self._target(),) if state.read(GOT) else ())


# -- an access ------------------------------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Translate(Step[int]):
    """A0: look into the TLB, then at the PMD. HIT, FAULT, or the table to walk through + 1."""

    c: int
    i: int
    label = "translate"

    def _cached(self, state: State) -> tuple[bool, tuple[Key, ...]]:
        huge, entry = one("huge", self.c), small(self.c, self.i)
        if state.read(huge):
            return True, (huge,)
        return bool(state.read(entry)), (huge, entry)

    def apply(self, state: State) -> int:
        if self._cached(state)[0]:
            return HIT
        pmd: int = state.read(PMD)
        if pmd == HUGE:
            state.write(one("huge", self.c), 1)
            if any(state.read(small(self.c, i)) for i in ADDRESSES):
                state.emit(Seen(MIXED))
            return HIT
        if pmd == NONE:
            return FAULT
        state.write(one("walk", self.c), 1)
        return pmd

    def touches(self, state: State) -> Footprint:
        cached, looked = self._cached(state)
        if cached:
            return looked, ()
        pmd = state.read(PMD)
        if pmd == HUGE:
            return (*looked, PMD, *(small(self.c, i) for i in ADDRESSES)), (one("huge", self.c),)
        return (*looked, PMD), (() if pmd == NONE else (one("walk", self.c),))


@attrs.frozen(slots=True)
class Fill(Step[bool]):
    """A1: read the entry of table k; whether it was present, and so was cached."""

    n: int
    c: int
    i: int
    k: int
    label = "fill"

    def apply(self, state: State) -> bool:
        state.write(one("walk", self.c), 0)
        if state.read(one("freed", self.k)):
            state.emit(Seen(FREED))
        if not state.read(pte(self.k, self.i)):
            return False
        state.write(small(self.c, self.i), self.k + 1)
        if state.read(one("huge", self.c)):
            state.emit(Seen(MIXED))
        if any(state.read(small(o, self.i)) not in (0, self.k + 1) for o in range(self.n)):
            state.emit(Seen(TWO_TABLES))
        return True

    def touches(self, state: State) -> Footprint:
        reads: tuple[Key, ...] = (one("freed", self.k), pte(self.k, self.i))
        writes: tuple[Key, ...] = (one("walk", self.c),)
        if state.read(pte(self.k, self.i)):
            reads += (one("huge", self.c), *(small(o, self.i) for o in _others(self.n, self.c)))
            writes += (small(self.c, self.i),)
        return reads, writes


@attrs.frozen(slots=True)
class LookAtPmd(Step[int]):
    """F0: what kind of entry the PMD is: NONE, HUGE, or 1 for any table."""

    label = "look_at_pmd"

    def apply(self, state: State) -> int:
        pmd: int = state.read(PMD)
        return pmd if pmd in (NONE, HUGE) else 1

    def touches(self, state: State) -> Footprint:
        return (PMD,), ()


@attrs.frozen(slots=True)
class CheckPmd(Step[bool]):
    """F2: whether the PMD is still empty; if so and told to, send the flush that goes before setting it."""

    n: int
    c: int
    flush: bool
    label = "check_pmd"

    def apply(self, state: State) -> bool:
        if state.read(PMD) != NONE:
            return False
        if self.flush:
            _send(state, self.n, self.c)
        return True

    def touches(self, state: State) -> Footprint:
        return (PMD,), (_send_keys(self.n, self.c) if self.flush and state.read(PMD) == NONE else ())


@attrs.frozen(slots=True)
class SetPmd(Step[None]):
    """F3."""

    value: int
    label = "set_pmd"

    def apply(self, state: State) -> None:
        state.write(PMD, self.value)

    def touches(self, state: State) -> Footprint:
        return (), (PMD,)


@attrs.frozen(slots=True)
class EnterTable(Step[int]):
    """F5: begin to read under RCU; the table + 1, or 0 if there is none now (and then nothing was begun)."""

    c: int
    label = "enter_table"

    def apply(self, state: State) -> int:
        pmd: int = state.read(PMD)
        if pmd in (NONE, HUGE):
            return 0
        state.write(one("reader", self.c), 1)
        return pmd

    def touches(self, state: State) -> Footprint:
        return (PMD,), (() if state.read(PMD) in (NONE, HUGE) else (one("reader", self.c),))


@attrs.frozen(slots=True)
class LockTable(Step[None]):
    """F6: as Lock, of a table that may be gone."""

    k: int
    label = "lock_table"
    blocking = True

    def ready(self, state: State) -> bool:
        return not state.read(table_lock(self.k))

    def waits(self) -> tuple[Key, ...]:
        return (table_lock(self.k),)

    def apply(self, state: State) -> None:
        if state.read(one("freed", self.k)):
            state.emit(Seen(FREED))
        state.write(table_lock(self.k), 1)

    def touches(self, state: State) -> Footprint:
        return (one("freed", self.k),), (table_lock(self.k),)


@attrs.frozen(slots=True)
class SetPte(Step[None]):
    """F7: put the page in, if the table is still the one at the PMD."""

    i: int
    k: int
    label = "set_pte"

    def apply(self, state: State) -> None:
        if state.read(PMD) == self.k + 1:
            state.write(pte(self.k, self.i), 1)

    def touches(self, state: State) -> Footprint:
        return (PMD,), ((pte(self.k, self.i),) if state.read(PMD) == self.k + 1 else ())


@attrs.frozen(slots=True)
class LeaveTable(Step[None]):
    """F8: unlock it and leave the RCU section."""

    c: int
    k: int
    label = "leave_table"

    def _keys(self) -> tuple[Key, ...]:
        return (table_lock(self.k), one("reader", self.c), one("snap", self.c))

    def apply(self, state: State) -> None:
        for key in self._keys():
            state.write(key, 0)

    def touches(self, state: State) -> Footprint:
        return (), self._keys()


# -- interrupts and RCU ---------------------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Interrupt(Step[None]):
    """CPU b flushes and answers every IPI it was sent, not in the middle of a walk."""

    n: int
    b: int
    label = "interrupt"
    blocking = True

    def _ipis(self) -> tuple[Key, ...]:
        return tuple(ipi(self.b, a) for a in _others(self.n, self.b))

    def ready(self, state: State) -> bool:
        return any(state.read(key) for key in self._ipis()) and not state.read(one("walk", self.b))

    def waits(self) -> tuple[Key, ...]:
        return (*self._ipis(), one("walk", self.b))

    def apply(self, state: State) -> None:
        _flush(state, self.b)
        for key in self._ipis():
            state.write(key, 0)

    def touches(self, state: State) -> Footprint:
        return (), (*_flush_keys(self.b), *self._ipis())


@attrs.frozen(slots=True)
class BeginGrace(Step[None]):
    n: int
    label = "begin_grace"
    blocking = True

    def ready(self, state: State) -> bool:
        return bool(state.read(GRACE) == 1)

    def waits(self) -> tuple[Key, ...]:
        return (GRACE,)

    def apply(self, state: State) -> None:
        for c in range(self.n):
            state.write(one("snap", c), state.read(one("reader", c)))
        state.write(GRACE, 2)

    def touches(self, state: State) -> Footprint:
        return tuple(one("reader", c) for c in range(self.n)), (*(one("snap", c) for c in range(self.n)), GRACE)


@attrs.frozen(slots=True)
class EndGrace(Step[None]):
    n: int
    label = "end_grace"
    blocking = True

    def ready(self, state: State) -> bool:
        return not any(state.read(key) for key in self.waits())

    def waits(self) -> tuple[Key, ...]:
        return tuple(one("snap", c) for c in range(self.n))

    def apply(self, state: State) -> None:
        state.write(one("freed", 0), 1)
        state.write(GRACE, 3)

    def touches(self, state: State) -> Footprint:
        return (), (one("freed", 0), GRACE)
