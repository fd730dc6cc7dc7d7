"""One process with plain torch: the learner of house mode, and the answer that tests compare ZeRO-3 with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from learner.config import LearnerConfig
from learner.policy import Policy, load_policy
from learner.scoring import ScoringEngine, make_optimizer
from learner.weights import ParameterSpec
from shaping.errors import RecipeError

T = TypeVar("T")


class TorchEngine(ScoringEngine):
    """Float32 weights, torch AdamW, one rank."""

    def __init__(self, config: LearnerConfig, *, model_path: str, seed: int) -> None:
        if config.num_ranks != 1:
            raise RecipeError(f"engine torch trains on one rank, got num_ranks {config.num_ranks} (learner.num_ranks)")
        if config.dtype != "float32":
            raise RecipeError(f"engine torch trains in float32, got {config.dtype} (learner.dtype)")
        self._config = config
        self._model_path = model_path
        self._seed = seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def start(self) -> str:
        torch.manual_seed(self._seed)
        self._policy = self._load(self._config.gradient_checkpointing)
        if self._config.kl.coefficient > 0:
            self._reference = self._load(False).requires_grad_(False)
        self._optimizer = make_optimizer(self._config.optimizer, self._policy.parameters())
        self._model = self._policy
        return f"torch {torch.__version__}, {self.device.type}, float32, 1 rank"

    def _load(self, gradient_checkpointing: bool) -> Policy:
        policy = load_policy(
            self._model_path,
            dtype=torch.float32,
            chunk_tokens=self._config.logprob_chunk_tokens,
            gradient_checkpointing=gradient_checkpointing,
        )
        policy.to(self.device)
        return policy

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:  # noqa: ARG002 - nothing to prepare here
        loss.backward()

    def grad_norm(self) -> float:
        norms = [parameter.grad.norm() for parameter in self._policy.parameters() if parameter.grad is not None]
        return float(torch.stack(norms).norm())

    def update(self, learning_rate: float) -> None:
        if self._config.optimizer.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._config.optimizer.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self.discard_gradient()

    def discard_gradient(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def gather_objects(self, value: T) -> list[T]:
        return [value]

    def gather_tokens(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        return values, 0

    def parameters(self) -> tuple[ParameterSpec, ...]:
        return tuple(
            ParameterSpec(name=name, shape=tuple(value.shape), dtype="float32")
            for name, value in self._policy.named_parameters()
        )

    @contextmanager
    def gathered(self, names: tuple[str, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
        yield tuple(self._policy.get_parameter(name).detach() for name in names)

    def full_gradient(self, name: str) -> torch.Tensor:
        gradient = self._policy.get_parameter(name).grad
        assert gradient is not None, f"{name} has no gradient before a backward pass"
        return gradient.detach().clone()

    def save(self, directory: Path) -> None:
        state = {
            "policy": self._policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random_state": torch.get_rng_state(),
        }
        torch.save(state, directory / "engine.pt")

    def load(self, directory: Path) -> None:
        state = torch.load(directory / "engine.pt", map_location=self.device, weights_only=True)
        self._policy.load_state_dict(state["policy"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random_state"].cpu())

    def close(self) -> None:
        self._reference = None
