// Every run that the control plane knows.
import { make, percent } from "./group/dom.js";
import { path } from "./api.js";
import { address, badge, day, duration, empty, link, meter, number, problemBox, refresh, section, table } from "./parts.js";

const EVERY_MS = 5000;

export function openRuns(main, ctx) {
  let timer = 0, isOpen = true;
  const list = make("div");
  main.replaceChildren(section("Runs", list));

  async function look() {
    try {
      const { data } = await ctx.api.get(path("runs"), { page_size: 200 });
      if (!isOpen) return;
      ctx.connected();
      refresh(list, data.items, () => [data.items.length ? runsTable(data.items) : empty("No run yet",
        "Start one with lessrl train RECIPE, or lessrl submit RECIPE; it appears here by itself.")]);
    } catch (error) {
      if (!isOpen) return;
      if (!list.childElementCount) list.replaceChildren(problemBox(error));
      ctx.disconnected(error);
    }
    timer = setTimeout(look, EVERY_MS);
  }
  look();
  return {
    close() {
      isOpen = false;
      clearTimeout(timer);
    },
  };
}

function runsTable(runs) {
  return table(
    ["Run", "State", ["Step", "wide"], ["Reward", "number"], ["Held-out", "number"], "Algorithm", "Started", ["Left", "number"]],
    runs.map(({ id, name, spec, status, labels, created_at, started_at }) => {
      const who = make("div", "who");
      who.append(link("", name, address("runs", id)), make("small", "mono", id));
      for (const [key, value] of Object.entries(labels ?? {})) who.append(make("small", "label", `${key}: ${value}`));
      const step = make("div", "step");
      const text = `${number(status.step, 0)} of ${number(status.total_steps, 0)}`;
      step.append(make("span", "", text), meter("steps", status.step, status.total_steps, text));
      return [
        who, badge(status.state), step, number(status.metrics.reward_total_value),
        percent(status.evaluation?.accuracy_ratio, 1), `${spec.algorithm}, ${spec.shaping}`,
        day(started_at ?? created_at), duration(status.eta_seconds),
      ];
    }), "Runs, the newest first");
}
