"""One event in a few words, as a line of a diagram or a story shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.event import event_name
from ptactors.model.paging import HUGE, PRESENT, is_present, pfn_of

SIZES = {1 << 12: "4K", 1 << 21: "2M", 1 << 30: "1G"}
Words = Callable[[Any, Symbols], str]


def _at(symbols: Symbols, va: int, mm: str = "") -> str:
    return symbols.name(va, mm) or hex(va)


def _entry(e: ev.EntryWrite, symbols: Symbols) -> str:
    text = f"{e.what} {_at(symbols, e.va, e.mm)}"
    if not is_present(e.new):
        return text
    table = "table " if e.level and not e.new & HUGE else ""
    return f"{text} -> {table}{pfn_of(e.new):#x}{'' if e.new & PRESENT else ' (PROT_NONE)'}"


def _flush(e: ev.TlbFlush, symbols: Symbols) -> str:
    what = "all" if e.pages < 0 else symbols.span(e.start, e.end, e.mm)
    whom = ",".join(str(cpu) for cpu in e.targets)
    return f"tlb_flush {what}" + (f", IPI to cpu {whom}" if whom else ", no IPI")


def _invalidate(e: ev.TlbInvalidate, symbols: Symbols) -> str:
    if e.start <= 0 and e.end >= 1 << 47:
        return f"tlb invalidate all ({e.kind})"
    return f"tlb invalidate {symbols.span(e.start, e.end)}"


def _fill(e: ev.TlbFill, symbols: Symbols) -> str:
    text = f"tlb fill {_at(symbols, e.va, e.mm)} {SIZES.get(e.size, hex(e.size))} -> {e.pfn:#x}"
    return f"{text} (spec)" if e.speculative else text


def _walk(e: ev.WalkRead, symbols: Symbols) -> str:
    return f"walk reads {('pte', 'pmd', 'pud', 'pgd')[e.level]} {_at(symbols, e.va, e.mm)}: {e.value:#x}"


def _table_read(e: ev.TableRead, symbols: Symbols) -> str:
    if e.value < 0:  # the whole table at once
        return f"scans table {e.table:#x} of {_at(symbols, e.va, e.mm)}"
    return f"reads pte {_at(symbols, e.va, e.mm)}: {e.value:#x}"


def _syscall(e: ev.SyscallEnter, symbols: Symbols) -> str:
    parts = [symbols.span(e.start, e.end, e.mm)] if e.end > e.start else []
    return f"{e.call}({', '.join(parts + [e.arg] * bool(e.arg))})"


def _access(verb: str) -> Words:
    return lambda e, symbols: f"{verb} {_at(symbols, e.va, e.mm)}: {e.value} ({e.pfn:#x})"


def _lock(verb: str) -> Words:
    return lambda e, _: f"{verb}({e.lock})"


WORDS: dict[type, Words] = {
    ev.VmaInit: lambda e, _: f"vma {e.vma} {e.start:#x}-{e.end:#x} {e.kind}",
    ev.OpBegin: lambda e, _: e.text or e.op,
    ev.OpEnd: lambda e, _: f"{e.op} done{': ' + e.result if e.result else ''}",
    ev.Register: lambda e, _: f"{e.reg} = {e.value}",
    ev.ProgramsDone: lambda _, __: "all programs done",
    ev.Stuck: lambda e, _: f"{e.kind}: {e.why}",
    ev.RunEnd: lambda e, _: f"end of the run{'' if e.complete else ', incomplete'}",
    ev.SyscallEnter: _syscall,
    ev.SyscallExit: lambda e, _: f"{e.call} returns {e.ret}",
    ev.PageFault: lambda e, s: f"page fault {_at(s, e.address)}{' (write)' if e.error_code & 2 else ''}",
    ev.PageFaultEnd: lambda e, _: f"fault done: {e.result}",
    ev.ExitMm: lambda e, _: f"exit_mmap({e.mm}) done",
    ev.MemRead: _access("read"),
    ev.MemWrite: _access("write"),
    ev.MachineCheck: lambda e, s: f"machine check at {_at(s, e.va)}",
    ev.TlbFill: _fill,
    ev.TlbEvict: lambda e, s: f"tlb evict {_at(s, e.va)} {SIZES.get(e.size, hex(e.size))}",
    ev.TlbInvalidate: _invalidate,
    ev.PscFill: lambda e, s: f"psc fill {_at(s, e.va, e.mm)}: table {e.table:#x}",
    ev.WalkRead: _walk,
    ev.HardwareBits: lambda e, s: f"A/D set in {_at(s, e.va, e.mm)}",
    ev.Cr3Write: lambda e, _: f"cr3 = {e.mm or 'init_mm'}, asid {e.asid}",
    ev.FrameAlloc: lambda e, _: f"alloc {e.kind} frame {e.pfn:#x} gen {e.gen}",
    ev.FrameFree: lambda e, _: f"free {e.kind} frame {e.pfn:#x} gen {e.gen}",
    ev.FrameRef: lambda e, _: f"frame {e.pfn:#x}: {e.refs} refs ({e.why})",
    ev.FolioDirty: lambda e, _: f"frame {e.pfn:#x} marked dirty",
    ev.IrqsOff: lambda _, __: "irqs off",
    ev.IrqsOn: lambda _, __: "irqs on",
    ev.IpiSend: lambda e, _: f"send IPI to cpu {','.join(map(str, e.targets))}: {e.func}",
    ev.IpiArrive: lambda e, _: f"IPI from cpu{e.source} arrives",
    ev.IpiWait: lambda _, __: "wait for IPI acknowledgement",
    ev.IpiDone: lambda _, __: "IPIs acknowledged",
    ev.CsdEnter: lambda e, _: f"<interrupt> {e.func} for cpu{e.source}",
    ev.CsdExit: lambda e, _: f"</interrupt> {e.func}",
    ev.EntryWrite: _entry,
    ev.TableMap: lambda e, s: f"map table {e.table:#x} of {_at(s, e.va, e.mm)}",
    ev.TableUnmap: lambda e, _: f"unmap table {e.table:#x}",
    ev.TableRead: _table_read,
    ev.GupPin: lambda e, s: f"pins {_at(s, e.va, e.mm)} -> {e.pfn:#x}",
    ev.FaultIn: lambda e, s: f"fault in {_at(s, e.address, e.mm)}{' (write)' if e.write else ''}",
    ev.CollapseCopy: lambda e, s: f"collapse {_at(s, e.va, e.mm)}: {e.copied} pages copied to {e.pfn:#x}",
    ev.TableDeposit: lambda e, s: f"deposit table {e.table:#x} for {_at(s, e.va, e.mm)}",
    ev.LockAcquire: _lock("lock"),
    ev.LockFail: _lock("trylock fails: "),
    ev.LockRelease: _lock("unlock"),
    ev.RcuLock: lambda _, __: "rcu_read_lock",
    ev.RcuUnlock: lambda _, __: "rcu_read_unlock",
    ev.CallRcu: lambda e, _: f"call_rcu {e.callback}, gp {e.seq}",
    ev.RcuSynchronize: lambda e, _: f"synchronize_rcu, gp {e.seq}",
    ev.RcuGpStart: lambda e, _: f"grace period {e.seq} starts",
    ev.RcuGpEnd: lambda e, _: f"grace period {e.seq} ends",
    ev.RcuCallback: lambda e, _: f"rcu callback {e.callback}",
    ev.TlbFlush: _flush,
    ev.TlbFlushEnd: lambda _, __: "tlb_flush done",
    ev.GatherBegin: lambda e, _: f"tlb_gather_mmu, {e.pending} pending",
    ev.GatherPage: lambda e, s: f"gather page {_at(s, e.va, e.mm)}",
    ev.GatherTable: lambda e, s: f"gather table {e.pfn:#x} of {_at(s, e.va, e.mm)} ({e.how})",
    ev.GatherEnd: lambda e, _: f"tlb_finish_mmu done{' (nested)' if e.nested else ''}",
    ev.SwitchMm: lambda e, _: f"switch_mm {e.prev or 'init_mm'} -> {e.next or 'init_mm'}{' (lazy)' if e.lazy else ''}",
}
"""Kind of event -> its words; a kind that is missing is shown by its log name."""


def describe(event: Any, symbols: Symbols) -> str:
    """The event in a few words; its log name where nothing better is known."""
    words = WORDS.get(type(event))
    return " ".join(words(event, symbols).split()) if words else event_name(event)
