"""Style is a test: layers, gatekeepers, sizes, tables that are complete, and nothing that does nothing."""

from __future__ import annotations

import ast
import functools
import re
import tokenize
from pathlib import Path

import pytest

import ptactors.world  # noqa: F401  # every step class exists
from ptactors.config import HARDWARE_NOTES, HARDWARE_PRESETS, KERNEL_KNOBS, MACHINE_KNOBS, PRESET_NOTES, PRESETS
from ptactors.kernel.table import OPERATIONS
from ptactors.model import event as events
from ptactors.model.event import EVENTS
from ptactors.model.state import FAMILIES
from ptactors.model.step import Step
from ptactors.oracle.table import HAZARDS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ptactors"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

BELOW: dict[str, tuple[str, ...]] = {
    "errors": (),
    "config": ("errors",),
    "model": (),
    "engine": ("model",),
    "hardware": ("model", "engine"),
    "kernel": ("model", "engine", "hardware"),
    "oracle": ("model",),
    "scenario": ("model", "engine", "hardware", "kernel", "oracle"),
    "world": ("model", "engine", "hardware", "kernel", "oracle", "scenario"),
    "log": ("model",),
    "analysis": ("model", "oracle", "log"),
    "campaign": ("model", "engine", "hardware", "kernel", "oracle", "scenario", "world", "log", "analysis"),
    "shrink": ("model", "engine", "kernel", "oracle", "scenario", "world", "log", "analysis", "campaign"),
    "report": ("model", "engine", "oracle", "scenario", "world", "log", "analysis", "campaign", "shrink"),
    "explain": ("model", "engine", "oracle", "scenario", "world", "log", "analysis", "campaign", "shrink", "report"),
    "host": (
        "model",
        "engine",
        "hardware",
        "kernel",
        "oracle",
        "scenario",
        "world",
        "log",
        "analysis",
        "campaign",
        "report",
        "shrink",
    ),
}
"""Room -> the rooms it may import, beside errors, config and itself; cli may import anything, and nothing imports cli."""
NARROW = {
    ("scenario", "engine"): ("ptactors.engine.strategy.table",),
    ("scenario", "kernel"): ("ptactors.kernel.table", "ptactors.kernel.operation", "ptactors.kernel"),
    ("scenario", "oracle"): ("ptactors.oracle.table", "ptactors.oracle"),
}
"""Where a room may import only tables of another: (importer, imported) -> modules."""
GATES: dict[str, tuple[str, ...]] = {
    "trio": ("engine/host_trio.py", "world/", "cli/"),
    "structlog": ("log/",),
    "time": ("cli/", "host/"),
    "datetime": ("cli/", "host/"),
    "random": (),
    "uuid": (),
    "secrets": (),
    "asyncio": (),
    "threading": (),
    "click": ("cli/",),
    "rich": ("cli/", "report/"),
    "lark": ("scenario/",),
    "platform": ("cli/",),
    "socket": ("cli/",),
}
"""Module -> where it may be imported."""
FILE_ROOMS = ("scenario/", "engine/schedule.py", "log/", "report/", "host/", "cli/", "campaign/")
"""Who may open, read or write files."""

