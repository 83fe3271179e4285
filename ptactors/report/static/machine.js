"use strict";
// The machine rebuilt from the events alone: page tables, TLBs, locks, RCU, gathers. Nothing here draws.

const [STEP, CPU, ACTOR, NAME, TEXT, FIELDS, CAUSE, REASON, STACK, ANCHOR] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const SHIFTS = [12, 21, 30, 39];
const LEVELS = ["PTE page", "pmd table", "pud table", "pgd"];
const SMALL = 4096;

const slotOf = (va, level) => Math.floor(va / 2 ** SHIFTS[level]) % 512;
const hex = (n) => "0x" + n.toString(16);
const overlap = (a, b) => a.va < b.va + b.size && b.va < a.va + a.size;

class Machine {
  // changed(cpu, entry): told when a TLB entry comes, goes, or changes between ok, stale and clash.
  constructor(changed) {
    this.changed = changed || (() => {});
    this.tables = new Map();   // frame -> Map(slot -> [kind, frame, flags])
    this.roots = new Map();    // mm -> frame of its pgd
    this.cpus = new Map();     // cpu -> what it holds
    this.locks = new Map();    // name -> [{cpu, mode, cls}]
    this.gp = null;            // the grace period under way: {seq, waiting}
    this.bytes = new Map();    // mm -> pgtables_bytes
    this.callbacks = new Map();
    this.fresh = new Set();    // "table:slot" and TLB keys that the last event touched
  }

  cpu(n) {
    if (!this.cpus.has(n)) {
      this.cpus.set(n, { tlb: new Map(), psc: new Map(), mm: "", asid: 0, mode: "", lazy: false, irqs: true, rcu: 0, gather: null, doing: [] });
    }
    return this.cpus.get(n);
  }

  slots(table) {
    if (!this.tables.has(table)) this.tables.set(table, new Map());
    return this.tables.get(table);
  }

  // The leaf that maps va: {frame, write}, or null.
  walk(mm, va) {
    let table = this.roots.get(mm);
    for (let level = 3; level >= 0 && table !== undefined; level--) {
      const entry = (this.tables.get(table) || new Map()).get(slotOf(va, level));
      if (!entry || entry[0] === "none" || entry[0] === "other") return null;
      if (entry[0] === "table") { table = entry[1]; continue; }
      const inside = entry[0] === "huge" ? Math.floor((va % 2 ** SHIFTS[level]) / SMALL) : 0;
      return { frame: entry[1] + inside, write: entry[2].includes("w") };
    }
    return null;
  }

  judge(cpu, entry) {
    const leaf = this.walk(entry.mm, entry.va);
    const stale = !leaf || leaf.frame !== entry.pfn || (entry.write && !leaf.write);
    const clash = this.rivals(cpu, entry).length > 0;
    const state = clash ? "clash" : stale ? "stale" : "ok";
    if (state !== entry.state) { entry.state = state; this.changed(cpu, entry); }
  }

  // Live translations of the same address, on this CPU or another, that lead to another frame.
  rivals(cpu, entry) {
    const found = [];
    for (const [other, holder] of this.cpus) {
      for (const each of holder.tlb.values()) {
        if (each === entry || each.mm !== entry.mm || !overlap(each, entry)) continue;
        const va = Math.max(each.va, entry.va);
        const frame = (e) => e.pfn + Math.floor((va - e.va) / SMALL);
        if (frame(each) !== frame(entry)) found.push({ cpu: other, entry: each });
      }
    }
    return found;
  }

  rejudge(mm, start, end) {
    for (const [cpu, holder] of this.cpus) {
      for (const entry of holder.tlb.values()) {
        if (entry.mm === mm && entry.va < end && start < entry.va + entry.size) this.judge(cpu, entry);
      }
    }
  }

  drop(cpu, wanted) {
    const holder = this.cpu(cpu), gone = [];
    for (const [key, entry] of holder.tlb) if (wanted(entry)) { holder.tlb.delete(key); gone.push(entry); }
    for (const entry of gone) { entry.state = "gone"; this.changed(cpu, entry); }
    for (const entry of gone) this.rejudge(entry.mm, entry.va, entry.va + entry.size);
  }

  apply(e) {
    this.fresh.clear();
    const act = ACTIONS[e[NAME]] || (e[FIELDS].table !== undefined && e[FIELDS].new ? ACTIONS.entry : null);
    if (act) act(this, e[FIELDS], e[CPU], e);
    const holder = e[CPU] >= 0 ? this.cpu(e[CPU]) : null;
    if (holder && OPENS[e[NAME]]) holder.doing.push([OPENS[e[NAME]], e[TEXT]]);
    if (holder && CLOSES[e[NAME]]) {
      const at = holder.doing.map((d) => d[0]).lastIndexOf(CLOSES[e[NAME]]);
      if (at >= 0) holder.doing.length = at;
    }
  }
}

const OPENS = { op_begin: "op", sys_enter: "call", page_fault_user: "fault", csd_function_entry: "irq" };
const CLOSES = { op_end: "op", sys_exit: "call", page_fault_done: "fault", csd_function_exit: "irq" };

