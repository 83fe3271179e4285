"""The words of a run's page that a kernel mail does not explain, for hovering, for focus and for the fold at the end."""

from __future__ import annotations

TERMS: dict[str, tuple[str, str]] = {
    "hazard": ("hazard", "a state that must not be, or only knowingly: what the oracles look for in every step"),
    "condition": (
        "condition, violation",
        "two kinds of hazard. A condition (amber ! in the list of hazards) is a state that some processors allow and"
        " others do not. A violation (red ✕) is one that no kernel and no processor allows",
    ),
    "seed": ("seed", "the number that the random choices of a schedule come from; the same seed gives the same run"),
    "strategy": (
        "strategy: run-length, portfolio, pos …",
        "how the next actor is chosen. run-length: a random CPU (or other actor) runs for a random number of steps, then another;"
        " portfolio: several strategies in turn",
    ),
    "pte": ("pte, PTE page", "the entry that maps one page of 4 KiB; a PTE page is a table of 512 of them, for 2 MiB"),
    "pmd": ("pmd", "the entry above a PTE page: it points to one, or maps a huge page of 2 MiB, or is empty"),
    "frame": (
        "frame, pfn",
        "a page of physical memory, by its number: the address divided by 4096. A huge page is 512 frames in a row, so frame"
        " 0x…003 is page 3 of the huge page 0x…000",
    ),
    "gen": ("gen", "generation: how often a frame was given out; so one that was freed and reused is told from what it was"),
    "flags": ("rwad", "what an entry allows and has seen: r readable, w writable, a accessed, d dirty (written to); - is not"),
    "w": ("w", "beside a translation: the TLB allows writing through it"),
    "tlb": ("TLB", "what a CPU remembers of the page tables; a change of the tables does not reach it before a flush"),
    "psc": (
        "psc, upper-level entry",
        "paging-structure cache: a CPU also remembers where the tables of upper levels are, and can walk a PTE page that was"
        " unhooked since",
    ),
    "ipi": ("IPI", "inter-processor interrupt: how a CPU tells others to flush; it takes effect only when it is handled"),
    "invlpg": ("tlb invalidate", "a CPU drops what its TLB remembers of a page or range; a huge page goes if any of it is named"),
    "gather": ("gather (mmu_gather)", "where a CPU collects pages and tables that it took away, to flush once, then free them"),
    "nested": ("nested", "of a lock: taken while another of its class is held; of a gather: two on one mm at a time"),
    "gp": ("gp, grace period", "the time that RCU waits until every reader that was there at its begin has left"),
    "rcu": ("RCU", "readers take no lock; what they may be reading is freed only after a grace period"),
    "vmpte": ("VmPTE", "the memory that a process's page tables take, as /proc/PID/status shows it"),
    "init_mm": ("init_mm", "the kernel's own page tables, which a CPU loads when it leaves a process"),
    "mm": ("mm (P)", "the address space of a process; P is the first one"),
    "length": ("A 0x4000", "a range: address and length in bytes. 0x1000 is one page, 0x4000 four, 0x200000 is 2 MiB"),
    "grey": ("grey rows", "bookkeeping: allocations, counters, references"),
}
"""Anchor -> the word, and what it means."""
