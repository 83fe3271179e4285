"""What the page of a run tells a reader who knows the cover letter and nothing of this program."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_runs import ROOT, case1

from ptactors.campaign.names import known_names
from ptactors.campaign.witness import write_outcome
from ptactors.cli.main import HELD, invoke
from ptactors.config import PRESETS, resolve
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.oracle.table import HAZARDS
from ptactors.report.page_finding import Reader, Shown
from ptactors.report.page_glossary import TERMS
from ptactors.report.page_notes import folded
from ptactors.report.page_pair import PAIRS, drops
from ptactors.report.page_run import Run, read_run, run_page, text_of
from ptactors.report.page_setting import HOOKS, differing, ghosts, kernels
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(case1(tmp_path_factory.mktemp("reader")))


def reader_of(run: Run) -> Reader:
    return Reader(run.records, run.causes, run.functions, run.knobs)


def first(run: Run) -> Shown:
    return reader_of(run).shown(run.findings)[0]


def text(page: str) -> str:
    """What a reader sees, on one line."""
    body = re.sub(r"<(style|script).*?</\1>", "", page.split("<body>")[1], flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", body)).split())


def step_of(run: Run, kind: type, cpu: int, after: int = 0, **fields: object) -> int:
    """The first step after one with such an event."""
    return next(
        step
        for step, _, e in run.records
        if step > after and type(e) is kind and e.cpu == cpu and all(getattr(e, name) == value for name, value in fields.items())
    )


def recorded(folder: Path, name: str, hazard: str, preset: str) -> Run:
    """A run of that scenario and preset in which the hazard was seen."""
    scenario = load(ROOT / "scenarios" / f"{name}.toml", known_names())
    for cell in (cell for cell in cells(scenario) if cell.preset == preset):
        for seed in range(40):
            outcome = play(scenario, cell, strategy="run-length", seed=seed, record=True, host="direct")
            if any(finding.hazard == hazard for finding in outcome.findings):
                path = folder / f"{name}.jsonl"
                write_outcome(path, outcome, scenario)
                return read_run(path)
    raise AssertionError(f"{hazard} was not seen")


def test_the_page_opens_with_the_chain_of_case_1(run: Run) -> None:
    clear = step_of(run, ev.EntryWrite, 0, what="pmd_clear")
    send = step_of(run, ev.IpiSend, 0, clear)
    huge = step_of(run, ev.EntryWrite, 1, clear, what="set_huge_pmd")
    fill = step_of(run, ev.TlbFill, 1, huge)
    handle = step_of(run, ev.CsdEnter, 1, send)
    sent = f" and sent the flush IPI (step {send})." if send < fill else f"; its flush IPI went out only at step {send}."
    told = (
        f"cpu0 cleared the pmd of A (step {clear}){sent} Before cpu1 handled it (step {handle}), cpu1 mapped a huge page at A"
        f" (step {huge}) and cached it (step {fill}). It also covers A+0x3000, whose old 4K entry cpu1 still holds."
    )
    page = text(run_page(run))
    assert told in page
    assert page.index(told) < page.index("Kernel rfc-v1") < page.index("What is wrong")


def test_a_pair_through_two_pte_pages_names_the_new_page(tmp_path: Path) -> None:
    run = recorded(tmp_path, "case2-two-pte-pages", "two_pte_pages", "rfc-v1")
    shown = next(each for each in reader_of(run).shown(run.findings) if each.finding.hazard == "two_pte_pages")
    assert re.search(
        r"cleared the pmd .* hooked a new PTE page into the pmd \(step \d+\), cpu\d mapped a small page", shown.summary
    )
    assert "arch_flush_tlb_before_set_pte_page() would flush" in shown.ghosts[0].text


def test_a_hazard_that_is_no_pair_is_told_from_its_history(run: Run) -> None:
    teller = reader_of(run).teller
    finding = Finding("leak", 9, 0, "never freed", ((0, "set up"), (3, "allocated"), (5, "lost")))
    assert teller.summary(finding, None) == "In order: allocated (3); lost (5). Then, at step 9: never freed."
    assert teller.summary(Finding("leak", 9, 0, "never freed"), None) == "", "nothing to tell that the finding does not"


def test_the_line_where_the_fix_would_act_stands_before_the_huge_page(run: Run) -> None:
    (ghost,) = first(run).ghosts
    event = run.records[ghost.row][2]
    assert type(event) is ev.EntryWrite
    assert event.what == "set_huge_pmd"
    assert ghost.text == ("cpu1, pmd lock held: arch_flush_tlb_before_set_huge_page() would flush A..A+2M here: OFF in this run")
    page = text(run_page(run))
    assert page.index("absent cpu1 pmd lock held: arch_flush_tlb_before_set_huge_page()") < page.index("set_huge_pmd A by cpu1")


@pytest.mark.parametrize(
    ("knobs", "functions", "pending", "count"),
    [
        ({"flush_before_set_huge": False}, True, True, 1),
        ({"flush_before_set_huge": True}, True, True, 0),
        ({}, True, True, 0),
        ({"flush_before_set_huge": False}, False, True, 0),
        ({"flush_before_set_huge": False}, True, False, 0),
    ],
)
def test_the_fix_is_missed_only_where_it_is_off_and_would_have_acted(
    run: Run, knobs: dict, functions: bool, pending: bool, count: int
) -> None:
    records = [record for record in run.records if pending or type(record[2]) is not ev.GatherBegin]
    names = run.functions if functions else {}
    assert len(ghosts("mixed_page_size_tlb", records, names, knobs, len(records) - 1, Symbols.of(records))) == count


def test_the_hooks_are_knobs_and_some_rule_blames_them() -> None:
    for name in HOOKS:
        assert name in resolve().as_dict()
        assert any(f"{name}=false" in oracle.rule.knob for oracle in HAZARDS.values())
    assert set(PAIRS) <= set(HAZARDS)


def test_what_differs_from_the_preset_is_shown_as_such(run: Run) -> None:
    page = text(run_page(run))
    assert "Kernel rfc-v1, but flush_before_set_huge = no" in page
    assert "RFC v1 with its huge-page flush switched OFF" in page
    assert "The preset by itself: the cover letter's series" in page
    (shown,) = kernels("preset=rfc-v1", resolve("rfc-v1").as_dict())
    assert not shown["but"]
    assert not shown["chip"]
    assert shown["note"].startswith("the cover letter's series")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_does_not_differ_from_itself(preset: str) -> None:
    assert differing(preset, resolve(preset).as_dict()) == []
    assert differing(preset, resolve(preset, reclaim_scan=False, table_batch=7).as_dict()) == [
        ("reclaim_scan", False, True),
        ("table_batch", 7, 509),
    ]
    (shown,) = kernels(f"preset={preset} x=1", resolve(preset, table_batch=7).as_dict())
    assert shown["but"] == "table_batch = 7"


def test_both_translations_are_explained(run: Run) -> None:
    (new_title, new), (old_title, old) = first(run).branches
    assert (new_title, old_title) == ("Why the new 2M translation is there", "Why the old 4K translation is still there")
    kinds = [type(run.records[link.row][2]).__name__ for link in new]
    assert kinds == ["TlbFill", "EntryWrite", "PageFault", "EntryWrite", "SyscallEnter"]
    kinds = [type(run.records[link.row][2]).__name__ for link in old]
    assert kinds == ["TlbFill", "EntryWrite", "EntryWrite", "TlbFlush", "IpiSend", "CsdEnter", "TlbInvalidate"]
    assert [run.records[link.row][2].what for link in old[1:3]] == ["pte_clear", "pmd_clear"]
    page = text(run_page(run))
    assert "the hardware walk (step " in page
    assert "used the cached PTE page, whose entry was empty; the kernel's fault handler found the pmd empty since this" in page


def test_a_fault_after_a_walk_from_the_top_is_explained_as_before(tmp_path: Path) -> None:
    run = recorded(tmp_path, "dontneed-refault", "two_translations_one_va", "before")
    reader = reader_of(run)
    faults = [reader.whys[row] for row, (_, _, e) in enumerate(run.records) if type(e) is ev.PageFault]
    assert {why.reason for why in faults if why} == {"the walk found nothing since this"}
    assert not reader.hidden


def test_a_second_hazard_of_the_same_event_is_told_with_the_first(run: Run) -> None:
    shown = reader_of(run).shown(run.findings)
    assert [each.names for each in shown] == [["mixed_page_size_tlb", "two_translations_one_va"]]
    page = run_page(run)
    seen = text(page)
    assert page.count('<details class="finding"') == 1
    assert "The same event, seen as data By the old 4K translation of cpu1, A+0x3000 is frame 0x" in seen
    assert re.search(
        r'which holds "old"; by the new 2M translation of cpu1, it is frame (\w+)3 \(page 3 of the huge page \w+0\)', seen
    )
    assert "do_anonymous_page()" not in seen, "that did not run"
    assert re.search(r"In this run: try_to_reclaim_pgtables\(\) at step \d+, do_huge_pmd_anonymous_page\(\) at step \d+\.", seen)


def test_the_text_is_that_of_the_hazard_the_scenario_is_about(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert text_of(run).splitlines()[1].startswith("BUG: mixed_page_size_tlb ")
    page = run_page(run)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert all("BUG: mixed_page_size_tlb " in each["text"] for each in data["findings"])
    lines = (tmp_path / "x.jsonl", case1(tmp_path).read_text(encoding="utf-8").splitlines())
    lines[1][0] = lines[1][0].replace('"scenario":"case1-mixed-page-size"', '"scenario":"dontneed-refault"')
    lines[0].write_text("\n".join(lines[1]) + "\n", encoding="utf-8")
    assert invoke(["report", str(lines[0]), "--text"]) == HELD
    assert "BUG: two_translations_one_va" in capsys.readouterr().out


def test_what_an_invalidation_drops_is_said(run: Run) -> None:
    dropped = drops(run.records)
    rows = [
        row for row, gone in dropped.items() if {fill.size for _, fill in gone} & {4096, 1 << 21} and run.records[row][2].cpu == 1
    ]
    assert [fill.size for row in rows[:2] for _, fill in dropped[row]] == [1 << 21, 4096]
    notes = reader_of(run).notes
    assert notes[rows[0]] == "cpu1 drops 2M of A by the first invalidation, 4K of A+0x3000 by the fourth invalidation"
    assert notes[rows[0]] in text(run_page(run))
    here = [row for row, (_, _, e) in enumerate(run.records) if type(e) is ev.TlbInvalidate and e.cpu == 0]
    assert notes[here[0]] == "cpu0 held nothing of this, so nothing is dropped"


def test_lengths_and_pages_of_a_huge_page_are_explained(run: Run) -> None:
    notes = reader_of(run).notes.values()
    assert any(note.startswith("0x4000 is the length of what is flushed: 4 pages") for note in notes)
    assert any(re.fullmatch(r"frame (0x\w+)5 is page 5 of the huge page \1\w", note) for note in notes)


def test_every_row_has_an_address_of_its_own_and_a_step_opens_what_says_most(run: Run) -> None:
    reader = reader_of(run)
    shown = reader.shown(run.findings)
    anchors = reader.anchors(shown)
    assert len(set(anchors)) == len(run.records)
    fault = next(row for row, (_, _, e) in enumerate(run.records) if type(e) is ev.PageFault)
    step = run.records[fault][0]
    assert type(run.records[fault - 1][2]) is ev.TlbInvalidate, "another record of that step is earlier"
    assert anchors[fault] == str(step)
    assert anchors[fault - 1] == f"{step}.1"
    assert anchors[shown[0].cone.row] == str(run.findings[0].step)
    assert all(re.fullmatch(r"0\.\d+", name) for (s, _, _), name in zip(run.records, anchors, strict=True) if s <= 0)


def test_what_only_repeats_is_not_shown_at_first(run: Run) -> None:
    rows = first(run).cone.rows
    events = [run.records[row] for row in rows]
    assert not any(type(e) is ev.OpBegin and e.op == "madvise" for _, _, e in events), "its system call says the same"
    assert any(type(e) is ev.SyscallEnter for _, _, e in events)
    assert any(type(e) is ev.OpBegin and e.op == "write" for _, _, e in events)
    flushes = [s for s, _, e in events if type(e) is ev.TlbInvalidate and e.cpu == 0]
    assert len(flushes) == len(set(flushes)) > 0
    every = range(len(run.records))
    assert len(folded(run.records, every, [], {})) < len(every)
    assert len(folded(run.records, every, [], dict.fromkeys(every))) == len(every)


def words(page: str) -> Iterator[str]:
    yield from re.findall(r'href="#term-(\w+)"', page)


def test_words_are_explained_where_they_stand_and_in_the_glossary(run: Run) -> None:
    page = run_page(run)
    for id_, (word, meaning) in TERMS.items():
        assert f'<div id="term-{id_}" tabindex="-1"><dt>{html.escape(word)}</dt>' in page
        assert not meaning.endswith(".")
    assert set(words(page)) <= set(TERMS)
    told = " ".join(word for word, _ in TERMS.values())
    for word in ("rwad", "gen", "psc", "nested", "gp", "VmPTE", "init_mm", "run-length", "seed", "condition"):
        assert word in told, word
    assert text(page).index("A = 0x7f0000200000, 2 MiB") < page.index('id="lanes"')
    assert page.index('id="legend"') < page.index('id="lanes"')
