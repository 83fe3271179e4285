"""What is read of /proc, what sequences a real kernel is given, and in which words a machine is told that it cannot."""

from __future__ import annotations

import subprocess

import pytest
from fake_host import GIB, MIB, pretend_linux, seen

from ptactors.cli.main import invoke
from ptactors.errors import UsageError
from ptactors.host import live, probe
from ptactors.host.form import FORMS, CannotRun, check
from ptactors.host.proc import FLAGS, _Runs, pages, passed, status_kb, vmas
from ptactors.host.recordings import load_shipped
from ptactors.host.sequence import ARENA, Observation

# -- /proc ----------------------------------------------------------------------------------------------------------------

STATUS = b"Name:\tpython3\nVmLck:\t       0 kB\nVmPTE:\t     112 kB\nVmSwap:\t       0 kB\n"
SMAPS = b"""\
00400000-00401000 r--p 00000000 00:1f 17                                 /usr/bin/python3
Rss:                   4 kB
AnonHugePages:         0 kB
VmFlags: rd mr mw me sd
100000000000-100000200000 rw-p 00000000 00:00 0
Size:               2048 kB
Rss:                2048 kB
Pss:                2048 kB
AnonHugePages:      2048 kB
THPeligible:           1
VmFlags: rd wr mr mw me ac sd hg
100000200000-100000201000 ---p 00000000 00:00 0 [anon: a name: with colons]
Rss:                   0 kB
AnonHugePages:         0 kB
VmFlags: mr mw me lo ac nh gu
7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0                          [vdso]
Rss:                   8 kB
VmFlags: rd ex mr mw me de
"""


def test_a_figure_of_status() -> None:
    assert status_kb(STATUS, b"VmPTE") == 112
    assert status_kb(STATUS, b"VmPMD") == 0


def test_mappings_of_the_arena() -> None:
    assert list(vmas(SMAPS, ARENA, ARENA + GIB)) == [
        (ARENA, ARENA + 2 * MIB, "rw-p", 2048, 2048, ("hg",)),
        (ARENA + 2 * MIB, ARENA + 2 * MIB + 4096, "---p", 0, 0, ("lo", "nh", "gu")),
    ]
    assert list(vmas(SMAPS, ARENA, ARENA + MIB)) == []
    assert set(FLAGS) == {"lo", "hg", "nh", "gu"}


@pytest.mark.parametrize("lines", range(SMAPS.count(b"\n") + 1))
def test_reading_smaps_stops_only_behind_the_arena(lines: int) -> None:
    text = b"".join(SMAPS.splitlines(keepends=True)[:lines])
    behind = text.split(b"VmFlags")[-1].find(b"7ffff7") >= 0
    assert passed(text, ARENA + GIB) is (behind and b"VmFlags" in text)


def entry(bit: int) -> bytes:
    return (1 << bit | 1 << 55).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("entries", "counted"),
    [
        (bytes(8 * 512), (0, 0)),
        (entry(55) * 512, (0, 0)),  # nothing, in a soft-dirty mapping
        (entry(63) * 512, (512, 0)),
        (entry(62) * 3 + entry(63) * 5 + bytes(8 * 4), (5, 3)),
        (entry(58), (0, 0)),
    ],
)
def test_pagemap_entries_are_counted(entries: bytes, counted: tuple[int, int]) -> None:
    assert pages(entries) == counted


def test_tables_are_told_in_runs() -> None:
    runs = _Runs()
    for number, present, marked in [(0, 1, 0), (1, 1, 0), (2, 1, 0), (2, 3, 1), (3, 1, 0), (7, 1, 0), (8, 1, 0)]:
        runs.add(number, present, marked)
    assert runs.done() == [(0, 2, 1, 0), (2, 1, 4, 1), (3, 1, 1, 0), (7, 2, 1, 0)]
    assert _Runs().done() == []


