"""Faults that the kernel makes itself (MADV_POPULATE_*, mlock), what protection allows, and how many faults it all takes."""

from __future__ import annotations

from typing import Any

import pytest
from small_machines import A, events, hazards, machine, registers, run, text, vma

from ptactors.engine import host_direct
from ptactors.hardware.cpu import SIGSEGV
from ptactors.hardware.memory import entry
from ptactors.kernel.pgtable import upper_tables
from ptactors.model import event as ev
from ptactors.model import paging
from ptactors.model.paging import DIRTY, HUGE, PRESENT, PROTNONE, WRITE, Level
from ptactors.world import Outcome

PRESETS = ("v6.1", "before", "rfc-v1", "v6.14", "v6.18")
THP = 'thp = "always"'
PAGE = vma(size="64K")
BIG = vma(huge_pages={"A": "big"})
FEW = {f"A+{n:#x}000": f"v{n}" for n in (0, 3, 4, 5)}


def calls(done: Outcome) -> list[int]:
    """What the system calls of cpu0's program returned."""
    return [e.ret for e in events(done, ev.SyscallExit, cpu=0) if e.call != "exit"]


def minor_faults(done: Outcome) -> int:
    """As an observer counts them: completed faults of the program, and those made for it."""
    return len(events(done, ev.PageFaultEnd, result="retry")) + len(events(done, ev.FaultIn))


def last_entry(done: Outcome, level: int) -> int:
    """The last entry of that level which an operation, not the exit, made."""
    return [e.new for e in events(done, ev.EntryWrite, level=level) if e.new][-1]


# -- populate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "vmas", "knobs", "rets", "faults"),
    [
        pytest.param(("madvise A POPULATE_READ",), PAGE, {}, [0], 16, id="zero-pages"),
        pytest.param(("madvise A POPULATE_WRITE",), PAGE, {}, [0], 16, id="pages"),
        pytest.param(("madvise A POPULATE_READ", "madvise A POPULATE_WRITE"), PAGE, {}, [0, 0], 32, id="zero-then-pages"),
        pytest.param(("madvise A POPULATE_WRITE", "madvise A POPULATE_READ"), PAGE, {}, [0, 0], 16, id="nothing-left-to-do"),
        pytest.param(("madvise A+4K 8K POPULATE_WRITE",), PAGE, {}, [0], 2, id="a-part"),
        pytest.param(("madvise A POPULATE_WRITE",), vma(size="4M"), {"thp": "always"}, [0], 2, id="huge-pages"),
        pytest.param(("madvise A POPULATE_READ",), vma(size="4M"), {"thp": "always"}, [0], 2, id="huge-zero-pages"),
        pytest.param(("madvise A POPULATE_WRITE",), BIG, {}, [0], 0, id="huge-already"),
        pytest.param(
            ("madvise A POPULATE_READ", "madvise A POPULATE_WRITE"), vma(size="16K", writable=False), {}, [0, -22], 4, id="ro"
        ),
        pytest.param(("mprotect A none", "madvise A POPULATE_READ"), PAGE, {}, [0, -22], 0, id="none"),
        pytest.param(("madvise A POPULATE_WRITE",), vma(size="16K", entries={"A+4K": "guard"}), {}, [-14], 1, id="guard"),
        pytest.param(("munmap A+8K 4K", "madvise A POPULATE_WRITE"), vma(size="16K"), {}, [0, -12], 2, id="hole"),
        pytest.param(("madvise A POPULATE_WRITE",), vma(size="16K", anon_prepared=False), {}, [0], 4, id="no-anon-vma"),
    ],
)
def test_what_populate_does(program: tuple[str, ...], vmas: str, knobs: dict[str, Any], rets: list[int], faults: int) -> None:
    done = run(text(program, vmas=vmas), preset="v6.18", **knobs)
    assert (calls(done), minor_faults(done)) == (rets, faults)
    assert hazards(done) == []


def test_before_6_10_a_hole_does_not_stop_populate() -> None:
    done = run(text(("munmap A+8K 4K", "madvise A POPULATE_WRITE"), vmas=vma(size="16K")), preset="v6.1")
    assert (calls(done), minor_faults(done)) == ([0, -12], 3)


