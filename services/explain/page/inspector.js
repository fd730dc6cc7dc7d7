// The card that says why the token in hand got its advantage.
import { button, make, nats, percent, signed } from "./dom.js";

const MAX_STARTS = 12;
const LEAST_NATS = 1e-4;

// What the marks mean, shown while no token is in hand.
export function keyCard(group) {
  const card = make("div", "card");
  card.append(make("p", "quiet", "Point at a token, or move with the arrow keys, to see why its advantage was multiplied "
    + "by what it was. Places that hold the same string light up."));
  const key = make("dl", "key");
  for (const kind of group.classes) {
    const term = make("dt");
    term.append(make("span", `run c-${kind.key}`, kind.name));
    key.append(term, make("dd", "", `×${kind.factor}: ${kind.meaning}`));
  }
  card.append(key, make("p", "quiet", "N rollouts of the token's own class, k of them with the string."));
  return card;
}

// group: data; texts: ResponseText of every row; pin(row, at): takes another token in hand.
export function tokenCard(group, texts, row, at, pin) {
  const text = texts[row], { rollout } = text, reason = text.reasonAt(at);
  const kind = group.classes.find((each) => each.key === reason.kind);
  const card = make("div", "card");
  const name = make("p", "kind");
  name.append(make("span", `run c-${kind.key}`, kind.name));
  card.append(
    make("p", "quiet", `Rollout ${row}, ${rollout.correct ? "correct" : "incorrect"}, token ${at}`),
    make("p", "token", `“${text.word(at)}”`), name, equation(text, reason, at), make("p", "why", reason.words),
    ...entropyPart(group, rollout, at),
  );
  if (reason.string !== null) card.append(...stringPart(group, texts, group.strings[reason.string], row, at, pin));
  const segment = text.segmentAt(at);
  if (segment) card.append(...segmentPart(group, segment));
  const trainer = rollout.applied[at];
  if (trainer !== undefined) {
    card.append(make("p", "trainer", `The trainer's advantage after shaping was ${signed(trainer)}.`));
  }
  return card;
}

function equation(text, reason, at) {
  const before = text.before(at);
  const box = make("div", "sum");
  const note = reason.fraction.includes("/") ? `= ${reason.multiplier.toFixed(3)}` : "multiplier";
  box.append(make("b", "", signed(before)), make("i", "", "×"), make("b", "", reason.fraction), make("i", "", "="),
    make("b", "", signed(before * reason.multiplier)),
    make("small", "", "advantage"), make("small"), make("small", "", note), make("small"), make("small", "", "after LESS"));
  return box;
}

// Entropies span decades: the gauge is logarithmic from 1e-4 nats to the group's largest.
function entropyPart(group, rollout, at) {
  const value = rollout.entropies[at], low = value <= rollout.threshold;
  const top = Math.log(Math.max(group.highest, 1e-3) / LEAST_NATS);
  const place = (x) => 100 * Math.min(1, Math.max(0, Math.log(Math.max(x, LEAST_NATS) / LEAST_NATS) / top));
  const gauge = make("div", low ? "gauge" : "gauge high");
  const fill = make("i"), tick = make("b");
  fill.style.width = `${place(value)}%`;
  tick.style.left = `calc(${place(rollout.threshold)}% - 1px)`;
  gauge.append(fill, tick);
  const sign = low ? (value === rollout.threshold ? "= " : "< ") : "> ";
  return [make("h4", "", `Entropy${group.bound}`), gauge,
    make("p", "quiet", `${nats(value)} nats ${sign}threshold ${nats(rollout.threshold)}: ${low ? "low" : "high"}`)];
}

function segmentPart(group, [, start, stop, correct, incorrect]) {
  return [make("h4", "", "Segment around it"),
    make("p", "quiet", `tokens ${start} to ${stop - 1} (${stop - start}); the whole of it is in ${correct} of `
      + `${group.correct} correct and ${incorrect} of ${group.size - group.correct} incorrect rollouts`)];
}

function stringPart(group, texts, string, row, at, pin) {
  const [first, begin] = string.places[0];
  const starts = new Map();
  for (const [holder, start] of string.places) {
    if (!starts.has(holder)) starts.set(holder, []);
    starts.get(holder).push(start);
  }
  const places = make("div", "places");
  for (const [holder, its] of starts) {
    const line = make("div");
    line.append(make("span", "who", `${group.rollouts[holder].correct ? "✓" : "✗"} rollout ${holder}`));
    for (const start of its.slice(0, MAX_STARTS)) {
      const node = button("", `@${start}`, () => pin(holder, start));
      node.title = `go to token ${start} of rollout ${holder}`;
      const here = holder === row && start <= at && at < start + string.length;
      node.setAttribute("aria-current", String(here));
      line.append(node);
    }
    if (its.length > MAX_STARTS) line.append(make("span", "quiet", `and ${its.length - MAX_STARTS} more`));
    places.append(line);
  }
  const which = group.mode === "compat" ? "The string that the order-free rule sees" : "The string that decides it";
  return [make("h4", "", `${which}, ${string.length} tokens, in ${percent(starts.size / group.size)} of the rollouts`),
    make("p", "string", texts[first].text(begin, begin + string.length)), places];
}
