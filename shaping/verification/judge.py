"""Who computes rewards: the interface, and the judge of notebooks and tests, which works in this process.

A judge takes tasks (a reward's config and what it may know of a response) and gives one result for each. Rewards that
ask others for a whole batch are asked here, in the caller's process; so is anything else when there is no pool.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shaping.components import ComponentSpec, load
from shaping.config import RewardConfig
from shaping.groups import VerdictStatus
from shaping.rewards.base import BatchReward, Reward, RewardRequest, RewardResult
from shaping.verification.worker import checked, no_verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTask:
    """One response to be judged by one reward."""

    reward: RewardConfig
    request: RewardRequest


class Judge(Protocol):
    """Computes rewards."""

    def start(self) -> None:
        """Before the first task: start what it needs, and judge what is known.

        Raises:
            RunFailed: a known answer got another verdict.
        """
        ...

    def close(self) -> None: ...

    def score(self, tasks: Sequence[ScoreTask]) -> Sequence[RewardResult]:
        """One result for each task, in order. Never raises for anything a policy wrote."""
        ...

    def take_restarts(self) -> int:
        """Processes that were killed or died at work, and began anew, since this was last asked."""
        ...


class LoadedRewards:
    """Rewards by their configs, each built once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Reward | BatchReward] = {}

    def get(self, config: RewardConfig) -> Reward | BatchReward:
        """The reward of a config.

        Raises:
            RecipeError: an unknown kind or option.
        """
        key = reward_key(config)
        if key not in self._loaded:
            spec = ComponentSpec(kind=config.kind, options=dict(config.options))
            self._loaded[key] = load("shaping.rewards", spec, "shaping.rewards").build()
        return self._loaded[key]


def reward_key(config: RewardConfig) -> str:
    """Equal for configs that make the same reward; the weight is not the reward's business."""
    return json.dumps([config.kind, config.options], sort_keys=True, default=str)


def is_batch(reward: Reward | BatchReward) -> bool:
    """Whether a reward is asked for a batch at once, in the caller's process."""
    return hasattr(reward, "score_batch")


class InProcessJudge:
    """Judges in this process: nothing bounds what a response costs. For tests, notebooks and trusted text."""

    def __init__(self) -> None:
        self._rewards = LoadedRewards()

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""

    def take_restarts(self) -> int:
        """None: there are no processes."""
        return 0

    def score(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        results: dict[int, RewardResult] = {}
        batches: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            reward = self._rewards.get(task.reward)
            if is_batch(reward):
                batches.setdefault(reward_key(task.reward), []).append(index)
            else:
                results[index] = score_one(reward, task)
        for indices in batches.values():
            found = score_batch(self._rewards.get(tasks[indices[0]].reward), [tasks[index] for index in indices])
            results.update(zip(indices, found, strict=True))
        return [results[index] for index in range(len(tasks))]


def score_one(reward: Any, task: ScoreTask) -> RewardResult:
    """One call of a reward that judges response by response."""
    return _guarded(lambda: [reward.score(task.request)], [task])[0]


def score_batch(reward: Any, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
    """One call of a reward that judges batches."""
    return _guarded(lambda: reward.score_batch([task.request for task in tasks]), tasks)


def _guarded(call: Callable[[], Sequence[RewardResult]], tasks: Sequence[ScoreTask]) -> list[RewardResult]:
    """A reward call is a border: a reward may run foreign code on anything that a policy writes."""
    kind, prompt_id = tasks[0].reward.kind, tasks[0].request.prompt_id
    try:
        results = [checked(result) for result in call()]
        if len(results) != len(tasks):
            raise ValueError(f"{len(tasks)} results were asked for, {len(results)} came")
    except Exception as error:
        _log.exception("reward %s raised (prompt %s)", kind, prompt_id)
        results = [no_verdict(VerdictStatus.CRASHED, f"{kind}: {type(error).__name__}: {error}")] * len(tasks)
    return results
