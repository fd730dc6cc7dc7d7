// Entry of the page: reads the address behind #, opens the view, keeps one feed for the run that is shown.
import { Api, path } from "./api.js";
import { openConfig } from "./config_view.js";
import { askToken, showKeys } from "./dialogs.js";
import { RunFeed } from "./feed.js";
import { openGroup } from "./group_view.js";
import { openGroups } from "./groups_view.js";
import { address, empty, problemBox } from "./parts.js";
import { openRun } from "./run_view.js";
import { openRuns } from "./runs_view.js";
import { Shell } from "./shell.js";
import { openWorkers } from "./workers_view.js";

const VIEWS = { "": openRun, groups: openGroups, workers: openWorkers, config: openConfig };
const LETTERS = { r: [], g: ["groups"], w: ["workers"], c: ["config"] };
const TOLD = new Set(["paused", "pause_failed", "resumed", "config_applied", "config_failed", "worker_lost", "failed", "completed", "cancelled"]);

const api = new Api();
const shell = new Shell();
const main = document.getElementById("main");
let feed = null, view = null, stops = null;

const goTo = (place) => {
  if (location.hash === place) route();
  else location.hash = place;
};
const go = (...parts) => goTo(address(...parts));
const note = (place) => history.replaceState(null, "", place);

function read() {
  const [place, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = place.split("/").filter(Boolean).map((each) => {
    try {
      return decodeURIComponent(each);
    } catch {
      return each;
    }
  });
  return { parts, query: new URLSearchParams(query) };
}

function leaveView() {
  view?.close();
  view = null;
}

function leaveRun() {
  stops?.abort();
  feed?.close();
  feed = null;
}

function enterRun(runId) {
  if (feed?.runId === runId) return;
  leaveRun();
  feed = new RunFeed(api, runId);
  stops = new AbortController();
  const { signal } = stops;
  feed.addEventListener("status", () => shell.run(feed, tab()), { signal });
  feed.addEventListener("link", () => {
    shell.link(feed);
    if (feed.problem?.status === 404) {
      leaveView();
      main.replaceChildren(empty("No such run here", feed.problem.message));
    }
  }, { signal });
  feed.addEventListener("event", ({ detail }) => {
    if (TOLD.has(detail.type)) shell.toast(detail.message, `of-${detail.type}`);
  }, { signal });
}

const tab = () => read().parts[2] ?? "";

function route() {
  const { parts: [kind, runId, name = "", groupId], query } = read();
  leaveView();
  if (kind !== "runs" || !runId) {
    leaveRun();
    shell.noRun();
    view = openRuns(main, { api, connected: () => shell.away(null), disconnected: () => {} });
    return main.focus({ preventScroll: true });
  }
  enterRun(runId);
  shell.run(feed, name);
  const ctx = { api, feed, query, groupId, go, goTo, note, toast: (text) => shell.toast(text) };
  const open = groupId ? openGroup : VIEWS[name];
  if (!open) {
    main.replaceChildren(empty("No such view", `There is nothing at ${location.hash}.`));
    return;
  }
  view = open(main, ctx);
  scrollTo(0, 0);
}

// One run alone is what somebody came to see.
async function begin() {
  const { parts } = read();
  if (!parts.length) {
    try {
      const { data } = await api.get(path("runs"), { page_size: 2 });
      if (data.items.length === 1) note(address("runs", data.items[0].id));
    } catch (error) {
      main.replaceChildren(problemBox(error));
      if (error.status === 401) return;
    }
  }
  route();
}

api.addEventListener("unauthorized", () => {
  if (!feed && !view) main.replaceChildren(empty("A token is needed", "This control plane answers to those who have one."));
  askToken(api, async () => {
    await api.get(path("runs"), { page_size: 1 });
    leaveView();
    leaveRun();
    begin();
  });
});

let isGoing = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
  if (event.key === "?") showKeys();
  if (isGoing && feed && Object.hasOwn(LETTERS, event.key)) {
    event.stopImmediatePropagation();
    go("runs", feed.runId, ...LETTERS[event.key]);
  }
  isGoing = event.key === "g" && !isGoing;
}, { capture: true });

addEventListener("hashchange", route);
begin();