def test_populate_maps_but_no_cpu_has_it_in_its_tlb() -> None:
    done = run(text(("madvise A POPULATE_WRITE", "read A+4K -> r", "write A+8K = 3"), vmas=PAGE), preset="v6.18")
    assert [e.va for e in events(done, ev.TlbFill)] == [A + 0x1000, A + 0x2000]
    assert events(done, ev.PageFault) == []
    assert registers(done)["cpu0:r"] == 0


def test_a_huge_page_is_looked_up_once() -> None:
    """follow_page_mask() says how much the entry maps, and the walk goes on behind it."""
    done = run(text("madvise A POPULATE_WRITE", vmas=BIG), preset="v6.18", exit=False)
    assert len(events(done, ev.LockAcquire, cls="pmd")) == 1


def test_populate_write_leaves_pages_dirty_and_writable_and_populate_read_the_zero_page() -> None:
    for advice, bits in (("READ", 0), ("WRITE", WRITE | DIRTY)):
        done = run(text(f"madvise A POPULATE_{advice}", vmas=PAGE), preset="v6.18")
        assert last_entry(done, Level.PTE) & (WRITE | DIRTY) == bits
        assert len(events(done, ev.Rss, kind="anon", delta=1)) == (16 if bits else 0)


@pytest.mark.parametrize(
    ("program", "vmas", "rets", "faults"),
    [
        pytest.param(("mlock A",), PAGE, [0], 16, id="writable"),
        pytest.param(("mlock A",), vma(size="16K", writable=False), [0], 4, id="read-only"),
        pytest.param(("mprotect A none", "mlock A"), PAGE, [0, -12], 0, id="none"),
    ],
)
def test_mlock_faults_in_what_is_missing(program: tuple[str, ...], vmas: str, rets: list[int], faults: int) -> None:
    done = run(text(program, vmas=vmas), preset="v6.18")
    assert (calls(done), minor_faults(done)) == (rets, faults)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_discard_beside_populate(preset: str) -> None:
    """As real kernels were seen to behave: whoever comes last, every page reads zero."""
    program = ("madvise A DONTNEED", "read A+0x3000 -> r")
    for seed in range(16):
        source = text(program, "madvise A 32K POPULATE_WRITE", vmas=vma(populate=FEW))
        done = run(source, seed, preset=preset, strategy="run-length", audit=seed == 0)
        assert registers(done)["cpu0:r"] == 0
        assert (done.status, hazards(done)) == ("complete", [])


# -- protection -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (("write A = 1", "mprotect A ro", "read A -> r"), 1),
        (("write A = 1", "mprotect A none", "read A -> r"), SIGSEGV),
        (("write A = 1", "mprotect A none", "mprotect A ro", "read A -> r"), 1),
        (("mprotect A none", "read A -> r"), SIGSEGV),
        (("write A = 1", "mprotect A ro", "write A = 2", "read A -> r"), 1),
        (("write A = 1", "mprotect A ro", "mprotect A rw", "write A = 2", "read A -> r"), 2),
        (("mprotect A ro", "read A -> q", "mprotect A rw", "write A = 2", "read A -> r"), 2),
        (("write A = 1", "mprotect A none", "madvise A DONTNEED", "mprotect A rw", "read A -> r"), 0),
    ],
)
@pytest.mark.parametrize("thp", ["", THP])
@pytest.mark.parametrize("preset", PRESETS)
def test_what_protection_allows(program: tuple[str, ...], expected: int | str, thp: str, preset: str) -> None:
    done = run(text(program, vmas=vma(), machine=thp), preset=preset)
    assert registers(done)["cpu0:r"] == expected
    assert hazards(done) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_huge_page_of_prot_none_is_zapped_split_and_counted(preset: str) -> None:
    """pmd_present() holds for it: the pages are the process's still."""
    program = ("mprotect A none", "madvise A+4K 4K DONTNEED", "mprotect A rw", "read A -> r", "read A+4K -> s")
    done = run(text(program, vmas=BIG), preset=preset)
    assert registers(done) | {"cpu0:r": "big", "cpu0:s": 0} == registers(done)
    hidden = [e.new for e in events(done, ev.EntryWrite, what="set_huge_pmd", cpu=0)]
    assert [new & (PRESENT | PROTNONE | HUGE) for new in hidden] == [PROTNONE | HUGE]
    assert hazards(done) == []


