"""The model agrees with recorded kernels: every field, after every operation, of every sequence that it can make."""

import json

import attrs
import pytest

from ptactors.cli.main import invoke
from ptactors.errors import UsageError
from ptactors.host import compare as comparing
from ptactors.host import selection
from ptactors.host.compare import KNOWN, Known, compare, differences, preset_of
from ptactors.host.probe import Host
from ptactors.host.program import access_count, needs, split, translate
from ptactors.host.recordings import dump, load, load_shipped, shipped
from ptactors.host.scenarios import Unmappable, folded, steps_of
from ptactors.host.sequence import VmaSeen
from ptactors.host.simulate import simulate
from ptactors.scenario.load import loads

DO = {"map", "w", "r", "unmap", "prot", "lock", "unlock", "adv", "padv"}
ADVICES = {"DONTNEED", "DONTNEED_LOCKED", "HUGEPAGE", "NOHUGEPAGE", "POPULATE_READ", "POPULATE_WRITE", "COLLAPSE"}
M = 1 << 20


def within(step):
    """Whether a step is one of those that the model must be able to do."""
    verb, *rest = step[1:] if step[0] == "t2" else step
    if verb in ("adv", "padv"):
        return rest[2] in ADVICES
    return verb in DO and (verb != "map" or rest[2:3] in ([], ["anon"]))


RECORDED = [(name, recording) for name in shipped() for recording in load_shipped(name)]
COMPARED = [(name, recording) for name, recording in RECORDED if all(map(within, recording.steps))]


def recorded(name, file="linux-6.18"):
    return next(recording for recording in load_shipped(file) if recording.name == name)


def test_what_is_shipped():
    assert shipped() == ("linux-6.1", "linux-6.18")
    assert [len([r for name, r in RECORDED if name == file]) for file in shipped()] == [64, 64]
    assert [len([r for name, r in COMPARED if name == file]) for file in shipped()] == [37, 37]
    assert {preset_of(r.kernel) for name, r in RECORDED if name == "linux-6.18"} == {"v6.18"}
    assert {preset_of(r.kernel) for name, r in RECORDED if name == "linux-6.1"} == {"v6.1"}


def case(file, recording):
    """The longest are left to full runs."""
    accesses = sum(access_count(split(step)[1]) for step in recording.steps)
    marks = [pytest.mark.full] if accesses > 2048 else []
    return pytest.param(recording, id=f"{file}-{recording.name}", marks=marks)


@pytest.mark.parametrize("recording", [case(*each) for each in COMPARED])
def test_agrees(recording):
    found = compare(recording, preset_of(recording.kernel))
    assert not found.skipped
    assert found.operations == len(recording.steps)
    assert [str(difference) for difference in found.differences] == []
    assert found.agrees, (found.findings, found.status)


def test_known_differences_are_few_and_real():
    assert len(KNOWN) <= 2
    for known in KNOWN:
        assert known.field in comparing.FIELDS
        assert known.field != "vmpte_kb"
        file = f"linux-{known.preset.removeprefix('v')}"
        found = compare(recorded(known.sequence, file), known.preset)
        assert any(difference.field == known.field for difference, _ in found.known), f"{known.sequence} agrees by now"


@pytest.mark.parametrize("name", ["dn_2m_full", "dn_empty_never_touched", "thp_prot_split"])
def test_what_the_model_cannot_do_is_computed(name):
    assert needs(recorded(name).steps) == ()


@pytest.mark.parametrize(
    ("steps", "lacking"),
    [
        ((("map", 0, M), ("adv", 0, M, "PAGEOUT")), ("madvise PAGEOUT",)),
        ((("map", 0, M, "memfd_shared"), ("truncate", "f", 0)), ("map memfd_shared", "truncate")),
        ((("map", 0, M), ("t2", "uffd", 0, M, 2)), ("uffd",)),
    ],
)
def test_needs(steps, lacking):
    assert needs(steps) == lacking
    with pytest.raises(UsageError, match="the model has no"):
        translate(steps)


# The comparison itself must be able to fail.


def test_the_other_kernel_differs_where_tables_are_freed():
    found = compare(recorded("dn_2m_full"), "v6.1")
    assert [(d.number, d.field, d.model, d.kernel) for d in found.differences] == [(2, "vmpte_kb", "12", "8")]
    assert str(found.differences[0]) == "step 2, adv 0 2M DONTNEED: VmPTE, kB: model 12, kernel 8"
    assert not found.agrees


