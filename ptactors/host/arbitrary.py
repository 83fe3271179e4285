"""Arbitrary operation sequences over a small arena, for both sides to agree on.

Left out by construction, because the model has none of it and a sequence cannot bring it about reliably: huge pages of other
sizes than 2 MiB (fuzz.py refuses a machine that has them on), khugepaged (it sleeps ten seconds between scans; a sequence takes
milliseconds), swap and reclaim under pressure (the memory touched is small), addresses and lengths that are no multiples of the
page size (the model's programs speak of pages; the kernel refuses the address and rounds the length), and a sweep that goes on
behind a refused access (a real program would have ended there).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from ptactors.host.program import split
from ptactors.host.sequence import Step
from ptactors.model.paging import PAGE_SIZE, PMD_SIZE

REGIONS = 3
"""2 MiB regions of the arena: one with two neighbours, which a range can cover, cut or meet."""
SPAN = REGIONS * PMD_SIZE
FEW = 16
"""The most accesses of one sweep."""
SMALL = (PAGE_SIZE, 2 * PAGE_SIZE, 16 * PAGE_SIZE)
PLACES = (0, PAGE_SIZE, 3 * PAGE_SIZE, PMD_SIZE // 2, PMD_SIZE - PAGE_SIZE)
"""Where in 2 MiB things begin."""
LENGTHS = (*SMALL, PMD_SIZE // 2, PMD_SIZE - PAGE_SIZE, PMD_SIZE, PMD_SIZE + PAGE_SIZE, 2 * PMD_SIZE, SPAN)
ADVICES = ("DONTNEED", "DONTNEED_LOCKED", "HUGEPAGE", "NOHUGEPAGE", "COLLAPSE")
PROTECTIONS = ("rw", "ro", "none")

_offsets = st.builds(lambda region, place: region * PMD_SIZE + place, st.integers(0, REGIONS - 1), st.sampled_from(PLACES))


def _ranges(lengths: tuple[int, ...]) -> st.SearchStrategy[tuple[int, int]]:
    return st.builds(lambda start, length: (start, min(length, SPAN - start)), _offsets, st.sampled_from(lengths))


def _named(verb: str, where: st.SearchStrategy[tuple[int, int]], *words: st.SearchStrategy[str]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(verb), where, *words).map(lambda parts: (parts[0], *parts[1], *parts[2:]))


def _sweeps(verb: str) -> st.SearchStrategy[Step]:
    """One access, or a few over a range."""
    values = st.integers(1, 3) if verb == "w" else st.none()
    strides = st.sampled_from((PAGE_SIZE, 16 * PAGE_SIZE, PMD_SIZE // 2, PMD_SIZE))

    def sweep(where: tuple[int, int], stride: int, value: int | None) -> Step:
        start, length = where
        few = min(length, stride * FEW)
        return (verb, start, few, stride) if value is None else (verb, start, few, stride, value)

    return st.builds(sweep, _ranges(LENGTHS), strides, values)


_everywhere = _ranges(LENGTHS)
_narrow = _ranges((*SMALL, PAGE_SIZE, 5 * PAGE_SIZE, PMD_SIZE))
"""For what touches every page of its range."""
_advice = st.one_of(
    _named("adv", _everywhere, st.sampled_from(ADVICES)),
    _named("adv", st.builds(lambda n: (n * PMD_SIZE, PMD_SIZE), st.integers(0, REGIONS - 1)), st.sampled_from(ADVICES)),
    _named("adv", _narrow, st.sampled_from(("POPULATE_READ", "POPULATE_WRITE"))),
)
_accesses = st.one_of(_sweeps("w"), _sweeps("r"))
_changes = st.one_of(
    st.one_of(
        st.tuples(st.just("map"), _everywhere, st.sampled_from(PROTECTIONS)).map(lambda p: (p[0], *p[1], "anon", p[2])),
        _named("unmap", _everywhere),
        _named("prot", _everywhere, st.sampled_from(PROTECTIONS)),
    ),
    st.one_of(_named("lock", _narrow), _named("unlock", _everywhere)),
    _named("padv", _everywhere, st.sampled_from(("DONTNEED", "COLLAPSE"))),
)
_single = st.one_of(_accesses, _advice, _changes)
_threaded = st.one_of(_accesses, _advice).map(lambda step: ("t2", *step))
_first = st.sampled_from((("map", 0, SPAN), ("map", 0, PMD_SIZE), ("map", PAGE_SIZE, SPAN - PAGE_SIZE)))


def sequences(most: int) -> st.SearchStrategy[tuple[Step, ...]]:
    """Sequences of up to ``most`` operations, the first of which maps something."""
    single = st.one_of(_single, _single, _single, _threaded)
    rest = st.lists(single, min_size=1, max_size=max(1, most - 1))
    return st.builds(lambda first, steps: tuple(stopped((first, *steps))), _first, rest)


def stopped(steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps, each sweep cut behind its first access that the kernel refuses: only the real one could stop there."""
    allowed: dict[int, str] = {}
    for step in steps:
        thread, bare = split(step)
        if bare[0] in ("w", "r"):
            bare = _cut(bare, allowed)
        else:
            _follow(bare, allowed)
        yield ("t2", *bare) if thread else bare


def _cut(sweep: Step, allowed: dict[int, str]) -> Step:
    verb, start, length, stride, *value = sweep
    wanted = ("rw",) if verb == "w" else ("rw", "ro")
    for at in range(start, start + length, stride):
        if allowed.get(at // PAGE_SIZE) not in wanted:
            return (verb, start, at + 1 - start if at > start else PAGE_SIZE, stride, *value)
    return sweep


def _follow(step: Step, allowed: dict[int, str]) -> None:
    """Keep book of what each page allows. mprotect goes up to the first hole."""
    if step[0] not in ("map", "unmap", "prot"):
        return
    pages = range(step[1] // PAGE_SIZE, (step[1] + step[2]) // PAGE_SIZE)
    for page in pages:
        if step[0] == "unmap":
            allowed.pop(page, None)
        elif step[0] == "map":
            allowed[page] = str(step[4]) if len(step) > 4 else "rw"
        elif page in allowed:
            allowed[page] = str(step[3])
        else:
            return
