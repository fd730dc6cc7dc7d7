"""The gradient of one optimizer update: its micro-batches in order, up to but not including the optimizer's step.

Between samples and engine: it collates, asks token plans, builds losses, and refuses what must not be trained. Every
method is collective.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch

from learner.batch_plan import Layout
from learner.collate import Microbatch, collate
from learner.correction import correction
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
from shaping.training import TrainingSample

MAX_SUSPECTS = 16
"""Rollouts that are named where a loss is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """What became of one update's gradient.

    Args:
        loss: over all ranks.
        grad_norm: global, before clipping; nan where the loss is not finite.
        metrics: that merge over ranks and updates.
        not_finite: one line on what was not finite, and where; the gradient is then forgotten. "" where the update may
            be taken. The same on every rank.
    """

    loss: float
    grad_norm: float
    metrics: list[dict[str, Metric]]
    not_finite: str = ""


class Updater:
    """Accumulates gradients in an engine. Holds no state between updates."""

    def __init__(self, engine: TrainEngine, objective: Objective, layout: Layout) -> None:
        self._engine = engine
        self._objective = objective
        self._layout = layout

    def old_logprobs(self, work: StepWork, clock: PhaseClock) -> list[tuple[torch.Tensor, ...]]:
        """What the policy says before the first update, per update and micro-batch: [S] each.

        Empty where nothing must be scored: with the sampler's log-probs as the old ones, and for the first update,
        whose own forward pass says it.
        """
        old: list[tuple[torch.Tensor, ...]] = [() for _ in work.mini_batches]
        if not self._objective.recomputes_old:
            return old
        with clock.phase("recompute"):
            for index, mini_batch in enumerate(work.mini_batches[1:], start=1):
                batches = [collate(samples, self._layout) for samples in mini_batch.micro_batches]
                self._counts(work, index, mini_batch, batches)
                devices = (batch.to(self._engine.device) for batch in batches)
                old[index] = tuple(self._score(work, batch, with_gradient=False)[0] for batch in devices)
        return old

    def accumulate(self, work: StepWork, index: int, old: tuple[torch.Tensor, ...], clock: PhaseClock) -> Accumulated:
        """Accumulate the gradient of update `index` of the step.

        Args:
            old: of this update, out of `old_logprobs`.
        Raises:
            RunFailed: the samples are not the planned ones. On every rank.
        """
        mini_batch = work.mini_batches[index]
        batches = [collate(samples, self._layout) for samples in mini_batch.micro_batches]
        counts, metrics = self._counts(work, index, mini_batch, batches)
        keys = [token_keys(batch, step=work.step, update=index).to(self._engine.device) for batch in batches]
        if old:
            batches = [replace(batch, old_logprobs=each) for batch, each in zip(batches, old, strict=True)]
        plans, entropy, measured = self._look_ahead(work, index, batches, keys, clock)
        counts = replace(counts, entropy=entropy)
        metrics.append(measured)
        losses, suspects = [], []
        for position, collated in enumerate(batches):
            batch = collated.to(self._engine.device)
            with clock.phase("forward"):
                scores = self._score(work, batch, with_gradient=True)
                batch = self._with_old(batch, scores, index)
                reference = None
                if self._objective.kl.coefficient > 0:
                    reference = self._engine.reference_logprobs(batch, temperature=work.temperature)
                weights, corrected = self._token_weights(batch, scores, keys[position], plans[position])
                loss, counted = micro_batch_loss(self._objective, batch, scores, reference, weights, counts, work.step)
            with clock.phase("backward"):
                self._engine.backward(loss, is_last=position == len(batches) - 1)
            metrics += [counted, corrected]
            if index == 0:
                metrics.append(mismatch_metrics(batch, scores))
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                suspects += _suspects(mini_batch.micro_batches[position], batch, scores.detach())
        return self._judge(work, index, sum(losses), suspects, metrics, clock)

    def _judge(
        self,
        work: StepWork,
        index: int,
        loss: float,
        suspects: list[str],
        metrics: list[dict[str, Metric]],
        clock: PhaseClock,
    ) -> Accumulated:
        """Whether the gradient may be used; agreed on by all ranks, so that none goes on alone."""
        ranks = self._engine.gather_objects((loss, suspects))
        total = sum(each for each, _ in ranks)
        norm, found = math.nan, f"the loss is {total}"
        if math.isfinite(total):
            with clock.phase("optimizer"):
                norm = self._engine.grad_norm()
            found = f"the gradient norm is {norm}"
        if math.isfinite(norm):
            return Accumulated(loss=total, grad_norm=norm, metrics=metrics)
        self._engine.discard_gradient()
        names = [name for _, each in ranks for name in each]
        more = f" and {len(names) - MAX_SUSPECTS} more" if len(names) > MAX_SUSPECTS else ""
        named = f" (rollouts {', '.join(names[:MAX_SUSPECTS])}{more})" if names else ""
        not_finite = f"{found} in {_where(work, index)}{named}"
        return Accumulated(loss=total, grad_norm=norm, metrics=[], not_finite=not_finite)

    def _score(self, work: StepWork, batch: Microbatch, *, with_gradient: bool) -> torch.Tensor:
        is_raw = work.entropy_source is EntropySource.RAW
        return self._engine.score(
            batch,
            temperature=work.temperature,
            entropy_temperature=1.0 if is_raw else work.temperature,
            differentiable_entropies=self._objective.differentiable_entropies and with_gradient,
            with_gradient=with_gradient,
        )

    def _with_old(self, batch: Microbatch, scores: torch.Tensor, index: int) -> Microbatch:
        """At the first update of a step, the policy that scores is still the old one."""
        if index == 0 and self._objective.recomputes_old:
            return replace(batch, old_logprobs=scores[0].detach())
        return batch

    def _counts(
        self, work: StepWork, index: int, mini_batch: MiniBatchWork, batches: list[Microbatch]
    ) -> tuple[UpdateCounts, list[dict[str, Metric]]]:
        """Tokens and samples of the update over all ranks; how they are spread, as metrics."""
        num_valid = sum(int(batch.loss_mask.sum()) for batch in batches)
        num_sequences = sum(len(batch.sequence_ids[batch.loss_mask].unique()) for batch in batches)
        num_hint = sum(float(batch.hint_weights.double().sum()) for batch in batches)
        costs = [batch.token_ids.numel() if batch.num_tokens else 0 for batch in batches]
        ranks = self._engine.gather_objects((costs, num_valid, num_sequences, num_hint))
        spread, valid, sequences, hints = zip(*ranks, strict=True)
        numbers = [len(each) for each in spread]
        if len(set(numbers)) != 1 or numbers[0] == 0:
            self._refuse(f"all ranks must have the same number of micro-batches, got {numbers}", work, index)
        if sum(valid) != mini_batch.num_valid_tokens:
            planned = mini_batch.num_valid_tokens
            self._refuse(f"the samples hold {sum(valid)} trained tokens, the plan says {planned}", work, index)
        counts = UpdateCounts(num_valid_tokens=sum(valid), num_sequences=sum(sequences), num_hint_tokens=sum(hints))
        return counts, [_size_metrics(batches), _imbalance(list(spread))]

    def _look_ahead(
        self, work: StepWork, index: int, batches: list[Microbatch], keys: list[torch.Tensor], clock: PhaseClock
    ) -> tuple[list[dict[int, TokenWeights]], float | None, dict[str, Metric]]:
        """What must be known of the whole update before its gradient, for one more forward pass where anything must.

        Returns:
            Per micro-batch, what each token plan of scope UPDATE decided, by the plan's position; the mean entropy, for
            regularisers that need it; metrics.
        """
        decided: list[dict[int, TokenWeights]] = [{} for _ in batches]
        if not (self._objective.plans_whole_updates or self._objective.needs_update_entropy):
            return decided, None, {}
        with clock.phase("plan"):
            signals = []
            for collated in batches:
                batch = collated.to(self._engine.device)
                scores = self._score(work, batch, with_gradient=False)
                signals.append(trained_signals(self._with_old(batch, scores, index), scores))
            if self._objective.plans_whole_updates:
                self._ask_plans(decided, signals, keys)
            if not self._objective.needs_update_entropy:
                return decided, None, {}
            own = torch.cat([each[1] for each in signals]).double()
            share = Mean(float(own.sum()), len(own))
            ranks = self._engine.gather_objects(share)
            total, number = sum(each.total for each in ranks), sum(each.count for each in ranks)
            return decided, total / (number or 1), {"learner_update_entropy_nats": share}

    def _ask_plans(
        self, decided: list[dict[int, TokenWeights]], signals: list[torch.Tensor], keys: list[torch.Tensor]
    ) -> None:
        """Fill in what each token plan of scope UPDATE decides, per micro-batch and by the plan's position."""
        joined, start = self._engine.gather_tokens(torch.cat(signals, dim=1))
        joined_keys, _ = self._engine.gather_tokens(torch.cat(keys)[None])
        for position, plan in enumerate(self._objective.token_plans):
            if plan.scope is Scope.UPDATE:
                whole = plan_weights(plan, joined, joined_keys[0], self._objective.loss)
                offset = start
                for each, mine in zip(decided, signals, strict=True):
                    each[position] = whole.part(offset, offset + mine.shape[1])
                    offset += mine.shape[1]

    def _token_weights(
        self, batch: Microbatch, scores: torch.Tensor, keys: torch.Tensor, decided: dict[int, TokenWeights]
    ) -> tuple[TokenWeights, dict[str, Metric]]:
        """What token plans and correction decided together; the correction's metrics."""
        signals = trained_signals(batch, scores)
        parts = [
            decided[position] if position in decided else plan_weights(plan, signals, keys, self._objective.loss)
            for position, plan in enumerate(self._objective.token_plans)
        ]
        recomputes = self._objective.recomputes_old
        logprobs = batch.old_logprobs if recomputes else scores[0].detach()
        factors, metrics = correction(self._objective.correction, batch, logprobs, is_weighted=recomputes)
        parts.append(TokenWeights(weights=factors))
        return combine_weights(tuple(parts), signals.shape[1], signals.device), metrics

    def _refuse(self, found: str, work: StepWork, index: int) -> NoReturn:
        cause = f"{found} in {_where(work, index)}; the update was not taken"
        raise RunFailed(role="learner", cause=cause)


