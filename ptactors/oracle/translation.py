"""Oracles of the TLB: what a CPU's cached translations may not be, and what may not be done through them."""

from __future__ import annotations

from typing import Any, ClassVar

from ptactors.model.event import Cr3Write, MachineCheck, MemRead, MemWrite, TlbFill
from ptactors.model.hazard import Severity
from ptactors.model.paging import PAGE_SIZE, PRESENT, WRITE
from ptactors.model.state import Listener
from ptactors.oracle.base import History, Oracle, Rule
from ptactors.oracle.caches import Held
from ptactors.oracle.mirror import Mirror


def _size(fill: TlbFill) -> str:
    return "4K" if fill.size == PAGE_SIZE else "2M"


def _cause(held: Held) -> str:
    if held.fill.speculative:
        return ", speculatively"
    return f", by {held.op}" if held.op else ""


def _filled(mirror: Mirror, held: Held) -> tuple[int, str]:
    fill = held.fill
    text = f"{_size(fill)} translation {mirror.at(fill.mm, fill.va)} -> frame {fill.pfn:#x} filled into the TLB of cpu{fill.cpu}"
    return held.step, text + _cause(held)


def _story(mirror: Mirror, held: Held, va: int) -> History:
    """How the older translation came, what became of its entries, and who owes a flush."""
    mm = held.fill.mm
    return (_filled(mirror, held), *mirror.writes(mm, va), *mirror.owed(mm))


def _common(one: TlbFill, other: TlbFill) -> int:
    """The address at which two overlapping translations are compared."""
    return max(one.va, other.va)


class MixedPageSizeTlb(Oracle):
    """One CPU caches a 4 KiB and a 2 MiB translation of one address that disagree on the frame or on write permission.

    Same frame and same attributes are tolerated (Intel SDM volume 3, 4.10.2.3; application note 317080; AMD erratum 383). Lazy
    CPUs count: their walker still fills.
    """

    name = "mixed_page_size_tlb"
    severity = Severity.CONDITION
    source = "RFC cover letter, situation 1; Intel 317080; AMD family 10h erratum 383"
    kinds = (TlbFill,)
    rule = Rule(
        meaning="A TLB remembers how virtual addresses translate. Here one CPU remembers two translations of the same"
        " address, one"
        " for a small page (4 KiB) and one for a huge page (2 MiB), and they lead to different memory or permissions."
        " An access"
        " may use either, and some processors stop with a machine check.",
        kernel="do_huge_pmd_anonymous_page() installs a huge pmd over one that try_to_free_pte() or try_to_reclaim_pgtables()"
        " has just cleared; the flush comes later, in tlb_finish_mmu().",
        avoided="RFC v1 6/7 flushes the 2 MiB under the pmd lock before a huge pmd is set, if a gather is pending"
        " (arch_flush_tlb_before_set_huge_page()). The merged series (v6.14) accepts the window: only programs that race"
        " MADV_DONTNEED with their own accesses can see it.",
        knob="flush_before_set_huge=false with pt_reclaim=rfc or merged, and thp=always",
        scenario="case1-mixed-page-size",
    )

    def see(self, step: int, actor: int, event: TlbFill) -> None:
        """A translation enters: compare it with those of the other size on the same CPU."""
        for cpu, held in self.mirror.caches.rivals(event):
            fill = held.fill
            if cpu != event.cpu or fill.size == event.size:
                continue
            va = _common(event, fill)
            new = Held(step, event, self.mirror.ops.get(cpu, ""))
            if new.frame_of(va) == held.frame_of(va) and event.write == fill.write:
                continue
            if self.first():
                what = f"{_size(event)} translation of {self.mirror.at(event.mm, event.va)} filled into the TLB of cpu{cpu}"
                what += f"{_cause(new)}, while it holds a {_size(fill)} translation of {self.mirror.at(fill.mm, fill.va)}"
                lines = _story(self.mirror, held, va)
                self.report(step, actor, what, lines, f"{_size(event)} over {_size(fill)}")


