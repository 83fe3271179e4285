from __future__ import annotations

import html
import json
import re
from pathlib import Path

import lark
import pytest
from fake_world import ACTORS, story
from page_runs import HOSTILE, case1, hostile_document, hostile_log, stress_document, write

from ptactors.cli.main import DIVERGED, HELD, USAGE, invoke
from ptactors.kernel.operation import ADVICES
from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.event import EVENTS
from ptactors.report.page import clip, embed
from ptactors.report.page_campaign import link
from ptactors.report.page_cone import cone_of, eventful, hazard_row
from ptactors.report.page_events import FIELDS, entry
from ptactors.report.page_run import mermaid_of, read_run, run_page
from ptactors.report.page_why import whys
from ptactors.report.page_words import gloss


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case1(tmp_path_factory.mktemp("case1"))


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_tells_what_the_scenario_asks_what_was_found_and_what_it_means(log: Path) -> None:
    page = run_page(read_run(log))
    for words in ("Case 1: a huge page is installed", "A TLB remembers how virtual addresses translate", "mixed_page_size_tlb",
                  "arch_flush_tlb_before_set_huge_page", "two_translations_one_va", "the PTE page is unhooked"):  # fmt: skip
        assert words in page, words


def test_the_same_log_gives_the_same_bytes(log: Path) -> None:
    assert run_page(read_run(log)) == run_page(read_run(log))


def test_the_page_asks_for_nothing(log: Path) -> None:
    page = run_page(read_run(log))
    assert "default-src 'none'" in html.unescape(page)
    assert "unsafe" not in page.split("</head>")[0].split("<style>")[0]
    assert not re.search(r"""\s(src|srcset|style|on\w+)=["']""", page.split("<script")[0])
    assert not re.search(r"""href="(?!#|\./)""", page)


def test_every_record_is_in_the_data_and_every_cause_is_earlier(log: Path) -> None:
    run = read_run(log)
    events = data_of(run_page(run))["events"]
    assert len(events) == len(run.records)
    assert all(row[6] < i for i, row in enumerate(events))


def test_the_chain_of_case_1_leads_from_the_hazard_to_the_other_cpu(log: Path) -> None:
    run = read_run(log)
    links = whys(run.records, run.causes)
    row = next(i for i, r in enumerate(run.records) if i == hazard_row(run.records, run.findings[0].step))
    chain = []
    while True:
        chain.append(run.records[row][2])
        why = links[row]
        if why is None:
            break
        row = why.row
    assert [type(e).__name__ for e in chain] == ["TlbFill", "EntryWrite", "PageFault", "EntryWrite", "SyscallEnter", "OpBegin"]
    assert [e.cpu for e in chain] == [1, 1, 1, 0, 0, 0]
    assert [e.what for e in chain if isinstance(e, ev.EntryWrite)] == ["set_huge_pmd", "pmd_clear"]


def test_the_story_is_short_in_order_and_ends_after_the_hazard(log: Path) -> None:
    run = read_run(log)
    cone = cone_of(run.records, run.findings[0], Symbols.of(run.records))
    rows = [line.row for line in cone.story]
    assert rows == sorted(rows)
    assert 8 <= len(rows) <= 18
    assert sum(line.hazard for line in cone.story) == 1
    assert not cone.story[-1].hazard, "how it ends is told"
    assert all(line.gloss for line in cone.story if line.key)
    assert set(rows) & set(cone.rows)


def test_a_run_without_a_finding_has_a_picture_too() -> None:
    records = story()
    cone = eventful(records, Symbols.of(records))
    assert cone.rows
    assert cone.story


def test_a_step_without_records_has_the_row_before_it() -> None:
    records = story()
    assert hazard_row(records, records[-1][0] + 5) == len(records) - 1
    assert hazard_row([], 3) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "none"), (0x1067, "leaf"), (0x2000E7, "huge"), (1 << 52, "other"), (1 << 55 | 1 << 7, "other"), (0x1120, "other")],
)
def test_entries_are_taken_apart(value: int, expected: str) -> None:
    assert entry(value)[0] == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0x1122, "page 0x1, PROT_NONE"), (0x2001A2, "2M page 0x200, PROT_NONE"), (1 << 52, "not present")],
)
def test_an_inaccessible_page_is_shown(value: int, shown: str) -> None:
    assert entry(value)[2] == shown


def test_a_fault_on_an_inaccessible_page_comes_from_its_entry_and_a_gathered_page_does_not() -> None:
    clear = ev.EntryWrite("pte_clear", 0, "P", 0, 0x1000, 5, 1, 1, 0x1067, 0)
    protect = clear._replace(what="pte_set", old=0, new=0x1120)
    fault, gather = ev.PageFault(1, "L", 0x1000, 4), ev.GatherPage(0, "P", 0x1000, 1)
    links = whys([(step, 0, event) for step, event in enumerate((clear, protect, fault, gather), 1)], {})
    assert [why and why.row for why in links[2:]] == [1, 0]


