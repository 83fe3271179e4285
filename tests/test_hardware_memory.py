"""Physical memory: generations, references, what is handed out first, what a freed frame reads as."""

from __future__ import annotations

import pytest
from small_machines import A, machine, text
from test_hardware import PAGE, PTE, map_page, state, told, walked

from ptactors.config import resolve
from ptactors.hardware.memory import (
    POISON,
    ZERO,
    Frame,
    Token,
    alloc_frame,
    data,
    entry,
    frame,
    free_frame,
    get_frame,
    head,
    put_frame,
)
from ptactors.hardware.tlb import (
    lookup,
    psc,
)
from ptactors.hardware.walker import Access
from ptactors.model import event as ev
from ptactors.model.paging import (
    Level,
    index,
)
from ptactors.model.state import State


def test_a_reused_frame_has_a_new_generation_and_a_freed_one_keeps_its_old() -> None:
    made = State(resolve())
    pfn = alloc_frame(made, 0, "anon", 0, "P")
    assert made.read(frame(pfn)) == Frame("anon", 1, 0, 1)
    made.write(data(pfn), Token("x", "s"))
    free_frame(made, 0, pfn)
    assert made.read(frame(pfn)) == Frame("free", 1, 0, 0)
    assert alloc_frame(made, 0, "pte", 0, "P") == pfn
    assert made.read(frame(pfn)) == Frame("pte", 2, 0, 1)
    assert made.read(data(pfn)) == ZERO


@pytest.mark.parametrize(("reuse", "same"), [("lifo", True), ("fresh", False)])
@pytest.mark.parametrize("order", [0, 9])
def test_which_frame_is_handed_out_first(reuse: str, same: bool, order: int) -> None:
    from ptactors.config import FrameReuse

    made = State(resolve(frame_reuse=FrameReuse(reuse)))
    first = alloc_frame(made, 0, "anon", order, "P")
    free_frame(made, 0, first)
    assert (alloc_frame(made, 0, "anon", order, "P") == first) == same
    assert alloc_frame(made, 1, "anon", order, "P") != first


def test_references_keep_a_frame_and_the_head_stands_for_a_huge_page() -> None:
    made = State(resolve())
    pfn = alloc_frame(made, 0, "anon", 9, "P")
    assert head(pfn + 511) == pfn
    get_frame(made, 0, pfn + 3, "gup")
    put_frame(made, 0, pfn + 7, "zap")
    assert made.read(frame(pfn)).refs == 1
    put_frame(made, 0, pfn, "unpin")
    assert made.read(frame(pfn)).kind == "free"


def test_a_freed_table_holds_no_entries_and_a_freed_page_reads_as_poison() -> None:
    made = state()
    map_page(made)
    walked(made, A, True)
    free_frame(made, 0, PAGE)
    assert Access(0, A, None, "r").apply(made).value == POISON.value
    Access(0, A, Token(5, "t"), "w").apply(made)  # a stray store through the stale translation is told but changes nothing
    assert told(made, ev.MemWrite)[-1].pfn == PAGE
    assert made.read(data(PAGE)) == ZERO
    free_frame(made, 0, PTE)
    assert made.read(entry(PTE, index(A, Level.PTE))) == 0
    assert PTE not in made.occupied


def test_the_machine_is_assembled_with_what_the_scenario_says_is_cached() -> None:
    made = machine(
        text("", "", rest='[cpu.1]\ntlb = ["A+0x3000"]\npsc = ["A+0x4000"]\n').replace("[cpu.0]\ndo = '''\n\n'''\n", "")
    )
    small, large = lookup(made.state, 1, A + 0x3000)
    assert (small is not None, large) == (True, None)
    assert {level for _, level, _ in made.state.read(psc(1))} == {1, 2, 3}
    assert lookup(made.state, 0, A + 0x3000) == (None, None)
    made.baton.close()
