// What the machine holds at the cursor, as lists: the words of the picture.

function element(name, properties, ...children) {
  const node = document.createElement(name);
  for (const key in properties) if (key.startsWith("data-")) node.setAttribute(key, properties[key]); else node[key] = properties[key];
  node.append(...children);
  return node;
}

const item = (text, className) => element("li", { className: className || "" }, text);
const SHOWN = 14;

class Panel {
  constructor(box, data, go) { Object.assign(this, { box, data, go, machine: new Machine(), at: -1 }); }

  // Brings the machine to just after record `row`.
  seek(row) {
    if (row < this.at) { this.machine = new Machine(); this.at = -1; }
    while (this.at < row) this.machine.apply(this.data.events[++this.at]);
  }

  // `branches`: both chains of a pair of translations, [[title, [[row, text]]]]; then these stand for the one chain.
  show(row, chain, branches, whole) {
    this.seek(row);
    const why = branches && branches.length ? this.both(branches) : this.why(chain);
    const parts = [this.here(row, whole), this.tlbs(), why, this.tables(), this.lockList(), this.gathers(), this.rcu()];
    this.box.replaceChildren(...parts.flat());
  }

  // A heading with the words of its section that want explaining.
  head(text, ...ids) {
    const words = ids.flatMap((id) => [" ", element("a", { className: "term", href: "#term-" + id, "data-tip": this.data.terms[id][1] }, this.data.terms[id][0].split(/[,(]/)[0].trim())]);
    return element("h3", {}, text, ...words);
  }

  link(row) {
    const e = this.data.events[row];
    return element("a", { href: "#" + e[ANCHOR], "data-row": row }, e[STEP] > 0 ? `step ${e[STEP]}` : "before");
  }

  both(branches) {
    return branches.flatMap(([title, links]) => [element("h3", {}, title),
      element("ol", { className: "chain" }, ...links.map(([row, text]) => element("li", {}, this.link(row), " " + text)))]);
  }

  here(row, whole) {
    const e = this.data.events[row], list = element("ul", {});
    list.append(item(e[TEXT]));
    list.append(item(`${e[NAME]}, by ${e[ACTOR] >= 0 ? this.data.actors[e[ACTOR]] : "the set-up"}`, "none"));
    if (this.data.notes[row]) list.append(item(this.data.notes[row], "note"));
    const ours = (name) => name.startsWith("_") || name.startsWith("op_") || ["run", "access", "walk"].includes(name);
    const names = e[STACK] >= 0 ? this.data.stacks[e[STACK]].split(" <- ") : [];
    const stack = names.filter((name) => whole || !ours(name)).join(" <- ");
    if (stack) list.append(item("in " + stack, "none"));
    return [element("h3", {}, e[STEP] > 0 ? `Step ${e[STEP]}` : "Before the run"), list];
  }

  why(chain) {
    if (chain.length < 2) return [];
    const list = element("ol", { className: "chain" });
    chain.slice(1, 12).forEach((row, i) => {
      const e = this.data.events[row], after = this.data.events[chain[i]], reason = after[REASON];
      if (e[NAME] === "op_begin" && after[NAME] === "sys_enter") return; // says the same again
      const who = e[CPU] >= 0 ? ` cpu${e[CPU]}: ` : ": ";
      list.append(element("li", {}, this.data.reasons[reason] + ": ", this.link(row), who, element("code", {}, e[TEXT])));
    });
    return [element("h3", {}, "Why: what led here"), list];
  }

  tables() {
    const list = element("ul", {});
    for (const [mm, root] of this.machine.roots) list.append(this.table(mm, root, 3, 0));
    for (const [mm, bytes] of this.machine.bytes) list.append(item(`VmPTE of ${mm}: ${bytes / 1024} kB`, "none"));
    return [this.head("Page tables", "flags", "vmpte", "frame"), list];
  }

  table(mm, frame, level, base) {
    const node = item(`${level === 3 ? mm + ": " : ""}${LEVELS[level]} ${hex(frame)}`), inner = element("ul", {});
    const slots = this.machine.tables.get(frame);
    const used = slots ? [...slots].filter(([, e]) => e[0] !== "none").sort((a, b) => a[0] - b[0]) : [];
    for (const [slot, entry] of used.slice(0, SHOWN)) {
      const va = base + slot * 2 ** SHIFTS[level], fresh = this.machine.fresh.has(frame + ":" + slot) ? "fresh" : "";
      if (entry[0] === "table" && level > 0) {
        const child = this.table(mm, entry[1], level - 1, va);
        child.prepend(`[${slot}] ${level === 1 ? nameOf(this.data, mm, va) + " → " : ""}`);
        child.className = fresh;
        inner.append(child);
      } else {
        const what = entry[0] === "huge" ? "2M page " : entry[0] === "other" ? entry[2] + " " : "";
        inner.append(item(`[${slot}] ${nameOf(this.data, mm, va)} → ${what}${entry[0] === "other" ? "" : hex(entry[1]) + " " + entry[2]}`, fresh));
      }
    }
    for (const key of this.machine.fresh) {
      const [table, slot] = key.split(":").map(Number);
      if (table === frame && !used.some(([s]) => s === slot)) inner.append(item(`[${slot}] ${nameOf(this.data, mm, base + slot * 2 ** SHIFTS[level])} is empty now`, "fresh"));
    }
    if (!slots) inner.append(item("freed", "clash"));
    else if (!used.length && !inner.children.length) inner.append(item("empty", "none"));
    if (used.length > SHOWN) inner.append(item(`and ${used.length - SHOWN} more`, "none"));
    node.append(inner);
    return node;
  }

  tlbs() {
    const nodes = [this.head("TLBs", "w", "psc", "frame")];
    for (const [cpu, holder] of [...this.machine.cpus].sort((a, b) => a[0] - b[0])) {
      const facts = [holder.mode, holder.lazy ? "lazy" : "", holder.irqs ? "" : "irqs off", holder.rcu ? `RCU depth ${holder.rcu}` : ""].filter(Boolean);
      const list = element("ul", {}), entries = [...holder.tlb.values()];
      entries.sort((a, b) => (a.state === b.state ? a.va - b.va : a.state < b.state ? -1 : 1));
      for (const t of entries.slice(0, SHOWN)) {
        const note = { ok: "", stale: " stale", clash: " conflicting" }[t.state];
        const fresh = this.machine.fresh.has(cpu + "/" + t.key) ? " fresh" : "";
        list.append(item(`${nameOf(this.data, t.mm, t.va)} ${sizeOf(t.size)} → ${hex(t.pfn)}${t.write ? " w" : ""}${note}`, t.state + fresh));
      }
      if (!entries.length) list.append(item("empty", "none"));
      if (entries.length > SHOWN) list.append(item(`and ${entries.length - SHOWN} more`, "none"));
      if (holder.psc.size) list.append(item(`${holder.psc.size} upper-level entries cached`, "none"));
      nodes.push(element("div", { className: "cpu" }, `cpu${cpu}${facts.length ? " · " + facts.join(", ") : ""}`), list);
    }
    return nodes;
  }

  lockList() {
    const list = element("ul", {});
    for (const [name, holders] of this.machine.locks) list.append(item(`${name} held by ${holders.map((h) => `cpu${h.cpu} (${h.mode})`).join(", ")}`));
    if (!this.machine.locks.size) list.append(item("none held", "none"));
    return [this.head("Locks", "nested"), list];
  }

  gathers() {
    const list = element("ul", {});
    for (const [cpu, holder] of this.machine.cpus) {
      const g = holder.gather;
      if (!g) continue;
      const owed = !g.flushed && g.pages.length + g.tables.length > 0;
      list.append(item(`cpu${cpu}: ${g.pages.length} pages, ${g.tables.length} tables${owed ? "; the flush is still owed" : ""}`, owed ? "stale" : ""));
    }
    if (!list.children.length) list.append(item("none open", "none"));
    return [this.head("Gathers", "gather"), list];
  }

  rcu() {
    const list = element("ul", {}), gp = this.machine.gp;
    list.append(gp ? item(`grace period ${gp.seq} waits for ${[...gp.waiting].map((c) => "cpu" + c).join(", ") || "nobody"}`) : item("no grace period under way", "none"));
    for (const [seq, waiting] of this.machine.callbacks) list.append(item(`after ${seq}: ${waiting.join(", ")}`));
    return [this.head("RCU", "gp"), list];
  }
}
