"""Good files: what the loader makes of them."""

from __future__ import annotations

import itertools
import json
import pickle
import tomllib

import jsonschema
import pytest

from ptactors.config import LeftMask
from ptactors.errors import UsageError
from ptactors.kernel import table as kernel_table
from ptactors.model.rng import SplitMix64, stream
from ptactors.scenario.load import find, load, loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.model import Allocation, Entry, Fill, Names, PinnedStep, Resched
from ptactors.scenario.program import BoundCall, Repeat, calls, flatten, labels, registers
from ptactors.scenario.schema import json_schema

A = 0x7F00_0020_0000
SAMPLE = """
ptactors = 1                                  # format version
name  = "thp-fault-after-reclaim"
title = "Case 1: a huge page is installed while small translations of the range are still cached"
why   = "The flush is batched past the pmd unlock; the neighbour still holds a 4 KiB translation."
refs  = ["cover letter, situation 1", "Intel 317080"]

[machine]
cpus = 2
hardware = "intel"
preemption = "none"                           # none | voluntary | full | lazy
thp  = "always"
khugepaged = false

[kernel]
preset = "rfc-v1"
flush_before_set_huge = false                 # any knob may be set beside a preset

[vma.A]
at = 0x7f00_0020_0000
size = "2M"
kind = "anon"
populate = { "A+0x3000" = "old" }             # names the frame that is mapped before the run starts

[cpu.0]
do = '''
Z:  madvise A DONTNEED
'''

[cpu.1]
do = '''
    read  A+0x3000 -> r0
    read  A+0x5000 -> r1
'''

[matrix]                                      # every combination is a cell with its own verdict
flush_before_set_huge = [false, true]

[explore]
strategy = "portfolio"
runs = 2000

[[expect]]
when   = { flush_before_set_huge = false }
exists = "hazard(mixed_page_size_tlb)"
[[expect]]
when      = { flush_before_set_huge = true }
forbidden = "hazard(mixed_page_size_tlb)"
[[expect]]
forbidden = "hazard(page_table_uaf_software_walker) or hazard(deadlock)"
"""
FULL = """
ptactors = 1
name = "full"
why = "every section at once"
allow = ["two_translations_one_va"]

[machine]
cpus = 3
hardware = "amd-tce"
tlb_entries = "0x10"
speculate = { cpu1 = ["A+0x3010", "A+0x3000"] }
max_steps = 1000

[kernel]
left_mask = "keep"

[process.P1]
[process.P2]

[vma.A]
at = 0x7f00_0020_0000
size = "8M"
populate = { "A+0x3000" = "old", "A+0x10_000 0x2000" = 7 }
huge_pages = { "A+2M" = "big" }
tables = ["A+4M+0x5000"]
entries = { "A+0x4000" = "guard" }

[vma.F]
process = "P2"
at = 0x7f00_0020_0000
size = 8192
kind = "file-private"
writable = false
huge = "nohugepage"
entries = { F = "cow:mine", "F+4K" = "file:12" }

[cpu.0]
tlb = ["A+0x3fff", "A+2M"]
psc = ["A"]
do = '''
Z: madvise A+0x1000 8K DONTNEED      # a comment
repeat 2 as i {
  write A+i*4M+0x3000 = "new"
  repeat 3 as j {
    R: read A+i*0x1000+j*8K -> r1
  }
}
write A+0x3000 = 5
wait cpu2:T
'''

[cpu.2]
process = "P2"
state = "lazy"
do = '''
switch P1
T: gup_fast A -> page
walk F times 3
'''

[matrix]
preset = ["rfc-v1", "v6.14"]
hardware = ["intel", "erratum-383"]
pcid = [true, false]

[[expect]]
when = { preset = "rfc-v1", pcid = [true], left_mask = "keep" }
always = '''
hazard(leak)        # a comment
/\\ ~ (cpu0:r1 == "old" \\/ mem[A+0x3000] != unset)
'''
note = "a note"
[[expect]]
exists = "ever(pt[A].level == huge and hazard(leak)) or fault(cpu2:T) >= 2*1+1 or cpu2:page = 3"

[pin]
order = ["cpu0:Z.pte_clear#2", "cpu2:flush"]

[fault]
page_batch_alloc = "fail-after 3"
table_batch_alloc = "maybe"
need_resched = ["cpu0:Z after 100"]
rcu_callbacks = "late"

[coverage]
reached = ["pte_clear", "tlb_fill"]
"""
STRESS = """
ptactors = 1
name = "stress"
why = "a mix"
[vma.A]
at = 0x7f00_0020_0000
size = "6M"
[vma.B]
at = 0x7f00_1020_3000
size = "12K"
[cpu.0]
do = "read A -> r"
[matrix]
cpus = [2, 3]
[stress]
per_cpu = 40
[stress.ops]
"read $page -> r" = 3
"write $page = $value" = 2
"madvise $pmd 2M DONTNEED" = 1
"madvise $pages DONTNEED" = 1
"madvise $vma DONTNEED" = 1
[[expect]]
forbidden = "cpu1:r == 4"
"""