class TwoTranslations(Oracle):
    """Two usable TLB entries translate one page of one mm to different frames, on one CPU or on two.

    Every kernel lets this happen while a program races MADV_DONTNEED with its own accesses: zap_pte_range() drops the pte lock
    before tlb_finish_mmu() flushes. wp_page_copy() must never show it (ptep_clear_flush() before the new entry).
    """

    name = "two_translations_one_va"
    severity = Severity.CONDITION
    source = "mm/memory.c, wp_page_copy() and zap_pte_range(); RFC cover letter, situation 2"
    kinds: ClassVar[tuple[type, ...]] = (TlbFill, Cr3Write)
    rule = Rule(
        meaning="Two CPUs (or one) remember different memory for one address of one process at the same time, so that"
        " one of them"
        " reads or writes data that the other cannot see.",
        kernel="zap_pte_range() clears the entry and drops the pte lock; do_anonymous_page() maps a new page there; the old"
        " translation lives until tlb_finish_mmu() flushes. The old page is freed only after that flush.",
        avoided="By the program: only racing MADV_DONTNEED with accesses to the same range shows it. Copy-on-write avoids it:"
        " clear, flush, then set, all under the pte lock.",
        knob="none needed: every preset has the window; pending_flush=false makes it last",
        scenario="dontneed-refault",
    )

    def listeners(self) -> dict[type, Listener]:
        """A translation enters, or those of an asid become usable again."""
        return {TlbFill: self._compare, Cr3Write: self._load}

    def _load(self, step: int, actor: int, event: Cr3Write) -> None:
        if event.mm and event.noflush:
            space = self.mirror.caches.space(event.cpu, event.asid)
            for held in (*space.small.values(), *space.huge.values()):
                if held.fill.mm == event.mm:
                    self._compare(step, actor, held.fill)

    def _compare(self, step: int, actor: int, fill: TlbFill) -> None:
        lazy = self.mirror.lazy  # a lazy CPU uses none of its entries before it has caught up with the mm's generation
        for _, held in self.mirror.caches.rivals(fill):
            other = held.fill
            if other.mm == fill.mm and not (lazy.get(fill.cpu) or lazy.get(other.cpu)):
                va = _common(fill, other)
                pfn = fill.pfn + ((va - fill.va) >> 12)
                if pfn != held.frame_of(va) and self._counts(fill, other) and self.first():
                    self._tell(step, actor, fill, held, va, pfn)

    def _counts(self, fill: TlbFill, other: TlbFill) -> bool:
        return True

    def _tell(self, step: int, actor: int, fill: TlbFill, held: Held, va: int, pfn: int) -> None:
        other, at = held.fill, self.mirror.at(fill.mm, va)
        what = f"{at} is frame {pfn:#x} for cpu{fill.cpu} ({_size(fill)}) and frame {held.frame_of(va):#x} for cpu{other.cpu}"
        lines = _story(self.mirror, held, va)
        self.report(step, actor, f"{what} ({_size(other)})", lines, f"{_size(fill)} and {_size(other)}")


class TwoPtePages(TwoTranslations):
    """Two usable 4 KiB translations of one page to different frames, read from different PTE pages: the cover letter's case 2.

    The same race through one and the same PTE page is only :class:`TwoTranslations`.
    """

    name = "two_pte_pages"
    source = "RFC cover letter, situation 2; RFC v1 4/7, arch_flush_tlb_before_set_pte_page()"
    rule = Rule(
        meaning="A page table for 2 MiB of addresses was freed and a new one put in its place while a CPU still remembers a"
        " translation that it read from the old one; now two CPUs see different memory at one address.",
        kernel="try_to_free_pte() or try_to_reclaim_pgtables() clears the pmd; pmd_install() links a new table before"
        " tlb_finish_mmu() has flushed.",
        avoided="A flush under the pmd lock before a PTE page is installed would; the RFC has the hook and leaves it empty on"
        " x86, and v6.14 has none, as the old page is not freed before the flush.",
        knob="flush_before_set_pte=false with pt_reclaim=rfc or merged",
        scenario="case2-two-pte-pages",
    )

    def _counts(self, fill: TlbFill, other: TlbFill) -> bool:
        same_table = (fill.table, fill.table_gen) == (other.table, other.table_gen)
        return fill.size == other.size == PAGE_SIZE and not same_table

    def _tell(self, step: int, actor: int, fill: TlbFill, held: Held, va: int, pfn: int) -> None:
        other, at = held.fill, self.mirror.at(fill.mm, va)
        what = f"{at} is frame {pfn:#x} for cpu{fill.cpu} by PTE page {fill.table:#x} (generation {fill.table_gen}) and frame"
        what += f" {other.pfn:#x} for cpu{other.cpu} by PTE page {other.table:#x} (generation {other.table_gen})"
        self.report(step, actor, what, _story(self.mirror, held, va), "two PTE pages")


class StaleTlbToFreedPage(Oracle):
    """A program reads or writes through a translation whose frame was freed since (and perhaps handed out again).

    tlb_finish_mmu() flushes before it frees; that a stale entry merely exists is no hazard, its use is.
    """

    name = "stale_tlb_to_freed_page"
    source = "mm/mmu_gather.c: unhook, flush, free; Intel SDM volume 3, 4.10.4.4"
    kinds = (MemRead, MemWrite)
    rule = Rule(
        meaning="A CPU used a remembered translation to memory that the kernel had already given back, so it reads or"
        " overwrites"
        " whatever that memory is used for next.",
        kernel="zap_pte_range() queues pages in the gather; tlb_finish_mmu() must flush every CPU before"
        " free_pages_and_swap_cache()"
        " gives them back (mm_tlb_flush_nested() where a second gather is pending).",
        avoided="Unhook, flush, free: in this order. 99baac21e458 (v4.13) forces the flush of nested gathers.",
        knob="pending_flush=false",
        scenario="flush-before-free",
    )

    def see(self, step: int, actor: int, event: MemRead | MemWrite) -> None:
        """An access: is the frame what it was when the translation was filled?"""
        frame = self.mirror.target
        if frame is None or (frame.gen == event.gen and not frame.frees) or event.cpu < 0 or not self.first():
            return
        verb = "writes" if type(event) is MemWrite else "reads"
        state = "freed" if frame.frees else f"now {frame.kind}, generation {frame.gen}"
        at = self.mirror.at(event.mm, event.va)
        what = f"cpu{event.cpu} {verb} {at} through a translation to frame {event.pfn:#x} (generation {event.gen}), {state}"
        lines = [_filled(self.mirror, held) for held in self.mirror.caches.held(event.cpu, event.va)]
        lines += self.mirror.writes(event.mm, event.va)
        lines.append((frame.died, f"frame {frame.pfn:#x} (generation {frame.gen}) freed"))
        self.report(step, actor, what, tuple(lines), verb)


