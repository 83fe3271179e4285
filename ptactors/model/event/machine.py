"""Events of the hardware: memory, TLBs, walks, interrupts."""

from __future__ import annotations

from typing import NamedTuple


class MemRead(NamedTuple):
    """A load by a program, through the TLB."""

    cpu: int
    label: str
    mm: str
    va: int
    pfn: int
    gen: int
    size: int
    value: int | str
    token: str


class MemWrite(NamedTuple):
    """A store by a program, through the TLB; the token names this store and no other."""

    cpu: int
    label: str
    mm: str
    va: int
    pfn: int
    gen: int
    size: int
    value: int | str
    token: str


class MachineCheck(NamedTuple):
    """The CPU stops: an access found translations of two sizes (erratum 383)."""

    cpu: int
    va: int


class TlbFill(NamedTuple):
    """A translation enters a TLB; ``va`` is aligned to ``size``; ``table`` is the page that held the leaf entry."""

    cpu: int
    mm: str
    asid: int
    va: int
    size: int
    pfn: int
    gen: int
    write: bool
    dirty: bool
    table: int
    table_gen: int
    speculative: bool


class TlbEvict(NamedTuple):
    """A translation leaves a full TLB."""

    cpu: int
    asid: int
    va: int
    size: int


class TlbInvalidate(NamedTuple):
    """An invalidation on this CPU: all translations of ``asid`` (-1: of every one) that meet [start, end).

    ``psc``: upper-level entries dropped: ``all`` of the asid, those on the ``path`` to the range.
    """

    cpu: int
    asid: int
    start: int
    end: int
    kind: str
    psc: str


class PscFill(NamedTuple):
    """An upper-level entry enters the paging-structure caches: ``va``'s entry of ``level`` points to ``table``."""

    cpu: int
    mm: str
    asid: int
    level: int
    va: int
    table: int
    gen: int


class PscEvict(NamedTuple):
    """An upper-level entry leaves a full paging-structure cache."""

    cpu: int
    asid: int
    level: int
    va: int


class WalkRead(NamedTuple):
    """The hardware walker reads an entry of a table; ``gen`` is the generation of the frame when it learnt of the table."""

    cpu: int
    mm: str
    level: int
    va: int
    table: int
    gen: int
    slot: int
    value: int
    cached: bool
    speculative: bool


class HardwareBits(NamedTuple):
    """The hardware walker sets A or D in an entry, by a locked exchange."""

    cpu: int
    mm: str
    level: int
    va: int
    table: int
    slot: int
    old: int
    new: int


class Cr3Write(NamedTuple):
    """MOV CR3: the CPU now walks the tables of ``mm`` ('' = init_mm) with this asid."""

    cpu: int
    mm: str
    asid: int
    noflush: bool


class FrameAlloc(NamedTuple):
    """The page allocator hands out a frame (2^order pages). kind: anon, file, zero, pte, pmd, pud, pgd, batch."""

    cpu: int
    pfn: int
    gen: int
    kind: str
    order: int
    mm: str


class FrameFree(NamedTuple):
    """The page allocator takes a frame back; its content is poison from here on."""

    cpu: int
    pfn: int
    gen: int
    kind: str
    order: int


class FrameRef(NamedTuple):
    """A reference to a frame is taken or dropped; refs is what is left."""

    cpu: int
    pfn: int
    gen: int
    refs: int
    why: str


class FolioDirty(NamedTuple):
    """A file page is marked dirty."""

    cpu: int
    pfn: int
    gen: int


class IrqsOff(NamedTuple):
    """local_irq_save()."""

    cpu: int


class IrqsOn(NamedTuple):
    """local_irq_restore()."""

    cpu: int


class IpiSend(NamedTuple):
    """An inter-processor interrupt is sent: one message a target goes onto the bus."""

    cpu: int
    targets: tuple[int, ...]
    func: str


class IpiArrive(NamedTuple):
    """The bus delivers a message to ``cpu``; it is pending there until interrupts are enabled."""

    cpu: int
    source: int
    func: str


class IpiWait(NamedTuple):
    """The sender begins to wait for acknowledgements."""

    cpu: int
    irqs_off: bool


class IpiDone(NamedTuple):
    """All targets have acknowledged."""

    cpu: int


class CsdEnter(NamedTuple):
    """The interrupt is taken and the function begins."""

    cpu: int
    source: int
    func: str


class CsdExit(NamedTuple):
    """The function is done and its sender acknowledged."""

    cpu: int
    source: int
    func: str
