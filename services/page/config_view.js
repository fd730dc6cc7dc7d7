// The live keys of a run: what they are now, what they may become and when; the history of changes; the whole recipe.
import { DASH, button, exists, make } from "./group/dom.js";
import { Problem, path } from "./api.js";
import { day, empty, problemBox, section, table, words } from "./parts.js";

const NO_END = 2 ** 31 - 1;
// What a recipe does not write is the component's own default.
const DEFAULT = "default";
const BORDERS = { next_step: "before the next learner step", next_group: "at the next step border", immediate: "at once" };

export function openConfig(main, ctx) {
  return new ConfigView(main, ctx);
}

class ConfigView {
  constructor(main, ctx) {
    this.ctx = ctx;
    this.leave = new AbortController();
    this.inputs = new Map();
    this.wanted = "";
    this.keys = make("div");
    this.said = make("div");
    this.history = make("div");
    this.whole = make("pre", "whole");
    const recipe = make("details", "panel");
    recipe.append(make("summary", "", "The whole config"), this.whole);
    main.replaceChildren(section("Live keys", make("p", "quiet",
      "These may change while the run goes on. Each takes effect at its border; every change is kept with who made it."),
    this.said, this.keys), section("Changes", this.history), recipe);
    const { signal } = this.leave;
    ctx.feed.addEventListener("event", ({ detail }) => {
      if (["config_changed", "config_applied", "config_failed"].includes(detail.type)) this.load();
    }, { signal });
    this.load();
  }

  close() {
    this.leave.abort();
  }

