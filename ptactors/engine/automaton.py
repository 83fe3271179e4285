"""Memoised actors: a coroutine as an automaton that is built on demand.

An actor sees shared state only through the results of its steps, so what it will do next is a function of those results. A *node*
stands for "what the actor will do next", an edge for a result; only where an edge is missing is a fresh coroutine fed with the
recorded results, without any effect, to learn its next step.

Two histories may lead to one node if the actor's whole private state is equal after both: for every coroutine frame its code, its
position, its live local variables and the temporaries on its value stack. Kernel code need not say what may be forgotten (which a
prototype did by hand, at the price of silent losses where the hand erred): liveness is read from the byte code, the temporaries
from the frame itself. What remains to be trusted is watched: each time two histories merge, the new one is followed through all
that is known from the node on and all that is learned later, and every answer is compared (:class:`MergeError`). One step is not
enough: a local may be carried through many before it is used, and then states are lost, or made up, unnoticed.

CPython only: frames are read by ``gc.get_referents``. Private objects (a gather, a CPU's context) count by their content.
"""

from __future__ import annotations

import dis
import enum
import functools
import gc
import hashlib
from collections.abc import Callable, Coroutine, Hashable, Iterator
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any

import attrs

from ptactors.engine.actor import Actor
from ptactors.errors import ModelError
from ptactors.model.step import AnyOf, Step

Factory = Callable[[], Coroutine[Any, Any, None]]
_WATCHED = 500
"""Histories beside its own that are followed on from each node."""
_UNCONDITIONAL = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RETURN_VALUE", "RAISE_VARARGS", "RERAISE")


_PLAIN = frozenset({int, str, float, bytes, range, type(None)})
"""Classes whose objects stand for themselves."""


class MergeError(ModelError):
    """Two histories that were taken for equal are not: the key of a frame misses something."""


@functools.cache
def live_after(code: CodeType) -> dict[int, frozenset[str]]:
    """Offset of an instruction -> the fast locals that may be read after it before they are written."""
    instructions = list(dis.get_instructions(code))
    position = {instruction.offset: i for i, instruction in enumerate(instructions)}
    following: list[list[int]] = []
    for i, instruction in enumerate(instructions):
        goes = [i + 1] if instruction.opname not in _UNCONDITIONAL and i + 1 < len(instructions) else []
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            goes.append(position[instruction.argval])
        following.append(goes)
    before: list[frozenset[str]] = [frozenset()] * len(instructions)
    changed = True
    while changed:
        changed = False
        for i in range(len(instructions) - 1, -1, -1):
            after = frozenset().union(*(before[j] for j in following[i]))
            now = _before(instructions[i], after)
            if now != before[i]:
                before[i], changed = now, True
    return {
        instruction.offset: frozenset().union(*(before[j] for j in following[i])) for i, instruction in enumerate(instructions)
    }


def _before(instruction: dis.Instruction, after: frozenset[str]) -> frozenset[str]:
    """Transfer function; superinstructions of newer releases name two variables."""
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    operations = [part for part in instruction.opname.split("__") if "_FAST" in part]
    if not operations:
        return after
    if len(names) == 2:
        half = instruction.opname.split("_FAST_", 1)
        operations = [half[0] + "_FAST", half[1]]
        pairs = list(zip(operations, names, strict=True))
    else:
        pairs = [(instruction.opname, names[0])]
    for operation, name in reversed(pairs):
        if operation.startswith(("STORE", "DELETE")):
            after -= {name}
        else:
            after |= {name}
    return after


def freeze(value: Any) -> Hashable:
    """The content of a private value, as something that can be compared."""
    if value.__class__ in _PLAIN:
        return value  # type: ignore[no-any-return]
    if isinstance(value, int | str | float | bytes | range | enum.Enum | Step | type | CodeType):
        return (type(value).__name__, value) if isinstance(value, bool) else value
    if isinstance(value, tuple):
        return (type(value), tuple(map(freeze, value)))
    if isinstance(value, list):
        return ("list", tuple(map(freeze, value)))
    if isinstance(value, dict):
        return ("dict", tuple((freeze(k), freeze(v)) for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(freeze, value)))
    if isinstance(value, AnyOf):
        return ("any of", value.steps)
    if isinstance(value, MethodType):
        return ("method", value.__func__, freeze(value.__self__))
    if isinstance(value, FunctionType | BuiltinFunctionType | ModuleType | Actor):
        return ("constant", id(value)) if not isinstance(value, Actor) else ("actor", value.id)
    if isinstance(value, CellType):
        return ("cell", freeze(value.cell_contents))
    if isinstance(value, CoroutineType | GeneratorType):
        return frames(value)
    if isinstance(value, Iterator):  # tuples', ranges', itertools': their pickled form says where they stand
        return ("iterator", freeze(value.__reduce__()))
    return _freeze_object(value)