def test_the_huge_zero_page_of_prot_none_stays_out_of_reach_when_it_is_split() -> None:
    program = ("read A -> z", "mprotect A none", "madvise A+4K 4K DONTNEED", "read A -> r")
    done = run(text(program, vmas=vma(), machine=THP), preset="v6.18")
    assert registers(done)["cpu0:r"] == SIGSEGV
    assert not any(e.new & PRESENT for e in events(done, ev.EntryWrite, what="pte_set"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_read_only_huge_page_is_reused_by_the_next_write(preset: str) -> None:
    """do_huge_pmd_wp_page(): PageAnonExclusive(), so the page stays and only the entry changes."""
    wp = [event for event in _wp_fault(preset) if type(event) is ev.EntryWrite and event.cpu == 0]
    assert [(e.what, bool(e.old & WRITE), bool(e.new & WRITE)) for e in wp] == [("set_huge_pmd", False, True)]


def _wp_fault(preset: str) -> list[Any]:
    """The events of a write to a huge page that is read-only while its VMA is not, as a fork or an old mprotect leaves it."""
    made = machine(text("write A = 7", vmas=BIG), preset=preset, exit=False)
    place = entry(upper_tables(made.state, "P", A).pmd, paging.index(A, Level.PMD))
    made.state.write(place, made.state.read(place) & ~WRITE)
    made.state.ring = []
    host_direct.run(made.baton)
    assert made.finish().status == "complete"
    return [event for _, _, event in made.state.ring]


# -- counts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "vmas", "thp", "faults"),
    [
        pytest.param(("write A = 1", "write A = 2", "read A -> r"), vma(), "", 1, id="one-page"),
        pytest.param(("read A -> r", "write A = 1"), vma(), "", 2, id="zero-page"),
        pytest.param(("read A -> r", "read A+4K -> s", "write A = 1"), vma(), THP, 2, id="huge-zero-page"),
        pytest.param(("write A = 1", "write A+4K = 1"), vma(), THP, 1, id="huge-page"),
        pytest.param(("madvise A+4K 4K DONTNEED", "read A -> r", "write A+4K = 1"), BIG, THP, 1, id="split"),
        pytest.param(("write A = 1",), vma(tables=["A"]), THP, 1, id="an-empty-table-prevents-huge-pages"),
        pytest.param(("write A = 1",), vma(writable=False), "", 0, id="sigsegv"),
        pytest.param(("write A = 1", "write A+4K = 1"), vma(anon_prepared=False), "", 2, id="anon-vma"),
    ],
)
@pytest.mark.parametrize("preset", ["v6.1", "v6.14", "v6.18"])
def test_minor_faults(program: tuple[str, ...], vmas: str, thp: str, faults: int, preset: str) -> None:
    done = run(text(program, vmas=vmas, machine=thp), preset=preset)
    assert minor_faults(done) == faults


# -- the oracles see broken protection ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prot", "access", "role"),
    [("none", "read A+0x3000 -> r", "inaccessible"), ("ro", "write A+0x3000 = 9", "write-protected")],
)
def test_a_translation_that_outlives_its_protection_is_noticed(prot: str, access: str, role: str) -> None:
    """Without the other CPUs' flush mprotect has returned while cpu1 still uses what it remembers."""
    order = '[pin]\norder = ["cpu1:W.end", "cpu0:M.end", "cpu1:X.end"]\n'
    source = text(f"M: mprotect A {prot}", ("W: write A+0x3000 = 1", f"X: {access}"), vmas=vma(populate=FEW), rest=order)
    assert hazards(run(source, preset="v6.18")) == []
    broken = run(source, preset="v6.18", pending_flush=False)
    assert [(f.hazard, f.role.split()[0]) for f in broken.findings] == [("permission_bypass", role)]
