// The text of one response in pieces: each is plain text until it comes near the screen, then one span per token.
// So a group of 64 responses of 8,000 tokens costs a few thousand nodes, can be searched, and keeps its height.
import { make } from "./dom.js";

const CHUNK_TOKENS = 240;
const LINE_PIXELS = 28;
const CHARACTER_PIXELS = 8.5;
const NEWLINE = "\u21b5";

export class ResponseText {
  // group: data of a group; row: number of the response; segments: its own.
  constructor(group, row, segments) {
    this.row = row;
    this.group = group;
    this.rollout = group.rollouts[row];
    this.length = this.rollout.tokens.length;
    this.chunks = [];
    const { reasons } = this.rollout;
    this.runStarts = new Uint32Array(reasons.length / 2);
    for (let run = 0, at = 0; run < this.runStarts.length; run++) {
      this.runStarts[run] = at;
      at += reasons[2 * run + 1];
    }
    this.segments = segments;
  }

  word(at) {
    return this.group.tokens[this.rollout.tokens[at]];
  }

  text(start, stop) {
    let text = "";
    for (let at = start; at < stop; at++) text += this.word(at);
    return text;
  }

  runAt(at) {
    let low = 0, high = this.runStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.runStarts[middle] <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  reasonOf(run) {
    return this.group.reasons[this.rollout.reasons[2 * run]];
  }

  reasonAt(at) {
    return this.reasonOf(this.runAt(at));
  }

  segmentAt(at) {
    return this.segments.find(([, start, stop]) => start <= at && at < stop);
  }

  before(at) {
    const { before } = this.rollout;
    return Array.isArray(before) ? before[at] : before;
  }

  // One block per chunk; a chunk ends at a line's end where one is near, so that the cut is not seen.
  blocks(width) {
    const columns = Math.max(20, width / CHARACTER_PIXELS);
    for (let start = 0; start < this.length;) {
      const stop = this.#cut(start);
      const text = this.text(start, stop).split(NEWLINE).join(`${NEWLINE}\n`).replace(/\n$/, "");
      const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
      const node = make("div", "chunk");
      node.append(text);
      node.style.containIntrinsicBlockSize = `auto ${lines * LINE_PIXELS}px`;
      const chunk = { node, start, stop, text, spans: null, owner: this };
      node.chunk = chunk;
      this.chunks.push(chunk);
      start = stop;
    }
    return this.chunks.map(({ node }) => node);
  }

  #cut(start) {
    const longest = Math.min(start + CHUNK_TOKENS, this.length);
    if (longest === this.length) return longest;
    for (let stop = longest; stop > start + CHUNK_TOKENS / 2; stop--) {
      if (this.word(stop - 1).endsWith(NEWLINE)) return stop;
    }
    for (let stop = longest; stop > start + CHUNK_TOKENS / 2; stop--) {
      if (this.word(stop).startsWith(" ")) return stop;
    }
    return longest;
  }

  chunkAt(at) {
    return this.chunks.find(({ start, stop }) => start <= at && at < stop);
  }

  // The span of a token; its chunk is filled if it was not.
  spanAt(at) {
    const chunk = this.chunkAt(at);
    fill(chunk);
    return chunk.spans[at - chunk.start];
  }
}

export function fill(chunk) {
  if (chunk.spans) return;
  const { owner, start, stop } = chunk;
  const highest = Math.max(owner.group.highest, 1e-6), strongest = owner.group.strongest;
  chunk.spans = [];
  const runs = [];
  for (let run = owner.runAt(start), at = start; at < stop; run++) {
    const next = Math.min(stop, owner.runStarts[run + 1] ?? owner.length);
    const reason = owner.reasonOf(run);
    const node = make("span", `run c-${reason.kind}`);
    node.style.setProperty("--m", reason.multiplier);
    for (; at < next; at++) {
      const span = tokenSpan(owner.word(at), at, at + 1 === stop);
      const after = owner.before(at) * reason.multiplier;
      span.style.setProperty("--e", (owner.rollout.entropies[at] / highest).toFixed(3));
      span.style.setProperty("--a", (Math.abs(after) / strongest).toFixed(3));
      if (after !== 0) span.classList.add(after > 0 ? "up" : "down");
      chunk.spans.push(span);
      node.append(span);
    }
    runs.push(node);
  }
  chunk.node.replaceChildren(...runs);
}

export function empty(chunk) {
  if (!chunk.spans) return;
  chunk.spans = null;
  chunk.node.textContent = chunk.text;
}

// Neighbours with one reason share a run, so that their marks are drawn in one piece.
function tokenSpan(word, at, isLast) {
  const span = make("span", "t");
  span.dataset.at = at;
  const parts = word.split(NEWLINE);
  parts.forEach((part, index) => {
    // The block's own end breaks the line behind its last token.
    const isEnd = isLast && index === parts.length - 1 && !part;
    if (index) span.append(make("span", "nl", NEWLINE), isEnd ? "" : "\n");
    if (part) span.append(part);
  });
  return span;
}
