"""Numbers of the x86-64 Linux interface that steps have names for.

Standard library only: the worker imports it.
"""

from __future__ import annotations

ARENA, ARENA_SIZE = 1 << 44, 1 << 39
"""Where the arena begins, and its limit: the whole of one PGD slot."""
PROTECTION = {"none": 0, "ro": 1, "rw": 3}
"""PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE."""
ADVICE = {
    "NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "DONTNEED": 4, "FREE": 8, "REMOVE": 9, "DONTFORK": 10, "DOFORK": 11,
    "HUGEPAGE": 14, "NOHUGEPAGE": 15, "DONTDUMP": 16, "DODUMP": 17, "WIPEONFORK": 18, "KEEPONFORK": 19, "COLD": 20, "PAGEOUT": 21,
    "POPULATE_READ": 22, "POPULATE_WRITE": 23, "DONTNEED_LOCKED": 24, "COLLAPSE": 25, "GUARD_INSTALL": 102, "GUARD_REMOVE": 103,
}  # fmt: skip
"""include/uapi/asm-generic/mman-common.h; those that reach beyond the process (KSM, memory failure) are left out."""
KINDS = {"anon": 0x22, "anon_shared": 0x21, "memfd_shared": 0x1, "memfd_private": 0x2}
"""Flags of mmap by kind of mapping."""
