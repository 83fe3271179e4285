"""Every position that the index records is read again with tomllib and must give the value that tomllib gave."""

from __future__ import annotations

import datetime
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptactors.scenario.positions import Positions

DOCUMENTS = [
    "a = 1\n",
    "a = 1 # comment with [brackets] and 'quotes'\nb=2",
    "\n\n# only comments\n",
    "a.b.c = 1\na.b.\"d e\" = 2\n'lit'.x = 3\n",
    "[t]\nx = [1, [2, 3], [], [ # c\n 4, # d\n 5,\n]]\ny = {a = 1, b.c = 'x', d = {e = [1]}}\nz = {}\n",
    "[[e]]\na = 1\n[e.sub]\nb = 2\n[[e]]\na = 3\n[e.sub]\nb = 4\n[[e.list]]\nc = 5\n[[e.list]]\nc = 6\n",
    "x = '''\nfirst\nsecond'''\ny = '''no newline'''\nz = ''''quoted''''\n",
    'x = """\nfirst \\\n   joined\\tx\nsecond"""\ny = """a "" b"""\nz = """"q""""\nw = "esc \\" \\u00e9 # no comment"\n',
    "d = 1979-05-27 07:32:00\ne = 1979-05-27\nf = 07:32:00.5\ng = 1979-05-27T07:32:00Z\nh=[1979-05-27 07:32:00,2]\n",
    "i = 0x7f00_0020_0000\nj = -1_000\nk = 1e5\nl = inf\nm = true\nn = 0b1\n",
    '[a."b.c".d]\nx = 1\n[ a . e ]\nx = 2\n["quoted \\" key"]\ny = 1\n',
    "[a]\r\nb = '''\r\none\r\ntwo'''\r\nc = 3\r\n",
    "q = \"\"\nr = ''\ns = \"\"\"\"\"\"\nt = ''''''\nu = 7\n",
    "'bücher' = 'ü'\nb = 1\n",
]


def walk(value, path=()):
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from walk(child, (*path, key))


def check(text):
    data = tomllib.loads(text)
    positions = Positions(text)
    seen = 0
    for path, value in walk(data):
        if path and isinstance(path[-1], str):
            span = positions.keys[path]
            assert next(iter(tomllib.loads(f"{positions.text[span.start : span.end]} = 1"))) == path[-1]
        span = positions.values.get(path)
        if span is None:
            assert isinstance(value, dict | list), path  # only tables made by headers have no value of their own
            continue
        seen += 1
        assert tomllib.loads(f"x = {positions.text[span.start : span.end]}")["x"] == value
        if isinstance(value, str):
            for offset, character in enumerate(value):
                place = positions.inside(path, offset, 1)
                if character.isalnum() and "\\u" not in place.source:
                    found = place.source[place.column - 1]
                    assert found == character or found == "\\", (path, offset)
    assert all(path in dict(walk(data)) for path in positions.values)
    return seen


@pytest.mark.parametrize("text", DOCUMENTS)
def test_every_recorded_slice_reads_as_its_value(text):
    check(text)


def test_the_sample_slices_are_not_empty():
    assert check(DOCUMENTS[4]) > 10


KEYS = st.one_of(st.from_regex(r"\A[A-Za-z0-9_-]{1,5}\Z"), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5))
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.booleans(), TEXT, st.floats(allow_nan=False),
    st.datetimes(min_value=datetime.datetime(1900, 1, 1)), st.dates(datetime.date(1900, 1, 1)),
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8)


def quoted(text, style):
    if style == 1 and "'" not in text and text.isprintable():
        return f"'{text}'"
    if style == 2 and "'" not in text and text.isprintable():
        return f"'''\n{text}'''"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{escaped}"""' if style == 3 else f'"{escaped}"'


def spell(value, style):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value, style)
    if isinstance(value, list):
        gap = " # note\n" if style % 2 else " "
        return "[" + "".join(f"{spell(v, style)},{gap}" for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k, 0)} = {spell(v, 0)}" for k, v in value.items()) + "}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" " if style % 2 else "T")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, st.tuples(VALUES, st.integers(0, 3)), max_size=4), st.sampled_from(["", "[t]\n", "[[t.u]]\n"]))
def test_generated_documents(table, header):
    check(header + "".join(f"{quoted(k, 0)} = {spell(v, style)}\n" for k, (v, style) in table.items()))


def test_place_inside_a_literal_block():
    positions = Positions("[cpu.0]\ndo = '''\n  read A\nwrite\n'''\n")
    path = ("cpu", "0", "do")
    assert (positions.inside(path, 2, 4).line, positions.inside(path, 2, 4).column) == (3, 3)
    assert positions.inside(path, 9, 5).source == "write"
    assert positions.key(("cpu", "0", "nothing")).source == "[cpu.0]"
    assert positions.key(()) is None


def test_place_inside_escapes():
    positions = Positions('x = """a\\tb \\\n    c\\u00e9d"""\n')
    place = positions.inside(("x",), len("a\tb c\u00e9"), 1)
    assert place.source[place.column - 1] == "d"
