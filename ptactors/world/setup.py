"""The state before the first step: processes, VMAs, tables, pages, CPUs and their TLBs, as the scenario gives them.

Everything is written by the same code that steps use, and told by the same events (with cpu -1), so that whoever reads only
events knows what there was at the start.
"""

from __future__ import annotations

from ptactors.hardware.memory import HUGE_ZERO_PFN, ZERO_PFN, Frame, Token, alloc_frame, data, entry, frame
from ptactors.hardware.tlb import Cr3, Translation, cr3, fill_psc, fill_tlb
from ptactors.kernel import mm as mms
from ptactors.kernel.pgtable import AllocTable, InstallUpper, WriteEntry, pgd_of, upper_tables
from ptactors.kernel.rcu import IDLE, mode
from ptactors.kernel.thp import Deposit
from ptactors.kernel.tlbflush import NR_DYN_ASIDS, TlbState, cpumask, tlbstate
from ptactors.model import paging
from ptactors.model.event import Cr3Write, FrameAlloc, FrameRef, MemWrite, SwitchMm, UserMode, VmaInit
from ptactors.model.paging import (
    ACCESSED,
    DIRTY,
    GUARD,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HUGE,
    MARKER,
    PAGE_SIZE,
    PMD_SIZE,
    PRESENT,
    PROTNONE,
    SHIFT,
    SPECIAL,
    SWAP,
    TABLE_FLAGS,
    USER,
    WRITE,
    Level,
    align_down,
    is_table,
)
from ptactors.model.state import State
from ptactors.scenario.model import Cpu, Entry, Scenario, Vma

BOOT = -1
"""The CPU that set-up is done by."""
MAPPED = PRESENT | USER | ACCESSED


def prepare(state: State, scenario: Scenario, threads: dict[str, int]) -> None:
    """Write the whole initial state; ``threads`` says how many threads each process has."""
    for pfn, order in ((ZERO_PFN, 0), (HUGE_ZERO_PFN, HPAGE_PMD_ORDER)):
        state.write(frame(pfn), Frame("zero", 1, order, 1))
        state.emit(FrameAlloc(BOOT, pfn, 1, "zero", order, ""))
    for process in scenario.processes:
        state.write(pgd_of(process), alloc_frame(state, BOOT, "pgd", 0, process))
        state.write(mms.users(process), threads[process])
        if state.config.machine.other_tables_kb:
            mms.add_pgtables(state, BOOT, process, state.config.machine.other_tables_kb << 10)
        mine = sorted((v for v in scenario.vmas if v.process == process), key=lambda v: v.at)
        state.write(mms.vmas(process), tuple(_vma(v) for v in mine if v.mapped))
        for vma in mine:
            state.emit(VmaInit(BOOT, vma.process, vma.name, vma.at, vma.end, vma.kind))
            if vma.mapped:
                _fill(state, vma)
        state.write(mms.areas(process), tuple((v.name, v.at, v.end) for v in mine))
    for cpu in scenario.cpus[: state.config.machine.cpus]:
        _cpu(state, cpu)


def _vma(vma: Vma) -> mms.Vma:
    private = vma.kind in ("anon", "file-private")
    flags = (vma.writable, vma.huge, vma.uffd_wp, vma.locked, vma.readable, vma.writable and private)
    return mms.Vma(vma.name, vma.at, vma.end, vma.kind, *flags)


def _mapped(vma: Vma) -> int:
    """The bits of an entry of the VMA: PROT_NONE hides it from the hardware."""
    return MAPPED if vma.readable else PROTNONE | ACCESSED


def _fill(state: State, vma: Vma) -> None:
    state.write(mms.vma_count(vma.name), 1)
    if vma.anon_prepared:
        mms.PrepareAnonVma(vma.name, vma.process).apply(state)
    for va in vma.tables:
        _pte_table(state, vma.process, va)
    for fill in vma.populate:
        for va in range(fill.start, fill.end, PAGE_SIZE):
            kind = "anon" if vma.kind == "anon" else "file"
            _page(state, vma, va, kind, fill.value, DIRTY if kind == "anon" else 0)
    for va, value in vma.huge_pages:
        _huge_page(state, vma, va, value)
    for each in vma.entries:
        _entry(state, vma, each)


def _pmd_table(state: State, mm: str, va: int) -> int:
    for level in (Level.PUD, Level.PMD):
        upper = upper_tables(state, mm, va)
        if not (upper.pud if level == Level.PUD else upper.pmd):
            InstallUpper(BOOT, mm, va, level, AllocTable(BOOT, mm, level).apply(state)).apply(state)
    return upper_tables(state, mm, va).pmd


def _pte_table(state: State, mm: str, va: int) -> int:
    pmd_table = _pmd_table(state, mm, va)
    pmd = state.read(entry(pmd_table, paging.index(va, Level.PMD)))
    if is_table(pmd):
        return paging.pfn_of(pmd)
    table = AllocTable(BOOT, mm, Level.PTE).apply(state)
    base = align_down(va, PMD_SIZE)
    WriteEntry("pmd_install", BOOT, mm, Level.PMD, base, pmd_table, paging.make(table, TABLE_FLAGS), PAGE_SIZE).apply(state)
    return table


def _set_pte(state: State, mm: str, va: int, value: int) -> None:
    WriteEntry("pte_set", BOOT, mm, Level.PTE, va, _pte_table(state, mm, va), value).apply(state)


