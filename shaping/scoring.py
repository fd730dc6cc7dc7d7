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
from numpy.typing import NDArray

from shaping.components import Component, ComponentSpec, load
from shaping.config import RewardConfig
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup, Verdict, keep_rollouts
from shaping.records import RolloutGroup
from shaping.rewards.base import BatchReward, Reward, RewardResult, reward_request
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
    results = _judge(group, rewards, judge)
    undecided = _undecided(results)
    excluded = tuple(undecided.values())
    kept = [index for index in range(group.group_size) if index not in undecided]
    if not kept or (excluded and no_verdict == "group"):
        return _drop(excluded, all_are=not kept)
    values, verdicts = _values(results, kept), _verdicts(results, rewards)
    return ScoredGroup(
        group=_keep(group, kept),
        rewards=_weighted(values, rewards).astype(np.float32),
        reward_parts={part.name: values[:, i].astype(np.float32) for i, part in enumerate(rewards.parts)},
        verdicts=tuple(verdicts[index] for index in kept),
        excluded=excluded,
    )


def score_again(
    scored: ScoredGroup,
    group: RolloutGroup,
    changed: Sequence[int],
    rewards: RewardSum,
    judge: Judge,
    *,
    no_verdict: Literal["rollout", "group"] = "rollout",
) -> ScoredGroup | Drop:
    """A scored group in which some responses are no longer what they were.

    Args:
        group: the same rollouts, of which those with indices `changed`, at least one, are others.
        no_verdict: as for `score_group`, of the changed rollouts.
    Returns:
        Rewards and verdicts of the changed rollouts as new, those of the others untouched; a reward part that is none
        of `rewards` was added by a transform, and stays. Drop(NO_VERDICT) as from `score_group`.
    """
    results = _judge(_keep(group, list(changed)), rewards, judge)
    undecided = _undecided(results)
    excluded = tuple(undecided.values())
    if excluded and (len(excluded) == group.group_size or no_verdict == "group"):
        return _drop(excluded, all_are=len(excluded) == group.group_size)
    decided = [row for row in range(len(results)) if row not in undecided]
    places = [changed[row] for row in decided]
    values, names = _values(results, decided), [part.name for part in rewards.parts]
    added = sum((part[places] for name, part in scored.reward_parts.items() if name not in names), np.float64(0))
    parts = {name: part.copy() for name, part in scored.reward_parts.items()}
    for column, name in enumerate(names):
        parts[name][places] = values[:, column]
    total, verdicts = scored.rewards.copy(), list(scored.verdicts)
    total[places] = _weighted(values, rewards) + added
    for row, verdict in enumerate(_verdicts(results, rewards)):
        if row not in undecided:
            verdicts[changed[row]] = verdict
    again = replace(scored, group=group, rewards=total, reward_parts=parts, verdicts=tuple(verdicts))
    left_out = {changed[row] for row in undecided}
    kept = keep_rollouts(again, [index for index in range(group.group_size) if index not in left_out])
    return replace(kept, excluded=(*scored.excluded, *excluded))


def _judge(group: RolloutGroup, rewards: RewardSum, judge: Judge) -> list[list[RewardResult]]:
    """[G][parts]."""
    limit = group.max_response_tokens
    requests = [reward_request(each, group.prompt, max_response_tokens=limit) for each in group.rollouts]
    tasks = [ScoreTask(reward=part.config, request=request) for request in requests for part in rewards.parts]
    answers = iter(judge.score(tasks))
    return [[next(answers) for _ in rewards.parts] for _ in requests]


def _undecided(results: list[list[RewardResult]]) -> dict[int, Verdict]:
    """By row the first verdict that is none, of the rows that have one."""
    found = {
        row: next((r.verdict for r in of_row if not r.verdict.is_decided), None) for row, of_row in enumerate(results)
    }
    return {row: verdict for row, verdict in found.items() if verdict is not None}


def _values(results: list[list[RewardResult]], rows: Sequence[int]) -> NDArray[np.float64]:
    """[rows, parts], of no rows too."""
    values = [[result.value for result in results[row]] for row in rows]
    return np.array(values, np.float64).reshape(len(rows), len(results[0]))


def _weighted(values: NDArray[np.float64], rewards: RewardSum) -> NDArray[np.float64]:
    """[rows] sums over the parts, in their order: the same bits for a row whatever rows stand beside it."""
    total = np.zeros(len(values))
    for column, part in enumerate(rewards.parts):
        total += part.weight * values[:, column]
    return total


def _verdicts(results: list[list[RewardResult]], rewards: RewardSum) -> list[Verdict]:
    deciding = rewards.parts.index(rewards.deciding)
    return [of_row[deciding].verdict for of_row in results]


def _drop(excluded: Sequence[Verdict], *, all_are: bool) -> Drop:
    counts = Counter(str(verdict.status) for verdict in excluded)
    detail = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
    some = "no rollout was decided" if all_are else "some rollouts were not decided"
    return Drop(reason=DropReason.NO_VERDICT, detail=f"{some}: {detail}", excluded=tuple(excluded))


def _keep(group: RolloutGroup, indices: list[int]) -> RolloutGroup:
    if len(indices) == group.group_size:
        return group
    return replace(group, rollouts=tuple(group.rollouts[index] for index in indices))
