// Curves over steps, drawn by uPlot. Lines differ by dashes as well as by colour, areas by hatching.
import { DASH, exists, make } from "./group/dom.js";

const HEIGHT = 168;
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3], [1, 4]];
const WHOLE = [1, 2, 5, 10, 20, 50].flatMap((each) => [each, 100 * each, 10_000 * each]).sort((a, b) => a - b);
const RATIO = () => devicePixelRatio || 1;

// A colour of the stylesheet as the canvas needs it.
function colour(name) {
  const probe = make("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const HATCHES = {
  solid: (pen, size) => pen.fillRect(0, 0, size, size),
  stripes: (pen, size) => pen.fillRect(0, 0, size / 2, size),
  thin: (pen, size) => pen.fillRect(0, 0, size / 4, size),
  lines: (pen, size) => pen.fillRect(0, 0, size, size / 4),
  diagonal: (pen, size) => {
    pen.lineWidth = size / 6;
    pen.beginPath();
    for (const shift of [-size, 0, size]) {
      pen.moveTo(shift, size);
      pen.lineTo(shift + size, 0);
    }
    pen.stroke();
  },
  dots: (pen, size) => pen.fillRect(size / 4, size / 4, size / 4, size / 4),
};

function hatch(pen, paint, kind) {
  const size = Math.round(8 * RATIO()), tile = new OffscreenCanvas(size, size), tool = tile.getContext("2d");
  tool.globalAlpha = 0.18;
  tool.fillStyle = paint;
  tool.fillRect(0, 0, size, size);
  tool.globalAlpha = kind === "solid" ? 0.55 : 0.7;
  tool.fillStyle = tool.strokeStyle = paint;
  HATCHES[kind](tool, size);
  return pen.createPattern(tile, "repeat");
}

// spec: { title, lines: [{ label, color, hatch?, points? }], stacked?, format, from?: 0, whole?: true, none?, x? }; x says a
// place on the x axis where that is no step.
export class Chart {
  constructor(spec, sync = null) {
    this.spec = spec;
    this.sync = sync;
    this.node = make("figure", "chart");
    this.node.setAttribute("role", "group");
    this.legend = make("div", "lines");
    this.values = spec.lines.map((line, index) => {
      const item = make("span", "line"), key = make("span", `swatch ${spec.stacked ? `hatch-${line.hatch}` : `dash-${index}`}`);
      key.style.setProperty("--c", `var(--${line.color})`);
      const value = make("b", "", DASH);
      item.append(key, make("span", "", line.label), value);
      this.legend.append(item);
      return value;
    });
    this.area = make("div", "area");
    this.area.setAttribute("aria-hidden", "true");
    this.at = make("span", "at");
    const head = make("figcaption");
    head.append(make("b", "", spec.title), this.at, this.legend);
    this.none = make("p", "none", spec.none ?? "nothing yet");
    this.node.append(head, this.none, this.area);
    this.sizes = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width > 20) this.plot?.setSize({ width: Math.floor(contentRect.width), height: HEIGHT });
    });
    this.sizes.observe(this.area);
  }

  destroy() {
    this.sizes.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  // xs: numbers; columns: one list of numbers or null per line.
  set(xs, columns) {
    this.xs = xs;
    this.columns = columns;
    const has = columns.some((column) => column.some(exists));
    this.none.hidden = has;
    this.area.hidden = !has;
    this.tell(null);
    if (!has || !this.node.isConnected) return;
    const data = [xs, ...(this.spec.stacked ? stack(columns) : columns)];
    if (this.plot) this.plot.setData(data);
    else this.#draw(data);
  }

  // After a change of the theme: colours are drawn, not styled.
  redraw() {
    this.plot?.destroy();
    this.plot = null;
    if (this.xs) this.set(this.xs, this.columns);
  }

  #draw(data) {
    const { spec } = this, soft = colour("soft"), grid = colour("line");
    const axis = { stroke: soft, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const few = data[0].length < 40;
    const options = {
      width: Math.max(120, Math.floor(this.area.clientWidth)), height: HEIGHT, legend: { show: false },
      padding: [8, 16, 0, 0],
      cursor: { sync: this.sync ? { key: this.sync, setSeries: false } : undefined, y: false, points: { size: 6 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => range(low, high, spec.from) } },
      axes: [
        { ...axis, size: 26, gap: 3, incrs: WHOLE, values: (_, marks) => marks.map(spec.x ?? String) },
        { ...axis, size: 52, gap: 4, ...(spec.whole ? { incrs: WHOLE } : {}), values: (_, marks) => marks.map((mark) => short(spec.format(mark))) },
      ],
      series: [{}, ...spec.lines.map((line, index) => {
        const paint = colour(line.color);
        return {
          label: line.label, stroke: paint, width: spec.stacked ? 1 : 1.75, dash: spec.stacked ? undefined : DASHES[index],
          spanGaps: Boolean(line.points), points: { show: Boolean(line.points) || few, size: line.points ? 6 : 4, fill: paint },
          fill: spec.stacked ? ({ ctx }) => hatch(ctx, paint, line.hatch) : undefined,
        };
      })],
      bands: spec.stacked ? spec.lines.slice(1).map((_, index) => ({ series: [index + 2, index + 1] })) : undefined,
      hooks: { setCursor: [({ cursor }) => this.tell(cursor.idx ?? null)] },
    };
    // uPlot is a script of its own, loaded before this module runs.
    this.plot = new globalThis.uPlot(options, data, this.area);
  }

  // What the legend says: the values at a place, or the newest ones.
  tell(index) {
    const { spec, xs = [], columns = [] } = this;
    const place = index === null || xs[index] === undefined ? "" : xs[index];
    this.at.textContent = place === "" ? "" : spec.x ? spec.x(place) : `step ${place}`;
    spec.lines.forEach((_, row) => {
      const column = columns[row] ?? [];
      const value = index === null ? column.findLast(exists) : column[index];
      this.values[row].textContent = exists(value) ? spec.format(value) : DASH;
    });
    if (index === null) {
      const said = spec.lines.map((line, row) => `${line.label} ${this.values[row].textContent}`).join(", ");
      this.node.setAttribute("aria-label", `${spec.title}; newest: ${said}`);
    }
  }
}

// 0.700 as 0.7, 40.0% as 40%.
const short = (text) => text.replace(/(\.\d*?)0+(?=\D*$)/, "$1").replace(/\.(?=\D*$)/, "");

// Sums from the first line up; a step that lacks one of them has none.
function stack(columns) {
  const sums = [];
  columns.forEach((column, row) => {
    sums.push(column.map((value, at) => {
      if (columns.some((each) => !exists(each[at]))) return null;
      return value + (row ? sums[row - 1][at] : 0);
    }));
  });
  return sums;
}

function range(low, high, from) {
  if (!exists(low) || !exists(high)) return [0, 1];
  const bottom = from === undefined ? low : Math.min(from, low);
  const room = (high - bottom) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [from !== undefined && low >= from ? from : bottom - room, high + room];
}
