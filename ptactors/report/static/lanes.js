// The picture: a column for each CPU, time downwards. Only the rows near the window exist in the document.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 22, GUTTER = 68, LOCKS = 30, BAR = 7, HEAD = 34, SIDE = 118, BUS = 84, NARROW = 64, SPARE = 40;
const KINDS = {
  program: ["op_begin", "op_end", "sys_enter", "sys_exit", "page_fault_user", "page_fault_done", "register", "stuck", "machine_check"],
  tlb: ["tlb_fill", "tlb_evict", "tlb_invalidate", "psc_fill", "psc_evict", "cr3_write"],
  flush: ["tlb_flush", "tlb_flush_done", "ipi_send_cpumask", "ipi_arrive", "ipi_wait", "ipi_done", "csd_function_entry", "csd_function_exit"],
  lock: ["lock_acquire", "lock_release", "trylock_fail", "lock_init", "lock_free"],
  rcu: ["rcu_read_lock", "rcu_read_unlock", "rcu_call", "rcu_synchronize", "rcu_gp_start", "rcu_gp_end", "rcu_quiescent_state", "rcu_callback"],
  memory: ["mem_read", "mem_write", "walk_read", "table_read", "table_map", "table_unmap", "gup_pin"],
};
const KIND_OF = Object.fromEntries(Object.entries(KINDS).flatMap(([kind, names]) => names.map((name) => [name, kind])));
const kindOf = (e) => KIND_OF[e[NAME]] || (e[FIELDS].new ? "tables" : "other");

function make(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  return node;
}

class Lanes {
  constructor(box, data, spans, depths, choose) {
    Object.assign(this, { box, data, spans, depths, choose, rows: [], cursor: 0, chain: [], window: [0, 0] });
    this.hazards = new Map();
    if (data.found) for (const f of data.findings) this.hazards.set(f.row, f.names.join(", "));
    this.actors = data.actors;
    this.inner = document.createElement("div");
    this.inner.className = "inner";
    this.heads = make("svg", { class: "heads", "aria-hidden": "true" });
    this.svg = make("svg", { "aria-hidden": "true" });
    this.inner.append(this.heads, this.svg);
    box.append(this.inner);
    box.addEventListener("scroll", () => this.paint(false), { passive: true });
    this.svg.addEventListener("click", (event) => {
      const at = Math.floor((event.clientY - this.svg.getBoundingClientRect().top) / this.scale() / ROW);
      if (this.rows[at] !== undefined) this.choose(Math.ceil(this.rows[at]));
    });
  }

  scale() { return this.svg.getBoundingClientRect().width / this.width || 1; }

  // `ghosts`: [row, cpu, text] of what did not happen; each gets a line of its own before its row, numbered row - 0.5.
  show(rows, ghosts) {
    this.ghosts = new Map((ghosts || []).map(([row, cpu, text]) => [row - 0.5, { cpu, text }]));
    this.rows = [...rows, ...this.ghosts.keys()].sort((a, b) => a - b);
    this.layout();
    this.paint(true);
  }

  // Where each lane is; CPUs that do nothing in this view get a narrow one.
  layout() {
    const events = this.data.events, busy = new Set(), cpus = new Set();
    for (const e of events) if (e[CPU] >= 0) cpus.add(e[CPU]);
    for (const row of this.rows) if (events[row]) busy.add(events[row][CPU]);
    const ids = [...cpus].sort((a, b) => a - b);
    const idle = ids.filter((cpu) => !busy.has(cpu)).length, active = Math.max(1, ids.length - idle);
    const hasBus = this.spans.ipis.length > 0;
    const room = this.box.clientWidth - GUTTER - SIDE - (hasBus ? BUS : 0) - idle * NARROW - 4;
    const wide = Math.max(225, Math.floor(room / active));
    this.lanes = new Map();
    let x = GUTTER;
    for (const cpu of ids) {
      const width = busy.has(cpu) ? wide : NARROW;
      const bars = this.spans.tlb.filter((s) => s.cpu === cpu && this.seen(s)).sort((a, b) => b.worst - a.worst || a.from - b.from);
      for (const bar of bars) bar.track = -1;
      const chosen = bars.slice(0, 200).sort((a, b) => a.from - b.from), most = width === NARROW ? 4 : 6;
      const first = chosen.filter((s) => s.worst > 0), used = tracks(first, most);
      tracks(chosen.filter((s) => s.worst === 0), Math.max(0, most - used));
      for (const s of chosen) if (s.worst === 0 && s.track >= 0) s.track += used;
      tracks(this.spans.locks.filter((s) => s.cpu === cpu), 5);
      this.lanes.set(cpu, { x, width, bars: chosen.filter((s) => s.track >= 0), name: "cpu" + cpu });
      x += width;
    }
    this.rcuX = x; x += SIDE;
    this.busX = hasBus ? x : -1; x += hasBus ? BUS : 0;
    this.width = x;
    this.height = this.rows.length * ROW + SPARE;
    this.box.classList.toggle("long", this.rows.length > 400);
    for (const [svg, height] of [[this.heads, HEAD], [this.svg, this.height]]) {
      svg.setAttribute("width", this.width); svg.setAttribute("height", height); svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    }
    this.drawHeads();
  }

