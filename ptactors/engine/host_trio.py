"""Each actor in a trio task of its own: the reference host.

Exactly one task is runnable at any time; all others are parked in ``wait_task_rescheduled``. The task that holds the baton makes
its step, asks who is next, and either goes on or wakes that one and parks. trio is never given a choice, so its deliberately
random order of batches does not matter; only its public low-level API is used.
"""

from __future__ import annotations

import trio

from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton


class TrioHost:
    """Runs one schedule inside a running trio loop."""

    def __init__(self, baton: Baton) -> None:
        self._baton = baton
        self._tasks: dict[int, trio.lowlevel.Task] = {}
        self._over = False
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Run all actors to the end of the run. What an actor raises comes out as itself, not in a group."""
        self._baton.start()
        try:
            async with trio.open_nursery() as nursery:
                for actor in self._baton.actors:
                    nursery.start_soon(self._live, actor, name=actor.name)
        finally:
            self._baton.close()
        if self._error is not None:
            raise self._error

    async def _live(self, actor: Actor) -> None:
        self._tasks[actor.id] = trio.lowlevel.current_task()
        try:
            if len(self._tasks) < len(self._baton.actors):
                await self._park(actor)
            else:
                await self._hand_to(self._baton.pick(), actor)
            while not self._over:
                await self._hand_to(self._baton.drive(actor), actor)
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._error = error
            self._end(actor)

    async def _hand_to(self, following: Actor | None, actor: Actor) -> None:
        """Hand the baton on and wait for it to come back."""
        if following is actor:
            return
        if following is None:
            self._end(actor)
            return
        if self._over:  # cancelled from outside: who is to follow is gone, and so are we
            await trio.lowlevel.checkpoint()
            return
        trio.lowlevel.reschedule(self._tasks[following.id])
        await self._park(actor)

    async def _park(self, actor: Actor) -> None:
        def cancelled(_: object) -> trio.lowlevel.Abort:
            self._over = True
            del self._tasks[actor.id]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancelled)

    def _end(self, actor: Actor) -> None:
        """The run is over: let every task go."""
        self._over = True
        for other, task in self._tasks.items():
            if other != actor.id:
                trio.lowlevel.reschedule(task)
