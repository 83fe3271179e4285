from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from saved_logs import first_with_hazard, records, save

from ptactors.analysis.database import Database
from ptactors.analysis.schema import HAZARDS, NEEDED, RUNS, VIEWS, columns
from ptactors.cli.main import invoke
from ptactors.log.files import expand, survey
from ptactors.model import event as ev
from ptactors.model.event import EVENTS
from ptactors.model.paging import HUGE

ROOT = Path(__file__).resolve().parent.parent
RUNS_USED = [("race", 0), ("race", 3), ("busy", 0), ("busy", 1), ("busy", 2)]


@pytest.fixture
def database(tmp_path):
    """All the runs in one database, as a folder of a campaign."""
    for name, seed in RUNS_USED:
        save(tmp_path / name / f"seed-{seed}.jsonl", name, seed)
    with Database([survey(path) for path in expand([tmp_path])]) as database:
        database.need_views()
        yield database


def run_of(file: str):
    path = Path(file)
    return records(path.parent.name, int(path.stem.partition("-")[2]))


def by_run(rows):
    found = {key: [] for key in RUNS_USED}
    for file, *row in rows:
        path = Path(file)
        found[path.parent.name, int(path.stem.partition("-")[2])].append(tuple(row))
    return found


# -- the schema -----------------------------------------------------------------------------------------------------------


def test_every_field_of_every_event_is_a_column() -> None:
    fields = {name for kind in EVENTS for name in kind._fields} - {"what"}
    assert fields <= set(columns())
    assert set(NEEDED) <= set(columns())


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_a_view_has_the_columns_that_its_help_names(database, view) -> None:
    described = [row[0] for row in database.rows(f"DESCRIBE {view.name}")]
    assert sorted(described) == sorted(name.strip('"') for name, _ in view.columns)


@pytest.mark.parametrize(("table", "names"), [("runs", RUNS), ("hazards", HAZARDS)])
def test_a_table_has_the_columns_that_its_help_names(database, table, names) -> None:
    database.need_hazards()
    assert [row[0] for row in database.rows(f"DESCRIBE {table}")] == [name for name, _ in names]


@pytest.mark.parametrize("view", [v.name for v in VIEWS])
def test_one_log_and_a_folder_answer_alike(tmp_path, view) -> None:
    for name, seed in RUNS_USED:
        save(tmp_path / f"{name}-{seed}.jsonl", name, seed)
    paths = expand([tmp_path])
    query = f"SELECT * EXCLUDE file FROM {view} WHERE file = ? ORDER BY ALL"
    with Database([survey(path) for path in paths]) as many:
        for path in paths:
            with Database([survey(path)]) as one:
                assert one.query(query, [str(path)]).fetchall() == many.query(query, [str(path)]).fetchall()


def test_n_is_the_position_in_the_log(database) -> None:
    database.need_events()
    found = by_run(database.rows("SELECT file, n, ev, step FROM events ORDER BY file, n"))
    for key, rows in found.items():
        told = [(i, ev.event_name(event), step) for i, (step, _, event) in enumerate(records(*key))]
        assert rows == told


# -- the views, against what a loop over the records says -----------------------------------------------------------------


def test_locks(database) -> None:
    found = by_run(database.rows("SELECT file, lock, actor, acquired, released FROM locks"))
    for key, rows in found.items():
        held, told = {}, []
        for step, actor, event in records(*key):
            if isinstance(event, ev.LockAcquire):
                held[event.lock, actor] = step
            elif isinstance(event, ev.LockRelease):
                told.append((event.lock, held.pop((event.lock, actor)), step))
        assert sorted((lock, a, r) for lock, _, a, r in rows if r is not None) == sorted(told)
        assert sum(r is None for *_, r in rows) == len(held)
    assert any(rows for rows in found.values())


