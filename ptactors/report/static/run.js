// The page: one cursor, moved by keys, buttons, clicks and the address.

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const events = data.events;
  const state = { row: 0, finding: 0, all: false, chain: [], back: [] };

  const firstRow = (step) => {
    let low = 0, high = events.length;
    while (low < high) { const middle = (low + high) >> 1; if (events[middle][STEP] < step) low = middle + 1; else high = middle; }
    return low < events.length ? low : events.length - 1;
  };
  const shown = () => (state.all ? events.map((_, i) => i) : data.findings[state.finding].rows);

  const chainOf = (row) => {
    const chain = [row];
    while (chain.length < 40 && events[chain.at(-1)][CAUSE] >= 0) chain.push(events[chain.at(-1)][CAUSE]);
    return chain;
  };

  if (!events.length) { $("lanes").textContent = "There is no record in this log."; return; }
  const lanes = new Lanes($("lanes"), data, spansOf(events), depthsOf(events), (row) => go(row));
  const panel = new Panel($("panel"), data);

  const draw = (rows) => lanes.show(rows, data.findings[state.finding].ghosts);

  // Brings the picture into the window where the cursor's row would not be seen.
  function reveal() {
    const box = $("lanes").getBoundingClientRect(), row = $("lanes").querySelector("rect.here");
    const seen = row ? row.getBoundingClientRect() : box;
    if (seen.top < 0 || seen.bottom > innerHeight || box.top > innerHeight - 120) $("said").scrollIntoView({ block: "start" });
  }

  function view() {
    $("all").setAttribute("aria-pressed", String(state.all));
    draw(shown());
  }

  function go(row, options) {
    const { silent, chain, widen } = { widen: true, ...options };
    if (widen && !state.all && !data.findings[state.finding].rows.includes(row)) { state.all = true; view(); }
    state.row = row;
    state.chain = chain || [];
    lanes.move(row, state.chain);
    const found = data.findings.find((f) => f.row === row && f.branches.length);
    panel.show(row, chainOf(row), found && found.branches, state.all);
    const e = events[row], hazard = hazardWords(row);
    $("said").textContent = `${e[STEP] > 0 ? "step " + e[STEP] : "before the run"}${e[CPU] >= 0 ? ", cpu" + e[CPU] : ""}: ${e[TEXT]}${hazard}`;
    if (!silent) history.replaceState(null, "", "#" + e[ANCHOR]);
  }

  function hazardWords(row) {
    const found = data.found && data.findings.find((f) => f.row === row);
    if (!found) return "";
    const count = found.names.length;
    return count > 1 ? `  — ${count} hazards at this step: ${found.names.join(", ")}` : `  — hazard: ${found.names[0]}`;
  }

  function walk(by) {
    const rows = shown();
    let at = rows.findIndex((row) => row >= state.row);
    if (at < 0) at = rows.length - 1;
    go(rows[Math.min(rows.length - 1, Math.max(0, at + by))]);
  }

  function nextHazard(by) {
    if (!data.found) return;
    const count = data.findings.length;
    if (data.findings[state.finding].row === state.row || by < 0) state.finding = (state.finding + by + count) % count;
    draw(shown());
    $("text").textContent = data.findings[state.finding].text;
    go(data.findings[state.finding].row);
  }

  function why() {
    const cause = events[state.row][CAUSE];
    if (cause < 0) { $("said").textContent = "This is where the chain begins."; return; }
    state.back.push(state.row);
    const trail = state.chain.length && state.chain.at(-1) === state.row ? state.chain : [state.row];
    if (!state.all && !shown().includes(cause)) {
      const rows = data.findings[state.finding].rows;
      rows.push(cause); rows.sort((a, b) => a - b); draw(rows);
    }
    go(cause, { chain: [...trail, cause] });
  }

  function goBack() { if (state.back.length) { const row = state.back.pop(); go(row, { chain: state.chain.slice(0, -1) }); } }

  function toggle() { state.all = !state.all; view(); const rows = shown(); go(rows.includes(state.row) ? state.row : data.findings[state.finding].row); }

  async function copy(text, name) {
    let done = false;
    try { await navigator.clipboard.writeText(text); done = true; } catch { done = false; }
    if (!done) {
      const area = element("textarea", { value: text, className: "hidden" });
      document.body.append(area); area.select(); done = document.execCommand("copy"); area.remove();
    }
    $("said").textContent = done ? `${name} is on the clipboard.` : "The browser does not allow copying; the text stands below.";
    if (!done) $("diagram").open = true;
  }

  function theme() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  }

  function fillTable() {
    if ($("rows").children.length) return;
    const head = element("tr", {}, ...["Step", "CPU", "Actor", "Event", "What happens", "Because of step"].map((t) => element("th", { scope: "col" }, t)));
    const body = element("tbody", {});
    events.forEach((e, row) => {
      const cause = e[CAUSE] >= 0 ? String(events[e[CAUSE]][STEP]) : "";
      const cells = [e[CPU] >= 0 ? String(e[CPU]) : "", e[ACTOR] >= 0 ? data.actors[e[ACTOR]] : "", e[NAME], e[TEXT] + (lanes.hazards.has(row) ? " (hazard)" : ""), cause];
      const line = element("tr", {}, element("th", { scope: "row" }, String(e[STEP])), ...cells.map((t) => element("td", {}, t)));
      if (lanes.hazards.has(row)) line.className = "bad";
      body.append(line);
    });
    $("rows").append(element("table", {}, element("caption", {}, "Every record of the run, in order"), element("thead", {}, head), body));
  }

  const copyText = () => copy(data.findings[state.finding].text, "The text diagram");
  const copyMermaid = () => copy(data.findings[state.finding].mermaid, "The Mermaid diagram");
  const keys = {
    ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), ArrowDown: () => walk(1), ArrowUp: () => walk(-1), j: () => walk(1), k: () => walk(-1),
    Home: () => go(shown()[0]), End: () => go(shown().at(-1)), PageDown: () => walk(20), PageUp: () => walk(-20),
    h: () => nextHazard(1), H: () => nextHazard(-1), w: why, b: goBack, e: toggle, c: copyText, m: copyMermaid,
  };
  const moves = new Set(Object.keys(keys).filter((key) => key !== "c" && key !== "m"));
  const anywhere = new Set(["ArrowRight", "ArrowLeft", "j", "k", "h", "H", "w", "b", "e", "c", "m"]);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT|PRE)$/.test(event.target.tagName)) return;
    const inside = $("lanes").contains(event.target);
    if (keys[event.key] && (inside || anywhere.has(event.key))) { event.preventDefault(); keys[event.key](); if (moves.has(event.key)) reveal(); }
  });
  document.addEventListener("click", (event) => {
    const word = event.target.closest && event.target.closest("a.term");
    if (word) $("words").open = true;
    const link = event.target.closest && event.target.closest("a[data-row]");
    if (!link) return;
    event.preventDefault();
    go(Number(link.dataset.row));
    if (!$("panel").contains(link)) { $("said").scrollIntoView({ block: "start" }); $("lanes").focus({ preventScroll: true }); }
  });
  for (const [id, act] of Object.entries({ back: () => walk(-1), forth: () => walk(1), hazard: () => nextHazard(1), why, all: toggle, copy: copyText, "copy-mermaid": copyMermaid, theme })) {
    $(id).addEventListener("click", act);
  }
  $("table").addEventListener("toggle", fillTable);
  let wide = $("lanes").clientWidth;
  addEventListener("resize", () => { if ($("lanes").clientWidth !== wide) { wide = $("lanes").clientWidth; lanes.layout(); lanes.paint(true); } });

  const anchors = new Map(events.map((e, row) => [e[ANCHOR], row]));
  const asked = () => {
    const match = /^#(?:step=)?(\d+(?:\.\d+)?)$/.exec(location.hash);
    return match ? anchors.get(match[1]) ?? firstRow(Number(match[1].split(".")[0])) : null;
  };
  const follow = () => { const row = asked(); if (row !== null) { go(row, { silent: true }); reveal(); } };
  addEventListener("hashchange", follow);
  view();
  go(data.findings[0].row, { silent: true });
  follow();
  document.documentElement.dataset.ready = "yes";
})();
