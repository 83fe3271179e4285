"""A campaign that is killed and resumed ends as if it had not been: the journal, and real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptactors import __version__
from ptactors.campaign import journal as journals
from ptactors.campaign import mix
from ptactors.campaign.journal import Journal, JournalFault, NothingToResume, identity_of, locked, pieces_of
from ptactors.cli.main import invoke
from ptactors.errors import IncompatibleRecording, UsageError
from ptactors.model.rng import stream

REPOSITORY = Path(__file__).resolve().parent.parent
WORDS = ["--preset", "before", "--preset", "v6.14"]


def begun(folder: Path, pieces: int = 3) -> Path:
    journal = Journal.begin(folder, {"a": 1})
    for number in range(pieces):
        journal.add({"number": number, "text": 'quotes " and ,"sum":" inside'})
    journal.close()
    return folder / journals.NAME


# -- the journal ------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    begun(tmp_path)
    assert identity_of(tmp_path) == {"a": 1}
    assert [(piece["piece"], piece["number"]) for piece in pieces_of(tmp_path)] == [(0, 0), (1, 1), (2, 2)]


def test_a_line_torn_anywhere_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    path = begun(tmp_path)
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert len(list(pieces_of(tmp_path))) == 2, end
        again = Journal.again(tmp_path)
        assert again.pieces == 2
        again.add({"number": 2, "text": 'quotes " and ,"sum":" inside'})
        again.close()
        assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    path = begun(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in ([lines[0], lines[1].replace(b"quotes", b"quotas"), *lines[2:]], [lines[0], lines[2], lines[3]]):
        path.write_bytes(b"".join(broken))
        with pytest.raises(IncompatibleRecording, match="line 2 is damaged"):
            identity_of(tmp_path)


@pytest.mark.parametrize("text", [b"", b'{"ptactors-campaign":1,"ver'])
def test_a_campaign_killed_before_it_began(text: bytes, tmp_path: Path) -> None:
    (tmp_path / journals.NAME).write_bytes(text)
    with pytest.raises(NothingToResume):
        identity_of(tmp_path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "__version__", "0.0.7")
    begun(tmp_path)
    monkeypatch.undo()
    with pytest.raises(IncompatibleRecording, match=f"was run by ptactors 0.0.7, this is {__version__}"):
        identity_of(tmp_path)


def test_a_campaign_that_is_there_is_kept_under_another_name(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first = path.read_bytes()
    begun(tmp_path, pieces=1)
    assert path.with_suffix(".jsonl.old").read_bytes() == first
    assert len(list(pieces_of(tmp_path))) == 1


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.begin(tmp_path, {})
    journal.add({"number": 0})
    before = (tmp_path / journals.NAME).read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 5:
            return write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journals.os, "write", full)
        with pytest.raises(JournalFault, match="No space left"):
            journal.add({"number": 10})
    assert (tmp_path / journals.NAME).read_bytes() == before
    journal.add({"number": 1})
    journal.close()
    assert [piece["number"] for piece in pieces_of(tmp_path)] == [0, 1]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UsageError, match="another process runs a campaign"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


# -- campaigns in this process ----------------------------------------------------------------------------------------------


def stress(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = invoke(["stress", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small campaign that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert invoke(["stress", *WORDS, "--runs", "16", "--jobs", "1", "--log-dir", str(folder)]) == 0
    return folder


def cut(whole: Path, folder: Path, size: int) -> Path:
    """As if it had been killed when so much of the journal was written."""
    folder.mkdir()
    (folder / journals.NAME).write_bytes((whole / journals.NAME).read_bytes()[:size])
    return folder


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.8, 0.99, 1.0])
def test_a_campaign_goes_on_where_it_was(part: float, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = int((whole / journals.NAME).stat().st_size * part)
    folder = cut(whole, tmp_path / "cut", size)
    words = [*WORDS, "--runs", "16"] if part < 0.1 else []
    code, out, err = stress(capsys, *words, "--resume", "--json", "--jobs", "1", "--log-dir", str(folder))
    assert code == 0
    assert ("it begins now" in err) == (part < 0.1)
    for name in ("campaign.json", journals.NAME):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert out == (whole / "campaign.json").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runs", "24"], "was begun with runs 16, not 24"),
        (["--preset", "v6.14"], 'was begun with presets ["before", "v6.14"], not ["v6.14"]'),
        (["--set", "reclaim_scan=false"], "was begun with settings"),
        (["first-fault"], "was begun with scenarios []"),
        (["-x"], "was begun with first false"),
    ],
)
def test_another_campaign_is_refused(
    words: list[str], says: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(whole, tmp_path / "cut", (whole / journals.NAME).stat().st_size)
    before = (folder / journals.NAME).read_bytes()
    code, out, err = stress(capsys, *words, "--resume", "--log-dir", str(folder))
    assert (code, out) == (4, "")
    assert says in err
    assert (folder / journals.NAME).read_bytes() == before


def test_a_scenario_that_was_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / "scenarios" / "first-fault.toml").read_text()
    file = tmp_path / "first-fault.toml"
    file.write_text(text)
    words = [str(file), "--runs", "10", "--preset", "v6.14", "--jobs", "1", "--log-dir", str(tmp_path / "log")]
    assert stress(capsys, *words)[0] == 0
    file.write_text(text.replace("cpus = ", "max_steps = 4000\ncpus = ", 1))
    code, _, err = stress(capsys, *words, "--resume")
    assert code == 4
    assert "a scenario of it was changed" in err


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path):
        code, _, err = stress(capsys, *WORDS, "--runs", "8", "--log-dir", str(tmp_path))
    assert code == 2
    assert "another process runs a campaign" in err


def test_a_full_disk_keeps_what_is_done(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add, folder = Journal.add, tmp_path / "full"

    def full(journal: Journal, body: Any) -> None:
        if journal.pieces == 3:
            raise JournalFault(journal.path, OSError(28, "No space left on device"))
        add(journal, body)

    words = [*WORDS, "--runs", "16", "--jobs", "1", "--log-dir", str(folder)]
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", full)
        code, out, err = stress(capsys, *words)
    assert code == 2
    assert f"schedules: {3 * mix.SCHEDULES}" in out
    assert "No space left on device; what is done is kept" in err
    assert f"resume: ptactors stress --resume --log-dir {folder}" in err
    assert not (folder / "campaign.json").exists()
    assert stress(capsys, *words, "--resume")[0] == 0
    assert (folder / "campaign.json").read_bytes() == (whole / "campaign.json").read_bytes()


# -- campaigns that are killed ----------------------------------------------------------------------------------------------


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "ptactors", "stress", "--log-dir", str(folder), "--json", *words]


def lines_of(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (folder / journals.NAME).read_bytes().count(b"\n")
    return 0


@contextlib.contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A campaign in a process group of its own, which does not outlive this."""
    child = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def killed_and_resumed(folder: Path, words: list[str], kills: int, most: int) -> tuple[bytes, int]:
    """(what the last process printed, kills that hit): each after up to ``most`` new lines and a moment more, by a fixed seed."""
    rng, hits = stream(kills, "moments of kills"), 0
    for number in range(kills):
        wanted, pause = lines_of(folder) + rng.below(most + 1), 0.05 * rng.random()
        with started(command(folder, *words, "--jobs", str(1 + number % 2), "--resume")) as child:
            ends = time.monotonic() + 120
            while child.poll() is None and lines_of(folder) <= wanted and time.monotonic() < ends:
                time.sleep(0.01)
            time.sleep(pause)
            hits += child.poll() is None
    done = subprocess.run(command(folder, "--jobs", "2", "--resume"), cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, hits


def test_two_kills(tmp_path: Path) -> None:
    words = [*WORDS, "--runs", "48"]
    undisturbed = subprocess.run(command(tmp_path / "whole", *words), cwd=REPOSITORY, capture_output=True, check=True)
    out, hits = killed_and_resumed(tmp_path / "cut", words, kills=2, most=2)
    assert hits == 2
    assert out == undisturbed.stdout
    for name in ("campaign.json", journals.NAME):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.full
def test_twenty_kills(tmp_path: Path) -> None:
    words = ["--runs", "160"]
    undisturbed = subprocess.run(command(tmp_path / "whole", *words), cwd=REPOSITORY, capture_output=True, check=True)
    out, hits = killed_and_resumed(tmp_path / "cut", words, kills=20, most=3)
    assert hits == 20
    assert out == undisturbed.stdout
    for name in ("campaign.json", journals.NAME):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    made = json.loads(out)
    assert made["schedules"] == 160 * len(made["presets"])


def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    with started(command(tmp_path, *WORDS, "--time", "1h", "--jobs", "2")) as child:
        ends = time.monotonic() + 120
        while lines_of(tmp_path) < 4 and time.monotonic() < ends:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate()
    assert child.returncode == 130
    assert f"resume: ptactors stress --resume --log-dir {tmp_path}" in err.decode()
    made = json.loads(out)
    assert made["interrupted"] is True
    assert made["schedules"] >= mix.SCHEDULES * (lines_of(tmp_path) - 1) >= 3 * mix.SCHEDULES
