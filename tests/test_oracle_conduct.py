"""Stories of locks, RCU sections, counters, leaks and progress."""

from __future__ import annotations

import pytest
from test_oracle_kit import (
    FLAGS,
    HEAD,
    MM,
    PAGE,
    PGD,
    PMD,
    PTE,
    PTE2,
    PUD,
    A,
    Story,
    alloc,
    drop,
    enter,
    free,
    huge,
    leave,
    pmd,
    pte,
    take,
    to_table,
)

from ptactors.model import event as ev
from ptactors.model.paging import PAGE_SIZE, Level, index, make

PTL, PTL2, PML, MPTL, ML, VL = f"pte:{PTE:#x}", f"pte:{PTE2:#x}", f"pmd:{PMD:#x}", f"page_table:{MM}", f"mmap:{MM}", "vma:A"
ENTRY = make(PAGE, FLAGS)

ORDERS = {
    "all of them in order": ([(ML, "write"), (VL, "write"), (MPTL, "spin"), (PML, "spin"), (PTL, "nested")], False),
    "pmd under pte": ([(PTL, "spin"), (PML, "spin")], True),
    "pmd tried under pte": ([(PTL, "spin"), (PML, "try")], False),
    "mmap under pmd": ([(PML, "spin"), (ML, "read")], True),
    "mmap tried under vma": ([(VL, "try"), (ML, "try")], False),
    "mmap waited for under vma": ([(VL, "try"), (ML, "read")], True),
    "two pte locks": ([(PTL, "spin"), (PTL2, "spin")], True),
    "two pte locks, nested": ([(PTL, "spin"), (PTL2, "nested")], False),
    "mmap read twice": ([(ML, "read"), (ML, "read")], True),
    "many vmas under mmap": ([(ML, "write"), (VL, "write"), ("vma:B", "write")], False),
    "many vmas without mmap": ([(VL, "write"), ("vma:B", "write")], True),
}


@pytest.mark.parametrize("case", ORDERS)
def test_lock_order(case):
    locks, expected = ORDERS[case]
    story = Story().do(*(take(0, lock, mode) for lock, mode in locks))
    assert story.seen() == ({"lock_order"} if expected else set())


def test_lock_order_is_a_matter_of_one_cpu_and_of_locks_still_held():
    assert Story().do(take(0, PTL), take(1, PML)).seen() == set()
    assert Story().do(take(0, PTL), drop(0, PTL), take(0, PML)).seen() == set()
    assert Story().do(take(0, ML, "read"), take(0, PTL), drop(0, ML), take(0, PML)).seen() == {"lock_order"}


IN, OUT = ev.RcuLock(0, 1), ev.RcuUnlock(0, 0)
RCU = {
    "opened and closed": (Story().do(IN, OUT, ev.UserMode(0, "user"), ev.OpEnd(0, "R", "read", "")), False),
    "closed twice": (Story().do(IN, OUT, ev.RcuUnlock(0, -1)), True),
    "closed by another cpu": (Story().do(IN, ev.RcuUnlock(1, 0)), True),
    "open at user mode": (Story().do(IN, ev.UserMode(0, "user")), True),
    "open at the end of the operation": (Story().do(IN, ev.OpEnd(0, "R", "read", "")), True),
    "open when the kernel is entered": (Story().do(IN, ev.UserMode(0, "kernel"), OUT), False),
    "open elsewhere": (Story().do(IN, ev.UserMode(1, "user"), OUT), False),
    "slept in": (Story().do(IN, ev.MightSleep(0, "mmap_lock", 0, False, 1)), True),
    "slept outside": (Story().do(ev.MightSleep(0, "mmap_lock", 0, False, 0)), False),
    "nested": (Story().do(IN, ev.RcuLock(0, 2), ev.RcuUnlock(0, 1), OUT, ev.UserMode(0, "user")), False),
}


@pytest.mark.parametrize("case", RCU)
def test_rcu_misuse(case):
    story, expected = RCU[case]
    assert story.seen() == ({"rcu_misuse"} if expected else set())


def entry(what: str, level: Level, table: int, old: int, new: int, cpu: int = 0) -> ev.EntryWrite:
    return ev.EntryWrite(what, cpu, MM, level, A, table, 1, index(A, level), old, new)


