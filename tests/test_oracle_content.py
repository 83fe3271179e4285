"""Stories of content: what a read may return around MADV_DONTNEED, and dirty bits of files."""

from __future__ import annotations

import pytest
from test_oracle_kit import (
    FILE,
    FLAGS,
    MM,
    PAGE,
    PAGE2,
    A,
    Story,
    alloc,
    enter,
    free,
    leave,
    pte,
    read,
    write,
)

from ptactors.model import event as ev
from ptactors.model.paging import DIRTY, HUGE, PMD_SIZE, Level, make

DISCARD = (enter(0), leave(0))


def stored(token: str = "old", kind: str = "anon") -> Story:
    """A page with a settled store."""
    return Story(kind).do(alloc(PAGE), alloc(PAGE2), write(0, A, token))


READS = {
    # One CPU, nothing concurrent.
    "a loop's later store": (
        stored().do(*DISCARD, write(0, A, "old")._replace(value=2), read(0, A, "old")._replace(value=2)),
        "",
    ),
    "a loop's earlier store": (
        stored().do(*DISCARD, write(0, A, "old")._replace(value=2), read(0, A, "old")),
        "wrong_data_after_dontneed",
    ),
    "what was stored": (stored().do(read(0, A, "old")), ""),
    "initial content": (Story().setup(alloc(PAGE), write(-1, A, "init")).do(read(0, A, "init")), ""),
    "zero of a page never written": (Story().do(read(0, A, "")), ""),
    "zero instead of the store": (stored().do(read(0, A, "")), "lost_write"),
    "an overwritten store": (stored().do(write(1, A, "new"), read(0, A, "old")), "lost_write"),
    "another page's store": (stored().do(write(0, A + 0x1000, "else"), read(0, A, "else")), "wrong_data"),
    "poison": (stored().do(read(0, A, "poison")), "wrong_data"),
    "poison in a page never written": (Story().do(alloc(PAGE), read(0, A, "poison")), "wrong_data"),
    # After a discard.
    "zero after a discard": (stored().do(*DISCARD, read(0, A, "")), ""),
    "old after a discard": (stored().do(*DISCARD, read(1, A, "old")), "wrong_data_after_dontneed"),
    "old after munmap": (stored().do(enter(0, "munmap", ""), leave(0, "munmap"), read(1, A, "old")), "wrong_data_after_dontneed"),
    "old after a discard that failed": (stored().do(enter(0), leave(0, ret=-22), read(0, A, "old")), ""),
    "zero after a discard that failed": (stored().do(enter(0), leave(0, ret=-22), read(0, A, "")), ""),
    "old after MADV_FREE": (stored().do(enter(0, arg="FREE"), leave(0), read(0, A, "old")), ""),
    "zero after MADV_FREE": (stored().do(enter(0, arg="FREE"), leave(0), read(0, A, "")), ""),
    "zero after harmless advice": (stored().do(enter(0, arg="HUGEPAGE"), leave(0), read(0, A, "")), "lost_write"),
    "a discard of another page": (
        stored().do(enter(0, start=A + 0x1000, end=A + 0x2000), leave(0), read(0, A, "")),
        "lost_write",
    ),
    "a discard of just this page": (
        stored().do(enter(0, start=A, end=A + 0x1000), leave(0), read(0, A, "old")),
        "wrong_data_after_dontneed",
    ),
    "a discard in another process": (stored().do(enter(0)._replace(mm="n"), leave(0), read(0, A, "")), "lost_write"),
    "new data after a discard": (stored().do(*DISCARD, write(0, A, "new"), read(1, A, "new")), ""),
    "new data lost after a discard": (stored().do(*DISCARD, write(0, A, "new"), read(1, A, "")), "lost_write"),
    "old over new after a discard": (stored().do(*DISCARD, write(0, A, "new"), read(1, A, "old")), "wrong_data_after_dontneed"),
    # While a discard is under way.
    "old during": (stored().do(enter(0), read(1, A, "old"), leave(0)), ""),
    "zero during": (stored().do(enter(0), read(1, A, ""), leave(0)), ""),
    "both during, from two cpus": (stored().do(enter(0), read(1, A, ""), read(0, A, "old"), leave(0)), ""),
    "a store during, kept": (stored().do(enter(0), write(1, A, "mid"), leave(0), read(1, A, "mid")), ""),
    "a store during, gone": (stored().do(enter(0), write(1, A, "mid"), leave(0), read(1, A, "")), ""),
    "a store during, old behind it": (
        stored().do(enter(0), write(1, A, "mid"), leave(0), read(1, A, "old")),
        "wrong_data_after_dontneed",
    ),
    "a store during does not hide the old one yet": (stored().do(enter(0), write(1, A, "mid"), read(0, A, "old"), leave(0)), ""),
    "settled again after the discard": (
        stored().do(enter(0), write(1, A, "mid"), leave(0), write(1, A, "new"), read(0, A, "mid")),
        "lost_write",
    ),
    "a store during outlives only until the next discard": (
        stored().do(enter(0), write(1, A, "mid"), leave(0), *DISCARD, read(1, A, "mid")),
        "wrong_data_after_dontneed",
    ),
    # Two discards at once: the one that returns first has promised.
    "the second one returns first": (
        stored().do(enter(0), enter(1), leave(1), read(1, A, "old"), leave(0)),
        "wrong_data_after_dontneed",
    ),
    "the second one returns first, zero": (stored().do(enter(0), enter(1), leave(1), read(1, A, ""), leave(0)), ""),
    "a store between their returns may go": (
        stored().do(enter(0), enter(1), leave(1), write(1, A, "mid"), leave(0), read(1, A, "")),
        "",
    ),
    "a store after both": (stored().do(enter(0), enter(1), leave(1), leave(0), write(1, A, "new"), read(1, A, "")), "lost_write"),
    # Not private anonymous memory.
    "shared memory keeps its content": (stored(kind="anon-shared").do(*DISCARD, read(0, A, "old")), ""),
    "a file's content is not judged": (stored(kind="file-private").do(*DISCARD, read(0, A, "disk")), ""),
}


