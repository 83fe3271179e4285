"""A table of small scenarios that together make every kind of step; the audits, the hosts and the alarm hunt run all of them."""

from __future__ import annotations

from small_machines import A, text, vma

B = A + (1 << 30)
"""A second VMA, in a PMD page of its own."""
RACE = ("Z: madvise A DONTNEED", ("read A+0x3000 -> r0", "write A+0x5000 = 5", "read A+0x3000 -> r1"))
MAYBE = '[fault]\npage_batch_alloc = "maybe"\ntable_batch_alloc = "maybe"\nneed_resched = "maybe"\n'
FAIL = '[fault]\npage_batch_alloc = "fail"\ntable_batch_alloc = "fail"\n'
FEW = {f"A+{n:#x}000": f"v{n}" for n in (0, 3, 4, 5)}
LAZY = '[cpu.2]\nstate = "lazy"\ntlb = ["A+0x3000"]\npsc = ["A"]\n'
SPECULATE = 'speculate = { cpu1 = ["A+0x3000", "A+0x5000"], cpu0 = ["A+0x3000"] }\nspeculative_fills = 2\n'
FILE = vma(
    "A",
    kind="file-private",
    uffd_wp=True,
    entries={
        "A": "cow:mine",
        "A+4K": "file:12",
        "A+8K": "file-dirty:13",
        "A+12K": "marker-uffd-wp",
        "A+16K": "swap",
        "A+20K": "guard",
    },
)
SHARED = vma("A", kind="memfd", entries={"A": "file:1", "A+4K": "file-dirty:2"})
ODD = vma("A", entries={"A": "zero", "A+4K": "swap", "A+8K": "guard"}, populate={"A+0x3000": "old"})

CASES: dict[str, str] = {
    "race": text(*RACE),
    "race-thp": text(*RACE, machine='thp = "always"'),
    "race-thp-maybe": text(*RACE, machine='thp = "always"', rest=MAYBE, vmas=vma(populate=FEW)),
    "race-fail": text(*RACE, "walk A+0x3000 times 3 -> w", rest=FAIL),
    "race-batch-of-two": text(*RACE, machine="", rest=FAIL, vmas=vma(populate=FEW)).replace(
        "[vma.A]", "[kernel]\ngather_bundle = 2\ngather_batch = 3\ntable_batch = 1\n[vma.A]", 1
    ),
    "late-callbacks": text(*RACE, "gup_fast A+0x3000 -> g", rest='[fault]\nrcu_callbacks = "late"\n'),
    "early-callbacks": text(*RACE, "gup_fast A+0x3000 -> g", rest='[fault]\nrcu_callbacks = "early"\n'),
    "lazy-speculation": text(*RACE, "", machine='thp = "always"\nspeculate = { cpu2 = ["A+0x3000", "A+0x5000"] }', rest=LAZY),
    "speculation": text(*RACE, machine=SPECULATE),
    "tiny-caches": text(*RACE, machine="tlb_entries = 2\npsc_entries = 2\n" + SPECULATE),
    "munmap": text("munmap A", ("read A+0x3000 -> r0", "write A+0x3000 = 1", "read A -> r1")),
    "munmap-piece": text("munmap A+0x3000 4K", ("write A+0x4000 = 1", "write A+0x3000 = 2"), vmas=vma(size="4M", populate=FEW)),
    "munmap-two": text(
        ("write A = 1", "munmap A"), ("write B = 2", "madvise B DONTNEED", "munmap B"), vmas=vma("A") + vma("B", B, "2M")
    ),
    "walkers": text(
        ("madvise A DONTNEED", "write A+0x3000 = 1", "madvise A DONTNEED"),
        ("walk A+0x3000 times 3 -> w", "gup_fast A+0x3000 -> g", "gup_fast A+0x5000 -> h"),
    ),
    "gup-huge": text(
        ("madvise A DONTNEED", "write A = 1"),
        ("gup_fast A+0x3000 -> g", "cond_resched"),
        machine='thp = "always"',
        vmas=vma(huge_pages={"A": "big"}),
    ),
    "partial-huge": text(
        "madvise A+0x3000 8K DONTNEED",
        ("write A+0x3000 = 5", "read A+0x9000 -> r", "write A+0x9000 = 6"),
        machine='thp = "always"',
        vmas=vma(huge_pages={"A": "big"}),
    ),
    "huge-zero": text(
        ("read A -> r0", "madvise A+0x3000 4K DONTNEED", "madvise A DONTNEED"),
        ("read A+0x3000 -> r0", "write A+0x5000 = 5"),
        machine='thp = "always"',
        vmas=vma(),
    ),
    "small-zero": text(("read A -> r0", "write A = 1"), ("read A -> r0", "write A = 2", "read A -> r1"), vmas=vma()),
    "read-only": text("write A+0x3000 = 1", "read A+0x3000 -> r", vmas=vma(writable=False, populate={"A+0x3000": "old"})),
    "holes-and-locks": text(
        "madvise A DONTNEED", "madvise B DONTNEED", vmas=vma("A", locked=True) + vma("B", B, "4K", populate={"B": 1})
    ),
    "two-processes": text(
        ("write A = 1", "switch P2", "switch P1", "madvise A DONTNEED", "write A = 2"),
        ("read A -> r", "switch kthread", "switch idle", "switch P2", "switch P1", "read A+0x3000 -> r"),
        vmas="[process.P1]\n[process.P2]\n" + vma(process="P1", populate={"A+0x3000": "old"}) + vma("C", A, process="P2"),
    ),
    "no-pcid": text(
        ("write A = 1", "switch P2", "write C = 3", "switch P1", "madvise A DONTNEED"),
        ("write A = 2", "switch kthread"),
        machine="pcid = false",
        vmas="[process.P1]\n[process.P2]\n" + vma(process="P1") + vma("C", A + (1 << 30), process="P2"),
    ),
    "wait": text(("write A = 1", "Z: madvise A DONTNEED"), ("wait cpu0:Z", "read A -> r", "cond_resched")),
    "file": text("madvise A DONTNEED", ("read A+4K -> r", "walk A+8K -> w", "write A+8K = 9"), vmas=FILE),
    "shared": text("madvise A DONTNEED", ("write A+4K = 9", "gup_fast A -> g"), vmas=SHARED),
    "odd-entries": text("madvise A DONTNEED", ("read A -> r0", "write A+4K = 1", "write A+8K = 1"), vmas=ODD),
    "hugetlb": text("madvise A DONTNEED", "cond_resched", vmas=vma(kind="hugetlb", huge_pages={"A": "h"})),
    "no-anon-vma": text("write A = 1", "write A+4K = 2", vmas=vma(anon_prepared=False)),
    "idle-and-off": text("madvise A DONTNEED", rest='[cpu.1]\nstate = "idle"\n[cpu.2]\nstate = "off"\n', machine="").replace(
        "cpus = 1", "cpus = 3"
    ),
    "first-touch": text("write A = 1", "write B = 2", vmas=vma("A", A, "2M") + vma("B", A + (1 << 39), "2M")),
    "collapse": text(
        ("madvise A COLLAPSE -> c", "write A = 1"),
        ("write A+0x5000 = 5", "read A+0x3000 -> r", "gup_fast A+0x3000 -> g"),
        vmas=vma(populate=FEW),
    ),
    "collapse-and-discard": text(("madvise A COLLAPSE -> c", "read A -> r"), "madvise A DONTNEED", vmas=vma(populate=FEW)),
    "populate": text(
        ("madvise A+0x3000 8K POPULATE_WRITE", "madvise A+0x6000 8K POPULATE_READ"),
        ("madvise A DONTNEED", "mlock A+0x3000 8K", "munlock A+0x3000 4K", "madvise A DONTNEED_LOCKED"),
        vmas=vma(),
    ),
    "protect": text(
        ("mprotect A+0x3000 8K ro", "mprotect A+0x4000 4K none", "mprotect A+0x3000 8K rw"),
        ("write A+0x3000 = 5", "read A+0x4000 -> r", "madvise A HUGEPAGE"),
    ),
    "map": text(
        ("mmap A+0x3000 8K rw", "write A+0x3000 = 1", "munmap A+0x4000 4K", "process_madvise A+0x3000 4K COLLAPSE"),
        ("write A+0x3000 = 5", "madvise A+0x3000 4K NOHUGEPAGE"),
    ),
    "given-tables": text("madvise A DONTNEED", "write A = 1", machine="other_tables_kb = 36", vmas=vma(tables=["A"])),
}
"""Name -> text."""

