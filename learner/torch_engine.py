"""One process with plain torch: the learner of house mode, and the answer that tests compare ZeRO-3 with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from learner.config import LearnerConfig, LoraConfig
from learner.lora import without_adapters
from learner.policy import Policy, load_policy, restore_weights, trained_weights
from learner.scoring import ScoringEngine, make_optimizer
from learner.state import write_tensors
from shaping.errors import RecipeError

T = TypeVar("T")

STATE_FILE = "engine.pt"


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
        self._max_grad_norm = config.optimizer.max_grad_norm
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def start(self) -> str:
        torch.manual_seed(self._seed)
        self._policy = self._load(self._config.gradient_checkpointing, self._config.lora)
        self._publish(self._policy)
        if self._config.kl.coefficient > 0:
            self._reference = self._frozen_start()
        self._optimizer = make_optimizer(self._config.optimizer, self._policy)
        self._model = self._policy
        return f"torch {torch.__version__}, {self.device.type}, float32, 1 rank"

    def _frozen_start(self) -> Callable[..., torch.Tensor]:
        if self._config.lora.rank:
            return without_adapters(self._policy)
        frozen = self._load(False)
        frozen.requires_grad_(False)
        return frozen

    def _load(self, gradient_checkpointing: bool, lora: LoraConfig | None = None) -> Policy:
        policy = load_policy(
            self._model_path,
            dtype=torch.float32,
            chunk_tokens=self._config.logprob_chunk_tokens,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            seed=self._seed,
        )
        policy.to(self.device)
        return policy

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:  # noqa: ARG002 - nothing to prepare here
        loss.backward()

    def grad_norm(self) -> float:
        norms = [parameter.grad.norm() for parameter in self._policy.parameters() if parameter.grad is not None]
        return float(torch.stack(norms).norm())

    def update(self, learning_rate: float) -> None:
        if self._max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self.discard_gradient()

    def limit_grad_norm(self, max_grad_norm: float) -> None:
        self._max_grad_norm = max_grad_norm

    def discard_gradient(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def gather_objects(self, value: T) -> list[T]:
        return [value]

    def gather_tokens(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        return values, 0

    @contextmanager
    def gathered(self, names: tuple[str, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
        yield tuple(self._published(name).value() for name in names)

    def full_gradient(self, name: str) -> torch.Tensor:
        gradient = self._published(name).parts[0].grad
        assert gradient is not None, f"{name} has no gradient before a backward pass"
        return gradient.detach().clone()

    def save(self, directory: Path) -> tuple[str, ...]:
        state = {"weights": trained_weights(self._policy), "optimizer": self._optimizer.state_dict()}
        write_tensors(directory / STATE_FILE, state)
        return (STATE_FILE,)

    def load(self, directory: Path, num_ranks: int) -> None:  # noqa: ARG002 - it has been one
        state = torch.load(directory / STATE_FILE, map_location=self.device, weights_only=True)
        restore_weights(self._policy, state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._follow_recipe()

    def take_over(self, weights: dict[str, torch.Tensor]) -> None:
        """Hold what another engine trained, by its name in the policy; the optimizer stays as it is."""
        restore_weights(self._policy, weights)

    def close(self) -> None:
        self._reference = None


def saved_weights(directory: Path) -> dict[str, torch.Tensor]:
    """What trains, by its name in the policy, out of what an engine saved."""
    state = torch.load(directory / STATE_FILE, map_location="cpu", weights_only=True)
    weights: dict[str, torch.Tensor] = state["weights"]
    return weights
