"""One learner step once more, in one process, to find the rollouts whose loss or gradient is not finite.

Plain torch in float32, whatever engine trained the run: what is not finite here too is so by its numbers; what is
finite here was not for the precision, the engine or the machine of the run. Before each update every group is trained
alone, and every rollout of a group that is not finite. Writes nothing; what it updates is its own copy of the policy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from learner.checkpoint_export import read_saved, weights_of
from learner.collate import collate
from learner.config import LearnerConfig
from learner.objective import build_objective
from learner.phase_clock import PhaseClock
from learner.torch_engine import TorchEngine
from learner.updater import Updater
from learner.work import MiniBatchWork, StepWork
from shaping.scheduling import schedule_of
from shaping.training import TrainingSample

K = TypeVar("K")
Old = list[tuple[torch.Tensor, ...]]

NOTHING = MiniBatchWork(micro_batches=((),), num_valid_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A forward and a backward pass over some samples of an update.

    Args:
        loss: mean over the trained tokens of these samples.
        grad_norm: before clipping; nan where the loss is not finite.
        max_log_ratio: largest |policy - behavior log-prob| of a trained token, nats; 0 without one.
        not_finite: one line on what was not finite; "" where all was.
    """

    loss: float
    grad_norm: float
    max_log_ratio: float
    not_finite: str

    @property
    def is_finite(self) -> bool:
        return not self.not_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReplay:
    """One group of an update, alone.

    Args:
        rollouts: the same of each of its rollouts, by index; empty where the group is finite.
    """

    group_id: str
    alone: Pass
    rollouts: dict[int, Pass]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReplay:
    """One update as it was planned, and each of its groups alone, all under the policy before it."""

    whole: Pass
    groups: tuple[GroupReplay, ...]


class StepReplay:
    """Holds a policy, and trains one step of it.

    Args:
        config: of the run; its engine, ranks and dtype are put aside.
        model_path: the run's starting policy.
        saved: what `Learner.save` wrote, by any engine; None replays against the starting policy. ZeRO-3 keeps its
            optimizer in parts: updates after a step's first then begin with a fresh one.
    Raises:
        CheckpointError: `saved` is partial or of another starting policy.
        RecipeError: no readable policy.
    """

    def __init__(self, config: LearnerConfig, *, model_path: str, seed: int, saved: Path | None) -> None:
        config = replace(config, engine="torch", num_ranks=1, dtype="float32")
        self._config = config
        self._learning_rate = schedule_of(config.optimizer.learning_rate, "learner.optimizer.learning_rate")
        self._engine = TorchEngine(config, model_path=model_path, seed=seed)
        self._updater = Updater(self._engine, build_objective(config), config.layout)
        self._clock = PhaseClock(self._engine.device)
        identity = read_saved(saved, model_path) if saved else None
        self._engine.start()
        if saved and identity:
            if identity.engine == "torch":
                self._engine.load(saved, identity.num_ranks)
            else:
                self._engine.take_over(weights_of(identity, saved))

    def run(self, work: StepWork) -> Iterator[UpdateReplay]:
        """Each update in order, up to the first that is not finite. Once per object: the policy moves."""
        groups = self._parts(work, lambda sample: sample.group_id)
        rollouts = self._parts(work, lambda sample: (sample.group_id, sample.rollout_index))
        old = self._updater.old_logprobs(work, self._clock)
        for index, mini_batch in enumerate(work.mini_batches):
            if index:
                self._engine.update(self._learning_rate.value(work.step))
            found = []
            for group_id in dict.fromkeys(sample.group_id for sample in _samples(mini_batch)):
                alone = self._alone(*groups[group_id], index)
                suspects = () if alone.is_finite else [each for each in rollouts if each[0] == group_id]
                apart = {each[1]: self._alone(*rollouts[each], index) for each in suspects}
                found.append(GroupReplay(group_id=group_id, alone=alone, rollouts=apart))
            whole = self._pass(work, old, index)
            yield UpdateReplay(whole=whole, groups=tuple(found))
            if not whole.is_finite:
                return

    def close(self) -> None:
        self._engine.close()

    def _parts(self, work: StepWork, key: Callable[[TrainingSample], K]) -> dict[K, tuple[StepWork, Old]]:
        """The step divided by a key, and the old policy's log-probs of each part, while that policy is held."""
        divided = [_divided(mini_batch, key) for mini_batch in work.mini_batches]
        works = {
            name: replace(work, mini_batches=tuple(each.get(name, NOTHING) for each in divided))
            for each in divided
            for name in each
        }
        return {name: (part, self._updater.old_logprobs(part, self._clock)) for name, part in works.items()}

    def _alone(self, part: StepWork, old: Old, index: int) -> Pass:
        found = self._pass(part, old, index)
        self._engine.discard_gradient()
        return found

    def _pass(self, work: StepWork, old: Old, index: int) -> Pass:
        """Leaves the gradient in the engine, if it is finite."""
        largest = self._max_log_ratio(work, index)
        found = self._updater.accumulate(work, index, old[index], self._clock)
        return Pass(loss=found.loss, grad_norm=found.grad_norm, max_log_ratio=largest, not_finite=found.not_finite)

    def _max_log_ratio(self, work: StepWork, index: int) -> float:
        found = [0.0]
        for samples in work.mini_batches[index].micro_batches:
            batch = collate(samples, self._config.layout).to(self._engine.device)
            scores = self._engine.score(
                batch,
                temperature=work.temperature,
                entropy_temperature=work.temperature,
                differentiable_entropies=False,
                with_gradient=False,
            )
            found += (scores[0] - batch.behavior_logprobs)[batch.loss_mask].abs().tolist()
        # Unlike Python's own, torch's max passes nan on.
        return float(torch.tensor(found).max())


def _samples(mini_batch: MiniBatchWork) -> Iterator[TrainingSample]:
    return (sample for samples in mini_batch.micro_batches for sample in samples)


def _divided(mini_batch: MiniBatchWork, key: Callable[[TrainingSample], K]) -> dict[K, MiniBatchWork]:
    """The mini-batch as it is for the samples of each key alone: what shares a micro-batch still does."""
    found: dict[K, list[tuple[TrainingSample, ...]]] = {}
    for samples in mini_batch.micro_batches:
        within: dict[K, list[TrainingSample]] = {}
        for sample in samples:
            within.setdefault(key(sample), []).append(sample)
        for name, its in within.items():
            found.setdefault(name, []).append(tuple(its))
    return {
        name: MiniBatchWork(
            micro_batches=tuple(micro_batches),
            num_valid_tokens=sum(sample.num_valid_tokens for its in micro_batches for sample in its),
        )
        for name, micro_batches in found.items()
    }
