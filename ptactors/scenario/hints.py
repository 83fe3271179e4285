"""What an error proposes: the nearest known name, and the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like ``name``, or '' if none is."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? known: x, y, z``, as far as there is something to say."""
    candidates = list(known)
    near = nearest(name, candidates)
    parts = [f"did you mean {near!r}?"] if near else []
    parts.append(f"known: {', '.join(candidates)}" if candidates else "there are none")
    return " ".join(parts)
