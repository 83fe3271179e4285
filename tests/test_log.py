from __future__ import annotations

import hashlib
import typing
from pathlib import Path

import orjson
import pytest

from ptactors.log.codec import OWN, decode, encode
from ptactors.log.read import LogReadFault, LogState, SavedLog
from ptactors.log.symbol import Symbols
from ptactors.log.write import LogWriteFault, write_log
from ptactors.model.event import ENTRY_NAMES, EVENTS, EntryWrite, TlbFill, VmaInit

HEADER = {"tool": "ptactors", "version": "0.1.0", "scenario": "s", "digest": "d", "cell": "c", "knobs": {}, "seed": 1}
ACTORS = ("cpu0", "cpu1")


def sample(kind: type, salt: int = 0) -> object:
    """An event of this kind whose fields all differ, of the types that its annotations ask for."""
    values: dict[str, object] = {}
    for i, (name, annotation) in enumerate(typing.get_type_hints(kind).items()):
        number = 0x7F00_0020_0000 + i * 0x1000 + salt
        values[name] = {
            int: number, str: f"{name}{salt}", bool: salt % 2 == 0, tuple[int, ...]: (i, salt),
            int | str: [number, "tok"][salt % 2],
        }[annotation]  # fmt: skip
    if kind is EntryWrite:
        values["what"] = ENTRY_NAMES[salt % len(ENTRY_NAMES)]
        values["old"] = (1 << 63) + 5
    return kind(**values)


@pytest.mark.parametrize("kind", list(EVENTS), ids=lambda k: k.__name__)
@pytest.mark.parametrize("salt", [0, 1])
def test_every_kind_survives_the_way_to_a_line_and_back(kind: type, salt: int) -> None:
    event = sample(kind, salt)
    line = orjson.loads(orjson.dumps(encode(3, "cpu0", event, Symbols())))
    back = decode(line)
    assert back == event
    assert [type(v) for v in back] == [type(v) for v in event]
    assert list(line)[:4] == ["ev", "step", "cpu", "actor"]
    assert not set(OWN) & (set(kind._fields) - {"cpu"}), "a field of the event hides one of the line's own"


def test_negative_and_huge_addresses_survive() -> None:
    event = sample(TlbFill)._replace(va=-1, pfn=(1 << 52) - 1)
    assert decode(encode(0, "cpu0", event, Symbols())) == event


def test_addresses_stand_in_hex_beside_their_symbol() -> None:
    symbols = Symbols()
    symbols.learn(VmaInit(-1, "m", "A", 0x200000, 0x400000, "anon"))
    line = encode(7, "cpu1", sample(TlbFill)._replace(va=0x203000, mm="m"), symbols)
    assert line["va"] == "0x203000"
    assert line["sym"] == "A+0x3000"
    assert list(line).index("sym") == list(line).index("va") + 1


def test_symbols_prefer_the_process_of_the_event() -> None:
    symbols = Symbols()
    symbols.learn(VmaInit(-1, "p", "A", 0x200000, 0x400000, "anon"))
    symbols.learn(VmaInit(-1, "q", "B", 0x200000, 0x400000, "anon"))
    assert [symbols.name(0x200000, mm) for mm in ("p", "q", "", "r")] == ["A", "B", "A", "A"]
    assert symbols.name(0x400000) == ""
    assert symbols.span(0x200000, 0x400000, "q") == "B"
    assert symbols.span(0x201000, 0x203000) == "A+0x1000 0x2000"


def written(tmp_path: Path) -> tuple[Path, list]:
    records = [(-0, -1, VmaInit(-1, "m", "A", 0x200000, 0x400000, "anon"))]
    records += [(i + 1, i % 2, sample(kind, i)) for i, kind in enumerate(EVENTS)]
    path = tmp_path / "deep" / "run.jsonl"
    functions = {5: "zap_pte_range <- madvise"}
    write_log(path, HEADER, ACTORS, records, causes={5: 2}, functions=functions, ending={"status": "complete"})
    return path, records


