"""Every format is read back by a reader that is not ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from saved_logs import first_with_hazard, records, save

from ptactors.cli.log_export import EXPORTERS
from ptactors.cli.main import invoke
from ptactors.log.lnav import format_file
from ptactors.model.event import event_name


@pytest.fixture
def log(tmp_path) -> Path:
    return save(tmp_path / "x.jsonl", "race", first_with_hazard())


@pytest.fixture
def run():
    return records("race", first_with_hazard())


def exported(name: str, *logs: Path) -> bytes:
    out = logs[0].parent / "out"
    assert invoke(["log", "export", "--to", name, "-o", str(out), *map(str, logs)]) == 0
    return out.read_bytes()


def test_perfetto_is_read_by_the_classes_of_its_package(log, run) -> None:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

    trace = Trace()
    trace.ParseFromString(exported("perfetto", log, save(log.parent / "y.jsonl", "busy", 1)))
    tracks, names, strings, open_slices = {}, {}, {}, {}
    flows, events, last = {}, 0, {}
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.HasField("track_descriptor"):
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        for table, entries in ((names, packet.interned_data.event_names), (strings, packet.interned_data.debug_annotation_names)):
            table.update({entry.iid: entry.name for entry in entries})
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        process = tracks[event.track_uuid].parent_uuid
        assert tracks[process].HasField("process")
        assert packet.timestamp > last.get(process, -1) or event.type == TrackEvent.TYPE_SLICE_END
        last[process] = packet.timestamp
        depth = open_slices.get(event.track_uuid, 0)
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            depth += 1
        elif event.type == TrackEvent.TYPE_SLICE_END:
            depth -= 1
        assert depth >= 0
        open_slices[event.track_uuid] = depth
        if event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_INSTANT):
            assert names[event.name_iid]
        for note in event.debug_annotations:
            assert strings[note.name_iid]
        for flow in event.flow_ids:
            flows[flow] = flows.get(flow, 0) + 1
        events += 1
    assert events >= len(run) + len(records("busy", 1))
    assert set(open_slices.values()) == {0}, "every slice ends"
    assert any(count > 1 for count in flows.values()), "causes are arrows"
    shown = {descriptor.name for descriptor in tracks.values()}
    assert {"cpu0", "cpu1", "rcu", "bus", "lock mmap:P", "page tables of P"} <= shown
    assert {tracks[uuid].process.pid for uuid in tracks if tracks[uuid].HasField("process")} == {1, 2}


def test_perfetto_times_are_those_of_the_steps(log, run) -> None:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    trace = Trace()
    trace.ParseFromString(exported("perfetto", log))
    steps = [packet.timestamp // 1000 for packet in trace.packet if packet.HasField("track_event")]
    assert steps[: len(run)] == [step for step, _, _ in run]


def test_perfetto_varints_of_every_length() -> None:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

    from ptactors.analysis.export.perfetto import _LOW, _TIMESTAMP, _varint

    for time in [0, 1, 127, 128, (1 << 14) - 1, 1 << 14, (1 << 21) - 1, 10**9, (1 << 62) + 5]:
        packet = TracePacket()
        packet.ParseFromString(_TIMESTAMP + _LOW[time & 0x3FFF] + _varint(time >> 14))
        assert packet.timestamp == time


def test_chrome_is_a_json_document_of_nested_slices(log, run) -> None:
    document = json.loads(exported("chrome", log))
    events = document["traceEvents"]
    depth = {}
    for event in events:
        assert event["ph"] in "BEiCM"
        if event["ph"] in "BE":
            depth[event["tid"]] = depth.get(event["tid"], 0) + (1 if event["ph"] == "B" else -1)
            assert depth[event["tid"]] >= 0
    assert not any(depth.values())
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    assert len(times) >= len(run)


def test_ftrace_is_the_kernels_text(log, run) -> None:
    line = re.compile(r"^\s*(.{1,16})-(\d+)\s+\[(\d{3})\] ([d.])\.([h.])\.\.\s+(\d+)\.(\d{6}): (\w+):(?: .*)?$")
    told = [line.match(each) for each in exported("ftrace", log).decode().splitlines() if not each.startswith("#")]
    assert all(told)
    assert [(m[8], int(m[6]) * 1_000_000 + int(m[7])) for m in told] == [(event_name(e), step) for step, _, e in run]


def test_parquet_is_read_by_duckdb(log, run) -> None:
    import duckdb

    exported("parquet", log)
    rows = duckdb.connect().execute(f"SELECT ev, step, cpu FROM read_parquet('{log.parent / 'out'}') ORDER BY n").fetchall()
    assert rows == [(event_name(event), step, event.cpu) for step, _, event in run]


def test_junit_is_xml_with_a_case_for_each_run(tmp_path) -> None:
    logs = [save(tmp_path / f"seed-{seed}.jsonl", "race", seed) for seed in range(4)]
    root = ElementTree.fromstring(exported("junit", *logs))
    assert root.tag == "testsuites"
    assert [case.get("name") for case in root.iter("testcase")] == [f"seed {seed}" for seed in range(4)]
    assert root.get("tests") == "4"


def test_junit_fails_on_a_violation_and_bears_hostile_names(tmp_path) -> None:
    from fake_world import A

    from ptactors.log.write import write_log
    from ptactors.model.event import FrameAlloc, FrameFree, VmaInit

    twice = [
        (0, -1, VmaInit(-1, "P", "A", A, A + 4096, "anon")),
        (1, 0, FrameAlloc(0, 9, 1, "anon", 0, "P")),
        (2, 0, FrameFree(0, 9, 1, "anon", 0)),
        (3, 0, FrameFree(0, 9, 1, "anon", 0)),
    ]
    head = {"tool": "ptactors", "version": "1", "scenario": "<script>]]>&\x01\U0001f600", "cell": "\"'<", "seed": 1}
    path = tmp_path / "x.jsonl"
    write_log(path, head, ("cpu0",), twice, causes={}, functions={}, ending={"status": "complete"})
    root = ElementTree.fromstring(exported("junit", path))
    assert root.get("failures") == "1"
    failure = next(root.iter("failure"))
    assert failure.get("type") == "double_free"
    for name in ("chrome", "ftrace", "perfetto", "parquet"):
        exported(name, path)


def test_mermaid_is_a_sequence_diagram(log) -> None:
    lines = exported("mermaid", log).decode().splitlines()
    assert lines[0] == "sequenceDiagram"
    assert all(re.match(r"    (participant \w+|Note over [\w,]+: .+|\w+-\)\w+: .+)$", line) for line in lines[1:])


def test_lnav_lines_have_a_time_and_its_format_names_their_fields(log, run) -> None:
    lines = [json.loads(line) for line in exported("lnav", log).splitlines()]
    assert [line["step"] for line in lines] == [step for step, _, _ in run]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert all(re.fullmatch(r"1970-01-01T00:00:01\.\d{6}", line["time"]) for line in lines)
    (layout,) = [each for key, each in json.loads(format_file()).items() if key != "$schema"]
    fields = {field for line in lines for field in line}
    assert layout["timestamp-field"] in fields
    assert set(layout["value"]) <= fields


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_reads_logs_without_help(log, run) -> None:
    done = subprocess.run(["jq", "-r", 'select(.step != null) | "\\(.ev) \\(.step)"', str(log)], capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [f"{event_name(event)} {step}" for step, _, event in run]


def test_one_run_formats_refuse_more(tmp_path, capsys) -> None:
    logs = [str(save(tmp_path / f"seed-{seed}.jsonl", "race", seed)) for seed in range(2)]
    for name, exporter in EXPORTERS.items():
        code = invoke(["log", "export", "--to", name, "-o", str(tmp_path / "out"), *logs])
        assert code == (0 if exporter.many else 2), name
    assert "shows one run" in capsys.readouterr().err


def test_a_log_is_not_written_over(log, capsys) -> None:
    before = log.read_bytes()
    assert invoke(["log", "export", "--to", "chrome", "-o", str(log), str(log)]) == 2
    assert log.read_bytes() == before
