"""What waits to be made: when two footprints meet, and that they are worked out no more often than they change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from toy_programs import Lives, lesson_of, lost_update, offering, run
from toy_steps import Life, Put

from ptactors.campaign.names import known_names
from ptactors.engine.strategy.base import footprint
from ptactors.engine.strategy.pending import Cells, Pending, Touched
from ptactors.model.step import ANY
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play_many

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"

KEYS = [("toy", "x"), ("toy", "y"), ("alone",), ("entry", 1, ANY), ("entry", 1, 5), ("entry", 2, 5), ("entry", 2, ANY), ("e", 1)]


@pytest.mark.parametrize("a", KEYS)
@pytest.mark.parametrize("b", KEYS)
def test_cells_meet_where_the_definition_says_so(a, b) -> None:
    same = a == b or (len(a) == len(b) > 1 and ANY in (a[-1], b[-1]) and a[:-1] == b[:-1])
    assert Cells((a,)).meets(Cells((b,))) == same
    assert Cells((a, ("other", 7))).meets(Cells((("third", 8), b))) == same
    writes, reads, nothing = Touched(None, ((), (a,))), Touched(None, ((b,), ())), Touched(None, ((), ()))
    assert writes.dependent(reads) == reads.dependent(writes) == writes.dependent(Touched(None, ((), (b,)))) == same
    assert not Touched(None, ((a,), ())).dependent(reads), "two reads"
    assert not writes.dependent(nothing)


class _Counted:
    """Counts how often footprints are asked for."""

    def __init__(self, monkeypatch) -> None:
        self.asked = 0
        touches = Put.touches

        def counted(step, state):
            self.asked += 1
            return touches(step, state)

        monkeypatch.setattr(Put, "touches", counted)


def test_footprints_of_waiting_steps_are_not_worked_out_again_and_again(monkeypatch) -> None:
    """One actor waits with a step that nobody touches while the other makes a hundred."""

    def lives() -> tuple[Life, ...]:
        async def busy() -> None:
            for _ in range(100):
                await Put("x", 1)

        async def waiting(name: str) -> None:
            await Put(name, 1)

        return busy(), *(waiting(f"y{n}") for n in range(7))

    lesson = lesson_of(lives)
    counted = _Counted(monkeypatch)
    steps = len(run(lives, "pos:all", 3, lesson).turns)
    assert steps == 107
    assert counted.asked <= 2 * steps


@pytest.fixture
def audited(monkeypatch) -> Counter[str]:
    """Every decision of a strategy that goes by footprints is compared with what all of them, worked out anew, would say."""
    done: Counter[str] = Counter()
    look, take = Pending.look, Pending.take

    def checked_look(self, options):
        shown = look(self, options)
        assert [touched.step for touched in shown] == [option.step for option in options]
        for touched in shown:
            reads, writes = footprint(touched.step, self._run.state)
            assert (touched.reads.keys, touched.writes.keys) == (frozenset(reads), frozenset(writes)), touched.step
            done["footprints"] += 1
        return shown

    def checked_take(self, options, index):
        fresh = [Touched(step, footprint(step, self._run.state)) for _, _, step in options]
        races = take(self, options, index)
        chosen = options[index].actor
        naive = [o.actor is chosen or fresh[index].dependent(t) for o, t in zip(options, fresh, strict=True)]
        assert races == naive
        done["races"] += sum(races) - 1
        return races

    monkeypatch.setattr(Pending, "look", checked_look)
    monkeypatch.setattr(Pending, "take", checked_take)
    return done


@pytest.mark.parametrize("name", ["pos", "pos:all", "surw", "surw:all"])
@pytest.mark.parametrize("lives", [lost_update, offering], ids=lambda lives: lives.__name__)
def test_kept_footprints_of_programs_are_those_of_the_present_state(audited, lives: Lives, name: str) -> None:
    lesson = lesson_of(lives)
    for seed in range(5):
        run(lives, name, seed, lesson)
    assert audited["races"] > 0


@pytest.mark.parametrize("name", ["pos", "pos:all", "surw", "surw:all"])
@pytest.mark.parametrize("scenario", ["case1-mixed-page-size", "munmap-vs-fault"])
def test_kept_footprints_of_a_kernel_are_those_of_the_present_state(audited, scenario: str, name: str) -> None:
    """What a walk or a fault touches depends on what was written since it was first offered."""
    made = load(SCENARIOS / f"{scenario}.toml", known_names())
    list(play_many(made, cells(made, {}, None)[0], strategy=name, seeds=range(8), host="direct"))
    assert audited["footprints"] > 100
    assert audited["races"] > 0
