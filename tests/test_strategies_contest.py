"""Steps that nobody else can notice are no decision points: what is learnt, what counts as doubt, and that no outcome is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_cases import CASES
from small_machines import cell, machine, run, scenario
from toy_steps import Drop, Get, Life, Put, Take, Watch, actors, direct, puts, turns

from ptactors.config import Config
from ptactors.engine.baton import Baton
from ptactors.engine.contest import Contest
from ptactors.engine.probe import learn
from ptactors.engine.strategy.bounded import Bounded, preemptions
from ptactors.model.rng import SplitMix64
from ptactors.model.state import State
from ptactors.model.step import ANY
from ptactors.oracle.table import Oracles
from ptactors.world import lesson as lessons
from ptactors.world.machine import Machine

Lives = Callable[[], tuple[Life, ...]]


def key_role(key, state):
    return key


def baton(lives: Lives, walk, contest: Contest | None = None, most: int = 2000, **keys) -> Baton:
    made = Baton(State(Config()), actors(*lives(), **keys), walk, max_steps=most, when_quiet=lambda: False, contest=contest)
    if hasattr(walk, "begin"):
        walk.begin(made)
    return made


def contest_of(lives: Lives, role=key_role) -> Contest:
    return learn(lambda walk, seed, most, contest: baton(lives, walk, contest, most), role).contest


def two() -> tuple[Life, ...]:
    """Each counts on a cell of its own, both read one that nobody writes, and one puts what the other gets."""

    async def a() -> None:
        await Put("own a", 1)
        await Get("constant")
        await Put("x", 1)
        await Put("own a", 2)

    async def b() -> None:
        await Get("constant")
        await Get("x")
        await Put("own b", 1)

    return a(), b()


def test_it_learns_who_touches_what() -> None:
    contest = contest_of(two)
    assert contest.contested == {("toy", "x")}
    assert contest.private == {("toy", "own a"), ("toy", "own b"), ("toy", "constant")}


def test_private_steps_are_made_at_once_and_never_shown() -> None:
    watch = Watch(lambda options: len(options) - 1)
    done = direct(baton(two, watch, contest_of(two)))
    assert [[name for name, _, _ in options] for _, options in watch.shown] == [["a", "b"]] or len(watch.shown) == 1
    assert sum(done.eager.values()) >= 4
    assert sorted(turns(done)) == ["a"] * 4 + ["b"] * 3


def test_who_wants_every_turn_is_not_filtered() -> None:
    watch = Watch(every_turn=True)
    done = direct(baton(two, watch, contest_of(two)))
    assert len(watch.shown) == len(done.turns) == 7
    assert not done.eager


def test_actors_that_need_not_move_are_never_hurried() -> None:
    keys = {"a": {"optional": True}}
    watch = Watch(lambda options: len(options) - 1)
    made = baton(two, watch, contest_of(two), **keys)
    direct(made)
    assert 0 not in made.eager


@pytest.mark.parametrize(
    ("key", "private"),
    [
        (("toy", "own a"), True),
        (("toy", "x"), False),
        (("toy", "never seen, of a kind of which one is contested"), False),
        (("toy_lock", "never seen, of a kind that was never seen"), False),
    ],
)
def test_doubt_counts_as_contested(key, private: bool) -> None:
    assert contest_of(two)._is_private(key, State(Config())) is private


def test_an_unknown_cell_of_a_kind_of_which_none_was_contested_is_private() -> None:
    def lives() -> tuple[Life, ...]:
        async def alone() -> None:
            await Take(0, "l")
            await Drop("l")

        return alone(), puts("x", 2), puts("x", 2)

    contest = contest_of(lives)
    assert contest._is_private(("toy_lock", "another"), State(Config()))
    assert not contest._is_private(("toy", "another"), State(Config()))


def test_a_key_for_all_kin_is_contested_if_one_of_them_is() -> None:
    from ptactors.engine.contest import Watch as Probe

    class Step:
        blocking = False

        def __init__(self, reads, writes):
            self._footprint = reads, writes

        def touches(self, state):
            return self._footprint

    class Who:
        def __init__(self, number, step):
            self.id, self.options, self._step = number, (step,), step

        def next_step(self):
            return self._step

    probe = Probe(key_role)
    probe.before(State(Config()), Who(0, Step(((("toy", 1, ANY)),), ())))
    probe.before(State(Config()), Who(1, Step((), (("toy", 1, 5),))))
    probe.before(State(Config()), Who(1, Step((), (("toy", 2, 5),))))
    probe.next_run()
    assert probe.learnt().contested == {("toy", 1, ANY), ("toy", 1, 5)}


def random_lives(seed: int) -> Lives:
    """Three actors, two steps each and one more, on three cells and a lock."""

    def lives() -> tuple[Life, ...]:
        rng = SplitMix64(seed)
        plans = [[(rng.below(4), rng.below(3), rng.below(3)) for _ in range(2)] for _ in range(3)]

        async def life(me: int) -> None:
            seen = 0
            for kind, where, what in plans[me]:
                if kind == 0:
                    seen = seen * 5 + await Get(f"x{where}")
                elif kind == 1:
                    await Put(f"x{where}", 10 * me + what)
                elif kind == 2:
                    await Put(f"own{me}", what)
                else:
                    await Take(me, f"l{where}")
            await Put(f"seen{me}", seen)

        return life(0), life(1), life(2)

    return lives


def finals(lives: Lives, contest: Contest | None) -> tuple[set[str], int]:
    found, runs = set(), 0
    for walk in Bounded(preemptions, None):
        done = direct(baton(lives, walk, contest))
        found.add(repr(sorted(done.state.cells.items())) + repr([actor.done for actor in done.actors]))
        runs += 1
    return found, runs


def test_the_filter_loses_no_final_state_and_no_deadlock() -> None:
    spared = 0
    for seed in range(10):
        lives = random_lives(seed)
        whole, all_runs = finals(lives, None)
        filtered, runs = finals(lives, contest_of(lives))
        assert filtered == whole, seed
        spared += all_runs - runs
    assert spared > 1000


# -- the machine ----------------------------------------------------------------------------------------------------------


def test_roles_of_frames_do_not_tell_their_numbers() -> None:
    made = machine(CASES["race"])
    state = made.state
    root = state.read(("pgd_of", "P"))
    assert lessons.role_of(("entry", root, 3), state) == ("entry", "pgd")
    assert lessons.role_of(("frame", root), state) == ("frame", "pgd")
    assert lessons.role_of(("lock", "pte", 77), state) == ("lock", "pte")
    assert lessons.role_of(("data", 5), state) == ("data",)
    assert lessons.role_of(("tlb", 1), state) == ("tlb", 1)
    assert lessons.family_of(("tlb", 1), state) == ("tlb",)
    made.baton.start()
    made.baton.close()


def test_a_cell_is_learnt_once_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "_LESSONS", {})
    first = run(CASES["race"], 3, strategy="fair-pct:3")
    known = dict(lessons._LESSONS)
    run(CASES["race"], 4, strategy="urw")
    assert list(known) == list(lessons._LESSONS)
    monkeypatch.setattr(lessons, "_LESSONS", {})
    again = run(CASES["race"], 3, strategy="fair-pct:3")
    assert again.digest == first.digest
    (one,), (other,) = known.values(), lessons._LESSONS.values()
    assert (one.contest, one.profile) == (other.contest, other.profile)


def test_how_many_steps_are_no_decisions_depends_on_who_looks() -> None:
    """Without grace periods nobody asks for a CPU's preempt count; with them that is contested, and little is left."""
    share = {}
    for preset in ("before", "v6.14"):
        made = Machine(scenario(CASES["race"]), cell(CASES["race"], preset), "random:contested", 3, Oracles())
        direct(made.baton)
        share[preset] = sum(made.baton.eager.values()) / len(made.baton.turns)
    assert 0 < 2 * share["v6.14"] < share["before"] < 0.8


@pytest.mark.parametrize("strategy", ["portfolio", "pos", "surw", "delay:2"])
@pytest.mark.parametrize("name", ["race", "speculation", "late-callbacks", "early-callbacks", "race-thp-maybe"])
def test_hosts_and_replay_agree_under_filtered_strategies(name: str, strategy: str) -> None:
    for seed in range(5 if strategy == "portfolio" else 2):
        one = run(CASES[name], seed, strategy=strategy, host="direct")
        other = run(CASES[name], seed, strategy=strategy, host="trio")
        assert one.digest == other.digest
        assert run(CASES[name], 99, replay=one.schedule).digest == one.digest