  seen(span) { return this.y(span.to) > this.y(span.from); }

  // The height of a record's row, or of the first shown row behind it.
  y(row) {
    let low = 0, high = this.rows.length;
    while (low < high) { const middle = (low + high) >> 1; if (this.rows[middle] < row) low = middle + 1; else high = middle; }
    return low * ROW;
  }

  last(row) {
    const after = this.y(row) / ROW;
    return (this.rows[after] === row ? after : after - 1) * ROW;
  }

  drawHeads() {
    const nodes = [make("line", { class: "rule", x1: 0, x2: this.width, y1: HEAD - 0.5, y2: HEAD - 0.5 })];
    const head = (x, text) => nodes.push(make("text", { class: "head", x, y: 22 }, text));
    head(14, "step");
    for (const lane of this.lanes.values()) head(lane.x + (lane.width > NARROW ? LOCKS + 8 : 8), lane.name);
    for (const lane of this.lanes.values()) {
      if (lane.width > NARROW) nodes.push(make("text", { class: "quiet", x: lane.x + lane.width - 12, y: 22, "text-anchor": "end" }, "TLB"));
    }
    head(this.rcuX + 10, "RCU");
    if (this.busX >= 0) head(this.busX + 10, "IPI bus");
    this.heads.replaceChildren(...nodes);
  }

  paint(force) {
    const whole = this.rows.length <= 400;
    const top = whole ? 0 : Math.max(0, Math.floor(this.box.scrollTop / ROW) - 30);
    const bottom = whole ? this.rows.length : Math.min(this.rows.length, top + Math.ceil(this.box.clientHeight / ROW) + 60);
    if (!force && whole) return;
    if (!force && Math.abs(top - this.window[0]) < 15 && bottom <= this.window[1] + 15) return;
    this.window = [top, bottom];
    const layers = [this.bands(top, bottom), this.backs(top, bottom), this.locks(top, bottom), this.strips(top, bottom),
      this.arrows(top, bottom), this.labels(top, bottom), this.whyLines()];
    this.svg.replaceChildren(this.defs(), ...layers.flat());
  }

