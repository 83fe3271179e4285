"""What four kinds of new users stumbled over: names that have no page, verdicts that say too little, CI, files side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_world import EXISTS, FORBIDDEN, MATRIX, NEVER, FakeWorld, write_sample

from ptactors.cli.listing import CONDITIONS, METRIC_NOTES, TABLES
from ptactors.cli.main import invoke
from ptactors.cli.rule_pages import KINDS, names, page
from ptactors.scenario.condition import METRICS
from ptactors.scenario.condition_text import TERMS

ROOT = Path(__file__).resolve().parent.parent
MIXED = "mixed_page_size_tlb"


def hooked(cell, seed) -> list[str]:
    return [MIXED] if not cell.config.kernel.flush_before_set_huge and seed % 10 == 7 else []


@pytest.fixture
def world(monkeypatch, tmp_path) -> FakeWorld:
    monkeypatch.chdir(tmp_path)
    return FakeWorld(hazards=hooked).install(monkeypatch)


def run(*arguments: object) -> int:
    return invoke(["run", "--jobs", "1", "--no-shrink", *map(str, arguments)])


# -- rule and list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("flush_before_set_huge", ["(knob of the kernel)", "arch_flush_tlb_before_set_huge_page()", "true in rfc-v1", MIXED,
                                   "case1-mixed-page-size", "default false"]),
        ("thp", ["(knob of the machine)", "Values: always, madvise, never"]),
        ("rfc-v1", ["(preset, kernel)", "pt_reclaim=rfc", "flush_before_set_huge=true"]),
        ("v6.14", ["these are the defaults"]),
        ("erratum-383", ["(preset, hardware)", "mixed_sizes=machine-check"]),
        ("walk", ["walk VA [times TIMES] [-> REGISTER] (operation)", "In Linux: pte_offset_map()"]),
        ("gup_fast", ["gup_fast VA [-> REGISTER] (operation)"]),
        ("pct", ["(strategy)", "ASPLOS 2010"]),
        ("tlb", ["TLB (word)"]),
        ("Cell", ["cell (word)", "matrix"]),
        ("hook", ["(word)", "flush_before_set_pte"]),
        ("case1-mixed-page-size", ["(scenario)", "where flush_before_set_huge=true", "File: "]),
    ],
)  # fmt: skip
def test_every_kind_of_name_has_a_page(name, says, capsys) -> None:
    assert invoke(["rule", name]) == 0
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    assert [text for text in says if text not in flat] == []
    assert all(len(line) <= 80 for line in out.splitlines())


def test_pages_have_no_empty_text() -> None:
    pages = [(kind, name, found) for kind, each in KINDS.items() for name, found in each()]
    assert len({(kind, name) for kind, name, _ in pages}) == len(pages)
    assert [name for _, name, found in pages if not found.text.strip()] == []
    assert all(page(name) is not None for _, name, _ in pages)
    assert {"case1-mixed-page-size", "flush_before_set_pte", "pmd"} <= set(names())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("arch_flush_tlb_before_set_huge_page", "spoken of by: hazard mixed_page_size_tlb, knob flush_before_set_huge"),
        ("case1", "did you mean 'case1-lazy-cpu' or 'case1-mixed-page-size'?"),
        ("flush_before_set_hug", "did you mean 'flush_before_set_huge'?"),
        ("zzz", "'ptactors list'"),
    ],
)
def test_a_name_without_a_page_leads_to_one(name, says, capsys) -> None:
    assert invoke(["rule", name]) == 2
    assert says in capsys.readouterr().err


def test_an_operation_is_listed_without_markup(capsys) -> None:
    assert invoke(["list", "operations"]) == 0
    out = capsys.readouterr().out
    assert "``" not in out
    assert "summary: Lock the memory and have all of it there." in out


@pytest.mark.parametrize("what", [what for what in TABLES if what != "scenarios"])
def test_short_lists_have_one_line_each(what, capsys) -> None:
    rows = list(TABLES[what]())
    assert invoke(["list", what, "--short"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(row["name"]) for line, row in zip(lines, rows, strict=True)] == [True] * len(rows)
    assert all(line[len(row["name"]) :].strip() for line, row in zip(lines, rows, strict=True))
    assert invoke(["list", what, "--short", "--json"]) == 2


def test_the_list_of_conditions_is_whole() -> None:
    told = {re.match(r"\w+", name)[0] for name in CONDITIONS if name[0].isalpha()}
    assert told == {*TERMS, "cpu1"} - {"rss"}
    assert METRIC_NOTES.keys() == METRICS.keys()


def test_listed_conditions_are_read(tmp_path, capsys) -> None:
    condition = "ever(hazard(leak)) /\\ mem[A] = unset \\/ ~ pt[A].level == table and tlb[cpu1][A].level != 2m"
    condition += " and rss(anon) >= 0 and count(tlb_flush, cpu=0) < 9"
    path = write_sample(tmp_path, rest=f"[[expect]]\nexists = '{condition}'\n")
    assert invoke(["check", str(path)]) == 0, capsys.readouterr().err


# -- verdicts -------------------------------------------------------------------------------------------------------------

TWICE = "[[expect]]\nwhen = { flush_before_set_huge = true }\nexists = 'hazard(leak)'\n"


@pytest.mark.parametrize(
    ("rest", "ending"),
    [
        (MATRIX + EXISTS, "in 1 of 2 cells, as expected"),
        (MATRIX + TWICE, "in 1 of 2 cells, and no exists names it"),
        (MATRIX + f"[[expect]]\nalways = 'hazard({MIXED}) or VmPTE >= 0'\n", "in 1 of 2 cells, as expected"),
    ],
)
def test_held_says_which_hazards_were_seen(world, capsys, rest, ending) -> None:
    run(write_sample(Path(), rest=rest))
    assert [x for x in capsys.readouterr().out.splitlines() if x.startswith("Seen")] == [f"Seen: {MIXED} (condition) {ending}"]


def test_quiet_leaves_out_what_is_held_in_a_cell_that_is_not(world, capsys) -> None:
    path = write_sample(Path(), rest=MATRIX + EXISTS + TWICE + FORBIDDEN)
    assert run(path, "-q") == 3
    out = capsys.readouterr().out
    assert "inconclusive: exists hazard(leak)" in out
    assert "held" not in out.rpartition("\n  ")[2].partition("\n")[0]
    assert len([line for line in out.splitlines() if line.startswith("Observation")]) == 1


# -- continuous integration -----------------------------------------------------------------------------------------------


def _suite(path: Path) -> ElementTree.Element:
    (suite,) = ElementTree.parse(path).getroot()
    return suite


def test_junit_has_a_case_for_each_expectation(world) -> None:
    path = write_sample(Path(), rest=MATRIX + EXISTS + FORBIDDEN)
    assert run(path, "--junit", "new/held.xml") == 0
    suite = _suite(Path("new/held.xml"))
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("sample", "4", "0", "0")
    assert [case.get("name") for case in suite][:1] == [f"exists hazard({MIXED})"]
    assert "ptactors replay" in suite[0][0].text
    assert run(path, "--runs", 3, "--junit", "short.xml") == 3
    error = _suite(Path("short.xml")).find("testcase/error")
    assert error is not None
    assert "not seen in 3 schedules" in error.get("message")


def test_junit_counts_violations(world) -> None:
    assert run(write_sample(Path(), rest=MATRIX + NEVER), "--junit", "x.xml") == 1
    root = ElementTree.parse("x.xml").getroot()
    failures = root.findall("testsuite/testcase/failure")
    assert root.get("failures") == str(len(failures)) == "1"
    assert "ptactors replay" in failures[0].text
    first = Path("x.xml").read_bytes()
    run("sample.toml", "--junit", "x.xml")
    assert Path("x.xml").read_bytes() == first


def test_junit_of_an_interrupted_run_has_an_error(world, monkeypatch) -> None:
    def interrupted(scenario, cell, *, strategy, seeds, host):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptactors.campaign.run.play_many", interrupted)
    assert run(write_sample(Path()), "--junit", "x.xml") == 130
    assert ElementTree.parse("x.xml").getroot().get("errors") != "0"


def test_junit_that_cannot_be_written_exits_2_and_keeps_the_verdicts(world, capsys) -> None:
    Path("file").write_text("")
    assert run(write_sample(Path()), "--junit", "file/x.xml") == 2
    out, err = capsys.readouterr()
    assert "Verdict: held" in out
    assert err.startswith("error: --junit: file/x.xml: ")


def test_sigterm_is_an_interrupt(tmp_path) -> None:
    path = write_sample(tmp_path, runs=1_000_000)
    line = [sys.executable, "-m", "ptactors", "run", str(path), "--jobs", "1", "--log", "none", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=4)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, b"")
    assert json.loads(out)["interrupted"] is True


# -- a log and its schedule -----------------------------------------------------------------------------------------------


def test_a_log_stands_for_its_schedule(world, capsys) -> None:
    run(write_sample(Path()))
    schedule = Path("logs/sample/flush_before_set_huge=n/seed-7.schedule.json")
    log = schedule.with_name("seed-7.jsonl")
    capsys.readouterr()
    assert invoke(["replay", str(schedule), "-q", "--log", "none"]) == 0
    from_schedule = capsys.readouterr().out
    assert invoke(["replay", str(log), "-q", "--log", "none"]) == 0
    assert capsys.readouterr().out == from_schedule
    assert "held in this schedule, as its expectations let what was found pass; digest" in from_schedule
    assert invoke(["report", str(log), "--text"]) == 0
    from_log = capsys.readouterr().out
    assert invoke(["report", str(schedule), "--text"]) == 0
    assert capsys.readouterr().out == from_log
    schedule.unlink()
    assert invoke(["replay", str(log)]) == 2
    assert "seed-7.schedule.json is not beside it" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["replay", "explain", "shrink"])
def test_what_is_made_again_is_one_file(command, tmp_path, capsys) -> None:
    assert invoke([command, ""]) == 2
    assert "a token, a schedule file or a log is wanted" in capsys.readouterr().err
    assert invoke([command, str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("is a folder; a run is made again from one file\n")
    schedule = tmp_path / "scenario" / "cell" / "seed-1.schedule.json"
    schedule.parent.mkdir(parents=True)
    schedule.touch()
    assert invoke([command, str(tmp_path)]) == 2
    assert f"such as {schedule}" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["bench", "host", "log"])
def test_the_help_of_a_group_is_not_cut_off(group, capsys) -> None:
    assert invoke([group, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
