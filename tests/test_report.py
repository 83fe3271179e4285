from __future__ import annotations

import attrs
import pytest
from fake_world import FINDING, FUNCTIONS, SAMPLE, A, story

from ptactors.log.symbol import Symbols
from ptactors.model.event import EVENTS, EntryWrite
from ptactors.model.hazard import Finding
from ptactors.report.describe import WORDS, describe
from ptactors.report.diagram import WIDTH, diagram
from ptactors.report.failure import Story, broken_expectation, failure

SYMBOLS = Symbols.of(story())
STEPS = [step for step, _ in FINDING.history]


def told(records=None, **changes: object) -> Story:
    values = {"scenario": "case1", "cell": "flush_before_set_huge=n", "seed": 417, "functions": FUNCTIONS}
    return Story(records=records or story(), **{**values, **changes})


def columns(lines: list[str]) -> list[tuple[int, str, str]]:
    """(indent, text, step) of each row below the heads."""
    return [(len(r) - len(r.lstrip()), r[:60].strip(), r[60:67].strip()) for r in lines[2:]]


def test_the_diagram_tells_case_1() -> None:
    lines = diagram(story(), STEPS, FINDING.step)
    assert lines[0].split() == ["cpu0", "cpu1"]
    assert lines[1].split() == ["----", "----"]
    rows = columns(lines)
    steps = [int(step) for _, _, step in rows if step]
    assert steps == sorted(steps)
    texts = {int(step): (indent, text) for indent, text, step in rows if step}
    left, right = lines[0].index("cpu0") - 2, lines[0].index("cpu1") - 2
    assert texts[31] == (left, "madvise(A, MADV_DONTNEED)")
    assert texts[45][1] == "pmd_clear A"
    assert texts[45][0] > left, "what happens in an operation is indented"
    assert texts[50] == (right + 2, "page fault A+0x5000")
    assert texts[58] == (right + 4, "set_huge_pmd A -> 0x200")
    assert texts[13][1] == "tlb fill A+0x3000 4K -> 0x1a2"
    assert texts[63][1] == "tlb_flush all, IPI to cpu 1"


def test_exactly_the_hazard_is_marked() -> None:
    marked = [line for line in diagram(story(), STEPS, FINDING.step) if "<-- HAZARD" in line]
    assert len(marked) == 1
    assert marked[0].endswith("61  <-- HAZARD")


def test_the_diagram_fits() -> None:
    for line in diagram(story(), STEPS, FINDING.step):
        assert len(line) <= WIDTH


def test_a_long_run_of_like_rows_is_folded() -> None:
    lines = diagram(story(), STEPS, FINDING.step)
    clears = [line for line in lines if "pte_clear" in line]
    assert len(clears) == 2
    assert any(line.strip() == "..." for line in lines)


def test_rows_beyond_the_limit_go_and_the_hazard_stays() -> None:
    lines = diagram(story(), STEPS, FINDING.step, rows=6)
    assert len([line for line in lines[2:] if line.strip() != "..."]) <= 6
    assert any("<-- HAZARD" in line for line in lines)
    assert any(line.strip() == "..." for line in lines)


def test_what_has_nothing_to_do_with_it_is_left_out() -> None:
    fill = next(event for _, _, event in story() if type(event).__name__ == "TlbFill")
    elsewhere = (55, 0, fill._replace(cpu=0, va=0x10_0000_0000, pfn=0x999, table=0x998))
    assert not any("0x999" in line for line in diagram((*story(), elsewhere), STEPS, FINDING.step))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8])
def test_any_number_of_cpus_fits(cpus: int) -> None:
    fill = next(event for _, _, event in story() if type(event).__name__ == "TlbFill")
    records = [(i + 1, i, fill._replace(cpu=i)) for i in range(cpus)]
    lines = diagram(records, list(range(1, cpus)), cpus)
    assert lines[0].split() == [f"cpu{i}" for i in range(cpus)]
    assert all(len(line) <= WIDTH for line in lines)
    starts = [lines[0].index(f"cpu{i}") for i in range(cpus)]
    assert [len(line) - len(line.lstrip()) + 2 for line in lines[2:]] == starts


def test_a_run_without_records_gives_no_diagram() -> None:
    assert diagram((), [3], 5) == []


def test_every_kind_of_event_has_words() -> None:
    silent = {k.__name__ for k in EVENTS} - {k.__name__ for k in WORDS}
    assert silent <= {"Rss", "PgtablesBytes", "UserMode", "MightSleep", "RcuQs", "LockInit", "LockFree", "PscEvict"}


def test_the_words_of_every_record_are_one_line() -> None:
    for _, _, event in story():
        text = describe(event, SYMBOLS)
        assert text
        assert text == " ".join(text.split())


def test_an_inaccessible_page_is_told() -> None:
    told = {new: describe(EntryWrite("pte_set", 0, "p", 0, A, 5, 1, 0, 0x1067, new), SYMBOLS) for new in (0, 0x1120, 0x1067)}
    assert list(told.values()) == ["pte_set A", "pte_set A -> 0x1 (PROT_NONE)", "pte_set A -> 0x1"]


def test_the_failure_text_pastes_into_a_mail() -> None:
    text = failure(told(), FINDING, "ptactors replay logs/case1/x/seed-417.schedule.json")
    lines = text.splitlines()
    assert lines[0] == lines[-1] == "=" * 66
    assert lines[1] == "BUG: mixed_page_size_tlb in zap_pte_range / do_huge_pmd_anonymous_page"
    assert lines[2] == " scenario case1  cell flush_before_set_huge=n  seed 417  step 61"
    assert lines[-2] == " replay:  ptactors replay logs/case1/x/seed-417.schedule.json"
    assert "    do_huge_pmd_anonymous_page <- handle_mm_fault <- page_fault" in lines
    for line in lines:
        assert len(line) <= 80
        assert line == line.rstrip()
    told_lines = [line for line in lines if "(step" in line]
    assert [line.split("(step ")[1] for line in told_lines] == ["13)", "45)", "58)"]


def test_a_long_command_stays_whole() -> None:
    command = "ptactors replay " + "x" * 120
    assert f"\n  {command}\n" in failure(told(), FINDING, command)


def test_long_sentences_are_wrapped() -> None:
    long = attrs.evolve(FINDING, what="word " * 60, history=((13, "other " * 40),))
    for line in failure(told(), long, "r").splitlines():
        assert len(line) <= 80


def test_a_finding_without_functions_or_history_still_gives_a_text() -> None:
    text = failure(told(functions={}), Finding("leak", 67, 0, "one frame is left"), "r")
    assert text.splitlines()[1] == "BUG: leak"
    assert "one frame is left" in text


def test_a_broken_expectation_shows_where_the_run_ended() -> None:
    text = broken_expectation(told(final=(("cpu1:r1", "old"),)), "forbidden", 'cpu1:r1 = "old"', "r")
    assert "BUG: forbidden expectation violated" in text
    assert 'cpu1:r1 = "old" is true in this run' in text
    assert "final state: cpu1:r1=old" in text
    assert "page fault A+0x5000" in text
    assert text.count("madvise") == 1, "told by its system call alone"
    assert "madvise(A, MADV_DONTNEED)" in text
    assert "is false in this run" in broken_expectation(told(), "always", "x", "r")


def test_the_sample_has_a_name() -> None:
    assert "{name}" in SAMPLE
