"""Arbitrary sequences: what is drawn, where sweeps stop; and, with -m live, that this machine's kernel and the model agree."""

import pytest
from hypothesis import given, settings

from ptactors.cli.main import invoke
from ptactors.host import fuzz
from ptactors.host.arbitrary import FEW, SPAN, sequences, stopped
from ptactors.host.compare import BEFORE, RECLAIM
from ptactors.host.fuzz import Fuzzer
from ptactors.host.live import CannotRun
from ptactors.host.probe import Host, probe
from ptactors.host.program import access_count, needs, split
from ptactors.host.recordings import load
from ptactors.host.selection import preset_here
from ptactors.host.simulate import configuration, run, simulate
from ptactors.model.paging import PMD_SIZE

HERE = Host(release="6.18.44", kernel_class="reclaim", thp="madvise", cpus=2, reason="")


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(sequences(10))
def test_what_is_drawn_can_be_made_on_both_sides(steps):
    assert 2 <= len(steps) <= 10
    assert steps[0][0] == "map"
    assert needs(steps) == ()
    for step in steps:
        _, bare = split(step)
        length = bare[2]
        assert 0 <= bare[1] < bare[1] + length <= SPAN
        assert access_count(bare) <= FEW


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(sequences(8))
def test_the_model_is_free_of_hazards_on_both_presets(steps):
    for preset in (BEFORE, RECLAIM):
        simulation = run(steps, configuration(preset, "madvise"))
        assert simulation.status == "complete"
        assert simulation.findings == ()
        assert len(simulation.observed) == len(steps)


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ((("map", 0, 8192), ("w", 0, 16384, 4096, 1)), ("w", 0, 8193, 4096, 1)),
        ((("map", 0, PMD_SIZE), ("r", 0, 8192, 4096)), ("r", 0, 8192, 4096)),
        ((("map", 0, PMD_SIZE, "anon", "ro"), ("w", 4096, 8192, 4096, 2)), ("w", 4096, 4096, 4096, 2)),
        ((("map", 0, 16384), ("prot", 4096, 4096, "none"), ("r", 0, 16384, 8192)), ("r", 0, 16384, 8192)),
        ((("map", 0, 16384), ("prot", 8192, 4096, "none"), ("t2", "r", 0, 16384, 8192)), ("t2", "r", 0, 8193, 8192)),
        ((("map", 0, 16384), ("unmap", 0, 4096), ("prot", 0, 16384, "none"), ("r", 8192, 8192, 4096)), ("r", 8192, 8192, 4096)),
    ],
)
def test_a_sweep_stops_behind_the_first_refused_access(steps, last):
    assert tuple(stopped(steps))[-1] == last
    assert access_count(split(last)[1]) == -(-split(last)[1][2] // split(last)[1][3])


def with_a_kernel(monkeypatch, preset, broken=False):
    """Have the model itself stand in for the kernel, blind to resident pages if ``broken``."""
    import attrs

    def execute(steps):
        seen = simulate(steps, preset)
        if broken:
            seen = tuple(attrs.evolve(each, rss_kb=0) for each in seen)
        return seen

    monkeypatch.setattr(fuzz, "execute", execute)


def test_the_same_seed_draws_the_same(monkeypatch):
    drawn = []

    def execute(steps):
        drawn.append(steps)
        return simulate(steps, RECLAIM)

    monkeypatch.setattr(fuzz, "execute", execute)
    counts = []
    for seed in (5, 5, 6):
        Fuzzer(RECLAIM, HERE).run(8, seed, 5)
        counts.append(tuple(drawn))
        drawn.clear()
    assert counts[0] == counts[1] != counts[2]


def test_a_difference_is_found_and_shrunk(monkeypatch):
    with_a_kernel(monkeypatch, RECLAIM, broken=True)
    result = Fuzzer(RECLAIM, HERE).run(60, 1, 4)
    assert result.found is not None
    assert [difference.field for difference in result.found.differences] == ["rss_kb"]
    assert len(result.recording.steps) <= 3
    assert result.recording.observed[-1].rss_kb == 0


def test_the_other_class_of_kernels_is_told_apart(monkeypatch):
    with_a_kernel(monkeypatch, BEFORE)
    result = Fuzzer(RECLAIM, HERE).run(200, 1, 4)
    assert result.found is not None
    assert len(result.recording.steps) <= 4


def test_a_kernel_that_answers_differently_each_time_is_no_difference(monkeypatch):
    import attrs

    times = iter(range(10_000))

    def execute(steps):
        return tuple(attrs.evolve(each, rss_kb=next(times) + (1 << 30)) for each in simulate(steps, RECLAIM))

    monkeypatch.setattr(fuzz, "execute", execute)
    result = Fuzzer(RECLAIM, HERE).run(5, 1, 3)
    assert result.found is None
    assert result.unstable == result.sequences == 5


def test_time_is_a_limit(monkeypatch):
    with_a_kernel(monkeypatch, RECLAIM)
    result = Fuzzer(RECLAIM, HERE, until=0.0).run(50, 1, 5)
    assert (result.sequences, result.found) == (0, None)


def test_a_machine_that_refuses_is_no_agreement(monkeypatch):
    def execute(steps):
        raise CannotRun("too little memory")

    monkeypatch.setattr(fuzz, "execute", execute)
    result = Fuzzer(RECLAIM, HERE).run(5, 1, 3)
    assert (result.sequences, result.refused, result.reason) == (0, 5, "too little memory")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"hugepages-2048kB": "always inherit [madvise] never"}, ""),
        ({"hugepages-64kB": "always inherit madvise [never]"}, ""),
        ({"hugepages-64kB": "always inherit [madvise] never"}, "hugepages-64kB/enabled is not at 'never'"),
    ],
)
def test_other_huge_pages_are_a_hindrance(monkeypatch, tmp_path, files, reason):
    for name, text in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "enabled").write_text(text)
    monkeypatch.setattr(fuzz, "_THP", tmp_path)
    assert (reason in fuzz.hindrance()) if reason else fuzz.hindrance() == ""


def test_the_command_keeps_what_it_found(monkeypatch, tmp_path, capsys):
    import ptactors.host.probe

    with_a_kernel(monkeypatch, RECLAIM, broken=True)
    monkeypatch.setattr(ptactors.host.probe, "probe", lambda: HERE)
    monkeypatch.setattr(fuzz, "hindrance", lambda: "")
    file = tmp_path / "found.jsonl"
    assert invoke(["host", "fuzz", "--runs", "30", "--ops", "4", "--save-as", str(file)]) == 1
    out = capsys.readouterr().out
    assert "Rss, kB: model 4, kernel 0" in out
    assert f"ptactors host compare {file}" in out
    assert load(file)[0].kernel == HERE.release
    assert invoke(["host", "compare", str(file)]) == 1


@pytest.mark.live
def test_this_machines_kernel_and_the_model_agree():
    host = probe()
    reason = host.reason or fuzz.hindrance()
    if reason:
        pytest.skip(reason)
    result = Fuzzer(preset_here(host), host).run(60, 7, 10)
    assert result.found is None, (result.recording.steps, list(map(str, result.found.differences)))
    assert result.sequences >= 60
