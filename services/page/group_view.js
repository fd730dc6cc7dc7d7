// One group, drawn by the renderer that `lessrl explain --html` uses too.
import { button, make } from "./group/dom.js";
import { newSettings, renderGroup } from "./group/group.js";
import { path } from "./api.js";
import { address, empty, link, problemBox } from "./parts.js";

const settings = newSettings();

export function openGroup(main, ctx) {
  const { api, feed, groupId, query } = ctx, leave = new AbortController();
  const head = make("div", "row-head"), box = make("div"), place = address("runs", feed.runId, "groups", groupId);
  let view = null;
  head.append(link("back", "‹ Groups", address("runs", feed.runId, "groups")), make("h2", "mono", groupId));
  box.append(make("p", "loading", "Loading"));
  main.replaceChildren(head, box);

  async function load() {
    try {
      const { data } = await api.get(path("runs", feed.runId, "groups", groupId), {}, leave.signal);
      const row = query.get("r"), at = query.get("t");
      view = renderGroup(box, data, {
        settings,
        start: row === null ? null : { row: Number(row), at: Number(at) },
        onMove: (token) => ctx.note(token ? `${place}?r=${token.row}&t=${token.at}` : place),
      });
      head.querySelector("h2").textContent = `${groupId}${data.step === null ? "" : ` · step ${data.step}`}`;
      if (data.step !== null) neighbours(data.step);
    } catch (error) {
      if (leave.signal.aborted) return;
      const isGone = error.status === 404;
      box.replaceChildren(isGone ? empty("This group was not written down", error.message) : problemBox(error));
    }
  }

  // The stored groups of the same step, to go through one by one.
  async function neighbours(step) {
    try {
      const { data } = await api.get(path("runs", feed.runId, "groups"), { step, page_size: 500 }, leave.signal);
      const stored = data.items.filter((each) => each.is_stored).map((each) => each.group_id);
      const here = stored.indexOf(groupId);
      const turn = (by, text, key) => {
        const node = button("ghost", text, () => ctx.go("runs", feed.runId, "groups", stored[here + by]));
        node.disabled = here < 0 || stored[here + by] === undefined;
        node.title = `key ${key}`;
        node.dataset.key = key;
        return node;
      };
      const pair = make("div", "pair");
      pair.append(turn(-1, "‹ previous", "["), make("span", "quiet", `${here + 1} of ${stored.length} of the step`), turn(1, "next ›", "]"));
      head.append(pair);
    } catch {
      // The group itself is drawn; its neighbours are a comfort.
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
    if (event.key === "[" || event.key === "]") head.querySelector(`[data-key="${event.key}"]:not(:disabled)`)?.click();
  }, { signal: leave.signal });
  load();
  return {
    close() {
      leave.abort();
      view?.destroy();
    },
  };
}
