"""Assembles a scenario and a configuration into cells, actors and oracles, and runs them."""

from __future__ import annotations

from ptactors.world.run import HOSTS, Outcome, play, play_many

__all__ = ["HOSTS", "Outcome", "play", "play_many"]