@pytest.fixture
def full():
    return loads(FULL, "full.toml")


def test_sample_loads_and_has_two_cells():
    scenario = loads(SAMPLE, "dir/thp-fault-after-reclaim.toml", Names(strategies=("portfolio",), events={"x": ()}))
    assert scenario.title.startswith("Case 1")
    assert scenario.vma("A").populate == (Fill(start=A + 0x3000, end=A + 0x4000, value="old"),)
    assert labels(scenario.cpus[0].program) == ("Z",)
    assert labels(scenario.cpus[1].program) == ("read1", "read2")
    assert scenario.cpus[0].program[0].arguments == ((A, A + (2 << 20)), "DONTNEED", "")
    call = scenario.cpus[0].program[0]
    assert SAMPLE.split("\n")[call.line - 1][call.column - 1 :].startswith("madvise")
    assert [(c.name, len(c.expects)) for c in cells(scenario)] == [
        ("flush_before_set_huge=n", 2), ("flush_before_set_huge=y", 2)
    ]  # fmt: skip
    assert scenario.explore.runs == 2000
    assert scenario.expects[0].condition.hazards() == ("mixed_page_size_tlb",)


def test_memory(full):
    a, f = full.vmas
    assert a.populate[1] == Fill(start=A + 0x10_000, end=A + 0x12_000, value=7)
    assert a.huge_pages == ((A + (2 << 20), "big"),)
    assert a.tables == (A + (4 << 20),)
    assert a.entries == (Entry(va=A + 0x4000, kind="guard"),)
    assert (f.process, f.size, f.kind, f.writable, f.huge) == ("P2", 8192, "file-private", False, "nohugepage")
    assert f.entries == (Entry(va=A, kind="cow", value="mine"), Entry(va=A + 4096, kind="file", value=12))
    assert full.processes == ("P1", "P2")


def test_cpus(full):
    assert [(c.number, c.process, c.state) for c in full.cpus] == [(0, "P1", "user"), (1, "P1", "user"), (2, "P2", "lazy")]
    assert full.cpus[1].program == ()
    assert full.cpus[0].tlb == (A + 0x3000, A + (2 << 20))
    assert full.cpus[0].psc == (A,)
    assert full.speculate == {1: (A + 0x3000,)}
    assert (full.speculative_fills, full.max_steps) == (1, 1000)
    assert (full.hardware, full.machine["tlb_entries"]) == ("amd-tce", 16)


def test_program(full):
    body = full.cpus[0].program
    assert labels(body) == ("Z", "write1", "R", "write2", "wait1")
    assert registers(body) == ("r1",)
    assert [c.text for c in calls(body)][:2] == ["madvise A+0x1000 8K DONTNEED", 'write A+i*4M+0x3000 = "new"']
    bound = list(flatten(body))
    assert [b.index for b in bound] == list(range(11))
    assert bound[0] == BoundCall("Z", "madvise", ((A + 0x1000, A + 0x3000), "DONTNEED", ""), "madvise A+0x1000 8K DONTNEED", 0)
    assert [b.arguments for b in bound if b.label == "write1"] == [(A + 0x3000, "new"), (A + (4 << 20) + 0x3000, "new")]
    assert [b.arguments[0] - A for b in bound if b.label == "R"] == [0, 0x2000, 0x4000, 0x1000, 0x3000, 0x5000]
    assert bound[-1].arguments == ("cpu2:T",)
    lazy = list(flatten(full.cpus[2].program))
    assert [b.arguments for b in lazy] == [("P1",), (A, "page"), (A, 3, "")]


def test_flatten_is_lazy():
    text = STRESS.split("[stress]")[0].replace('"6M"', '"50G"').replace("0x7f00_1020", "0x7e00_1020")
    loops = "repeat 4_000_000_000 as n {\nrepeat 25*1024 as i {\nread A+i*2M\n}\n}"
    text = text.replace('do = "read A -> r"', f"do = '''\n{loops}\n'''")
    scenario = loads(text, "stress.toml")
    first = list(itertools.islice(flatten(scenario.cpus[0].program), 25_601))
    assert first[-1].arguments[0] == first[0].arguments[0]
    assert first[25_599].arguments[0] == A + 25_599 * (2 << 20)
    assert isinstance(scenario.cpus[0].program[0], Repeat)