class PermissionBypass(Oracle):
    """A program writes where the kernel allows only reading, or reads where it allows nothing.

    It writes to the zero page; or it uses a translation that outlived the protection of its entry (write protection, PROT_NONE)
    although every flush that was owed to the mm is done.
    """

    name = "permission_bypass"
    source = "mm/mprotect.c, change_pte_range(); mm/memory.c, wp_page_copy(); Intel SDM volume 3, 4.10.4.4"
    kinds = (MemWrite, MemRead)
    rule = Rule(
        meaning="An access went to memory that the process may only read, or not even that, because a CPU remembered an"
        " older, wider permission. The"
        " shared page of zeros is the worst place for it: every process reads it.",
        kernel="do_wp_page(), change_pte_range(), do_anonymous_page() with the zero page; flush_tlb_fix_spurious_fault().",
        avoided="Narrowing an entry is always followed by a flush before the kernel relies on it.",
        knob="pending_flush=false with mprotect",
        scenario="mprotect-vs-write",
    )

    def listeners(self) -> dict[type, Listener]:
        """Stores, and loads."""
        return {MemWrite: self._store, MemRead: self._load}

    def _load(self, step: int, actor: int, event: MemRead) -> None:
        """A load: only what is inaccessible forbids it."""
        if self.mirror.memory.protnone:
            value = self.mirror.memory.maps(event.mm, event.va, event.pfn)
            if value and not value & PRESENT:
                self._judge(step, actor, event, "reads")

    def _store(self, step: int, actor: int, event: MemWrite) -> None:
        """A store: do software's tables allow it?"""
        if event.cpu < 0:
            return
        memory, frame = self.mirror.memory, self.mirror.target
        if frame is not None and frame.kind == "zero":
            if self.first():
                at = self.mirror.at(event.mm, event.va)
                lines = [_filled(self.mirror, held) for held in self.mirror.caches.held(event.cpu, event.va)]
                self.report(step, actor, f"cpu{event.cpu} writes {at} into the zero page", tuple(lines), "zero page")
            return
        value = memory.maps(event.mm, event.va, event.pfn)
        if value and not value & WRITE:
            self._judge(step, actor, event, "writes")

    def _judge(self, step: int, actor: int, event: MemRead | MemWrite, verb: str) -> None:
        """Its entry forbids it: is nobody about to flush the translation?"""
        memory = self.mirror.memory
        if self.mirror.settled(event.mm, memory.table_for(event.mm, event.va)) and self.first():
            lines = [_filled(self.mirror, held) for held in self.mirror.caches.held(event.cpu, event.va)]
            lines += self.mirror.writes(event.mm, event.va)
            what = f"cpu{event.cpu} {verb} {self.mirror.at(event.mm, event.va)}, which its entry no longer allows;"
            role = "write-protected page" if verb == "writes" else "inaccessible page"
            self.report(step, actor, f"{what} no flush is owed", tuple(lines), role)


class Crash(Oracle):
    """The machine stops: an access met translations of two sizes that differ (AMD erratum 383)."""

    name = "crash"
    source = "AMD family 10h erratum 383; arch/x86/kvm/svm, svm_init_erratum_383()"
    kinds = (MachineCheck,)
    rule = Rule(
        meaning="The processor found two translations of different page sizes for one address and stopped with a machine check.",
        kernel="The comment in __split_huge_pmd_locked() and pmdp_invalidate(); KVM's erratum_383_found.",
        avoided="Clear the entry, flush, then write the entry of the other size: never let both be cached.",
        knob="mixed_sizes=machine-check (hardware erratum-383) with flush_before_set_huge=false",
        scenario="erratum-383",
    )

    def see(self, step: int, actor: int, event: Any) -> None:
        """A machine check."""
        if self.first():
            mm = self.mirror.caches.loaded.get(event.cpu, ("", 0))[0]
            lines = tuple(_filled(self.mirror, held) for held in self.mirror.caches.held(event.cpu, event.va))
            what = f"machine check on cpu{event.cpu} at {self.mirror.at(mm, event.va)}: translations of two sizes"
            self.report(step, actor, what, lines, "mixed page sizes")
