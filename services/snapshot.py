"""The orchestrator's part of a checkpoint as JSON data: `run_state.json`.

Everything is of one step border: the learner is between two steps, `version` is verified live, and the groups in flight
are named so that they can be asked for again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rollout.plans.base import FinishedRound, Round
from rollout.requests import OpenGroup, group_id_of
from rollout.selectors.base import GroupOutcome
from services.group_loop import BufferedGroup
from services.ledger import LedgerRound, ledger_rounds
from services.ports import ShapedHandle
from shaping.errors import CheckpointError
from shaping.metrics import Metric, metrics_from_plain, plain_metrics

Reopen = Callable[[int, str, int, Mapping[str, float]], OpenGroup]

CONFIG_HISTORY = "config_history"
"""Entry of `run_state.json` beside the snapshot's: what the run's recipe was changed to, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGroupState:
    """A group in flight: asked for again by a run that goes on from here.

    Args:
        recalled: what was remembered of its prompt when it was opened.
    """

    ordinal: int
    prompt_id: str
    visit: int
    recalled: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedGroupState:
    """A group that waits for the learner; its samples are in the checkpoint's groups file, in this order."""

    ordinal: int
    prompt_id: str
    visit: int
    num_response_tokens: int
    rounds: tuple[LedgerRound, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedGroupState:
    """A group that has ended, and that selector and plan have not learned from yet: they do so once a step, in order.

    Args:
        rounds: that were scored one by one, in order: those of a `Round`, and of its `FinishedRound` the others.
        outcome: of a `GroupOutcome`, without the prompt.
    """

    ordinal: int
    prompt_id: str
    visit: int
    rounds: tuple[dict[str, Any], ...]
    outcome: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run at a step border.

    Args:
        version: steps finished; the policy version that every engine serves.
        buffer: of GroupBuffer.state.
        factory: of GroupFactory.state: prompt cursor, selector, visits, prompt memory.
        in_flight, buffered, ended: in order of admission.
        dropped_tokens, dropped_metrics: of groups dropped since the last batch was taken.
        elapsed_s: training time, pauses excluded.
        num_worker_restarts, num_skipped_steps: spent of their budgets.
        live: of LiveState.as_json: live changes of the recipe.
    """

    version: int
    buffer: dict[str, Any]
    factory: dict[str, Any]
    in_flight: tuple[OpenGroupState, ...]
    buffered: tuple[BufferedGroupState, ...]
    ended: tuple[EndedGroupState, ...]
    dropped_tokens: int
    dropped_metrics: dict[str, Metric]
    elapsed_s: float
    num_worker_restarts: int
    num_skipped_steps: int
    live: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data for `run_state.json`."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["in_flight"] = [asdict(each) for each in self.in_flight]
        plain["buffered"] = [asdict(each) for each in self.buffered]
        plain["ended"] = [asdict(each) for each in self.ended]
        plain["dropped_metrics"] = plain_metrics(self.dropped_metrics)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "RunSnapshot":
        """Read `as_json` back.

        Raises:
            CheckpointError: not the state of a run, or of another version of lessrl.
        """
        plain = {name: each for name, each in plain.items() if name != CONFIG_HISTORY}
        if set(plain) != set(cls.__slots__):
            differing = sorted(set(plain) ^ set(cls.__slots__))
            raise CheckpointError(f"run_state.json must hold the state of a run, {differing} are missing or unknown")
        try:
            known = dict(plain)
            known["in_flight"] = tuple(OpenGroupState(**each) for each in plain["in_flight"])
            known["buffered"] = tuple(_buffered_state(each) for each in plain["buffered"])
            known["ended"] = tuple(_ended_state(each) for each in plain["ended"])
            known["dropped_metrics"] = metrics_from_plain(plain["dropped_metrics"])
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"run_state.json cannot be read: {error}") from error


def _buffered_state(plain: Mapping[str, Any]) -> BufferedGroupState:
    return BufferedGroupState(**{**plain, "rounds": ledger_rounds(plain.get("rounds", ()))})


def _ended_state(plain: Mapping[str, Any]) -> EndedGroupState:
    return EndedGroupState(**{**plain, "rounds": tuple(plain["rounds"])})


def ended_groups(ended: Iterable[tuple[OpenGroup, GroupOutcome]]) -> tuple[EndedGroupState, ...]:
    """Groups that nothing was learned from yet, as a checkpoint keeps them."""
    return tuple(
        EndedGroupState(
            ordinal=group.ordinal,
            prompt_id=group.prompt.prompt_id,
            visit=group.visit,
            rounds=tuple(
                {
                    **asdict(each.round),
                    "rewards": each.rewards.tolist(),
                    "num_correct": each.num_correct,
                    "num_hint_tokens": each.num_hint_tokens,
                }
                for each in group.finished
            ),
            outcome={
                "num_correct": outcome.num_correct,
                "num_scored": outcome.num_scored,
                "was_trained": outcome.was_trained,
                "remembered": dict(outcome.remembered),
            },
        )
        for group, outcome in ended
    )


def ended_group(state: EndedGroupState, reopen: Reopen) -> tuple[OpenGroup, GroupOutcome]:
    """A group of `ended_groups` as it was, but for what was recalled of it: it has no round to come.

    Args:
        reopen: of GroupFactory.
    """
    group = reopen(state.ordinal, state.prompt_id, state.visit, {})
    for plain in state.rounds:
        known = dict(plain)
        rewards = np.array(known.pop("rewards"), dtype=np.float32)
        beside = {name: known.pop(name, 0) for name in ("num_correct", "num_hint_tokens")}
        group.finished.append(FinishedRound(round=Round(**known), rewards=rewards, **beside))
    return group, GroupOutcome(prompt_id=state.prompt_id, **state.outcome)


def open_group(state: OpenGroupState, reopen: Reopen) -> OpenGroup:
    """A group of `open_groups` as it was opened.

    Args:
        reopen: of GroupFactory.
    """
    return reopen(state.ordinal, state.prompt_id, state.visit, state.recalled)


def open_groups(groups: Iterable[OpenGroup]) -> tuple[OpenGroupState, ...]:
    """Groups in flight as a checkpoint names them."""
    return tuple(
        OpenGroupState(
            ordinal=each.ordinal, prompt_id=each.prompt.prompt_id, visit=each.visit, recalled=dict(each.recalled)
        )
        for each in groups
    )


def buffered_groups(waiting: Iterable[tuple[int, BufferedGroup]]) -> tuple[BufferedGroupState, ...]:
    """Waiting groups, by ordinal, as a checkpoint names them."""
    return tuple(
        BufferedGroupState(
            ordinal=ordinal,
            prompt_id=each.prompt_id,
            visit=each.visit,
            num_response_tokens=each.num_response_tokens,
            rounds=each.rounds,
        )
        for ordinal, each in waiting
    )


def buffered_items(states: Iterable[BufferedGroupState], groups: Iterable[ShapedHandle]) -> dict[int, BufferedGroup]:
    """Waiting groups of a checkpoint with their samples, by ordinal.

    Raises:
        CheckpointError: the groups file holds other groups.
    """
    items: dict[int, BufferedGroup] = {}
    for state, shaped in zip(states, groups, strict=True):
        group_id = shaped.summary.group_id
        if group_id != group_id_of(state.ordinal):
            raise CheckpointError(f"the groups file must hold {group_id_of(state.ordinal)} here, found {group_id}")
        items[state.ordinal] = BufferedGroup(
            group_id=group_id,
            prompt_id=state.prompt_id,
            visit=state.visit,
            shaped=shaped,
            num_response_tokens=state.num_response_tokens,
            rounds=state.rounds,
        )
    return items
