"""What train engines do alike: score micro-batches under a policy and its reference, name what they publish, and make
the optimizer.
"""

from typing import Any

import torch

from learner.collate import Microbatch
from learner.config import OptimizerConfig
from learner.lora import PublishedTensor, published_adapters, published_weights
from learner.policy import Policy
from learner.weights import ParameterSpec


class ScoringEngine:
    """The scoring half of a TrainEngine; `start` sets `_model` and `_optimizer`, calls `_publish` and, with a KL
    coefficient, sets `_reference`.
    """

    _model: Any
    _reference: Any = None
    _optimizer: torch.optim.AdamW
    _weights: dict[str, PublishedTensor]
    _adapters: dict[str, PublishedTensor]

    def _publish(self, policy: Policy) -> None:
        self._weights, self._adapters = published_weights(policy), published_adapters(policy)

    def _published(self, name: str) -> PublishedTensor:
        return self._adapters[name] if name in self._adapters else self._weights[name]

    def parameters(self) -> tuple[ParameterSpec, ...]:
        return tuple(tensor.spec(name) for name, tensor in self._weights.items())

    def adapter_parameters(self) -> tuple[ParameterSpec, ...]:
        return tuple(tensor.spec(name) for name, tensor in self._adapters.items())

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

    def _follow_recipe(self) -> None:
        """A loaded optimizer brings its options along; those of this run's recipe hold."""
        for group in self._optimizer.param_groups:
            group.update(self._optimizer.defaults)

    def reference_logprobs(self, batch: Microbatch, *, temperature: float) -> torch.Tensor:
        assert self._reference is not None, "no reference model without a KL coefficient"
        with torch.no_grad():
            scores: torch.Tensor = self._reference(
                batch, temperature=temperature, entropy_temperature=temperature, differentiable_entropies=False
            )
        return scores[0]


def make_optimizer(config: OptimizerConfig, policy: Policy) -> torch.optim.AdamW:
    """AdamW of what trains; the learning rate is set at each update."""
    return torch.optim.AdamW(
        [parameter for parameter in policy.parameters() if parameter.requires_grad],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
