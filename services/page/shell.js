// What frames every view: the run's name and state, tabs, the line to the control plane, theme, short messages.
import { button, make } from "./group/dom.js";
import { showKeys } from "./dialogs.js";
import { address, badge, clock, link, refresh } from "./parts.js";

const THEME = "lessrl-theme";
const TABS = [["", "Run"], ["groups", "Groups"], ["workers", "Workers"], ["config", "Config"]];
const byId = (id) => document.getElementById(id);

// A sign with its word, which narrow screens leave out.
function signed(node, sign, word) {
  const mark = make("span", "", sign);
  mark.setAttribute("aria-hidden", "true");
  node.replaceChildren(mark, make("span", "word", ` ${word}`));
}

export class Shell {
  constructor() {
    this.#theme(localStorage.getItem(THEME) ?? "auto");
    byId("theme").addEventListener("click", () => {
      const order = ["auto", "light", "dark"];
      this.#theme(order[(order.indexOf(this.theme) + 1) % 3]);
    });
    byId("help").addEventListener("click", showKeys);
  }

  #theme(theme) {
    this.theme = theme;
    localStorage.setItem(THEME, theme);
    const root = document.documentElement.dataset;
    if (theme === "auto") delete root.theme;
    else root.theme = theme;
    signed(byId("theme"), { auto: "◐", light: "○", dark: "●" }[theme], theme);
    byId("theme").setAttribute("aria-label", `Theme: ${theme}; press for the next`);
    dispatchEvent(new Event("themechange"));
  }

  noRun() {
    for (const place of ["run-place", "tabs"]) refresh(byId(place), null, () => []);
    byId("link-state").replaceChildren();
    document.title = "lessrl";
    this.away(null);
  }

  // feed: of the run that is shown; view: "" or the name of a tab.
  run(feed, view) {
    const { status } = feed;
    const place = byId("run-place");
    refresh(place, [feed.runId, status?.name, status?.state], () => [link("all", "Runs", "#/"), make("span", "sep", "/"),
      link("name", status?.name ?? feed.runId, address("runs", feed.runId)), ...(status ? [badge(status.state)] : [])]);
    refresh(byId("tabs"), [feed.runId, view], () => TABS.map(([key, text]) => {
      const node = link("tab", text, address("runs", feed.runId, ...(key ? [key] : [])));
      if (key === view) node.setAttribute("aria-current", "page");
      return node;
    }));
    if (status) document.title = `${status.state} ${status.step}/${status.total_steps} · ${status.name}`;
    this.link(feed);
  }

  link(feed) {
    const node = byId("link-state"), name = `link-state is-${feed.state}`;
    if (node.className !== name || !node.childElementCount) {
      signed(node, { live: "●", connecting: "◔", away: "✗", refused: "✗" }[feed.state], feed.state);
      node.className = name;
      node.title = `The line to the control plane: ${feed.state}`;
    }
    this.away(feed.state === "away" ? feed : null);
  }

  // The banner that says that nothing here is new.
  away(feed) {
    clearInterval(this.counting);
    const banner = byId("banner");
    banner.hidden = !feed;
    if (!feed) return;
    const text = make("span"), seen = feed.seenAt ? ` What you see is from ${clock(feed.seenAt)}.` : "";
    const say = () => {
      const left = Math.max(0, Math.ceil((feed.until - Date.now()) / 1000));
      text.textContent = `The control plane is away; reconnecting in ${left} s. Training does not need it.${seen}`;
    };
    say();
    this.counting = setInterval(say, 1000);
    banner.replaceChildren(text, button("ghost", "Now", () => feed.stream.retry()));
  }

  toast(text, kind = "") {
    const node = make("p", `toast ${kind}`, text);
    byId("toasts").append(node);
    setTimeout(() => node.remove(), 6000);
  }
}
