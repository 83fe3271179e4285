"""Arbitrary operation sequences over a small arena, for both sides to agree on.

Left out by construction, because the model has none of it and a sequence cannot bring it about reliably: huge pages of other
sizes than 2 MiB (fuzz.py refuses a machine that has them on), swap and reclaim under pressure (the memory touched is small),
addresses and lengths that are no multiples of the page size (the model's programs speak of pages; the kernel refuses the address
and rounds the length), and a sweep that goes on behind a refused access (a real program would have ended there). khugepaged
cannot be left out, as it scans whatever asked for huge pages; it sleeps for seconds and a sequence takes milliseconds, so what
it does is not there when the sequence is made again.
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
    return st.tuples(where, *words).map(lambda parts: (verb, *parts[0], *parts[1:]))


def _sweeps(verb: str) -> st.SearchStrategy[Step]:
    """One access, or a few over a range."""
    values = st.integers(1, 3) if verb == "w" else st.none()
    strides = st.sampled_from((PAGE_SIZE, 16 * PAGE_SIZE, PMD_SIZE // 2, PMD_SIZE))

    def sweep(where: tuple[int, int], stride: int, value: int | None) -> Step:
        start, length = where
        few = min(length, stride * FEW)
        return (verb, start, few, stride) if value is None else (verb, start, few, stride, value)

    return st.builds(sweep, _ranges(LENGTHS), strides, values)


def _whole(first: int, count: int) -> tuple[int, int]:
    """So many regions from there on, at most to the end."""
    return first * PMD_SIZE, min(count, REGIONS - first) * PMD_SIZE


def _weighted(*choices: tuple[int, st.SearchStrategy[Step]]) -> st.SearchStrategy[Step]:
    """One of them, as often as its weight says; one_of() would spread evenly over all that they are made of."""
    return st.sampled_from([n for n, (weight, _) in enumerate(choices) for _ in range(weight)]).flatmap(lambda n: choices[n][1])


_everywhere = _ranges(LENGTHS)
_regions = st.builds(_whole, st.integers(0, REGIONS - 1), st.integers(1, REGIONS))
_narrow = _ranges((*SMALL, PAGE_SIZE, 5 * PAGE_SIZE, PMD_SIZE))
"""For what touches every page of its range."""
_protections = st.sampled_from(PROTECTIONS)
_advice = _weighted(
    (4, _named("adv", _regions, st.just("DONTNEED"))),
    (3, _named("adv", _regions, st.sampled_from(("HUGEPAGE", "COLLAPSE")))),
    (1, _named("adv", _everywhere, st.just("DONTNEED"))),
    (1, _named("adv", _everywhere, st.sampled_from(ADVICES))),
    (1, _named("adv", _narrow, st.sampled_from(("POPULATE_READ", "POPULATE_WRITE")))),
    (1, _named("padv", _everywhere, st.sampled_from(("DONTNEED", "COLLAPSE")))),
)
_changes = _weighted(
    (2, st.builds(lambda where, prot: ("map", *where, "anon", prot), _everywhere, _protections)),
    (2, _named("unmap", _everywhere)),
    (3, _named("prot", _everywhere, _protections)),
    (1, _named("lock", _narrow)),
    (1, _named("unlock", _everywhere)),
)
_accesses = _weighted((2, _sweeps("w")), (1, _sweeps("r")))
_threaded = _weighted((1, _accesses), (1, _advice)).map(lambda step: ("t2", *step))
_steps = _weighted((4, _accesses), (4, _advice), (3, _changes), (1, _threaded))
_ALL = ("map", 0, SPAN)
_beginnings = st.sampled_from(
    (
        (_ALL,),
        (_ALL,),
        (_ALL, ("w", 0, SPAN, PMD_SIZE, 1)),
        (_ALL, ("w", 0, SPAN, PMD_SIZE // 2, 2)),
        (_ALL, ("adv", 0, SPAN, "HUGEPAGE")),
        (_ALL, ("adv", 0, PMD_SIZE, "HUGEPAGE"), ("w", 0, PAGE_SIZE, PAGE_SIZE, 1)),
        (_ALL, ("adv", 0, SPAN, "HUGEPAGE"), ("r", 0, SPAN, PMD_SIZE)),
        (("map", 0, PMD_SIZE),),
        (("map", PAGE_SIZE, SPAN - PAGE_SIZE),),
    )
)


def sequences(most: int) -> st.SearchStrategy[tuple[Step, ...]]:
    """Sequences of up to ``most`` operations (not fewer than 4), the first of which maps something."""
    rest = st.integers(1, max(1, most - 3)).flatmap(lambda count: st.lists(_steps, min_size=count, max_size=count))
    return st.builds(lambda first, steps: tuple(stopped((*first, *steps))), _beginnings, rest)


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
