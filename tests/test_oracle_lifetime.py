"""Stories of page tables, locks and pages that are used, thrown away or freed when they may not be."""

from __future__ import annotations

import pytest
from test_oracle_kit import FLAGS, MM, PAGE, PMD, PTE, PTE2, A, Story, alloc, drop, fill, free, pmd, pte, take, to_table

from ptactors.model import event as ev
from ptactors.model.paging import Level, make

LOCK = f"pte:{PTE:#x}"
MAP = ev.TableMap(1, MM, A, PTE, 1)
READ = ev.TableRead(1, MM, A, PTE, 1, 0, 0)
DETACH = pmd(0, "pmd_clear", to_table(PTE), 0)
GONE = (*DETACH, free(PTE, "pte"))
REUSED = (*GONE, alloc(PTE, "pte", 2), ev.LockInit(0, LOCK))
FREED_LOCK = ev.LockFree(0, LOCK)

SOFTWARE = {
    "read of a freed table": (Story().do(MAP, *GONE, READ), True),
    "map of a freed table": (Story().do(*GONE, MAP), True),
    "entry written into a freed table": (Story().do(*GONE, *pte(1, A, 0, make(PAGE, FLAGS))), True),
    "read of a table reused since the map": (Story().do(MAP, *REUSED, READ._replace(gen=2)), True),
    "lock of a freed table": (Story().do(MAP, *GONE, take(1, LOCK)), True),
    "wait for the lock of a freed table": (
        Story().do(MAP, *DETACH, FREED_LOCK, free(PTE, "pte"), ev.LockAcquire(1, LOCK, "pte", "spin")),
        True,
    ),
    "lock of a table reused since the map": (Story().do(MAP, *REUSED, take(1, LOCK)), True),
    "lock of memory reused for something else": (
        Story().do(*DETACH, FREED_LOCK, free(PTE, "pte"), alloc(PTE, gen=2), take(1, LOCK)),
        True,
    ),
    "a detached table that still lives": (Story().do(MAP, *DETACH, READ, take(1, LOCK), drop(1, LOCK)), False),
    "unmapped before the reuse": (
        Story().do(MAP, ev.TableUnmap(1, PTE), *REUSED, MAP._replace(gen=2), READ._replace(gen=2)),
        False,
    ),
    "another cpu had it mapped": (Story().do(MAP, *REUSED, READ._replace(cpu=0, gen=2)), False),
    "the map was forgotten with the operation": (
        Story().do(MAP, ev.OpEnd(1, "R", "walk", ""), *REUSED, READ._replace(gen=2)),
        False,
    ),
    "a lock that is no table's": (Story().do(take(1, f"page_table:{MM}"), drop(1, f"page_table:{MM}")), False),
}


@pytest.mark.parametrize("case", SOFTWARE)
def test_software_walker(case):
    story, expected = SOFTWARE[case]
    assert story.seen() == ({"page_table_uaf_software_walker"} if expected else set())


def walk(gen: int = 1, table: int = PTE, cached: bool = True) -> ev.WalkRead:
    return ev.WalkRead(1, MM, Level.PTE, A, table, gen, 0, 0, cached, False)


HARDWARE = {
    "a cached table was freed": (Story().do(ev.PscFill(1, MM, 1, Level.PMD, A, PTE, 1), *GONE, walk()), True),
    "a cached table was reused": (Story().do(*REUSED, walk()), True),
    "the new life of the table": (Story().do(*REUSED, walk(2)), False),
    "unlinked and alive": (Story().do(*DETACH, walk()), False),
    "linked and alive": (Story().do(walk()), False),
    "a table nobody announced": (Story().do(walk(table=0x999)), False),
}


@pytest.mark.parametrize("case", HARDWARE)
def test_hardware_walker(case):
    story, expected = HARDWARE[case]
    assert story.seen() == ({"page_table_uaf_hardware_walker"} if expected else set())


def test_hardware_walker_history_tells_how_it_knew():
    found = Story().do(ev.PscFill(1, MM, 1, Level.PMD, A, PTE, 1), *GONE, walk()).findings()[0]
    texts = [text for _, text in found.history]
    assert any("cached as upper level of A" in text for text in texts)
    assert any("unlinked by cpu0" in text for text in texts)
    assert texts[-1].endswith("freed")


LOCK_OBJECT = {
    "taken after it was freed, table queued": (Story().do(MAP, *DETACH, FREED_LOCK, take(1, LOCK)), True),
    "spun on": (Story().do(MAP, *DETACH, FREED_LOCK, ev.LockAcquire(1, LOCK, "pte", "spin")), True),
    "alive again with a new table": (Story().do(FREED_LOCK, ev.LockInit(0, LOCK), take(1, LOCK)), False),
    "another lock died": (Story().do(ev.LockFree(0, "pte:0x999"), take(1, LOCK)), False),
    "dropped after it was freed": (Story().do(take(1, LOCK), FREED_LOCK, drop(1, LOCK)), False),
}


@pytest.mark.parametrize("case", LOCK_OBJECT)
def test_lock_object(case):
    story, expected = LOCK_OBJECT[case]
    assert story.seen() == ({"lock_object_uaf"} if expected else set())


