"""What train engines do alike: score micro-batches under a policy and its reference, and make the optimizer."""

from collections.abc import Iterable
from typing import Any

import torch

from learner.collate import Microbatch
from learner.config import OptimizerConfig


class ScoringEngine:
    """The scoring half of a TrainEngine; `start` sets `_model` and, with a KL coefficient, `_reference`."""

    _model: Any
    _reference: Any = None

    def score(
        self,
        batch: Microbatch,
        *,
        temperature: float,
        entropy_temperature: float,
        differentiable_entropies: bool,
        with_gradient: bool,
    ) -> torch.Tensor:
        with torch.set_grad_enabled(with_gradient):
            scores: torch.Tensor = self._model(
                batch,
                temperature=temperature,
                entropy_temperature=entropy_temperature,
                differentiable_entropies=differentiable_entropies,
            )
        return scores

    def reference_logprobs(self, batch: Microbatch, *, temperature: float) -> torch.Tensor:
        assert self._reference is not None, "no reference model without a KL coefficient"
        with torch.no_grad():
            scores: torch.Tensor = self._reference(
                batch, temperature=temperature, entropy_temperature=temperature, differentiable_entropies=False
            )
        return scores[0]


def make_optimizer(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
    """AdamW; the learning rate is set at each update."""
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=(config.beta1, config.beta2), eps=config.epsilon, weight_decay=config.weight_decay
    )
