"""The policy: a transformers causal LM whose output embedding scores tokens instead of returning logits.

Parameter names are those of the Hugging Face checkpoint, so that weights leave the learner under the names that
engines load. Knows no losses.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from learner.attention import ATTENTION_NAME, register_attention
from learner.collate import Microbatch
from learner.config import LoraConfig
from learner.logprobs import token_logprobs_and_entropies
from learner.lora import add_adapters
from shaping.errors import RecipeError

# Attributes of a model configuration that change logits after the output embedding, with the values that do not.
_LOGIT_CHANGES: dict[str, tuple[object, ...]] = {
    "final_logit_softcapping": (None,),
    "logits_scaling": (None, 1, 1.0),
    "logit_scale": (None, 1, 1.0),
    "lm_head_multiplier": (None, 1, 1.0),
    "logits_to_keep": (None, 0),
}


class ScoringHead(nn.Module):
    """The output embedding as a module, so that hooks on modules (ZeRO-3) see its weight used."""

    def __init__(self, weight: nn.Parameter, chunk_tokens: int) -> None:
        super().__init__()
        self.weight = weight
        self.chunk_tokens = chunk_tokens

    def forward(
        self,
        hidden: torch.Tensor,
        *,
        targets: torch.Tensor,
        temperature: float,
        entropy_temperature: float,
        differentiable_entropies: bool,
    ) -> torch.Tensor:
        """[2, S]: log-probabilities, then entropies, in one tensor: one output needs one hook before the backward."""
        logprobs, entropies = token_logprobs_and_entropies(
            hidden,
            self.weight,
            targets,
            temperature=temperature,
            entropy_temperature=entropy_temperature,
            chunk_tokens=self.chunk_tokens,
        )
        return torch.stack((logprobs, entropies if differentiable_entropies else entropies.detach()))


class Policy(nn.Module):
    """Body and scoring head of a causal LM, under their Hugging Face names."""

    def __init__(self, model: PreTrainedModel, chunk_tokens: int) -> None:
        super().__init__()
        self.body_name: str = model.base_model_prefix
        self.add_module(self.body_name, model.base_model)
        self.lm_head = ScoringHead(model.get_output_embeddings().weight, chunk_tokens)

    def forward(
        self,
        batch: Microbatch,
        *,
        temperature: float,
        entropy_temperature: float,
        differentiable_entropies: bool,
    ) -> torch.Tensor:
        """Score the tokens of a micro-batch.

        Returns:
            [2, S] float32: log-probabilities at `temperature`, entropies in nats at `entropy_temperature`. The
            entropies carry a gradient only where `differentiable_entropies`.
        """
        hidden = getattr(self, self.body_name)(
            input_ids=batch.token_ids,
            position_ids=batch.position_ids,
            attention_mask=None,
            use_cache=False,
            sequence_lengths=batch.sequence_lengths,
        ).last_hidden_state
        rows = hidden.flatten(0, 1).index_select(0, batch.score_rows)
        scores: torch.Tensor = self.lm_head(
            rows,
            targets=batch.targets,
            temperature=temperature,
            entropy_temperature=entropy_temperature,
            differentiable_entropies=differentiable_entropies,
        )
        return scores


def load_policy(
    model_path: str | Path,
    *,
    dtype: torch.dtype,
    chunk_tokens: int,
    gradient_checkpointing: bool,
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> Policy:
    """Read a checkpoint as a policy, without dropout, on the CPU or wherever an active ZeRO-3 setting puts it.

    Args:
        lora: adapters, which then are all that trains; none with None or rank 0.
        seed: of the adapters.
    Raises:
        RecipeError: no readable checkpoint there, a model whose logits the scoring head cannot reproduce, or a LoRA
            target that is no linear layer of it.
    """
    register_attention()
    disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype, attn_implementation=ATTENTION_NAME)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise RecipeError(f"the model must be a readable causal LM checkpoint: {first_line} ({model_path})") from error
    _refuse_unknown_head(model, model_path)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(model, chunk_tokens)
    if lora is not None and lora.rank:
        add_adapters(policy, lora, seed=seed)
    # Only checkpointing asks for training mode: with dropout gone nothing else depends on it.
    policy.train(gradient_checkpointing)
    return policy


def trained_weights(policy: Policy) -> dict[str, torch.Tensor]:
    """What trains, by its name in the policy; tied ones once."""
    return {name: each.detach() for name, each in policy.named_parameters() if each.requires_grad}


@torch.no_grad()
def restore_weights(policy: Policy, weights: dict[str, torch.Tensor]) -> None:
    """Take over `trained_weights` of a policy of the same model and adapters, in this policy's dtype."""
    for name, weight in trained_weights(policy).items():
        weight.copy_(weights[name])


def _refuse_unknown_head(model: PreTrainedModel, model_path: str | Path) -> None:
    head: Any = model.get_output_embeddings()
    is_known = isinstance(head, nn.Linear) and head.bias is None and head is getattr(model, "lm_head", None)
    if not is_known:
        raise RecipeError(
            f"the model must end in a linear lm_head without bias, got {type(model).__name__} ({model_path})"
        )
    for name, harmless in _LOGIT_CHANGES.items():
        if (value := getattr(model.config, name, None)) not in harmless:
            raise RecipeError(f"a model that changes its logits cannot be trained: {name} is {value} ({model_path})")
    layer_types = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise RecipeError(f"only full attention can be trained, found {sorted(layer_types)} ({model_path})")