def filled() -> Story:
    return Story().do(alloc(PAGE), *pte(0, A + 0x5000, 0, make(PAGE, FLAGS)))


def queue(cpu: int = 0, gen: int = 1) -> ev.GatherTable:
    return ev.GatherTable(cpu, MM, A, PTE, gen, "batch")


CLEAR = pte(0, A + 0x5000, make(PAGE, FLAGS), 0)
NONEMPTY = {
    "unlinked": (filled().do(*DETACH), True),
    "queued": (filled().do(queue()), True),
    "freed": (filled().do(free(PTE, "pte")), True),
    "a marker is an entry": (Story().do(*pte(0, A, 0, 1 << 53), *DETACH), True),
    "emptied first": (filled().do(*CLEAR, *DETACH, queue(), free(PTE, "pte")), False),
    "one of two entries left": (filled().do(*pte(0, A, 0, make(PAGE, FLAGS)), *CLEAR, *DETACH), True),
    "a bit set by hardware keeps it one entry": (
        filled().do(
            ev.HardwareBits(0, MM, Level.PTE, A + 0x5000, PTE, 5, make(PAGE, FLAGS), make(PAGE, FLAGS | 64)), *CLEAR, *DETACH
        ),
        False,
    ),
    "a huge pmd is no table": (
        Story().do(
            *DETACH,
            *pmd(0, "set_huge_pmd", 0, make(0x40000000, FLAGS | 128)),
            *pmd(0, "pmd_clear", make(0x40000000, FLAGS | 128), 0),
        ),
        False,
    ),
    "content of an earlier life": (
        filled().do(*CLEAR, *DETACH, queue(), free(PTE, "pte"), alloc(PTE, "pte", 2), free(PTE, "pte", 2)),
        False,
    ),
}


@pytest.mark.parametrize("case", NONEMPTY)
def test_nonempty_pte_page(case):
    story, expected = NONEMPTY[case]
    assert story.seen() == ({"nonempty_pte_page_freed"} if expected else set())


def test_nonempty_pte_page_names_the_page():
    found = filled().do(*DETACH).findings()[0]
    assert "A+0x5000" in found.what
    assert any("pte_set A+0x5000 by cpu0" in text for _, text in found.history)


BOGUS = {
    "a live table": (Story().do(*DETACH, alloc(PTE2, "pte"), *pmd(0, "pmd_install", 0, to_table(PTE2))), False),
    "a freed table": (
        Story().do(*DETACH, alloc(PTE2, "pte"), free(PTE2, "pte"), *pmd(0, "pmd_install", 0, to_table(PTE2))),
        True,
    ),
    "a data page": (Story().do(*DETACH, alloc(PAGE), *pmd(0, "pmd_populate", 0, to_table(PAGE))), True),
    "nothing": (Story().do(*DETACH, *pmd(0, "pmd_populate", 0, to_table(0))), True),
    "a huge page": (Story().do(*DETACH, *pmd(0, "set_huge_pmd", 0, make(0x40000000, FLAGS | 128))), False),
    "at set-up": (Story().setup(ev.EntryWrite("pmd_install", -1, MM, Level.PMD, A, PMD, 1, 1, 0, to_table(PTE2))), False),
}


@pytest.mark.parametrize("case", BOGUS)
def test_bogus_page_table(case):
    story, expected = BOGUS[case]
    assert story.seen() == ({"bogus_page_table"} if expected else set())


DOUBLE = {
    "a page freed twice": (Story().do(alloc(PAGE), free(PAGE), free(PAGE, "free")), True),
    "an old life freed": (Story().do(alloc(PAGE), free(PAGE), alloc(PAGE, gen=2), free(PAGE)), True),
    "a table queued twice": (Story().do(*DETACH, queue(), queue(1)), True),
    "a freed table queued": (Story().do(*DETACH, free(PTE, "pte"), queue()), True),
    "an old table queued": (Story().do(*DETACH, queue(), free(PTE, "pte"), alloc(PTE, "pte", 2), queue()), True),
    "queued, then freed": (Story().do(*DETACH, queue(), free(PTE, "pte")), False),
    "two lives, each freed once": (Story().do(alloc(PAGE), free(PAGE), alloc(PAGE, gen=2), free(PAGE, gen=2)), False),
    "two lives, each queued once": (
        Story().do(*DETACH, queue(), free(PTE, "pte"), alloc(PTE, "pte", 2), queue(gen=2), free(PTE, "pte", 2)),
        False,
    ),
    "a frame nobody announced": (Story().do(free(0x999), free(0x999)), False),
}


@pytest.mark.parametrize("case", DOUBLE)
def test_double_free(case):
    story, expected = DOUBLE[case]
    assert story.seen() == ({"double_free"} if expected else set())


def test_roles_tell_the_kind_of_object():
    assert Story().do(alloc(PAGE), free(PAGE), free(PAGE)).findings()[0].role == "page"
    assert Story().do(*DETACH, queue(), queue(1)).findings()[0].role == "table"
    assert Story().do(fill(1, A, PAGE), MAP, *GONE, take(1, LOCK)).findings()[0].role == "lock"
