"""What engines read of a Hugging Face model beside its weights."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig


def parameter_shapes(model_path: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, tied ones once. Loads no weights."""
    config = AutoConfig.from_pretrained(model_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def end_token_ids(tokenizer: Any, generation_config: GenerationConfig) -> frozenset[int]:
    """Ids that end a response: the tokenizer's end-of-sequence token and those of the generation config."""
    listed = generation_config.eos_token_id
    ids = listed if isinstance(listed, list) else [listed]
    return frozenset(each for each in [tokenizer.eos_token_id, *ids] if each is not None)
