"""What an observer of the events knows: rebuilt from them before any oracle sees them, and shared by all oracles.

No cell of the model is read here. An event costs a few dictionary operations; what is freed is dropped, and the notes from which
histories are told are bounded.
"""

from __future__ import annotations

from ptactors.model.event import (
    Cr3Write,
    EntryWrite,
    FrameAlloc,
    FrameFree,
    GatherBegin,
    GatherEnd,
    GatherTable,
    HardwareBits,
    LockAcquire,
    LockFree,
    LockInit,
    LockRelease,
    MemRead,
    MemWrite,
    OpBegin,
    OpEnd,
    ProgramsDone,
    PscEvict,
    PscFill,
    RcuLock,
    RcuUnlock,
    SwitchMm,
    SyscallEnter,
    SyscallExit,
    TableDeposit,
    TableMap,
    TableUnmap,
    TlbEvict,
    TlbFill,
    TlbFlush,
    TlbFlushEnd,
    TlbInvalidate,
    VmaInit,
)
from ptactors.model.paging import SHIFT, Level
from ptactors.model.state import Listener
from ptactors.oracle.caches import Caches
from ptactors.oracle.memory import Frame, Memory
from ptactors.oracle.pages import Pages

SPINLOCKS = ("page_table", "pmd", "pte")
"""Classes of locks whose holder may not sleep; all of them guard page tables."""
NOTES_LIMIT = 1 << 14
"""How many last writes are remembered for histories; beyond, the older half is forgotten."""


class Lock:
    """A lock that a CPU holds."""

    __slots__ = ("cls", "mode", "name", "step", "table")

    def __init__(self, step: int, event: LockAcquire, table: int) -> None:
        self.step = step
        self.name = event.lock
        self.cls = event.cls
        self.mode = event.mode
        self.table = table
        """The page table whose lock it is, -1 for others."""


Note = tuple[int, int, str, str]
"""(step, cpu, what, operation) of a write to an entry."""


