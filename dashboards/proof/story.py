"""A short run in which everything happens once that a dashboard marks: pauses, an evaluation, a checkpoint, a death.

Knows the control plane's calls, and nothing of Prometheus or of what is shown.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dashboards.proof.run import Run

START_SECONDS = 180.0
CALL_SECONDS = 90.0
RUN_SECONDS = 300.0
PAUSE_MODES = ("drain", "freeze")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """How often each thing happened that is marked, by the name of its annotation."""

    pauses: int
    checkpoints: int
    evaluations: int
    restarts: int

    def by_annotation(self) -> dict[str, tuple[int, int]]:
        """How often each mark must be there, at least and at most: short things that follow close are one."""
        return {
            "Pause": (self.pauses, self.pauses),
            "Checkpoint": (1, self.checkpoints),
            "Evaluation": (1, self.evaluations),
            "Worker restart": (1, self.restarts),
        }


def play(run: Run, *, pause_seconds: float, tell: Tell, at_full: Callable[[], None]) -> Happened:
    """Steer a run that has begun, to its end.

    Args:
        pause_seconds: how long each pause lasts.
        tell: gets a word on each thing that is done.
        at_full: called once everything has happened, while the run goes on.
    Raises:
        RuntimeError: something did not happen in time.
    """
    _await_steps(run, 3, START_SECONDS)
    for mode in PAUSE_MODES:
        tell(f"pause, {mode}")
        run.post("/pause", {"mode": mode, "reason": "proof of the dashboards"})
        run.wait_for("the pause", lambda: _state(run) == "paused", CALL_SECONDS)
        _rest(run, pause_seconds)
        run.post("/resume", {})
        run.wait_for("the run going on", lambda: _state(run) == "running", CALL_SECONDS)
        _await_steps(run, 3, CALL_SECONDS)
    tell("a checkpoint and an evaluation that are asked for")
    run.post("/checkpoints", {"tag": "proof"})
    run.post("/evals", {})
    _await_steps(run, 2, CALL_SECONDS)
    tell("SIGKILL of a rollout worker")
    known = len(_events(run, "worker_restarted"))
    run.kill_worker("rollout")
    run.wait_for("the worker's restart", lambda: len(_events(run, "worker_restarted")) > known, CALL_SECONDS)
    tell("the rest of the run")
    _await_steps(run, 2, CALL_SECONDS)
    at_full()
    run.follow(RUN_SECONDS)
    return happened(run)


def happened(run: Run) -> Happened:
    """What metrics.jsonl of the run says so far."""
    kinds = Counter(record.get("event", record["kind"]) for record in _records(run))
    return Happened(
        pauses=kinds["paused"],
        checkpoints=kinds["checkpoint_saved"],
        evaluations=kinds["evaluation"],
        restarts=kinds["worker_restarted"],
    )


def _state(run: Run) -> str:
    return str(run.get("/status").get("state", ""))


def _await_steps(run: Run, more: int, seconds: float) -> None:
    known = int(run.get("/status").get("step", 0))
    run.wait_for(f"{more} steps", lambda: int(run.get("/status").get("step", 0)) >= known + more, seconds)


def _rest(run: Run, seconds: float) -> None:
    began: list[float] = []

    def is_over() -> bool:
        run.get("/status")
        began.append(run.last_answer)
        return began[-1] - began[0] >= seconds

    run.wait_for(f"{seconds:g} s of the pause", is_over, CALL_SECONDS)


def _events(run: Run, kind: str) -> list[dict[str, object]]:
    return [record for record in _records(run) if record.get("event") == kind]


def _records(run: Run) -> list[dict[str, object]]:
    path = run.run_dir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
