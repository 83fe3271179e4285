"""Each actor in a trio task of its own: the reference host.

Exactly one task is runnable at any time; all others are parked in ``wait_task_rescheduled``. The task that holds the baton makes
its step, asks who is next, and either goes on or wakes that one and parks. trio is never given a choice, so its deliberately
random order of batches does not matter; only its public low-level API is used.
"""

from __future__ import annotations

import trio

from ptactors.engine.actor import Actor
from ptactors.engine.baton import Baton


def _abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


class TrioHost:
    """Runs one schedule inside a running trio loop."""

    def __init__(self, baton: Baton) -> None:
        self._baton = baton
        self._tasks: dict[int, trio.lowlevel.Task] = {}
        self._over = False

    async def run(self) -> None:
        """Run all actors to the end of the run."""
        self._baton.start()
        try:
            async with trio.open_nursery() as nursery:
                for actor in self._baton.actors:
                    nursery.start_soon(self._live, actor, name=actor.name)
        finally:
            self._baton.close()

    async def _live(self, actor: Actor) -> None:
        self._tasks[actor.id] = trio.lowlevel.current_task()
        if len(self._tasks) < len(self._baton.actors):
            await trio.lowlevel.wait_task_rescheduled(_abort)
        elif not await self._pass_on(actor):
            return
        while not self._over:
            self._baton.advance(actor, self._baton.make(actor))
            if not await self._pass_on(actor):
                return

    async def _pass_on(self, actor: Actor) -> bool:
        """Hand the baton to whoever is picked and wait for it to come back; False when this task is over."""
        following = self._baton.pick()
        if following is actor:
            return True
        if following is None:
            self._over = True
            del self._tasks[actor.id]
            for task in self._tasks.values():
                trio.lowlevel.reschedule(task)
            return False
        trio.lowlevel.reschedule(self._tasks[following.id])
        if actor.done:
            del self._tasks[actor.id]
            return False
        await trio.lowlevel.wait_task_rescheduled(_abort)
        return True
