"""Broken files: each says where and what. The position is that of the mark « in the text, which is taken out first."""

from __future__ import annotations

import pytest
from test_scenario import FULL, STRESS

from ptactors.errors import ScenarioError
from ptactors.model.rng import stream
from ptactors.scenario.load import load, loads
from ptactors.scenario.matrix import cells
from ptactors.scenario.model import Names
from ptactors.scenario.stress import expand_stress

NAMES = Names(
    strategies=("random", "pct", "portfolio"),
    step_labels=("pte_clear", "pmd_clear", "flush"),
    events={"tlb_fill": ("cpu", "va", "pfn"), "pmd_install": ("va",)},
)
TOP = 'ptactors = 1\nname = "x"\nwhy = "because"\n'
VMA = '[vma.A]\nat = 0x7f00_0020_0000\nsize = "4M"\npopulate = { "A+0x3000" = "old" }\n'
CPUS = "[cpu.0]\ndo = '''\nZ: madvise A DONTNEED\n'''\n[cpu.1]\ndo = '''\nread A+0x3000 -> r0\n'''\n"
GOOD = TOP + VMA + CPUS


def program(text):
    return TOP + VMA + f"[cpu.0]\ndo = '''\n{text}\n'''\n[cpu.1]\ndo = 'R: read A -> r0'\n"


def expect(text):
    return GOOD + f'[[expect]]\nforbidden = "{text}"\n'


