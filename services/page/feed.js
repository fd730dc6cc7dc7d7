// What is known of one run, kept up to date for every view: its status, its events, its curves.
import { Problem, path } from "./api.js";

const POLL_MS = 2000;
const BUSY_POLL_MS = 700;
const MAX_EVENTS = 300;
const MAX_POINTS = 1500;
const FULL_POINTS = 1200;
const MAX_QUEUE_MARKS = 600;
const BUSY = new Set(["pausing", "resuming", "cancelling", "starting", "pending"]);
// Events that are few. Steps are not: a long run has a hundred thousand of them.
const RARE = [
  "run_registered", "run_created", "run_continued", "run_state_changed", "run_restarted", "attempt_started", "process_started",
  "launch_failed", "starting", "started", "worker_started", "worker_lost", "worker_restarted", "worker_left_out", "paused",
  "pause_failed", "pause_escalated", "resumed", "completed", "failed", "cancelled", "checkpoint_committed",
  "checkpoint_damaged", "eval_completed", "config_changed", "config_applied", "config_failed", "task_done", "task_failed",
  "weight_sync_aborted", "canary_alarm", "reports_missed",
];

export class RunFeed extends EventTarget {
  constructor(api, runId) {
    super();
    Object.assign(this, {
      api, runId, status: null, run: null, events: [], queues: [], series: null, names: null, state: "connecting",
      until: null, seenAt: null, problem: null,
    });
    this.leave = new AbortController();
    this.stream = api.follow(path("runs", runId, "events", "stream"), {
      onEvent: (event) => this.#take(event),
      onState: (state, detail) => this.#link(state, detail),
    });
    this.#history();
    this.#poll();
    document.addEventListener("visibilitychange", () => document.hidden || this.look(), { signal: this.leave.signal });
  }

  close() {
    this.leave.abort();
    clearTimeout(this.timer);
    this.stream.close();
  }

  #tell(kind, detail = undefined) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  #link(state, detail) {
    this.state = state;
    this.until = state === "away" ? detail : null;
    if (state === "refused") this.problem = detail;
    if (state === "live") this.look();
    this.#tell("link");
  }

  // Look now: after a call of the user's, or an event that changes more than it says.
  look() {
    clearTimeout(this.timer);
    this.#poll();
  }

  async #poll() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const { data } = await this.api.get(path("runs", this.runId, "status"), {}, this.leave.signal);
      if (turn !== this.turn) return;
      const isNew = this.status?.step !== data.step;
      this.status = data;
      this.seenAt = Date.now();
      this.problem = null;
      this.#markQueues(data);
      this.#tell("status");
      if (isNew) this.#steps();
    } catch (error) {
      if (this.leave.signal.aborted || turn !== this.turn) return;
      if (error instanceof Problem) this.problem = error;
      this.#tell("link");
    }
    const wait = BUSY.has(this.status?.state) ? BUSY_POLL_MS : POLL_MS;
    this.timer = setTimeout(() => this.#poll(), document.hidden ? 15_000 : wait);
  }

  #markQueues({ queues }) {
    if (!queues || !Object.keys(queues).length) return;
    this.queues.push({ at: Date.now() / 1000, queues });
    if (this.queues.length > MAX_QUEUE_MARKS) this.queues.splice(0, this.queues.length - MAX_QUEUE_MARKS);
  }

  #take(event) {
    if (this.events.some(({ id }) => id === event.id)) return;
    this.#add([event]);
    this.#tell("event", event);
    if (event.type !== "step_completed" || !this.soon) {
      this.soon = setTimeout(() => {
        this.soon = null;
        this.look();
      }, 150);
    }
  }

  #add(events) {
    const known = new Set(this.events.map(({ id }) => id));
    this.events = [...this.events, ...events.filter(({ id }) => !known.has(id))]
      .sort((a, b) => a.id - b.id).slice(-MAX_EVENTS);
    this.#tell("events");
  }

  async #history() {
    try {
      let after = 0;
      for (let page = 0; page < 20; page++) {
        const query = { type: RARE, after, page_size: 500 };
        const { data } = await this.api.get(path("runs", this.runId, "events"), query, this.leave.signal);
        this.#add(data.items);
        if (data.next_page_token === null) return;
        after = data.next_page_token;
      }
    } catch {
      // The stream tells that nobody answers.
    }
  }

  // Curves that a view wants; they are fetched once and then grow.
  want(names) {
    this.names = [...new Set([...(this.names ?? []), ...names])];
    this.series = null;
    this.#steps();
  }

  #steps() {
    if (!this.names || this.fetching) return;
    this.fetching = true;
    this.#fetchSteps().catch((error) => {
      if (error instanceof Problem) this.#tell("series-problem", error);
    }).finally(() => {
      this.fetching = false;
      const last = this.series?.step.at(-1) ?? 0;
      // A step may have come while the answer was on its way.
      if (this.again && last < (this.status?.step ?? 0)) this.#steps();
      this.again = false;
    });
  }

  async #fetchSteps() {
    const isFull = !this.series || this.series.step.length > MAX_POINTS;
    const last = this.series?.step.at(-1) ?? 0;
    // The last step is read again: its evaluation comes after it.
    const query = { names: this.names, max_points: FULL_POINTS, min_step: isFull ? null : last };
    const { data } = await this.api.get(path("runs", this.runId, "series"), query, this.leave.signal);
    if (isFull || data.step.length === 0) {
      if (isFull) this.series = data;
    } else {
      const keep = this.series.step.findIndex((step) => step >= data.step[0]);
      const cut = keep < 0 ? this.series.step.length : keep;
      this.series.step = [...this.series.step.slice(0, cut), ...data.step];
      for (const name of this.names) {
        this.series.series[name] = [...(this.series.series[name] ?? []).slice(0, cut), ...(data.series[name] ?? [])];
      }
    }
    this.#tell("series");
  }
}
