"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) on a policy's linear layers, and what leaves the learner.

A target layer computes W x + scaling * B (A x) with scaling = alpha / rank. W is frozen, A and B train. What is
published and exported goes by the names of the Hugging Face checkpoint: W + scaling * B A under the layer's own name,
or A and B beside it. Knows no optimizer and no processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from learner.config import LoraConfig
from learner.weights import ParameterSpec
from shaping.errors import RecipeError
from shaping.training import AdapterLayout

ADAPTER = "default"
"""The name that peft gives an adapter where a layer has one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTensor:
    """One tensor as it leaves the learner.

    Args:
        parts: the parameter itself, or W, A and B of a layer with an adapter.
        scaling: of the adapter.
    """

    parts: tuple[nn.Parameter, ...]
    scaling: float = 0.0

    def spec(self, name: str) -> ParameterSpec:
        """Full shape and dtype, also where ZeRO-3 has partitioned the parameter."""
        first = self.parts[0]
        shape = tuple(getattr(first, "ds_shape", first.shape))
        return ParameterSpec(name=name, shape=shape, dtype=str(first.dtype).removeprefix("torch."))

    def value(self) -> torch.Tensor:
        """The full value; all parts must be whole on this rank. Read only."""
        first, *adapter = (part.detach() for part in self.parts)
        return merged(first, *adapter, scaling=self.scaling) if adapter else first


def merged(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, scaling: float) -> torch.Tensor:
    """W + scaling * B A, computed in float32 and rounded once to the dtype of W; W is left as it is.

    Args:
        weight: [out, in].
        a: [rank, in].
        b: [out, rank].
    """
    return (weight.float() + scaling * (b.float() @ a.float())).to(weight.dtype)


def add_adapters(policy: nn.Module, config: LoraConfig, *, seed: int) -> None:
    """Freeze a policy and give its target layers adapters, in the policy's dtype.

    A is drawn from `seed` alone and B is zero, so every rank holds the same, and the policy's outputs are unchanged.

    Raises:
        RecipeError: a target that is no linear layer of the policy.
    """
    _check_targets(policy, config.targets)
    options = PeftConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), lora_dropout=0.0, bias="none"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(options, policy, adapter_name=ADAPTER)


def adapter_layout(config: LoraConfig) -> AdapterLayout:
    return AdapterLayout(rank=config.rank, scaling=config.alpha / config.rank, targets=config.targets)


def published_weights(policy: nn.Module) -> dict[str, PublishedTensor]:
    """Every weight of the checkpoint by its name there, adapters folded in; tied ones once."""
    tensors = {}
    for name, parameter in policy.named_parameters():
        if _is_adapter(name):
            continue
        layer, is_wrapped, own_name = name.rpartition(".base_layer.")
        if not is_wrapped:
            tensors[name] = PublishedTensor(parts=(parameter,))
            continue
        adapted = policy.get_submodule(layer)
        parts = (parameter, *_pair(adapted)) if own_name == "weight" else (parameter,)
        tensors[f"{layer}.{own_name}"] = PublishedTensor(parts=parts, scaling=adapted.scaling[ADAPTER])
    return tensors


def published_adapters(policy: nn.Module) -> dict[str, PublishedTensor]:
    """A and B of every layer that has them; empty without adapters."""
    return {
        f"{layer}.{part}.weight": PublishedTensor(parts=(parameter,))
        for layer, module in policy.named_modules()
        if isinstance(module, LoraLayer)
        for part, parameter in zip(("lora_A", "lora_B"), _pair(module), strict=True)
    }


def without_adapters(model: nn.Module) -> Callable[..., torch.Tensor]:
    """Calls `model` with its adapters at zero: the frozen starting policy, without a second model.

    The adapters are scaled by 0 and not skipped: ZeRO-3 remembers in which order a forward pass uses modules.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]

    def score(*args: Any, **options: Any) -> torch.Tensor:
        for layer in layers:
            layer.set_scale(ADAPTER, 0.0)
        try:
            scores: torch.Tensor = model(*args, **options)
        finally:
            for layer in layers:
                layer.set_scale(ADAPTER, 1.0)
        return scores

    return score


def _pair(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _check_targets(policy: nn.Module, targets: tuple[str, ...]) -> None:
    found: dict[str, set[type]] = {}
    for name, module in policy.named_modules():
        found.setdefault(name.rpartition(".")[2], set()).add(type(module))
    linear = sorted(name for name, types in found.items() if types == {nn.Linear})
    for target in targets:
        if target not in linear:
            raise RecipeError(
                f"a LoRA target must be the name of linear layers, got {target!r}; the model has {', '.join(linear)} "
                "(learner.lora.targets)"
            )
