"""Footprints are the truth: no step touches what it does not declare, and steps that declare nothing in common commute."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from small_cases import CASES, KNOBS, PRESETS
from small_machines import advance, copy_of, machine, run

from ptactors.engine import host_direct
from ptactors.errors import ModelError
from ptactors.kernel import pgtable
from ptactors.kernel.mm import pgtables
from ptactors.model.state import Key, State
from ptactors.model.step import ANY, Step


@pytest.mark.parametrize("name", CASES)
def test_no_step_touches_what_it_does_not_declare(name: str) -> None:
    for number, preset in enumerate(PRESETS):
        run(CASES[name], number, preset=preset, strategy=("random", "run-length")[number % 2], audit=True, record=False)


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_nor_with_any_single_knob(knobs: dict[str, object]) -> None:
    for number, name in enumerate(CASES):
        run(CASES[name], number, strategy="run-length", audit=True, record=False, **knobs)


def test_a_step_that_hides_a_write_is_caught(monkeypatch) -> None:
    """WriteEntry without the counter that it accounts in the same step."""

    def touches(self: pgtable.WriteEntry, state: State) -> Any:
        keys = tuple(key for key in honest(self, state)[1] if key != pgtables(self.mm))
        return (*keys, pgtable.frame(self.table)), keys

    honest = pgtable.WriteEntry.touches
    monkeypatch.setattr(pgtable.WriteEntry, "touches", touches)
    with pytest.raises(ModelError, match=r"undeclared: it \w+ \('pgtables', 'P'\)"):
        run(CASES["first-touch"], 0, audit=True)


def test_a_step_that_hides_a_read_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(pgtable.ReadPmd, "touches", lambda self, state: ((), ()))
    with pytest.raises(ModelError, match=r"ReadPmd.*undeclared: it reads \('entry', "):
        run(CASES["race"], 0, audit=True)


# -- independent steps commute --------------------------------------------------------------------------------------------


def overlap(one: tuple[Key, ...], other: tuple[Key, ...]) -> bool:
    """Whether two lists of cells meet; a key that ends in ANY meets all its kin."""
    wide = {key[:-1] for key in (*one, *other) if key[-1] == ANY and len(key) > 2}
    reduce = [{key[:-1] if key[:-1] in wide and len(key) > 2 else key for key in keys} for keys in (one, other)]
    return bool(reduce[0] & reduce[1])


def independent(state: State, one: Step[Any], other: Step[Any]) -> bool:
    (r1, w1), (r2, w2) = one.touches(state), other.touches(state)
    r1, r2 = (*r1, *one.waits()), (*r2, *other.waits())
    return not (overlap(w1, w2) or overlap(w1, r2) or overlap(r1, w2))


def applied(state: State, first: tuple[int, Step[Any]], second: tuple[int, Step[Any]]) -> Any:
    """The cells, the results and the events of each actor after both steps."""
    copied = copy_of(state)
    results, told = {}, {}
    for actor, step in (first, second):
        assert not step.blocking or step.ready(copied), f"{step} is no longer ready"
        copied.ring = []
        copied.step, copied.actor = state.step, actor
        results[actor] = step.apply(copied)
        told[actor] = [event for _, _, event in copied.ring]
    return copied.cells, copied.occupied, results, told


@pytest.mark.parametrize("name", CASES)
def test_steps_that_declare_nothing_in_common_commute(name: str) -> None:
    pairs = 0
    for number, preset in enumerate(PRESETS):
        made = machine(CASES[name], number, preset=preset, strategy="random")
        made.baton.start()
        while advance(made.baton, 7):
            state = made.state
            options = [(a.id, a.options[alternative]) for a in made.actors for alternative in a.enabled]
            for one, other in combinations(options, 2):
                if one[0] == other[0] or not independent(state, one[1], other[1]):
                    continue
                pairs += 1
                assert applied(state, one, other) == applied(state, other, one), (one, other)
        made.baton.close()
    assert pairs > 0


def test_the_cases_make_every_kind_of_step() -> None:
    """What no case reaches, the audits above say nothing about."""
    made: set[str] = set()

    class Note:
        def before(self, actor: Any) -> None:
            made.add(type(actor.next_step()).__name__)

        def after(self, actor: Any) -> None:
            pass

    for name, preset in [(name, preset) for name in CASES for preset in PRESETS]:
        each = machine(CASES[name], 1, preset=preset, strategy="run-length")
        each.hook(Note())
        host_direct.run(each.baton)
    for free in ("semi-rcu", "ipi-then-rcu", "synchronize-rcu"):
        each = machine(CASES["race-fail"], 1, strategy="run-length", table_free=free)
        each.hook(Note())
        host_direct.run(each.baton)
    known = {step.__name__ for step in _classes(Step) if step.__module__.startswith("ptactors.")}
    assert known - made == set()
    assert len(known) > 80


def _classes(base: type) -> list[type]:
    return [each for child in type.__subclasses__(base) for each in (child, *_classes(child))]
