// Questions before something happens: pause, resume, cancel, and the token.
import { button, choice, make } from "./group/dom.js";
import { path } from "./api.js";
import { problemBox } from "./parts.js";

function field(label, control, hint = "") {
  const node = make("label", "field");
  node.append(make("span", "name", label), control);
  if (hint) node.append(make("span", "note", hint));
  return node;
}

function input(type, value = "", options = {}) {
  const node = make("input");
  Object.assign(node, { type, value, ...options });
  return node;
}

function check(label, isOn) {
  const node = make("label", "check"), box = input("checkbox");
  box.checked = isOn;
  node.append(box, make("span", "", label));
  return { node, box };
}

// Shows a dialog; act() does what was confirmed and may throw, which is shown in place.
function ask(title, children, { yes, danger = false, act }) {
  const dialog = make("dialog"), form = make("form"), problem = make("div");
  const heading = make("h2", "", title);
  heading.id = "dialog-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  const go = make("button", danger ? "danger" : "primary", yes);
  go.type = "submit";
  const close = () => dialog.close();
  const foot = make("div", "foot");
  foot.append(button("ghost", "Not now", close), go);
  form.append(heading, ...children, problem, foot);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await act();
      close();
    } catch (error) {
      problem.replaceChildren(problemBox(error));
      go.disabled = false;
    }
  });
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const MODES = {
  drain: "Groups under way finish; no token is lost. Takes as long as the longest response.",
  freeze: "Engines hold their half-written responses and go on token by token. The fastest; does not survive a dead worker.",
  abort: "Responses under way are given up; their groups are sampled again with the same seeds at resume.",
};
const RELEASES = [
  ["none", "nothing"], ["kv_cache", "KV cache"], ["rollout_weights", "KV cache and engine weights"],
  ["all", "everything; the control plane stays"],
];

export function askPause(ctx) {
  const { api, feed } = ctx;
  const mode = make("fieldset", "modes");
  mode.append(make("legend", "", "What becomes of the groups under way"));
  for (const [name, meaning] of Object.entries(MODES)) {
    const label = make("label"), radio = input("radio", name, { name: "mode", checked: name === "drain" }), text = make("span");
    text.append(make("b", "", name), make("span", "note", meaning));
    label.append(radio, text);
    mode.append(label);
  }
  const saved = check("Commit a checkpoint before it is paused", true);
  const release = choice("Give back while paused", RELEASES, "none", () => {});
  const timeout = input("number", "900", { min: "1", max: "2592000", step: "1", required: true });
  const late = choice("When that is missed", [["fail", "the run goes on"], ["freeze", "freeze"], ["abort", "abort"]], "fail", () => {});
  const ttl = input("number", "", { min: "1", max: "2592000", placeholder: "never" });
  const reason = input("text", "", { maxLength: 500, placeholder: "for the audit log" });
  const chosen = () => mode.querySelector("input:checked").value;
  mode.addEventListener("change", () => (saved.box.checked = chosen() !== "freeze"));
  const more = make("details");
  more.append(make("summary", "", "More"), release, field("Longest wait, seconds", timeout), late,
    field("Resume by itself after, seconds", ttl));
  return ask(`Pause ${feed.status.name}?`, [mode, saved.node, field("Reason", reason), more], {
    yes: "Pause the run",
    act: async () => {
      const body = {
        mode: chosen(), checkpoint: saved.box.checked, release: release.querySelector("select").value,
        timeout_seconds: Number(timeout.value), on_timeout: late.querySelector("select").value,
        ttl_seconds: ttl.value ? Number(ttl.value) : null, reason: reason.value,
      };
      await api.send("POST", path("runs", feed.runId, "pause"), body);
      feed.look();
    },
  });
}

export function askResume(ctx) {
  const { api, feed } = ctx;
  const reason = input("text", "", { maxLength: 500, placeholder: "for the audit log" });
  const note = feed.status.state === "pausing"
    ? "The pause is still under way: it is withdrawn, or followed by the resume when it is too late for that."
    : "Engines get the learner's weights again where they gave them back; then groups are admitted.";
  return ask(`Resume ${feed.status.name}?`, [make("p", "", note), field("Reason", reason)], {
    yes: "Resume the run",
    act: async () => {
      await api.send("POST", path("runs", feed.runId, "resume"), { reason: reason.value });
      feed.look();
    },
  });
}

export function askCancel(ctx) {
  const { api, feed } = ctx;
  const reason = input("text", "", { maxLength: 500, placeholder: "for the audit log" });
  const saved = check("Commit a checkpoint first", true);
  const name = feed.status.name, typed = input("text", "", { autocomplete: "off", spellcheck: false });
  return ask(`Cancel ${name} for good?`, [
    make("p", "", `A cancelled run does not resume here. It stands at step ${feed.status.step} of ${feed.status.total_steps}.`),
    saved.node, field("Reason", reason), field(`To confirm, type ${name}`, typed),
  ], {
    yes: "Cancel the run", danger: true,
    act: async () => {
      if (typed.value !== name) throw new Error(`type ${name} to confirm, found ${typed.value || "nothing"}`);
      await api.send("POST", path("runs", feed.runId, "cancel"), { checkpoint: saved.box.checked, reason: reason.value });
      feed.look();
    },
  });
}

export function askToken(api, then) {
  if (document.querySelector("dialog.token")) return;
  const token = input("password", "", { required: true, autocomplete: "off" });
  const dialog = ask("This control plane asks for a token", [
    field("Token", token, "Kept in this tab until it is closed, and nowhere else."),
  ], {
    yes: "Use it",
    act: async () => {
      api.token = token.value.trim();
      try {
        await then();
      } catch (error) {
        api.token = "";
        throw error;
      }
    },
  });
  dialog.classList.add("token");
}

const KEYS = [
  ["?", "this list"], ["g then r, g, w, c", "run, groups, workers, config"], ["j, k", "next and previous response of a group"],
  ["← →", "token by token, in a response"], ["↑ ↓", "line by line"], ["Home, End", "first and last token"],
  ["n, p", "next and previous place of the same string"], ["1 to 6", "a class of tokens on or off"],
  ["[, ]", "previous and next group"], ["Esc", "let the token go"],
];

export function showKeys() {
  const dialog = make("dialog"), list = make("dl", "keys");
  const heading = make("h2", "", "Keys");
  heading.id = "dialog-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  for (const [keys, meaning] of KEYS) {
    const term = make("dt");
    term.append(make("kbd", "", keys));
    list.append(term, make("dd", "", meaning));
  }
  const foot = make("div", "foot");
  foot.append(button("primary", "Close", () => dialog.close()));
  dialog.append(heading, list, foot);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
