// The groups of a run by step and outcome.
import { button, choice, exists, make } from "./group/dom.js";
import { path } from "./api.js";
import { address, empty, link, number, problemBox, section, table, words } from "./parts.js";

const PAGE = 100;
const ENOUGH = 30;
const MAX_PAGES = 8;
const MAX_DOTS = 16;
const OUTCOMES = [["", "any"], ["mixed", "mixed"], ["all_correct", "all correct"], ["all_incorrect", "all wrong"]];

export function openGroups(main, ctx) {
  return new GroupsView(main, ctx);
}

class GroupsView {
  constructor(main, ctx) {
    this.ctx = ctx;
    this.leave = new AbortController();
    this.items = [];
    this.every = false;
    this.list = make("div");
    this.foot = make("div", "foot");
    const page = section("", this.#head(), this.list, this.foot);
    main.replaceChildren(page);
    this.#load();
  }

  close() {
    this.leave.abort();
  }

  #head() {
    const { query } = this.ctx, head = make("div", "row-head"), form = make("form", "filters");
    const step = make("input"), label = make("label", "choice");
    Object.assign(step, { type: "number", min: "1", value: query.get("step") ?? "", placeholder: "any" });
    label.append(make("span", "", "step"), step);
    const outcome = choice("outcome", OUTCOMES, query.get("outcome") ?? "", () => this.#filter(step, outcome));
    step.addEventListener("change", () => this.#filter(step, outcome));
    form.addEventListener("submit", (event) => event.preventDefault());
    const every = make("label", "choice"), box = make("input");
    Object.assign(box, { type: "checkbox", checked: this.every });
    box.addEventListener("change", () => {
      this.every = box.checked;
      this.#draw();
    });
    every.append(box, make("span", "", "also groups that were not written down"));
    form.append(label, outcome, every, button("ghost", "Newest", () => this.ctx.go("runs", this.ctx.feed.runId, "groups")));
    head.append(make("h2", "", "Groups"), form);
    return head;
  }

  #filter(step, outcome) {
    const query = { step: step.value, outcome: outcome.querySelector("select").value };
    const words_ = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    this.ctx.goTo(`${address("runs", this.ctx.feed.runId, "groups")}${words_.size ? `?${words_}` : ""}`);
  }

  // Few groups of a step are written down: pages are read until there is something to see.
  async #load(token = null) {
    const { api, feed, query } = this.ctx, before = this.#shown().length;
    this.foot.replaceChildren(make("p", "quiet", "Loading"));
    try {
      for (let page = 0; page < MAX_PAGES && this.#shown().length < before + ENOUGH; page++) {
        const asked = { step: query.get("step"), outcome: query.get("outcome"), page_size: PAGE, page_token: token };
        const { data } = await api.get(path("runs", feed.runId, "groups"), asked, this.leave.signal);
        this.items.push(...data.items);
        token = data.next_page_token;
        if (token === null) break;
      }
      this.#draw();
      const more = button("ghost", "Older groups", () => this.#load(token));
      this.foot.replaceChildren(...(token === null ? [] : [more]));
    } catch (error) {
      if (!this.leave.signal.aborted) this.foot.replaceChildren(problemBox(error));
    }
  }

  #shown() {
    return this.every ? this.items : this.items.filter((item) => item.is_stored);
  }

  #draw() {
    const shown = this.#shown();
    if (!shown.length) {
      const asked = this.ctx.query.size > 0 || this.items.length > 0;
      return this.list.replaceChildren(empty(asked ? "No group like that" : "No group yet", asked
        ? "Take a filter away, or look at another step; run.dump_groups_per_step says how many groups are written down." : "A group is listed as soon as its step is trained."));
    }
    this.list.replaceChildren(table(
      [["Step", "number"], "Prompt", "Correct", "Verdicts", "Outcome", ["Tokens", "number"], ""],
      shown.map((item) => [
        number(item.step, 0), this.#name(item), dots(item), words(item.verdicts ?? "–"), outcomeMark(item.outcome),
        number(item.num_tokens, 0), make("span", "quiet", item.is_stored ? "" : "not written down"),
      ]), "Groups, the newest step first"));
  }

  #name({ group_id, prompt_id, is_stored }) {
    const node = make("div", "who");
    const open = address("runs", this.ctx.feed.runId, "groups", group_id);
    node.append(is_stored ? link("", prompt_id, open) : make("span", "", prompt_id), make("small", "mono", group_id));
    return node;
  }
}

function outcomeMark(outcome) {
  const isTrained = outcome === "trained";
  return make("span", isTrained ? "outcome" : "outcome is-dropped", `${isTrained ? "✓" : "–"} ${words(outcome)}`);
}

// One dot per rollout, the right ones filled.
function dots({ num_correct, num_rollouts }) {
  const node = make("span", "dots");
  if (!exists(num_correct) || !exists(num_rollouts)) {
    node.append(make("span", "", "–"));
    return node;
  }
  if (num_rollouts <= MAX_DOTS) {
    const signs = make("span", "signs");
    signs.setAttribute("aria-hidden", "true");
    signs.append(make("span", "right", "●".repeat(num_correct)), make("span", "wrong", "○".repeat(num_rollouts - num_correct)));
    node.append(signs);
  }
  node.append(make("span", "", `${num_correct} of ${num_rollouts}`));
  return node;
}
