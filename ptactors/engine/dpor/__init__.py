"""Stateless search that makes one run per equivalence class of schedules, and the brute force that it is held against.

The independent check of the stateful search: it merges no states, memoises no actor and keeps no digests; every run is made from
the start by fresh coroutines. It rests on the declared footprints alone.
"""
