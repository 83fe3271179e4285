"""What a run that is kept has beside its events: names of turns, causes of steps, the kernel functions they were made in.

While the run is made only what is gone afterwards is noted: each step, and the functions it was made in. Which step was the cause
of which is found when somebody asks: the steps are values, so they are made once more on a copy of the first state, without
actors, oracles and strategy.

The *cause* of a step is the nearest earlier step that it hangs on:

- the one that last wrote an entry which this step reads, whoever made it (a walk's cause is the store of the entry that it finds,
  be it of the same CPU), or the content of a page, or, by another actor, any other cell that it reads and does not write;
- the one of another actor that let it go on: that wrote a cell of the step's guard (a lock, a mailbox) or ended the interrupt
  handler in front of it, after the last step of its own actor. What had been open all along was not waited for.

Counters and free lists that a step changes are no reason for it, and what was set up before the run has no step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import CoroutineType, GeneratorType
from typing import Any, overload

from ptactors.config import Config
from ptactors.engine.actor import Actor
from ptactors.model.state import Key, Record, State
from ptactors.model.step import ANY, Step

Outside = tuple[int, Key, Any]
"""(steps made before, cell, value): a write of the machine itself between two steps."""


class Recording:
    """Install with ``baton.before`` and ``baton.after``."""

    def __init__(self, state: State) -> None:
        self.records: list[Record] = []
        self.functions: dict[int, str] = {}
        """Step -> the stack of kernel functions it was made in, innermost first; of steps with events."""
        self._state = state
        self._steps: list[Step[Any]] = []
        self._actors: list[Actor] = []
        self._outside: list[Outside] = []
        self._first: tuple[dict[Key, Any], dict[int, int]] = {}, {}
        self._stacks: dict[int, list[tuple[Any, _Call]]] = {}
        """Actor -> the coroutines it was in when last looked at, outermost first."""
        self._writes: list[Key] = []
        self._events = 0
        state.ring = self.records
        state.writes = self._writes

    @property
    def labels(self) -> Sequence[str]:
        """The name of each turn's step."""
        return Names(self._steps)

    @property
    def causes(self) -> Mapping[int, int]:
        """Step -> its cause; found when it is first looked at."""
        return Causes(self._state.config, self._first, self._steps, self._actors, self._outside)

    def before(self, actor: Actor) -> None:
        """The granted step, before it is made."""
        if self._writes or not self._steps:
            self._note_outside()
        self._steps.append(actor.options[actor.chosen])
        self._actors.append(actor)

    def after(self, actor: Actor) -> None:
        """The step has been made; what is written from now on is not its."""
        self._writes.clear()
        events = len(self.records)
        if events == self._events:
            return  # only of events it is told where they happened
        self._events = events
        stack = self._stacks.get(actor.id)
        if stack is None:
            outermost: Any = actor.coroutine
            stack = self._stacks[actor.id] = [(outermost, _Call(outermost.cr_code.co_name))]
        innermost, call = stack[-1]
        inner = innermost.cr_await
        while inner.__class__ is not GeneratorType:  # which is a step; most calls last longer than one
            if inner.__class__ is CoroutineType:
                innermost, call = inner, call.deeper(inner.cr_code.co_name)
                stack.append((innermost, call))
            elif inner is None and len(stack) > 1:  # it has returned
                stack.pop()
                innermost, call = stack[-1]
            else:
                break
            inner = innermost.cr_await
        self.functions[self._state.step] = call.text

    def _note_outside(self) -> None:
        if not self._steps:
            self._first = dict(self._state.cells), dict(self._state.occupied)
        else:
            self._outside += [(len(self._steps), key, self._state.read(key)) for key in self._writes]  # type: ignore[arg-type]
        self._writes.clear()


class _Call:
    """A function with those that called it."""

    __slots__ = ("_inner", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._inner: dict[str, _Call] = {}

    def deeper(self, name: str) -> _Call:
        """The function of that name, called from here."""
        made = self._inner.get(name)
        if made is None:
            made = self._inner[name] = _Call(f"{name} <- {self.text}")
        return made


class Names(Sequence[str]):
    """The names of steps."""

    def __init__(self, steps: Sequence[Step[Any]]) -> None:
        self._steps = steps

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return Names(self._steps[index])
        return self._steps[index].name()

    def __len__(self) -> int:
        return len(self._steps)


class Causes(Mapping[int, int]):
    """Step -> its cause, for the steps that have one."""

    def __init__(
        self,
        config: Config,
        first: tuple[dict[Key, Any], dict[int, int]],
        steps: Sequence[Step[Any]],
        actors: Sequence[Actor],
        outside: Sequence[Outside],
    ) -> None:
        self._config, self._first, self._steps, self._actors, self._outside = config, first, steps, actors, outside
        self._found: dict[int, int] | None = None

    def __getitem__(self, step: int) -> int:
        return self._table()[step]

    def __iter__(self) -> Iterator[int]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self._table())

    def _table(self) -> dict[int, int]:
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> dict[int, int]:
        state = State(self._config)
        state.cells, state.occupied = dict(self._first[0]), dict(self._first[1])
        writes: list[Key] = []
        state.writes = writes
        outside = list(reversed(self._outside))
        known = _Written()
        found: dict[int, int] = {}
        for now, (step, actor) in enumerate(zip(self._steps, self._actors, strict=True), 1):
            while outside and outside[-1][0] < now:
                _, key, value = outside.pop()
                state.write(key, value)  # type: ignore[arg-type]  # a Cell is a tuple
            writes.clear()
            cause = known.cause(step, actor, state)
            if cause:
                found[now] = cause
            state.step, state.actor = now, actor.id
            step.apply(state)
            known.note(now, actor, writes)
        return found


class _Written:
    """Who wrote each cell last."""

    def __init__(self) -> None:
        self._last: dict[Key, tuple[int, int]] = {}
        """Key -> (step, actor); for entries also under the key that stands for all of a table."""
        self._own: dict[int, int] = {}
        """Actor -> its last step."""

    def note(self, now: int, actor: Actor, writes: Sequence[Key]) -> None:
        """The step wrote these."""
        mark = now, actor.id
        for key in writes:
            self._last[key] = mark
            if key[0] == "entry":
                self._last["entry", key[1], ANY] = mark
        self._own[actor.id] = now

    def cause(self, step: Step[Any], actor: Actor, state: State) -> int:
        """The step that this one hangs on most nearly; 0: there is none."""
        reads, writes = step.touches(state)
        last, me = self._last, actor.id
        latest = 0
        for key in reads:
            at, by = last.get(key, (0, me))
            if at > latest and (key[0] == "entry" or (key not in writes and (by != me or key[0] == "data"))):
                latest = at
        since = self._own.get(me, 0)
        for key in (*step.waits(), *((actor.gate,) if actor.gate is not None else ())):
            at, by = last.get(key, (0, me))
            if at > latest and at > since and by != me:
                latest = at
        return latest
