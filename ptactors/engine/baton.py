"""The baton: at any moment one actor can move, and this decides which.

Whoever holds the baton makes its granted step, publishes its next one, and asks ``pick`` who moves next; if that is itself it
goes on without any task switch. Which host drives the coroutines (one trio task each, or a plain loop) makes no difference to
what is chosen: the enabled set is always in actor order, with the actor that moved last in front (choice 0 is "go on").

A step that no other actor can notice is no decision, if a ``Contest`` is given that knows such steps: whoever comes to one makes
it at once. As every other pending step was looked at when its actor came to it, only that of the last actor needs a look.

Guards are asked again only when a cell that they read was written (wait lists): with rescanning, 64 CPUs cost nine times more.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Callable
from typing import Any

from ptactors.engine.actor import Actor, Offered
from ptactors.engine.contest import Contest
from ptactors.engine.strategy.base import ALTERNATIVES as ALTERNATIVES
from ptactors.engine.strategy.base import Option, Strategy
from ptactors.model.state import Key, State
from ptactors.model.step import Step

Hook = Callable[[Actor], None]
_FIRST = (0,)


class Baton:
    """Who moves next, and the record of who did."""

    def __init__(
        self,
        state: State,
        actors: tuple[Actor, ...],
        strategy: Strategy,
        *,
        max_steps: int,
        when_quiet: Callable[[], bool],
        contest: Contest | None = None,
    ) -> None:
        self.state = state
        self.actors = actors
        self.strategy = strategy
        self.turns = array("H")
        self.eager: dict[int, int] = {}
        """Actor -> its turns that were taken without a choice because nobody else can notice them."""
        self.limit_reached = False
        self.before: Hook | None = None
        """Called before each step is made (recording, audit)."""
        self.after: Hook | None = None
        """Called after each step."""
        self._max_steps = max_steps
        self._when_quiet = when_quiet
        self._ready: list[int] = []
        self._listed: list[tuple[tuple[Step[Any], ...], tuple[int, ...], list[Option]]] = [((), (), [])] * len(actors)
        """Actor -> the steps it offered, which of them were enabled, and the options made of both when they were last listed."""
        self._busy = 0
        self._last: Actor | None = None
        self._contest = None if strategy.every_turn else contest
        self._unseen = list(reversed(actors))
        """Actors whose first step was not looked at yet, if there is a contest."""
        self._waiters: dict[Key, list[Actor]] = {}
        state.waited = self._waiters  # type: ignore[assignment]  # State asks only whether a cell is in it
        for actor in actors:
            if actor.gate is not None:
                self._waiters.setdefault(actor.gate, []).append(actor)

    def start(self) -> None:
        """Bring every actor to its first step. What a coroutine does before its first step is private, so order is free."""
        for actor in self.actors:
            self.advance(actor, None)

    def advance(self, actor: Actor, value: Any) -> None:
        """Give the actor the result of its step and publish what it offers next."""
        try:
            offered = actor.coroutine.send(value)
        except StopIteration:
            self._retire(actor)
        else:
            self._offer(actor, offered)

    def _retire(self, actor: Actor) -> None:
        actor.done = True
        self._unwait(actor)
        actor.options = ()
        self._set_enabled(actor, ())

    def _offer(self, actor: Actor, offered: Offered) -> None:
        actor.offer(offered)
        blocking = actor.several or offered.blocking  # type: ignore[union-attr]
        if blocking or actor.waiting or not actor.enabled:
            self._publish(actor)
        elif len(actor.enabled) > 1:
            actor.enabled = _FIRST
        # else: it could move before and offers again one step that nothing can hold up; most turns end here

    def make(self, actor: Actor) -> Any:
        """Make the granted step and return what the coroutine is to receive."""
        state = self.state
        state.step += 1
        state.actor = actor.id
        step = actor.options[actor.chosen]
        self.turns.append(actor.id * ALTERNATIVES + actor.chosen)
        if self.before is not None:
            self.before(actor)
        result = step.apply(state)
        if self.after is not None:
            self.after(actor)
        self._last = actor
        if state.touched:
            self._ask_guards_again()
        return (actor.chosen, result) if actor.several else result

    def drive(self, actor: Actor) -> Actor | None:
        """Let the actor that holds the baton move until another one is picked: that one, or None when the run is over.

        The same as make, advance and pick in turn, with the calls taken out of the path that most steps go.
        """
        state, turns, ready = self.state, self.turns, self._ready
        send, every_turn = actor.coroutine.send, self.strategy.every_turn
        code, limit = actor.id * ALTERNATIVES, self._max_steps
        before, after = self.before, self.after
        keeps = getattr(self.strategy, "keeps", None) if self._contest is None else None  # RunLength has it
        while True:
            if actor.several or state.touched:
                self.advance(actor, self.make(actor))
            else:
                state.step += 1
                state.actor = actor.id
                turns.append(code + actor.chosen)
                if before is not None:
                    before(actor)
                result = actor.options[actor.chosen].apply(state)
                if after is not None:
                    after(actor)
                self._last = actor
                if state.touched:
                    self._ask_guards_again()
                try:
                    offered = send(result)
                except StopIteration:
                    self._retire(actor)
                else:
                    self._offer(actor, offered)
            if len(ready) == 1 and actor.enabled == _FIRST and not every_turn and self._busy and len(turns) < limit:
                actor.chosen = 0
                continue
            if keeps is not None and actor.enabled == _FIRST and self._busy and len(turns) < limit and keeps(actor):
                actor.chosen = 0
                continue
            following = self.pick()
            if following is not actor:
                return following

    def pick(self) -> Actor | None:
        """Grant the next turn; None when the run is over."""
        while not self._busy:
            # Only optional actors, or none, can move: whatever can still happen need not.
            if not self._when_quiet():
                return None
            self._ask_guards_again()
        if len(self.turns) >= self._max_steps:
            self.limit_reached = True
            return None
        ready = self._ready
        if len(ready) == 1 and not self.strategy.every_turn:
            only = self.actors[ready[0]]
            if len(only.enabled) == 1:
                only.chosen = only.enabled[0]
                return only
        if self._contest is not None:
            eager = self._eager(self._contest)
            if eager is not None:
                return eager
        options = self._options()
        index = self.strategy.choose(self.state.step + 1, options) if len(options) > 1 or self.strategy.every_turn else 0
        actor, alternative, _ = options[index]
        actor.chosen = alternative
        return actor

    def _eager(self, contest: Contest) -> Actor | None:
        """The actor, if any, whose step is to be made at once: the last one, or one that has not moved at all."""
        last = self._last
        while last is None or last.enabled != _FIRST or last.several or not contest.private_step(last, self.state):
            if not self._unseen:
                return None
            last = self._unseen.pop()
        last.chosen = 0
        self.eager[last.id] = self.eager.get(last.id, 0) + 1
        return last

    def close(self) -> None:
        """End every coroutine that is not done. None of them may await a step while it is closed."""
        for actor in self.actors:
            actor.coroutine.close()

    def _options(self) -> list[Option]:
        last, actors = self._last, self.actors
        options: list[Option] = []
        if last is not None and last.enabled:
            options += self._open(last)
        for actor_id in self._ready:
            actor = actors[actor_id]
            if actor is not last:
                options += self._open(actor)
        return options

    def _open(self, actor: Actor) -> list[Option]:
        """One actor's options: those of the last time while it waits with the same steps."""
        steps, enabled = actor.options, actor.enabled
        listed = self._listed[actor.id]
        if listed[0] is steps and listed[1] == enabled:
            return listed[2]
        made = [Option(actor, alternative, steps[alternative]) for alternative in enabled]
        self._listed[actor.id] = steps, enabled, made
        return made

    def _publish(self, actor: Actor) -> None:
        self._unwait(actor)
        actor.waiting = tuple(cell for step in actor.options if step.blocking for cell in step.waits())
        for cell in actor.waiting:
            self._waiters.setdefault(cell, []).append(actor)
        self._set_enabled(actor, self._enabled(actor))

    def _unwait(self, actor: Actor) -> None:
        for cell in actor.waiting:
            waiters = self._waiters[cell]
            waiters.remove(actor)
            if not waiters:
                del self._waiters[cell]
        actor.waiting = ()

    def _enabled(self, actor: Actor) -> tuple[int, ...]:
        if actor.gate is not None and self.state.cells.get(actor.gate):
            return ()
        options = actor.options
        if len(options) == 1 and not options[0].blocking:
            return (0,)
        state = self.state
        return tuple([i for i, step in enumerate(options) if not step.blocking or step.ready(state)])

    def _set_enabled(self, actor: Actor, enabled: tuple[int, ...]) -> None:
        if bool(enabled) != bool(actor.enabled):
            if enabled:
                insort(self._ready, actor.id)
            else:
                self._ready.remove(actor.id)
            if not actor.optional:
                self._busy += 1 if enabled else -1
        actor.enabled = enabled

    def _ask_guards_again(self) -> None:
        touched, self.state.touched = self.state.touched, []
        for cell in touched:
            for actor in self._waiters.get(cell, ()):
                self._set_enabled(actor, self._enabled(actor))
