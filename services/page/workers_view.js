// Workers with their versions, and the places where groups wait.
import { exists, make } from "./group/dom.js";
import { path } from "./api.js";
import { DASH_TEXT, duration, empty, meter, number, problemBox, refresh, section, table, words } from "./parts.js";

const EVERY_MS = 3000;
const STATE_SIGNS = { ready: "●", starting: "◔", failed: "✗", stopped: "■" };

export function openWorkers(main, ctx) {
  const { api, feed } = ctx, leave = new AbortController();
  const workers = make("div"), queues = make("div");
  let timer = 0;
  main.replaceChildren(section("Workers", workers), section("Queues", queues));

  async function look() {
    try {
      const [found, waiting] = await Promise.all(["workers", "queues"].map((kind) =>
        api.get(path("runs", feed.runId, kind), {}, leave.signal)));
      refresh(workers, [found.data.items, feed.status?.policy_version], () => [workersPart(found.data.items, feed.status)]);
      refresh(queues, waiting.data.items, () => [queuesPart(waiting.data.items)]);
    } catch (error) {
      if (leave.signal.aborted) return;
      if (!workers.childElementCount) workers.replaceChildren(problemBox(error));
    }
    timer = setTimeout(look, EVERY_MS);
  }
  look();
  return {
    close() {
      leave.abort();
      clearTimeout(timer);
    },
  };
}

function workersPart(items, status) {
  if (!items.length) return empty("No worker has reported", "Workers appear when their processes are up.");
  return table(
    ["Worker", "Role", "State", ["Version", "number"], ["In flight", "number"], ["Restarts", "number"], ["Heard of", "number"], "Where", "What"],
    items.map((worker) => [
      make("span", "mono", worker.id), worker.role, stateMark(worker.state), version(worker, status),
      number(worker.inflight, 0), number(worker.restarts, 0),
      exists(worker.last_heartbeat_age_seconds) ? `${duration(worker.last_heartbeat_age_seconds)} ago` : DASH_TEXT,
      [worker.node, worker.gpu].filter(Boolean).join(", ") || DASH_TEXT, worker.description || DASH_TEXT,
    ]), "Workers of the run");
}

function stateMark(state) {
  const node = make("span", `worker-state is-${state}`), sign = make("span", "sign", STATE_SIGNS[state] ?? "?");
  sign.setAttribute("aria-hidden", "true");
  node.append(sign, make("span", "", state));
  return node;
}

// An engine that serves an older version than the learner made is marked.
function version({ role, policy_version: served }, status) {
  const node = make("span", "", number(served, 0));
  const behind = role === "rollout" && exists(served) && status ? status.policy_version - served : 0;
  if (behind > 0) node.append(make("small", "behind", ` ${behind} behind`));
  return node;
}

function queuesPart(items) {
  if (!items.length) return empty("No report of queues", "A running run reports them once a second.");
  return table(
    ["Queue", ["Depth", "number"], ["Of at most", "number"], ["Full", "wide"], ["Oldest", "number"], ["In", "number"], ["Out", "number"], ["Dropped", "number"]],
    items.map((queue) => [
      words(queue.name), number(queue.depth, 0), exists(queue.capacity) ? number(queue.capacity, 0) : DASH_TEXT,
      exists(queue.capacity) ? meter(`${queue.name} full`, queue.depth, queue.capacity, `${queue.depth} of ${queue.capacity}`) : make("span", "quiet", "without a bound"),
      duration(queue.oldest_age_seconds), number(queue.enqueued_total, 0), number(queue.dequeued_total, 0),
      number(queue.dropped_total, 0),
    ]), "Where groups wait");
}
