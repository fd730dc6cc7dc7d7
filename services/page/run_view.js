// One run: where it stands, what a pause is doing, its curves, its events.
import { DASH, button, exists, make, percent } from "./group/dom.js";
import { Chart } from "./charts.js";
import { askCancel, askPause, askResume } from "./dialogs.js";
import { clock, duration, empty, meter, number, refresh, section, table, words } from "./parts.js";

const CLASSES = ["correct_only", "incorrect_only", "shared", "unique"];
const PHASES = ["wait_batch", "train", "weight_sync", "evaluation", "checkpoint", "other"];
const SHOWN_EVENTS = 60;
const TABLE_STEPS = 20;

const share = (value) => percent(value, 1);
const plain = (value) => number(value, 3);
const seconds = (value) => duration(value);

const LINES = [
  { title: "Reward", format: plain, lines: [["reward_total_value", "mean reward", "accent"], ["reward_correct_share", "training accuracy", "correct"]] },
  { title: "Held-out accuracy", format: share, none: "no evaluation yet", lines: [["evaluation_accuracy", "accuracy", "correct", { points: true }]] },
  { title: "Entropy, nats", format: plain, from: 0, lines: [["rollout_entropy_nats", "sampler", "high"], ["learner_entropy_nats", "learner", "accent"], ["segments_threshold_nats", "threshold", "shared"]] },
  {
    title: "Overlap of rollouts", format: share, from: 0,
    lines: [["segments_overlap_correct_correct_share", "O_CC", "correct"], ["segments_overlap_incorrect_incorrect_share", "O_WW", "incorrect"],
      ["segments_overlap_correct_incorrect_share", "O_CW", "shared"], ["segments_overlap_incorrect_correct_share", "O_WC", "stray"]],
  },
  { title: "Advantage kept", format: share, from: 0, lines: [["advantage_kept_mass_share", "all", "accent"], ["less_kept_mass_correct_share", "of correct", "correct"], ["less_kept_mass_incorrect_share", "of incorrect", "incorrect"]] },
  { title: "Response length, tokens", format: (value) => number(value, 0), from: 0, lines: [["rollout_response_tokens", "mean", "accent"], ["rollout_response_max_tokens", "longest", "soft"]] },
  { title: "Staleness, versions", format: plain, from: 0, lines: [["learner_staleness_versions", "of trained groups", "unique"]] },
  { title: "Mismatch of sampler and learner, nats", format: plain, lines: [["learner_mismatch_kl_nats", "KL", "incorrect"], ["learner_logprob_difference_mean_nats", "log-prob", "stray"]] },
  { title: "Gradient norm", format: plain, from: 0, lines: [["learner_grad_norm", "before clipping", "accent"]] },
];
const SEGMENTS = {
  title: "Tokens by class", stacked: true, format: share, from: 0,
  lines: [["correct-only", "correct", "solid"], ["incorrect-only", "incorrect", "stripes"], ["shared", "shared", "diagonal"],
    ["unique", "unique", "thin"], ["stray", "stray", "dots"], ["high-entropy", "high", "lines"]],
};
const TIMES = {
  title: "Step time", stacked: true, format: seconds, from: 0,
  lines: [["waiting for groups", "unique", "stripes"], ["training", "accent", "solid"], ["weight sync", "high", "diagonal"],
    ["evaluation", "correct", "dots"], ["checkpoint", "incorrect", "lines"], ["other", "shared", "thin"]],
};
const QUEUES = { title: "Queues since the page was opened", x: seconds, whole: true, from: 0, format: (value) => number(value, 0), none: "no report of queues yet" };
const COLOURS = ["accent", "unique", "correct", "incorrect", "high"];

const names = () => [
  ...LINES.flatMap(({ lines }) => lines.map(([name]) => name)), ...CLASSES.map((each) => `segments_${each}_tokens`),
  "segments_low_tokens_share", "segments_covered_tokens_share", ...PHASES.map((each) => `phase_${each}_s`),
];

export function openRun(main, ctx) {
  return new RunView(main, ctx);
}