def test_windows_end_at_the_first_flush_that_covers_them(database) -> None:
    found = by_run(database.rows("SELECT file, n, va, was, cleared, flush_began, flush_done FROM windows"))
    seen = 0
    for key, rows in found.items():
        run = records(*key)
        flushes = [(i, step, event) for i, (step, _, event) in enumerate(run) if isinstance(event, ev.TlbFlush)]
        dones = {(e.mm, e.tlb_gen): step for step, _, e in run if isinstance(e, ev.TlbFlushEnd)}
        told = []
        for i, (step, _, event) in enumerate(run):
            if isinstance(event, ev.EntryWrite) and event.what == "pmd_clear":
                low = event.va & -(1 << 21)
                covering = [
                    (began, f) for k, began, f in flushes
                    if k > i and f.mm == event.mm and (f.pages < 0 or (f.start < low + (1 << 21) and f.end > low))
                ]  # fmt: skip
                began, flush = covering[0] if covering else (None, None)
                done = dones.get((flush.mm, flush.tlb_gen)) if flush else None
                told.append((i, hex(event.va), "huge" if event.old & HUGE else "table", step, began, done))
        assert sorted(rows) == sorted(told)
        seen += len(told)
    assert seen > 5


def test_interrupts_are_followed_to_their_acknowledgement(database) -> None:
    rows = database.rows("SELECT sent, arrived, entered, acknowledged, steps FROM ipis")
    sent = sum(len(e.targets) for key in RUNS_USED for _, _, e in records(*key) if isinstance(e, ev.IpiSend))
    assert len(rows) == sent > 5
    for a, b, c, d, steps in rows:
        assert a < b < c < d
        assert steps == d - a


def test_flushes_faults_gathers_and_grace_periods_are_all_there(database) -> None:
    def count(kind: type) -> int:
        return sum(isinstance(event, kind) for key in RUNS_USED for _, _, event in records(*key))

    for view, kind in (("flushes", ev.TlbFlush), ("faults", ev.PageFault), ("gathers", ev.GatherBegin)):
        assert database.rows(f"SELECT count(*) FROM {view}") == [(count(kind),)], view
    assert database.rows("SELECT count(*) FROM grace_periods WHERE began IS NOT NULL") == [(count(ev.RcuGpStart),)]
    assert database.rows("SELECT sum(pages), sum(tables) FROM gathers") == [(count(ev.GatherPage), count(ev.GatherTable))]
    assert database.rows("SELECT min(steps) > 0 FROM flushes") == [(True,)]


# -- the command line -----------------------------------------------------------------------------------------------------


def test_sql_prints_in_four_forms(tmp_path, capsys) -> None:
    path = save(tmp_path / "x.jsonl")
    query = "select ev, count(*) as c from events where ev in ('pmd_clear', 'tlb_flush') group by ev order by ev"
    told = {}
    for form in (["--format", "table"], ["--format", "csv"], ["--format", "jsonl"], ["--json"]):
        assert invoke(["log", "sql", query, str(path), *form]) == 0
        told[form[-1]] = capsys.readouterr().out
    rows = json.loads(told["--json"])
    assert [row["ev"] for row in rows] == ["pmd_clear", "tlb_flush"]
    assert [json.loads(line) for line in told["jsonl"].splitlines()] == rows
    assert told["csv"].splitlines() == ["ev,c", *(f"{row['ev']},{row['c']}" for row in rows)]
    assert [line.split() for line in told["table"].splitlines()] == [["ev", "c"], *([r["ev"], str(r["c"])] for r in rows)]


def test_sql_documents_its_schema_and_explains_errors(tmp_path, capsys) -> None:
    assert invoke(["log", "sql", "--help"]) == 0
    text = capsys.readouterr().out
    for name in ("events", *(view.name for view in VIEWS), "runs", "hazards", "error_code"):
        assert name in text
    assert invoke(["log", "sql", "select nix from events", str(save(tmp_path / "x.jsonl"))]) == 2
    assert "nix" in capsys.readouterr().err


