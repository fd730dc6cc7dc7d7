// Lists the groups of a file and opens one at a time from the JSON beside it.
import { make, percent } from "./dom.js";
import { newSettings, renderGroup } from "./group.js";
import { groupBar } from "./strips.js";

const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const page = read("data");
const settings = newSettings();
let shown = { index: 0, view: null };

byId("file").textContent = page.file;
for (const text of page.warnings) byId("alerts").append(make("p", "alert", text));
byId("facts").textContent = `${page.facts.join(". ")}.`;
for (const [name, value, note] of page.figures) {
  const cell = make("div"), number = make("dd", "", value);
  if (note) number.append(make("small", "", note));
  cell.append(make("dt", "", name), number);
  byId("figures").append(cell);
}
const shares = page.classes.map(({ share }) => share);
byId("shares").append(groupBar(page.classes, shares),
  make("p", "facts", page.classes.map(({ name, share }) => `${name} ${percent(share, 1)}`).join(" · ")));

const asked = /theme=(dark|light)/.exec(location.hash)?.[1];
if (asked) document.documentElement.dataset.theme = asked;
byId("theme").addEventListener("click", () => {
  const root = document.documentElement.dataset;
  const isDark = root.theme ? root.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.theme = isDark ? "light" : "dark";
  dispatchEvent(new Event("themechange"));
});
function help() {
  byId("help").hidden = !byId("help").hidden;
  byId("help-button").setAttribute("aria-expanded", String(!byId("help").hidden));
}
byId("help-button").addEventListener("click", help);

const nameOf = (head) => head.prompt_id + (head.step === null ? "" : ` step ${head.step}`);
const buttons = page.groups.map((head, index) => {
  const node = make("button");
  node.type = "button";
  const facts = make("span", "small");
  facts.append(make("span", "", head.step === null ? "" : `step ${head.step}`),
    make("span", "", `${head.correct} of ${head.size} ✓`));
  node.append(make("b", "", head.prompt_id), facts, groupBar(page.classes, head.shares));
  node.addEventListener("click", () => open(index));
  return node;
});
let order = [];

function arrange() {
  const wanted = byId("search").value.trim().toLowerCase(), key = byId("sort").value;
  const place = page.classes.findIndex((kind) => kind.key === key);
  const weight = (head) => {
    if (key === "mixed") return Math.min(head.correct, head.size - head.correct);
    return key === "kept" ? head.kept ?? -1 : head.shares[place];
  };
  order = page.groups.map((_, index) => index).filter((index) => nameOf(page.groups[index]).toLowerCase().includes(wanted));
  if (key !== "file") order.sort((a, b) => weight(page.groups[b]) - weight(page.groups[a]));
  byId("groups").replaceChildren(...order.map((index) => {
    const item = make("li");
    item.append(buttons[index]);
    return item;
  }));
}
byId("search").addEventListener("input", arrange);
byId("sort").addEventListener("change", arrange);

function open(index, start = null) {
  shown.view?.destroy();
  buttons.forEach((node, at) => node.setAttribute("aria-current", String(at === index)));
  keepInView(byId("groups"), buttons[index]);
  shown = { index, view: null };
  remember(null);
  shown.view = renderGroup(byId("group"), read(`group-${index}`), { settings, start, onMove: remember });
}

// Scrolls the list alone: scrollIntoView would move the page too.
function keepInView(list, item) {
  const box = list.getBoundingClientRect(), place = item.getBoundingClientRect();
  if (place.top < box.top || place.bottom > box.bottom) list.scrollTop += place.top - box.top - box.height / 2;
}

function remember(token) {
  history.replaceState(null, "", `#g=${shown.index}${token ? `&r=${token.row}&t=${token.at}` : ""}`);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select")) return;
  const at = order.indexOf(shown.index);
  if (event.key === "]" && order[at + 1] !== undefined) open(order[at + 1]);
  if (event.key === "[" && order[at - 1] !== undefined) open(order[at - 1]);
  if (event.key === "?") help();
});

const wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
arrange();
open(Math.min(Number(wanted.g) || 0, page.groups.length - 1),
  wanted.r === undefined ? null : { row: Number(wanted.r), at: Number(wanted.t) });
