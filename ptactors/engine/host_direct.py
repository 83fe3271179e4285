"""The same coroutines driven by a plain loop: no trio, the same bytes, faster; for debugging and bulk sampling."""

from __future__ import annotations

from ptactors.engine.baton import Baton


def run(baton: Baton) -> None:
    """Run all actors to the end of the run."""
    baton.start()
    try:
        actor = baton.pick()
        while actor is not None:
            actor = baton.drive(actor)
    finally:
        baton.close()