def _store(state: State, mm: str, va: int, pfn: int, gen: int, size: int, value: int | str) -> None:
    token = Token(value, f"initial:{va:#x}")
    state.write(data(pfn), token)
    state.emit(MemWrite(BOOT, "initial", mm, va, pfn, gen, size, *token))


def _page(state: State, vma: Vma, va: int, kind: str, value: int | str, extra: int) -> None:
    pfn = alloc_frame(state, BOOT, kind, 0, vma.process)
    if kind == "file":  # the page cache holds a reference of its own
        was = state.read(frame(pfn))
        state.write(frame(pfn), was._replace(refs=2))
        state.emit(FrameRef(BOOT, pfn, was.gen, 2, "page cache"))
    writable = WRITE if vma.writable and (kind == "anon" or vma.kind != "file-private") else 0
    mms.add_rss(state, BOOT, vma.process, kind, 1)
    _set_pte(state, vma.process, va, paging.make(pfn, _mapped(vma) | writable | extra))
    _store(state, vma.process, va, pfn, state.read(frame(pfn)).gen, PAGE_SIZE, value)


def _huge_page(state: State, vma: Vma, va: int, value: int | str) -> None:
    mm = vma.process
    pmd_table = _pmd_table(state, mm, va)
    hugetlb = vma.kind == "hugetlb"
    pfn = alloc_frame(state, BOOT, "hugetlb" if hugetlb else "anon", HPAGE_PMD_ORDER, mm)
    if not hugetlb:
        Deposit(pmd_table, AllocTable(BOOT, mm, Level.PTE).apply(state)).apply(state)
        mms.add_rss(state, BOOT, mm, "anon", HPAGE_PMD_NR)
    flags = _mapped(vma) | HUGE | DIRTY | (WRITE if vma.writable else 0)
    WriteEntry("set_huge_pmd", BOOT, mm, Level.PMD, va, pmd_table, paging.make(pfn, flags), 0 if hugetlb else PAGE_SIZE).apply(
        state
    )
    gen = state.read(frame(pfn)).gen
    for i in range(HPAGE_PMD_NR):
        _store(state, mm, va + i * PAGE_SIZE, pfn + i, gen, PMD_SIZE, value)


def _entry(state: State, vma: Vma, given: Entry) -> None:
    mm = vma.process
    if given.kind in ("file", "file-dirty"):
        _page(state, vma, given.va, "file", given.value, DIRTY | WRITE if given.kind == "file-dirty" else 0)
    elif given.kind == "cow":
        _page(state, vma, given.va, "anon", given.value, DIRTY | WRITE)
    elif given.kind == "zero":
        _set_pte(state, mm, given.va, paging.make(ZERO_PFN, _mapped(vma) | SPECIAL))
    elif given.kind == "swap":
        mms.add_rss(state, BOOT, mm, "swap", 1)
        _set_pte(state, mm, given.va, SWAP)
    else:
        _set_pte(state, mm, given.va, {"marker-uffd-wp": MARKER, "guard": GUARD}[given.kind])


def _cpu(state: State, cpu: Cpu) -> None:
    here = cpu.number
    if cpu.state != "user":
        state.write(mode(here), IDLE)
        state.emit(UserMode(here, IDLE))
    if cpu.state == "off":
        return
    lazy = cpu.state != "user"
    slots = ((cpu.process, 1), *((("", 0),) * (NR_DYN_ASIDS - 1)))
    state.write(tlbstate(here), TlbState(cpu.process, 0, lazy, slots, 1))
    state.write(cpumask(cpu.process), state.read(cpumask(cpu.process)) | 1 << here)
    state.write(cr3(here), Cr3(cpu.process, state.read(pgd_of(cpu.process)), 0))
    _events_of_cr3(state, here, cpu.process, lazy)
    for va in (*cpu.psc, *cpu.tlb):
        _cache_path(state, here, cpu.process, va)
    for va in cpu.tlb:
        _cache_leaf(state, here, cpu.process, va)


def _events_of_cr3(state: State, cpu: int, mm: str, lazy: bool) -> None:
    state.emit(Cr3Write(cpu, mm, 0, True))
    state.emit(SwitchMm(cpu, "", mm, lazy))


def _cache_path(state: State, cpu: int, mm: str, va: int) -> None:
    upper = upper_tables(state, mm, va)
    pmd = state.read(entry(upper.pmd, paging.index(va, Level.PMD)))
    chain = [(Level.PGD, upper.pud), (Level.PUD, upper.pmd)]
    if is_table(pmd):
        chain.append((Level.PMD, paging.pfn_of(pmd)))
    for level, table in chain:
        fill_psc(state, cpu, (0, level, align_down(va, 1 << SHIFT[level])), table, state.read(frame(table)).gen)


def _cache_leaf(state: State, cpu: int, mm: str, va: int) -> None:
    upper = upper_tables(state, mm, va)
    pmd = state.read(entry(upper.pmd, paging.index(va, Level.PMD)))
    huge = bool(pmd & HUGE)
    table = upper.pmd if huge else paging.pfn_of(pmd)
    leaf = pmd if huge else state.read(entry(table, paging.index(va, Level.PTE)))
    size = PMD_SIZE if huge else PAGE_SIZE
    pfn = paging.pfn_of(leaf)
    gens = state.read(frame(pfn)).gen, state.read(frame(table)).gen
    held = Translation(pfn, gens[0], bool(leaf & WRITE), bool(leaf & DIRTY), table, gens[1])
    fill_tlb(state, cpu, (0, size, align_down(va, size)), held, False)
