// Draws one group: its prompt, an overview, and its responses side by side with every token coloured and marked by class.
// The same for `lessrl explain --html` and the page of the control plane. Takes the data of services/explain/view.py.
import { ResponseText, empty, fill } from "./chunks.js";
import { button, choice, make, nats, percent, signed } from "./dom.js";
import { keyCard, tokenCard } from "./inspector.js";
import { drawStrip, groupBar, overview } from "./strips.js";

const FILLED_AT_ONCE = 1500;
const MAX_FILLED = 60;
const FRAME_MS = 12;

const LAYOUTS = [["auto", "columns"], ["one", "one column"], ["lanes", "correct | incorrect"]];
const COLOURS = [["class", "class"], ["entropy", "entropy"], ["advantage", "advantage after"]];

// A view that outlives the groups: what is switched off stays off.
export const newSettings = () => ({ off: new Set(), layout: "auto", colours: "class", strength: true });

// container: emptied and filled. options: settings; start {row, at} or null; onMove({row, at} or null).
// Answers with { destroy, pin, unpin }.
export function renderGroup(container, group, options = {}) {
  return new GroupView(container, group, options).handle();
}

class GroupView {
  constructor(container, group, { settings = newSettings(), start = null, onMove = () => {} }) {
    this.group = group;
    group.strongest = strongestAfter(group);
    this.settings = settings;
    this.onMove = onMove;
    this.pinned = null;
    this.now = null;
    this.lit = null;
    this.filled = new Set();
    this.cards = [];
    const segments = group.rollouts.map(() => []);
    for (const segment of group.segments) segments[segment[0]].push(segment);
    this.texts = group.rollouts.map((_, row) => new ResponseText(group, row, segments[row]));
    this.leave = new AbortController();
    this.root = make("div", "gv");
    this.list = make("div", "responses");
    this.inspector = make("aside", "inspector");
    this.inspector.setAttribute("aria-live", "polite");
    this.inspector.setAttribute("aria-label", "The token in hand");
    const main = make("div", "gv-main");
    main.append(promptCard(group), ...this.#overview(), this.list);
    const body = make("div", "gv-body");
    body.append(main, this.inspector);
    const tools = this.#tools();
    this.root.append(tools, body);
    container.replaceChildren(this.root);
    // What sticks below the tools must know how tall they are: they wrap on narrow screens.
    this.sizes = new ResizeObserver(() => this.root.style.setProperty("--tools", `${tools.offsetHeight}px`));
    this.sizes.observe(tools);
    this.#apply();
    this.#showKey();
    this.#observe();
    this.#listen();
    this.#build();
    if (start && this.texts[start.row]?.length > start.at) this.pin(start.row, start.at, false);
  }

  handle() {
    return { destroy: () => this.destroy(), pin: (row, at) => this.pin(row, at), unpin: () => this.unpin() };
  }

  destroy() {
    this.leave.abort();
    this.near.disconnect();
    this.sizes.disconnect();
    this.root.remove();
  }

  // ---- tools

  #tools() {
    const bar = make("div", "legend");
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Layers; press one to show or hide it");
    this.group.classes.forEach((kind, index) => {
      const node = button("layer", "", () => this.toggle(kind.key));
      node.title = `${kind.meaning} (key ${index + 1})`;
      node.dataset.layer = kind.key;
      node.append(make("span", `run c-${kind.key}`, kind.name), make("span", "", percent(this.group.shares[index])),
        make("span", "factor", `×${kind.factor}`));
      bar.append(node);
    });
    const strength = button("layer", "strength", () => this.toggle("strength"));
    strength.dataset.layer = "strength";
    strength.title = "The multiplier as strength of the colour";
    const choices = make("div", "choices");
    choices.append(choice("colour", COLOURS, this.settings.colours, (value) => this.#set("colours", value)),
      choice("layout", LAYOUTS, this.settings.layout, (value) => this.#set("layout", value)));
    bar.append(strength, choices);
    return bar;
  }

  toggle(layer) {
    const { settings } = this;
    if (layer === "strength") settings.strength = !settings.strength;
    else if (!settings.off.delete(layer)) settings.off.add(layer);
    this.#apply();
  }

  #set(name, value) {
    this.settings[name] = value;
    this.#apply();
  }

  #apply() {
    const { off, layout, colours, strength } = this.settings;
    const kinds = [...off].map((key) => `off-${key}`);
    this.root.className = ["gv", `layout-${layout}`, `by-${colours}`, strength ? "" : "plain", ...kinds].join(" ");
    for (const node of this.root.querySelectorAll("[data-layer]")) {
      const { layer } = node.dataset;
      node.setAttribute("aria-pressed", String(layer === "strength" ? strength : !off.has(layer)));
    }
    this.#redraw();
  }

  // In the next frame, so that text comes first.
  #redraw() {
    cancelAnimationFrame(this.redrawing);
    this.redrawing = requestAnimationFrame(() => this.strips.forEach((draw) => draw()));
  }

