"""TLB flushing and the switching of address spaces on x86.

Every change of tables that takes something away moves the mm's ``tlb_gen`` on; each CPU remembers, for each of its six address
space identifiers, up to which generation it has caught up. A flush is the change of the generation, then interrupts to the CPUs
that have the mm loaded; a CPU that is lazy (a kernel thread on borrowed tables) is left alone unless tables were freed, and
catches up when it comes back.

Source: arch/x86/mm/tlb.c, v6.10-6.14; the two variants of mm_cpumask handling are those up to v6.13 (``left_mask`` clear) and
from v6.14 (keep). Simplified: no KPTI user PCID, no INVLPGB, no paravirt flush; init_mm keeps the asid of the mm it takes
over from; stale mask bits are dropped when such a CPU is interrupted, but no interrupt is sent once a second to that end; steps
are in order everywhere, so that the barrier which 209954cbc7d0 (v6.14) lost in switch_mm and 83b0177a6c48 put back is not missed.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import attrs

from ptactors.config import FlushFilter, Kernel, LeftMask
from ptactors.hardware.cpu import Cpu
from ptactors.hardware.interrupt import Info, IrqRestore, IrqSave, call_function_and_wait
from ptactors.hardware.tlb import FlushAsid, Invlpg, WriteCr3
from ptactors.kernel.lock import preempt
from ptactors.kernel.pgtable import pgd_of
from ptactors.model.event import SwitchMm, TlbFlush, TlbFlushEnd
from ptactors.model.paging import PAGE_SHIFT, PAGE_SIZE
from ptactors.model.state import Cell, Key, State, family
from ptactors.model.step import Footprint, Step

TLB_FLUSH_ALL = 1 << 48
"""End of a flush of everything."""
NR_DYN_ASIDS = 6
SWITCHING = "switching"
"""LOADED_MM_SWITCHING."""
INIT_MM = ""


class TlbState(NamedTuple):
    """cpu_tlbstate: what a CPU knows of its own TLB."""

    loaded: str = INIT_MM
    """The mm whose tables CR3 holds; '' is init_mm."""
    asid: int = 0
    lazy: bool = False
    slots: tuple[tuple[str, int], ...] = ((INIT_MM, 0),) * NR_DYN_ASIDS
    """Per asid: (mm, generation it has caught up with)."""
    next_asid: int = 1

    def local_gen(self) -> int:
        """The generation that the loaded mm's asid has caught up with."""
        return self.slots[self.asid][1]

    def caught_up(self, gen: int) -> TlbState:
        """The state after catching up with ``gen``."""
        slots = list(self.slots)
        slots[self.asid] = (self.loaded, gen)
        return self._replace(slots=tuple(slots))


family("tlbstate", TlbState(), "what a CPU knows of its own TLB")
family("tlb_gen", 1, "an mm's TLB generation")
family("cpumask", 0, "bit mask of the CPUs that may hold an mm's translations")


def tlbstate(cpu: int) -> Cell[TlbState]:
    """The CPU's state."""
    return ("tlbstate", cpu)  # type: ignore[return-value]


def tlb_gen(mm: str) -> Cell[int]:
    """The mm's generation."""
    return ("tlb_gen", mm)  # type: ignore[return-value]


def cpumask(mm: str) -> Cell[int]:
    """The mm's CPUs."""
    return ("cpumask", mm)  # type: ignore[return-value]


@attrs.frozen
class IncTlbGen(Step[int]):
    """inc_mm_tlb_gen() after get_cpu(): a full barrier between the changes of tables before it and the look at the mask."""

    cpu: int
    mm: str
    label = "tlb_gen_inc"

    def apply(self, state: State) -> int:
        """Move it on."""
        state.write(preempt(self.cpu), state.read(preempt(self.cpu)) + 1)
        gen = state.read(tlb_gen(self.mm)) + 1
        state.write(tlb_gen(self.mm), gen)
        return gen

    def touches(self, state: State) -> Footprint:
        """The generation and the preempt count."""
        keys = (tlb_gen(self.mm), preempt(self.cpu))
        return keys, keys