  get #path() {
    return path("runs", this.ctx.feed.runId, "config");
  }

  async load() {
    const { api } = this.ctx, { signal } = this.leave;
    try {
      const [config, history] = await Promise.all([
        api.get(this.#path, {}, signal), api.get(`${this.#path}/history`, { page_size: 200 }, signal),
      ]);
      this.etag = config.etag;
      this.#draw(config.data);
      this.#drawHistory(history.data.items);
    } catch (error) {
      if (signal.aborted) return;
      // What somebody has typed stays on the screen.
      const place = this.inputs.size ? this.said : this.keys;
      place.replaceChildren(problemBox(error));
    }
  }

  #draw(config) {
    const typed = new Map([...this.inputs].filter(([, { input, now }]) => input.value !== String(now)).map(([key, { input }]) => [key, input.value]));
    this.inputs.clear();
    this.whole.textContent = JSON.stringify(config.config, null, 2);
    if (!config.live_keys.length) {
      return this.keys.replaceChildren(empty("No live key", "This run's recipe has nothing that may change while it goes on."));
    }
    const form = make("form");
    form.append(this.#find(), table(["Key", "Now", "New value", "Range", "Takes effect"], config.live_keys.map((key) => this.#row(key, config.pending)),
      "Live keys"));
    for (const [key, value] of typed) if (this.inputs.has(key)) this.inputs.get(key).input.value = value;
    const foot = make("div", "foot");
    this.apply = make("button", "primary", "Apply");
    this.apply.type = "submit";
    foot.append(this.apply, button("ghost", "Undo what I typed", () => this.#undo()));
    form.append(foot);
    form.addEventListener("input", () => this.#count());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.keys.replaceChildren(form);
    this.#hide();
    this.#count();
  }

  #find() {
    const label = make("label", "choice"), box = make("input");
    Object.assign(box, { type: "search", placeholder: "part of its name", value: this.wanted, autocomplete: "off" });
    box.addEventListener("input", (event) => {
      event.stopPropagation();
      this.wanted = box.value.trim().toLowerCase();
      this.#hide();
    });
    label.append(make("span", "", "find a key"), box);
    return label;
  }

  #hide() {
    for (const [key, { input }] of this.inputs) input.closest("tr").hidden = !key.toLowerCase().includes(this.wanted);
  }

  #row(key, pending) {
    const name = make("div", "who"), now = make("span", "mono", key.value === null ? DEFAULT : String(key.value));
    name.append(make("span", "mono", key.key), make("small", "", key.meaning));
    const input = this.#input(key);
    this.inputs.set(key.key, { input, now: key.value ?? "", kind: key.kind });
    const waits = pending[key.key];
    const border = make("span", "", BORDERS[key.applies] ?? words(key.applies));
    const box = make("div");
    box.append(border);
    if (waits) {
      const mark = make("small", "pending", `pending: ${JSON.stringify(waits.value)}`);
      box.append(mark);
    }
    return [name, now, input, rangeText(key), box];
  }

  #input({ key, kind, choices, value, ...ends }) {
    const isChoice = choices?.length > 0, node = make(isChoice ? "select" : "input");
    if (isChoice) {
      for (const each of exists(value) || value ? choices : ["", ...choices]) {
        const option = make("option", "", each === "" ? DEFAULT : String(each));
        option.value = String(each);
        node.append(option);
      }
    } else {
      Object.assign(node, { type: "text", inputMode: "decimal", autocomplete: "off", spellcheck: false, placeholder: DEFAULT });
    }
    node.value = String(value ?? "");
    node.setAttribute("aria-label", `${key}, new value, ${rangeText({ kind, choices, ...ends })}`);
    return node;
  }

  #changed() {
    return [...this.inputs].filter(([, { input, now }]) => input.value.trim() !== String(now));
  }

  #count() {
    const changed = this.#changed();
    for (const [, { input }] of this.inputs) input.classList.remove("changed");
    for (const [, { input }] of changed) input.classList.add("changed");
    this.apply.disabled = !changed.length;
    this.apply.textContent = changed.length ? `Apply ${changed.length} change${changed.length > 1 ? "s" : ""}` : "Apply";
  }

  #undo() {
    for (const [, { input, now }] of this.inputs) input.value = String(now);
    this.said.replaceChildren();
    this.#count();
  }

  async #send() {
    const patch = {};
    for (const [key, { input, kind, now }] of this.#changed()) put(patch, key.split("."), read(input.value.trim(), kind, now));
    this.apply.disabled = true;
    try {
      const answer = await this.ctx.api.send("PATCH", this.#path, patch, {
        "Content-Type": "application/merge-patch+json", "If-Match": this.etag ?? "",
      });
      const pending = Object.entries(answer.pending).map(([key, { applies }]) => `${key} ${BORDERS[applies] ?? words(applies)}`);
      const note = make("p", "done", `Generation ${answer.generation} taken. ${pending.length ? `Pending: ${pending.join("; ")}.` : "It holds already."}`);
      note.setAttribute("role", "status");
      this.said.replaceChildren(note);
      this.inputs.clear();
      await this.load();
    } catch (error) {
      this.#count();
      const said = [problemBox(error)];
      if (error instanceof Problem && error.status === 412) {
        said.push(make("p", "quiet", "Somebody changed the config meanwhile. What you typed is kept: look at the values, and apply again."));
        await this.load();
      }
      this.said.replaceChildren(...said);
    }
  }

  #drawHistory(items) {
    this.history.replaceChildren(table(["Generation", "When", "By", "Values", "From step"], [...items].reverse().map((item) => {
      const values = make("div", "who");
      for (const [key, value] of Object.entries(item.patch)) values.append(make("span", "mono", `${key} = ${JSON.stringify(value)}`));
      if (item.error) values.append(make("span", "wrong", item.error));
      if (item.generation === 1) values.append(make("span", "quiet", "the recipe that the run began with"));
      const isWaiting = item.at_step === null && !item.error;
      const from = isWaiting ? make("span", "pending", "pending") : String(item.at_step ?? DASH);
      return [String(item.generation), day(item.at), item.by || DASH, values, from];
    }), "Changes of the config, the newest first"));
  }
}

function rangeText({ minimum, maximum, above, below, choices, kind }) {
  if (choices?.length) return "one of these";
  const low = exists(minimum) ? `from ${short(minimum)}` : exists(above) ? `above ${short(above)}` : "";
  const high = exists(maximum) && maximum < NO_END ? `to ${short(maximum)}` : exists(below) ? `below ${short(below)}` : "";
  const range = `${low} ${high}`.trim();
  return kind === "integer" ? `whole, ${range}` : range || words(kind);
}

const short = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 12 });

// What was typed as JSON data; text that is no number is sent as it is, for the control plane to judge.
function read(text, kind, now) {
  if (kind === "choice" && typeof now === "string") return text;
  if (text === "true" || text === "false") return text === "true";
  const value = Number(text);
  return text !== "" && Number.isFinite(value) ? value : text;
}

function put(tree, [name, ...rest], value) {
  if (!rest.length) tree[name] = value;
  else put((tree[name] ??= {}), rest, value);
}
