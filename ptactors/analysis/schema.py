"""The columns of the view ``events``, made from the event classes, and the views over it.

Each view is one SELECT over a relation ``events``, so that it works on the JSON lines themselves as well as on a table of the few
columns and kinds that the views need. ``n`` is the position of an event in its log; it orders events of one step.
"""

from __future__ import annotations

import typing

import attrs

from ptactors.log.codec import ADDRESSES, ENTRIES, FRAMES
from ptactors.model.event import EVENTS

FIRST = {
    "ev": "VARCHAR",
    "step": "BIGINT",
    "cpu": "INTEGER",
    "actor": "VARCHAR",
    "sym": "VARCHAR",
    "cause": "BIGINT",
    "fn": "VARCHAR",
}
_TYPES = {int: "BIGINT", bool: "BOOLEAN", str: "VARCHAR", tuple[int, ...]: "INTEGER[]"}


def columns() -> dict[str, str]:
    """Column -> its type, of everything that some event has; what is not always a number is text."""
    found: dict[str, set[str]] = {}
    for kind in EVENTS:
        hexes = ADDRESSES + FRAMES + ENTRIES.get(kind, ())
        for name, hint in typing.get_type_hints(kind).items():
            if name not in FIRST and name != "what":
                found.setdefault(name, set()).add("VARCHAR" if name in hexes else _TYPES.get(hint, "VARCHAR"))
    return FIRST | {name: types.pop() if len(types) == 1 else "VARCHAR" for name, types in found.items()}


@attrs.frozen
class View:
    """One view that queries can name."""

    name: str
    about: str
    """One line: what a row is."""
    columns: tuple[tuple[str, str], ...]
    """Column, meaning and unit."""
    kinds: tuple[str, ...]
    """The events that it is made of."""
    select: str
    """Its SELECT over ``events``."""


_PLACE = (("file", "the log"), ("n", "position of the first event in its log, from 0"))

LOCKS = View(
    "locks",
    "A lock is held by one actor.",
    (
        *_PLACE,
        ("lock", "name: pte:FRAME, pmd:FRAME, mmap:MM, vma:VMA ..."),
        ("cls", "its class"),
        ("mode", "spin, read, write ..."),
        ("cpu", "CPU"),
        ("actor", "who holds it"),
        ("acquired", "step"),
        ("released", "step; NULL: never"),
        ("held", "steps between the two"),
    ),
    ("lock_acquire", "lock_release"),
    """
    SELECT file, n, lock, cls, mode, cpu, actor, step AS acquired,
           CASE WHEN next_ev = 'lock_release' THEN next_step END AS released,
           CASE WHEN next_ev = 'lock_release' THEN next_step - step END AS held
    FROM (SELECT *, lead(ev) OVER w AS next_ev, lead(step) OVER w AS next_step FROM events
          WHERE ev IN ('lock_acquire', 'lock_release') WINDOW w AS (PARTITION BY file, lock, actor ORDER BY n))
    WHERE ev = 'lock_acquire'""",
)

FLUSHES = View(
    "flushes",
    "A flush_tlb_mm_range() or its kin.",
    (
        *_PLACE,
        ("mm", "whose translations"),
        ("reason", "gather, page fault ..."),
        ("cpu", "who flushes"),
        ("start", "first address"),
        ('"end"', "address behind the last"),
        ("sym", "start as VMA+offset"),
        ("pages", "-1: all"),
        ("freed_tables", "whether page tables were freed"),
        ("targets", "CPUs that are interrupted"),
        ("tlb_gen", "of the mm after it"),
        ("began", "step"),
        ("done", "step at which every target has acknowledged; NULL: never"),
        ("steps", "between the two"),
    ),
    ("tlb_flush", "tlb_flush_done"),
    """
    SELECT file, n, mm, reason, cpu, "start", "end", sym, pages, freed_tables, targets, tlb_gen, step AS began,
           CASE WHEN next_ev = 'tlb_flush_done' THEN next_step END AS done,
           CASE WHEN next_ev = 'tlb_flush_done' THEN next_step - step END AS steps
    FROM (SELECT *, lead(ev) OVER w AS next_ev, lead(step) OVER w AS next_step FROM events
          WHERE ev IN ('tlb_flush', 'tlb_flush_done') WINDOW w AS (PARTITION BY file, actor ORDER BY n))
    WHERE ev = 'tlb_flush'""",
)