@attrs.frozen
class ReadTlbGen(Step[int]):
    """Read mm->context.tlb_gen."""

    mm: str
    label = "tlb_gen_read"

    def apply(self, state: State) -> int:
        """Read it."""
        return state.read(tlb_gen(self.mm))

    def touches(self, state: State) -> Footprint:
        """The generation."""
        return (tlb_gen(self.mm),), ()


@attrs.frozen
class ReadMask(Step[int]):
    """Read mm_cpumask."""

    mm: str
    label = "cpumask_read"

    def apply(self, state: State) -> int:
        """Read it."""
        return state.read(cpumask(self.mm))

    def touches(self, state: State) -> Footprint:
        """The mask."""
        return (cpumask(self.mm),), ()


@attrs.frozen
class ChangeMask(Step[None]):
    """cpumask_set_cpu() or cpumask_clear_cpu()."""

    cpu: int
    mm: str
    on: bool
    labels = ("cpumask_set", "cpumask_clear")

    def name(self) -> str:
        """By direction."""
        return "cpumask_set" if self.on else "cpumask_clear"

    def apply(self, state: State) -> None:
        """Change the bit."""
        mask = state.read(cpumask(self.mm))
        state.write(cpumask(self.mm), mask | 1 << self.cpu if self.on else mask & ~(1 << self.cpu))

    def touches(self, state: State) -> Footprint:
        """The mask."""
        return (cpumask(self.mm),), (cpumask(self.mm),)


@attrs.frozen
class ReadTlbState(Step[TlbState]):
    """Read a CPU's cpu_tlbstate: its own, or another's is_lazy and loaded_mm to decide whether to interrupt it."""

    cpu: int
    label = "tlbstate_read"

    def apply(self, state: State) -> TlbState:
        """Read it."""
        return state.read(tlbstate(self.cpu))

    def touches(self, state: State) -> Footprint:
        """The state."""
        return (tlbstate(self.cpu),), ()


@attrs.frozen
class WriteTlbState(Step[None]):
    """Write this CPU's own cpu_tlbstate."""

    cpu: int
    now: TlbState
    label = "tlbstate_write"

    def apply(self, state: State) -> None:
        """Write it; a change of task is worth an event."""
        was = state.read(tlbstate(self.cpu))
        state.write(tlbstate(self.cpu), self.now)
        if (was.loaded, was.lazy) != (self.now.loaded, self.now.lazy) and self.now.loaded != SWITCHING:
            state.emit(SwitchMm(self.cpu, was.loaded, self.now.loaded, self.now.lazy))

    def touches(self, state: State) -> Footprint:
        """The state."""
        return (tlbstate(self.cpu),), (tlbstate(self.cpu),)


@attrs.frozen
class BeginFlush(Step[None]):
    """The flush is decided: who will be interrupted, and how much goes (the tracepoint tlb:tlb_flush stands here)."""

    cpu: int
    reason: str
    mm: str
    start: int
    end: int
    stride: int
    gen: int
    freed_tables: bool
    targets: tuple[int, ...]
    label = "tlb_flush"

    def apply(self, state: State) -> None:
        """Say so."""
        pages = -1 if self.end == TLB_FLUSH_ALL else self.end - self.start >> self.stride
        state.emit(
            TlbFlush(self.cpu, self.reason, pages, self.mm, self.start, self.end, self.gen, self.freed_tables, self.targets)
        )

    def touches(self, state: State) -> Footprint:
        """Nothing."""
        return (), ()


@attrs.frozen
class EndFlush(Step[None]):
    """put_cpu() at the end of flush_tlb_mm_range()."""

    cpu: int
    mm: str
    gen: int
    label = "tlb_flush_done"

    def apply(self, state: State) -> None:
        """Allow preemption again."""
        state.write(preempt(self.cpu), state.read(preempt(self.cpu)) - 1)
        state.emit(TlbFlushEnd(self.cpu, self.mm, self.gen))

    def touches(self, state: State) -> Footprint:
        """The preempt count."""
        return (preempt(self.cpu),), (preempt(self.cpu),)


