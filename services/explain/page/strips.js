// Classes along a response as a strip of bars: what stands where, without reading. Height tells a class as colour does.
import { make, percent } from "./dom.js";

// Where a class's bar stands in its strip: top and bottom as shares of the height.
const BANDS = {
  correct_only: [0, 1], incorrect_only: [0.28, 1], unique: [0.5, 1], shared: [0.72, 1], stray: [0.86, 1], high: [0, 0.2],
};

export function groupBar(classes, shares) {
  const node = make("div", "bar");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", classes.map((kind, index) => `${kind.name} ${percent(shares[index])}`).join(", "));
  classes.forEach((kind, index) => {
    const part = make("i", `fill-${kind.key}`);
    part.style.width = `${100 * (shares[index] ?? 0)}%`;
    node.append(part);
  });
  return node;
}

const colours = (node) => {
  const style = getComputedStyle(node);
  const probe = make("i");
  node.parentElement.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {
    correct_only: read("correct"), incorrect_only: read("incorrect"), unique: read("unique"), shared: read("shared"),
    stray: read("stray"), high: read("high"), ink: read("soft"), font: style.fontFamily,
  };
  probe.remove();
  return found;
};

// One row per response, all to one scale. texts: ResponseText; longest: tokens of the full width; gutter: px in front.
// Answers with a function that draws the next rows until the time is up, and says whether all are drawn.
function brush(canvas, texts, settings, longest, gutter) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (!width || !height) return () => true;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const palette = colours(canvas), tall = height / texts.length, scale = (width - gutter) / Math.max(1, longest);
  let row = 0;
  return (until) => {
    for (; row < texts.length && (row === 0 || performance.now() < until); row++) {
      if (gutter && tall >= 8) drawVerdict(pen, palette, texts[row], row * tall, tall);
      drawRow(pen, palette, texts[row], settings, { left: gutter, top: row * tall, height: tall - (tall > 6 ? 2 : 0), scale });
    }
    return row === texts.length;
  };
}

function drawVerdict(pen, palette, { rollout }, top, tall) {
  pen.globalAlpha = 1;
  pen.fillStyle = rollout.correct ? palette.correct_only : palette.incorrect_only;
  pen.font = `${Math.min(12, tall)}px ${palette.font}`;
  pen.fillText(rollout.correct ? "✓" : "✗", 2, top + tall * 0.8);
}

// Where several runs share a pixel, the one that begins in it is drawn.
function drawRow(pen, palette, text, settings, { left, top, height, scale }) {
  let drawn = 0;
  for (let run = 0; run < text.runStarts.length; run++) {
    const stop = (text.runStarts[run + 1] ?? text.length) * scale;
    if (stop - drawn < 1 && run + 1 < text.runStarts.length) continue;
    const { kind, multiplier } = text.reasonOf(run), start = Math.max(drawn, text.runStarts[run] * scale);
    drawn = stop;
    if (settings.off.has(kind)) continue;
    const [from, to] = BANDS[kind];
    pen.globalAlpha = settings.strength && kind !== "shared" ? 0.35 + 0.65 * multiplier : 0.75;
    pen.fillStyle = palette[kind];
    pen.fillRect(left + start, top + from * height, Math.max(0.8, stop - start), (to - from) * height);
  }
}

export function drawStrip(canvas, text, settings) {
  brush(canvas, [text], settings, text.length, 0)(Infinity);
}

const GUTTER = 18;
const PAINT_MS = 8;

// Every response of the group in one picture. go(row, at): called with the place that was clicked.
export function overview(group, texts, settings, go) {
  const node = make("figure", "overview");
  const canvas = make("canvas");
  const longest = Math.max(1, ...texts.map(({ length }) => length));
  canvas.style.height = `${Math.round(Math.min(17, Math.max(4, 220 / texts.length)) * texts.length)}px`;
  canvas.setAttribute("aria-hidden", "true");
  const caption = make("figcaption", "", `All ${group.size} responses from first to last token; click to go there`);
  node.append(caption, canvas);
  canvas.addEventListener("click", (event) => {
    const row = Math.min(texts.length - 1, Math.floor((event.offsetY / canvas.clientHeight) * texts.length));
    const at = Math.floor(((event.offsetX - GUTTER) / (canvas.clientWidth - GUTTER)) * longest);
    if (texts[row].length) go(row, Math.max(0, Math.min(texts[row].length - 1, at)));
  });
  let turn = 0;
  const draw = () => {
    const paint = brush(canvas, texts, settings, longest, GUTTER), mine = ++turn;
    const further = () => mine === turn && !paint(performance.now() + PAINT_MS) && requestAnimationFrame(further);
    further();
  };
  return { node, draw };
}