const ACTIONS = {
  entry(m, f) {
    m.slots(f.table).set(f.slot, f.new);
    m.fresh.add(f.table + ":" + f.slot);
    const size = 2 ** SHIFTS[f.level], start = Math.floor(f.va / size) * size;
    m.rejudge(f.mm, start, start + size);
  },
  mm_page_alloc(m, f) {
    if (["pte", "pmd", "pud", "pgd"].includes(f.kind)) m.tables.set(f.pfn, new Map());
    if (f.kind === "pgd") m.roots.set(f.mm, f.pfn);
  },
  mm_page_free(m, f) {
    m.tables.delete(f.pfn);
    for (const [mm, root] of m.roots) if (root === f.pfn) m.roots.delete(mm);
  },
  tlb_fill(m, f, cpu) {
    const key = [f.asid, f.va, f.size].join(":"), holder = m.cpu(cpu);
    if (holder.tlb.has(key)) { const old = holder.tlb.get(key); holder.tlb.delete(key); old.state = "gone"; m.changed(cpu, old); }
    const entry = { ...f, key, state: "new" };
    holder.tlb.set(key, entry);
    m.fresh.add(cpu + "/" + key);
    m.rejudge(f.mm, f.va, f.va + f.size);
  },
  tlb_evict(m, f, cpu) { m.drop(cpu, (t) => t.asid === f.asid && t.va === f.va && t.size === f.size); },
  tlb_invalidate(m, f, cpu) {
    m.drop(cpu, (t) => (f.asid < 0 || t.asid === f.asid) && t.va < f.end && f.start < t.va + t.size);
    if (f.psc === "all" || f.psc === "path") {
      const psc = m.cpu(cpu).psc;
      for (const [key, p] of psc) {
        const size = 2 ** SHIFTS[p.level], low = Math.floor(p.va / size) * size;
        if ((f.asid < 0 || p.asid === f.asid) && (f.psc === "all" || (low < f.end && f.start < low + size))) psc.delete(key);
      }
    }
  },
  psc_fill(m, f, cpu) { m.cpu(cpu).psc.set([f.asid, f.level, f.va].join(":"), f); },
  psc_evict(m, f, cpu) { m.cpu(cpu).psc.delete([f.asid, f.level, f.va].join(":")); },
  cr3_write(m, f, cpu) {
    const holder = m.cpu(cpu);
    holder.mm = f.mm; holder.asid = f.asid;
    if (!f.noflush) { m.drop(cpu, (t) => t.asid === f.asid); for (const [k, p] of holder.psc) if (p.asid === f.asid) holder.psc.delete(k); }
  },
  switch_mm(m, f, cpu) { m.cpu(cpu).lazy = f.lazy; },
  cpu_mode(m, f, cpu) { m.cpu(cpu).mode = f.mode; },
  irq_disable(m, f, cpu) { m.cpu(cpu).irqs = false; },
  irq_enable(m, f, cpu) { m.cpu(cpu).irqs = true; },
  lock_acquire(m, f, cpu) {
    if (!m.locks.has(f.lock)) m.locks.set(f.lock, []);
    m.locks.get(f.lock).push({ cpu, mode: f.mode, cls: f.cls });
  },
  lock_release(m, f, cpu) {
    const holders = m.locks.get(f.lock) || [], at = holders.findIndex((h) => h.cpu === cpu);
    if (at >= 0) holders.splice(at, 1);
    if (!holders.length) m.locks.delete(f.lock);
  },
  rcu_read_lock(m, f, cpu) { m.cpu(cpu).rcu = f.depth; },
  rcu_read_unlock(m, f, cpu) { m.cpu(cpu).rcu = f.depth; },
  rcu_call(m, f) { m.callbacks.set(f.seq, [...(m.callbacks.get(f.seq) || []), f.callback]); },
  rcu_gp_start(m, f) { m.gp = { seq: f.seq, waiting: new Set(f.waiting) }; },
  rcu_quiescent_state(m, f, cpu) { if (m.gp) m.gp.waiting.delete(cpu); },
  rcu_gp_end(m) { m.gp = null; },
  rcu_callback(m) { for (const [seq, list] of m.callbacks) { list.shift(); if (!list.length) m.callbacks.delete(seq); break; } },
  gather_begin(m, f, cpu) { m.cpu(cpu).gather = { mm: f.mm, pages: [], tables: [], flushed: false }; },
  gather_add(m, f, cpu) { const g = m.cpu(cpu).gather; if (g) { g.pages.push(f); g.flushed = false; } },
  gather_add_table(m, f, cpu) { const g = m.cpu(cpu).gather; if (g) { g.tables.push(f); g.flushed = false; } },
  tlb_flush_done(m, f, cpu) { const g = m.cpu(cpu).gather; if (g) g.flushed = true; },
  gather_finish(m, f, cpu) { m.cpu(cpu).gather = null; },
  pgtables_bytes(m, f) { m.bytes.set(f.mm, f.value); },
};
