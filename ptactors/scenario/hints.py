"""What an error proposes: the nearest known names, and the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 20
"""So many known names are listed beside a proposal; of more, the proposal alone helps."""
PROPOSED = 3
"""So many names are proposed at most."""
TELLING = 3
"""Characters of a name from which on names that hold it are proposed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like ``name``, or '' if none is."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def holding(name: str, known: Iterable[str]) -> list[str]:
    """The known names that hold ``name``, in any case."""
    return [each for each in known if name.casefold() in each.casefold()]


def perhaps(proposed: Iterable[str]) -> str:
    """``did you mean 'x' or 'y'?``"""
    return f"did you mean {' or '.join(map(repr, proposed))}?"


def suggest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? known: x, y, z``; of many known names only the nearest, and those that hold ``name``."""
    candidates = list(known)
    near = nearest(name, candidates)
    proposed = [near] if near else []
    if len(candidates) > SHOWN and len(name) >= TELLING:
        proposed = list(dict.fromkeys([*proposed, *holding(name, candidates)]))[:PROPOSED]
    parts = [perhaps(proposed)] if proposed else []
    if not proposed or len(candidates) <= SHOWN:
        parts.append(f"known: {', '.join(candidates)}" if candidates else "there are none")
    return " ".join(parts)
