"""The opening sentences of a run's page: the chain of causes of a finding, with the steps; and the two chains of a pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from ptactors.log.symbol import Symbols
from ptactors.model import event as ev
from ptactors.model.hazard import Finding
from ptactors.model.paging import HPAGE_PMD_NR, HUGE, PAGE_SIZE
from ptactors.model.state import Record
from ptactors.report.describe import SIZES, describe
from ptactors.report.page import clip
from ptactors.report.page_pair import Pair, frame_at
from ptactors.report.page_why import Why

_MOST = 6
"""Lines of a history that a summary takes."""
_DEEP = 8
"""Links of a chain."""


@attrs.frozen(kw_only=True)
class Link:
    """One link of a chain, the effect first."""

    row: int
    text: str


class Teller:
    """Words for a run's records."""

    def __init__(self, records: Sequence[Record], symbols: Symbols) -> None:
        self.records = records
        self.symbols = symbols

    def step(self, row: int) -> str:
        """``step 26``, or ``before the run``."""
        step = self.records[row][0]
        return f"step {step}" if step > 0 else "before the run"

    def at(self, va: int, mm: str) -> str:
        """The address by name."""
        return clip(self.symbols.name(va, mm) or hex(va), 60)

    def summary(self, finding: Finding, pair: Pair | None) -> str:
        """What happened, as plain sentences; '' where there is nothing to tell beside the finding itself."""
        return self._paired(pair) if pair else self._listed(finding)

    def _listed(self, finding: Finding) -> str:
        """The history of any finding in its order."""
        told = [f"{clip(text)} ({step})" for step, text in finding.history if step > 0][-_MOST:]
        if not told:
            return ""
        return f"In order: {'; '.join(told)}. Then, at step {finding.step}: {clip(finding.what, 400)}."

    def _paired(self, pair: Pair) -> str:
        sentences = [self._clearing(pair), self._making(pair), self._meeting(pair)]
        return " ".join(sentence for sentence in sentences if sentence)

    def _clearing(self, pair: Pair) -> str:
        """Who took the old one's entry away, and whether the flush was under way."""
        if pair.cleared < 0 or self.records[pair.cleared][0] <= 0:
            return ""
        step, _, event = self.records[pair.cleared]
        entry = "pmd" if event.level else "pte"
        begun = f"cpu{event.cpu} cleared the {entry} of {self.at(event.va, event.mm)} (step {step})"
        if 0 <= pair.sent < pair.new:
            return f"{begun} and sent the flush IPI (step {self.records[pair.sent][0]})."
        if pair.sent >= 0:
            return f"{begun}; its flush IPI went out only at step {self.records[pair.sent][0]}."
        return f"{begun}."

    def _making(self, pair: Pair) -> str:
        """How the new one came, and before what."""
        new, holder = self.records[pair.new][2], self.records[pair.old][2].cpu
        until = ""
        if pair.handled > pair.new:
            until = f"Before cpu{holder} handled it (step {self.records[pair.handled][0]}), "
        elif pair.dropped > pair.new:
            until = f"Before cpu{holder} dropped what it remembered (step {self.records[pair.dropped][0]}), "
        cached = f"cached it (step {self.records[pair.new][0]})."
        if pair.installed < 0 or self.records[pair.installed][0] <= 0 or pair.installed < pair.cleared:
            return f"{until}cpu{new.cpu} cached another translation (step {self.records[pair.new][0]})."
        step, _, store = self.records[pair.installed]
        page = "a huge page" if store.new & HUGE else "a small page"
        who = "" if store.cpu == new.cpu else f"cpu{new.cpu} "
        if pair.hooked >= 0:
            at, _, hook = self.records[pair.hooked]
            until += f"cpu{hook.cpu} hooked a new PTE page into the pmd (step {at}), "
        return f"{until}cpu{store.cpu} mapped {page} at {self.at(store.va, store.mm)} (step {step}) and {who}{cached}"

    def _meeting(self, pair: Pair) -> str:
        """What the two have in common."""
        new, old = self.records[pair.new][2], self.records[pair.old][2]
        where = self.at(pair.va, new.mm)
        size = SIZES.get(old.size, hex(old.size))
        still = f"old {size} entry cpu{old.cpu} still holds."
        if new.size > old.size:
            return f"It also covers {where}, whose {still}"
        if new.size < old.size:
            return f"It lies inside of {self.at(old.va, old.mm)}, whose {still}"
        return f"It is for {where}, whose {still}"

    def branches(self, pair: Pair, whys: Sequence[Why | None]) -> list[tuple[str, list[Link]]]:
        """Both chains of a pair with their headings: why the new translation is there, and why the old one still is."""
        new, old = self.records[pair.new][2], self.records[pair.old][2]
        return [
            (f"Why the new {SIZES.get(new.size, '')} translation is there", self._new(pair.new, whys)),
            (f"Why the old {SIZES.get(old.size, '')} translation is still there", self._old(pair)),
        ]

    def _new(self, row: int, whys: Sequence[Why | None]) -> list[Link]:
        links = [Link(row=row, text=self._text(row))]
        while (why := whys[row]) is not None and len(links) < _DEEP:
            call, row = type(self.records[row][2]) is ev.SyscallEnter, why.row
            if call and type(self.records[row][2]) is ev.OpBegin:  # says the same again
                break
            links.append(Link(row=row, text=f"{why.reason}: {self._text(row)}"))
        return links

    def _text(self, row: int) -> str:
        event = self.records[row][2]
        who = f"cpu{event.cpu}: " if event.cpu >= 0 else ""
        return clip(who + describe(event, self.symbols))

    def _old(self, pair: Pair) -> list[Link]:
        old = self.records[pair.old][2]
        size, cpu = SIZES.get(old.size, hex(old.size)), f"cpu{old.cpu}"
        told = [
            (pair.old, f"{cpu} cached the {size} translation of {self.at(old.va, old.mm)}"),
            (pair.pte_cleared, "its pte was cleared; a TLB does not notice that"),
            (
                pair.cleared if pair.cleared != pair.pte_cleared else -1,
                "the pmd above it was cleared; the TLB does not notice that either",
            ),
            (pair.flush, "the flush that will drop it begins"),
            (pair.sent, f"the IPI to {cpu} was sent"),
            (pair.handled, f"{cpu} takes the interrupt only here"),
            (pair.dropped, f"only here {cpu} drops it"),
        ]
        late = {pair.flush: "the flush begins", pair.sent: f"the IPI to {cpu} is sent"}
        return [
            Link(row=row, text=clip(late[row] + " only here" if row > pair.new and row in late else text))
            for row, text in told
            if row >= 0
        ]

    def twin(self, pair: Pair) -> str:
        """The same pair as data: what the address holds by the old translation, and by the new one."""
        old, new = self.records[pair.old][2], self.records[pair.new][2]
        return (
            f"By the old {self._holds(old, pair, self.at(pair.va, new.mm) + ' is')}; by the new {self._holds(new, pair, 'it is')}"
        )

    def _holds(self, fill: ev.TlbFill, pair: Pair, verb: str) -> str:
        frame = frame_at(fill, pair.va)
        size = SIZES.get(fill.size, hex(fill.size))
        values = [e.value for _, _, e in self.records[: pair.new] if type(e) is ev.MemWrite and e.pfn == frame]
        held = f'which holds "{clip(values[-1], 40)}"' if values else "to which no program has written"
        return f"{size} translation of cpu{fill.cpu}, {verb} {self.frame(frame, fill.size)}, {held}"

    def frame(self, frame: int, size: int) -> str:
        """A frame's number; of one inside of a huge page also which of its pages it is."""
        if size == PAGE_SIZE:
            return f"frame {frame:#x}"
        return f"frame {frame:#x} (page {frame % HPAGE_PMD_NR} of the huge page {frame - frame % HPAGE_PMD_NR:#x})"


def ran(text: str, functions: Mapping[int, str], steps: Sequence[int]) -> list[tuple[str, int]]:
    """Of the kernel's functions that a text names those that ran in these steps, each with its first step."""
    named = list(dict.fromkeys(re.findall(r"\b([a-z_][a-z0-9_]*)\(\)", text)))
    first: dict[str, int] = {}
    for step in steps:
        for name in functions.get(step, "").split(" <- "):
            first.setdefault(name, step)
    return sorted(((name, first[name]) for name in named if name in first), key=lambda each: each[1])