BROKEN = {
    "toml syntax": (TOP + "a = «= 1\n", "not TOML"),
    "toml at the end": (TOP + "a = [1«", "end of the file"),
    "toml duplicate key": (TOP + 'name = "y"«\n', "overwrite"),
    "unknown top key": (TOP + "«titel = 'x'\n", "unknown key 'titel'"),
    "unknown section": (TOP + "[«machin]\ncpus = 2\n", "unknown key 'machin'"),
    "section is no table": ("machine = «3\n" + TOP, "expected a table, not 3"),
    "wrong version": ('ptactors = «2\nname = "x"\nwhy = "y"\n', "expected an integer from 1 to 1"),
    "name is not the file's": (TOP.replace('"x"', '«"y"'), "the name is 'y', but the file's name says 'x'"),
    "empty why": (TOP.replace('"because"', '«" "'), "expected text"),
    "refs is no list": (TOP + "refs = «'a'\n", "expected a list"),
    "unknown hazard in allow": (TOP + "allow = ['leak', «'leek']\n", "unknown hazard 'leek'"),
    "unknown machine key": (TOP + "[machine]\n«cpu = 2\n", "unknown key 'cpu' in [machine]"),
    "kernel knob in machine": (TOP + "[machine]\n«pt_reclaim = 'off'\n", "unknown key 'pt_reclaim'"),
    "too many cpus": (TOP + "[machine]\ncpus = «65\n", "from 1 to 64"),
    "knob of the wrong type": (TOP + "[machine]\ntce = «3\n", "expected true or false"),
    "knob is a float": (TOP + "[machine]\ntlb_entries = «inf\n", "a knob is"),
    "khugepaged": (TOP + "[machine]\nkhugepaged = «true\n", "not modelled yet"),
    "unknown hardware": (TOP + "[machine]\nhardware = «'amdtce'\n", "unknown hardware 'amdtce'"),
    "unknown preset": (TOP + "[kernel]\npreset = «'v6.15'\n", "unknown preset 'v6.15'"),
    "unknown enum value": (TOP + "[kernel]\npt_reclaim = «'on'\n", "expected one of off, rfc, merged"),
    "speculate on no cpu": (GOOD + "[machine.speculate]\n«cpu9 = ['A']\n", "there is no cpu9"),
    "speculate outside": (GOOD + "[machine.speculate]\ncpu1 = ['«A+4M']\n", "outside every VMA"),
    "process with a key": (TOP + "[process.Q]\n«pcid = 3\n", "unknown key 'pcid' in [process.Q]"),
    "vma of no process": (TOP + VMA + "process = «'Q'\n", "unknown process 'Q'"),
    "vma without at": (TOP + "[vma.«A]\nsize = '4K'\n", "key 'at' is missing"),
    "vma at odd address": (TOP + "[vma.A]\nat = «0x1001\nsize = '4K'\n", "no multiple of 0x1000"),
    "vma beyond user space": (TOP + "[vma.A]\nat = «0x7fff_ffff_f000\nsize = '8K'\n", "beyond user space"),
    "vma size is odd": (TOP + "[vma.A]\nat = 0x1000\nsize = «'4k'\n", "expected a size"),
    "vma size is zero": (TOP + "[vma.A]\nat = 0x1000\nsize = «'0K'\n", "above zero"),
    "huge page of a file": (
        TOP + "[vma.A]\nat = 0x20_0000\nsize = '2M'\nkind='memfd'\nhuge_pages = { «'A' = 'zero' }\n", "only anonymous memory",
    ),
    "hugetlb vma too small": (TOP + "[vma.A]\nat = 0x20_0000\nsize = «'4K'\nkind='hugetlb'\n", "no multiple of 0x200000"),
    "vma name": (TOP + "[vma.«A-B]\nat = 0x1000\nsize = '4K'\n", "no name of a VMA"),
    "vma kind": (TOP + VMA + "kind = «'anonymous'\n", "unknown kind 'anonymous'"),
    "vmas overlap": (TOP + VMA + "[vma.B]\nat = «0x7f00_0050_0000\nsize = '4K'\n", "VMAs A and B of process P overlap"),
    "populate outside": (TOP + VMA.replace('"A+0x3000"', '"«A+0x400000"'), "outside every VMA"),
    "populate odd": (TOP + VMA.replace('"A+0x3000"', '"«A+0x3001"'), "no multiple of 0x1000"),
    "populate other vma": (TOP + VMA.replace('"A+0x3000"', '"«B"'), "unknown name 'B'"),
    "populate a float": (TOP + VMA.replace('"old"', "«1.5"), "expected a name or an integer"),
    "populate twice": (TOP + VMA.replace("}", ', «"A 16K" = 1 }'), "mapped twice"),
    "huge page odd": (TOP + VMA + "huge_pages = { '«A+0x1000' = 1 }\n", "no multiple of 0x200000"),
    "huge page over a small one": (TOP + VMA + "huge_pages = { «'A' = 1 }\n", "mapped twice"),
    "entries: cow in anon": (TOP + VMA + "entries = { A = «'cow:x' }\n", "needs a VMA of kind file-private"),
    "entries: unknown": (TOP + VMA + "entries = { A = «'guards' }\n", "unknown entry 'guards'"),
    "tables outside": (TOP + VMA + "tables = ['A', '«A+1G']\n", "outside every VMA"),
    "no such cpu": (TOP + VMA + "[cpu.«2]\ndo = 'read A'\n", "there is no cpu2"),
    "cpu by name": (TOP + VMA + "[cpu.«zero]\ndo = 'read A'\n", "no number of a CPU"),
    "cpu state": (TOP + VMA + "[cpu.1]\nstate = «'sleeping'\n", "unknown state"),
    "tlb holds nothing": (TOP + VMA + "[cpu.1]\ntlb = ['A+0x3000', «'A+0x4000']\n", "nothing is mapped"),
    "psc without table": (TOP + VMA + "[cpu.1]\npsc = [«'A+2M']\n", "no PTE table"),
    "tlb of an off cpu": (TOP + VMA + "[cpu.1]\nstate = 'off'\n«tlb = ['A+0x3000']\n", "caches nothing"),
    "call with parentheses": (program("madvise(A«, DONTNEED)"), "unexpected ','"),
    "unknown operation": (program("  «raed A"), "unknown operation 'raed'"),
    "address outside": (program("read «A+4M -> r"), "outside every VMA of process P"),
    "loop runs outside": (program("repeat 3 as i {\n  read «A+i*2M\n}"), "with i=2 lies outside"),
    "unknown name in address": (program("read «B+1"), "unknown name 'B'"),
    "odd range": (program("munmap «A+0x10 4K"), "no multiple of the page size"),
    "odd length": (program("munmap A «0x10"), "no multiple of the page size"),
    "range without length": (program("munmap A+0x1000«"), "expected a length"),
    "unknown advice": (program("madvise A «DONTNED"), "unknown advice 'DONTNED'"),
    "missing advice": (program("madvise A«"), "expected the advice"),
    "missing equals": (program("write A «new"), "expected '='"),
    "too many arguments": (program("cond_resched «A"), "unexpected argument"),
    "unknown task": (program("switch «Q"), "unknown task 'Q'"),
    "wait for nothing": (program("wait «cpu1:X"), "cpu1 has no operation 'X'"),
    "wait for no cpu": (program("wait «cpu7:X"), "there is no cpu7"),
    "wait for itself": (program("Z: read A\nwait «cpu0:Z"), "cannot wait for itself"),
    "label twice": (program("Z: read A\n«Z: read A"), "label 'Z' stands twice"),
    "default label taken": (program("read2: read A\n«read A"), "label 'read2' stands twice"),
    "label alone": (program("«Z:"), "a label needs an operation"),
    "loop not closed": (program("repeat «3 as i {\nread A"), "never closed"),
    "loop closed twice": (program("repeat 3 as i {\nread A\n}\n«}"), "no loop is open"),
    "loop count": (program("repeat «0 as i {\nread A\n}"), "number of iterations"),
    "loop on one line": (program("repeat 2 as i { «read A }"), "unexpected 'read'"),
    "loop variable is a vma": (program("repeat 2 as «A {\nread A\n}"), "cannot name this loop"),
    "stray character": (program("read A «! r"), "unexpected '!'"),
    "open parenthesis": (program("read (A+1«"), "missing at the end"),
    "unknown axis": (GOOD + "[matrix]\n«flush_before_set_hug = [true]\n", "unknown key 'flush_before_set_hug'"),
    "axis is no list": (GOOD + "[matrix]\npcid = «true\n", "expected a list"),
    "axis empty": (GOOD + "[matrix]\npcid = «[]\n", "not empty"),
    "axis value": (GOOD + "[matrix]\npt_reclaim = ['off', «'on']\n", "expected one of off, rfc, merged"),
    "axis value twice": (GOOD + "[matrix]\npcid = [true, «'y']\n", "stands twice"),
    "axis preset": (GOOD + "[matrix]\npreset = ['before', «'after']\n", "unknown preset 'after'"),
    "axis cpus too small": (GOOD.replace("[cpu.1]", "[cpu.«1]") + "[matrix]\ncpus = [1, 2]\n", "there is no cpu1"),
    "unknown strategy": (GOOD + "[explore]\nstrategy = «'pctt'\n", "unknown strategy 'pctt'"),
    "runs": (GOOD + "[explore]\nruns = «0\n", "from 1 to"),
    "expect nothing": (GOOD + "[[«expect]]\nnote = 'x'\n", "exactly one of exists, forbidden, always"),
    "expect twice": (GOOD + "[[«expect]]\nexists = 'hazard(leak)'\nalways = 'hazard(leak)'\n", "exactly one of"),
    "expect with one bracket": (GOOD + "[«expect]\nexists = 'hazard(leak)'\n", "expected tables [[expect]]"),
    "expect in no cell": (
        GOOD + "[matrix]\npcid = [true]\n[[expect]]\nwhen = «{ pcid = false }\nexists = 'hazard(leak)'\n", "no cell"),
    "when: unknown": (GOOD + "[[expect]]\nwhen = { «pcidd = false }\nexists = 'hazard(leak)'\n", "unknown knob 'pcidd'"),
    "when: value": (GOOD + "[[expect]]\nwhen = { pcid = [true, «'x'] }\nexists = 'hazard(leak)'\n", "true or false"),
    "unknown hazard": (expect("hazard(«leek)"), "unknown hazard 'leek'"),
    "bare hazard": (expect("«leak"), "a hazard stands in hazard(...)"),
    "unknown term": (expect("«hazrd(leak)"), "unknown term 'hazrd'"),
    "unknown register": (expect("cpu1:r0 == 1 and «cpu1:r1 == 1"), "no operation of cpu1 writes a register 'r1'"),
    "register of no cpu": (expect("«cpu5:r0 == 1"), "there is no cpu5"),
    "unknown metric": (expect("«VmPT == 3"), "unknown name 'VmPT'"),
    "unknown metric in a sum": (expect("VmPTE > 2 + «VmPTE_maxx"), "unknown name 'VmPTE_maxx'"),
    "metric argument": (expect("rss(«anonymous) == 0"), "unknown argument of rss"),
    "level": (expect("pt[A].level == «1g"), "unknown level '1g'"),
    "level of the tlb": (expect("tlb[cpu0][A].level == «table"), "unknown level 'table'"),
    "level is no number": (expect("«pt[A].level == 2"), "compared with a number"),
    "field": (expect("«pt[A].frame == 2"), "expected pt[...].level or .pfn"),
    "frame name": (expect("pt[A].pfn == «old"), "unknown frame 'old'"),
    "memory outside": (expect("mem[«A+4M] == 1"), "outside every VMA"),
    "tlb of no cpu": (expect("tlb[«cpu4][A].pfn == 1"), "there is no cpu4"),
    "two constants": (expect("«2 == 3"), "both sides are constants"),
    "a value alone": (expect("hazard(leak) or «cpu1:r0"), "this is a value"),
    "ever in ever": (expect("ever(«ever(hazard(leak)))"), "cannot stand inside ever()"),
    "unknown event": (expect("count(«tlb_fil) > 1"), "unknown event 'tlb_fil'"),
    "unknown field": (expect("count(tlb_fill, «cpus=1) > 1"), "unknown field of tlb_fill 'cpus'"),
    "fault of nothing": (expect("fault(«cpu1:T) == 0"), "cpu1 has no operation 'T'"),
    "condition syntax": (expect("hazard(leak) and«"), "missing at the end"),
    "condition with escapes": (expect("cpu1:r0 == \\\"old\\\" and hazard(«leek)"), "unknown hazard 'leek'"),
    "pin without form": (GOOD + "[pin]\norder = ['cpu0:Z.pte_clear', '«Z.pte_clear']\n", "expected cpuN"),
    "pin: label": (GOOD + "[pin]\norder = ['cpu0:«Y.pte_clear']\n", "cpu0 has no operation 'Y'"),
    "pin: step": (GOOD + "[pin]\norder = ['cpu0:Z.«pte_clea']\n", "unknown step 'pte_clea'"),
    "pin: cpu": (GOOD + "[pin]\norder = ['«cpu2:flush']\n", "there is no cpu2"),
    "fault: allocation": (GOOD + "[fault]\ntable_batch_alloc = «'fails'\n", "unknown outcome 'fails'"),
    "fault: resched": (GOOD + "[fault]\nneed_resched = ['cpu0:«Y after 100']\n", "cpu0 has no operation 'Y'"),
    "fault: resched form": (GOOD + "[fault]\nneed_resched = ['«cpu0:Z']\n", "expected a place"),
    "fault: callbacks": (GOOD + "[fault]\nrcu_callbacks = «'soon'\n", "unknown time of callbacks"),
    "stress: verb": (GOOD + "[stress]\nper_cpu = 3\nops = { '«raed $page' = 1 }\n", "unknown operation 'raed'"),
    "stress: placeholder": (GOOD + "[stress]\nper_cpu = 3\nops = { 'read «$pag' = 1 }\n", "unknown name '$pag'"),
    "stress: weight": (GOOD + "[stress]\nper_cpu = 3\nops = { 'read $page' = «0 }\n", "from 1 to"),
    "stress: beyond": (GOOD + "[stress]\nper_cpu = 3\nops = { 'munmap «$pmd 4M' = 1 }\n", "outside every VMA"),
    "stress: wait": (GOOD + "[stress]\nper_cpu = 3\nops = { '«wait cpu0:Z' = 1 }\n", "cannot be drawn"),
    "coverage": (GOOD + "[coverage]\nreached = ['tlb_fill', «'tlb_fil']\n", "unknown step or event"),
}  # fmt: skip


