// Parts that several views are made of.
import { DASH, count, exists, make } from "./group/dom.js";

export const DASH_TEXT = DASH;

const MARKS = {
  pending: "○", starting: "◔", running: "●", pausing: "◐", paused: "‖", resuming: "◑", cancelling: "◐", completed: "✓",
  failed: "✗", cancelled: "■",
};

export function badge(state) {
  const node = make("span", `badge is-${state}`);
  const sign = make("span", "sign", MARKS[state] ?? "?");
  sign.setAttribute("aria-hidden", "true");
  node.append(sign, make("span", "", state));
  return node;
}

export const number = (value, digits = 3) => {
  if (!exists(value)) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return value.toExponential(2);
  return Number.isInteger(value) ? count(value) : value.toFixed(digits);
};

export function duration(seconds) {
  if (!exists(seconds)) return DASH;
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const clock = (text) => (text ? new Date(text).toLocaleTimeString([], { hour12: false }) : DASH);
export const day = (text) => (text ? new Date(text).toLocaleString([], { hour12: false }) : DASH);
export const words = (text) => String(text ?? "").replaceAll("_", " ");

export function link(className, text, address) {
  const node = make("a", className, text);
  node.href = address;
  return node;
}

export const address = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

// rows: lists of cells, each text or a node; heads may be [text, class].
export function table(heads, rows, caption = "") {
  const node = make("table"), head = make("tr"), body = make("tbody");
  const classes = heads.map((each) => (Array.isArray(each) ? each[1] : ""));
  if (caption) node.append(make("caption", "", caption));
  heads.forEach((each) => {
    const cell = make("th", Array.isArray(each) ? each[1] : "", Array.isArray(each) ? each[0] : each);
    cell.scope = "col";
    head.append(cell);
  });
  for (const row of rows) {
    const line = make("tr");
    row.forEach((value, column) => {
      const cell = make("td", classes[column]);
      cell.append(value instanceof Node ? value : make("span", "", value));
      line.append(cell);
    });
    body.append(line);
  }
  const top = make("thead");
  top.append(head);
  node.append(top, body);
  const box = make("div", "table-box");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption || heads.map((each) => (Array.isArray(each) ? each[0] : each)).join(", "));
  box.append(node);
  return box;
}

export function section(title, ...children) {
  const node = make("section", "panel");
  if (title) node.append(make("h2", "", title));
  node.append(...children);
  return node;
}

export const empty = (title, text) => {
  const node = make("div", "nothing");
  node.append(make("p", "title", title), make("p", "", text));
  return node;
};

export function problemBox(error) {
  const node = make("div", "problem");
  node.setAttribute("role", "alert");
  node.append(make("b", "", error.status ? `${error.status} ${words(error.slug).replaceAll("-", " ")}` : "No answer"),
    make("p", "", error.message));
  for (const { pointer, message } of error.body?.errors ?? []) node.append(make("p", "mono", `${pointer}: ${message}`));
  return node;
}

// A share of a whole as a bar with its words.
export function meter(label, value, most, text) {
  const node = make("div", "meter");
  node.setAttribute("role", "progressbar");
  node.setAttribute("aria-label", label);
  const share = exists(value) && most > 0 ? Math.min(1, value / most) : 0;
  if (exists(value)) {
    node.setAttribute("aria-valuemin", "0");
    node.setAttribute("aria-valuemax", String(most));
    node.setAttribute("aria-valuenow", String(value));
  }
  node.setAttribute("aria-valuetext", text);
  const fill = make("i");
  fill.style.width = `${100 * share}%`;
  node.append(fill);
  return node;
}

// Draws anew only what has changed, and keeps the keyboard where it was: views look again every few seconds.
export function refresh(box, data, build) {
  const key = JSON.stringify(data);
  if (box.drawn === key) return;
  box.drawn = key;
  const focused = box.contains(document.activeElement) ? document.activeElement : null;
  const name = focused && (focused.getAttribute("href") ?? focused.getAttribute("aria-label") ?? focused.textContent);
  box.replaceChildren(...build());
  if (!focused) return;
  const again = [...box.querySelectorAll("a, button, [tabindex]")].find((node) =>
    [node.getAttribute("href"), node.getAttribute("aria-label"), node.textContent].includes(name));
  again?.focus({ preventScroll: true });
}