PRESETS = ("v6.1", "before", "before-pv", "rfc-v1", "v6.14-rc1", "v6.14", "v6.18")
KNOBS: tuple[dict[str, object], ...] = (
    {"table_free": "page-batch"},
    {"table_free": "semi-rcu"},
    {"table_free": "ipi-then-rcu"},
    {"table_free": "rcu"},
    {"table_free": "synchronize-rcu"},
    {"split_ptlocks": False},
    {"ptlock_alloc": True, "dtor_after_grace_period": False},
    {"per_vma_lock": False},
    {"hardware": "amd-tce"},
    {"hardware": "erratum-383"},
    {"preemption": "none"},
    {"preset": "rfc-v1", "flush_before_set_pte": True},
    {"left_mask": "clear"},
    {"huge_zero_page": False},
    {"huge_zero_wp_thp": False},
    {"atomic_clear": False},
    {"frame_reuse": "fresh"},
    {"reclaim_trylock": False},
    {"install_recheck": False},
    {"map_lock_recheck": False},
    {"gup_recheck": False},
    {"nested_gather_flush": False},
    {"pending_flush": False},
    {"flush_lazy_on_freed_tables": False},
    {"partial_flush_needs_next_gen": False},
    {"flush_dirty_file_under_ptl": False},
    {"reclaim_scan": False},
    {"preset": "rfc-v1", "reclaim_pmd_same": False},
    {"preset": "v6.18", "collapse_lock_then_check": False},
    {"collapse_flush": False, "collapse_sync_ipi": False},
    {"madvise_vma_lock": True},
    {"merge_into_unfaulted": False, "populate_walks_vmas": True},
)
"""Every difference between kernels that a knob makes, one at a time."""