def test_a_log_reads_back_whole(tmp_path: Path) -> None:
    path, records = written(tmp_path)
    log = SavedLog(path)
    assert list(log.records()) == records
    assert (log.state, log.fault) == (LogState.COMPLETE, "")
    assert log.header["schema"] == 1
    assert log.header["seed"] == 1
    assert log.trailer["status"] == "complete"
    five = next(fields for record, fields in log.lines() if record[0] == 5)
    assert (five["cause"], five["fn"]) == (2, "zap_pte_range <- madvise")
    assert list(five)[-2:] == ["cause", "fn"]


def test_the_digest_is_that_of_all_bytes_before_the_trailer(tmp_path: Path) -> None:
    lines = written(tmp_path)[0].read_bytes().splitlines(keepends=True)
    assert orjson.loads(lines[-1])["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()


def test_a_log_has_no_clock_and_no_place(tmp_path: Path) -> None:
    first = written(tmp_path / "a")[0].read_bytes()
    assert first == written(tmp_path / "b")[0].read_bytes()
    assert str(tmp_path).encode() not in first


def _cut(data: bytes) -> bytes:
    return data[: data.rindex(b'{"ev":"trailer"') - 20]


def _drop_trailer(data: bytes) -> bytes:
    return data[: data.rindex(b'{"ev":"trailer"')]


DAMAGE = {
    "cut in a line": (_cut, LogState.TRUNCATED, -1),
    "cut between lines": (_drop_trailer, LogState.TRUNCATED, 0),
    "a digit changed": (lambda d: d.replace(b'"step":9,', b'"step":8,', 1), LogState.CORRUPT, 0),
    "a line lost": (lambda d: b"\n".join(d.split(b"\n")[:3] + d.split(b"\n")[4:]), LogState.CORRUPT, -1),
    "garbage in the middle": (lambda d: d.replace(b'{"ev":"op_end"', b'\x00\xff{"ev":"op_end"', 1), LogState.CORRUPT, None),
    "unknown event": (lambda d: d.replace(b'{"ev":"op_end"', b'{"ev":"op_emd"', 1), LogState.CORRUPT, None),
    "unknown actor": (lambda d: d.replace(b'"actor":"cpu0"', b'"actor":"cpu7"', 1), LogState.CORRUPT, None),
    "a field lost": (lambda d: d.replace(b'"label":', b'"lable":', 1), LogState.CORRUPT, None),
    "an address that is none": (lambda d: d.replace(b'"va":"0x', b'"va":"zz', 1), LogState.CORRUPT, None),
    "something appended": (lambda d: d + b"{}\n", LogState.CORRUPT, 0),
    "later format": (lambda d: d.replace(b'"schema":1', b'"schema":2', 1), LogState.FUTURE, None),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_apart_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    damage, state, lost = DAMAGE[name]
    path, records = written(tmp_path)
    data = path.read_bytes()
    assert damage(data) != data, "the test must damage something"
    path.write_bytes(damage(data))
    log = SavedLog(path)
    back = list(log.records())
    assert log.state is state
    assert str(path) in log.fault
    assert "\n" not in log.fault
    if lost is None:
        assert back == records[: len(back)]
        assert len(back) < len(records)
    else:
        assert len(back) == len(records) + lost


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "empty"), (b"hello\n", "not a log"), (b"\x00\xff\n", "not a log"), (b'{"ev":"header"}\n', "not a log"),
     (b'{"ev":"header","tool":"ptactors"}\n', "format version"), (b"[1]\n", "not a log")],
)  # fmt: skip
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(LogReadFault, match=says):
        SavedLog(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogReadFault, match="No such file"):
        SavedLog(tmp_path / "none.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error() -> None:
    records = [(i, 0, sample(TlbFill, i)) for i in range(1, 200)]
    with pytest.raises(LogWriteFault, match="cannot write /dev/full: No space left on device"):
        write_log(Path("/dev/full"), HEADER, ACTORS, records, causes={}, functions={}, ending={})


def test_an_interrupt_leaves_a_readable_log_without_trailer(tmp_path: Path) -> None:
    def stream():
        yield 1, 0, sample(TlbFill)
        raise KeyboardInterrupt

    path = tmp_path / "x.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_log(path, HEADER, ACTORS, stream(), causes={}, functions={}, ending={})
    log = SavedLog(path)
    assert len(list(log.records())) == 1
    assert log.state is LogState.TRUNCATED
