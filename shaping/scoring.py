"""Rewards and verdicts of a group (DESIGN hop 4).

Flow: rollout group + weighted rewards + who judges -> scored group, or a drop when too little was decided. A rollout
that some reward could not judge is left out and counted, never scored 0. Knows no advantages, and no processes: a
`Judge` works in this process or is a pool of processes that can be killed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from shaping.components import Component, ComponentSpec, load
from shaping.config import RewardConfig
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup, Verdict
from shaping.records import RolloutGroup
from shaping.rewards.base import BatchReward, Reward, reward_request
from shaping.verification.judge import Judge, ScoreTask


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """A reward of a run.

    Args:
        name: among the reward parts of a group.
        config: what a judge is asked for.
    """

    name: str
    config: RewardConfig
    reward: Reward | BatchReward

    @property
    def weight(self) -> float:
        return self.config.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSum:
    """The rewards of a run; exactly one of them decides which rollouts are correct.

    Raises:
        RecipeError: none decides, or several do.
    """

    parts: tuple[WeightedReward, ...]
    where: str = "shaping.rewards"

    def __post_init__(self) -> None:
        deciding = [part.name for part in self.parts if part.reward.decides_correctness]
        if len(deciding) == 1:
            return
        found = f"{', '.join(deciding)} do" if deciding else f"none of {', '.join(p.name for p in self.parts)} does"
        advice = "set `decides: false` on all but one" if deciding else "add one that does, for example math_answer"
        raise RecipeError(
            f"exactly one reward must decide which rollouts are correct, {found}; {advice} ({self.where})"
        )

    @property
    def deciding(self) -> WeightedReward:
        return next(part for part in self.parts if part.reward.decides_correctness)


def load_rewards(configs: tuple[RewardConfig, ...], where: str) -> tuple[Component, ...]:
    """Check the rewards of a recipe, in order.

    Raises:
        RecipeError: an unknown kind or option.
    """
    specs = [ComponentSpec(kind=config.kind, options=dict(config.options)) for config in configs]
    return tuple(load("shaping.rewards", spec, f"{where}[{index}]") for index, spec in enumerate(specs))


def build_rewards(configs: tuple[RewardConfig, ...], components: tuple[Component, ...], where: str) -> RewardSum:
    """Rewards under their kinds; a kind's second use is named `kind_2`, and so on."""
    seen: Counter[str] = Counter()
    parts = []
    for config, component in zip(configs, components, strict=True):
        seen[config.kind] += 1
        name = config.kind if seen[config.kind] == 1 else f"{config.kind}_{seen[config.kind]}"
        parts.append(WeightedReward(name=name, config=config, reward=component.build()))
    return RewardSum(parts=tuple(parts), where=where)


def score_group(
    group: RolloutGroup,
    rewards: RewardSum,
    judge: Judge,
    *,
    no_verdict: Literal["rollout", "group"] = "rollout",
) -> ScoredGroup | Drop:
    """Rewards and verdicts of every rollout that could be judged.

    Args:
        no_verdict: what a missing verdict leaves out: its rollout or the whole group.
    Returns:
        The scored group, without the rollouts that some reward gave no verdict (their verdicts are in `excluded`);
        Drop(NO_VERDICT) when none is left, or when one was left out and the group goes with it.
    """
    requests = [reward_request(rollout, group.prompt) for rollout in group.rollouts]
    tasks = [ScoreTask(reward=part.config, request=request) for request in requests for part in rewards.parts]
    answers = iter(judge.score(tasks))
    results = [[next(answers) for _ in rewards.parts] for _ in requests]
    undecided = [next((r.verdict for r in row if not r.verdict.is_decided), None) for row in results]
    excluded = tuple(verdict for verdict in undecided if verdict is not None)
    kept = [index for index, verdict in enumerate(undecided) if verdict is None]
    if not kept or (excluded and no_verdict == "group"):
        return _drop(excluded, group.group_size)
    values = np.array([[result.value for result in results[index]] for index in kept], np.float64)
    weights = np.array([part.weight for part in rewards.parts], np.float64)
    deciding = rewards.parts.index(rewards.deciding)
    return ScoredGroup(
        group=_keep(group, kept),
        rewards=(values @ weights).astype(np.float32),
        reward_parts={part.name: values[:, i].astype(np.float32) for i, part in enumerate(rewards.parts)},
        verdicts=tuple(results[index][deciding].verdict for index in kept),
        excluded=excluded,
    )


def _drop(excluded: Sequence[Verdict], group_size: int) -> Drop:
    counts = Counter(str(verdict.status) for verdict in excluded)
    detail = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
    some = "no rollout was decided" if len(excluded) == group_size else "some rollouts were not decided"
    return Drop(reason=DropReason.NO_VERDICT, detail=f"{some}: {detail}", excluded=tuple(excluded))


def _keep(group: RolloutGroup, indices: list[int]) -> RolloutGroup:
    if len(indices) == group.group_size:
        return group
    return replace(group, rollouts=tuple(group.rollouts[index] for index in indices))