SET = entry("pte_set", Level.PTE, PTE, 0, ENTRY)
CLEAR_PMD = entry("pmd_clear", Level.PMD, PMD, to_table(PTE), 0)
CLEAR_PUD = entry("pud_clear", Level.PUD, PUD, to_table(PMD), 0)
CLEAR_P4D = entry("p4d_clear", Level.PGD, PGD, to_table(PUD), 0)
PROTOCOL = {
    "pte under its lock": (Story().do(take(0, PTL), SET), False),
    "pte with no lock": (Story().do(SET), True),
    "pte under another table's lock": (Story().do(alloc(PTE2, "pte"), take(0, PTL2), SET), True),
    "pte under the lock of another cpu": (Story().do(take(1, PTL), SET), True),
    "pte under the one lock for all": (Story().do(take(0, MPTL), SET), False),
    "pte under another process's lock": (Story().do(take(0, "page_table:n"), SET), True),
    "pmd under its lock": (Story().do(take(0, PML), CLEAR_PMD), False),
    "pmd under the pte lock": (Story().do(take(0, PTL), CLEAR_PMD), True),
    "pud under page_table_lock": (Story().do(take(0, MPTL), CLEAR_PUD), False),
    "pud under the pmd lock": (Story().do(take(0, PML), CLEAR_PUD), True),
    "p4d under page_table_lock": (Story().do(take(0, MPTL), CLEAR_P4D), False),
    "p4d with no lock": (Story().do(CLEAR_P4D), True),
    "free_pgtables in munmap": (Story().do(enter(0, "munmap", ""), CLEAR_PMD, CLEAR_PUD, leave(0, "munmap")), False),
    "free_pgtables in another cpu's munmap": (Story().do(enter(1, "munmap", ""), CLEAR_PMD, leave(1, "munmap")), True),
    "after munmap": (Story().do(enter(0, "munmap", ""), leave(0, "munmap"), CLEAR_PMD), True),
    "at set-up": (Story().setup(SET._replace(cpu=-1)), False),
    "a private table being filled": (Story().do(alloc(PTE2, "pte"), SET._replace(table=PTE2)), False),
    "set in a detached table": (Story().do(*pmd(1, "pmd_clear", to_table(PTE), 0), take(0, PTL), SET), True),
    "set after it was linked again": (
        Story().do(*pmd(1, "pmd_clear", to_table(PTE), 0), *pmd(1, "pmd_populate", 0, to_table(PTE)), take(0, PTL), SET),
        False,
    ),
    "ipi wait with interrupts off": (Story().do(ev.IpiWait(0, True)), True),
    "ipi wait with interrupts on": (Story().do(ev.IpiWait(0, False)), False),
    "spinlock in user mode": (Story().do(take(0, PTL), ev.UserMode(0, "user")), True),
    "spinlock at the end of the operation": (Story().do(take(0, PML), ev.OpEnd(0, "R", "read", "")), True),
    "mmap_lock is no spinlock": (Story().do(take(0, ML, "read"), ev.OpEnd(0, "R", "read", "")), False),
    "spinlock in the kernel": (Story().do(take(0, PTL), ev.UserMode(0, "kernel")), False),
    "sleep with preemption off": (Story().do(ev.MightSleep(0, "synchronize_rcu", 1, False, 0)), True),
    "sleep with interrupts off": (Story().do(ev.MightSleep(0, "synchronize_rcu", 0, True, 0)), True),
    "sleep": (Story().do(ev.MightSleep(0, "synchronize_rcu", 0, False, 0)), False),
}


@pytest.mark.parametrize("case", PROTOCOL)
def test_protocol(case):
    story, expected = PROTOCOL[case]
    assert story.seen() == ({"protocol_violation"} if expected else set())


def counted(pages: int, tables: int, surplus: int = 0) -> Story:
    """Set-up with one mapped page and three tables, and the counters as given."""
    story = Story().setup(alloc(PAGE, cpu=-1), *pte(-1, A, 0, ENTRY))
    return story.setup(ev.Rss(-1, MM, "anon", pages, pages), ev.PgtablesBytes(-1, MM, 0, tables * PAGE_SIZE + surplus))


