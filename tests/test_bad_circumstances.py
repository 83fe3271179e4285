"""What befalls a command from outside: killed workers, interrupts, streams that are closed or cannot spell, full disks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from saved_logs import save

from ptactors.analysis.database import Database
from ptactors.analysis.where import parse
from ptactors.campaign.pool import in_order
from ptactors.cli.main import invoke
from ptactors.config import KNOB_LIMIT, parse_knob
from ptactors.engine.strategy.table import make_strategy
from ptactors.errors import Diagnostic, UsageError, WorkerLost
from ptactors.log.files import survey

GOOD = 'ptactors = 1\nname = "good"\nwhy = "w"\n[vma.A]\nat = 0x1000\nsize = "4K"\n[cpu.0]\ndo = "read A"\n'


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def blocked(_: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_killed_worker_is_an_interrupt_that_says_so() -> None:
    with pytest.raises(WorkerLost, match="a worker process was killed, by somebody or for want of memory"):
        list(in_order(die, iter([(0, 0), (1, 1), (2, 2)]), 2))


def test_workers_are_born_deaf_to_the_interrupt_key_and_their_parent_is_not() -> None:
    assert dict(in_order(blocked, iter([(0, 0), (1, 1)]), 2)) == {0: True, 1: True}
    assert not blocked(0)


def lost(*_: object, **__: object) -> None:
    raise WorkerLost


def test_run_prints_what_was_done_when_a_worker_was_killed(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "good.toml").write_text(GOOD)
    monkeypatch.setattr("ptactors.cli.session.Campaign.results", lost)
    assert invoke(["run", str(tmp_path / "good.toml"), "--log", "none"]) == 130
    out, err = capsys.readouterr()
    assert out == "Verdict: inconclusive (interrupted); cells: none; schedules: 0\n"
    assert err.startswith("interrupted: a worker process was killed")


def test_prove_prints_what_was_done_when_it_is_interrupted(tmp_path, monkeypatch, capsys) -> None:
    from ptactors.campaign import prove

    def interrupted(*arguments):
        each = prove_cells(*arguments)
        yield next(each)
        raise KeyboardInterrupt

    prove_cells = prove.prove_cells
    monkeypatch.setattr("ptactors.campaign.prove.prove_cells", interrupted)
    for name in ("good", "other"):
        text = GOOD.replace("good", name) + "[[expect]]\nforbidden = 'hazard(leak)'\n"
        (tmp_path / f"{name}.toml").write_text(text)
    files = [str(tmp_path / f"{name}.toml") for name in ("good", "other")]
    assert invoke(["prove", *files, "--json", "--jobs", "1", "--log-dir", str(tmp_path / "logs")]) == 130
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["verdict"], document["interrupted"], err) == ("inconclusive", True, "interrupted\n")
    assert [each["name"] for each in document["scenarios"]] == ["good"]


def test_an_interrupt_while_a_query_runs_is_an_interrupt(tmp_path) -> None:
    class Interrupted:
        def fetchone(self) -> None:
            raise RuntimeError("Query interrupted")

    with Database([survey(save(tmp_path / "a.jsonl"))]) as database, pytest.raises(KeyboardInterrupt):
        list(database.fetched(Interrupted()))


@pytest.mark.parametrize("query", ["", " ", "; ;"])
def test_an_empty_query_is_refused(tmp_path, query, capsys) -> None:
    assert invoke(["log", "sql", query, str(save(tmp_path / "a.jsonl"))]) == 2
    assert capsys.readouterr().err == "error: the query is empty\n"


@pytest.mark.parametrize("text", ["not " * 3000 + "cpu = 1", "(" * 3000 + "cpu = 1" + ")" * 3000])
def test_a_condition_that_is_nested_too_deeply_is_refused(text) -> None:
    with pytest.raises(UsageError, match="more than 100 nested"):
        parse(text, ("cpu",))
    assert parse("((" * 40 + "cpu = 1" + "))" * 40, ("cpu",))({"cpu": 1})


@pytest.mark.parametrize("to", ["chrome", "ftrace", "lnav", "perfetto"])
def test_a_full_disk_is_told_of_with_the_file(tmp_path, capsys, to) -> None:
    log = save(tmp_path / "a.jsonl")
    assert invoke(["log", "export", "--to", to, "-o", "/dev/full", str(log)]) == 2
    assert capsys.readouterr().err == "error: cannot write /dev/full: No space left on device\n"


def test_a_page_on_a_full_disk(tmp_path, capsys) -> None:
    assert invoke(["report", str(save(tmp_path / "a.jsonl")), "-o", "/dev/full"]) == 2
    assert capsys.readouterr().err == "error: cannot write /dev/full: No space left on device\n"


def ptactors(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ptactors", *arguments], capture_output=True, text=True, check=False, **options)


def test_a_stream_that_cannot_spell_a_character_escapes_it(tmp_path) -> None:
    (tmp_path / "ü 漢").mkdir()
    (tmp_path / "ü 漢" / "good.toml").write_text(GOOD)
    done = ptactors("check", "ü 漢/good.toml", "ü 漢", cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xfc \\u6f22/good.toml: ok, 1 cell, 0 expectations\n", "")


def test_closed_streams_do_no_harm(tmp_path) -> None:
    (tmp_path / "good.toml").write_text(GOOD)
    closed = contextlib.suppress(OSError)

    def close() -> None:
        with closed:
            os.close(1)
            os.close(2)

    assert ptactors("run", "good.toml", "--runs", "2", "--log", "none", cwd=tmp_path, preexec_fn=close).returncode == 0


def test_the_interrupt_key_is_silent_until_there_is_somebody_to_answer_it() -> None:
    code = (
        "import signal, ptactors.__main__ as m; assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL\n"
        "m.invoke = None; import ptactors.cli.main as c\n"
        "c.invoke = lambda _: 0 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 1\n"
        "m.main()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "9" * 30], "a seed is a number up to 9223372036854775807"),
        (["--seed", "0.." + "9" * 30], "a seed is a number up to 9223372036854775807"),
        (["--seed", "0..9223372036854775807"], "has more than 1000000000000 seeds"),
        (["--runs", "9" * 30], "is not in the range 1<=x<=1000000000000"),
        (["--set", "tlb_entries=" + "9" * 30], f"expected an integer of at most {KNOB_LIMIT}"),
        (["--strategy", "pct:" + "9" * 30], "the depth, a number from 1 to 10000"),
    ],
)
def test_numbers_beyond_all_bounds_are_refused(tmp_path, capsys, options, message) -> None:
    (tmp_path / "good.toml").write_text(GOOD)
    assert invoke(["run", str(tmp_path / "good.toml"), "--log", "none", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_greatest_numbers_are_taken() -> None:
    assert parse_knob("tlb_entries", str(KNOB_LIMIT)) == KNOB_LIMIT
    assert make_strategy("pct:10000", 0) is not None


# What is shown of a line.


@pytest.mark.parametrize(
    ("column", "shown", "caret"),
    [(1, "x" * 200 + "...", 1), (900, "..." + "x" * 200, 203), (500, "..." + "x" * 200 + "...", 104)],
)
def test_of_a_long_line_the_place_is_shown(column, shown, caret) -> None:
    lines = Diagnostic(path="p", line=1, column=column, message="m", source="x" * 900, length=900).render().split("\n")
    assert lines[1] == "    " + shown
    assert lines[2].index("^") == 4 + caret - 1
    assert len(lines[2]) <= len(lines[1])


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    found = Diagnostic(path="p", line=1, column=3, message="m" * 5000, source="a\x1bb\tc\x00").render()
    assert found.split("\n")[1:] == ["    a\ufffdb\tc\ufffd", "      ^"]
    assert len(found) < 500
