"""Stories of the TLB: each hazard with a story that shows it and its nearest harmless neighbours."""

from __future__ import annotations

import pytest
from test_oracle_kit import (
    FLAGS,
    HEAD,
    MM,
    PAGE,
    PAGE2,
    PTE,
    PTE2,
    RO,
    A,
    Story,
    alloc,
    drop,
    fill,
    flush,
    free,
    huge,
    pmd,
    pte,
    read,
    take,
    to_table,
    write,
)

from ptactors.model import event as ev
from ptactors.model.paging import PMD_SIZE, make

B = A + 0x3000
MIXED = {"mixed_page_size_tlb", "two_translations_one_va"}


def both_pages() -> Story:
    return Story().do(alloc(PAGE), alloc(PAGE2), alloc(HEAD, order=9))


MIXES = {
    "huge over small": (both_pages().do(fill(1, B, PAGE), fill(1, A, HEAD, PMD_SIZE)), MIXED),
    "small over huge": (both_pages().do(fill(1, A, HEAD, PMD_SIZE), fill(1, B, PAGE)), MIXED),
    "speculation on a lazy cpu": (
        both_pages().do(fill(1, B, PAGE), ev.SwitchMm(1, MM, MM, True), fill(1, A, HEAD, PMD_SIZE)._replace(speculative=True)),
        {"mixed_page_size_tlb"},
    ),
    "same frame, other permission": (
        both_pages().do(fill(1, B, HEAD + 3, write=False), fill(1, A, HEAD, PMD_SIZE)),
        {"mixed_page_size_tlb"},
    ),
    "same frame, same permission": (both_pages().do(fill(1, B, HEAD + 3), fill(1, A, HEAD, PMD_SIZE)), set()),
    "flushed in between": (both_pages().do(fill(1, B, PAGE), flush(1), fill(1, A, HEAD, PMD_SIZE)), set()),
    "flushed one by one": (both_pages().do(fill(1, B, PAGE), flush(1, B, B + 1), fill(1, A, HEAD, PMD_SIZE)), set()),
    "flushed the neighbour only": (
        both_pages().do(fill(1, B, PAGE), flush(1, B + 0x1000, B + 0x2000), fill(1, A, HEAD, PMD_SIZE)),
        MIXED,
    ),
    "any part drops the 2M entry": (both_pages().do(fill(1, A, HEAD, PMD_SIZE), flush(1, B, B + 1), fill(1, B, PAGE)), set()),
    "evicted": (both_pages().do(fill(1, B, PAGE), ev.TlbEvict(1, 1, B, 0x1000), fill(1, A, HEAD, PMD_SIZE)), set()),
    "flushed for every asid": (both_pages().do(fill(1, B, PAGE), flush(1, asid=-1), fill(1, A, HEAD, PMD_SIZE)), set()),
    "another asid is flushed": (both_pages().do(fill(1, B, PAGE), flush(1, asid=2), fill(1, A, HEAD, PMD_SIZE)), MIXED),
    "CR3 written without NOFLUSH": (
        both_pages().do(fill(1, B, PAGE), ev.Cr3Write(1, MM, 1, False), fill(1, A, HEAD, PMD_SIZE)),
        set(),
    ),
    "on two cpus it is no mixture": (
        both_pages().do(fill(0, B, PAGE), fill(1, A, HEAD, PMD_SIZE)),
        {"two_translations_one_va"},
    ),
    "outside the 2M": (both_pages().do(fill(1, A + PMD_SIZE, PAGE), fill(1, A, HEAD, PMD_SIZE)), set()),
}


@pytest.mark.parametrize("case", MIXES)
def test_mixed_page_sizes(case):
    story, expected = MIXES[case]
    assert story.seen() == expected


TWO = {
    "through one table": (both_pages().do(fill(0, B, PAGE), fill(1, B, PAGE2)), {"two_translations_one_va"}),
    "through two tables": (
        both_pages().do(fill(0, B, PAGE), fill(1, B, PAGE2, table=PTE2)),
        {"two_translations_one_va", "two_pte_pages"},
    ),
    "through two lives of one table": (
        both_pages().do(fill(0, B, PAGE), fill(1, B, PAGE2, table_gen=2)),
        {"two_translations_one_va", "two_pte_pages"},
    ),
    "two tables, one frame": (both_pages().do(fill(0, B, PAGE), fill(1, B, PAGE, table=PTE2)), set()),
    "2M tables never count as PTE pages": (
        both_pages().do(fill(0, B, PAGE), fill(1, A, HEAD, PMD_SIZE)),
        {"two_translations_one_va"},
    ),
    "flushed first": (both_pages().do(fill(0, B, PAGE), flush(0), fill(1, B, PAGE2, table=PTE2)), set()),
    "the other cpu runs another mm": (
        both_pages().do(fill(0, B, PAGE), ev.Cr3Write(0, "n", 2, True), fill(1, B, PAGE2)),
        set(),
    ),
    "the other cpu is on init_mm": (both_pages().do(fill(0, B, PAGE), ev.Cr3Write(0, "", 0, True), fill(1, B, PAGE2)), set()),
    "it comes back without a flush": (
        both_pages().do(fill(0, B, PAGE), ev.Cr3Write(0, "n", 2, True), fill(1, B, PAGE2), ev.Cr3Write(0, MM, 1, True)),
        {"two_translations_one_va"},
    ),
    "it comes back with a flush": (
        both_pages().do(fill(0, B, PAGE), ev.Cr3Write(0, "n", 2, True), fill(1, B, PAGE2), ev.Cr3Write(0, MM, 1, False)),
        set(),
    ),
    "another mm": (both_pages().do(fill(0, B, PAGE), ev.Cr3Write(1, "n", 1, True), fill(1, B, PAGE2)._replace(mm="n")), set()),
    "another page": (both_pages().do(fill(0, B, PAGE), fill(1, B + 0x1000, PAGE2)), set()),
}