DONE = ev.ProgramsDone(0)
COUNTERS = {
    "as mapped": (counted(1, 3).do(DONE), False),
    "one page too many": (counted(2, 3).do(DONE), True),
    "a page unmapped behind the counter": (counted(1, 3).do(*pte(0, A, ENTRY, 0), DONE), True),
    "tables that were there before": (counted(1, 3, 36864).do(DONE), False),
    "a table counted that is not there": (counted(1, 3).do(ev.PgtablesBytes(0, MM, PAGE_SIZE, 4 * PAGE_SIZE), DONE), True),
    "a table that is not counted": (counted(1, 3).do(alloc(PTE2, "pte"), DONE), True),
    "a table counted and there": (
        counted(1, 3).do(alloc(PTE2, "pte"), ev.PgtablesBytes(0, MM, PAGE_SIZE, 4 * PAGE_SIZE), DONE),
        False,
    ),
    "a queued table counts no more": (
        counted(1, 3).do(
            alloc(PTE2, "pte"),
            ev.PgtablesBytes(0, MM, PAGE_SIZE, 4 * PAGE_SIZE),
            ev.GatherTable(0, MM, A, PTE2, 1, "batch"),
            ev.PgtablesBytes(0, MM, -PAGE_SIZE, 3 * PAGE_SIZE),
            DONE,
        ),
        False,
    ),
    "nor once freed": (
        counted(1, 3).do(
            alloc(PTE2, "pte"),
            ev.GatherTable(0, MM, A, PTE2, 1, "batch"),
            free(PTE2, "pte"),
            ev.PgtablesBytes(0, MM, 0, 3 * PAGE_SIZE),
            DONE,
        ),
        False,
    ),
    "a spare given back": (counted(1, 3).do(alloc(PTE2, "pte"), free(PTE2, "pte"), DONE), False),
    "the zero page is nobody's": (
        counted(1, 3).setup(alloc(1, "zero", cpu=-1)).do(*pte(0, A + 0x1000, 0, make(1, FLAGS)), DONE),
        False,
    ),
    "a huge page is 512": (
        counted(1, 3).do(
            alloc(HEAD, order=9),
            *pte(0, A, ENTRY, 0),
            *pmd(0, "pmd_clear", to_table(PTE), 0),
            *pmd(0, "set_huge_pmd", 0, huge(HEAD)),
            ev.Rss(0, MM, "anon", 511, 512),
            DONE,
        ),
        False,
    ),
    "zero at exit": (counted(1, 3).do(ev.Rss(0, MM, "anon", -1, 0), ev.PgtablesBytes(0, MM, 0, 0), ev.ExitMm(0, MM)), False),
    "rss left at exit": (counted(1, 3).do(ev.PgtablesBytes(0, MM, 0, 0), ev.ExitMm(0, MM)), True),
    "tables left at exit": (counted(0, 3).do(ev.PgtablesBytes(0, MM, 0, PAGE_SIZE), ev.ExitMm(0, MM)), True),
    "the surplus left at exit": (counted(0, 3, 36864).do(ev.PgtablesBytes(0, MM, 0, 36864), ev.ExitMm(0, MM)), False),
    "negative at exit": (counted(0, 3).do(ev.Rss(0, MM, "anon", -1, -1), ev.PgtablesBytes(0, MM, 0, 0), ev.ExitMm(0, MM)), True),
}


@pytest.mark.parametrize("case", COUNTERS)
def test_counters(case):
    story, expected = COUNTERS[case]
    assert story.seen() == ({"counter_mismatch"} if expected else set())


TABLES_FREED = (free(PTE, "pte"), free(PMD, "pmd"), free(PUD, "pud"))
EXIT = ev.ExitMm(0, MM)
END = ev.RunEnd(0, True)
LEAKS = {
    "everything freed": (Story().do(alloc(PAGE), free(PAGE), *TABLES_FREED, EXIT, END), False),
    "a page left": (Story().do(alloc(PAGE), *TABLES_FREED, EXIT, END), True),
    "a table left": (Story().do(*TABLES_FREED[1:], EXIT, END), True),
    "a batch page left": (Story().do(alloc(0x300, "batch"), *TABLES_FREED, EXIT, END), True),
    "file and zero pages stay": (Story().do(alloc(0x300, "file"), alloc(0x301, "zero"), *TABLES_FREED, EXIT, END), False),
    "the run was cut short": (Story().do(alloc(PAGE), *TABLES_FREED, EXIT, ev.RunEnd(0, False)), False),
    "the process has not exited": (Story().do(alloc(PAGE), *TABLES_FREED, END), False),
    "another process has not exited": (
        Story().setup(ev.VmaInit(-1, "n", "B", 0, PAGE_SIZE, "anon")).do(alloc(PAGE), *TABLES_FREED, EXIT, END),
        False,
    ),
}


@pytest.mark.parametrize("case", LEAKS)
def test_leak(case):
    story, expected = LEAKS[case]
    assert story.seen() == ({"leak"} if expected else set())


@pytest.mark.parametrize("kind", ["deadlock", "livelock", "stall"])
def test_stuck(kind):
    found = Story().do(take(0, PTL), take(1, PML), ev.Stuck(0, kind, "cpu0 waits for cpu1")).findings()
    assert [finding.hazard for finding in found] == [kind]
    assert "cpu0 waits for cpu1" in found[0].what
    assert len(found[0].history) == 2
