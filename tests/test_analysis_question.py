"""filter, story and diff; and every command on logs that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from saved_logs import first_with_hazard, save

from ptactors.analysis.schema import columns
from ptactors.analysis.subject import Frame
from ptactors.analysis.where import parse
from ptactors.cli.log_export import EXPORTERS
from ptactors.cli.main import invoke
from ptactors.errors import UsageError
from ptactors.model.paging import ACCESSED, PROTNONE, SWAP, make

LINE = {
    "ev": "tlb_flush",
    "step": 36,
    "cpu": 0,
    "actor": "cpu0",
    "reason": "page fault",
    "pages": -1,
    "start": "0x7f0000200000",
    "sym": "A+0x3000",
    "freed_tables": True,
    "targets": [1, 2],
    "mm": "P",
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("ev=tlb_flush", True),
        ("ev = 'tlb_flush' and cpu = 0", True),
        ("ev != tlb_flush", False),
        ("cpu<>0 or step>=36", True),
        ("step < 36", False),
        ("step > 5", True),
        ("start = 0x7f0000200000", True),
        ("start = 139637978824704", True),
        ("start >= 0x7f0000200001", False),
        ("sym = A+0x3000", True),
        ("sym like 'A+%'", True),
        ("sym like 'A_0x3000'", True),
        ("sym like 'A'", False),
        ("sym not like 'B%'", True),
        ("sym ~ '0x3...$'", True),
        ("freed_tables = true", True),
        ("freed_tables = 1", False),
        ("targets = 2", True),
        ("targets = 3", False),
        ("ev in (pmd_clear, tlb_flush)", True),
        ("ev not in (pmd_clear, 'tlb_flush')", False),
        ("lock = x", False),
        ("lock != x", False),
        ("not lock = x", True),
        ("lock is null", True),
        ("lock IS NOT NULL", False),
        ("lock not in (a)", False),
        ("pages = -1", True),
        ('reason = "page fault"', True),
        ("not (cpu = 0 and (step = 1 or step = 36))", False),
        ("cpu = 1 or cpu = 0 and step = 36", True),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert parse(condition, columns())(LINE) is holds


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("nix = 1", "field of this name"),
        ("cpux = 1", "did you mean 'cpu'"),
        ("cpu", "expected ="),
        ("cpu =", "expected a value"),
        ("cpu = 1 cpu = 2", "expected 'and'"),
        ("(cpu = 1", "expected ')'"),
        ("ev in pmd", "expected '('"),
        ("ev in (a", "expected ','"),
        ("cpu is 3", "expected 'null'"),
        ("ev ~ '('", "regular expression"),
        ("", "expected the name"),
        ("ev = 'open", "cannot read"),
        ("ev not = a", "expected 'in'"),
    ],
)
def test_a_wrong_condition_is_told_with_its_place(condition: str, says: str) -> None:
    with pytest.raises(UsageError, match="--where") as caught:
        parse(condition, columns())
    assert says in str(caught.value)


def test_filter_prints_the_lines_as_they_are(tmp_path, capsys) -> None:
    path = save(tmp_path / "x.jsonl")
    lines = path.read_text().splitlines()
    assert invoke(["log", "filter", "--where", "ev in (pmd_clear, tlb_flush)", "--where", "cpu=0", str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    wanted = [x for x in lines if orjson.loads(x)["ev"] in ("pmd_clear", "tlb_flush") and orjson.loads(x)["cpu"] == 0]
    assert told == wanted
    assert wanted


# -- story ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "has", "lacks"),
    [
        ("A+0x3000", ("pte_set A+0x3000", "pmd_clear A", "tlb_flush", "free anon frame"), ("lock(",)),
        ("0x7f0000203000", ("pte_set A+0x3000",), ()),
        ("A", ("vma A",), ("pte_set A+0x3000",)),
        ("mmap:P", ("lock(mmap:P)", "unlock(mmap:P)"), ("pmd_clear",)),
        ("lock mmap:P", ("lock(mmap:P)",), ()),
        ("cpu0", ("madvise A DONTNEED", "pmd_clear A"), ()),
        ("rcu", ("grace period 1 starts",), ("pmd_clear",)),
        ("gather:1", ("tlb_gather_mmu", "gather page", "tlb_finish_mmu"), ("rcu_read_lock",)),
        ("gp:1", ("grace period 1 starts", "grace period 1 ends"), ("pmd_clear",)),
    ],
)
def test_a_story_has_what_belongs_to_it(tmp_path, capsys, what: str, has, lacks) -> None:
    path = save(tmp_path / "x.jsonl", "race", first_with_hazard())
    assert invoke(["log", "story", what, str(path)]) == 0
    out = capsys.readouterr().out
    for text in has:
        assert text in out
    for text in lacks:
        assert text not in out
    steps = [int(line.split()[0]) for line in out.splitlines()[1:] if not line.startswith(" " * 10)]
    assert steps == sorted(steps)


def test_a_frame_has_a_story_as_page_table(tmp_path, capsys) -> None:
    path = save(tmp_path / "x.jsonl", "race", first_with_hazard())
    invoke(["log", "sql", "select pfn from events where ev = 'gather_add_table' order by n limit 1", str(path), "--json"])
    pfn = json.loads(capsys.readouterr().out)[0]["pfn"]
    told = []
    for what in (f"table:{pfn}", f"frame {pfn}", pfn):
        assert invoke(["log", "story", what, str(path)]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] == told[2]
    for text in ("alloc pte frame", "gather table", f"lock(pte:{pfn})", "free pte frame"):
        assert text in told[0]


def test_an_inaccessible_entry_still_belongs_to_its_frame() -> None:
    """PROT_NONE takes the page from the hardware, not from the tables."""
    story = Frame(0x1234)
    assert story.concerns({"ev": "pte_set", "cpu": 0, "old": "0x0", "new": hex(make(0x1234, PROTNONE | ACCESSED))})
    assert not story.concerns({"ev": "pte_set", "cpu": 0, "old": "0x0", "new": hex(make(0x1234, SWAP))})


def test_a_story_marks_hazards_and_names_causes(tmp_path, capsys) -> None:
    path = save(tmp_path / "x.jsonl", "race", first_with_hazard())
    assert invoke(["log", "story", "A+0x3000", str(path), "--json"]) == 0
    moments = json.loads(capsys.readouterr().out)["moments"]
    marked = [m for m in moments if "mixed_page_size_tlb" in m["hazards"]]
    assert [m["ev"] for m in marked] == ["tlb_fill"]
    assert marked[0]["cause"] in [m["step"] for m in moments if m["ev"] == "set_huge_pmd"]
    assert invoke(["log", "story", "irq1", str(path), "--json"]) == 0
    interrupted = json.loads(capsys.readouterr().out)["moments"]
    assert "bus: IPI from cpu0 arrives" in [m["cause_text"] for m in interrupted if m["ev"] == "csd_function_entry"]
    assert invoke(["log", "story", f"step:{marked[0]['step']}", str(path)]) == 0
    assert "HAZARD mixed_page_size_tlb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "says"),
    [("nix", "VMAs of this log: A"), ("A+0x300000", "bytes long"), ("gather:99", "nothing happened"), ("frame:0x99", "nothing")],
)
def test_a_story_of_nothing_says_what_there_is(tmp_path, capsys, what: str, says: str) -> None:
    assert invoke(["log", "story", what, str(save(tmp_path / "x.jsonl"))]) == 2
    assert says in capsys.readouterr().err


# -- diff -----------------------------------------------------------------------------------------------------------------


def test_diff_of_the_same_run_is_empty(tmp_path, capsys) -> None:
    a, b = save(tmp_path / "a.jsonl"), save(tmp_path / "b.jsonl")
    assert invoke(["log", "diff", str(a), str(b)]) == 0
    assert capsys.readouterr().out.startswith("The same run: ")


def test_diff_shows_the_first_difference_and_what_follows(tmp_path, capsys) -> None:
    seed = first_with_hazard()
    other = 1 if seed != 1 else 2
    a, b = save(tmp_path / "a.jsonl", "race", seed), save(tmp_path / "b.jsonl", "race", other)
    assert invoke(["log", "diff", str(a), str(b)]) == 1
    out = capsys.readouterr().out
    same = int(out.split("events    ")[1].split()[0])
    left, right = (x.read_bytes().splitlines()[1:] for x in (a, b))
    assert left[:same] == right[:same]
    assert left[same] != right[same]
    assert f"seed: A {seed}, B {other}" in out
    assert "where each actor's own events begin to differ" in out


def test_diff_sees_that_order_alone_is_no_difference(tmp_path, capsys) -> None:
    path = save(tmp_path / "a.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(
        i
        for i in range(2, len(lines) - 2)
        if orjson.loads(lines[i])["step"] > 0 and orjson.loads(lines[i])["actor"] != orjson.loads(lines[i + 1])["actor"]
    )
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    other = tmp_path / "b.jsonl"
    other.write_bytes(b"".join(lines))
    assert invoke(["log", "diff", str(path), str(other)]) == 2
    assert "every actor lives the same life, in another order" in capsys.readouterr().out


# -- damage ---------------------------------------------------------------------------------------------------------------


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _garbage(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:60], b'\x00\xff\xfe{"ev":\n', *lines[60:]])


def _later(data: bytes) -> bytes:
    return data.replace(b'"schema":', b'"schema":9', 1)


def _spoilt(data: bytes, value: object) -> bytes:
    """Every field but those that each line has is something else, in a format of the future."""
    lines = [orjson.loads(line) for line in _later(data).splitlines()]
    spoilt = [
        lines[0],
        *({k: v if k in ("ev", "step", "cpu", "actor") else value for k, v in line.items()} for line in lines[1:]),
    ]
    return b"".join(orjson.dumps(line) + b"\n" for line in spoilt)


def _bare(data: bytes) -> bytes:
    lines = [orjson.loads(line) for line in _later(data).splitlines()]
    bare = [lines[0], *({k: v for k, v in line.items() if k in ("ev", "step", "cpu", "actor")} for line in lines[1:])]
    return b"".join(orjson.dumps(line) + b"\n" for line in bare)


DAMAGE = {
    "cut": (_cut, 3, "truncated"),
    "garbage": (_garbage, 2, "corrupt: line 61"),
    "digest": (lambda data: data.replace(b'"step":5,', b'"step":4,', 1), 2, "digest"),
    "later": (_later, 4, "use a later ptactors"),
    "later, other types": (lambda data: _spoilt(data, {"a": [1]}), 4, "use a later ptactors"),
    "later, numbers": (lambda data: _spoilt(data, 7), 4, "use a later ptactors"),
    "later, texts": (lambda data: _spoilt(data, "?"), 4, "use a later ptactors"),
    "later, no fields": (_bare, 4, "use a later ptactors"),
    "foreign": (lambda _: b"hello\n", 2, "not a log"),
    "empty": (lambda _: b"", 2, "empty"),
}
COMMANDS = [
    ["summary"],
    ["check"],
    ["sql", "select count(*) from events"],
    ["sql", "from windows"],
    ["filter", "--where", "step>=0"],
    ["story", "cpu0"],
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_and_the_rest_is_read(tmp_path, capsys, damage: str) -> None:
    change, code, says = DAMAGE[damage]
    path = save(tmp_path / "x.jsonl")
    path.write_bytes(change(path.read_bytes()))
    unreadable = damage in ("foreign", "empty")
    exports = [["export", "--to", name, "-o", str(tmp_path / "out")] for name in EXPORTERS if name != "mermaid"]
    for words in [*COMMANDS, *exports]:
        assert invoke(["log", *words, str(path)]) == code, words
        told = capsys.readouterr()
        assert says in told.err, words
        assert told.err.count("error:") == 1, words
        if not unreadable and words[0] not in ("check", "export") and words[-1] != "from windows":
            assert told.out, words
        if words[0] == "export":
            assert (tmp_path / "out").exists() != unreadable, words


def test_one_bad_file_does_not_hide_the_others(tmp_path, capsys) -> None:
    save(tmp_path / "good.jsonl")
    (tmp_path / "bad.jsonl").write_text("hello")
    assert invoke(["log", "sql", "select count(*) as c from runs", str(tmp_path), "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out) == [{"c": 1}]
    assert "bad.jsonl: not a log" in told.err


def test_a_folder_without_logs_is_told(tmp_path: Path, capsys) -> None:
    assert invoke(["log", "summary", str(tmp_path)]) == 2
    assert "no logs" in capsys.readouterr().err