def test_operations_are_read_from_the_table_when_used(monkeypatch):
    monkeypatch.delitem(kernel_table.OPERATIONS, "cond_resched")
    text = STRESS.split("[stress]")[0]
    with pytest.raises(Exception, match="unknown operation 'cond_resched'"):
        loads(text.replace("read A -> r", "cond_resched"), "stress.toml")


def test_other_sections(full):
    assert full.pin == (
        PinnedStep(cpu=0, label="Z", step="pte_clear", occurrence=2), PinnedStep(cpu=2, label="", step="flush")
    )  # fmt: skip
    assert [str(p) for p in full.pin] == ["cpu0:Z.pte_clear#2", "cpu2:flush"]
    assert full.fault.page_batch_alloc == Allocation(mode="fail-after", after=3)
    assert full.fault.table_batch_alloc.mode == "maybe"
    assert full.fault.need_resched == (Resched(cpu=0, label="Z", after=100),)
    assert not full.fault.need_resched_maybe
    assert full.fault.rcu_callbacks == "late"
    assert full.coverage == ("pte_clear", "tlb_fill")
    assert full.allow == ("two_translations_one_va",)
    assert full.stress is None
    assert full.expects[0].note == "a note"
    assert full.expects[0].when == {"preset": ("rfc-v1",), "pcid": (True,), "left_mask": (LeftMask.KEEP,)}


def test_need_resched_maybe():
    text = SAMPLE + '[fault]\nneed_resched = "maybe"\n'
    fault = loads(text, "<text>").fault
    assert (fault.need_resched, fault.need_resched_maybe) == ((), True)


def test_scenarios_travel_between_processes(full):
    assert pickle.loads(pickle.dumps(full)) == full


# files


def test_find(tmp_path, monkeypatch):
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for name in ("beta", "alpha"):
        (folder / f"{name}.toml").write_text("")
    (folder / "note.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert [p.name for p in find(["scenarios"])] == ["alpha.toml", "beta.toml"]
    assert [p.name for p in find(["beta", folder / "alpha.toml", "beta"])] == ["beta.toml", "alpha.toml"]
    assert find(["beta"])[0].read_text() == ""
    assert [p.name for p in find(["alpha"], folder)] == ["alpha.toml"]
    (tmp_path / "empty").mkdir()
    for given, fragment in [("alhpa", "did you mean 'alpha'"), ("x.toml", "no such file"), ("empty", "no scenario")]:
        with pytest.raises(UsageError, match=fragment):
            find([given])


def test_load_reads_a_file(tmp_path):
    file = tmp_path / "full.toml"
    file.write_text(FULL, newline="\r\n")
    scenario = load(file)
    assert (scenario.name, scenario.path) == ("full", str(file))
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "none.toml")


# schema


@pytest.mark.parametrize("text", [SAMPLE, FULL, STRESS])
def test_schema_accepts_what_the_loader_accepts(text):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(text), schema)
    json.dumps(schema)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cpus = 3", "cpu = 3"), ("[fault]", "[faults]"), ('rcu_callbacks = "late"', 'rcu_callbacks = "soon"'),
        ("writable = false", "writeable = false"), ("always =", "sometimes ="), ("pcid = [true, false]", "pcid = [1]"),
        ("ptactors = 1", "ptactors = 2"), ("[vma.F]", '[vma."F G"]'), ('"two_translations_one_va"', '"two"'),
    ],
)  # fmt: skip
def test_schema_refuses_what_the_loader_refuses(old, new):
    data = tomllib.loads(FULL.replace(old, new))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())


# randomness


def test_splitmix64_is_the_published_one():
    rng = SplitMix64(1234567)
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821)
    assert tuple(rng.next() for _ in published) == published


def test_streams():
    assert stream(1, "a").next() == stream(1, "a").next()
    assert len({stream(seed, purpose).next() for seed in range(50) for purpose in "abc"}) == 150
    rng = stream(7, "below")
    assert {rng.below(5) for _ in range(200)} == set(range(5))
    assert all(0.0 <= rng.random() < 1.0 for _ in range(200))
    assert SplitMix64(3).below(1) == 0
    assert SplitMix64(3).below(1 << 64) == SplitMix64(3).next()
    with pytest.raises(ValueError, match="below"):
        rng.below(0)
