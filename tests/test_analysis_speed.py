"""What questions cost on a log of a million events; prints the figures.

    python -m pytest -m full -s tests/test_analysis_speed.py

Best of three, each after one run that warms up. DuckDB's own ``group by ev`` over the same file, in the same process, is the
yardstick of the summary. Memory is the greatest of a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from saved_logs import records, save

from ptactors.log.files import survey
from ptactors.log.write import write_log

EVENTS = 1_000_000
SUMMARY_RATIO, EXPORT_SECONDS, MEMORY_MB = 5, 8, 1000
pytestmark = pytest.mark.full

MEASURE = """
import resource, sys, time
from pathlib import Path
import duckdb
from ptactors.analysis.database import Database
from ptactors.analysis.export import perfetto
from ptactors.analysis.summary import lines, summarise
from ptactors.log.files import survey

what, path = sys.argv[1], Path(sys.argv[2])

def yardstick():
    duckdb.connect().execute(f"select ev, count(*) from read_json('{path}') group by ev").fetchall()

def summary():
    with Database([survey(path)]) as database:
        list(lines(summarise(database)))

def export():
    with path.with_suffix(".pftrace").open("wb") as out:
        perfetto.export([survey(path)], out)

def best(ask):
    ask()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return min(times)

for name in what.split(","):
    print(name, best(locals()[name]))
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """One run after the other, with the steps of one log."""
    folder = tmp_path_factory.mktemp("speed")
    runs = [records("busy", seed) for seed in range(40)]
    head = survey(save(folder / "one.jsonl", "busy", 0))

    def stream():
        base = count = 0
        while True:
            for run in runs:
                for step, actor, event in run:
                    yield base + step, actor, event
                base += run[-1][0] + 1
                count += len(run)
                if count >= EVENTS:
                    return

    header = {key: value for key, value in head.header.items() if key not in ("ev", "schema", "actors")}
    path = folder / "million.jsonl"
    functions = dict.fromkeys(range(1, 3 * EVENTS, 2), "flush_tlb_mm_range <- zap_page_range_single <- madvise_dontneed <- run")
    causes = {step: step - 3 for step in range(4, 3 * EVENTS, 5)}
    write_log(path, header, head.actors, stream(), causes=causes, functions=functions, ending={"status": "complete"})
    return path


def measured(what: str, path: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", MEASURE, what, str(path)], capture_output=True, check=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line]  # DuckDB's progress may have left an empty one
    return {name: float(value) for name, value in lines}


def test_a_million_events_are_summarised_in_five_times_a_group_by(log, capsys) -> None:
    found = measured("yardstick,summary", log)
    ratio = found["summary"] / found["yardstick"]
    with capsys.disabled():
        print(f"\nsummary {found['summary']:.2f} s, group by {found['yardstick']:.2f} s, ratio {ratio:.2f}")
        print(f"memory {found['memory']:.0f} MB")
    assert ratio <= SUMMARY_RATIO
    assert found["memory"] < MEMORY_MB


def test_a_million_events_are_exported_to_perfetto_in_eight_seconds(log, capsys) -> None:
    found = measured("export", log)
    with capsys.disabled():
        print(f"\nPerfetto export {found['export']:.2f} s, {found['memory']:.0f} MB")
    assert found["export"] <= EXPORT_SECONDS
    assert found["memory"] < MEMORY_MB
