"""The words of the scenario language for address spaces: protections, advices, results, areas in which nothing is mapped."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from small_machines import HEAD, A, events, hazards, registers, run, scenario, text, vma

from ptactors.config import PRESETS
from ptactors.errors import ScenarioError
from ptactors.kernel.operation import ADVICES, PROTECTIONS
from ptactors.kernel.table import OPERATIONS
from ptactors.model import event as ev
from ptactors.model.paging import PMD_SIZE
from ptactors.model.rng import stream
from ptactors.scenario.load import loads
from ptactors.scenario.schema import json_schema

FREE = vma(size="4M", mapped=False)


def complaints(source: str) -> list[tuple[str, str]]:
    """(message, hint) of each error."""
    with pytest.raises(ScenarioError) as caught:
        loads(source)
    return [(each.message, each.hint) for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("program", "message", "hint"),
    [
        ("mmap A", "expected the prot of mmap", "usage: mmap RANGE PROT [-> RESULT]"),
        ("mmap A r0", "unknown protection 'r0'", "known: rw, ro, none"),
        ("mprotect A non", "unknown protection 'non'", "did you mean 'none'?"),
        ("mprotect A 4K 4K", "expected the name of the protection", "known: rw, ro, none"),
        ("madvise A DONTNED", "unknown advice 'DONTNED'", "did you mean 'DONTNEED'?"),
        ("process_madvise A FREE", "unknown advice 'FREE'", ""),
        ("mlock B", "unknown name 'B'", ""),
        ("munlock A+1 4K", "address 0x7f0000200001 is no multiple of the page size (0x1000)", ""),
        ("munmap A ->", "expected the result of munmap", "usage: munmap RANGE [-> RESULT]"),
        ("mlock A -> repeat", "'repeat' is a reserved word", ""),
    ],
)
def test_what_is_wrong_is_named(program: str, message: str, hint: str) -> None:
    (found,) = complaints(text(program))
    assert found[0] == message
    assert hint in found[1]


def test_the_place_of_a_wrong_word() -> None:
    with pytest.raises(ScenarioError) as caught:
        loads(text("mprotect A rx -> r"))
    (found,) = caught.value.diagnostics
    assert found.source[found.column - 1 :][: found.length] == "rx"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"populate": {"A": 1}}, "A is not mapped before the run, so it has no populate"),
        ({"prot": "ro"}, "A is not mapped before the run, so it has no prot"),
        ({"kind": "hugetlb"}, "A is not mapped before the run, so it has no kind"),
        ({"locked": True}, "A is not mapped before the run, so it has no locked"),
    ],
)
def test_of_an_unmapped_area_only_its_place_can_be_said(keys: dict[str, Any], message: str) -> None:
    assert message in [found for found, _ in complaints(text("mmap A rw", vmas=vma(mapped=False, **keys)))]


def test_a_protection_is_said_once() -> None:
    assert complaints(text("mmap A rw", vmas=vma(prot="ro", writable=False)))[0][0] == "prot says already what the program may do"
    assert complaints(text("mmap A rw", vmas=vma(prot="wr")))[0] == ("unknown protection 'wr'", "known: rw, ro, none")


def test_no_tlb_holds_what_may_not_be_accessed() -> None:
    source = text("read A -> r", vmas=vma(populate={"A": 1}, prot="none")).replace("[cpu.0]", "[cpu.0]\ntlb = ['A']")
    assert complaints(source)


@pytest.mark.parametrize(("prot", "readable", "writable"), [("rw", True, True), ("ro", True, False), ("none", False, False)])
def test_what_a_protection_means(prot: str, readable: bool, writable: bool) -> None:
    made = scenario(text("read A -> r", vmas=vma(prot=prot))).vma("A")
    assert (made.readable, made.writable, made.mapped) == (readable, writable, True)


@pytest.mark.parametrize(("thp", "level"), [("never", "4k"), ("always", "2m")])
def test_what_may_not_be_accessed_is_mapped_all_the_same(thp: str, level: str) -> None:
    condition = f"mem[A] == 7 and pt[A].level == {level}"
    asked = f'[[expect]]\nalways = "{condition}"\n'
    done = run(text(("write A = 7", "mprotect A none", "read A -> r"), vmas=vma(), machine=f'thp = "{thp}"\n', rest=asked))
    assert (done.verdicts, registers(done)["cpu0:r"]) == ((True,), "SIGSEGV")


def test_the_schema_knows_the_words() -> None:
    keys = json_schema()["properties"]["vma"]["patternProperties"]
    (table,) = keys.values()
    assert table["properties"]["prot"]["enum"] == list(PROTECTIONS)
    assert table["properties"]["mapped"]["type"] == "boolean"


def test_digests_are_those_of_before_there_were_results_and_protections() -> None:
    plain = scenario(text(("madvise A DONTNEED", "munmap A"))).digest
    assert plain == "b672d33293b5edf2"
    assert scenario(text(("madvise A DONTNEED -> r", "munmap A"))).digest != plain
    assert scenario(text(("madvise A DONTNEED", "munmap A"), vmas=vma(populate={"A+0x3000": "old"}, prot="rw"))).digest == plain
    assert scenario(text(("madvise A DONTNEED", "munmap A"), vmas=vma(populate={"A+0x3000": "old"}, prot="none"))).digest != plain


@pytest.mark.parametrize(("advice", "preset"), list(itertools.product(ADVICES, PRESETS)))
def test_every_advice_runs_under_every_preset(advice: str, preset: str) -> None:
    program = ("write A = 1", f"madvise A {advice} -> r0", f"process_madvise A {advice} -> r1", "read A -> r2")
    done = run(text(program, vmas=vma(populate={"A+0x3000": 2}), machine='thp = "madvise"\n'), preset=preset)
    named = registers(done)
    assert named["cpu0:r0"] == 0
    assert named["cpu0:r1"] in (PMD_SIZE, -22)
    assert named["cpu0:r2"] == (0 if advice in ("DONTNEED", "DONTNEED_LOCKED") else 1)
    assert not hazards(done)
    assert done.status == "complete"


def test_the_log_says_what_was_asked_and_answered() -> None:
    done = run(text(("mmap A rw", "mprotect A 4K none -> r"), vmas=FREE))
    assert [(e.call, e.arg, e.start) for e in events(done, ev.SyscallEnter)][:2] == [("mmap", "rw", A), ("mprotect", "none", A)]
    assert [e.ret for e in events(done, ev.SyscallExit)][:2] == [0, 0]
    assert [(e.vma, e.start, e.end) for e in events(done, ev.VmaInit)] == [("A", A, A + 2 * PMD_SIZE)]


def test_an_unmapped_area_faults_until_it_is_mapped() -> None:
    done = run(text(("read A -> r0", "mmap A rw", "read A -> r1", "munmap A", "read A -> r2"), vmas=FREE))
    assert [registers(done)[f"cpu0:r{n}"] for n in range(3)] == ["SIGSEGV", 0, "SIGSEGV"]


def test_every_operation_on_ranges_can_say_what_it_returned() -> None:
    for name in ("mmap", "munmap", "mprotect", "mlock", "munlock", "madvise", "process_madvise"):
        assert OPERATIONS[name].usage().endswith("[-> RESULT]")


# -- all of them at once --------------------------------------------------------------------------------------------------

RANGES = ("A", "A 2M", "A+2M 2M", "A+1M 1M", "A+1M 2M", "A 8K", "A+4K 4K", "A+1020K 8K")
PLACES = ("A", "A+4K", "A+2M")
WORDS = (
    "write {place} = {number}",
    "read {place} -> r{number}",
    "mmap {range} {prot}",
    "munmap {range}",
    "mprotect {range} {prot}",
    "mlock A 8K",
    "munlock {range}",
    "madvise {range} {advice}",
    "process_madvise {range} {advice}",
)


def drawn(seed: int, cpu: int) -> list[str]:
    """Six operations, drawn."""
    rng = stream(seed, f"vma{cpu}")
    advices = [each for each in ADVICES if not each.startswith("POPULATE")]  # whole ranges of which take too long here
    lines = []
    for number in range(6):
        word = WORDS[rng.below(len(WORDS))]
        prot = (*PROTECTIONS, "rw")[rng.below(len(PROTECTIONS) + 1)]
        place, span = PLACES[rng.below(len(PLACES))], RANGES[rng.below(len(RANGES))]
        lines.append(word.format(number=number, prot=prot, place=place, range=span, advice=advices[rng.below(len(advices))]))
    return lines


@pytest.mark.parametrize("preset", ["v6.1", "rfc-v1", "v6.14", "v6.18"])
def test_mixes_of_all_operations_on_two_cpus_are_clean(preset: str) -> None:
    """No hazard, no deadlock, no step that was not declared, and everything is given back at the end."""
    starts = ("", 'populate = { "A" = 7, "A+4K" = 8 }', 'huge_pages = { "A" = 7 }', "anon_prepared = false", "mapped = false")
    for seed in range(30):
        memory = f'[vma.A]\nat = {A:#x}\nsize = "4M"\n{starts[seed % len(starts)]}\n'
        source = text(drawn(seed, 0), drawn(seed, 1), vmas=memory, machine='thp = "madvise"\n')
        done = run(source, seed, preset=preset, strategy="run-length", record=False)
        assert done.status == "complete", source
        assert not hazards(done), source


def test_the_head_of_these_scenarios_is_read() -> None:
    assert loads(HEAD + FREE).vma("A").mapped is False