IPIS = View(
    "ipis",
    "One inter-processor interrupt to one CPU.",
    (
        *_PLACE,
        ("source", "CPU that sends"),
        ("target", "CPU that is interrupted"),
        ("func", "what it is to do"),
        ("sent", "step"),
        ("arrived", "step: pending at the target"),
        ("entered", "step: taken"),
        ("acknowledged", "step: done"),
        ("steps", "from sent to acknowledged"),
    ),
    ("ipi_send_cpumask", "ipi_arrive", "csd_function_entry", "csd_function_exit"),
    """
    SELECT file, min(n) AS n, source, target, func, min(step) FILTER (ev = 'ipi_send_cpumask') AS sent,
           min(step) FILTER (ev = 'ipi_arrive') AS arrived, min(step) FILTER (ev = 'csd_function_entry') AS entered,
           min(step) FILTER (ev = 'csd_function_exit') AS acknowledged, acknowledged - sent AS steps
    FROM (SELECT *, row_number() OVER (PARTITION BY file, ev, source, target, func ORDER BY n) AS k
          FROM (SELECT file, n, ev, step, cpu AS source, unnest(targets) AS target, func FROM events WHERE ev = 'ipi_send_cpumask'
                UNION ALL
                SELECT file, n, ev, step, source, cpu AS target, func FROM events
                WHERE ev IN ('ipi_arrive', 'csd_function_entry', 'csd_function_exit')))
    GROUP BY file, source, target, func, k""",
)

GRACE_PERIODS = View(
    "grace_periods",
    "One RCU grace period.",
    (
        *_PLACE,
        ("seq", "its number"),
        ("requested", "step of the first call_rcu() or synchronize_rcu() that waits for it"),
        ("began", "step"),
        ("ended", "step; NULL: never"),
        ("steps", "between the two"),
        ("waiting", "CPUs that owed a quiescent state"),
        ("requests", "how many wait for it"),
        ("callbacks", "how many ran"),
        ("last_callback", "step of the last one"),
    ),
    ("rcu_call", "rcu_synchronize", "rcu_gp_start", "rcu_gp_end", "rcu_callback"),
    """
    SELECT file, min(n) AS n, seq, min(step) FILTER (ev IN ('rcu_call', 'rcu_synchronize')) AS requested,
           min(step) FILTER (ev = 'rcu_gp_start') AS began, min(step) FILTER (ev = 'rcu_gp_end') AS ended, ended - began AS steps,
           any_value(waiting) FILTER (ev = 'rcu_gp_start') AS waiting,
           count(*) FILTER (ev IN ('rcu_call', 'rcu_synchronize')) AS requests,
           count(*) FILTER (ev = 'rcu_callback') AS callbacks, max(step) FILTER (ev = 'rcu_callback') AS last_callback
    FROM events WHERE ev IN ('rcu_call', 'rcu_synchronize', 'rcu_gp_start', 'rcu_gp_end', 'rcu_callback')
    GROUP BY file, seq""",
)

WINDOWS = View(
    "windows",
    "From a cleared pmd entry to the end of the first flush that began after it and covers it.",
    (
        *_PLACE,
        ("mm", "whose entry"),
        ("va", "first address that the entry translates"),
        ("sym", "the same as VMA+offset"),
        ("cpu", "who cleared it"),
        ("was", "table or huge"),
        ("cleared", "step"),
        ("flush_began", "step; NULL: never"),
        ("flush_done", "step"),
        ("steps", "from cleared to flush_done"),
        ("reason", "of the flush"),
    ),
    ("pmd_clear", "tlb_flush", "tlb_flush_done"),
    """
    WITH clears AS (
      SELECT file, n, mm, va, sym, cpu, step, "old", TRY_CAST(va AS BIGINT) >> 21 AS region FROM events WHERE ev = 'pmd_clear'),
    everything AS (SELECT file, mm, n AS whole FROM flushes WHERE pages < 0),
    parts AS (
      SELECT file, mm, n AS part,
             unnest(range(TRY_CAST("start" AS BIGINT) >> 21, ((TRY_CAST("end" AS BIGINT) - 1) >> 21) + 1)) AS region
      FROM flushes WHERE pages >= 0),
    matched AS (
      SELECT c.*, least(whole, part) AS flush FROM clears c
      ASOF LEFT JOIN everything e ON c.file = e.file AND c.mm = e.mm AND c.n < e.whole
      ASOF LEFT JOIN parts p ON c.file = p.file AND c.mm = p.mm AND c.region = p.region AND c.n < p.part)
    SELECT m.file, m.n, m.mm, m.va, m.sym, m.cpu,
           CASE WHEN TRY_CAST(m."old" AS UBIGINT) & 128 > 0 THEN 'huge' ELSE 'table' END AS was,
           m.step AS cleared, f.began AS flush_began, f.done AS flush_done, f.done - m.step AS steps, f.reason
    FROM matched m LEFT JOIN flushes f ON m.file = f.file AND m.flush = f.n""",
)