PINNED = "[pin]\norder = ['cpu1:R.flush']\n[[expect]]\nexists = 'fault(cpu1:R) == 1 and cpu1:r0 == 1'\n"


def errors(text, path="x.toml"):
    with pytest.raises(ScenarioError) as caught:
        loads(text, path, NAMES)
    return caught.value.diagnostics


def test_the_base_of_the_broken_files_is_good():
    loads(GOOD, "x.toml", NAMES)
    loads(program("read A"), "x.toml", NAMES)
    loads(expect("hazard(leak)"), "x.toml", NAMES)


@pytest.mark.parametrize("case", BROKEN)
def test_error_names_place_and_thing(case):
    marked, fragment = BROKEN[case]
    assert marked.count("«") == 1
    before, after = marked.split("«")
    found = errors(before + after)
    assert len(found) == 1, [d.render() for d in found]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    assert fragment in found[0].message
    assert (found[0].line, found[0].column) == (line, column), found[0].render()
    rendered = found[0].render()
    assert rendered.startswith(f"x.toml:{line}:{column}: error: ")
    caret = rendered.split("\n")[2] if found[0].source else ""
    assert not caret or caret.index("^") == 4 + column - 1


@pytest.mark.parametrize(
    ("case", "hint"),
    [
        ("unknown top key", "did you mean 'title'?"),
        ("unknown section", "did you mean 'machine'?"),
        ("unknown machine key", "did you mean 'cpus'?"),
        ("kernel knob in machine", "belongs in [kernel]"),
        ("unknown preset", "known: before, before-pv, rfc-v1"),
        ("unknown operation", "did you mean 'read'?"),
        ("unknown advice", "did you mean 'DONTNEED'?"),
        ("unknown hazard", "did you mean 'leak'?"),
        ("unknown metric", "did you mean 'VmPTE'?"),
        ("call with parentheses", "as in: madvise A DONTNEED"),
        ("unknown register", "known: r0"),
        ("vmas overlap", "A is 0x7f0000200000..0x7f0000600000"),
        ("missing equals", "usage: write"),
        ("vma kind", "known: anon, anon-shared"),
        ("expect in no cell", "pcid = y"),
    ],
)
def test_error_proposes(case, hint):
    assert hint in errors(BROKEN[case][0].replace("«", ""))[0].hint