async def flush_tlb_mm_range(cpu: Cpu, start: int, end: int, stride: int, freed_tables: bool, reason: str) -> None:
    """Make every CPU forget the translations of [start, end) of the current mm; returns when all have.

    The caller may hold spinlocks; interrupts must be enabled.
    """
    mm = cpu.mm
    gen = await IncTlbGen(cpu.id, mm)
    if end - start >> stride > cpu.config.kernel.flush_ceiling:
        start, end = 0, TLB_FLUSH_ALL
    mask = await ReadMask(mm)
    others = [other for other in range(cpu.config.machine.cpus) if mask >> other & 1 and other != cpu.id]
    if not freed_tables or not cpu.config.kernel.flush_lazy_on_freed_tables:
        others = [other for other in others if should_flush_tlb(cpu, await ReadTlbState(other))]
    if not cpu.config.kernel.pending_flush:
        others = []
    await BeginFlush(cpu.id, reason, mm, start, end, stride, gen, freed_tables, tuple(others))
    info: Info = (mm, start, end, stride, gen)
    local = functools.partial(_flush_here, cpu.id, info, cpu.config.kernel) if mask >> cpu.id & 1 else None
    await call_function_and_wait(cpu.id, tuple(others), "flush_tlb_func", info, local)
    await EndFlush(cpu.id, mm, gen)


def should_flush_tlb(cpu: Cpu, other: TlbState) -> bool:
    """tlb_is_not_lazy() up to v6.13, should_flush_tlb() from v6.14, on what was read of another CPU."""
    how = cpu.config.kernel.flush_filter
    if other.lazy:
        return False
    if how is FlushFilter.NOT_LAZY or other.loaded == cpu.mm:
        return True
    return how is FlushFilter.LOADED_OR_SWITCHING and other.loaded == SWITCHING


async def _flush_here(cpu: int, info: Info, kernel: Kernel) -> None:
    """The local part of a flush: the same function, with interrupts off."""
    await IrqSave(cpu)
    await flush_tlb_func(cpu, info, kernel)
    await IrqRestore(cpu)


async def flush_tlb_func(cpu: int, info: Info, kernel: Kernel) -> None:
    """Catch up with the mm's generation, as far as this CPU has to; runs with interrupts off."""
    mm, start, end, stride, new_gen = str(info[0]), int(info[1]), int(info[2]), int(info[3]), int(info[4])
    here = await ReadTlbState(cpu)
    if here.loaded != mm:
        if kernel.left_mask is LeftMask.KEEP:
            await ChangeMask(cpu, mm, False)
        return
    if here.lazy:
        # Not worth a flush: leave the tables altogether. Also what makes freed tables unreachable for this CPU's walker.
        await _load_init_mm(cpu, here, kernel.left_mask)
        return
    if here.local_gen() >= new_gen:
        return
    mm_gen = await ReadTlbGen(mm)
    in_order = new_gen == here.local_gen() + 1 and new_gen == mm_gen
    if end != TLB_FLUSH_ALL and (in_order or not kernel.partial_flush_needs_next_gen):
        await Invlpg(cpu, start, end, stride)
    else:
        await FlushAsid(cpu)
    await WriteTlbState(cpu, here.caught_up(mm_gen))


async def _load_init_mm(cpu: int, here: TlbState, left_mask: LeftMask) -> None:
    """switch_mm_irqs_off(NULL, &init_mm): user tables are out of reach; the asid keeps its old generation.

    Up to v6.13 the mask bit goes before CR3 is written, as in :func:`_load_other`: for a few instructions the CPU's walker
    may use tables that another CPU, which skips it already, frees at once. True of those
    kernels where tables are freed without RCU.
    """
    if left_mask is LeftMask.CLEAR:
        await ChangeMask(cpu, here.loaded, False)
    await WriteCr3(cpu, INIT_MM, 0, here.asid, True)
    await WriteTlbState(cpu, here._replace(loaded=INIT_MM, lazy=False))