IDENTITY = {
    "hardware/tlb.py": ("hash",),  # __hash__ of a dictionary, by content
    "engine/automaton.py": ("hash", "id"),  # keys of a table that lives and dies in one process; nothing is ordered by them
}
"""Where hash() or id() decide nothing that anybody could see, and why."""


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import, function-level ones too; ``from a import b`` counts as a.b if that is a module."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno}: a relative import hides its layer"
            base = node.module or ""
            for alias in node.names:
                target = ROOT / Path(*base.split("."), alias.name)
                is_module = target.is_dir() or target.with_suffix(".py").exists()
                found.append((node.lineno, f"{base}.{alias.name}" if is_module else base))
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_respect_the_layers(path: Path) -> None:
    here = room(path)
    for line, module in imports(path):
        if not module.startswith("ptactors"):
            continue
        there = module.split(".")[1] if "." in module else ""
        where = f"{place(path)}:{line} imports {module}"
        assert there != "cli" or here in ("cli", "__main__"), f"{where}: nothing imports the command line"
        if here in ("cli", "__init__", "__main__") or there in (here, "errors", "config", ""):
            assert here != "errors" or there == "", where
            continue
        assert there in BELOW[here], f"{where}: {here} may import only {BELOW[here]}"
        allowed = NARROW.get((here, there))
        assert allowed is None or module in allowed, f"{where}: {here} may import only {allowed}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_third_party_and_clock_modules_have_gatekeepers(path: Path) -> None:
    for line, module in imports(path):
        gate = GATES.get(module.split(".")[0])
        assert gate is None or place(path).startswith(gate or ("-",)), f"{place(path)}:{line} imports {module}; allowed in {gate}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_touched_in_few_rooms(path: Path) -> None:
    if place(path).startswith(FILE_ROOMS):
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = (
                node.func.id
                if isinstance(node.func, ast.Name)
                else node.func.attr
                if isinstance(node.func, ast.Attribute)
                else ""
            )
            assert name not in ("open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink"), (
                f"{place(path)}:{node.lineno} calls {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_depends_on_addresses_hashes_or_the_environment(path: Path) -> None:
    """The model has no other input than scenario, cell and seed."""
    if room(path) in ("cli", "host", "campaign"):
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in ("id", "hash", "input", "print") and name not in IDENTITY.get(place(path), ()):
                pytest.fail(f"{place(path)}:{node.lineno} calls {name}()")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "getenv", "urandom", "getpid"), f"{place(path)}:{node.lineno} os.{node.attr}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_sizes(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 500, f"{place(path)} has {lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 70, f"{place(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").glob("*.py"))], ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_left_to_be_done(path: Path) -> None:
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                assert not words.search(token.string), f"{path.name}:{token.start[0]}: {token.string.strip()}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_begins_with_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), place(path)
    future = [n for n in tree(path).body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    only_constants = all(isinstance(n, ast.Expr | ast.Assign) for n in tree(path).body)
    assert future or only_constants, f"{place(path)}: from __future__ import annotations"


def test_no_module_is_dead() -> None:
    used = {module for path in FILES for _, module in imports(path)}
    used |= {".".join(m.split(".")[:n]) for m in used for n in range(1, m.count(".") + 1)}
    strings = {n.value for p in FILES for n in ast.walk(tree(p)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("ptactors", "ptactors.__main__"):
            assert name in used or name in strings, f"{name} is imported by nobody"


# -- tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_it_mirrors(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.name == name
    assert operation.mirrors.strip()
    assert operation.source.strip()
    assert operation.summary.strip()
    assert operation.steps
    assert all(issubclass(step, Step) for step in operation.steps)
    assert set(operation.locks) <= {"vma", "mmap", "page_table", "pmd", "pte"}


KNOBS = {**KERNEL_KNOBS, **MACHINE_KNOBS}


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_tells_its_story(name: str) -> None:
    metadata = KNOBS[name].metadata
    for key in ("effect", "counterpart", "source"):
        assert metadata.get(key, "").strip(), f"{name}: {key}"


@functools.cache
def _attributes_read() -> frozenset[str]:
    """Every attribute that some module besides config.py loads."""
    found = set()
    for path in FILES:
        if place(path) != "config.py":
            found |= {n.attr for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    return frozenset(found)


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_does_something(name: str) -> None:
    if KNOBS[name].metadata["effect"].startswith("reserved"):
        return
    assert name in _attributes_read(), f"knob {name} is read by nobody"


def test_presets_name_existing_knobs_and_have_notes() -> None:
    assert set(PRESETS) == set(PRESET_NOTES)
    assert set(HARDWARE_PRESETS) == set(HARDWARE_NOTES)
    for preset in (*PRESETS.values(), *HARDWARE_PRESETS.values()):
        for name, value in preset.items():
            assert type(value) is type(KNOBS[name].default), name


def _classes(base: type) -> list[type]:
    return [each for child in type.__subclasses__(base) for each in (child, *_classes(child))]


STEPS = [step for step in _classes(Step) if step.__module__.startswith("ptactors.") and hasattr(step, "__attrs_attrs__")]
STEPS = list({f"{step.__module__}.{step.__qualname__}": step for step in STEPS}.values())


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.__name__)
def test_every_step_is_whole(step: type[Step]) -> None:
    assert step.label or step.name is not Step.name, "neither label nor name()"
    assert step.apply is not Step.apply
    assert step.touches is not Step.touches
    assert (step.ready is not Step.ready) == (step.waits is not Step.waits)
    assert (step.ready is not Step.ready) == bool(step.blocking)
    assert step.__doc__
    assert not step.__doc__.startswith("Method generated by attrs")


def test_there_are_steps() -> None:
    assert len(STEPS) > 80


LABELS = re.compile(r"[a-z][a-z0-9_]*$")


@pytest.mark.parametrize("step", [s for s in STEPS if s.label], ids=lambda s: s.__name__)
def test_labels_can_be_pinned(step: type[Step]) -> None:
    assert LABELS.match(step.label)


@functools.cache
def _called() -> frozenset[str]:
    """Names that are called somewhere outside of model/event."""
    found = set()
    for path in FILES:
        if not place(path).startswith("model/event"):
            calls = [n.func for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
            found |= {f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, ast.Name | ast.Attribute)}
    return frozenset(found)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda k: k.__name__)
def test_every_event_is_emitted_somewhere(kind: type) -> None:
    assert kind.__name__ in _called(), f"{kind.__name__} ({EVENTS[kind]}) is emitted by nobody"
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


def test_the_table_of_events_is_complete_and_its_names_are_unique() -> None:
    declared = {
        each for name, each in vars(events).items() if isinstance(each, type) and issubclass(each, tuple) and name != "NamedTuple"
    }
    assert declared == set(EVENTS)
    assert len(set(EVENTS.values())) == len(EVENTS)


def test_every_family_of_cells_has_a_meaning_and_an_immutable_default() -> None:
    for family in FAMILIES.values():
        assert family.meaning
        hash(family.default)


@pytest.mark.parametrize("name", HAZARDS)
def test_every_hazard_has_its_page(name: str) -> None:
    oracle = HAZARDS[name]
    assert oracle.name == name
    assert oracle.source
    assert oracle.__doc__
    for field in ("meaning", "kernel", "avoided", "knob", "scenario"):
        assert getattr(oracle.rule, field).strip(), field


def test_the_top_level_is_what_was_agreed() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "ptactors", "scenarios", "tests", "logs"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= allowed