  #overview() {
    this.strips = [];
    if (this.group.size < 2) return [];
    const { node, draw } = overview(this.group, this.texts, this.settings, (row, at) => this.pin(row, at));
    this.strips.push(draw);
    return [node];
  }

  // ---- responses

  #build() {
    const budget = performance.now() + FRAME_MS;
    let room = FILLED_AT_ONCE;
    while (this.cards.length < this.texts.length && (performance.now() < budget || this.cards.length < 2)) {
      const { chunks } = this.#addCard();
      for (const chunk of chunks) {
        if (room <= 0) break;
        room -= chunk.stop - chunk.start;
        this.#fill(chunk);
      }
    }
    if (this.cards.length < this.texts.length && !this.leave.signal.aborted) requestAnimationFrame(() => this.#build());
  }

  #addCard() {
    const row = this.cards.length, text = this.texts[row], { rollout } = text;
    const card = make("section", `rollout ${rollout.correct ? "is-correct" : "is-incorrect"}`);
    card.append(cardHead(rollout, row));
    const box = make("div", "text");
    box.tabIndex = 0;
    box.dataset.row = row;
    box.setAttribute("role", "application");
    box.setAttribute("aria-label",
      `Rollout ${row}, ${rollout.correct ? "correct" : "incorrect"}. Left and right move from token to token.`);
    if (rollout.hint) card.append(make("p", "hint", `hint, not sampled: ${rollout.hint}`));
    if (text.length) card.append(this.#strip(text));
    else box.append(make("span", "empty", "no tokens"));
    card.append(box);
    this.list.append(card);
    this.width ??= box.clientWidth - 32;
    box.append(...text.blocks(this.width));
    for (const { node } of text.chunks) this.near.observe(node);
    this.cards.push(box);
    return text;
  }

  #strip(text) {
    const canvas = make("canvas", "strip");
    canvas.setAttribute("aria-hidden", "true");
    canvas.title = "The whole response; click to go there";
    canvas.addEventListener("click", (event) => {
      const share = event.offsetX / canvas.clientWidth;
      this.pin(text.row, Math.min(text.length - 1, Math.floor(share * text.length)));
    });
    const draw = () => drawStrip(canvas, text, this.settings);
    canvas.draw = draw;
    this.strips.push(() => canvas.dataset.seen && draw());
    this.near.observe(canvas);
    return canvas;
  }

  #fill(chunk) {
    fill(chunk);
    this.filled.add(chunk);
    if (this.lit) this.#light(chunk, true);
  }

  #observe() {
    const options = { rootMargin: "600px 0px", scrollMargin: "600px 0px" };
    this.near = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (target.chunk) this.#near(target.chunk, isIntersecting);
        else if (isIntersecting && !target.dataset.seen) {
          target.dataset.seen = "yes";
          target.draw();
        }
      }
    }, options);
    const redraw = () => this.#redraw();
    addEventListener("resize", redraw, { signal: this.leave.signal });
    addEventListener("themechange", redraw, { signal: this.leave.signal });
  }

  #near(chunk, isNear) {
    if (isNear) return this.#fill(chunk);
    const { pinned } = this;
    const isHeld = pinned?.row === chunk.owner.row && chunk.start <= pinned.at && pinned.at < chunk.stop;
    if (this.filled.size <= MAX_FILLED || isHeld) return;
    this.filled.delete(chunk);
    empty(chunk);
  }

  // ---- the token in hand

  #light(chunk, on) {
    const { places, length } = this.lit;
    for (const [row, start] of places) {
      if (row !== chunk.owner.row || start >= chunk.stop || start + length <= chunk.start) continue;
      const first = Math.max(start, chunk.start), end = Math.min(start + length, chunk.stop);
      for (let at = first; at < end; at++) chunk.spans[at - chunk.start].classList.toggle("same", on);
    }
  }

  #lightUp(string) {
    if (string === this.lit) return;
    if (this.lit) for (const chunk of this.filled) this.#light(chunk, false);
    this.lit = string;
    if (string) for (const chunk of this.filled) this.#light(chunk, true);
  }

  show(row, at) {
    const text = this.texts[row], { string } = text.reasonAt(at);
    this.now?.classList.remove("now");
    this.#fill(text.chunkAt(at));
    this.now = text.spanAt(at);
    this.now.classList.add("now");
    this.#lightUp(string === null ? null : this.group.strings[string]);
    this.inspector.classList.remove("is-key");
    this.inspector.replaceChildren(tokenCard(this.group, this.texts, row, at, (other, place) => this.pin(other, place)));
  }

  pin(row, at, withFocus = true) {
    while (this.cards.length <= row) this.#addCard();
    this.pinned = { row, at };
    this.show(row, at);
    if (withFocus) this.cards[row].focus({ preventScroll: true });
    this.now.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "auto" });
    this.onMove(this.pinned);
  }

  unpin() {
    this.pinned = null;
    this.now?.classList.remove("now");
    this.now = null;
    this.#lightUp(null);
    this.#showKey();
    this.onMove(null);
  }

  #showKey() {
    this.inspector.classList.add("is-key");
    this.inspector.replaceChildren(keyCard(this.group));
  }

  // ---- pointing and keys

  #listen() {
    const { signal } = this.leave;
    const at = (event) => {
      const span = event.target.closest?.(".text .t");
      return span && [Number(span.closest(".text").dataset.row), Number(span.dataset.at)];
    };
    // A token that scrolls under a pointer at rest is not pointed at.
    let rest = "";
    this.list.addEventListener("pointermove", (event) => {
      const place = `${event.screenX} ${event.screenY}`, hasMoved = place !== rest;
      rest = place;
      if (hasMoved && at(event) && event.target.closest(".t") !== this.now) this.show(...at(event));
    }, { signal });
    this.list.addEventListener("mouseleave", () => this.pinned && this.show(this.pinned.row, this.pinned.at), { signal });
    this.list.addEventListener("click", (event) => at(event) && this.pin(...at(event)), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
    const box = event.target.closest?.(".text");
    const row = box ? Number(box.dataset.row) : (this.pinned?.row ?? -1);
    const here = this.pinned?.row === row ? this.pinned.at : -1;
    const anywhere = {
      j: () => this.#step(row, 1),
      k: () => this.#step(row, -1),
      n: () => this.pinned && this.#nextPlace(1),
      p: () => this.pinned && this.#nextPlace(-1),
      Escape: () => this.unpin(),
    };
    this.group.classes.forEach((kind, index) => (anywhere[index + 1] = () => this.toggle(kind.key)));
    const inText = {
      ArrowRight: () => this.pin(row, Math.min(here + 1, this.texts[row].length - 1)),
      ArrowLeft: () => this.pin(row, Math.max(here - 1, 0)),
      ArrowDown: () => this.#line(row, here, 1),
      ArrowUp: () => this.#line(row, here, -1),
      Home: () => this.pin(row, 0),
      End: () => this.pin(row, this.texts[row].length - 1),
    };
    const moves = box && this.texts[row].length ? { ...anywhere, ...inText } : anywhere;
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    moves[event.key]();
  }

  #step(row, by) {
    for (let next = row + by; next >= 0 && next < this.texts.length; next += by) {
      const { length } = this.texts[next];
      if (length) return this.pin(next, Math.min(this.pinned?.at ?? 0, length - 1));
    }
  }

  // The token above or below: the nearest one of the next line.
  #line(row, here, by) {
    if (here < 0) return this.pin(row, 0);
    const text = this.texts[row], from = text.spanAt(here).getBoundingClientRect();
    let line = null, best = here, least = Infinity;
    for (let at = here + by; at >= 0 && at < text.length; at += by) {
      const box = text.spanAt(at).getBoundingClientRect();
      if (line === null && by * (box.top - from.top) > 4) line = box.top;
      if (line === null) continue;
      if (Math.abs(box.top - line) > 4) break;
      if (Math.abs(box.left - from.left) < least) [best, least] = [at, Math.abs(box.left - from.left)];
    }
    this.pin(row, best);
  }

  #nextPlace(by) {
    const { row, at } = this.pinned, { string } = this.texts[row].reasonAt(at);
    if (string === null) return;
    const { places, length } = this.group.strings[string];
    const here = places.findIndex(([holder, start]) => holder === row && start <= at && at < start + length);
    this.pin(...places[(here + by + places.length) % places.length]);
  }
}

