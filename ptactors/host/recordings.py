"""Recordings as files: JSON lines, one sequence a line; those of the package, by kernel.

A line::

    {"name": "dn_4k_only_page", "kernel": "6.18.44", "thp": "madvise", "provenance": "recorded on ...",
     "steps": [["map", 0, 16777216], ["w", 0], ...],
     "observed": [{"result": 0, "vmpte_kb": 0, "rss_kb": 0, "faults": 0, "tables": {}, "vmas": [[0, 16777216, "rw-p", 0, []]]},
                  ...]}

A VMA is start, length, permissions, kB of huge mappings, flags. A forking step has ``child``, the child's observations.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

import orjson

from ptactors.config import Thp
from ptactors.errors import UsageError
from ptactors.host.form import CannotRun, check
from ptactors.host.sequence import Observation, Recording, Step, VmaSeen
from ptactors.scenario.hints import suggest

DATA = pathlib.Path(__file__).with_name("data")
"""Where the recordings that come with the package are."""
_OBSERVED = ("result", "vmpte_kb", "rss_kb", "faults", "tables", "vmas")


class _Damage(Exception):
    """What is wrong with a line."""


def shipped() -> tuple[str, ...]:
    """Names of the files that come with the package: ``linux-6.1``, ``linux-6.18``."""
    return tuple(sorted(path.stem for path in DATA.glob("*.jsonl")))


def load_shipped(name: str) -> tuple[Recording, ...]:
    """The recordings of ``linux-6.18`` or another that comes with the package. Raises UsageError."""
    if name not in shipped():
        raise UsageError(f"no recordings named {name!r}; known: {', '.join(shipped())}")
    return load(DATA / f"{name}.jsonl")


def load(path: str | pathlib.Path) -> tuple[Recording, ...]:
    """Every recording of a file. Raises UsageError with the place in a damaged file."""
    try:
        lines = pathlib.Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_recording(_json(line)))
        except _Damage as damage:
            raise UsageError(f"{path}:{number}: {damage}") from None
    if not found:
        raise UsageError(f"{path}: no recording in it")
    return tuple(found)


def dump(path: str | pathlib.Path, recordings: Iterable[Recording]) -> None:
    """Write the file anew. Raises OSError."""
    pathlib.Path(path).write_bytes(b"".join(orjson.dumps(_line(recording)) + b"\n" for recording in recordings))


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Damage(f"not a line of JSON: {error}") from None
    if not isinstance(found, dict):
        raise _Damage("a recording is an object, one a line")
    return found


def _get(table: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if key not in table:
        raise _Damage(f"{where} lacks {key!r}")
    value = table[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Damage(f"{where}: {key!r} is {type(value).__name__}, which it cannot be")
    return value


def _recording(table: dict[str, Any]) -> Recording:
    name = _get(table, "name", str, "the recording")
    where = f"recording {name!r}"
    steps = tuple(_step(step, where) for step in _get(table, "steps", list, where))
    try:
        check(steps)
    except CannotRun:
        pass  # a recorder of another machine could; the model says for itself what it lacks
    except UsageError as error:
        raise _Damage(f"{where}, {error}") from None
    thp = _get(table, "thp", str, where)
    if thp and thp not in [each.value for each in Thp]:
        raise _Damage(f"{where}: 'thp' is {thp!r}; {suggest(thp, [each.value for each in Thp])}")
    seen = _get(table, "observed", list, where)
    if len(seen) != len(steps):
        raise _Damage(f"{where} has {len(steps)} steps and {len(seen)} observations")
    return Recording(
        name=name,
        steps=steps,
        observed=tuple(
            _observation(step, each, f"{where}, step {n}") for n, (step, each) in enumerate(zip(steps, seen, strict=True))
        ),
        kernel=_get(table, "kernel", str, where),
        thp=thp,
        provenance=_get(table, "provenance", str, where),
    )


def _step(given: object, where: str) -> Step:
    if not isinstance(given, list) or not given or not isinstance(given[0], str):
        raise _Damage(f"{where}: a step is the name of an operation and its arguments, not {given!r}")
    if given[0] == "fork" and len(given) > 1 and isinstance(given[1], list):
        return ("fork", tuple(_step(each, where) for each in given[1]), *given[2:])
    return tuple(_step(item, where) if isinstance(item, list) else item for item in given)


def _observation(step: Step, table: object, where: str) -> Observation:
    if not isinstance(table, dict):
        raise _Damage(f"{where}: an observation is an object")
    result = _get(table, "result", (int, str, list), where)
    numbers = {key: _get(table, key, int, where) for key in ("vmpte_kb", "rss_kb", "faults")}
    try:
        tables = {int(key): (int(present), int(marked)) for key, (present, marked) in _get(table, "tables", dict, where).items()}
        vmas = tuple(_vma(*each) for each in _get(table, "vmas", list, where))
    except (TypeError, ValueError):
        raise _Damage(f"{where}: a table is a number with two counts, a VMA has five parts") from None
    child = tuple(
        _observation(each_step, each, f"{where}, child")
        for each_step, each in zip(step[1] if step[0] == "fork" else (), table.get("child", ()), strict=False)
    )
    return Observation(
        step=step, result=tuple(result) if isinstance(result, list) else result, tables=tables, vmas=vmas, child=child, **numbers
    )


def _vma(start: int, length: int, perm: str, huge_kb: int, flags: list[str]) -> VmaSeen:
    return VmaSeen(start=int(start), length=int(length), perm=str(perm), huge_kb=int(huge_kb), flags=tuple(flags))


def _line(recording: Recording) -> dict[str, Any]:
    return {
        "name": recording.name,
        "kernel": recording.kernel,
        "thp": recording.thp,
        "provenance": recording.provenance,
        "steps": recording.steps,
        "observed": [observation_fields(each) for each in recording.observed],
    }


def observation_fields(seen: Observation) -> dict[str, Any]:
    """An observation as the object that stands in a file."""
    fields: dict[str, Any] = {name: getattr(seen, name) for name in _OBSERVED}
    fields["tables"] = {str(number): counts for number, counts in seen.tables.items()}
    fields["vmas"] = [(vma.start, vma.length, vma.perm, vma.huge_kb, vma.flags) for vma in seen.vmas]
    if seen.child:
        fields["child"] = [observation_fields(each) for each in seen.child]
    return fields