def test_an_answer_of_the_worker() -> None:
    line = {
        "result": [0, 7],
        "vmpte_kb": 12,
        "rss_kb": 8,
        "faults": 2,
        "tables": [[0, 2, 1, 0]],
        "vmas": [[0, 4096, "rw-p", 0, ["hg"]]],
    }
    step = ("fork", (("r", 0),))
    seen = live.observation(step, {**line, "child": [{**line, "result": "-EINVAL"}]})
    assert (seen.result, seen.tables, seen.vmas[0].flags) == ((0, 7), {0: (1, 0), 1: (1, 0)}, ("hg",))
    assert [(each.step, each.result) for each in seen.child] == [(("r", 0), "-EINVAL")]


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ((), UsageError, "an operation is missing"),
        (("t2",), UsageError, "an operation is missing"),
        (("map", 0), UsageError, "map takes 2 to 6 arguments, not 1"),
        (("unmap", 0, 4096, 1), UsageError, "unmap takes 2 arguments, not 3"),
        (("w", "0"), UsageError, "'0' is no number of bytes"),
        (("w", -4096), UsageError, "-4096 is no number of bytes"),
        (("r", 0, 4096, 0), UsageError, "a stride of 0 never ends"),
        (("w", 0, 4096, 4096, 256), UsageError, "256 is no byte"),
        (("unmap", 511 * GIB, 2 * GIB), UsageError, "beyond the arena of 512 GiB"),
        (("move", 0, 2 * GIB, 511 * GIB), UsageError, "beyond the arena of 512 GiB"),
        (("prot", 0, 4096, "rx"), UsageError, "'rx' is no protection; known: none, ro, rw"),
        (("truncate", "f", 0), UsageError, "no mapping before it is of a file 'f'"),
        (("adv", 0, 4096, "HWPOISON"), CannotRun, "the advice HWPOISON is not given to a live kernel"),
        (("map", 0, 4096, "hugetlb"), CannotRun, "a mapping of kind 'hugetlb' is not made"),
        (("uffd", 0, 4096, 2), CannotRun, "the operation 'uffd' is not made on a live kernel"),
        (("t2", "fork", ()), CannotRun, "'fork' is not made by a child or the second thread"),
        (("fork", (("uffd", 0, 4096, 2),)), CannotRun, "the operation 'uffd' is not made"),
    ],
)
def test_a_step_that_is_none_or_not_for_live_kernels(step: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check([("map", 0, 4096), step])


def test_every_recorded_step_has_a_form_or_is_said_to_be_left_out() -> None:
    known = {*FORMS, "t2", "fork", "reap"}
    left_out = {str(step[0]) for each in load_shipped("linux-6.18") for step in each.steps} - known
    assert left_out == {"uffd", "uffd_wp"}
    check(
        [
            ("map", 0, 4096, "memfd_shared", "rw", "f"),
            ("truncate", "f", 0),
            ("t2", "w", 0),
            ("fork", (("r", 0),), True),
            ("reap",),
        ]
    )


MACHINES = [
    ("darwin", "x86_64", "a real Linux kernel is needed, and this is darwin"),
    ("linux", "aarch64", "sequences are for x86_64, and this machine is aarch64"),
]


class Uname:
    release = "9.9"

    def __init__(self, machine: str) -> None:
        self.machine = machine


@pytest.fixture(params=MACHINES, ids=lambda m: m[0] + "-" + m[1])
def other_machine(request, monkeypatch) -> str:
    system, machine, reason = request.param
    monkeypatch.setattr(live.sys, "platform", system)
    monkeypatch.setattr(live.os, "uname", lambda: Uname(machine), raising=False)
    return reason


def test_the_machine_code_s_handler_is_where_it_is_said_to_be() -> None:
    native = pytest.importorskip("ptactors.host.native")
    assert native.CODE[native._HANDLER :].startswith(bytes.fromhex("488b82a8000000"))  # mov rax, [rdx+REG_RIP]
    calls = [at for at in range(len(native.CODE)) if native.CODE[at] == 0xE8]
    targets = {at + 5 + int.from_bytes(native.CODE[at + 1 : at + 5], "little", signed=True) for at in calls}
    assert len({t for t in targets if native.CODE[t : t + 5] == bytes.fromhex("b862000000")}) == 1  # mov eax, __NR_getrusage


def test_another_machine_is_told_in_a_sentence(other_machine: str) -> None:
    with pytest.raises(CannotRun, match=other_machine):
        live.execute([("map", 0, 4096)])
    assert probe.probe().reason == other_machine
    assert probe.probe().kernel_class == ""


def test_on_another_machine_everything_is_skipped_and_nothing_is_decided(other_machine: str, capsys, tmp_path) -> None:
    assert invoke(["host", "run", "dn_2m_full"]) == 3
    assert capsys.readouterr().out.splitlines() == [
        f"This machine: nothing can be run: {other_machine}",
        f"skipped  dn_2m_full: {other_machine}",
    ]
    assert invoke(["host", "record", "-o", str(tmp_path / "x.jsonl"), "dn_2m_full"]) == 3
    assert not (tmp_path / "x.jsonl").exists()


@pytest.fixture
def linux(monkeypatch) -> None:
    pretend_linux(monkeypatch)


MEMINFO = "MemTotal: 4000000 kB\nMemFree: 100 kB\nMemAvailable: 300000 kB\n"


@pytest.mark.parametrize(
    ("steps", "need"),
    [
        ([("map", 0, GIB), ("w", 0)], 12),
        ([("map", 0, GIB), ("w", 0, GIB, 2 * MIB)], 512 * 4 + 513 * 4),
        ([("map", 0, 64 * MIB), ("w", 0, 64 * MIB)], 64 << 10),  # no more than is mapped
        ([("map", 0, GIB), ("adv", 0, GIB, "HUGEPAGE"), ("w", 0)], 4096),
        ([("map", 0, GIB), ("adv", 0, 8 * MIB, "POPULATE_READ"), ("lock", 0, 2 * MIB)], 10 << 10),
        ([("map", 0, MIB), ("fork", (("w", 0, MIB), ("w", 0, MIB), ("w", 0, MIB)))], 2 << 10),
    ],
)
def test_the_memory_that_a_sequence_may_need(linux, steps: list, need: int) -> None:
    assert live.need_kb(steps) == need


def test_too_little_memory_is_told_before_anything_is_started(linux, monkeypatch) -> None:
    assert live.available_kb(MEMINFO) == 300000
    assert live.available_kb("") == 0
    monkeypatch.setattr(live, "available_kb", lambda _: 300000)
    monkeypatch.setattr(live, "_run", lambda steps: ())
    assert live.execute([("map", 0, GIB), ("w", 0)]) == ()
    with pytest.raises(CannotRun, match="too little memory: the sequence may need 1152 MiB, and 292 MiB are available"):
        live.execute([("map", 0, GIB), ("w", 0, GIB)])


@pytest.mark.parametrize(("capabilities", "limit", "told"), [("0", 4096, True), ("4000", 4096, False), ("0", 8192, False)])
def test_locking_beyond_the_limit_is_told(linux, monkeypatch, capabilities: str, limit: int, told: bool) -> None:
    resource = pytest.importorskip("resource")
    assert live.capable(f"Uid:\t0\nCapEff:\t000000000000{capabilities}\n") is (capabilities == "4000")
    monkeypatch.setattr(live, "capable", lambda _: capabilities == "4000")
    monkeypatch.setattr(live, "available_kb", lambda _: 10**9)
    monkeypatch.setattr(live, "_run", lambda steps: ())
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    steps = [("map", 0, 8192), ("lock", 0, 8192)]
    if told:
        with pytest.raises(CannotRun, match="the sequence locks 8 kB, and this user may lock 4 kB"):
            live.execute(steps)
    else:
        assert live.execute(steps) == ()


@pytest.mark.parametrize(("counts", "runs"), [([7, 7], 1), ([7, 8, 8, 8], 2), ([7, 8, 8, 9, 9, 10], 4)])
def test_a_sequence_that_khugepaged_may_have_met_is_run_again(linux, monkeypatch, counts: list[int], runs: int) -> None:
    done: list[int] = []
    monkeypatch.setattr(live, "collapses", lambda: counts.pop(0))
    monkeypatch.setattr(live, "available_kb", lambda _: 10**9)
    monkeypatch.setattr(live, "_run", lambda steps: done.append(len(done)) or (len(done),))
    assert live.execute([("map", 0, 4096)]) == (runs,)
    assert counts == []


def test_a_sequence_has_a_limit(linux) -> None:
    with pytest.raises(UsageError, match="at most 20000"):
        live.execute([("r", 0)] * 20_001)


@pytest.mark.parametrize(
    ("output", "code", "errors", "words"),
    [
        (b'{"cannot": "this kernel does not know the advice MADV_X"}\n', 0, b"", "does not know the advice MADV_X"),
        (b"", -9, b"", r"was killed by SIGKILL at step 0 \['map', 0, 4096\]"),
        (b"", 1, b"Traceback\nOSError: no room\n", "ended with code 1 at step 0 .*: OSError: no room"),
    ],
)
def test_a_worker_that_cannot(linux, monkeypatch, output: bytes, code: int, errors: bytes, words: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess([], code, output, errors))
    monkeypatch.setattr(live, "available_kb", lambda _: 10**9)
    with pytest.raises(CannotRun, match=words):
        live.execute([("map", 0, 4096)])


def test_the_chosen_word() -> None:
    assert live.chosen("always [madvise] never\n") == "madvise"
    assert live.chosen("nothing chosen") == ""


@pytest.mark.parametrize(("last", "kind"), [(12, "before"), (8, "reclaim")])
def test_the_class_is_what_the_kernel_does(monkeypatch, last: int, kind: str) -> None:
    asked = []

    def execute(steps: tuple) -> tuple[Observation, ...]:
        asked.append(steps)
        return tuple(seen(step, vmpte) for step, vmpte in zip(steps, [0, 0, 12, last], strict=True))

    monkeypatch.setattr(probe, "unable", lambda: "")
    monkeypatch.setattr(probe, "thp_setting", lambda: "always")
    monkeypatch.setattr(probe, "execute", execute)
    assert probe.probe().kernel_class == kind
    assert ("adv", 0, 2 * MIB, "NOHUGEPAGE") in asked[0]  # a huge page's table is given back by every kernel