@pytest.mark.parametrize("case", READS)
def test_reads(case):
    story, expected = READS[case]
    assert story.seen() == ({expected} if expected else set())


def test_a_discard_of_everything_looks_at_tracked_pages_only():
    story = stored().do(enter(0, start=0, end=1 << 47), leave(0, start=0, end=1 << 47), read(0, A, "old"))
    assert story.seen() == {"wrong_data_after_dontneed"}


def test_report_of_wrong_data_after_dontneed():
    found = stored().do(*DISCARD, read(1, A, "old")).findings()[0]
    assert found.step == 6
    assert [step for step, _ in found.history] == [0, 3, 4]
    assert "reads 1 at A: stored before a discard" in found.what


PIN = ev.GupPin(0, MM, A, PAGE, 1)
SEEN = ev.TableRead(0, MM, A, 0x20, 1, 0, make(PAGE, FLAGS))
PINS = {
    "a live page": (Story().do(alloc(PAGE), SEEN, PIN), False),
    "a freed page": (Story().do(alloc(PAGE), free(PAGE), PIN), True),
    "a page reused since": (Story().do(alloc(PAGE), free(PAGE), alloc(PAGE, gen=2), PIN), True),
    "a page of a live huge frame": (Story().do(alloc(1 << 30, order=9), ev.GupPin(0, MM, A, (1 << 30) + 7, 1)), False),
    "a page reused since the entry was read": (
        Story().do(alloc(PAGE), SEEN, free(PAGE), alloc(PAGE, gen=2), PIN._replace(gen=2)),
        True,
    ),
    "a page reused, mapped and read again": (
        Story().do(alloc(PAGE), SEEN, free(PAGE), alloc(PAGE, gen=2), SEEN, PIN._replace(gen=2)),
        False,
    ),
    "a scan of the table is no read of an entry": (
        Story().do(alloc(PAGE), free(PAGE), alloc(PAGE, gen=2), SEEN, SEEN._replace(value=-1), PIN._replace(gen=2)),
        False,
    ),
    "a page table": (Story().do(alloc(PAGE, "pte"), PIN), True),
}


