"""The gradient of one optimizer update: its micro-batches in order, up to but not including the optimizer's step.

Between samples and engine: it collates, asks token plans, builds losses, and refuses what must not be trained. Every
method is collective.
"""

import math
from typing import NoReturn

import torch

from learner.batch_plan import Layout
from learner.collate import Microbatch, collate
from learner.engine import TrainEngine
from learner.mismatch import mismatch_metrics
from learner.objective import (
    Objective,
    UpdateCounts,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.phase_clock import PhaseClock
from learner.token_keys import token_keys
from learner.token_plans.base import Scope, TokenWeights
from learner.work import MiniBatchWork, StepWork
from shaping.errors import RunFailed
from shaping.metrics import Mean, Metric, Sum
from shaping.records import EntropySource


class Updater:
    """Accumulates gradients in an engine. Holds no state between updates."""

    def __init__(self, engine: TrainEngine, objective: Objective, layout: Layout) -> None:
        self._engine = engine
        self._objective = objective
        self._layout = layout

    def accumulate(
        self, work: StepWork, index: int, mini_batch: MiniBatchWork, clock: PhaseClock
    ) -> list[dict[str, Metric]]:
        """Accumulate the gradient of update `index` of the step; metrics that merge over ranks and updates.

        Raises:
            RunFailed: the loss is not finite, or the samples are not the planned ones. On every rank.
        """
        batches = [collate(samples, self._layout) for samples in mini_batch.micro_batches]
        counts = self._counts(work, index, mini_batch, batches)
        keys = [token_keys(batch, step=work.step, update=index).to(self._engine.device) for batch in batches]
        plans = self._update_plans(work, batches, keys, clock)
        metrics = [_size_metrics(batches)]
        losses = []
        for position, collated in enumerate(batches):
            batch = collated.to(self._engine.device)
            with clock.phase("forward"):
                scores = self._score(work, batch, with_gradient=True)
                reference = None
                if self._objective.kl.coefficient > 0:
                    reference = self._engine.reference_logprobs(batch, temperature=work.temperature)
                weights = self._token_weights(batch, scores, keys[position], plans[position])
                loss, counted = micro_batch_loss(self._objective, batch, scores, reference, weights, counts, work.step)
            with clock.phase("backward"):
                self._engine.backward(loss, is_last=position == len(batches) - 1)
            losses.append(loss.detach())
            metrics.append(counted)
            if index == 0:
                metrics.append(mismatch_metrics(batch, scores))
        shares = self._engine.gather_objects(float(torch.stack(losses).sum()))
        if not all(math.isfinite(each) for each in shares):
            self._refuse(f"the loss is {sum(shares)}", work, index)
        return metrics

    def finite_grad_norm(self, work: StepWork, index: int) -> float:
        """Global norm of the accumulated gradient.

        Raises:
            RunFailed: it is not finite; the gradient is then forgotten. On every rank.
        """
        norm = self._engine.grad_norm()
        if not math.isfinite(norm):
            self._refuse(f"the gradient norm is {norm}", work, index)
        return norm

    def _score(self, work: StepWork, batch: Microbatch, *, with_gradient: bool) -> torch.Tensor:
        is_raw = work.entropy_source is EntropySource.RAW
        return self._engine.score(
            batch,
            temperature=work.temperature,
            entropy_temperature=1.0 if is_raw else work.temperature,
            differentiable_entropies=self._objective.differentiable_entropies and with_gradient,
            with_gradient=with_gradient,
        )

    def _counts(self, work: StepWork, index: int, mini_batch: MiniBatchWork, batches: list[Microbatch]) -> UpdateCounts:
        num_valid = sum(int(batch.loss_mask.sum()) for batch in batches)
        num_hint = sum(int(batch.hint_mask.sum()) for batch in batches)
        ranks = self._engine.gather_objects((len(batches), num_valid, num_hint))
        numbers = [number for number, _, _ in ranks]
        total = sum(valid for _, valid, _ in ranks)
        if len(set(numbers)) != 1 or numbers[0] == 0:
            self._refuse(f"all ranks must have the same number of micro-batches, got {numbers}", work, index)
        if total != mini_batch.num_valid_tokens:
            planned = mini_batch.num_valid_tokens
            self._refuse(f"the samples hold {total} trained tokens, the plan says {planned}", work, index)
        return UpdateCounts(num_valid_tokens=total, num_hint_tokens=sum(hints for _, _, hints in ranks))

    def _update_plans(
        self, work: StepWork, batches: list[Microbatch], keys: list[torch.Tensor], clock: PhaseClock
    ) -> list[dict[int, TokenWeights]]:
        """Per micro-batch, what each token plan of scope UPDATE decided, by the plan's position."""
        decided: list[dict[int, TokenWeights]] = [{} for _ in batches]
        if not self._objective.plans_whole_updates:
            return decided
        with clock.phase("plan"):
            signals = []
            for collated in batches:
                batch = collated.to(self._engine.device)
                signals.append(trained_signals(batch, self._score(work, batch, with_gradient=False)))
            joined, start = self._engine.gather_tokens(torch.cat(signals, dim=1))
            joined_keys, _ = self._engine.gather_tokens(torch.cat(keys)[None])
            for position, plan in enumerate(self._objective.token_plans):
                if plan.scope is Scope.UPDATE:
                    whole = plan_weights(plan, joined, joined_keys[0], self._objective.loss)
                    offset = start
                    for each, mine in zip(decided, signals, strict=True):
                        each[position] = whole.part(offset, offset + mine.shape[1])
                        offset += mine.shape[1]
        return decided

    def _token_weights(
        self, batch: Microbatch, scores: torch.Tensor, keys: torch.Tensor, decided: dict[int, TokenWeights]
    ) -> TokenWeights:
        signals = trained_signals(batch, scores)
        parts = [
            decided[position] if position in decided else plan_weights(plan, signals, keys, self._objective.loss)
            for position, plan in enumerate(self._objective.token_plans)
        ]
        return combine_weights(tuple(parts), signals.shape[1], signals.device)

    def _refuse(self, found: str, work: StepWork, index: int) -> NoReturn:
        self._engine.discard_gradient()
        where = f"step {work.step}, update {index + 1} of {len(work.mini_batches)}"
        raise RunFailed(role="learner", cause=f"{found} in {where}; the update was not taken")


def _size_metrics(batches: list[Microbatch]) -> dict[str, Metric]:
    num_tokens = sum(batch.num_tokens for batch in batches)
    num_padding = sum(batch.num_padding_tokens for batch in batches)
    return {
        "learner_tokens": Sum(num_tokens),
        "learner_padding_share": Mean(num_padding, num_tokens + num_padding),
    }
