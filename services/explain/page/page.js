"use strict";
// Draws one group at a time from the JSON beside it. All text of a file goes in as text nodes, never as markup.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const page = read("data");
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const percent = (share, digits = 0) => (share === null ? "–" : `${(100 * share).toFixed(digits)}%`);
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
  const nats = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(4));
  // One advantage for the whole response, or one for each token.
  const range = (before) => (Array.isArray(before) ? `${signed(Math.min(...before))} to ${signed(Math.max(...before))}` : signed(before));
  const newline = "\u21b5";

  let group = null;      // the group that is drawn
  let rows = [];         // per rollout: spans of its tokens, expanded reasons, segment of each token
  let pinned = null;     // {row, at} of the token in hand
  let now = null;        // its span
  let lit = null;        // the string whose places are lit up
  let marked = [];       // their spans

  // ---- head

  byId("file").textContent = page.file;
  for (const text of page.warnings) byId("alerts").append(make("p", "alert", text));
  byId("facts").textContent = page.facts.join(". ") + ".";
  for (const [name, value, note] of page.figures) {
    const cell = make("div");
    const number = make("dd", "", value);
    if (note) number.append(make("small", "", note));
    cell.append(make("dt", "", name), number);
    byId("figures").append(cell);
  }
  for (const kind of page.classes) {
    const button = make("button");
    button.type = "button";
    button.title = kind.meaning;
    button.setAttribute("aria-pressed", "true");
    button.append(make("span", `run c-${kind.key}`, kind.name), make("span", "", percent(kind.share)),
      make("span", "factor", `\u00d7${kind.factor}`));
    button.addEventListener("click", () => {
      const off = document.body.classList.toggle(`off-${kind.key}`);
      button.setAttribute("aria-pressed", String(!off));
    });
    byId("legend").append(button);
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = /theme=(dark|light)/.exec(location.hash)?.[1] ?? (dark ? "dark" : "light");
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement.dataset;
    root.theme = root.theme === "dark" ? "light" : "dark";
  });
  byId("help-button").addEventListener("click", (event) => {
    byId("help").hidden = !byId("help").hidden;
    event.target.setAttribute("aria-expanded", String(!byId("help").hidden));
  });

  // ---- list of groups

  const bar = (shares) => {
    const node = make("div", "bar");
    page.classes.forEach((kind, index) => {
      const part = make("i", `fill-${kind.key}`);
      part.style.width = `${100 * shares[index]}%`;
      node.append(part);
    });
    return node;
  };
  const label = (head) => head.prompt_id + (head.step === null ? "" : ` step ${head.step}`);
  const buttons = page.groups.map((head, index) => {
    const button = make("button");
    button.type = "button";
    const facts = make("span", "small");
    facts.append(make("span", "", head.step === null ? "" : `step ${head.step}`),
      make("span", "", `${head.correct} of ${head.size} ✓`));
    button.append(make("b", "", head.prompt_id), facts, bar(head.shares));
    button.addEventListener("click", () => open(index));
    return button;
  });
  let order = [];
  const arrange = () => {
    const wanted = byId("search").value.trim().toLowerCase();
    const key = byId("sort").value;
    const place = page.classes.findIndex((kind) => kind.key === key);
    const weight = (head) => {
      if (key === "mixed") return Math.min(head.correct, head.size - head.correct);
      return key === "kept" ? head.kept ?? -1 : head.shares[place];
    };
    order = page.groups.map((_, index) => index).filter((index) => label(page.groups[index]).toLowerCase().includes(wanted));
    if (key !== "file") order.sort((a, b) => weight(page.groups[b]) - weight(page.groups[a]));
    byId("groups").replaceChildren(...order.map((index) => {
      const item = make("li");
      item.append(buttons[index]);
      return item;
    }));
  };
  byId("search").addEventListener("input", arrange);
  byId("sort").addEventListener("change", arrange);

  // ---- one group

  function open(index) {
    pinned = now = lit = null;
    marked = [];
    group = { index, head: page.groups[index], ...read(`group-${index}`) };
    buttons.forEach((button, at) => button.setAttribute("aria-current", String(at === index)));
    keepInView(byId("groups"), buttons[index]);
    rows = group.rollouts.map(expand);
    byId("group").replaceChildren(promptCard(), ...group.rollouts.map(rolloutCard));
    showNothing();
    remember();
  }

  // Scrolls the list alone: scrollIntoView would move the page too.
  function keepInView(list, item) {
    const box = list.getBoundingClientRect(), place = item.getBoundingClientRect();
    if (place.top < box.top || place.bottom > box.bottom) list.scrollTop += place.top - box.top - box.height / 2;
  }

  function expand(rollout, row) {
    const reasons = [];
    for (let at = 0; at < rollout.reasons.length; at += 2) {
      for (let times = rollout.reasons[at + 1]; times > 0; times--) reasons.push(group.reasons[rollout.reasons[at]]);
    }
    const segments = new Array(rollout.tokens.length).fill(null);
    for (const segment of group.segments) {
      if (segment[0] === row) segments.fill(segment, segment[1], segment[2]);
    }
    return { reasons, segments, spans: [], words: rollout.tokens.map((token) => page.tokens[token]) };
  }

  function promptCard() {
    const { head } = group;
    const card = make("section", "prompt");
    const title = make("h2", "", head.prompt_id);
    title.append(...group.labels.map((text) => make("span", "", text)));
    const kept = head.kept === null ? "" : `, ${percent(head.kept)} of the advantage kept`;
    card.append(title, make("pre", "", group.prompt), bar(head.shares),
      make("p", "", `${head.correct} of ${head.size} rollouts correct${kept}. ${group.options}.`),
      ...group.notes.map((text) => make("p", "alert", text)));
    return card;
  }

  function rolloutCard(rollout, row) {
    const card = make("section", `rollout ${rollout.correct ? "is-correct" : "is-incorrect"}`);
    const head = make("h3");
    head.append(make("b", "", `Rollout ${row}`),
      make("span", "verdict", rollout.correct ? "✓ correct" : "✗ incorrect"),
      make("span", "", `${rollout.tokens.length} tokens`),
      make("span", "", `advantage ${range(rollout.before)}`),
      make("span", "", `kept ${percent(rollout.kept)}`),
      make("span", "", `threshold ${nats(rollout.threshold)}`));
    const text = make("div", "text");
    text.tabIndex = 0;
    text.dataset.row = row;
    text.setAttribute("role", "application");
    text.setAttribute("aria-label",
      `Rollout ${row}, ${rollout.correct ? "correct" : "incorrect"}. Left and right move from token to token.`);
    rows[row].spans = rows[row].words.map(tokenSpan);
    text.append(...runSpans(rows[row]));
    if (!rollout.tokens.length) text.append(make("span", "empty", "no tokens"));
    card.append(head);
    if (rollout.hint) card.append(make("p", "hint", `hint, not sampled: ${rollout.hint}`));
    card.append(text);
    return card;
  }

  // Neighbours with one reason share a span, so that their marks are drawn in one piece.
  function runSpans({ spans, reasons }) {
    const runs = [];
    spans.forEach((span, at) => {
      if (!at || reasons[at] !== reasons[at - 1]) {
        runs.push(make("span", `run c-${reasons[at].kind}`));
        runs.at(-1).style.setProperty("--m", reasons[at].multiplier);
      }
      runs.at(-1).append(span);
    });
    return runs;
  }

  function tokenSpan(word, at) {
    const span = make("span", "t");
    span.dataset.at = at;
    const parts = word.split(newline);
    parts.forEach((part, index) => {
      if (index) span.append(make("span", "nl", newline), "\n");
      if (part) span.append(part);
    });
    return span;
  }

  // ---- the token in hand

  function showNothing() {
    const card = make("div", "card");
    card.append(make("p", "quiet", "Point at a token, or move with the arrow keys, to see why its advantage was multiplied "
      + "by what it was. Places that hold the same string light up."));
    const key = make("dl", "key");
    for (const kind of page.classes) {
      const term = make("dt");
      term.append(make("span", `run c-${kind.key}`, kind.name));
      key.append(term, make("dd", "", `\u00d7${kind.factor}: ${kind.meaning}`));
    }
    card.append(key, make("p", "quiet", "N rollouts of the token's own class, k of them with the string."));
    byId("inspector").replaceChildren(card);
  }

  // Only what changes is touched: a string may stand in thousands of places.
  function mark(span, string) {
    now?.classList.remove("now");
    now = span;
    now?.classList.add("now");
    if (string === lit) return;
    for (const node of marked) node.classList.remove("same");
    lit = string;
    marked = (string?.places ?? []).flatMap(([row, start]) => rows[row].spans.slice(start, start + string.length));
    for (const node of marked) node.classList.add("same");
  }

  function show(row, at) {
    const rollout = group.rollouts[row], reason = rows[row].reasons[at];
    const string = reason.string === null ? null : group.strings[reason.string];
    mark(rows[row].spans[at], string);
    const card = make("div", "card");
    const kind = page.classes.find((each) => each.key === reason.kind);
    card.append(make("p", "quiet", `Rollout ${row}, ${rollout.correct ? "correct" : "incorrect"}, token ${at}`));
    card.append(make("p", "token", `“${rows[row].words[at]}”`));
    const name = make("p", "kind");
    name.append(make("span", `run c-${kind.key}`, kind.name));
    card.append(name, equation(rollout, reason, at), make("p", "why", reason.words));
    card.append(...entropyPart(rollout, at));
    if (string) card.append(...stringPart(string, row, at));
    const segment = rows[row].segments[at];
    if (segment) card.append(...segmentPart(segment));
    const trainer = rollout.applied[at];
    if (trainer !== undefined) card.append(make("p", "trainer", `The trainer's advantage after shaping was ${signed(trainer)}.`));
    byId("inspector").replaceChildren(card);
  }

  function equation(rollout, reason, at) {
    const before = Array.isArray(rollout.before) ? rollout.before[at] : rollout.before;
    const box = make("div", "sum");
    box.append(make("b", "", signed(before)), make("i", "", "×"), make("b", "", reason.fraction), make("i", "", "="),
      make("b", "", signed(before * reason.multiplier)),
      make("small", "", "advantage"), make("small"), make("small", "", reason.fraction.includes("/") ? `= ${reason.multiplier.toFixed(3)}` : "multiplier"), make("small"),
      make("small", "", "after LESS"));
    return box;
  }

  // Entropies span decades: the gauge is logarithmic from 1e-4 nats to the group's largest.
  function entropyPart(rollout, at) {
    const value = rollout.entropies[at], low = value <= rollout.threshold;
    const top = Math.log(Math.max(group.highest, 1e-3) / 1e-4);
    const place = (x) => 100 * Math.min(1, Math.max(0, Math.log(Math.max(x, 1e-4) / 1e-4) / top));
    const gauge = make("div", low ? "gauge" : "gauge high");
    const fill = make("i"), tick = make("b");
    fill.style.width = `${place(value)}%`;
    tick.style.left = `calc(${place(rollout.threshold)}% - 1px)`;
    gauge.append(fill, tick);
    const sign = low ? (value === rollout.threshold ? "= " : "< ") : "> ";
    return [make("h4", "", `Entropy${group.bound}`), gauge,
      make("p", "quiet", `${nats(value)} nats ${sign}threshold ${nats(rollout.threshold)}: ${low ? "low" : "high"}`)];
  }

  function segmentPart([, start, stop, correct, incorrect]) {
    const { head } = group;
    return [make("h4", "", "Segment around it"),
      make("p", "quiet", `tokens ${start} to ${stop - 1} (${stop - start}); the whole of it is in ${correct} of ${head.correct} `
        + `correct and ${incorrect} of ${head.size - head.correct} incorrect rollouts`)];
  }

  function stringPart(string, row, at) {
    const [first, start] = string.places[0];
    const text = rows[first].words.slice(start, start + string.length).join("");
    const places = make("div", "places");
    for (let holder = 0; holder < group.rollouts.length; holder++) {
      const starts = string.places.filter(([other]) => other === holder).map(([, begin]) => begin);
      if (!starts.length) continue;
      const line = make("div"), correct = group.rollouts[holder].correct;
      line.append(make("span", "who", `${correct ? "✓" : "✗"} rollout ${holder}`));
      for (const begin of starts.slice(0, 12)) {
        const button = make("button", "", `@${begin}`);
        button.type = "button";
        button.title = `go to token ${begin} of rollout ${holder}`;
        const here = holder === row && begin <= at && at < begin + string.length;
        button.setAttribute("aria-current", String(here));
        button.addEventListener("click", () => pin(holder, begin));
        line.append(button);
      }
      if (starts.length > 12) line.append(make("span", "quiet", `and ${starts.length - 12} more`));
      places.append(line);
    }
    const which = group.mode === "compat" ? "The string that the order-free rule sees" : "The string that decides it";
    return [make("h4", "", `${which}, ${string.length} tokens, and who holds it`), make("p", "string", text), places];
  }

  // ---- pointing, keys, address

  function pin(row, at) {
    pinned = { row, at };
    show(row, at);
    const box = rows[row].spans[at].closest(".text");
    box.focus({ preventScroll: true });
    rows[row].spans[at].scrollIntoView({ block: "nearest", behavior: "auto" });
    remember();
  }
  function unpin() {
    pinned = null;
    mark(null, null);
    showNothing();
    remember();
  }
  function remember() {
    const token = pinned ? `&r=${pinned.row}&t=${pinned.at}` : "";
    history.replaceState(null, "", `#g=${group.index}${token}`);
  }
  const spanAt = (event) => event.target.closest?.(".text .t");
  const main = byId("group");
  main.addEventListener("mouseover", (event) => {
    const span = spanAt(event);
    if (span) show(Number(span.closest(".text").dataset.row), Number(span.dataset.at));
  });
  main.addEventListener("mouseleave", () => {
    if (pinned) show(pinned.row, pinned.at);
  });
  main.addEventListener("click", (event) => {
    const span = spanAt(event);
    if (span) pin(Number(span.closest(".text").dataset.row), Number(span.dataset.at));
  });

  function step(row, by) {
    for (let next = row + by; next >= 0 && next < rows.length; next += by) {
      if (rows[next].spans.length) return pin(next, Math.min(pinned?.at ?? 0, rows[next].spans.length - 1));
    }
  }
  function nextPlace(by) {
    const { string } = rows[pinned.row].reasons[pinned.at];
    if (string === null) return;
    const { places, length } = group.strings[string];
    const here = places.findIndex(([row, start]) => row === pinned.row && start <= pinned.at && pinned.at < start + length);
    const [row, start] = places[(here + by + places.length) % places.length];
    pin(row, start);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select")) return;
    const at = order.indexOf(group.index);
    if (event.key === "]" && order[at + 1] !== undefined) return open(order[at + 1]);
    if (event.key === "[" && order[at - 1] !== undefined) return open(order[at - 1]);
    if (event.key === "Escape") return unpin();
    const box = event.target.closest?.(".text");
    if (!box) return;
    const row = Number(box.dataset.row), last = rows[row].spans.length - 1;
    const now = pinned?.row === row ? pinned.at : -1;
    const moves = {
      ArrowRight: () => pin(row, Math.min(now + 1, last)),
      ArrowLeft: () => pin(row, Math.max(now - 1, 0)),
      Home: () => pin(row, 0),
      End: () => pin(row, last),
      ArrowDown: () => step(row, 1),
      ArrowUp: () => step(row, -1),
      n: () => pinned && nextPlace(1),
      p: () => pinned && nextPlace(-1),
    };
    if (last >= 0 && Object.hasOwn(moves, event.key)) {
      event.preventDefault();
      moves[event.key]();
    }
  });

  const wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  arrange();
  open(Math.min(Number(wanted.g) || 0, page.groups.length - 1));
  if (rows[wanted.r]?.spans[wanted.t]) pin(Number(wanted.r), Number(wanted.t));
})();