class RunView {
  constructor(main, ctx) {
    this.ctx = ctx;
    this.feed = ctx.feed;
    this.leave = new AbortController();
    this.head = make("section", "panel run-head");
    this.where = make("div", "where");
    this.actions = make("div", "actions");
    this.head.append(this.where, this.actions);
    this.pause = make("div");
    this.tiles = make("dl", "tiles");
    this.events = make("ol", "events");
    this.table = make("div");
    this.table.hidden = true;
    const curves = section("", this.#curvesHead(), this.grid = make("div", "charts"), this.table);
    curves.classList.add("bare");
    const news = section("Events", this.events);
    news.classList.add("news");
    main.replaceChildren(this.head, this.pause, this.tiles, curves, news);
    this.#makeCharts();
    const { signal } = this.leave;
    const on = (kind, act) => this.feed.addEventListener(kind, () => act(), { signal });
    on("status", () => this.#status());
    on("events", () => this.#events());
    on("series", () => this.#series());
    addEventListener("themechange", () => this.#charts().forEach((chart) => chart.redraw()), { signal });
    this.feed.want(names());
    if (this.feed.status) this.#status();
    this.#events();
  }

  close() {
    this.leave.abort();
    clearInterval(this.ticking);
    this.#charts().forEach((chart) => chart.destroy());
  }

  #charts() {
    return [...this.lines, this.segments, this.times, ...(this.queues ? [this.queues] : [])];
  }

  #curvesHead() {
    const node = make("div", "row-head");
    const toggle = button("ghost", "As a table", () => {
      this.table.hidden = !this.table.hidden;
      this.grid.hidden = !this.table.hidden;
      toggle.setAttribute("aria-pressed", String(!this.table.hidden));
      this.#series();
    });
    toggle.setAttribute("aria-pressed", "false");
    node.append(make("h2", "", "Curves"), toggle);
    return node;
  }

  #makeCharts() {
    const sync = `run-${this.feed.runId}`;
    this.lines = LINES.map((spec) => new Chart({
      ...spec, lines: spec.lines.map(([, label, color, more]) => ({ label, color, ...more })),
    }, sync));
    const stacked = (spec) => new Chart({
      ...spec, lines: spec.lines.map(([label, color, hatch]) => ({ label, color, hatch })),
    }, sync);
    this.segments = stacked(SEGMENTS);
    this.times = stacked(TIMES);
    const [reward, heldOut, entropy, overlap, ...rest] = this.lines;
    this.grid.append(...[reward, heldOut, entropy, overlap, this.segments, this.times, ...rest].map(({ node }) => node));
  }

  // ---- state

  #status() {
    const { status } = this.feed;
    const { name, step, total_steps, message, eta_seconds: left, state, allowed_actions } = status;
    refresh(this.where, [name, step, total_steps, message, left], () => this.#title(status));
    refresh(this.actions, [state, allowed_actions], () => this.#buttons(status));
    refresh(this.pause, [state, status.pause, status.failure], () => this.#pauseParts(status));
    const cells = tiles(status);
    refresh(this.tiles, cells, () => cells.map(([title, value, note, kind = ""]) => {
      const cell = make("div", kind), number_ = make("dd", "", value);
      if (note) number_.append(make("small", "", note));
      cell.append(make("dt", "", title), number_);
      return cell;
    }));
    this.#queues();
  }

  #title(status) {
    const line = make("div", "step");
    const text = `step ${number(status.step, 0)} of ${number(status.total_steps, 0)}`;
    const left = exists(status.eta_seconds) ? `, ${duration(status.eta_seconds)} left` : "";
    line.append(make("b", "", text), make("span", "soft", left + (status.message ? ` · ${status.message}` : "")),
      meter("steps done", status.step, status.total_steps, text));
    return [make("h1", "", status.name), line];
  }

  #buttons(status) {
    const all = [
      ["pause", "Pause …", "primary", askPause],
      ["resume", status.state === "pausing" ? "Withdraw the pause …" : "Resume …", "primary", askResume],
      ["cancel", "Cancel …", "ghost danger-text", askCancel],
    ];
    return all.filter(([action]) => status.allowed_actions.includes(action))
      .map(([, text, className, act]) => button(className, text, () => act(this.ctx)));
  }

  #pauseParts(status) {
    clearInterval(this.ticking);
    if (status.failure) return [failurePart(status.failure)];
    if (!status.pause) return [];
    return [pausePart(status, (tick) => {
      tick();
      this.ticking = setInterval(tick, 1000);
    })];
  }

  // ---- curves

  #series() {
    const { series } = this.feed;
    if (!series) return;
    const column = (name) => series.series[name] ?? [];
    LINES.forEach((spec, index) => this.lines[index].set(series.step, spec.lines.map(([name]) => column(name))));
    this.segments.set(series.step, classShares(series));
    this.times.set(series.step, phaseTimes(series));
    if (!this.table.hidden) this.table.replaceChildren(seriesTable(series));
  }

