"""A policy as a Hugging Face checkpoint: safetensors, model configuration, generation configuration, tokenizer."""

import errno
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoConfig

from shaping.training import WeightLayout

SHARD_BYTES = 4_000_000_000
COPIED_FILES = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"),
    *("merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"),
)
EXPORT_RULE = "a policy must be exported in full"
Gather = Callable[[tuple[str, ...]], AbstractContextManager[tuple[torch.Tensor, ...]]]


def export_weights(directory: Path, layout: WeightLayout, gather: Gather, *, writes: bool) -> None:
    """Write one shard per bucket of `layout`, gathered one parameter at a time. Collective.

    Args:
        writes: True on the one rank that writes; the others only take part.
    Raises:
        OSError: a file could not be written; after the last collective call.
    """
    failure: OSError | None = None
    num_shards = len(layout.buckets)
    index: dict[str, str] = {}
    for number, bucket in enumerate(layout.buckets, start=1):
        file_name = f"model-{number:05d}-of-{num_shards:05d}.safetensors" if num_shards > 1 else "model.safetensors"
        shard: dict[str, torch.Tensor] = {}
        for name in bucket.names:
            with gather((name,)) as (tensor,):
                if writes:
                    shard[name] = tensor.cpu().clone()
            index[name] = file_name
        if writes and failure is None:
            try:
                save_file(shard, directory / file_name, metadata={"format": "pt"})
            except SafetensorError as error:
                failure = OSError(errno.EIO, str(error), str(directory / file_name))
    if failure is not None:
        raise failure
    if writes and num_shards > 1:
        text = json.dumps({"metadata": {"total_size": layout.num_bytes}, "weight_map": index}, indent=2)
        (directory / "model.safetensors.index.json").write_text(text)


def export_settings(directory: Path, model_path: str, dtype: str) -> None:
    """Copy what is not weights from the checkpoint that the policy started from; files it lacks are left out."""
    directory.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.from_pretrained(model_path)
    config.dtype = dtype
    config.save_pretrained(directory)
    is_folder = Path(model_path).is_dir()
    source = Path(model_path if is_folder else snapshot_download(model_path, allow_patterns=list(COPIED_FILES)))
    # Byte for byte: what transformers loads and saves again may be another tokenizer, by the model's type.
    for name in COPIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
