"""How races are told to the C program, how they are judged, and what ``host run`` and ``host record`` print."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs
import pytest
from fake_host import MIB, RACE, pretend_linux, seen

from ptactors.cli.main import invoke
from ptactors.host import here, litmus, probe
from ptactors.host.form import CannotRun
from ptactors.host.judge import judge, observable
from ptactors.host.litmus import Histogram
from ptactors.host.recordings import load
from ptactors.host.sequence import ARENA, Observation, Recording
from ptactors.scenario.load import loads
from ptactors.scenario.model import Names

# -- races ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def linux(monkeypatch) -> None:
    pretend_linux(monkeypatch)


AT = ARENA + (0x7F00_0020_0000 % (1 << 39))


def test_a_race_as_the_c_program_takes_it(linux) -> None:
    plan = litmus.plan(loads(RACE))
    assert plan.threads == 2
    b = AT + 6 * MIB
    assert list(plan.lines) == [
        f"span {AT} {8 * MIB}",
        f"vma {AT} {4 * MIB} 3 15",
        f"fill {AT + 2 * MIB} {AT + 2 * MIB + 4096} 1",
        f"drop {AT + 2 * MIB} 4096",
        f"fill {AT} {AT + 8192} 1000000000",
        f"look {AT + 0x3000}",
        f"vma {b} {2 * MIB} 3 0",
        f"call 10 {b} {2 * MIB} 1 0 0 0 -1",
        f"final {AT}",
        f"final {AT + 0x1000}",
        "thread 3",
        f"call 28 {AT} {2 * MIB} 4 0 0 0 0",
        "mark",
        f"write {AT + 0x1000} 7",
        f"call 10 {AT} 4096 0 0 0 0 -1",
        "thread 5",
        f"warm {AT}",
        f"read {AT} 0",
        "await 0 1",
        f"read {AT} 1",
        f"call 11 {b} {2 * MIB} 0 0 0 0 -1",
    ]


def test_the_c_program_s_outcomes_in_the_simulator_s_terms(linux) -> None:
    plan = litmus.plan(loads(RACE))
    least = -(1 << 63)
    text = f"3 0 1000000000 0 0 7\n5 -22 {least + 1} {least} {least} 1\nothers 2\n"
    found = litmus.histogram(plan, text)
    assert found.iterations == 10
    assert [(dict(state), count) for state, count in found.outcomes] == [
        ({"cpu0:ret": -22, "cpu1:r0": "SIGSEGV", "cpu1:r1": "unset", "mem[A+0x0]": "unset", "mem[A+0x1008]": 1}, 5),
        ({"cpu0:ret": 0, "cpu1:r0": "old", "cpu1:r1": 0, "mem[A+0x0]": 0, "mem[A+0x1008]": 7}, 3),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("read A -> r0", "gup_fast A -> r0", "the operation 'gup_fast' is not made in a race"),
        ("[cpu.1]\n", "[cpu.1]\nstate = 'lazy'\n", "a CPU is lazy or idle"),
        ('huge = "nohugepage"', 'kind = "memfd"', "A is not a plain anonymous mapping"),
        ('"A+0x3000" = "zero"', '"A+0x3000" = "swap"', "A has entries that only the model can put there"),
        ("[machine]", "[fault]\npage_batch_alloc = 'fail'\n[machine]", "it makes allocations fail"),
        ("munmap B", "repeat 20000 as i {\n read A\n }", "more than 10000 operations"),
        ("cpus = 2", "cpus = 3\n[cpu.2]\ndo = 'read A'", "programs for 3 CPUs or more, and this process may use 2"),
        ("at = 0x7f00_0080_0000", "at = 0x6f00_0080_0000", "lie further apart than 512 GiB"),
    ],
)
def test_a_race_that_only_the_model_has(linux, old: str, new: str, words: str) -> None:
    assert old in RACE
    with pytest.raises(CannotRun, match=words):
        litmus.plan(loads(RACE.replace(old, new)))


@pytest.mark.parametrize(
    ("setting", "huge", "error"), [("never", "hugepage", True), ("", "hugepage", True), ("always", "none", False)]
)
def test_huge_pages_of_a_race_are_this_machine_s(linux, monkeypatch, setting: str, huge: str, error: bool) -> None:
    monkeypatch.setattr(litmus, "thp_setting", lambda: setting)
    text = RACE.replace("cpus = 2", 'cpus = 2\nthp = "madvise"').replace('huge = "nohugepage"', f'huge = "{huge}"')
    if error:
        with pytest.raises(CannotRun, match="A wants huge pages"):
            litmus.plan(loads(text))
    else:
        assert f"vma {AT} {4 * MIB} 3 15" in litmus.plan(loads(text)).lines


def test_without_a_compiler_races_are_skipped(linux, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    litmus._build.cache_clear()
    with pytest.raises(CannotRun, match="no C compiler is on the PATH"):
        litmus.run(litmus.plan(loads(RACE)), 1, 1, 0)


def outcome(count: int, **state) -> tuple:
    names = {"ret": "cpu0:ret", "r0": "cpu1:r0", "r1": "cpu1:r1", "page": "mem[A+0x1000]"}
    return tuple((names[key], value) for key, value in state.items()), count


def test_expectations_are_judged_as_far_as_user_space_sees(linux) -> None:
    scenario = loads(RACE)
    plan = litmus.plan(scenario, (0x7F00_0020_1000,))
    histogram = Histogram(
        outcomes=(outcome(5, ret=0, r0="old", r1=0, page=7), outcome(2, ret=0, r0=0, r1="old", page=0)), others=1
    )
    judged = {(each.kind, each.condition): each for each in judge(scenario, "v6.14", plan, histogram)}
    assert {key: (each.hits, each.iterations, each.violated) for key, each in judged.items()} == {
        ("forbidden", '(cpu1:r1 == "old")'): (2, 7, True),
        ("exists", "cpu0:ret == 0 and mem[A+0x1000] == 7"): (5, 7, False),
        ("always", '(cpu1:r0 == "old")'): (5, 7, True),
    }
    before = judge(scenario, "before", plan, histogram)
    assert [each.hits for each in before if each.condition == "cpu1:r0 == 0"] == [2]


def test_what_cannot_be_told_apart_is_not_judged(linux) -> None:
    roots = [each.condition.root for each in loads(RACE).expects]
    assert observable("exists", roots[0]) is None
    assert observable("always", roots[0]) is None
    assert observable("forbidden", roots[4]) is None
    assert observable("forbidden", roots[3]) is None
    assert observable("exists", roots[2]) is roots[2]


# -- the commands ---------------------------------------------------------------------------------------------------------

HOST = probe.Host(release="9.9.1", kernel_class="reclaim", thp="madvise", cpus=2, reason="")


@pytest.fixture
def fake_kernel(linux, monkeypatch) -> list[list]:
    """A kernel that answers steps with what is in the list, run by run; the last answer again and again."""
    answers: list[list] = []

    def execute(steps: tuple) -> tuple[Observation, ...]:
        return tuple(answers.pop(0) if len(answers) > 1 else answers[0])

    monkeypatch.setattr(probe, "probe", lambda: HOST)
    monkeypatch.setattr(here, "execute", execute)
    return answers


STEPS = [("map", 0, 16 * MIB), ("w", 0, 2 * MIB), ("adv", 0, 2 * MIB, "DONTNEED")]


def answer(vmpte: int, faults: int = 512, noise: int = 0) -> list[Observation]:
    return [
        seen(STEPS[0], faults=noise),
        seen(STEPS[1], 12, faults=faults, rss_kb=2048, tables={0: (512, 0)}),
        seen(STEPS[2], vmpte, result=(0, 1), faults=noise),
    ]


def file_of_steps(tmp_path: Path) -> str:
    path = tmp_path / "mine.jsonl"
    from ptactors.host.recordings import dump

    dump(path, [Recording(name="mine", steps=tuple(STEPS), observed=tuple(answer(12)), kernel="1.0", thp="never")])
    return str(path)


def test_run_prints_what_each_operation_showed(fake_kernel, capsys, tmp_path) -> None:
    fake_kernel.append(answer(8))
    assert invoke(["host", "run", file_of_steps(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "This machine: Linux 9.9.1, frees emptied PTE pages, THP madvise, CPUs 2",
        "mine",
        "  map 0 16M                                   0  VmPTE    0 kB  Rss      0 kB",
        "  w 0 2M                                      0  VmPTE   12 kB  Rss   2048 kB  faults 512  pages 0:512",
        "  adv 0 2M DONTNEED                         0,1  VmPTE    8 kB  Rss      0 kB",
    ]


def test_run_as_one_document(fake_kernel, monkeypatch, capsys, tmp_path) -> None:
    fake_kernel.append(answer(8))
    histogram = Histogram(outcomes=(outcome(3, ret=0, r0="old", r1="old", page=7),))
    monkeypatch.setattr(litmus, "run", lambda *asked: histogram)
    (tmp_path / "race.toml").write_text(RACE)
    assert invoke(["host", "run", "--json", file_of_steps(tmp_path), str(tmp_path / "race.toml")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["host"] == attrs.asdict(HOST)
    sequence, race = document["results"]
    assert sequence["steps"] == [list(step) for step in STEPS]
    assert [each["vmpte_kb"] for each in sequence["observed"]] == [0, 12, 8]
    assert race["outcomes"] == [{"count": 3, "state": {"cpu0:ret": 0, "cpu1:r0": "old", "cpu1:r1": "old", "mem[A+0x1000]": 7}}]
    assert [each["violated"] for each in race["expectations"]] == [True, False, False]


def test_record_writes_what_several_runs_agree_on(fake_kernel, capsys, tmp_path) -> None:
    fake_kernel += [answer(8), answer(8, noise=3), answer(8)]
    output = tmp_path / "made.jsonl"
    assert invoke(["host", "record", "-o", str(output), file_of_steps(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["recorded  mine: 3 operations", f"1 sequences in {output}"]
    (made,) = load(output)
    assert (made.name, made.kernel, made.thp, made.observed) == ("mine", "9.9.1", "madvise", tuple(answer(8)))
    assert "3 runs" in made.provenance


@pytest.mark.parametrize("other", [answer(12), answer(8, faults=511)])
def test_record_leaves_out_what_they_do_not(fake_kernel, capsys, tmp_path, other: list[Observation]) -> None:
    fake_kernel += [answer(8), answer(8), other]
    assert invoke(["host", "record", "-o", str(tmp_path / "made.jsonl"), file_of_steps(tmp_path)]) == 3
    assert "skipped  mine: 3 runs do not agree at step" in capsys.readouterr().out
    assert not (tmp_path / "made.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument"),
        (["run", "no-such-thing"], "no recorded sequence 'no-such-thing'"),
        (["run", "dn_2m_full", "--runs", "0"], "--runs"),
        (["run", "dn_2m_full", "--time", "0"], "--time"),
        (["record", "dn_2m_full"], "-o"),
        (["walk"], "No such command"),
    ],
)
def test_usage(fake_kernel, capsys, arguments: list[str], words: str) -> None:
    assert invoke(["host", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_name_is_a_sequence_or_a_race(linux, tmp_path) -> None:
    (tmp_path / "race.toml").write_text(RACE)
    start = RACE.index("[cpu.0]")
    (tmp_path / "line.toml").write_text(RACE[:start].replace('"race"', '"line"') + "[cpu.0]\ndo = 'madvise A 2M DONTNEED'\n")
    line, race = here.wanted([str(tmp_path)], Names())
    assert (line.name, line.steps[-1], line.scenario) == ("line", ("adv", line.steps[-1][1], 2 * MIB, "DONTNEED"), None)
    assert (race.name, race.steps) == ("race", ())
    assert race.scenario is not None
    both = list(here.wanted(["dn_2m_full"], Names()))
    assert [each.name for each in both] == ["dn_2m_full"]  # recorded on two kernels, run once