def test_what_a_system_call_asks_for_is_told() -> None:
    said = {advice: gloss(ev.SyscallEnter(0, "L", "madvise", "P", 0, 4096, advice)) for advice in ADVICES}
    assert all(said.values())
    assert "no longer needs" in said["DONTNEED"]
    assert not any("no longer" in text for advice, text in said.items() if not advice.startswith("DONTNEED"))
    assert "asks for huge pages" in gloss(ev.SyscallEnter(0, "L", "process_madvise", "P", 0, 4096, "COLLAPSE"))


def test_the_fields_that_are_sent_exist() -> None:
    for kind, names in FIELDS.items():
        assert kind in EVENTS
        assert set(names) <= set(kind._fields), kind.__name__


def test_names_that_differ_still_differ_when_they_are_cut() -> None:
    a, b = clip("x" * 500 + "a"), clip("x" * 500 + "b")
    assert a != b
    assert max(len(a), len(b)) <= 160
    assert clip("short") == "short"


def test_embedded_data_cannot_leave_its_element() -> None:
    text = embed({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}


@pytest.mark.parametrize("name", ["javascript:alert(1)", "//evil.example/x", "a b/\"'><x.jsonl", "x" * 5000])
def test_links_stay_here(name: str) -> None:
    target = link(name, Path())
    assert not target or re.fullmatch(r"\./[A-Za-z0-9._~/%-]*", target)


def test_mermaid_is_a_diagram_of_the_cpus(log: Path) -> None:
    text = mermaid_of(read_run(log))
    lines = text.splitlines()
    assert lines[:3] == ["sequenceDiagram", "    participant cpu0", "    participant cpu1"]
    assert sum("HAZARD" in line for line in lines) == 1
    assert all(re.match(r"    (participant cpu\d|Note over cpu\d(,cpu\d)?: |cpu\d-\)cpu\d: )", line) for line in lines[1:])


MERMAID = lark.Lark(
    r"""
    start: "sequenceDiagram\n" participant+ (note | message)*
    participant: "    participant " CPU "\n"
    note: "    Note over " CPU ["," CPU] ": " text "\n"
    message: "    " CPU "-)" CPU ": " text "\n"
    text: (PLAIN | CHARACTER)+
    CPU: /cpu[0-9]+/
    CHARACTER: /#[0-9]+;/
    PLAIN: /[^\n#;<>"`%{}&]+/
    """,
    parser="earley", lexer="dynamic",
)  # fmt: skip
"""What we use of Mermaid's sequence diagrams. Its own parser takes more; nothing in a text may mean anything to it."""


@pytest.mark.parametrize("hostile", [False, True])
def test_mermaid_is_grammatical_and_names_only_cpus_that_take_part(log: Path, tmp_path: Path, hostile: bool) -> None:
    text = mermaid_of(read_run(hostile_log(tmp_path) if hostile else log))
    tree = MERMAID.parse(text)
    declared = [str(each.children[0]) for each in tree.find_data("participant")]
    used = {str(child) for kind in ("note", "message") for each in tree.find_data(kind) for child in each.children
            if isinstance(child, lark.Token)}  # fmt: skip
    assert len(set(declared)) == len(declared)
    assert used == set(declared)


@pytest.mark.parametrize(
    "wrong", ["    Note over cpu0: a; b\n", "    Note over: x\n", "    cpu0-)cpu1: <b>\n", "    Note over cpu0: a\nb\n", "cpu0\n"]
)
def test_the_grammar_refuses_what_mermaid_would_take_for_something_else(wrong: str) -> None:
    with pytest.raises(lark.exceptions.LarkError):
        MERMAID.parse("sequenceDiagram\n    participant cpu0\n" + wrong)


# -- hostile input and damage ---------------------------------------------------------------------------------------------


def markup_of(page: str) -> str:
    """The page without its own style and script."""
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    page = run_page(read_run(hostile_log(tmp_path)))
    markup = markup_of(page)
    assert "<script>alert" not in markup
    assert "<img" not in markup
    assert len(page) < 400_000


def test_hostile_documents_are_text(tmp_path: Path) -> None:
    document = tmp_path / "doc.json"
    document.write_text(json.dumps(hostile_document()), encoding="utf-8")
    out = tmp_path / "out.html"
    assert invoke(["report", str(document), "-o", str(out)]) == HELD
    markup = markup_of(out.read_text(encoding="utf-8"))
    assert "<script>alert" not in markup
    assert "<img" not in markup
    assert "javascript:" not in re.sub(r">[^<]*<", "><", markup)
    assert html.escape(HOSTILE[0]) in markup


def test_a_truncated_log_is_shown_as_far_as_it_goes(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(log.read_bytes()[:9000])
    assert invoke(["report", str(cut), "-o", str(tmp_path / "o.html")]) == HELD
    assert "truncated" in capsys.readouterr().err
    page = (tmp_path / "o.html").read_text(encoding="utf-8")
    assert "The log is not whole." in page
    assert str(tmp_path) not in page, "a page names no place of the machine it was made on"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", USAGE),
        (b"hello\n", USAGE),
        (b'{"a": 1}', USAGE),
        (b'{"tool":"ptactors","scenarios":[{"name":"x","verdict":"held"}]}', HELD),
        (b'{"tool":"ptactors","scenarios":[{"cells":[{"name":"x"}]}]}', USAGE),
        (b'{"ev":"header","schema":99,"tool":"ptactors"}\n', DIVERGED),
        (b'{"ev":"header","schema":1,"tool":"ptactors"}\n', USAGE),
    ],
)
def test_what_is_no_log_gets_a_sentence(content: bytes, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    assert invoke(["report", str(file), "-o", str(tmp_path / "o.html")]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert (code == HELD) == (not error)


def test_text_and_mermaid_go_to_stdout(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", str(log), "--text"]) == HELD
    assert "<-- HAZARD" in capsys.readouterr().out
    assert invoke(["report", str(log), "--mermaid"]) == HELD
    assert capsys.readouterr().out.startswith("sequenceDiagram\n")
    assert invoke(["report", str(log)]) == USAGE


# -- campaigns ------------------------------------------------------------------------------------------------------------


def test_a_folder_of_logs_is_a_campaign(log: Path, tmp_path: Path) -> None:
    write(tmp_path / "logs" / "a.jsonl", story(), scenario="one", cell="preset=v6.14 x=1", seed=3)
    (tmp_path / "logs" / "b.jsonl").write_bytes(log.read_bytes())
    (tmp_path / "logs" / "c.jsonl").write_bytes(b"nonsense")
    out = tmp_path / "deep" / "out.html"
    assert invoke(["report", str(tmp_path / "logs"), "-o", str(out), "--with-runs"]) == HELD
    page = out.read_text(encoding="utf-8")
    assert "What these logs show" in page
    assert "VmPTE over time" in page
    assert "not a log of ptactors" in page
    for target in re.findall(r'href="\./([^"]+)"', page):
        assert (out.parent / target).is_file(), target


def test_the_folder_of_a_stress_campaign_shows_growth_ends_failures_and_runs(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stress"
    folder.mkdir()
    (folder / "case1.jsonl").write_bytes(log.read_bytes())
    (folder / "campaign.jsonl").write_text("a journal", encoding="utf-8")
    (folder / "campaign.json").write_text(json.dumps(stress_document()), encoding="utf-8")
    out = tmp_path / "out.html"
    assert invoke(["report", str(folder), "-o", str(out), "--with-runs"]) == HELD
    page = out.read_text(encoding="utf-8")
    for words in ("Stress campaign", "distinct steps and events", "all cells ends at 5", "VmPTE over time", "Failing schedules",
                  "ptactors run stress-8cpu", "violated by stress-8cpu: 2 schedules, first with seed 1", "deadlock",
                  "is known of this kernel", "no schedule reached: 1"):  # fmt: skip
        assert words in page, words
    links = re.findall(r'href="\./([^"]+)"', page)
    assert any(target.endswith(".html") for target in links)
    assert all((out.parent / target).is_file() for target in links)
    assert invoke(["report", str(folder / "campaign.json"), "-o", str(tmp_path / "same.html")]) == HELD


def test_the_folder_is_that_of_the_logs_where_there_is_no_campaign(log: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(log.read_bytes())
    out = tmp_path / "o.html"
    assert invoke(["report", str(tmp_path), "-o", str(out)]) == HELD
    assert "Stress campaign" not in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [{"cells": [{}]}, {"cells": [3]}, {"coverage": {}, "cells": [{"name": 1}]}])
def test_a_damaged_stress_document_is_a_usage_error(damage: dict, tmp_path: Path, capsys) -> None:
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps(stress_document() | damage), encoding="utf-8")
    assert invoke(["report", str(file), "-o", str(tmp_path / "o.html")]) == USAGE
    assert "not a whole document of 'ptactors stress'" in capsys.readouterr().err


def test_a_document_shows_what_each_member_of_a_portfolio_did(log: Path, tmp_path: Path) -> None:
    document = hostile_document()
    cell = document["scenarios"][0]["cells"][0]
    cell["members"] = {
        "pos": {"schedules": 7, "new": 3, "hazards": {"leak": 2}},
        "urw": {"schedules": 5, "new": 0, "hazards": {}},
    }
    cell["witness"]["log"] = str(log)
    (tmp_path / "d.json").write_text(json.dumps(document), encoding="utf-8")
    out = tmp_path / "o.html"
    assert invoke(["report", str(tmp_path / "d.json"), "-o", str(out)]) == HELD
    page = out.read_text(encoding="utf-8")
    assert re.search(r">pos</th><td[^>]*>7</td><td[^>]*>3</td><td>leak 2</td>", page)
    assert "VmPTE over time" in page


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", str(tmp_path), "-o", str(tmp_path / "o.html")]) == USAGE
    assert "no log" in capsys.readouterr().err


def test_the_fake_story_has_known_actors() -> None:
    assert {actor for _, actor, _ in story()} <= {-1, *range(len(ACTORS))}