class Mirror:
    """The observer's knowledge."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.caches = Caches()
        self.pages = Pages()
        self._lock_table: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new run begins."""
        self.memory.reset()
        self.caches.reset()
        self.pages.reset()
        self._lock_table.clear()
        self.vmas: dict[str, list[VmaInit]] = {}
        """The VMAs of each mm."""
        self.ops: dict[int, str] = {}
        """CPU -> text of the operation that its program executes."""
        self.calls: dict[int, SyscallEnter] = {}
        """CPU -> the system call it is in."""
        self.lazy: dict[int, bool] = {}
        """CPU -> whether a kernel thread runs there that borrows the loaded mm."""
        self.locks: dict[int, list[Lock]] = {}
        """CPU -> locks held, in the order they were taken."""
        self.dead_locks: dict[str, int] = {}
        """Lock whose memory was freed -> step."""
        self.rcu: dict[int, int] = {}
        """CPU -> depth of its RCU read sections."""
        self.mapped: dict[int, dict[int, tuple[int, int]]] = {}
        """CPU -> tables it has a pointer into -> (generation then, step)."""
        self.pending: dict[str, int] = {}
        """mm -> gathers that may owe a flush."""
        self.gathers: dict[int, tuple[int, str]] = {}
        """CPU -> (step, mm) of the gather it has begun and not finished."""
        self.flushing: dict[int, str] = {}
        """CPU -> mm of a flush that it has begun and not completed."""
        self.target: Frame | None = None
        """The frame that the latest read or write of a program went to, if it is known."""
        self.programs_done = False
        self._cleared: dict[tuple[int, str, int], Note] = {}
        self._set: dict[tuple[int, str, int], Note] = {}

    def listeners(self) -> dict[type, Listener]:
        """Kind of event -> what takes note of it."""
        memory, caches = self.memory, self.caches
        return {
            VmaInit: self._vma_init,
            OpBegin: self._op_begin,
            OpEnd: self._op_end,
            SyscallEnter: self._syscall_enter,
            SyscallExit: self._syscall_exit,
            MemRead: self._mem_read,
            MemWrite: self._mem_write,
            ProgramsDone: self._programs_done,
            FrameAlloc: memory.alloc,
            FrameFree: memory.free,
            GatherTable: memory.queue,
            TableDeposit: memory.deposit,
            EntryWrite: self._entry_write,
            HardwareBits: memory.hardware_bits,
            TlbFill: self._tlb_fill,
            TlbEvict: caches.evict,
            TlbInvalidate: caches.invalidate,
            PscFill: caches.psc_fill,
            PscEvict: caches.psc_evict,
            Cr3Write: caches.load,
            SwitchMm: self._switch_mm,
            LockInit: self._lock_init,
            LockFree: self._lock_free,
            LockAcquire: self._lock_acquire,
            LockRelease: self._lock_release,
            RcuLock: self._rcu_lock,
            RcuUnlock: self._rcu_unlock,
            TableMap: self._table_map,
            TableUnmap: self._table_unmap,
            GatherBegin: self._gather_begin,
            GatherEnd: self._gather_end,
            TlbFlush: self._flush_begin,
            TlbFlushEnd: self._flush_end,
        }

    def _op_begin(self, step: int, actor: int, event: OpBegin) -> None:
        self.ops[event.cpu] = event.text

    def _op_end(self, step: int, actor: int, event: OpEnd) -> None:
        self.ops.pop(event.cpu, None)
        self.mapped.pop(event.cpu, None)

    def _syscall_enter(self, step: int, actor: int, event: SyscallEnter) -> None:
        self.calls[event.cpu] = event
        self.pages.begin(step, event)

    def _syscall_exit(self, step: int, actor: int, event: SyscallExit) -> None:
        self.calls.pop(event.cpu, None)
        self.pages.end(event)

    def _vma_init(self, step: int, actor: int, event: VmaInit) -> None:
        self.vmas.setdefault(event.mm, []).append(event)
        self.pages.vma(event)

    def _programs_done(self, step: int, actor: int, event: ProgramsDone) -> None:
        self.programs_done = True

    def _mem_read(self, step: int, actor: int, event: MemRead) -> None:
        self.target = self.memory.frame(event.pfn)

    def _mem_write(self, step: int, actor: int, event: MemWrite) -> None:
        self.target = self.memory.frame(event.pfn)
        self.pages.store(step, event)

    def _tlb_fill(self, step: int, actor: int, event: TlbFill) -> None:
        self.caches.fill(step, event, self.ops.get(event.cpu, ""))

    def _entry_write(self, step: int, actor: int, event: EntryWrite) -> None:
        self.memory.write(step, event)
        what, cpu, mm, level, va, _, _, _, _, new = event
        notes = self._set if new else self._cleared
        notes[level, mm, va >> SHIFT[level]] = (step, cpu, what, self.ops.get(cpu, ""))
        if len(notes) > NOTES_LIMIT:
            recent = sorted(notes.items(), key=lambda item: item[1][0])[NOTES_LIMIT // 2 :]
            notes.clear()
            notes.update(recent)

    def _switch_mm(self, step: int, actor: int, event: SwitchMm) -> None:
        self.lazy[event.cpu] = event.lazy

    def _lock_acquire(self, step: int, actor: int, event: LockAcquire) -> None:
        lock = Lock(step, event, self.table_of(event.lock))
        held = self.locks.get(event.cpu)
        if held is None:
            self.locks[event.cpu] = [lock]
        else:
            held.append(lock)

    def _lock_release(self, step: int, actor: int, event: LockRelease) -> None:
        held = self.locks.get(event.cpu, [])
        for position in range(len(held) - 1, -1, -1):
            if held[position].name == event.lock:
                del held[position]
                return

    def _lock_init(self, step: int, actor: int, event: LockInit) -> None:
        self.dead_locks.pop(event.lock, None)

    def _lock_free(self, step: int, actor: int, event: LockFree) -> None:
        self.dead_locks[event.lock] = step
        self._lock_table.pop(event.lock, None)

    def _rcu_lock(self, step: int, actor: int, event: RcuLock) -> None:
        self.rcu[event.cpu] = self.rcu.get(event.cpu, 0) + 1

    def _rcu_unlock(self, step: int, actor: int, event: RcuUnlock) -> None:
        self.rcu[event.cpu] = self.rcu.get(event.cpu, 0) - 1

    def _table_map(self, step: int, actor: int, event: TableMap) -> None:
        self.mapped.setdefault(event.cpu, {})[event.table] = (event.gen, step)

    def _table_unmap(self, step: int, actor: int, event: TableUnmap) -> None:
        mapped = self.mapped.get(event.cpu)
        if mapped is not None:
            mapped.pop(event.table, None)

    def _gather_begin(self, step: int, actor: int, event: GatherBegin) -> None:
        self.pending[event.mm] = event.pending
        self.gathers[event.cpu] = (step, event.mm)

    def _gather_end(self, step: int, actor: int, event: GatherEnd) -> None:
        self.pending[event.mm] = event.pending
        self.gathers.pop(event.cpu, None)

    def _flush_begin(self, step: int, actor: int, event: TlbFlush) -> None:
        self.flushing[event.cpu] = event.mm

    def _flush_end(self, step: int, actor: int, event: TlbFlushEnd) -> None:
        self.flushing.pop(event.cpu, None)

    def table_of(self, lock: str) -> int:
        """The page table whose lock ``pte:0x...`` or ``pmd:0x...`` is; -1 for other locks."""
        found = self._lock_table.get(lock)
        if found is None:
            cls, _, name = lock.partition(":")
            found = int(name, 16) if cls in ("pte", "pmd") else -1
            self._lock_table[lock] = found
        return found

    def holds(self, cpu: int, table: int, mm: str) -> bool:
        """Whether the CPU holds this table's lock, or the mm's page_table_lock that stands for all of them."""
        for lock in self.locks.get(cpu, ()):
            if lock.table == table or (lock.table < 0 and lock.cls not in ("mmap", "vma") and lock.name == f"page_table:{mm}"):
                return True
        return False

    def spinlock(self, cpu: int) -> Lock | None:
        """The spinlock that the CPU has held longest."""
        for lock in self.locks.get(cpu, ()):
            if lock.cls in SPINLOCKS:
                return lock
        return None

    def settled(self, mm: str, table: int) -> bool:
        """Whether nobody owes this mm a flush or is in the middle of changing this PTE page (-1: any huge pmd)."""
        if self.pending.get(mm) or mm in self.flushing.values():
            return False
        for held in self.locks.values():
            for lock in held:
                busy = lock.table == table if table >= 0 else lock.cls == "pmd"
                if busy or lock.name == f"page_table:{mm}" or (lock.name == f"mmap:{mm}" and lock.mode == "write"):
                    return False
        return True

    def vma(self, mm: str, va: int) -> VmaInit | None:
        """The VMA that holds ``va``."""
        for vma in self.vmas.get(mm, ()):
            if vma.start <= va < vma.end:
                return vma
        return None

    def at(self, mm: str, va: int) -> str:
        """``A+0x3000``, or the bare address outside of every VMA."""
        vma = self.vma(mm, va)
        if vma is None:
            return hex(va)
        return vma.vma if va == vma.start else f"{vma.vma}+{va - vma.start:#x}"

    def by(self, cpu: int) -> str:
        """`` by cpu1 (madvise A DONTNEED)``: who, and in what operation."""
        if cpu < 0:
            return " at set-up"
        op = self.ops.get(cpu)
        return f" by cpu{cpu} ({op})" if op else f" by cpu{cpu}"

    def writes(self, mm: str, va: int, *levels: int) -> list[tuple[int, str]]:
        """For histories: the last set and the last clear of ``va``'s entries of these levels."""
        lines = []
        for level in levels or (Level.PTE, Level.PMD):
            for notes in (self._cleared, self._set):
                note = notes.get((level, mm, va >> SHIFT[level]))
                if note is not None:
                    step, cpu, what, op = note
                    who = f"cpu{cpu}" if cpu >= 0 else "set-up"
                    start = va >> SHIFT[level] << SHIFT[level]
                    lines.append((step, f"{what} {self.at(mm, start)} by {who}" + (f" ({op})" if op else "")))
        return lines

    def owed(self, mm: str) -> list[tuple[int, str]]:
        """For histories: the gathers on this mm that are still open."""
        return [
            (step, f"mmu_gather of cpu{cpu} begins; its flush may still be owed")
            for cpu, (step, owner) in self.gathers.items()
            if owner == mm
        ]

    def table_life(self, table: int) -> list[tuple[int, str]]:
        """For histories: when this table was unlinked, queued and freed."""
        frame = self.memory.frames.get(table)
        if frame is None:
            return []
        lines = [(frame.born, f"frame {table:#x} (generation {frame.gen}) allocated as {frame.kind}")]
        if frame.unlinked >= 0:
            lines.append((frame.unlinked, f"table {table:#x} unlinked by cpu{frame.unlinker}"))
        if frame.queued >= 0:
            lines.append((frame.queued, f"table {table:#x} queued in a gather"))
        if frame.died >= 0:
            lines.append((frame.died, f"frame {table:#x} (generation {frame.gen}) freed"))
        return lines