CHANGES = {
    "result": -1,
    "vmpte_kb": 4096,
    "rss_kb": 1 << 30,
    "faults": 77,
    "tables": {9: (1, 0)},
    "vmas": (VmaSeen(start=0, length=4096, perm="---p"),),
}


@pytest.mark.parametrize("field", comparing.FIELDS)
def test_every_field_is_compared(field):
    seen = recorded("dn_2m_full").observed
    for number, observation in enumerate(seen):
        changed = (*seen[:number], attrs.evolve(observation, **{field: CHANGES[field]}), *seen[number + 1 :])
        found = differences(changed, seen)
        expected = [(number, field)] if field != "faults" or observation.step[0] in ("w", "r") else []
        assert [(each.number, each.field) for each in found] == expected


def test_vmpte_counts_from_the_second_threads_first_operation():
    seen = recorded("t2_dn_after_t1_touch").observed
    first = next(n for n, each in enumerate(seen) if each.step[0] == "t2")
    shifted = [attrs.evolve(each, vmpte_kb=each.vmpte_kb + (8 if n >= first else 0)) for n, each in enumerate(seen)]
    assert differences(shifted, seen) == ()
    shifted[-1] = attrs.evolve(shifted[-1], vmpte_kb=0)
    assert [each.field for each in differences(shifted, seen)] == ["vmpte_kb"]


def test_a_known_difference_is_set_apart():
    known = Known(sequence="dn_2m_full", field="vmpte_kb", preset="v6.1", reason="it is another kernel")
    found = compare(recorded("dn_2m_full"), "v6.1", (known,))
    assert found.agrees
    assert [reason for _, reason in found.known] == ["it is another kernel"]


# Sequences through the model.


def test_a_sweep_is_one_observation():
    seen = simulate([("map", 0, 4 * M), ("w", 0, 4 * M, 2 * M, 7), ("r", 0, 2 * M, 64 << 10)], "v6.18")
    assert [each.step[0] for each in seen] == ["map", "w", "r"]
    assert (seen[1].faults, seen[1].rss_kb, seen[1].result) == (2, 8, 0)
    assert seen[2].result == (0, 7)
    assert seen[2].tables == {0: (32, 0), 1: (1, 0)}


def test_refused_accesses_and_errors_have_the_kernels_words():
    steps = [("map", 0, 2 * M, "anon", "ro"), ("w", 0), ("r", 4 * M), ("adv", 0, 4 * M, "DONTNEED"), ("t2", "r", 4096)]
    assert [each.result for each in simulate(steps, "v6.18")] == [0, "SIGSEGV", "SIGSEGV", "-ENOMEM", (0,)]


# Files.


def test_round_trip(tmp_path):
    for name in shipped():
        dump(tmp_path / "again.jsonl", load_shipped(name))
        assert load(tmp_path / "again.jsonl") == load_shipped(name)


