"""The explicit list of operations that programs may use."""

from __future__ import annotations

from ptactors.kernel.operation import Kind, Operation, Parameter


async def _placeholder(*_: object) -> None:
    return None


def _op(name: str, *parameters: Parameter) -> Operation:
    return Operation(name=name, parameters=parameters, run=_placeholder, mirrors="-", source="-")


OPERATIONS: dict[str, Operation] = {
    op.name: op
    for op in (
        _op("read", Parameter("va", Kind.ADDRESS), Parameter("register", Kind.REGISTER, "->", required=False)),
        _op("write", Parameter("va", Kind.ADDRESS), Parameter("value", Kind.VALUE, "=")),
        _op("madvise", Parameter("range", Kind.RANGE), Parameter("advice", Kind.ADVICE)),
        _op("munmap", Parameter("range", Kind.RANGE)),
        _op(
            "walk",
            Parameter("va", Kind.ADDRESS),
            Parameter("times", Kind.NUMBER, "times", required=False, default=2),
            Parameter("register", Kind.REGISTER, "->", required=False),
        ),
        _op("gup_fast", Parameter("va", Kind.ADDRESS), Parameter("register", Kind.REGISTER, "->", required=False)),
        _op("switch", Parameter("task", Kind.TASK)),
        _op("wait", Parameter("label", Kind.LABEL)),
        _op("cond_resched"),
    )
}