  #queues() {
    const marks = this.feed.queues;
    if (marks.length < 2) return;
    const kinds = Object.keys(marks.at(-1).queues);
    if (!this.queues || this.queueKinds !== kinds.join()) {
      this.queues?.node.remove();
      this.queues?.destroy();
      this.queueKinds = kinds.join();
      this.queues = new Chart({ ...QUEUES, lines: kinds.map((name, index) => ({ label: words(name), color: COLOURS[index % COLOURS.length] })) });
      this.times.node.after(this.queues.node);
    }
    const { at: first } = marks[0];
    this.queues.set(marks.map(({ at }) => Math.round(at - first)), kinds.map((name) => marks.map(({ queues }) => queues[name]?.depth ?? null)));
  }

  // ---- events

  #events() {
    const { events } = this.feed;
    if (!events.length) return this.events.replaceChildren(empty("No event yet", "What happens to the run is told here."));
    this.events.replaceChildren(...events.slice(-SHOWN_EVENTS).reverse().map((event) => {
      const item = make("li", `event of-${event.type}`);
      const time = make("time", "", clock(event.at));
      time.dateTime = event.at;
      time.title = new Date(event.at).toLocaleString();
      item.append(time, make("span", "kind", words(event.type)), make("span", "said", event.message));
      if (event.failure) item.append(make("span", "cause", `${event.failure.role}: ${event.failure.cause}`));
      return item;
    }));
  }
}

function tiles(status) {
  const { metrics, evaluation, checkpoint } = status, get = (name) => metrics[name];
  const engines = exists(status.rollout_policy_version) ? `engines serve ${status.rollout_policy_version}` : "engines said nothing yet";
  const workers = Object.entries(status.workers).map(([role, { ready, total }]) => `${role} ${ready}/${total}`).join(", ");
  return [
    ["Reward", number(get("reward_total_value")), `training accuracy ${share(get("reward_correct_share"))}`],
    ["Held-out accuracy", share(evaluation?.accuracy_ratio), evaluation ? `after step ${evaluation.step}, ${evaluation.problems} problems` : "no evaluation yet"],
    ["Entropy", number(get("rollout_entropy_nats")), "nats per token, sampler"],
    ["Overlap O_CW", share(get("segments_overlap_correct_incorrect_share")), `O_CC ${share(get("segments_overlap_correct_correct_share"))}`],
    ["Advantage kept", share(get("advantage_kept_mass_share")), "of its absolute mass"],
    ["Step time", duration(status.step_seconds), exists(status.tokens_per_second) ? `${number(status.tokens_per_second, 0)} tokens/s` : ""],
    ["Policy version", number(status.policy_version, 0), engines],
    ["Staleness", number(get("learner_staleness_versions"), 2), "versions, mean"],
    ["Checkpoint", checkpoint?.latest ?? DASH, checkpoint?.created_at ? clock(checkpoint.created_at) : "", "words"],
    ["Workers", workers || DASH, status.restarts_total ? `${status.restarts_total} restarts` : "no restart", "words"],
  ];
}

const STOPPING = { drain: "draining", abort: "aborting", freeze: "freezing" };