def test_all_errors_at_once_sorted():
    text = program("raed A\nread B\nmadvise A DONTNED") + "[[expect]]\nexists = 'hazard(leek)'\n"
    text = text.replace('why = "because"', "what = 1")
    text += "[[expect]]\nalways = 'hazard(leak) or ~hazard(lek) or (cpu1:r9 = 1 or VmPTE == x)'\n"
    found = errors(text)
    places = [(d.line, d.column) for d in found]
    assert places == sorted(places)
    assert [d.message.split("'")[1] for d in found] == ["why", "what", "raed", "B", "DONTNED", "leek", "lek", "r9", "x"]
    assert found[0].line == 0


def test_at_most_twenty():
    found = errors(GOOD + "[coverage]\nreached = [" + ", ".join(f"'no{n}'" for n in range(25)) + "]\n")
    assert len(found) == 21
    assert found[-1].message == "and 5 more"


@pytest.mark.parametrize(
    "text",
    [
        program("read A !\nwait cpu1:R").replace("R: read A", "R: read A «!") + PINNED,  # nor are names of broken programs
        program("repeat x as {\n read A+i*4K\n}\nread «A+4M"),  # the loop is broken, its body is not blamed
        TOP + "[vma.A]\nat = 0x1000\nsize = «'4X'\n" + CPUS + "[[expect]]\nexists = 'mem[A] == 1'\n",
    ],
)
def test_one_cause_is_reported_once(text):
    before, after = text.split("«")
    found = errors(before + after)
    assert found[-1].line == before.count("\n") + 1
    assert len(found) == 1 + ("as {" in text or "A !" in text)


