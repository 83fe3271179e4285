"""Words of the tool's own and of the cover letter that a newcomer meets first; the page of a run explains the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

WORDS: dict[str, str] = {
    "actor": "whatever moves by itself: a CPU's program, its interrupts, RCU, the interrupt bus, a CPU that walks tables"
    " by itself",
    "cell": "one point of a scenario's matrix: one kernel with every knob set. Each cell has a verdict of its own",
    "digest": "a number computed of every turn, the end and all findings of a run: two runs with one digest are the same run",
    "expectation": "what a scenario says of its cells: exists (some schedule ends so), forbidden (none does), always (each does)",
    "held": "of an expectation: it came true. A held 'exists hazard(...)' means that the bug was seen, as the scenario said",
    "hook": "a function of the series that each architecture defines; here the two that flush before a table entry is set, as"
    " knobs: flush_before_set_huge (a huge page) and flush_before_set_pte (a PTE page)",
    "inconclusive": "too few schedules were run to tell: an 'exists' was not seen, which does not mean that it cannot be",
    "knob": "one switch of the modelled kernel or machine; --set KNOB=VALUE turns it, 'ptactors list knobs' has them all",
    "matrix": "the knobs that a scenario varies; every combination is a cell",
    "MADV_DONTNEED": "the call of madvise() that throws the data of a range away: its pages are freed, and with page-table"
    " reclaim the PTE pages that become empty too; the next access gets a page of zeros",
    "oracle": "what looks at every event of a run and tells hazards",
    "preset": "one kernel, as a set of knobs: --preset NAME; 'ptactors list presets' has them all",
    "prove": "search every interleaving of a small cell; 'Never' is said only of a search that was exhausted, and of the model",
    "reclaim": "page-table reclaim: MADV_DONTNEED also frees PTE pages that it has emptied (knob pt_reclaim)",
    "schedule": "one interleaving of the actors; the same version, scenario, cell, strategy and seed give the same one",
    "step": "the smallest thing that an actor does at once: one load, one store, one lock taken, one entry cleared",
    "token": "a line that holds a whole run: 'ptactors replay pt1....' makes it again, on any machine",
    "VMA": "one mapping of a process, from an address to another; in a scenario [vma.A], and A stands for its first address",
    "witness": "a schedule that shows what was found, kept below logs/ so that it can be replayed",
}  # fmt: skip
"""Word -> what it means."""


def words() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every word: its heading, its meaning, and what it may be called."""
    from ptactors.report.page_glossary import TERMS

    for word, meaning in WORDS.items():
        yield word, meaning, (word,)
    for anchor, (heading, meaning) in TERMS.items():
        title = heading.partition(":")[0]
        parts = re.split(r"\s*[(),]\s*", title)
        yield title, meaning, tuple(dict.fromkeys(name for name in (anchor, *parts) if name))