def _where(work: StepWork, index: int) -> str:
    return f"step {work.step}, update {index + 1} of {len(work.mini_batches)}"


def _suspects(samples: Sequence[TrainingSample], batch: Microbatch, scores: torch.Tensor) -> list[str]:
    """The rollouts of a micro-batch that hold a number that is not finite; all of them where only their loss is not."""
    numbers = torch.stack((*scores, batch.old_logprobs, batch.behavior_logprobs, batch.advantages))
    found = batch.sequence_ids[~numbers.isfinite().all(0)].unique().tolist()
    named = [samples[index] for index in found] if samples else []
    return [f"{sample.group_id}/{sample.rollout_index}" for sample in named or samples]


def _imbalance(ranks: list[list[int]]) -> dict[str, Metric]:
    """Share of the ranks' time in which they wait for one another, were time as the tokens of a micro-batch."""
    rows = list(zip(*ranks, strict=True))
    capacity = len(ranks) * sum(max(row) for row in rows)
    return {"learner_rank_imbalance_share": Mean(capacity - sum(map(sum, rows)), capacity)}


def _size_metrics(batches: list[Microbatch]) -> dict[str, Metric]:
    num_tokens = sum(batch.num_tokens for batch in batches)
    num_padding = sum(batch.num_padding_tokens for batch in batches)
    return {
        "learner_tokens": Sum(num_tokens),
        "learner_padding_tokens": Sum(num_padding),
        "learner_padding_share": Mean(num_padding, num_tokens + num_padding),
    }
