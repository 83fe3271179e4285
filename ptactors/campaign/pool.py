"""Work in many processes, its results in the order of the work: nobody can tell from them how many there were."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

from ptactors.errors import WorkerLost

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

WINDOW = 64
"""Pieces in flight beyond one for each process."""
_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent ends."""


def in_order(
    work: Callable[[T], R], tasks: Iterator[tuple[K, T] | None], jobs: int, window: int = WINDOW
) -> Generator[tuple[K, R], None, None]:
    """``work`` done on every task by so many processes (one: this one); ``work`` must be a function of a module.

    ``tasks`` gives None while its next task depends on results that it has not been given yet. Raises WorkerLost.
    """
    if jobs <= 1:
        for piece in tasks:
            if piece is not None:
                yield piece[0], work(piece[1])
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker)
    try:
        yield from _collect(pool, work, tasks, jobs + window)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise WorkerLost from None
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    pool: Executor, work: Callable[[T], R], tasks: Iterator[tuple[K, T] | None], window: int
) -> Generator[tuple[K, R], None, None]:
    waiting: deque[tuple[K, Future[R]]] = deque()
    while True:
        while len(waiting) < window:
            following = next(tasks, None)
            if following is None:  # the end, or what follows depends on what is waiting
                break
            with _undisturbed():
                waiting.append((following[0], pool.submit(work, following[1])))
        if not waiting:
            return
        key, future = waiting.popleft()
        yield key, future.result()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the end: a worker that is started inside inherits that, and cannot be hit before it ignores it."""
    resource_tracker.ensure_running()  # it would let the signal through again when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Ctrl-C reaches the whole process group, and only the parent answers it; a parent that was killed takes its workers along.

    An idle worker would wait for work for ever: it holds both ends of the queue, so nobody tells it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