LINE = {"name": "n", "kernel": "6.18", "thp": "never", "provenance": "", "steps": [["map", 0, 4096]], "observed": []}
SEEN = {"result": 0, "vmpte_kb": 0, "rss_kb": 0, "faults": 0, "tables": {}, "vmas": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no recording in it"),
        ("{", ":1: not a line of JSON"),
        ("[1]", ":1: a recording is an object"),
        (json.dumps({**LINE, "name": 3}), ":1: the recording: 'name' is int"),
        (json.dumps(LINE), ":1: recording 'n' has 1 steps and 0 observations"),
        (json.dumps({**LINE, "steps": [0], "observed": [SEEN]}), ":1: recording 'n': a step is the name of an operation"),
        (json.dumps({**LINE, "observed": [{**SEEN, "tables": {"x": [1, 2]}}]}), "a table is a number with two counts"),
        (json.dumps({**LINE, "observed": [{**SEEN, "vmas": [[1]]}]}), "a VMA has five parts"),
        ("\n\n" + json.dumps({**LINE, "observed": [{"result": 0}]}), ":3: recording 'n', step 0 lacks 'vmpte_kb'"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        load(file)
    assert message in str(error.value)
    assert str(error.value).startswith(str(file))


# Scenarios.

HEAD = 'ptactors = 1\nname = "x"\nwhy = "test"\n'
VMA = '[vma.A]\nat = 0x7f0000200000\nsize = "4M"\n'
TWO = """
[cpu.0]
do = '''
    a: write A = "x"
    wait cpu1:b
    read A -> r0
'''
[cpu.1]
do = '''
    wait cpu0:a
    b: madvise A DONTNEED
'''
"""


def test_a_sequential_scenario_is_a_sequence():
    populated = VMA + 'populate = { "A+0x1000" = "old" }\n'
    assert steps_of(loads(HEAD + populated + TWO)) == (
        ("map", 2 * M, 4 * M),
        ("w", 2 * M + 4096, 4096, 4096, 128),
        ("w", 2 * M, 4096, 4096, 129),
        ("t2", "adv", 2 * M, 4 * M, "DONTNEED"),
        ("r", 2 * M),
    )


RICH = """
[machine]
thp = "always"
[vma.A]
at = 0x7f0000200000
size = "4M"
writable = false
populate = { "A+0x200000" = 7 }
tables = ["A+0x1000", "A+0x201000"]
[vma.B]
at = 0x7f0000800000
size = "2M"
huge = "nohugepage"
huge_pages = { "B" = "old" }
[vma.C]
at = 0x7f0001000000
size = "2M"
mapped = false
[cpu.0]
tlb = ["B"]
do = '''
    mmap C ro
    mprotect B 0x1000 none -> r0
    process_madvise A DONTNEED
'''
"""


def test_what_is_there_at_the_start_is_made_by_operations():
    assert steps_of(loads(HEAD + RICH)) == (
        ("map", 2 * M, 4 * M),
        ("w", 4 * M, 4096, 4096, 7),
        ("w", 2 * M),
        ("adv", 2 * M, 4096, "DONTNEED"),
        ("adv", 2 * M, 4 * M, "HUGEPAGE"),
        ("prot", 2 * M, 4 * M, "ro"),
        ("map", 8 * M, 2 * M),
        ("w", 8 * M, 2 * M, 4096, 128),
        ("adv", 8 * M, 2 * M, "COLLAPSE"),
        ("adv", 8 * M, 2 * M, "NOHUGEPAGE"),
        ("r", 8 * M),
        ("map", 16 * M, 2 * M, "anon", "ro"),
        ("prot", 8 * M, 4096, "none"),
        ("padv", 2 * M, 4 * M, "DONTNEED"),
    )


ONE = "[cpu.0]\ndo = '''\n{}\n'''\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (VMA + ONE.format("write A = 1") + "[cpu.1]\ndo = '''\nread A -> r0\n'''\n", "its programs overlap"),
        (VMA + 'kind = "memfd"\n' + ONE.format("read A -> r0"), "A is a memfd mapping"),
        ('[machine]\nhardware = "amd-tce"\n' + VMA + ONE.format("read A -> r0"), "the CPU type is this machine's"),
        (VMA + ONE.format("gup_fast A -> r0"), "no operation sequence has gup_fast"),
        (VMA + ONE.format("read A -> r0") + '[fault]\npage_batch_alloc = "fail"\n', "it makes allocations fail"),
        (VMA + 'entries = { "A" = "swap" }\n' + ONE.format("read A -> r0"), "A has entries that only the model can put there"),
    ],
)
def test_scenarios_that_no_real_kernel_can_make(text, reason):
    with pytest.raises(Unmappable) as error:
        steps_of(loads(HEAD + text))
    assert str(error.value) == reason


# The command.