def test_sql_asks_the_oracles_for_hazards(tmp_path, capsys) -> None:
    seed = first_with_hazard()
    path = save(tmp_path / "x.jsonl", "race", seed)
    assert invoke(["log", "sql", "select hazard from hazards order by step, hazard", str(path), "--json"]) == 0
    assert {"hazard": "mixed_page_size_tlb"} in json.loads(capsys.readouterr().out)


def test_summary_is_one_screen(tmp_path, capsys) -> None:
    for i in range(12):
        save(tmp_path / f"seed-{i}.jsonl", "race", i)
    for target, most in ((tmp_path / "seed-0.jsonl", 45), (tmp_path, 45)):
        assert invoke(["log", "summary", str(target)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert 15 < len(lines) <= most
        for word in ("Verdict", "Events", "Locks", "Flushes", "IPIs", "Windows", "Grace", "Faults"):
            assert any(line.startswith(word) for line in lines), word


def test_summary_takes_the_hazards_that_a_trailer_names(tmp_path, capsys) -> None:
    from ptactors.log.write import write_log

    path = tmp_path / "x.jsonl"
    head = {"tool": "ptactors", "version": "1", "scenario": "s", "cell": "c", "seed": 1}
    write_log(path, head, ("cpu0",), [], causes={}, functions={}, ending={"status": "complete", "hazards": [["leak", 7]]})
    assert invoke(["log", "summary", str(path)]) == 0
    out = capsys.readouterr().out
    assert "violation seen" in out
    assert "leak (violation): step 7" in out


def test_the_same_question_gives_the_same_bytes(tmp_path, capsys) -> None:
    for i in range(12):
        save(tmp_path / f"seed-{i}.jsonl", "busy", i)
    for words in (["summary"], ["sql", "from locks"], ["sql", "select ev, count(*) from events group by ev"]):
        told = set()
        for _ in range(3):
            assert invoke(["log", *words, str(tmp_path)]) == 0
            told.add(capsys.readouterr().out)
        assert len(told) == 1, words


def test_paths_are_no_patterns_and_no_partitions(tmp_path, capsys) -> None:
    for name in ("we[i]rd*?'=x", "weird", 'q"{a}'):
        save(tmp_path / name / "preset=v6" / "seed-1.jsonl")
    for words, count in (([tmp_path / "we[i]rd*?'=x"], 1), ([tmp_path], 3)):
        assert invoke(["log", "sql", "select count(distinct file) as c from events", *map(str, words), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [{"c": count}]


def test_a_folder_is_read_in_the_order_of_its_seeds(tmp_path) -> None:
    for i in (10, 9, 1):
        (tmp_path / f"seed-{i}.jsonl").write_text("")
    assert [path.stem for path in expand([tmp_path])] == ["seed-1", "seed-9", "seed-10"]


LIGHT = """
import sys
from ptactors.cli.main import invoke
code = invoke(sys.argv[1:])
heavy = {"trio", "duckdb", "perfetto"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words", [["log", "--help"], ["log", "sql", "--help"], ["log", "lnav"], ["log", "export", "--list"], ["--help"]]
)
def test_help_imports_nothing_heavy(words) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_commands_that_stream_need_no_database(tmp_path) -> None:
    path = str(save(tmp_path / "x.jsonl"))
    for words in (["filter", "--where", "ev=pmd_clear", path], ["story", "A", path], ["diff", path, path]):
        done = subprocess.run([sys.executable, "-c", LIGHT, "log", *words], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("view", [v for v in VIEWS if v.name not in ("ipis", "gathers")], ids=lambda v: v.name)
@pytest.mark.parametrize(("name", "seed"), RUNS_USED)
def test_views_made_the_fast_way_say_the_same(tmp_path, view, name, seed) -> None:
    path = save(tmp_path / "x.jsonl", name, seed)
    query = f"SELECT * EXCLUDE n FROM {view.name} ORDER BY ALL"
    with Database([survey(path)]) as exact, Database([survey(path)]) as fast:
        exact.need_views()
        fast.need_views(exact=False)
        assert fast.rows(query) == exact.rows(query)
