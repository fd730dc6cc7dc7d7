"""The sections of a recipe that belong to the run itself; those of a role are in the role's own config module."""

import dataclasses
import math
import typing

from shaping.components import ComponentSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Starting policy.

    Args:
        path: a folder, when it starts with "." or "/", otherwise a Hugging Face name.
        max_model_tokens: longest prompt + response the policy can hold; 0 takes it from the model's config.
    """

    path: str
    max_model_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where prompts come from.

    Args:
        train: problems to train on.
        evaluation: held-out problems, never trained on.
    """

    train: ComponentSpec
    evaluation: ComponentSpec | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """Evaluations inside the run: of `data.evaluation`, as set `held_out`, and of benchmarks.

    Held-out problems are judged by the run's deciding reward, or by its first of weight 0, which pays nothing.

    Args:
        every_steps: 0 evaluates at the start and the end only.
        benchmarks: by name, from the hub, or `name=path` of a data file; each with its own sampling
            (docs/evaluation.md).
        num_problems: the first problems of `data.evaluation`.
        num_samples: answers to each problem; null: 1 for `data.evaluation`, and each benchmark's own number.
        temperature: of sampling for `data.evaluation`.
        num_workers: rollout workers that are lent for an evaluation and stay at its policy version while training goes
            on with the others, and an evaluation that is due meanwhile is left out and said; 0 lets training wait
            instead, and all answer.
    """

    every_steps: int = 0
    benchmarks: tuple[str, ...] = ()
    num_problems: int = 256
    num_samples: int | None = None
    temperature: float = 1.0
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("every_steps", 0), ("num_problems", 1), ("num_samples", 1), ("num_workers", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be > 0 and finite, got {self.temperature}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineConfig:
    """Longest seconds of each phase; a missed one ends the run and names itself.

    Args:
        start_seconds: until every worker is placed and ready.
        group_seconds: one round of one group.
        step_seconds: one learner step, one evaluation or one checkpoint.
        weights_seconds: each phase of a weight sync.
        heartbeat_seconds: a role that answers nothing for so long counts as dead.
    """

    start_seconds: float = 900.0
    group_seconds: float = 1800.0
    step_seconds: float = 7200.0
    weights_seconds: float = 900.0
    heartbeat_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("start_seconds", "group_seconds", "step_seconds", "weights_seconds", "heartbeat_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When the whole state of a run is written to its directory, and what is kept.

    Args:
        every_steps: a checkpoint after so many steps, and after the last; 0 writes none, and a run that dies is lost.
        keep_last: the newest ones.
        keep_best: also the one with the highest value of this metric: "accuracy" (held-out) or a name of the metric
            catalogue; "" keeps none.
    """

    every_steps: int = 10
    keep_last: int = 2
    keep_best: str = ""

    def __post_init__(self) -> None:
        if self.every_steps < 0:
            raise ValueError(f"every_steps must be >= 0, got {self.every_steps}")
        if self.keep_last < 1:
            raise ValueError(f"keep_last must be >= 1, got {self.keep_last}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How long a run is and how far its parts may drift apart.

    Args:
        steps: learner steps.
        max_staleness: how many versions behind the learner a group may start; 0 is exact and synchronous.
        admission: how many groups may start beyond those that steps need, and how many may wait for the learner.
        max_attempts_per_step: groups sampled for one step, dropped ones included, as a multiple of groups_per_step.
        at_attempt_cap: at that cap, "train_smaller" trains the groups that there are, "wait" says so and goes on
            sampling, "stop" ends the run.
        group_attempts: times that one group is tried when its worker fails, before the run ends.
        max_worker_restarts: times that rollout and shaping workers are restarted in one run, all together.
        max_restarts: times that a run whose learner or orchestrator died goes on from its last checkpoint.
        max_skipped_steps: learner steps in one run that may be skipped, as their loss or gradient is not finite.
        max_mismatch_nats: largest mean difference per token between the sampler's and the learner's log-probs before a
            step's first update; above it they hold different policies, and the run ends.
        max_canary_nats: largest difference, on the tokens of one fixed prompt, between the log-probs of an engine and
            of the learner after a weight sync; above it an alarm is raised.
        max_no_verdict_share: largest share of the newest rollouts without a verdict (timed_out, crashed) before the run
            ends with examples.
        dump_groups_per_step: groups of each step, the first in order of admission, that are written to groups.jsonl for
            `lessrl explain`; 0 writes none.
        force: run plug-ins that declare that they contradict one another; `lessrl plan` warns of each pair.
        loggers: tools that draw a run's curves, beside metrics.jsonl, which is always written (docs/logging.md).
        checkpoint: what a run can go on from.
        deadlines: of each phase.
    """

    steps: int
    max_staleness: int = 0
    admission: ComponentSpec = ComponentSpec(kind="exact")
    max_attempts_per_step: float = 4.0
    at_attempt_cap: typing.Literal["train_smaller", "wait", "stop"] = "train_smaller"
    group_attempts: int = 2
    max_worker_restarts: int = 10
    max_restarts: int = 3
    max_skipped_steps: int = 3
    max_mismatch_nats: float = 1.0
    max_canary_nats: float = 0.1
    max_no_verdict_share: float = 0.05
    dump_groups_per_step: int = 2
    force: bool = False
    loggers: tuple[ComponentSpec, ...] = ()
    checkpoint: CheckpointConfig = CheckpointConfig()
    deadlines: DeadlineConfig = DeadlineConfig()

    def __post_init__(self) -> None:
        for name, least in _LEAST_OF_RUN.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        for name in ("max_mismatch_nats", "max_canary_nats"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        kinds = [each.kind for each in self.loggers]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"loggers must be of different kinds, got {', '.join(kinds)}")
        if not 0 <= self.max_no_verdict_share <= 1:
            raise ValueError(f"max_no_verdict_share must be in [0, 1], got {self.max_no_verdict_share}")


_LEAST_OF_RUN = {
    "steps": 1,
    "max_staleness": 0,
    "max_attempts_per_step": 1,
    "group_attempts": 1,
    "max_worker_restarts": 0,
    "max_restarts": 0,
    "max_skipped_steps": 0,
    "dump_groups_per_step": 0,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one actor of a role claims from Ray.

    Args:
        num_cpus: fractions allowed.
        num_gpus: fractions allowed; for a rollout worker, of each of its tensor-parallel GPUs.
        num_threads: OMP_NUM_THREADS of the actor; more than free cores slows it down many times over.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_threads: int = 1

    def __post_init__(self) -> None:
        if self.num_cpus < 0 or self.num_gpus < 0:
            raise ValueError(f"num_cpus and num_gpus must be >= 0, got {self.num_cpus} and {self.num_gpus}")
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {self.num_threads}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Actors and what they claim.

    Args:
        device: "cpu" or "cuda".
        local_cpus: CPUs that a local Ray offers; 0 offers all of the machine's. Ray does not start with a fraction.
        num_shaping_workers: shaping actors.
        rollout, shaping, learner: what one actor of the role claims.
        object_store_bytes: of a local Ray; 0 leaves it to Ray.
    """

    device: typing.Literal["cpu", "cuda"] = "cuda"
    num_shaping_workers: int = 1
    rollout: Resources = Resources(num_cpus=1.0, num_gpus=1.0)
    shaping: Resources = Resources(num_cpus=1.0)
    learner: Resources = Resources(num_cpus=1.0, num_gpus=1.0)
    local_cpus: int = 0
    object_store_bytes: int = 0

    def __post_init__(self) -> None:
        if self.num_shaping_workers < 1:
            raise ValueError(f"num_shaping_workers must be >= 1, got {self.num_shaping_workers}")
        for name in ("local_cpus", "object_store_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """The control plane.

    Args:
        host: address it listens on.
        port: 0 picks a free one.
    """

    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be in [0, 65535], got {self.port}")