def test_the_command_prints_and_judges(capsys):
    assert invoke(["host", "compare", "dn_4k_only_page", "pageout_shared_memfd"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "agrees  dn_4k_only_page, 6.1.0-50-cloud-amd64 against v6.1: 3 operations"
    assert lines[-1] == "2 compared: 2 agree, 0 differ; 2 skipped"


def test_the_command_tells_a_difference(tmp_path, capsys):
    wrong = recorded("dn_4k_only_page")
    dump(
        tmp_path / "wrong.jsonl", [attrs.evolve(wrong, observed=(*wrong.observed[:2], attrs.evolve(wrong.observed[2], rss_kb=8)))]
    )
    assert invoke(["host", "compare", str(tmp_path / "wrong.jsonl"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["compared"], document["differ"]) == (1, 1)
    assert document["sequences"][0]["differences"] == [
        {"step": 2, "operation": ["adv", 0, 4096, "DONTNEED"], "field": "rss_kb", "model": "0", "kernel": "8"}
    ]


def test_a_preset_chooses_the_recordings_of_its_class_but_files_are_meant(tmp_path, capsys):
    assert invoke(["host", "compare", "dn_2m_full", "--preset", "v6.14"]) == 0
    assert "1 compared: 1 agree" in capsys.readouterr().out
    dump(tmp_path / "mine.jsonl", [attrs.evolve(recorded("dn_2m_full"), name="mine")])
    assert invoke(["host", "compare", str(tmp_path / "mine.jsonl"), "--preset", "before"]) == 1
    assert "VmPTE, kB: model 12, kernel 8" in capsys.readouterr().out


def test_nothing_to_compare_and_unknown_names(capsys):
    assert invoke(["host", "compare", "pageout_shared_memfd"]) == 3
    assert invoke(["host", "compare", "dn_4k_only_pag"]) == 2
    assert "dn_4k_only_page" in capsys.readouterr().err


HERE = Host(release="6.18.44", kernel_class="reclaim", thp="madvise", cpus=2, reason="")


@pytest.mark.parametrize(("wrong", "verdict"), [(0, True), (2, True), (3, False)])
def test_a_live_difference_counts_only_if_it_stays(monkeypatch, wrong, verdict):
    left = [wrong]

    def execute(steps):
        left[0] -= 1
        seen = recorded("dn_2m_full").observed
        return tuple(attrs.evolve(each, vmpte_kb=each.vmpte_kb + 4 * (left[0] >= 0)) for each in seen)

    monkeypatch.setattr(selection, "execute", execute)
    (found,) = selection.with_live(["dn_2m_full"], None, HERE)
    assert found.preset == "v6.18"
    assert found.agrees is verdict


def test_what_this_machine_cannot_make_is_skipped():
    cannot = attrs.evolve(HERE, kernel_class="", reason="a real Linux kernel is needed")
    (found,) = selection.with_live(["dn_2m_full"], None, cannot)
    assert found.skipped == "a real Linux kernel is needed"


@pytest.mark.live
def test_this_machine_agrees(capsys):
    code = invoke(["host", "compare", "all", "--with", "live", "-q"])
    out = capsys.readouterr().out
    if code == 3:
        pytest.skip(f"nothing can be compared here: {out}")
    assert code == 0, out


def test_long_loops_become_one_step_and_mean_the_same() -> None:
    one = [("w", i << 21) for i in range(70)]
    both = [step for i in range(70) for step in (("w", i << 21), ("adv", i << 21, 1 << 21, "DONTNEED"))]
    plain = [("map", 0, 1 << 28), *one, *both, ("w", 0)]
    steps = folded(plain)
    assert steps == (
        ("map", 0, 1 << 28),
        ("repeat", 70, 1 << 21, ("w", 0)),
        ("repeat", 70, 1 << 21, ("w", 0), ("adv", 0, 1 << 21, "DONTNEED")),
        ("w", 0),
    )
    short, long = simulate(tuple(steps), "v6.18"), simulate(tuple(plain), "v6.18")
    for mine, theirs in ((1, 70), (2, 210), (3, 211)):
        assert (short[mine].vmpte_kb, short[mine].tables, short[mine].vmas) == (
            long[theirs].vmpte_kb,
            long[theirs].tables,
            long[theirs].vmas,
        )
    assert short[1].faults == sum(each.faults for each in long[1:71]) == 70


def test_a_repeat_tells_its_first_error() -> None:
    steps = (("map", 0, 1 << 21), ("repeat", 2, 1 << 21, ("adv", 0, 1 << 21, "DONTNEED")))
    assert simulate(steps, "v6.18")[1].result == "-ENOMEM"


@pytest.mark.live
def test_every_sequential_scenario_agrees_with_this_machine(capsys):
    code = invoke(["host", "compare", "scenarios", "--with", "live"])
    out = capsys.readouterr().out
    if code == 3:
        pytest.skip(f"nothing can be compared here: {out}")
    assert code == 0, out
    assert "headline-50g" in out


def test_a_repeat_holds_single_operations_only():
    many = ("w", 0, 8192)
    assert needs((("repeat", 2, 1 << 21, many),)) == ("repeat of a w that is more than one operation",)
    wide = [("w", i << 21, 8192) for i in range(70)]
    assert folded(wide) == tuple(wide)
