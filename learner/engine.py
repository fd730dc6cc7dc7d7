"""What trains: parameters, gradients and an optimizer on one rank, behind torch alone or DeepSpeed.

An engine knows no losses and no samples: it scores micro-batches, takes losses and updates. Every method is
collective: all ranks call it, in the same order.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from learner.collate import Microbatch
from learner.weights import ParameterSpec

T = TypeVar("T")


class TrainEngine(Protocol):
    """One rank of the training group."""

    def start(self) -> str:
        """Load the policy and join the group; returns one line for logs."""
        ...

    @property
    def device(self) -> torch.device: ...

    def score(
        self,
        batch: Microbatch,
        *,
        temperature: float,
        entropy_temperature: float,
        differentiable_entropies: bool,
        with_gradient: bool,
    ) -> torch.Tensor:
        """[2, S] float32: log-probabilities and entropies of the scored tokens under the current policy."""
        ...

    def reference_logprobs(self, batch: Microbatch, *, temperature: float) -> torch.Tensor:
        """[S] float32 under the frozen starting policy, without gradient."""
        ...

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add this micro-batch's gradient. The accumulated gradient is the plain sum over micro-batches and ranks.

        Args:
            is_last: whether an update, and no other micro-batch, comes next.
        """
        ...

    def grad_norm(self) -> float:
        """Global norm of the accumulated gradient, before clipping; not finite when any element is not."""
        ...

    def update(self, learning_rate: float) -> None:
        """Clip by global norm, take one optimizer step, forget the gradient."""
        ...

    def limit_grad_norm(self, max_grad_norm: float) -> None:
        """Clip to another global norm from the next update on; 0 clips nothing."""
        ...

    def discard_gradient(self) -> None: ...

    def gather_objects(self, value: T) -> list[T]:
        """The small values of all ranks, in rank order, on every rank."""
        ...

    def gather_tokens(self, values: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Concatenate [K, S] tensors of all ranks along tokens; also this rank's first column in the result."""
        ...

    def parameters(self) -> tuple[ParameterSpec, ...]:
        """Every weight of the checkpoint once; a tied output embedding is not repeated."""
        ...

    def adapter_parameters(self) -> tuple[ParameterSpec, ...]:
        """A and B of every LoRA adapter; empty where whole weights train."""
        ...

    def gathered(self, names: tuple[str, ...]) -> AbstractContextManager[tuple[torch.Tensor, ...]]:
        """Full values of some of these, in order, for the length of the context; weights have adapters folded in."""
        ...

    def full_gradient(self, name: str) -> torch.Tensor:
        """Accumulated gradient of one that trains, whole, float32; for tests and diagnosis, before `update`."""
        ...

    def save(self, directory: Path) -> tuple[str, ...]:
        """Write this rank's part of what trains and of its optimizer to stable storage.

        Returns:
            The files, relative to `directory`.
        Raises:
            OSError: one could not be written; after the last collective call, so that no rank is left waiting.
        """
        ...

    def load(self, directory: Path, num_ranks: int) -> None:
        """Restore what `save` wrote.

        Args:
            num_ranks: of the group that saved; bit for bit where it is this group's.
        """
        ...

    def close(self) -> None: ...
