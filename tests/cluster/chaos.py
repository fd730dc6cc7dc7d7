"""A long asynchronous run whose roles are killed at random moments, and what became of it. Opt-in: minutes to an hour.

    python -m tests.cluster.chaos --kills 50 --seed 0 [--stack vllm] [--folder DIR]

A random role is killed, or held (SIGSTOP) for longer than its heartbeat may take: while the run trains, while it still
recovers, or inside a save. In the end the run is interrupted, goes on with `lessrl resume` to its last step, and its
ledger is checked: every group once. A law that does not hold ends this with an AssertionError.

`--stack toy` has transformers and plain torch behind Ray; `--stack vllm` has vLLM and two ranks of DeepSpeed ZeRO-3.
"""

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from ledger_law import check_ledger, check_staleness
from stack_run import StackRun, started
from survival_recipe import (
    GROUPS_PER_STEP,
    MAX_STALENESS,
    write_toy_survival,
    write_vllm_survival,
)

WAIT_SECONDS = 600.0
MAX_PAUSE_SECONDS = 4.0
ORCHESTRATOR = "orchestrator"
RECIPES = {"toy": write_toy_survival, "vllm": write_vllm_survival}
# With the weights of the draw.
STROKES = {
    ("rollout", signal.SIGKILL): 6,
    ("rollout", signal.SIGSTOP): 2,
    ("shaping", signal.SIGKILL): 5,
    ("learner", signal.SIGKILL): 3,
    (ORCHESTRATOR, signal.SIGKILL): 4,
}
MOMENTS = {"training": 5, "recovering": 2, "saving": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """One signal.

    Args:
        victim: a worker's id, "learner-<rank>" or "orchestrator".
        at: seconds since the epoch.
        num_reports: that had been seen before it.
    """

    role: str
    victim: str
    signal: signal.Signals
    moment: str
    at: float
    num_reports: int

    def end(self, reports: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """The event with which its victim was back: its own restart, or that of the whole run."""
        for each in reports[self.num_reports :]:
            if each["kind"] == "event" and (each["event"] == "started" or self._is_own(each)):
                return each
        return None

    def recover_seconds(self, reports: Sequence[dict[str, Any]]) -> float | None:
        """None where a worker was back only because the whole run began anew."""
        end = self.end(reports)
        is_whole_run = self.role in ("learner", ORCHESTRATOR)
        if end is None or (end["event"] == "started") != is_whole_run:
            return None
        return datetime.fromisoformat(end["time"]).timestamp() - self.at

    def _is_own(self, event: dict[str, Any]) -> bool:
        return event["event"] == "worker_restarted" and event["workers"][0]["worker_id"] == self.victim


class Chaos:
    """Strikes one run, at moments that its seed and the run's own pace decide."""

    def __init__(self, run: StackRun, seed: int) -> None:
        self._run = run
        self._chance = random.Random(seed)
        self.strokes: list[Stroke] = []

    def strike(self) -> None:
        """One stroke; the one before need not be over."""
        role, sent = self._draw(STROKES)
        moment = self._draw(MOMENTS) if self.strokes else "training"
        if moment != "recovering":
            self.wait_until_recovered()
        if moment == "saving":
            self._run.wait_for("a save", self._is_saving, WAIT_SECONDS)
        else:
            ends_at = time.monotonic() + self._chance.uniform(0.0, MAX_PAUSE_SECONDS)
            self._run.wait_for("the moment", lambda: time.monotonic() >= ends_at, WAIT_SECONDS)
        self._run.wait_for(f"a process of {role}", lambda: bool(self._processes(role)), WAIT_SECONDS)
        victim, process = self._chance.choice(list(self._processes(role).items()))
        stroke = Stroke(
            role=role,
            victim=victim,
            signal=sent,
            moment=moment,
            at=time.time(),
            num_reports=len(self._run.reports.all),
        )
        process.send_signal(sent)
        self.strokes.append(stroke)
        sys.stderr.write(f"{len(self.strokes):4}  {sent.name} {victim} while {moment}\n")

    def wait_until_recovered(self) -> None:
        """Until every victim is back and the run trains."""
        self._run.wait_for("recovery", self._has_recovered, WAIT_SECONDS)

    def _has_recovered(self) -> bool:
        reports = self._run.reports.all
        last = next((each for each in reversed(reports) if each["kind"] != "event" or not each["workers"]), None)
        is_training = last is not None and last.get("state", "running") == "running"
        return is_training and all(each.end(reports) is not None for each in self.strokes)

    def _draw(self, weights: dict[Any, int]) -> Any:
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def _processes(self, role: str) -> dict[str, psutil.Process]:
        if role != ORCHESTRATOR:
            return self._run.actors(role)
        process = self._run.orchestrator
        return {ORCHESTRATOR: process} if process is not None else {}

    def _is_saving(self) -> bool:
        return any((self._run.run_dir / "checkpoints").glob(".step-*.part"))


def run_chaos(stack: str, folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Strike a run `kills` times, let it end, and check its ledger.

    Returns:
        Figures.
    """
    began, run_dir = time.monotonic(), folder / "run"
    recipe = RECIPES[stack](folder)
    with started(folder, ["train", str(recipe), "--address", "local", "--run-dir", str(run_dir)]) as run:
        run.wait_for("a checkpoint", lambda: bool(run.events("checkpoint_saved")), WAIT_SECONDS)
        chaos = Chaos(run, seed)
        for _ in range(kills):
            chaos.strike()
        chaos.wait_until_recovered()
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(WAIT_SECONDS) == 143, run.output()
        assert run.left_over(30) == []
    reports = run.reports.all
    last = max(int(path.name[len("step-") :].split(".")[0]) for path in (run_dir / "checkpoints").glob("step-*"))
    num_steps = last + MAX_STALENESS + 2
    with started(folder, ["resume", str(run_dir), "--address", "local", "--set", f"run.steps={num_steps}"]) as run:
        assert run.wait(WAIT_SECONDS) == 0, run.output()
        assert run.left_over(30) == []
    outcomes = check_ledger(run_dir, num_steps=num_steps, groups_per_step=GROUPS_PER_STEP)
    staleness = check_staleness(run_dir, max_staleness=MAX_STALENESS)
    return {
        "kills": len(chaos.strokes),
        "steps": num_steps,
        "steps_done_again": sum(each["kind"] == "step" for each in reports) - last,
        "groups": dict(outcomes),
        "groups_by_staleness": {str(each): staleness[each] for each in sorted(staleness)},
        "groups_issued_again": sum(each.get("event") == "group_retried" for each in reports),
        "worker_restarts": sum(each.get("event") == "worker_restarted" for each in reports),
        "process_restarts": sum(each.get("event") == "run_restarted" for each in reports),
        "checkpoints": sum(each.get("event") == "checkpoint_saved" for each in reports),
        "recover_s": recoveries(chaos.strokes, reports),
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def recoveries(strokes: Sequence[Stroke], reports: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per role and signal: strokes, and the median and longest time until the victim was back."""
    found: dict[str, dict[str, float]] = {}
    for role, sent in STROKES:
        own = [each for each in strokes if (each.role, each.signal) == (role, sent)]
        seconds = [each for each in (stroke.recover_seconds(reports) for stroke in own) if each is not None]
        found[f"{role} {sent.name}"] = {
            "strokes": len(own),
            "with_the_run": len(own) - len(seconds),
            **({"median": statistics.median(seconds), "max": max(seconds)} if seconds else {}),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stack", choices=sorted(RECIPES), default="toy")
    parser.add_argument("--folder", type=Path, help="new or empty; where the run and its recipe go")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    figures = run_chaos(options.stack, folder.resolve(), kills=options.kills, seed=options.seed)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