def _freeze_object(value: Any) -> Hashable:
    if isinstance(value, functools.partial):
        return ("partial", freeze(value.func), freeze(value.args), freeze(value.keywords))
    if not attrs.has(type(value)) or isinstance(value, AsyncGeneratorType):
        raise ModelError(f"cannot compare a private {type(value).__name__} of an actor by its content")
    try:
        hash(value)
    except TypeError:
        pass
    else:
        if getattr(type(value), "__hash__", None) is not object.__hash__:
            return (type(value), value)
    return (type(value), tuple(freeze(getattr(value, field.name)) for field in attrs.fields(type(value))))


def frames(coroutine: Any) -> Hashable:
    """The private state of a suspended coroutine or generator, all frames below it included."""
    keys: list[Hashable] = []
    inner = coroutine
    while isinstance(inner, CoroutineType | GeneratorType):
        below = inner.cr_await if isinstance(inner, CoroutineType) else inner.gi_yieldfrom
        keys.append(_frame(inner, below))
        inner = below
    return tuple(keys)


def _frame(coroutine: Any, below: object) -> Hashable:
    frame = coroutine.cr_frame if isinstance(coroutine, CoroutineType) else coroutine.gi_frame
    if frame is None:
        return ("done",)
    code: CodeType = frame.f_code
    bound = frame.f_locals
    live = live_after(code).get(frame.f_lasti, frozenset(bound)) if frame.f_lasti >= 0 else frozenset(bound)
    captured = {*code.co_cellvars, *code.co_freevars}
    named = tuple((name, freeze(bound[name])) for name in bound if name in live or name in captured)
    slots = len({name for name in code.co_varnames if name in bound} | captured)
    return (code, frame.f_lasti, named, _temporaries(coroutine, code, slots, below))


def _temporaries(coroutine: object, code: CodeType, slots: int, below: object) -> tuple[Hashable, ...]:
    """What stands on the value stack of a frame, such as the iterators of its loops: it is listed behind the local variables."""
    referents = gc.get_referents(coroutine)
    start = len(referents) - referents[::-1].index(code)
    stack = referents[start + slots :]
    if below is not None:  # the top of the stack; what is listed behind it is the exception state
        stack = stack[: next(i for i, each in enumerate(stack) if each is below)]
    elif stack and stack[-1] is None:
        del stack[-1]
    return tuple(map(freeze, stack))


def digest_of(content: object) -> int:
    """128 bits that stand for what ``content`` is printed as."""
    return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=16).digest(), "big")


def everything(coroutine: Any) -> Hashable:
    """All that the frames of a coroutine refer to, dead or alive; for the audit, which trusts neither liveness nor layout."""
    keys: list[Hashable] = []
    inner = coroutine
    while isinstance(inner, CoroutineType | GeneratorType):
        frame = inner.cr_frame if isinstance(inner, CoroutineType) else inner.gi_frame
        below = inner.cr_await if isinstance(inner, CoroutineType) else inner.gi_yieldfrom
        at = frame.f_lasti if frame is not None else None
        keys.append((at, tuple(_loosely(each) for each in gc.get_referents(inner) if each is not below)))
        inner = below
    return tuple(keys)


def _loosely(value: Any) -> Hashable:
    try:
        return freeze(value)
    except (ModelError, ValueError):  # something of another kind; an empty cell
        return type(value).__name__


