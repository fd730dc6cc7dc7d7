"""Rewards and verdicts of a group (DESIGN hop 4).

Flow: rollout group + weighted rewards -> scored group, or a drop when no rollout was decided. A rollout that some
reward could not judge is left out and counted, never scored 0. Knows no advantages.
"""

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

from shaping.components import Component, ComponentSpec, load
from shaping.config import RewardConfig
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup, Verdict, VerdictStatus
from shaping.records import Prompt, Rollout, RolloutGroup
from shaping.rewards.base import Reward, RewardResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """A reward, its name among the reward parts of a group, and its weight in their sum."""

    name: str
    weight: float
    reward: Reward


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
    def deciding_name(self) -> str:
        return next(part.name for part in self.parts if part.reward.decides_correctness)


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
        parts.append(WeightedReward(name=name, weight=config.weight, reward=component.build()))
    return RewardSum(parts=tuple(parts), where=where)


def score_group(group: RolloutGroup, rewards: RewardSum) -> ScoredGroup | Drop:
    """Rewards and verdicts of every rollout that could be judged.

    Returns:
        The scored group, without the rollouts that some reward gave no verdict (their verdicts are in `excluded`);
        Drop(NO_VERDICT) when none is left.
    """
    results = [[_score(part, rollout, group) for part in rewards.parts] for rollout in group.rollouts]
    undecided = [next((r.verdict for r in row if not r.verdict.is_decided), None) for row in results]
    excluded = tuple(verdict for verdict in undecided if verdict is not None)
    kept = [index for index, verdict in enumerate(undecided) if verdict is None]
    if not kept:
        counts = Counter(str(verdict.status) for verdict in excluded)
        detail = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
        return Drop(reason=DropReason.NO_VERDICT, detail=f"no rollout was decided: {detail}", excluded=excluded)
    values = np.array([[result.value for result in results[index]] for index in kept], np.float64)
    weights = np.array([part.weight for part in rewards.parts], np.float64)
    deciding = [part.name for part in rewards.parts].index(rewards.deciding_name)
    return ScoredGroup(
        group=_keep(group, kept),
        rewards=(values @ weights).astype(np.float32),
        reward_parts={part.name: values[:, i].astype(np.float32) for i, part in enumerate(rewards.parts)},
        verdicts=tuple(results[index][deciding].verdict for index in kept),
        excluded=excluded,
    )


def _score(part: WeightedReward, rollout: Rollout, group: RolloutGroup) -> RewardResult:
    """One reward call: a border, since a reward may run foreign code on anything a policy writes."""
    prompt: Prompt = group.prompt
    try:
        return part.reward.score(rollout, prompt)
    except Exception as error:
        _log.exception("reward %s raised (group %s)", part.name, group.group_id)
        verdict = Verdict(status=VerdictStatus.CRASHED, detail=f"{part.name}: {type(error).__name__}: {error}")
        return RewardResult(value=0.0, verdict=verdict)


def _keep(group: RolloutGroup, indices: list[int]) -> RolloutGroup:
    if len(indices) == group.group_size:
        return group
    return RolloutGroup(
        group_id=group.group_id,
        prompt=group.prompt,
        prompt_ids=group.prompt_ids,
        rollouts=tuple(group.rollouts[index] for index in indices),
        vocab_size=group.vocab_size,
    )