@pytest.mark.parametrize("case", TWO)
def test_two_translations(case):
    story, expected = TWO[case]
    assert story.seen() == expected


STALE = {
    "read of a freed page": (Story("file-shared").do(alloc(PAGE), fill(0, A, PAGE), free(PAGE), read(0, A, "poison")), True),
    "write to a freed page": (Story("file-shared").do(alloc(PAGE), fill(0, A, PAGE), free(PAGE), write(0, A, "t")), True),
    "write to a page reused since": (
        Story("file-shared").do(alloc(PAGE), fill(0, A, PAGE), free(PAGE), alloc(PAGE, gen=2), write(0, A, "t")),
        True,
    ),
    "the entry merely exists": (Story().do(alloc(PAGE), fill(0, A, PAGE), free(PAGE)), False),
    "a fill after the reuse": (
        Story().do(alloc(PAGE), free(PAGE), alloc(PAGE, gen=2), fill(0, A, PAGE, gen=2), write(0, A, "t", gen=2)),
        False,
    ),
    "a page inside a live huge frame": (
        Story().do(alloc(HEAD, order=9), fill(0, A, HEAD, PMD_SIZE), write(0, B, "t", HEAD + 3)),
        False,
    ),
    "a page inside a freed huge frame": (
        Story("file-shared").do(
            alloc(HEAD, order=9), fill(0, A, HEAD, PMD_SIZE), free(HEAD, order=9), write(0, B, "t", HEAD + 3)
        ),
        True,
    ),
    "a huge frame reused": (
        Story("file-shared").do(alloc(HEAD, order=9), free(HEAD, order=9), alloc(HEAD, gen=2, order=9), read(0, B, "", HEAD + 3)),
        True,
    ),
    "a frame nobody announced": (Story("file-shared").do(read(0, A, "", 0x999)), False),
}


@pytest.mark.parametrize("case", STALE)
def test_stale_translation_to_a_freed_page(case):
    story, expected = STALE[case]
    assert story.seen() == ({"stale_tlb_to_freed_page"} if expected else set())


def protected() -> Story:
    """A page whose entry was writable when cpu1 cached it, and is read-only now."""
    story = Story().do(alloc(PAGE), *pte(0, A, 0, make(PAGE, FLAGS)), fill(1, A, PAGE))
    return story.do(*pte(0, A, make(PAGE, FLAGS), make(PAGE, RO)))


OWED = ev.TlbFlush(0, "test", 1, MM, A, A + 0x1000, 2, False, (1,))
BYPASS = {
    "after everything is flushed": (protected().do(write(1, A, "t")), True),
    "while a gather is pending": (protected().do(ev.GatherBegin(0, MM, 1), write(1, A, "t")), False),
    "after the gather": (protected().do(ev.GatherBegin(0, MM, 1), ev.GatherEnd(0, MM, 0, False), write(1, A, "t")), True),
    "while a flush is under way": (protected().do(OWED, write(1, A, "t")), False),
    "after the flush": (protected().do(OWED, ev.TlbFlushEnd(0, MM, 2), write(1, A, "t")), True),
    "while the pte lock is held": (protected().do(take(0, f"pte:{PTE:#x}"), write(1, A, "t"), drop(0, f"pte:{PTE:#x}")), False),
    "while mmap_lock is held for writing": (protected().do(take(0, f"mmap:{MM}", "write"), write(1, A, "t")), False),
    "a reader holds mmap_lock": (protected().do(take(0, f"mmap:{MM}", "read"), write(1, A, "t")), True),
    "writable after all": (protected().do(*pte(0, A, make(PAGE, RO), make(PAGE, FLAGS)), write(1, A, "t")), False),
    "the entry maps another frame": (
        protected().do(alloc(PAGE2), *pte(0, A, make(PAGE, RO), make(PAGE2, RO)), write(1, A, "t")),
        False,
    ),
    "zero page": (Story().setup(alloc(1, "zero", cpu=-1)).do(fill(0, A, 1), write(0, A, "t", 1)), True),
    "huge zero page": (
        Story().setup(alloc(HEAD, "zero", cpu=-1, order=9)).do(fill(0, A, HEAD, PMD_SIZE), write(0, B, "t", HEAD + 3)),
        True,
    ),
    "initial content": (Story().setup(alloc(PAGE, cpu=-1), *pte(-1, A, 0, make(PAGE, RO)), write(-1, A, "t")), False),
}


@pytest.mark.parametrize("case", BYPASS)
def test_permission_bypass(case):
    story, expected = BYPASS[case]
    assert story.seen() == ({"permission_bypass"} if expected else set())


def test_write_protected_huge_page():
    story = Story().do(alloc(HEAD, order=9), *pmd(0, "pmd_clear", to_table(PTE), 0), *pmd(0, "set_huge_pmd", 0, huge(HEAD) & ~2))
    assert story.do(write(0, B, "t", HEAD + 3)).seen() == {"permission_bypass"}


def test_crash():
    found = Story().do(alloc(PAGE), fill(0, B, PAGE), ev.MachineCheck(0, B)).findings()
    assert [(finding.hazard, finding.step) for finding in found] == [("crash", 3)]
    assert "A+0x3000" in found[0].what
    assert len(found[0].history) == 1