function stagesOf({ mode, release }) {
  const last = release === "none" ? [] : ["releasing"];
  return [STOPPING[mode] ?? "stopping", "shaping_tail", "finishing_step", "saving", ...last, "paused"];
}

function pausePart(status, every) {
  const { pause } = status, isDone = status.state === "paused";
  const node = section(isDone ? "Paused" : `Pausing: ${words(pause.phase)}`);
  node.classList.add("pause");
  const list = make("ol", "stages"), stages = stagesOf(pause);
  const here = isDone ? stages.length - 1 : Math.max(0, stages.indexOf(pause.phase));
  stages.forEach((stage, index) => {
    const item = make("li", index < here ? "over" : index === here ? "here" : "");
    const sign = make("span", "sign", index < here || (isDone && index === here) ? "✓" : index === here ? "●" : "○");
    sign.setAttribute("aria-hidden", "true");
    item.append(sign, make("span", "", words(stage)));
    if (index === here) item.setAttribute("aria-current", "step");
    list.append(item);
  });
  const facts = make("p", "facts"), timer = make("b");
  const say = [`mode ${pause.mode}`, `by ${pause.requested_by || "nobody named"} at ${clock(pause.requested_at)}`];
  if (!isDone && pause.inflight_groups) say.push(`${pause.inflight_groups} groups under way`);
  if (!isDone && exists(pause.progress)) say.push(percent(pause.progress));
  if (pause.checkpoint) say.push(`checkpoint ${pause.checkpoint}`);
  if (pause.released) say.push(`given back: ${words(pause.released)}`);
  if (pause.exactness) say.push(`exactness ${words(pause.exactness)}`);
  if (pause.reason) say.push(`“${pause.reason}”`);
  facts.append(make("span", "", say.join(" · ")), timer);
  const end = isDone ? pause.expires_at : pause.deadline_at;
  every(() => {
    const left = end ? (Date.parse(end) - Date.now()) / 1000 : null;
    timer.textContent = left === null ? "" : ` · ${isDone ? "resumes by itself in" : "must be done in"} ${duration(Math.max(0, left))}`;
  });
  node.append(list, facts);
  return node;
}

function failurePart(failure) {
  const node = section("What failed");
  node.classList.add("failure");
  node.append(make("p", "", `${failure.role}: ${failure.cause}`));
  if (failure.group_id) node.append(make("p", "mono", `group ${failure.group_id}`));
  return node;
}

// Shares of all tokens. Classes are counted over segment tokens; what is low but in no segment is stray.
function classShares(series) {
  const get = (name, at) => series.series[name]?.[at];
  const rows = series.step.map((_, at) => {
    const counts = CLASSES.map((each) => get(`segments_${each}_tokens`, at));
    const low = get("segments_low_tokens_share", at), covered = get("segments_covered_tokens_share", at);
    if (![low, covered, ...counts].every(exists)) return null;
    const total = counts.reduce((sum, each) => sum + each, 0);
    return [...counts.map((each) => (total ? (each / total) * covered : 0)), Math.max(0, low - covered), 1 - low];
  });
  return Array.from({ length: CLASSES.length + 2 }, (_, row) => rows.map((each) => each?.[row] ?? null));
}

// A phase that a step did not have took no time; a step without any phase has none.
function phaseTimes(series) {
  const columns = PHASES.map((each) => series.series[`phase_${each}_s`] ?? []);
  const has = series.step.map((_, at) => columns.some((column) => exists(column[at])));
  return columns.map((column) => series.step.map((_, at) => (has[at] ? column[at] ?? 0 : null)));
}

function seriesTable(series) {
  const lines = LINES.flatMap(({ title, format, lines: its }) => its.map(([name, label]) => ({ name, head: `${title}: ${label}`, format })));
  const first = Math.max(0, series.step.length - TABLE_STEPS);
  const rows = series.step.slice(first).map((step, index) => [
    String(step), ...lines.map(({ name, format }) => format(series.series[name]?.[first + index])),
  ]).reverse();
  return table([["Step", "number"], ...lines.map(({ head }) => [head, "number"])], rows, `The last ${TABLE_STEPS} steps`);
}
