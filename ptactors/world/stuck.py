"""Why nothing can move: who waits for what, and who has it."""

from __future__ import annotations

from ptactors.engine.actor import Actor
from ptactors.hardware.interrupt import WaitIpi, acks, irqs_off
from ptactors.kernel.lock import FREE, SpinLock, lock_cell, lock_name
from ptactors.kernel.mmap_lock import MmapLock, VmaStartWrite, mmap_lock, vma_lock
from ptactors.kernel.rcu import AwaitGp, gp
from ptactors.kernel.syscall import Wait
from ptactors.model.state import State
from ptactors.world.program import AwaitExit


def unfinished(actors: tuple[Actor, ...]) -> list[Actor]:
    """Programs that are neither over nor waiting for the others to be."""
    return [a for a in actors if a.program and not a.done and not isinstance(a.options[0], AwaitExit)]


def kind_of(actors: list[Actor]) -> str:
    """``stall`` if a grace period is what somebody waits for, else ``deadlock``."""
    return "stall" if any(isinstance(a.options[0], AwaitGp) for a in actors) else "deadlock"


def describe(state: State, actors: list[Actor]) -> str:
    """One sentence per actor that waits."""
    return "; ".join(f"{actor.name} waits for {_what(state, actor)}, in {actor.where()}" for actor in actors)


def _cpus(mask: int) -> str:
    return ", ".join(f"cpu{i}" for i in range(mask.bit_length()) if mask >> i & 1) or "nobody"


def _what(state: State, actor: Actor) -> str:
    step = actor.options[0]
    if isinstance(step, SpinLock):
        holder = state.read(lock_cell(step.lock))
        return f"{lock_name(step.lock)}, held by {'nobody' if holder == FREE else f'cpu{holder}'}"
    if isinstance(step, MmapLock):
        held = state.read(mmap_lock(step.mm))
        holders = [held.writer] if held.writer != FREE else list(held.readers)
        return f"mmap_lock of {step.mm}, held by {', '.join(f'cpu{c}' for c in holders)}"
    if isinstance(step, VmaStartWrite):
        return f"the readers of VMA {step.vma}: {', '.join(f'cpu{c}' for c in state.read(vma_lock(step.vma)).readers)}"
    if isinstance(step, WaitIpi):
        mask = state.read(acks(step.cpu))
        off = sum(1 << i for i in range(mask.bit_length()) if mask >> i & 1 and state.read(irqs_off(i)))
        return f"acknowledgements of {_cpus(mask)}" + (f" (interrupts are off on {_cpus(off)})" if off else "")
    if isinstance(step, AwaitGp):
        return f"grace period {step.due}, which waits for {_cpus(state.read(gp()).waiting)}"
    if isinstance(step, Wait):
        return f"operation {step.target}"
    return step.name()
