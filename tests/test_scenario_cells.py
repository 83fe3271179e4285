"""What a scenario becomes: its cells, its digest, the programs that ``[stress]`` draws."""

from __future__ import annotations

import attrs
import pytest
from test_scenario import FULL, SAMPLE, STRESS

from ptactors.config import KERNEL_KNOBS, MACHINE_KNOBS, LeftMask, PtReclaim
from ptactors.errors import UsageError
from ptactors.scenario.keys import AXES, SECTIONS
from ptactors.scenario.load import loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.program import flatten, labels
from ptactors.scenario.stress import expand_stress


@pytest.fixture
def full():
    return loads(FULL, "full.toml")


# cells


def test_cells_in_file_order(full):
    found = cells(full)
    assert [c.index for c in found] == list(range(8))
    assert [c.name for c in found][:3] == [
        "preset=rfc-v1 hardware=intel pcid=y", "preset=rfc-v1 hardware=intel pcid=n", "preset=rfc-v1 hardware=erratum-383 pcid=y"
    ]  # fmt: skip
    assert found[0].knobs == {"preset": "rfc-v1", "hardware": "intel", "pcid": "y"}
    assert found[0].config.kernel.pt_reclaim is PtReclaim.RFC
    assert found[-1].config.kernel.pt_reclaim is PtReclaim.MERGED
    assert all(c.config.kernel.left_mask is LeftMask.KEEP and c.config.machine.cpus == 3 for c in found)
    assert [len(c.expects) for c in found] == [2, 1, 2, 1, 1, 1, 1, 1]


def test_overrides_collapse_an_axis(full):
    found = cells(full, {"pcid": "n", "reclaim_scan": "false", "hardware": "amd-tce"}, preset="before")
    assert [c.name for c in found] == ["preset=before hardware=amd-tce pcid=n"]
    assert not found[0].config.kernel.reclaim_scan
    assert found[0].config.kernel.pt_reclaim is PtReclaim.OFF
    assert [e.index for e in found[0].expects] == [1]


def test_when_may_name_a_knob_outside_the_matrix(full):
    assert [len(c.expects) for c in cells(full, {"left_mask": "clear"})] == [1] * 8


def test_empty_matrix_is_one_cell():
    scenario = loads(FULL.split("[matrix]")[0], "full.toml")
    (cell,) = cells(scenario)
    assert (cell.name, cell.knobs, cell.hardware, cell.preset) == ("-", {}, "amd-tce", "v6.14")


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        ({"pcidd": "y"}, "did you mean 'pcid'"), ({"pcid": "maybe"}, "true or false"), ({"preset": "v9"}, "unknown preset"),
        ({"khugepaged": "y"}, "not modelled"), ({"cpus": "2"}, "programs for 3 CPUs"), ({"cpus": "0"}, "at least 1"),
    ],
)  # fmt: skip
def test_wrong_overrides(full, overrides, fragment):
    with pytest.raises(UsageError, match=fragment):
        cells(full, overrides)


def test_every_knob_is_an_axis():
    assert list(AXES) == ["preset", "hardware", *KERNEL_KNOBS, *MACHINE_KNOBS]
    assert {key.name for key in SECTIONS["matrix"]} == set(AXES)


# digest


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# a comment", "# another", True),
        ("read A+i*0x1000+j*8K -> r1", "read   A + i*4K + j*0x2000   ->  r1", True),
        ('why = "every section at once"', 'why = "other words"', True),
        ('note = "a note"', "", True),
        ("[vma.A]", "\n\n[vma.A]", True),
        ("A+0x4000", "A+0x5000", False),
        ('"old", "A', '"older", "A', False),
        ("max_steps = 1000", "max_steps = 1001", False),
        ('left_mask = "keep"', "gup_recheck = false", False),
        ("walk F times 3", "walk F times 4", False),
        ("fail-after 3", "fail-after 4", False),
        ("pcid = [true, false]", "pcid = [false, true]", False),
    ],
)
def test_digest_is_of_what_runs(full, old, new, same):
    assert old in FULL
    text = FULL.replace(old, new).replace(', left_mask = "keep" }', " }")
    text = text.replace(', "old"', "") if "older" in new else text
    assert (loads(text, "full.toml").digest == full.digest) == same
    assert len(full.digest) == 16


def test_digest_is_stable():
    assert loads(SAMPLE, "<text>").digest == loads(SAMPLE.replace("\n", "\r\n"), "<text>").digest


# stress


def test_stress_programs_depend_on_the_seed_only():
    scenario = loads(STRESS, "stress.toml")
    first = expand_stress(scenario, 1)
    assert first == expand_stress(scenario, 1) != expand_stress(scenario, 2)
    assert len(first) == 3
    assert first[0] != first[1]
    assert labels(first[0])[:1] == ("read1",)
    assert all(len(set(labels(body))) == len(labels(body)) for body in first)
    assert [len(body) for body in first] == [41, 40, 40]
    fixed = attrs.evolve(scenario, stress=attrs.evolve(scenario.stress, seed_ops=False))
    assert expand_stress(fixed, 5) == expand_stress(fixed, 6) == expand_stress(scenario, 0)


def test_stress_draws_stay_inside_and_reach_every_operation():
    scenario = loads(STRESS, "stress.toml")
    areas = {vma.name: vma for vma in scenario.vmas}
    inside = lambda start, end: any(v.at <= start < end <= v.end for v in areas.values())  # noqa: E731
    seen, pages, values = set(), set(), []
    for seed in range(40):
        for body in expand_stress(scenario, seed):
            for call in flatten(body):
                seen.add(call.text.split()[0])
                where = call.arguments[0]
                start, end = where if isinstance(where, tuple) else (where, where + 4096)
                assert inside(start, end), call
                assert start % 4096 == end % 4096 == 0
                if call.operation == "read":
                    pages.add(start)
                if call.operation == "write" and seed == 0:
                    values.append(call.arguments[1])
    assert seen == {"read", "write", "madvise"}
    a, b = areas["A"], areas["B"]
    expected = {a.at + m * (2 << 20) + p * 4096 for m in range(3) for p in range(4)}
    assert pages == expected | {b.at + p * 4096 for p in range(3)}
    assert len(set(values)) == len(values) > 0


def test_stress_texts_are_programs_again():
    scenario = loads(STRESS, "stress.toml")
    body = expand_stress(scenario, 3)[1]
    text = STRESS.split("[stress]")[0].replace('do = "read A -> r"', "do = '''\n" + "\n".join(c.text for c in body) + "\n'''")
    again = loads(text, "stress.toml").cpus[0].program
    assert [(c.operation, c.arguments) for c in again] == [(c.operation, c.arguments) for c in body]


def test_without_stress_the_programs_are_those_of_the_file(full):
    assert expand_stress(full, 9) == tuple(cpu.program for cpu in full.cpus)
