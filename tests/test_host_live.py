"""Operations on this machine's real kernel; not among the default tests: run with ``-m live``, skipped with the reason."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from fake_host import GIB, MIB, RACE

from ptactors.host import litmus, live, probe
from ptactors.host.compare import FAULTING
from ptactors.host.form import CannotRun
from ptactors.host.proc import Meter
from ptactors.host.recordings import load_shipped
from ptactors.host.sequence import ARENA, Observation
from ptactors.scenario.load import loads

# -- the real kernel ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> probe.Host:
    found = probe.probe()
    if found.reason:
        pytest.skip(found.reason)
    return found


def meant(observation: Observation, noisy: bool) -> dict:
    """What two kernels of one class agree on; the recorder's figures of threads and children have noise of its own."""
    own = any(word in FAULTING for word in observation.step if isinstance(word, str)) and not noisy
    fields = attrs.asdict(observation, recurse=False)
    return fields | {"faults": fields["faults"] if own else 0, "child": (), "vmpte_kb": 0 if noisy else fields["vmpte_kb"]}


RECORDED = {each.name: each for each in load_shipped("linux-6.18")}


@pytest.mark.live
@pytest.mark.parametrize("name", RECORDED)
def test_this_kernel_answers_as_the_recorded_one_of_its_class(host, name: str) -> None:
    recorded = {each.name: each for each in load_shipped("linux-6.18" if host.kernel_class == "reclaim" else "linux-6.1")}[name]
    if host.thp != recorded.thp:
        pytest.skip(f"THP is {host.thp} here and was {recorded.thp}")
    try:
        now = live.execute(recorded.steps)
    except CannotRun as reason:
        pytest.skip(str(reason))
    noisy = any(step[0] in ("t2", "fork") for step in recorded.steps)
    assert [meant(each, noisy) for each in now] == [meant(each, noisy) for each in recorded.observed]
    for mine, theirs in zip(now, recorded.observed, strict=True):
        assert [meant(each, True) for each in mine.child] == [meant(each, True) for each in theirs.child]


@pytest.mark.live
def test_a_refused_access_is_a_result(host) -> None:
    now = live.execute(
        [("w", 0), ("map", 0, 4 * MIB), ("w", 0, 2 * MIB), ("prot", 4096, 4096, "none"), ("prot", 8192, 4096, "ro"),
         ("r", 0, 12288), ("w", 8192), ("t2", "r", 4096), ("r", 8192), ("unmap", 0, 4 * MIB), ("r", 0),
         ("map", 0, 4096, "memfd_shared", "rw", "f"), ("truncate", "f", 0), ("w", 0)]
    )  # fmt: skip
    results = [each.result for each in now]
    assert results == ["SIGSEGV", 0, 0, 0, 0, "SIGSEGV", "SIGSEGV", "SIGSEGV", (1,), 0, "SIGSEGV", 0, 0, "SIGBUS"]
    assert now[-4].vmpte_kb == 0


@pytest.mark.live
def test_the_headline_of_50_gib(host) -> None:
    size = 50 * GIB
    try:
        now = live.execute([("map", 0, size), ("w", 0, size, 2 * MIB), ("adv", 0, size, "DONTNEED")])
    except CannotRun as reason:
        pytest.skip(str(reason))
    upper = 50 * 4 + 4
    assert now[1].vmpte_kb == 25600 * 4 + upper
    assert now[2].vmpte_kb == (upper if host.kernel_class == "reclaim" else 25600 * 4 + upper)
    assert now[1].tables == dict.fromkeys(range(25600), (1, 0))


def _state(pid: int) -> str:
    """One letter; Z and '' are dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.live
@pytest.mark.parametrize(
    "command",
    [
        "from ptactors.host.live import execute\n"
        "execute([('map', 0, 1 << 28)] + [('w', 0, 1 << 28), ('adv', 0, 1 << 28, 'DONTNEED')] * 5000)",
        "from ptactors.cli.main import invoke\n"
        "invoke(['host', 'run', 'munmap-vs-fault', '--runs', '1000000000', '--time', '60'])",
    ],
    ids=["sequence", "race"],
)
def test_nothing_outlives_its_parent(host, command: str) -> None:
    if "munmap" in command and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    temporary = sorted(os.listdir("/tmp"))
    root = Path(__file__).parent.parent
    parent = subprocess.Popen(
        [sys.executable, "-c", command], cwd=root, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(root)}
    )
    children: list[int] = []
    for _ in range(200):
        time.sleep(0.1)
        children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if _state(pid) not in ("", "Z")]
        if any(b"worker" in line or line.startswith(b"/proc/self/fd/") for line in words) and parent.poll() is None:
            break
    assert children
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if all(_state(pid) in ("", "Z") for pid in children):
            break
        time.sleep(0.1)
    assert all(_state(pid) in ("", "Z") for pid in children)
    assert sorted(os.listdir("/tmp")) == temporary


@pytest.mark.live
def test_a_race_shows_only_what_is_possible(host) -> None:
    text = RACE.replace("[[expect]]", "").split("forbidden")[0].replace("mprotect A 4K none", "")
    try:
        plan = litmus.plan(loads(text))
        found = litmus.run(plan, 3000, 20, 1)
    except CannotRun as reason:
        pytest.skip(str(reason))
    states = [dict(state) for state, _ in found.outcomes]
    assert states
    assert {state["cpu0:ret"] for state in states} == {0}
    assert {state["cpu1:r0"] for state in states} <= {"old", 0}
    assert {state["cpu1:r1"] for state in states} == {0}
    assert {state["mem[A+0x1008]"] for state in states} == {7}


@pytest.mark.live
def test_the_meter_measures_itself_without_growing(host) -> None:
    meter = Meter(ARENA, ARENA + GIB)
    assert meter.vmas() == []
    figures = {meter.vmpte_kb() for _ in range(50)}
    assert len(figures) == 1
    assert meter.tables([]) == []