@attrs.define(eq=False)
class Node:
    """What an actor will do next."""

    number: int
    """In the order of discovery, within its actor's automaton."""
    options: tuple[Step[Any], ...]
    """The steps it offers; none: it is done."""
    several: bool
    """Whether it is told which one was granted."""
    history: tuple[Any, ...]
    """Results that lead here, of the history that found it."""
    where: str
    """The functions it is in, innermost first."""
    label: str
    """The operation it is in."""
    digest: int
    """A name of 128 bits: the actor's and the number."""
    edges: dict[tuple[int, Any], Node] = attrs.field(factory=dict)
    """(option, result) -> what follows."""
    others: list[tuple[Any, ...]] = attrs.field(factory=list)
    """Histories that were taken for equal to ``history`` though something private differs; each difference once."""
    lives: dict[Hashable, None] = attrs.field(factory=dict)
    """All that is private (:func:`everything`) after ``history`` and after each of ``others``."""


class Automaton:
    """One actor, memoised."""

    def __init__(self, name: str, factory: Callable[[], tuple[Coroutine[Any, Any, None], Callable[[], str]]]) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.sends = 0
        """How often a coroutine was resumed to learn something."""
        self.merges = 0
        """How often a history was found to lead to a known node, and audited."""
        self._factory = factory
        self._known: dict[Hashable, Node] = {}
        self.root = self._learn(())

    def follow(self, node: Node, option: int, result: Any) -> Node:
        """The node after ``options[option]`` of ``node`` was granted and gave ``result``."""
        edge = (option, result)
        found = node.edges.get(edge)
        if found is None:
            found = self._learn(_longer(node, node.history, edge))
            node.edges[edge] = found
            for other in node.others:
                self._watch(found, _longer(node, other, edge))
        return found

    def _learn(self, history: tuple[Any, ...]) -> Node:
        coroutine, label, offered = self._replay(history)
        steps = () if offered is None else offered.steps if isinstance(offered, AnyOf) else (offered,)
        key = (steps, frames(coroutine)) if steps else "done"
        known = self._known.get(key)
        if known is not None:
            coroutine.close()
            self._audit(known, history)
            return known
        number = len(self.nodes)
        name = digest_of((self.name, number))
        node = Node(number, steps, isinstance(offered, AnyOf), history, _where(coroutine), label(), name)
        node.lives[everything(coroutine)] = None
        coroutine.close()
        self._known[key] = node
        self.nodes.append(node)
        return node

    def _replay(self, history: tuple[Any, ...]) -> tuple[Coroutine[Any, Any, None], Callable[[], str], Any]:
        """A fresh coroutine that has lived through ``history``, and what it offers now (None: it is done)."""
        coroutine, label = self._factory()
        offered: Any = None
        try:
            offered = coroutine.send(None)
            for result in history:
                offered = coroutine.send(result)
        except StopIteration:
            offered = None
        self.sends += len(history) + 1
        return coroutine, label, offered

    def _audit(self, node: Node, history: tuple[Any, ...]) -> None:
        """Two histories were merged into ``node``: go on with the new one wherever the old one went."""
        self.merges += 1
        self._watch(node, history)

    def _watch(self, node: Node, history: tuple[Any, ...]) -> None:
        """Hold all that is known from ``node`` on against this history, and what will be learned later."""
        ahead = [(node, history)]
        met: dict[int, None] = {}
        while ahead:
            here, lived = ahead.pop()
            life = self._compare(here, lived)
            if here.number in met or life in here.lives or len(here.others) >= _WATCHED:
                continue
            met[here.number] = here.lives[life] = None
            here.others.append(lived)
            ahead += [(successor, _longer(here, lived, edge)) for edge, successor in here.edges.items()]

    def _compare(self, node: Node, history: tuple[Any, ...]) -> Hashable:
        """All that is private after a history that must lead to the steps of the node."""
        coroutine, _, offered = self._replay(history)
        steps = () if offered is None else offered.steps if isinstance(offered, AnyOf) else (offered,)
        life = everything(coroutine)
        coroutine.close()
        if steps != node.options:
            raise MergeError(
                f"{self.name}: two histories merged at {node.where or 'the end'} go on differently: {steps} and {node.options}"
            )
        return life


def _longer(node: Node, history: tuple[Any, ...], edge: tuple[int, Any]) -> tuple[Any, ...]:
    """A history that leads to ``node``, and one step more."""
    return (*history, edge if node.several else edge[1])


def _where(coroutine: Any) -> str:
    names: list[str] = []
    inner = coroutine
    while isinstance(inner, CoroutineType):
        names.append(inner.cr_code.co_name)
        inner = inner.cr_await
    return " <- ".join(reversed(names))
