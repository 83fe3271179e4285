// One pass over all events gives everything that lasts: TLB entries, locks, RCU sections, handlers, grace periods, interrupts.

function spansOf(events) {
  const end = events.length;
  const spans = { tlb: [], locks: [], rcu: [], irq: [], gp: [], ipis: [], acks: [] };
  const open = new Map(), inFlight = new Map(), rcu = new Map(), irq = new Map();
  let row = 0, gp = null;
  const machine = new Machine((cpu, entry) => {
    const span = open.get(entry);
    if (entry.state === "gone") { if (span) { span.to = row; open.delete(entry); } return; }
    if (!span) {
      const made = { cpu, entry, from: row, to: end, states: [[row, entry.state]], worst: 0 };
      open.set(entry, made); spans.tlb.push(made);
    } else span.states.push([row, entry.state]);
    const it = open.get(entry);
    it.worst = Math.max(it.worst, { ok: 0, stale: 1, clash: 2 }[entry.state]);
  });
  const held = new Map();
  const lasting = {
    lock_acquire(f, cpu) {
      const span = { cpu, lock: f.lock, cls: f.cls, mode: f.mode, from: row, to: end };
      held.set(cpu + " " + f.lock, span); spans.locks.push(span);
    },
    lock_release(f, cpu) { const span = held.get(cpu + " " + f.lock); if (span) { span.to = row; held.delete(cpu + " " + f.lock); } },
    rcu_read_lock(f, cpu) { if (f.depth === 1) { const s = { cpu, from: row, to: end }; rcu.set(cpu, s); spans.rcu.push(s); } },
    rcu_read_unlock(f, cpu) { if (f.depth === 0 && rcu.has(cpu)) { rcu.get(cpu).to = row; rcu.delete(cpu); } },
    csd_function_entry(f, cpu) { const s = { cpu, from: row, to: end }; irq.set(cpu, s); spans.irq.push(s); },
    csd_function_exit(f, cpu) {
      if (irq.has(cpu)) { irq.get(cpu).to = row; irq.delete(cpu); }
      spans.acks.push({ source: cpu, target: f.source, from: row, to: -1 });
    },
    rcu_gp_start(f) { gp = { seq: f.seq, from: row, to: end }; spans.gp.push(gp); },
    rcu_gp_end() { if (gp) { gp.to = row; gp = null; } },
    ipi_send_cpumask(f, cpu) {
      for (const target of f.targets) {
        const key = cpu + ">" + target, span = { source: cpu, target, from: row, to: -1 };
        if (!inFlight.has(key)) inFlight.set(key, []);
        inFlight.get(key).push(span); spans.ipis.push(span);
      }
    },
    ipi_arrive(f, cpu) { const queue = inFlight.get(f.source + ">" + cpu); if (queue && queue.length) queue.shift().to = row; },
    ipi_done(f, cpu) { for (const ack of spans.acks) if (ack.target === cpu && ack.to < 0) ack.to = row; },
  };
  for (row = 0; row < end; row++) {
    const e = events[row], act = lasting[e[NAME]];
    if (act) act(e[FIELDS], e[CPU]);
    machine.apply(e);
  }
  spans.ipis = spans.ipis.filter((s) => s.to >= 0);
  spans.acks = spans.acks.filter((s) => s.to >= 0);
  return spans;
}

// How deep inside of operations, faults and handlers each record is.
function depthsOf(events) {
  const depth = new Map();
  return events.map((e) => {
    const cpu = e[CPU], now = depth.get(cpu) || 0;
    if (e[NAME] === "op_begin") { depth.set(cpu, 1); return 0; }
    if (e[NAME] === "op_end") { depth.set(cpu, 0); return 0; }
    if (e[NAME] === "page_fault_user" || e[NAME] === "csd_function_entry") { depth.set(cpu, now + 1); return now; }
    if (e[NAME] === "page_fault_done" || e[NAME] === "csd_function_exit") { depth.set(cpu, Math.max(0, now - 1)); return Math.max(0, now - 1); }
    return now;
  });
}

// Gives spans that overlap different tracks, at most `most`; the rest get -1. Keeps the order given.
function tracks(spans, most) {
  const ends = [];
  for (const span of spans) {
    let track = ends.findIndex((end) => end <= span.from);
    if (track < 0) track = ends.length < most ? ends.length : -1;
    if (track >= 0) ends[track] = span.to;
    span.track = track;
  }
  return ends.length;
}
