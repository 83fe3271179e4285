"""Operation sequences on this machine's real kernel, each in a fresh process of its own.

What the kernel does is the kernel's: a live run promises no determinism. The sequences have nothing in them that races, but
a huge page may not be had, and khugepaged may come by a mapping with huge pages between two steps and fill a hole in it (once in
some hundred runs): where its count of collapses has changed, the sequence is run again.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import ptactors
from ptactors.errors import UsageError
from ptactors.host.form import CannotRun as CannotRun
from ptactors.host.form import check
from ptactors.host.proc import PAGE
from ptactors.host.sequence import Observation, Step, VmaSeen

STEPS_LIMIT = 20_000
"""The longest sequence that is run."""
SECONDS_LIMIT = 300
"""The longest time that a sequence may take."""
TRIES = 4
"""How often at most a sequence is run because khugepaged collapsed something meanwhile."""
SPARE_KB = 128 << 10
"""Memory that must be left to the machine, kB."""
_PMD = 1 << 21
_THP = pathlib.Path("/sys/kernel/mm/transparent_hugepage")
_CAP_IPC_LOCK = 14
_WORKER = "ptactors.host.worker"
_START = "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).main()"


def execute(steps: Sequence[Step]) -> tuple[Observation, ...]:
    """What this machine's kernel shows after each step. Raises CannotRun; UsageError for a step that is none.

    A ``w`` or ``r`` that the kernel refuses ends at the first refused byte; its result is ``"SIGSEGV"`` or ``"SIGBUS"``.
    """
    reason = unable()
    if reason:
        raise CannotRun(reason)
    check(steps)
    _check_limits(steps)
    for _ in range(TRIES - 1):
        before = collapses()
        seen = _run(steps)
        if collapses() == before:
            return seen
    return _run(steps)


def unable() -> str:
    """Why no sequence at all can be run on this machine; '' if one can."""
    if sys.platform != "linux":
        return f"a real Linux kernel is needed, and this is {sys.platform}"
    if os.uname().machine != "x86_64":
        return f"sequences are for x86_64, and this machine is {os.uname().machine}"
    if sys.maxsize < 1 << 32:
        return "this Python is a 32-bit program; the arena needs 64-bit addresses"
    if not os.access("/proc/self/smaps", os.R_OK):
        return "/proc/self/smaps cannot be read here"
    return ""


def _flat(steps: Sequence[Step]) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        if step[0] == "fork":
            found += _flat(steps_of_child(step))
        else:
            found.append(step[1:] if step[0] == "t2" else step)
    return found


def need_kb(steps: Sequence[Step]) -> int:
    """The most memory that the steps can make present, kB: what sweeps, locks and advices reach, but no more than is mapped.

    With huge pages anywhere in the sequence a sweep reaches whole 2 MiB, else the pages that it touches, and their tables.
    """
    flat = _flat(steps)
    mapped = sum(int(step[2]) >> 10 for step in flat if step[0] == "map")
    huge = any("HUGEPAGE" in step or "COLLAPSE" in step for step in flat) or thp_setting() == "always"
    total = 0
    for step in flat:
        if step[0] in ("w", "r"):
            length, stride = int(step[2]) if len(step) > 2 else PAGE, int(step[3]) if len(step) > 3 else PAGE
            reached = max(1, -(-length // max(stride, _PMD))) + 1
            total += reached * (_PMD >> 10) if huge else -(-length // max(stride, PAGE)) * 4 + reached * 4
        elif step[0] == "lock" or (step[0] in ("adv", "padv") and str(step[3]).startswith("POPULATE")):
            total += int(step[2]) >> 10
    forks = sum(1 for step in steps if step[0] == "fork")
    return min(total, mapped * (1 + forks))


def thp_setting() -> str:
    """always, madvise or never; '' if this kernel has no huge pages."""
    try:
        text = (_THP / "enabled").read_text(encoding="ascii")
    except OSError:
        return ""
    return chosen(text)


def collapses() -> int:
    """How many ranges khugepaged has made huge pages of since the machine started."""
    try:
        return int((_THP / "khugepaged/pages_collapsed").read_text(encoding="ascii"))
    except OSError:
        return 0


def chosen(text: str) -> str:
    """The word in brackets."""
    return text.partition("[")[2].partition("]")[0]


def available_kb(text: str) -> int:
    """MemAvailable of /proc/meminfo."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")), 0)


def capable(text: str) -> bool:
    """Whether /proc/self/status has CAP_IPC_LOCK, for which no limit of locked memory counts."""
    return any(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1 for line in text.splitlines() if line.startswith("CapEff:"))


def _proc(name: str) -> str:
    return pathlib.Path("/proc", name).read_text(encoding="ascii", errors="replace")


def _check_limits(steps: Sequence[Step]) -> None:
    import resource  # there is none on other systems

    if len(steps) > STEPS_LIMIT:
        raise UsageError(f"a sequence of {len(steps)} steps; at most {STEPS_LIMIT} are run live")
    have = available_kb(_proc("meminfo"))
    need = need_kb(steps) + SPARE_KB
    if need > have:
        raise CannotRun(f"too little memory: the sequence may need {need >> 10} MiB, and {have >> 10} MiB are available")
    locked = sum(step[2] for step in _flat(steps) if step[0] == "lock")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if not capable(_proc("self/status")) and limit != resource.RLIM_INFINITY and locked > limit:
        raise CannotRun(f"the sequence locks {locked >> 10} kB, and this user may lock {limit >> 10} kB")


def _run(steps: Sequence[Step]) -> tuple[Observation, ...]:
    root = str(pathlib.Path(ptactors.__file__).resolve().parent.parent)
    request = {"steps": steps, "cpus": sorted(os.sched_getaffinity(0))[:2], "parent": os.getpid()}
    environment = {"PATH": os.defpath, "MALLOC_ARENA_MAX": "1"}  # one heap, whichever thread allocates
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _START, root, _WORKER],
            input=json.dumps(request).encode(), capture_output=True, timeout=SECONDS_LIMIT, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CannotRun(f"the sequence took longer than {SECONDS_LIMIT} seconds") from None
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if lines and "cannot" in lines[-1]:
        raise CannotRun(lines[-1]["cannot"])
    if done.returncode or len(lines) != len(steps):
        raise CannotRun(_died(steps, len(lines), done.returncode, done.stderr.decode(errors="replace")))
    return tuple(observation(step, line) for step, line in zip(steps, lines, strict=True))


def _died(steps: Sequence[Step], done: int, code: int, errors: str) -> str:
    where = f"at step {done} {list(steps[done])}" if done < len(steps) else "at its end"
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the process {how} {where}{': ' + errors.strip().splitlines()[-1] if errors.strip() else ''}"


def steps_of_child(step: Step) -> Sequence[Step]:
    """What the child of a forking step does."""
    return step[1] if step[0] == "fork" else ()


def observation(step: Step, line: dict[str, Any]) -> Observation:
    """One line of the worker's."""
    result = line["result"]
    return Observation(
        step=step,
        result=tuple(result) if isinstance(result, list) else result,
        vmpte_kb=line["vmpte_kb"],
        rss_kb=line["rss_kb"],
        faults=line["faults"],
        tables={
            number: (present, marked)
            for first, count, present, marked in line["tables"]
            for number in range(first, first + count)
        },
        vmas=tuple(
            VmaSeen(start=start, length=length, perm=perm, huge_kb=huge, flags=tuple(flags))
            for start, length, perm, huge, flags in line["vmas"]
        ),
        child=tuple(observation(each, seen) for each, seen in zip(steps_of_child(step), line.get("child", ()), strict=True)),
    )
