"""Weights & Biases, online or offline (`wandb sync RUN_DIR/wandb/offline-run-*` uploads what was kept).

The run's id is ours, so that a process that goes on continues the same W&B run. What W&B has it keeps: a step that is
made again after a crash is not sent again. Nothing but numbers and recipe leaves the machine: no console output,
code, command line or environment. The key is WANDB_API_KEY's or `wandb login`'s, never the recipe's.
"""

from dataclasses import dataclass
from typing import Any, Literal

from services.loggers.base import LoggedPoint, LoggedRun
from services.metrics.field_names import EVALUATION_STEP_NAME, STEP_NAME
from services.wandb_files import highest_values
from shaping.components import import_module_of
from shaping.errors import UserError
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()
LIBRARY = "wandb"
FOLDER = "wandb"
START_SECONDS = 60.0
FINISH_SECONDS = 25.0
EXIT_CODES = {"completed": 0, "paused": 143, "interrupted": 75, "cancelled": 130}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    project, entity: where the run appears; "" is the account's own entity.
    group: of runs that W&B shows together; "" for none.
    mode: "offline" keeps everything below the run's directory.
    """

    project: str = "lessrl"
    entity: str = ""
    group: str = ""
    mode: Literal["online", "offline"] = "online"

    def __post_init__(self) -> None:
        if not self.project:
            raise ValueError("project must be a name, got ''")


def build(config: Config, *, run: LoggedRun) -> "WandbLogger":
    """Open the W&B run, or continue it.

    Raises:
        UserError: nobody is logged in.
        wandb.Error: the server did not answer in time.
    """
    return WandbLogger(config, run)


class WandbLogger:
    """Sends each point as a row of its own, with the step as W&B's x axis."""

    def __init__(self, config: Config, run: LoggedRun) -> None:
        self._wandb = import_module_of("wandb", "sdk")
        # Otherwise W&B would ask for a key in the terminal.
        if config.mode == "online" and not self._wandb.login(prompt=False, verify=False):
            raise UserError(
                "W&B must know its user, found no key; set WANDB_API_KEY or run `wandb login`, or set mode: offline "
                "(run.loggers)"
            )
        self._headings: set[str] = set()
        marks = (STEP_NAME, EVALUATION_STEP_NAME)
        # Before W&B opens its next file.
        kept = highest_values(run.run_dir / FOLDER, marks) if config.mode == "offline" else {}
        (run.run_dir / FOLDER).mkdir(exist_ok=True)
        self._run = self._wandb.init(
            id=run.run_id,
            name=run.name,
            project=config.project,
            entity=config.entity or None,
            group=config.group or None,
            mode=config.mode,
            resume="allow",
            dir=str(run.run_dir),
            config=dict(run.config),
            settings=_settings(self._wandb),
        )
        # The server has answered what it has of a run that goes on.
        found = kept if config.mode == "offline" else {name: self._run.summary.get(name) for name in marks}
        self._sent = {name: -1 if (step := found.get(name)) is None else int(step) for name in marks}

    def log(self, point: LoggedPoint) -> None:
        axis = EVALUATION_STEP_NAME if point.is_evaluation else STEP_NAME
        if point.step <= self._sent[axis]:
            return
        for name in point.values:
            heading = name.partition("/")[0]
            if heading not in self._headings:
                self._headings.add(heading)
                self._run.define_metric(f"{heading}/*", step_metric=axis)
        self._run.log(dict(point.values))
        self._sent[axis] = point.step

    def close(self, outcome: str) -> None:
        self._run.summary["less/outcome"] = outcome
        if outcome in ("paused", "interrupted"):
            self._run.mark_preempting()
        self._run.finish(exit_code=EXIT_CODES.get(outcome, 1))
        # Its service is a process that would go on beside the run's next sitting.
        self._wandb.teardown()


def _settings(wandb: Any) -> Any:
    return wandb.Settings(
        console="off",
        disable_git=True,
        disable_job_creation=True,
        finish_timeout=FINISH_SECONDS,
        init_timeout=START_SECONDS,
        save_code=False,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