  defs() {
    const defs = make("defs"), pattern = make("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    pattern.append(make("rect", { class: "stale", width: 5, height: 5 }), make("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 5 }));
    const tip = make("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" });
    tip.append(make("path", { class: "ipifill", d: "M0 0L8 4L0 8z" }));
    defs.append(pattern, tip);
    return defs;
  }

  backs(top, bottom) {
    const nodes = [], chain = new Set(this.chain);
    for (let i = top; i < bottom; i++) {
      const row = this.rows[i];
      const mark = row === this.cursor ? " here" : this.hazards.has(row) ? " bad" : chain.has(row) ? " chain" : "";
      nodes.push(make("rect", { class: "row" + mark, x: 1, y: i * ROW, width: this.width - 2, height: ROW, "data-row": row }));
      if (i && row - this.rows[i - 1] > 1) nodes.push(make("line", { class: "gap", x1: 0, x2: this.width, y1: i * ROW, y2: i * ROW }));
    }
    for (const lane of this.lanes.values()) nodes.push(make("line", { class: "rule", x1: lane.x, x2: lane.x, y1: top * ROW, y2: bottom * ROW }));
    for (const x of [this.rcuX, this.busX]) if (x >= 0) nodes.push(make("line", { class: "rule", x1: x, x2: x, y1: top * ROW, y2: bottom * ROW }));
    return nodes;
  }

  // The part of a span that lies in the window: [y from, y to], or null.
  part(from, to, top, bottom) {
    const a = this.y(from), b = this.y(to);
    return b <= a || b < top * ROW || a > bottom * ROW ? null : [Math.max(a, top * ROW - ROW), Math.min(b, bottom * ROW + ROW)];
  }

  bands(top, bottom) {
    const nodes = [];
    for (const [list, name] of [[this.spans.rcu, "rcu"], [this.spans.irq, "irq"]]) {
      for (const span of list) {
        const lane = this.lanes.get(span.cpu), part = this.part(span.from, span.to, top, bottom);
        if (!part || !lane) continue;
        nodes.push(make("rect", { class: name, x: lane.x + LOCKS - 2, y: part[0] + 2, width: Math.max(8, lane.width - LOCKS - 8), height: part[1] - part[0] - 2, rx: 3 }));
        if (name === "rcu") nodes.push(make("rect", { class: "rcuedge", x: lane.x + LOCKS - 2, y: part[0] + 2, width: 2, height: part[1] - part[0] - 2 }));
      }
    }
    for (const span of this.spans.gp) {
      const part = this.part(span.from, span.to, top, bottom);
      if (!part) continue;
      nodes.push(make("rect", { class: "rcu", x: this.rcuX + 4, y: part[0] + 2, width: SIDE - 8, height: part[1] - part[0] + ROW - 4, rx: 3 }));
      nodes.push(make("rect", { class: "rcuedge", x: this.rcuX + 4, y: part[0] + 2, width: 2, height: part[1] - part[0] + ROW - 4 }));
    }
    return nodes;
  }

  locks(top, bottom) {
    const nodes = [];
    for (const span of this.spans.locks) {
      const lane = this.lanes.get(span.cpu), part = this.part(span.from, span.to, top, bottom);
      if (!part || !lane || span.track < 0) continue;
      // The row of the release may be hidden: the bracket then ends at the last row that is inside.
      const x = lane.x + 4 + span.track * 5, [a, b] = [part[0] + ROW / 2, Math.min(part[1], this.last(span.to)) + ROW / 2];
      if (b < a) continue;
      const node = make("path", { class: "bracket lock-" + span.cls, d: `M${x + 4} ${a}H${x}V${b}H${x + 4}` });
      node.append(make("title", {}, `${span.lock} held (${span.mode})`));
      nodes.push(node);
    }
    return nodes;
  }

  strips(top, bottom) {
    const nodes = [];
    for (const lane of this.lanes.values()) {
      for (const span of lane.bars) {
        const x = lane.x + lane.width - 6 - (span.track + 1) * BAR;
        span.states.forEach(([from, state], i) => {
          const to = i + 1 < span.states.length ? span.states[i + 1][0] : span.to;
          const part = this.part(from, to, top, bottom);
          if (!part) return;
          const last = i + 1 === span.states.length;
          const rect = make("rect", { class: state, x, y: part[0] + (i ? 0 : ROW / 2), width: BAR - 2, height: Math.max(2, part[1] - part[0] + (last ? ROW / 2 : 0) - (i ? 0 : ROW / 2)) });
          if (state === "stale") rect.setAttribute("fill", "url(#hatch)"), rect.removeAttribute("class");
          rect.append(make("title", {}, `${nameOf(this.data, span.entry.mm, span.entry.va)} ${sizeOf(span.entry.size)} → ${hex(span.entry.pfn)}: ${state}`));
          nodes.push(rect);
        });
      }
    }
    return nodes;
  }

  arrows(top, bottom) {
    const nodes = [], middle = (cpu, side) => { const lane = this.lanes.get(cpu); return lane ? lane.x + (side ? lane.width - 4 : LOCKS) : 0; };
    for (const [list, name] of [[this.spans.ipis, "ipi"], [this.spans.acks, "ack"]]) {
      for (const span of list) {
        const a = this.y(span.from) + ROW / 2, b = this.y(span.to) + ROW / 2;
        if (a === b || Math.max(a, b) < top * ROW || Math.min(a, b) > bottom * ROW) continue;
        const right = span.target > span.source;
        const x1 = middle(span.source, right), x2 = middle(span.target, !right), bend = (right ? 1 : -1) * 26;
        nodes.push(make("path", { class: name, d: `M${x1} ${a}C${x1 + bend} ${a} ${x2 - bend} ${b} ${x2} ${b}`, "marker-end": "url(#tip)" }));
        if (name === "ipi" && this.busX >= 0) {
          nodes.push(make("rect", { class: "ipifill", x: this.busX + 10, y: a, width: 3, height: Math.max(3, b - a), rx: 1 }));
          nodes.push(make("text", { class: "quiet", x: this.busX + 20, y: a + 12 }, `${span.source}→${span.target}`));
        }
      }
    }
    return nodes;
  }

  labels(top, bottom) {
    const nodes = [], events = this.data.events;
    let before = top ? events[Math.ceil(this.rows[top - 1])][STEP] : -1;
    for (let i = top; i < bottom; i++) {
      if (this.ghosts.has(this.rows[i])) { nodes.push(...this.ghostLine(i)); continue; }
      const row = this.rows[i], e = events[row], y = i * ROW + 15, lane = this.lanes.get(e[CPU]);
      if (e[STEP] !== before) nodes.push(make("text", { class: "stepno", x: GUTTER - 22, y, "text-anchor": "end" }, e[STEP] > 0 ? e[STEP] : "before"));
      before = e[STEP];
      const rcu = e[NAME].startsWith("rcu_gp") || (e[NAME] === "rcu_quiescent_state");
      const setup = !rcu && !lane, start = this.lanes.values().next().value;
      const x = setup && start ? start.x + LOCKS + 8 : rcu || !lane ? this.rcuX + 12 : lane.x + LOCKS + 8 + Math.min(4, this.depths[row]) * 14;
      const end = setup && start ? start.x + start.width - 10 : rcu || !lane ? this.rcuX + SIDE - 4 : lane.x + lane.width - 10 - Math.min(6, lane.bars.reduce((n, b) => Math.max(n, b.track + 1), 0)) * BAR;
      const text = rcu ? shortRcu(e) : e[TEXT] + this.more(i);
      if (!rcu && lane) nodes.push(make("circle", { class: "dot " + kindOf(e), cx: x - 6, cy: y - 4, r: 3 }));
      const strong = ["op_begin", "sys_enter", "page_fault_user"].includes(e[NAME]) || this.hazards.has(row);
      nodes.push(make("text", { x, y, class: (strong ? "strong" : "") + (kindOf(e) === "other" || setup ? " quiet" : "") }, fit(text, end - x)));
      if (this.hazards.has(row)) nodes.push(make("text", { class: "hazardmark", x: 4, y }, "!"));
    }
    return nodes;
  }

  // How many records like this one follow in its step and are folded away.
  more(i) {
    const events = this.data.events, row = this.rows[i], e = events[row];
    if (e[NAME] !== "tlb_invalidate") return "";
    let last = row;
    while (events[last + 1] && events[last + 1][NAME] === e[NAME] && events[last + 1][STEP] === e[STEP] && events[last + 1][CPU] === e[CPU] && last + 1 !== this.rows[i + 1]) last++;
    return last > row ? ` (+${last - row})` : "";
  }

  ghostLine(i) {
    const ghost = this.ghosts.get(this.rows[i]), lane = this.lanes.get(ghost.cpu), room = ghost.text.length * CHARACTER;
    const x = Math.max(8, Math.min(lane ? lane.x + LOCKS + 8 : GUTTER, this.width - room - 8));
    return [make("rect", { class: "ghost", x: x - 6, y: i * ROW + 1, width: Math.min(room + 12, this.width - x), height: ROW - 2, rx: 3 }),
      make("text", { class: "ghostword", x, y: i * ROW + 15 }, fit(ghost.text, this.width - x))];
  }

  whyLines() {
    const nodes = [];
    for (let i = 0; i + 1 < this.chain.length; i++) {
      const a = this.y(this.chain[i]) + ROW / 2, b = this.y(this.chain[i + 1]) + ROW / 2, x = GUTTER - 4;
      if (a !== b) nodes.push(make("path", { class: "why", d: `M${x} ${a}C${x - 15} ${a} ${x - 15} ${b} ${x} ${b}` }));
    }
    return nodes;
  }

  move(row, chain) {
    this.cursor = row;
    this.chain = chain;
    const y = this.y(row), box = this.box;
    if (y < box.scrollTop + 2 * ROW || y > box.scrollTop + box.clientHeight - HEAD - 3 * ROW) box.scrollTop = Math.max(0, y - box.clientHeight / 3);
    const lane = this.lanes.get(this.data.events[row] ? this.data.events[row][CPU] : -1);
    if (lane && (lane.x < box.scrollLeft || lane.x + lane.width > box.scrollLeft + box.clientWidth)) box.scrollLeft = Math.max(0, lane.x - GUTTER);
    this.paint(true);
  }
}

const CHARACTER = 7.25;
const fit = (text, width) => { const most = Math.max(1, Math.floor(width / CHARACTER)); return text.length <= most ? text : text.slice(0, most - 1) + "…"; };
const sizeOf = (size) => (size === SMALL ? "4K" : size === 2 ** 21 ? "2M" : hex(size));
const shortRcu = (e) => (e[NAME] === "rcu_gp_start" ? `GP ${e[FIELDS].seq} starts` : e[NAME] === "rcu_gp_end" ? `GP ${e[FIELDS].seq} ends` : `cpu${e[CPU]} is quiet`);

function nameOf(data, mm, va) {
  for (const [owner, vma, start, end] of data.areas) {
    if (owner === mm && va >= start && va < end) return va === start ? vma : `${vma}+${hex(va - start)}`;
  }
  return hex(va);
}