@pytest.mark.parametrize("case", PINS)
def test_gup_pin(case):
    story, expected = PINS[case]
    found = story.findings()
    assert [(finding.hazard, finding.role) for finding in found] == ([("wrong_data", "gup pin")] if expected else [])


DIRTY_PTE = make(FILE, FLAGS | DIRTY)
CLEAN_PTE = make(FILE, FLAGS)
STORE = write(1, A, "t", FILE)
ZAP = (ev.GatherBegin(0, MM, 1), *pte(0, A, DIRTY_PTE, 0))
MARK = ev.FolioDirty(0, FILE, 1)
FINISH = ev.GatherEnd(0, MM, 0, False)


def file_page(entry: int = DIRTY_PTE) -> Story:
    return Story("file-shared").setup(alloc(FILE, "file", cpu=-1)).do(*pte(0, A, 0, entry))


LOST_DIRTY = {
    "zapped and never marked": (file_page().do(STORE, *ZAP, FINISH), True),
    "zapped and never marked, seen at the end": (file_page().do(STORE, *ZAP, ev.RunEnd(0, True)), True),
    "cut short in the middle of a zap": (file_page().do(STORE, *ZAP, ev.RunEnd(0, False)), False),
    "marked while the gather is pending": (file_page().do(STORE, *ZAP, MARK, FINISH), False),
    "another gather is still pending": (
        file_page().do(STORE, ev.GatherBegin(1, "n", 1), *ZAP, FINISH, MARK, ev.GatherEnd(1, "n", 0, False)),
        False,
    ),
    "still mapped dirty": (file_page().do(STORE, ev.GatherBegin(0, MM, 1), FINISH, ev.RunEnd(0, True)), False),
    "mapped dirty elsewhere": (file_page().do(*pte(0, A + 0x1000, 0, DIRTY_PTE), STORE, *ZAP, FINISH), False),
    "dirty by the hardware's bit": (
        file_page(CLEAN_PTE).do(
            ev.HardwareBits(1, MM, Level.PTE, A, 0x20, 0, CLEAN_PTE, DIRTY_PTE), STORE, ev.GatherBegin(0, MM, 1), FINISH
        ),
        False,
    ),
    "written through an entry that is not dirty": (file_page(CLEAN_PTE).do(STORE, ev.RunEnd(0, True)), True),
    "marked before the store": (file_page().do(MARK, STORE, *ZAP, FINISH), False),
    "never written": (file_page().do(*ZAP, FINISH), False),
    "initial content": (
        Story("file-shared").setup(alloc(FILE, "file", cpu=-1), write(-1, A, "i", FILE)).do(ev.RunEnd(0, True)),
        False,
    ),
    "anonymous memory has no disk": (Story().do(alloc(PAGE), write(0, A, "t"), ev.RunEnd(0, False)), False),
}


@pytest.mark.parametrize("case", LOST_DIRTY)
def test_lost_dirty(case):
    story, expected = LOST_DIRTY[case]
    assert story.seen() == ({"lost_dirty"} if expected else set())


def test_huge_file_page_is_dirty_as_a_whole():
    head = 1 << 30
    entry = make(head, FLAGS | HUGE | DIRTY)
    story = Story("file-shared").setup(
        alloc(head, "file", cpu=-1, order=9),
        ev.EntryWrite("set_huge_pmd", -1, MM, Level.PMD, A + PMD_SIZE, 0x12, 1, 2, 0, entry),
    )
    story.do(write(0, A + PMD_SIZE + 0x3000, "t", head + 3), ev.GatherBegin(0, MM, 1), FINISH, ev.RunEnd(0, True))
    assert story.seen() == set()