@pytest.mark.parametrize(
    ("data", "fragment"),
    [(b"name = '\xff'\n", "not UTF-8 text: byte 0xff in line 1"), (b"#" * (1 << 20) + b"\n", "larger than")],
)
def test_unreadable_files(tmp_path, data, fragment):
    file = tmp_path / "x.toml"
    file.write_bytes(data)
    with pytest.raises(ScenarioError, match=fragment):
        load(file)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, expect("not " * 900 + "hazard(leak)"), expect("(" * 900)])
def test_depth_is_an_error_and_no_crash(text):
    assert len(errors(text)) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_loads_or_says_why(seed):
    rng, rendered = stream(seed, "damage"), []
    for sample in (FULL, STRESS):
        for _ in range(12):
            at, kind = rng.below(len(sample)), rng.below(3)
            text = sample[:at] + "'\"[]{}=.,#\n$+-*()0x \\:AK"[rng.below(24)] * (kind < 2) + sample[at + kind :]
            try:
                scenario = loads(text, "<damaged>", NAMES)
            except ScenarioError as error:
                rendered += [d.render() for d in error.diagnostics]
            else:
                assert cells(scenario)
                assert expand_stress(scenario, seed)
    assert rendered
    assert all(text.startswith("<damaged>:") for text in rendered)
