"""The exception tree. A hazard is a result and never an exception; these are what users and programmers can cause."""

from __future__ import annotations

import attrs


class PtactorsError(Exception):
    """Anything this package raises on purpose."""


class UsageError(PtactorsError):
    """The command line or an API call asks for something that cannot be; exit code 2."""


LINE_LIMIT = 200
"""Characters of a longer line that are shown with an error."""
MESSAGE_LIMIT = 400
"""Characters of a longer message that are shown."""


class WorkerLost(KeyboardInterrupt):
    """A worker process was killed: an interrupt from outside, after which what is done is printed and kept as after Ctrl-C."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process was killed, by somebody or for want of memory; what was done before is kept"
            " (fewer --jobs need less memory)"
        )


@attrs.frozen(kw_only=True)
class Diagnostic:
    """One complaint about one place in a file."""

    path: str
    """The file, as the user named it."""
    line: int
    """1-based line; 0 where the complaint is about the file as a whole."""
    column: int
    """1-based column in characters; 0 with line 0."""
    message: str
    """What is wrong and what was expected."""
    source: str = ""
    """The text of the line, for the caret."""
    length: int = 1
    """How many characters the caret underlines."""
    hint: str = ""
    """The nearest known name, or what to do."""

    def render(self) -> str:
        """``path:line:col: error: message``, the line, a caret, the hint."""
        place = f"{self.path}:{self.line}:{self.column}: " if self.line else f"{self.path}: "
        text = f"{place}error: {_clipped(self.message)}"
        if self.line and self.source:
            source, column = _window(self.source, self.column)
            lead = "".join("\t" if c == "\t" else " " for c in source[: column - 1])
            length = min(self.length, max(len(source) - column + 1, 1))
            text += f"\n    {source}\n    {lead}^{'~' * (max(length, 1) - 1)}"
        return f"{text}\n    {self.hint}" if self.hint else text


def _clipped(text: str) -> str:
    """Without its middle, if a whole file got into it."""
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - 60]} ... {text[-50:]}"


def _window(source: str, column: int) -> tuple[str, int]:
    """What is shown of a line, and the column in that; what a terminal would obey is shown as one replacement character each."""
    shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in source)
    if len(shown) <= LINE_LIMIT:
        return shown, column
    start = max(0, min(column - 1 - LINE_LIMIT // 2, len(shown) - LINE_LIMIT))
    end = start + LINE_LIMIT
    before, after = "..." if start else "", "..." if end < len(shown) else ""
    return f"{before}{shown[start:end]}{after}", column - start + len(before)


class ScenarioError(PtactorsError):
    """A scenario file is not one; carries every diagnostic of the file; exit code 2."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n".join(d.render() for d in diagnostics))


class ReplayDivergence(PtactorsError):
    """A replayed schedule departs from its recording; exit code 4."""

    def __init__(self, step: int, reason: str) -> None:
        self.step = step
        self.reason = reason
        super().__init__(f"replay diverged at step {step}: {reason}")


class IncompatibleRecording(PtactorsError):
    """A recording was made of another scenario or by a version that differs; exit code 4."""


class ModelError(PtactorsError):
    """The model broke a rule of its own (an undeclared step, an undeclared access): a bug in ptactors; exit code 70."""