FAULTS = View(
    "faults",
    "A page fault from user mode.",
    (
        *_PLACE,
        ("cpu", "CPU"),
        ("address", "that was accessed"),
        ("sym", "the same as VMA+offset"),
        ("error_code", "1 present, 2 write, 4 user"),
        ("began", "step"),
        ("done", "step; NULL: never"),
        ("steps", "between the two"),
        ("result", "what the handler did"),
    ),
    ("page_fault_user", "page_fault_done"),
    """
    SELECT file, n, cpu, address, sym, error_code, step AS began,
           CASE WHEN next_ev = 'page_fault_done' THEN next_step END AS done,
           CASE WHEN next_ev = 'page_fault_done' THEN next_step - step END AS steps,
           CASE WHEN next_ev = 'page_fault_done' THEN next_result END AS result
    FROM (SELECT *, lead(ev) OVER w AS next_ev, lead(step) OVER w AS next_step, lead(result) OVER w AS next_result FROM events
          WHERE ev IN ('page_fault_user', 'page_fault_done') WINDOW w AS (PARTITION BY file, actor ORDER BY n))
    WHERE ev = 'page_fault_user'""",
)

GATHERS = View(
    "gathers",
    "One mmu_gather, from tlb_gather_mmu() to tlb_finish_mmu().",
    (
        *_PLACE,
        ("gather", "its number in its log, from 1"),
        ("mm", "whose"),
        ("cpu", "CPU"),
        ("began", "step"),
        ("finished", "step; NULL: never"),
        ("steps", "between the two"),
        ("pages", "queued in it"),
        ("tables", "queued in it"),
        ("nested", "whether it had to flush everything"),
    ),
    ("gather_begin", "gather_add", "gather_add_table", "gather_finish"),
    """
    SELECT file, min(n) AS n, row_number() OVER (PARTITION BY file ORDER BY min(n)) AS gather, any_value(mm) AS mm, cpu,
           min(step) FILTER (ev = 'gather_begin') AS began, min(step) FILTER (ev = 'gather_finish') AS finished,
           finished - began AS steps, count(*) FILTER (ev = 'gather_add') AS pages,
           count(*) FILTER (ev = 'gather_add_table') AS tables, bool_or(nested) AS nested
    FROM (SELECT *, count(*) FILTER (ev = 'gather_begin') OVER (PARTITION BY file, actor ORDER BY n) AS k FROM events
          WHERE ev IN ('gather_begin', 'gather_add', 'gather_add_table', 'gather_finish'))
    WHERE k > 0 GROUP BY file, actor, cpu, k""",
)

VIEWS = (LOCKS, FLUSHES, IPIS, GRACE_PERIODS, WINDOWS, FAULTS, GATHERS)
"""Every view over ``events``; a later one may use an earlier one."""

NEEDED = (
    "ev",
    "step",
    "cpu",
    "actor",
    "sym",
    "lock",
    "cls",
    "mode",
    "mm",
    "reason",
    "pages",
    "start",
    "end",
    "freed_tables",
    "targets",
    "tlb_gen",
    "source",
    "func",
    "seq",
    "waiting",
    "va",
    "old",
    "address",
    "error_code",
    "result",
    "nested",
)
"""The columns that the views are made of."""

RUNS = (
    ("file", "the log"),
    ("scenario", "name"),
    ("cell", "the cell's knobs"),
    ("strategy", "who chose the order"),
    ("seed", "its seed"),
    ("version", "of ptactors that wrote it"),
    ("state", "complete, truncated, corrupt or future"),
    ("status", "how the run ended"),
    ("reason", "why, unless complete"),
    ("events", "number in the trailer; NULL where there is none"),
)
"""Columns of ``runs``, one row for each log."""
HAZARDS = (
    ("file", "the log"),
    ("hazard", "name; see 'ptactors rule NAME'"),
    ("severity", "violation or condition"),
    ("step", "first sighting"),
    ("what", "one line"),
)
"""Columns of ``hazards``, which the oracles find when a query names it."""
