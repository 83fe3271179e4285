"""What every oracle is: a witness of one hazard, with a page of explanation.

An oracle hears the kinds of events it names, after the mirror has taken note of them, and reports the first sighting of a run;
later ones are only counted, since what follows a broken invariant is mostly its echo. A false alarm costs more trust than a miss:
where the events leave a doubt, an oracle is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from ptactors.model.hazard import Finding, Severity
from ptactors.model.state import Listener
from ptactors.oracle.mirror import Mirror

History = tuple[tuple[int, str], ...]


@attrs.frozen(kw_only=True)
class Rule:
    """The page of ``ptactors rule NAME``."""

    meaning: str
    """What is wrong, for a reader who knows none of the vocabulary."""
    kernel: str
    """The functions and commits it is about."""
    avoided: str
    """How the kernel avoids it, or how it was fixed."""
    knob: str
    """The knobs of config.py that bring it about."""
    scenario: str
    """A shipped scenario that shows it, or comes closest."""


class Oracle:
    """Base of every oracle; the docstring of a subclass is the meaning of its hazard with the kernel's reference."""

    name: ClassVar[str]
    """The hazard's fixed name."""
    severity: ClassVar[Severity] = Severity.VIOLATION
    """How bad it is by itself."""
    source: ClassVar[str]
    """Where the rule comes from: manual, commit, document."""
    rule: ClassVar[Rule]
    """The explanation."""
    kinds: ClassVar[tuple[type, ...]]
    """The kinds of events it wants."""

    def __init__(self, mirror: Mirror, publish: Callable[[Finding], None]) -> None:
        self.mirror = mirror
        self.count = 0
        """Sightings in this run, the reported one included."""
        self._publish = publish
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new run begins."""
        self.count = 0

    def see(self, step: int, actor: int, event: Any) -> None:
        """Take note of one event."""
        self.listeners()[type(event)](step, actor, event)

    def listeners(self) -> dict[type, Listener]:
        """Kind of event -> what sees it; an oracle of several kinds says here which of its methods sees which."""
        return dict.fromkeys(self.kinds, self.see)

    def first(self) -> bool:
        """Count a sighting; whether it is the one to report (texts are made for that one only)."""
        self.count += 1
        return self.count == 1

    def report(self, step: int, actor: int, what: str, history: History = (), role: str = "") -> None:
        """Publish the sighting; ``history`` may come unsorted and with gaps (step -1 is dropped)."""
        kept = tuple(sorted((line for line in history if line[0] >= 0), key=lambda line: line[0]))
        self._publish(Finding(self.name, step, actor, what, kept, role))
