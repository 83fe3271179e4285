"""The exception tree. A hazard is a result and never an exception; these are what users and programmers can cause."""

from __future__ import annotations

import attrs


class PtactorsError(Exception):
    """Anything this package raises on purpose."""


class UsageError(PtactorsError):
    """The command line or an API call asks for something that cannot be; exit code 2."""


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
        text = f"{place}error: {self.message}"
        if self.line and self.source:
            lead = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1])
            text += f"\n    {self.source}\n    {lead}^{'~' * (max(self.length, 1) - 1)}"
        return f"{text}\n    {self.hint}" if self.hint else text


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
