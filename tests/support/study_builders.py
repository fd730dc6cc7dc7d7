"""Studies for tests: a file of two arms, finished runs without a run, and a launcher that makes them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from recipe_builders import make_raw
from report_builders import make_evaluation, make_step

from services.report_lines import report_line
from services.study.directory import StudyDirectory
from services.study.planning import PlannedRun
from services.study.reading import RunRecord

CHANGES = {
    "data.evaluation": {"kind": "arithmetic_task", "split": "held_out", "size": 16},
    "evaluation.every_steps": 2,
    "run.steps": 4,
}


def make_study(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A study's file as YAML would give it: GRPO and LESS from three seeds."""
    return {
        "name": "two",
        "recipe": "recipe.yaml",
        "arms": {"grpo": {"set": {"shaping.shapers": []}}, "less": {"set": {"shaping.shapers": ["less"]}}},
        "baseline": "grpo",
        "seeds": 3,
        **(changes or {}),
    }


def write_study(
    folder: Path, changes: Mapping[str, Any] | None = None, *, recipe: Mapping[str, Any] | None = None
) -> Path:
    """The file, with its recipe beside it.

    Args:
        recipe: changes of it, by dotted key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(make_raw({**CHANGES, **(recipe or {})}), sort_keys=False))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(make_study(changes), sort_keys=False))
    return path


def make_record(arm: str, seed: int, accuracies: list[float], **changes: Any) -> RunRecord:
    """A finished run evaluated at 0, 2, 4, ... steps, 100 tokens a step."""
    steps = tuple(range(0, 2 * len(accuracies), 2))
    tokens = changes.pop("tokens", [100.0 * step for step in steps])
    return RunRecord(
        arm=arm,
        seed=seed,
        steps=steps,
        tokens=np.array(tokens, np.float64),
        evaluations={"accuracy": np.array(accuracies)},
        curves=changes.pop("curves", {}),
        measures={"accuracy": accuracies[-1], **changes.pop("measures", {})},
        prompts=changes.pop("prompts", ("a", "b")),
    )


def write_finished_run(run_dir: Path, accuracies: list[float], *, tokens: int = 100, prompts: str = "ab") -> None:
    """What `lessrl train` leaves, as far as a study reads it: an evaluation every second step."""
    run_dir.mkdir(parents=True)
    reports: list[Any] = []
    num_steps = 2 * (len(accuracies) - 1)
    for step in range(num_steps + 1):
        if step:
            metrics = {"rollout_entropy_nats": 1.0 / step}
            reports.append(make_step(step=step, total_steps=num_steps, num_response_tokens=tokens, metrics=metrics))
        if step % 2 == 0:
            accuracy = accuracies[step // 2]
            metrics = {"val-core/held_out/acc/mean@4": accuracy, "val-aux/held_out/acc/std@4": 0.25}
            reports.append(replace(make_evaluation(step, accuracy), metrics=metrics))
    (run_dir / "metrics.jsonl").write_text("".join(report_line(each, at=0.0) + "\n" for each in reports))
    lines = [
        {"ordinal": at, "group_id": f"g{at}", "prompt_id": name, "visit": 1, "outcome": "trained", "step": 1}
        for at, name in enumerate(prompts)
    ]
    (run_dir / "ledger.jsonl").write_text("".join(json.dumps(each) + "\n" for each in reversed(lines)))
    summary = {"status": "completed", "accuracy_first": accuracies[0], "accuracy_last": accuracies[-1]}
    (run_dir / "summary.json").write_text(json.dumps({**summary, "seconds_training": 8.0}))


class FakeLauncher:
    """Finishes runs at once.

    Args:
        make: writes the run's directory and returns the exit code.
    """

    def __init__(self, directory: StudyDirectory, make: Callable[[PlannedRun, Path], int]) -> None:
        self._directory = directory
        self._make = make
        self.launched: list[str] = []
        self.num_interrupts = 0

    async def launch(self, run: PlannedRun) -> int:
        self.launched.append(run.name)
        return self._make(run, self._directory.run_dir(run))

    def interrupt(self) -> None:
        self.num_interrupts += 1