function strongestAfter(group) {
  const largest = ({ before }) => (Array.isArray(before) ? before.reduce((most, x) => Math.max(most, Math.abs(x)), 0) : Math.abs(before));
  return Math.max(1e-9, ...group.rollouts.map(largest));
}

function promptCard(group) {
  const card = make("section", "prompt");
  const title = make("h2", "", group.prompt_id);
  title.append(...group.labels.map((text) => make("span", "", text)));
  const kept = group.kept === null ? "" : `, ${percent(group.kept)} of the advantage kept`;
  card.append(title, make("pre", "", group.prompt), groupBar(group.classes, group.shares),
    make("p", "", `${group.correct} of ${group.size} rollouts correct${kept}. ${group.options}.`),
    ...group.notes.map((text) => make("p", "alert", text)));
  return card;
}

function cardHead(rollout, row) {
  const { before } = rollout;
  // One advantage for the whole response, or one for each token.
  const advantage = Array.isArray(before)
    ? `${signed(Math.min(...before))} to ${signed(Math.max(...before))}` : signed(before);
  const head = make("h3");
  head.append(make("b", "", `Rollout ${row}`),
    make("span", "verdict", rollout.correct ? "✓ correct" : "✗ incorrect"),
    make("span", "", `${rollout.tokens.length} tokens`), make("span", "", `advantage ${advantage}`),
    make("span", "", `kept ${percent(rollout.kept)}`), make("span", "", `threshold ${nats(rollout.threshold)}`));
  return head;
}