async def enter_lazy_tlb(cpu: Cpu) -> None:
    """A kernel thread or the idle task takes over: the tables stay loaded, and the walker may go on using them.

    The scheduler calls it with interrupts off, so that no flush of this CPU falls in between.
    """
    await IrqSave(cpu.id)
    here = await ReadTlbState(cpu.id)
    if here.loaded != INIT_MM:
        await WriteTlbState(cpu.id, here._replace(lazy=True))
    await IrqRestore(cpu.id)


@attrs.frozen
class ReadPgd(Step[int]):
    """Read mm->pgd."""

    mm: str
    label = "pgd_read"

    def apply(self, state: State) -> int:
        """Read it."""
        return state.read(pgd_of(self.mm))

    def touches(self, state: State) -> Footprint:
        """The pointer."""
        keys: tuple[Key, ...] = (pgd_of(self.mm),)
        return keys, ()


async def switch_mm(cpu: Cpu, to: str) -> None:
    """switch_mm_irqs_off(): load the tables of ``to``, catching up if its generation moved on meanwhile."""
    await IrqSave(cpu.id)
    here = await ReadTlbState(cpu.id)
    if here.loaded == to:
        if here.lazy:
            await _leave_lazy(cpu, here)
    else:
        await _load_other(cpu, here, to)
    await IrqRestore(cpu.id)


async def _leave_lazy(cpu: Cpu, here: TlbState) -> None:
    """The same mm comes back: clear is_lazy first, then look at the generation, so that no flush falls in between."""
    here = here._replace(lazy=False)
    await WriteTlbState(cpu.id, here)
    gen = await ReadTlbGen(here.loaded)
    if gen != here.local_gen():
        await FlushAsid(cpu.id)
        await WriteTlbState(cpu.id, here.caught_up(gen))


async def _load_other(cpu: Cpu, here: TlbState, to: str) -> None:
    left_mask = cpu.config.kernel.left_mask
    if left_mask is LeftMask.CLEAR and here.loaded != INIT_MM:
        await ChangeMask(cpu.id, here.loaded, False)
    if left_mask is LeftMask.KEEP:
        await WriteTlbState(cpu.id, here._replace(loaded=SWITCHING))
    await ChangeMask(cpu.id, to, True)
    gen = await ReadTlbGen(to)
    asid, flush, next_asid = _choose_asid(cpu, here, to, gen)
    if left_mask is LeftMask.CLEAR:
        await WriteTlbState(cpu.id, here._replace(loaded=SWITCHING))
    await WriteCr3(cpu.id, to, await ReadPgd(to), asid, not flush)
    now = here._replace(loaded=to, asid=asid, lazy=False, next_asid=next_asid)
    await WriteTlbState(cpu.id, now.caught_up(gen))


def _choose_asid(cpu: Cpu, here: TlbState, to: str, gen: int) -> tuple[int, bool, int]:
    """choose_new_asid(): (asid, whether it must be flushed, the next to hand out)."""
    if not cpu.config.machine.pcid:
        return 0, True, here.next_asid
    for asid, (mm, slot_gen) in enumerate(here.slots):
        if mm == to:
            return asid, slot_gen < gen, here.next_asid
    asid = here.next_asid if here.next_asid < NR_DYN_ASIDS else 0
    return asid, True, asid + 1


async def flush_tlb_page(cpu: Cpu, va: int) -> None:
    """flush_tlb_page(): one page, no tables freed."""
    await flush_tlb_mm_range(cpu, va, va + PAGE_SIZE, PAGE_SHIFT, False, "page")


async def flush_tlb_range(cpu: Cpu, start: int, end: int, reason: str, stride: int = PAGE_SHIFT) -> None:
    """flush_tlb_range(): by 4 KiB strides, in hugetlb by its pages; whether it counts as freeing tables changed in v6.15."""
    await flush_tlb_mm_range(cpu, start, end, stride, cpu.config.kernel.flush_range_frees_tables, reason)
