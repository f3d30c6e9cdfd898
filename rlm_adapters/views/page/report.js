"use strict";
// Everything that is shown was written by a cell or a model. It enters the page as text only (textContent), never as markup.
(() => {
  const ROW = 26, CUT = 20000, EDGE = 8;
  const data = JSON.parse(document.getElementById("data").textContent);
  const nodes = data.nodes, texts = data.texts;
  const byId = (id) => document.getElementById(id);
  const COLOURS = { root: "--root", cell: "--cell", call: "--call", child: "--child", run: "--child", tool: "--tool", note: "--note" };
  const NAMES = { root: "root LM", cell: "cell", call: "sub-call", child: "child RLM", run: "run", tool: "tool", note: "note" };

  const make = (tag, text, classes) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    if (classes) element.className = classes;
    return element;
  };
  const count = (number) => number.toLocaleString("en-US");
  const seconds = (value) => value === null || value === undefined ? "" :
    value < 1 ? `${Math.round(value * 1000)} ms` : value < 100 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)}m ${Math.round(value % 60)}s`;
  const money = (value) => value === null || value === undefined ? "" : `$${value < 0.01 ? value.toFixed(5) : value.toFixed(3)}`;
  const lasted = (node) => node.end === null ? null : node.end - node.start;

  // ---- the tree ----
  const children = nodes.map(() => []), roots = [];
  nodes.forEach((node, index) => (node.parent === null ? roots : children[node.parent]).push(index));
  const level = nodes.map(() => 0);
  nodes.forEach((node, index) => { if (node.parent !== null) level[index] = level[node.parent] + 1; });
  const open = new Set();
  nodes.forEach((node, index) => { if (children[index].length && children[index].length <= 60 && level[index] < 3) open.add(index); });
  let picked = null, shown = [], wanted = null;

  const FLAGS = [
    ["root", "root LM", (node) => node.kind === "root"],
    ["cell", "cells", (node) => node.kind === "cell"],
    ["call", "sub-calls", (node) => node.kind === "call" || node.kind === "child"],
    ["failed", "failed", (node) => node.status === "failed"],
    ["ahead", "ahead", (node) => node.ahead],
    ["slow", "slow", (node, index) => slow.has(index)],
    ["costly", "costly", (node, index) => costly.has(index)],
  ];
  const isCall = (node) => node.kind === "root" || node.kind === "call" || node.kind === "tool";
  const top = (value) => {
    const ranked = nodes.map((node, index) => [isCall(node) ? value(node) : 0, index]).filter((pair) => pair[0] > 0);
    ranked.sort((left, right) => right[0] - left[0]);
    return new Set(ranked.slice(0, Math.max(1, Math.ceil(ranked.length / 20))).map((pair) => pair[1]));
  };
  const slow = top((node) => lasted(node) || 0);
  const costly = top((node) => node.cost || (node.input_tokens || 0) + 4 * (node.output_tokens || 0));
  const active = new Set();
  FLAGS.forEach(([name, label, test]) => {
    const many = nodes.filter((node, index) => test(node, index)).length;
    const button = make("button", `${label} ${count(many)}`);
    button.type = "button";
    button.dataset.flag = name;
    button.disabled = many === 0;
    button.setAttribute("aria-pressed", "false");
    if (name === "slow") button.title = "The slowest twentieth of the model and tool calls";
    if (name === "costly") button.title = "The twentieth of the calls that cost most (by tokens where the cost is unknown)";
    button.addEventListener("click", () => {
      active.has(name) ? active.delete(name) : active.add(name);
      button.setAttribute("aria-pressed", String(active.has(name)));
      refresh();
    });
    byId("filters").append(button);
  });

  let index = null;
  const find = (words) => {
    if (!index) {
      const lower = texts.map((text) => (typeof text === "string" ? text : text.map((part) => part[1]).join("")).toLowerCase());
      index = nodes.map((node) => [node.title.toLowerCase(), (node.model || "").toLowerCase(),
        ...node.parts.map((part) => lower[part.text])]);
    }
    return (number) => index[number].some((text) => text.includes(words));
  };

  const refresh = () => {
    const words = byId("search").value.trim().toLowerCase();
    const tests = FLAGS.filter(([name]) => active.has(name)).map((flag) => flag[2]);
    const found = words ? find(words) : null;
    wanted = null;
    let hits = nodes.length;
    if (tests.length || found) {
      wanted = new Set();
      hits = 0;
      nodes.forEach((node, number) => {
        if ((tests.length && !tests.some((test) => test(node, number))) || (found && !found(number))) return;
        hits += 1;
        for (let at = number; at !== null && !wanted.has(at); at = nodes[at].parent) wanted.add(at);
      });
    }
    shown = [];
    const stack = roots.slice().reverse();
    while (stack.length) {
      const at = stack.pop();
      if (wanted && !wanted.has(at)) continue;
      shown.push(at);
      if (wanted || open.has(at)) for (let i = children[at].length - 1; i >= 0; i -= 1) stack.push(children[at][i]);
    }
    byId("space").style.height = `${shown.length * ROW}px`;
    byId("count").textContent = wanted ? `${count(hits)} of ${count(nodes.length)}` : `${count(nodes.length)} entries`;
    draw();
    paint();
  };

  const tree = byId("tree"), rows = byId("rows");
  const draw = () => {
    const first = Math.max(0, Math.floor(tree.scrollTop / ROW) - EDGE);
    const last = Math.min(shown.length, first + Math.ceil(tree.clientHeight / ROW) + 2 * EDGE);
    rows.style.top = `${first * ROW}px`;
    rows.replaceChildren(...shown.slice(first, last).map((number, offset) => row(number, first + offset)));
  };
  const row = (number, position) => {
    const node = nodes[number], line = make("div", null, "row");
    line.id = `row${number}`;
    line.setAttribute("role", "treeitem");
    line.setAttribute("aria-level", String(level[number] + 1));
    line.setAttribute("aria-posinset", String(position + 1));
    line.setAttribute("aria-setsize", String(shown.length));
    line.setAttribute("aria-selected", String(number === picked));
    if (children[number].length) line.setAttribute("aria-expanded", String(Boolean(wanted) || open.has(number)));
    line.style.paddingLeft = `${6 + 16 * Math.min(level[number], 12)}px`;
    const twist = make("span", children[number].length ? (wanted || open.has(number) ? "▾" : "▸") : "", "twist");
    twist.addEventListener("click", (event) => { event.stopPropagation(); toggle(number); });
    const kind = make("span", NAMES[node.kind], `kind k-${node.kind}`);
    const title = make("span", node.title, node.status === "failed" ? "title bad" : "title");
    const many = children[number].length;
    const marks = [node.status === "running" ? "not finished" : node.status === "failed" ? "failed" : "", node.ahead ? "ahead" : "",
      node.cached ? "cached" : "", node.attempt > 1 ? `attempt ${node.attempt}` : "", many > 1 ? count(many) : ""].filter(Boolean).join(" · ");
    line.append(twist, kind, title, make("span", marks, node.status === "failed" ? "num marks bad" : "num marks"));
    const tokens = (node.input_tokens || 0) + (node.output_tokens || 0);
    line.append(make("span", tokens ? `${count(tokens)} tok` : "", "num tokens"), make("span", money(node.cost), "num tokens"),
      make("span", seconds(lasted(node)), "num"));
    line.addEventListener("click", () => pick(number));
    line.addEventListener("dblclick", () => toggle(number));
    return line;
  };
  const toggle = (number) => {
    if (!children[number].length || wanted) return;
    open.has(number) ? open.delete(number) : open.add(number);
    refresh();
  };
  const reveal = (number) => {
    for (let at = nodes[number].parent; at !== null; at = nodes[at].parent) open.add(at);
    if (wanted && !wanted.has(number)) {
      active.clear();
      document.querySelectorAll("#filters button").forEach((button) => button.setAttribute("aria-pressed", "false"));
      byId("search").value = "";
    }
    refresh();
  };
  const pick = (number, jump) => {
    picked = number;
    if (jump) reveal(number);
    const at = shown.indexOf(number);
    if (at >= 0) {
      if (at * ROW < tree.scrollTop) tree.scrollTop = at * ROW;
      if ((at + 1) * ROW > tree.scrollTop + tree.clientHeight) tree.scrollTop = (at + 1) * ROW - tree.clientHeight;
    }
    tree.setAttribute("aria-activedescendant", `row${number}`);
    history.replaceState(null, "", `#n${number}`);
    draw();
    paint();
    detail(number);
  };

  // ---- what is selected ----
  const spanFor = ([kind, text]) => (/^[a-z]$/.test(kind) ? make("span", text, `h-${kind}`) : document.createTextNode(text));
  const plain = (text) => (typeof text === "string" ? text : text.map((part) => part[1]).join(""));
  const fill = (pre, text, limit) => {
    if (typeof text === "string") pre.textContent = text.slice(0, limit);
    else pre.replaceChildren(...text.map(spanFor));
  };
  const part = (piece) => {
    const box = make("div"), label = make("div", null, "label"), text = texts[piece.text], pre = make("pre");
    label.append(make("h2", piece.name));
    const buttons = make("span");
    if (typeof text === "string" && text.length > CUT) {
      const more = make("button", `show all ${count(text.length)} characters`);
      more.type = "button";
      more.addEventListener("click", () => { fill(pre, text, text.length); more.remove(); });
      buttons.append(more);
    }
    const copy = make("button", "copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(plain(text)); copy.textContent = "copied"; }
      catch { getSelection().selectAllChildren(pre); copy.textContent = "selected"; }
    });
    buttons.append(" ", copy);
    label.append(buttons);
    fill(pre, text, CUT);
    box.append(label, pre);
    if (piece.left_out) box.append(make("p", `${count(piece.left_out)} characters are left out of this page; the trace holds them.`, "num"));
    return box;
  };
  const detail = (number) => {
    const node = nodes[number], box = byId("details"), facts = make("ul", null, "facts");
    const fact = (name, value) => {
      if (value === "" || value === null || value === undefined) return;
      const item = make("li", `${name} `);
      item.append(make("b", value));
      facts.append(item);
    };
    fact("started at", seconds(node.start) || "0 ms");
    fact("took", node.end === null ? "not finished" : seconds(lasted(node)));
    fact("model", node.model);
    fact("tokens", node.input_tokens || node.output_tokens ?
      `${count(node.input_tokens || 0)} in${node.cached_tokens ? ` (${count(node.cached_tokens)} cached)` : ""}, ${count(node.output_tokens || 0)} out` : "");
    fact("cost", money(node.cost));
    fact("attempt", node.attempt > 1 ? String(node.attempt) : "");
    (node.facts || []).forEach(([name, value]) => fact(name, value));
    const title = make("h1", null, `k-${node.kind}`);
    title.append(make("span", NAMES[node.kind]), document.createTextNode(node.status === "ok" ? "" : ` · ${node.status}`));
    const parts = node.parts.length ? node.parts.map(part) : [make("pre", node.title)];
    box.replaceChildren(title, facts, ...parts);
    if (children[number].length) {
      const inner = make("button", `${count(children[number].length)} inside`);
      inner.type = "button";
      inner.addEventListener("click", () => { open.add(number); refresh(); pick(children[number][0], true); });
      box.append(inner);
    }
    box.scrollTop = 0;
  };

  // ---- the timeline: what ran at the same time lies one above the other ----
  const canvas = byId("timeline"), brush = canvas.getContext("2d");
  const end = Math.max(0.001, data.seconds, ...nodes.reduce((most, node) => [Math.max(most[0], node.end || node.start)], [0]));
  const LANES = 90;
  const lane = new Int32Array(nodes.length);
  let lanes = 0;
  (() => {
    const free = [];
    const order = nodes.map((node, number) => number).filter((number) => nodes[number].kind !== "note" && nodes[number].kind !== "run");
    order.sort((left, right) => nodes[left].start - nodes[right].start || left - right);
    lane.fill(-1);
    order.forEach((number) => {
      const node = nodes[number];
      if (node.depth === 0 && node.kind === "root") { lane[number] = 0; return; }
      if (node.depth === 0 && node.kind === "cell") { lane[number] = 1; return; }
      let at = free.findIndex((until) => until <= node.start + 1e-9);
      if (at < 0) { at = free.length < LANES ? free.length : (number % LANES); }
      free[at] = node.end === null ? end : node.end;
      lane[number] = at + 2;
    });
    lanes = free.length;
  })();
  const TALL = 14, laneHeight = Math.max(2, Math.min(10, 150 / Math.max(1, lanes)));
  const height = Math.ceil(2 * (TALL + 2) + lanes * laneHeight + 22);
  let from = 0, to = end, drag = null, frame = null;
  const width = () => canvas.clientWidth || 800;
  const x = (time) => (time - from) / (to - from) * width();
  const y = (number) => lane[number] < 2 ? lane[number] * (TALL + 2) + 2 : 2 * (TALL + 2) + 2 + (lane[number] - 2) * laneHeight;
  const tall = (number) => lane[number] < 2 ? TALL : Math.max(1, laneHeight - (laneHeight > 3 ? 1 : 0));
  const paint = () => { if (frame === null) frame = requestAnimationFrame(paintNow); };
  const paintNow = () => {
    frame = null;
    const scale = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    canvas.width = width() * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    brush.setTransform(scale, 0, 0, scale, 0, 0);
    brush.clearRect(0, 0, width(), height);
    const palette = Object.fromEntries(Object.entries(COLOURS).map(([kind, name]) => [kind, colour(name)])), bad = colour("--bad");
    nodes.forEach((node, number) => {
      if (lane[number] < 0) return;
      const left = x(node.start), right = x(node.end === null ? end : node.end);
      if (right < 0 || left > width()) return;
      brush.globalAlpha = wanted && !wanted.has(number) ? 0.15 : node.ahead ? 0.75 : 1;
      brush.fillStyle = node.status === "failed" ? bad : palette[node.kind];
      brush.fillRect(left, y(number), Math.max(1.5, right - left - 0.5), tall(number));
    });
    brush.globalAlpha = 1;
    if (picked !== null && lane[picked] >= 0) {
      const node = nodes[picked];
      brush.strokeStyle = colour("--text");
      brush.lineWidth = 2;
      brush.strokeRect(x(node.start) - 1, y(picked) - 1, Math.max(4, x(node.end === null ? end : node.end) - x(node.start) + 1), tall(picked) + 2);
    }
    brush.fillStyle = colour("--dim");
    brush.font = "11px system-ui, sans-serif";
    const steps = Math.max(2, Math.floor(width() / 110)), raw = (to - from) / steps;
    const unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((one) => one * unit).find((one) => one >= raw);
    for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
      brush.fillRect(x(time), height - 18, 1, 4);
      brush.fillText(seconds(time) || "0", Math.min(x(time) + 2, width() - 46), height - 4);
    }
  };
  const under = (event) => {
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    for (let number = nodes.length - 1; number >= 0; number -= 1) {
      if (lane[number] < 0) continue;
      const left = x(nodes[number].start), right = Math.max(left + 3, x(nodes[number].end === null ? end : nodes[number].end));
      if (px >= left - 1 && px <= right + 1 && py >= y(number) && py < y(number) + Math.max(tall(number), laneHeight)) return number;
    }
    return null;
  };
  const zoom = (factor, middle) => {
    const span = Math.min(end, Math.max(end / 20000, (to - from) * factor));
    from = Math.max(0, Math.min(end - span, middle - (middle - from) * span / (to - from)));
    to = from + span;
    paint();
  };
  const timeAt = (event) => from + (event.clientX - canvas.getBoundingClientRect().left) / width() * (to - from);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const hint = byId("hint");
    if (drag) {
      const shift = (drag.x - event.clientX) / width() * (to - from), span = to - from;
      if (Math.abs(drag.x - event.clientX) > 3) drag.moved = true;
      if (drag.moved) { from = Math.max(0, Math.min(end - span, drag.from + shift)); to = from + span; paint(); }
      return;
    }
    const number = under(event);
    hint.hidden = number === null;
    if (number === null) return;
    hint.textContent = `${NAMES[nodes[number].kind]}, ${seconds(lasted(nodes[number])) || "not finished"}\n${nodes[number].title.slice(0, 160)}`;
    const box = canvas.parentElement.getBoundingClientRect();
    hint.style.left = `${Math.max(0, Math.min(event.clientX - box.left + 12, box.width - 430))}px`;
    hint.style.top = `${event.clientY - box.top + 16}px`;
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag && drag.moved;
    drag = null;
    const number = moved ? null : under(event);
    if (number !== null) pick(number, true);
  });
  canvas.addEventListener("pointerleave", () => { byId("hint").hidden = true; });
  canvas.addEventListener("dblclick", () => { from = 0; to = end; paint(); });
  canvas.addEventListener("keydown", (event) => {
    const middle = (from + to) / 2, span = to - from;
    if (event.key === "+") zoom(0.7, middle);
    else if (event.key === "-") zoom(1.4, middle);
    else if (event.key === "0") { from = 0; to = end; paint(); }
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      from = Math.max(0, Math.min(end - span, from + (event.key === "ArrowLeft" ? -0.2 : 0.2) * span));
      to = from + span;
      paint();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // ---- head ----
  byId("question").textContent = data.question || "(no question)";
  data.facts.forEach(([name, value]) => {
    const item = make("li", `${name} `);
    item.append(make("b", value));
    byId("facts").append(item);
  });
  if (data.answer !== null) {
    byId("answer").hidden = false;
    byId("answer-title").textContent = data.answer.title;
    byId("answer").classList.toggle("bad", !data.answer.good);
    byId("answer-text").textContent = data.answer.text;
  }
  const table = (heads, lines) => {
    const box = make("table"), head = make("tr");
    heads.forEach((name) => head.append(make("th", name)));
    box.append(head);
    lines.forEach((line) => {
      const tr = make("tr");
      line.forEach((value) => tr.append(make("td", value, /^[$\d]/.test(value) ? "num" : "")));
      box.append(tr);
    });
    return box;
  };
  data.tables.filter((one) => one.rows.length).forEach((one) => byId("models-body").append(table(one.heads, one.rows)));
  byId("foot").textContent = data.foot;

  // ---- keys ----
  byId("search").addEventListener("input", (() => {
    let timer = null;
    return () => { clearTimeout(timer); timer = setTimeout(() => { tree.scrollTop = 0; refresh(); }, 120); };
  })());
  const openAll = () => { nodes.forEach((node, number) => { if (children[number].length) open.add(number); }); refresh(); };
  const closeAll = () => { open.clear(); refresh(); };
  byId("expand").addEventListener("click", openAll);
  byId("collapse").addEventListener("click", closeAll);
  const swapTheme = () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" :
      matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    paint();
  };
  byId("theme").addEventListener("click", swapTheme);
  tree.addEventListener("scroll", draw, { passive: true });
  tree.addEventListener("keydown", (event) => {
    const at = Math.max(0, shown.indexOf(picked)), page = Math.max(1, Math.floor(tree.clientHeight / ROW) - 1);
    const go = (position) => { if (shown.length) pick(shown[Math.max(0, Math.min(shown.length - 1, position))]); };
    if (event.key === "ArrowDown" || event.key === "j") go(picked === null ? 0 : at + 1);
    else if (event.key === "ArrowUp" || event.key === "k") go(at - 1);
    else if (event.key === "PageDown") go(at + page);
    else if (event.key === "PageUp") go(at - page);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(shown.length - 1);
    else if (event.key === "ArrowRight" && picked !== null) { if (open.has(picked) || wanted) go(at + 1); else toggle(picked); }
    else if (event.key === "ArrowLeft" && picked !== null) {
      if (open.has(picked) && children[picked].length && !wanted) toggle(picked);
      else if (nodes[picked].parent !== null) pick(nodes[picked].parent, true);
    } else if (event.key === "Enter" && picked !== null) { toggle(picked); byId("details").focus(); }
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { byId("search").value = ""; refresh(); tree.focus(); return; }
    if (event.target instanceof HTMLInputElement) return;
    if (event.key === "/") { event.preventDefault(); byId("search").focus(); }
    else if (event.key === "e") openAll();
    else if (event.key === "c") closeAll();
    else if (event.key === "t") swapTheme();
  });
  addEventListener("resize", () => { draw(); paint(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

  // ---- paper ----
  addEventListener("beforeprint", () => {
    const box = byId("print");
    box.replaceChildren();
    nodes.slice(0, 2000).forEach((node, number) => {
      box.append(make("h3", `${NAMES[node.kind]}  ${seconds(lasted(node))}  ${node.status === "ok" ? "" : node.status}`, `k-${node.kind}`));
      const parts = node.parts.length && level[number] < 4 ? node.parts : [];
      if (!parts.length) box.append(make("div", node.title));
      parts.forEach((piece) => {
        const pre = make("pre"), text = texts[piece.text];
        fill(pre, text, 4000);
        box.append(make("h2", piece.name), pre);
      });
    });
    if (nodes.length > 2000) box.append(make("p", `${count(nodes.length - 2000)} more entries are not printed.`));
  });

  refresh();
  const linked = /^#n(\d+)$/.exec(location.hash);
  if (linked && Number(linked[1]) < nodes.length) pick(Number(linked[1]), true);
  else if (shown.length) detail(shown[0]);
  document.documentElement.dataset.ready = "true";
})();
