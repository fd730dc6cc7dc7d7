"""Adapters (LoRA) that arrive instead of whole weights, folded into the weights that the engine started from.

Each version is W + scaling * B A of the starting W, never of an earlier version, so nothing accumulates and any version
can follow any other. The result is what the learner sends where it publishes merged weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open

from rollout.model_tensors import tensor_files
from rollout.weight_staging import DTYPES, StagedWeights, unpack
from shaping.errors import DataError, EngineRefused


class StartingWeights:
    """The checkpoint at `model.path`, memory-mapped: it takes no memory that the system could not take back.

    Args:
        model_path: folder, or Hugging Face name whose files are in the local cache.
        shapes: of every parameter of the served model, by its name in the checkpoint; tied parameters once.
    Raises:
        EngineRefused: no safetensors there, or a parameter that they do not hold, or hold in another shape.
    """

    def __init__(self, model_path: str, shapes: Mapping[str, Sequence[int]]) -> None:
        try:
            files = tensor_files(_local_folder(model_path))
        except DataError as error:
            raise EngineRefused(f"adapters need the starting weights: {error} (learner.lora.publish)") from error
        missing = sorted(set(shapes) - set(files))
        if missing:
            raise EngineRefused(
                f"adapters need the starting value of every parameter: {len(missing)} are not in the checkpoint "
                f"{missing[:3]} (model.path {model_path}); publish merged weights instead (learner.lora.publish)"
            )
        self._open: dict[Path, Any] = {file: safe_open(file, framework="pt") for file in set(files.values())}
        self._files = {name: files[name] for name in shapes}
        for name, shape in shapes.items():
            found = self._open[files[name]].get_slice(name).get_shape()
            if list(found) != list(shape):
                raise EngineRefused(
                    f"{name} must have shape {tuple(shape)}, got {tuple(found)} (model.path {model_path})"
                )

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, file in self._files.items():
            yield name, self._open[file].get_tensor(name)


def whole_weights(staged: StagedWeights, starting: StartingWeights | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every parameter of the staged version, whether it came whole or as adapters.

    Args:
        starting: needed for adapters only.
    """
    adapter = staged.layout.adapter
    if adapter is None:
        yield from unpack(staged)
        return
    assert starting is not None, "adapters were staged without the starting weights"
    dtype = DTYPES[staged.layout.buckets[0].dtype]
    parts = dict(unpack(staged))
    for name, value in starting:
        layer = name.removesuffix(".weight")
        weight = value.to(dtype)
        if (a := parts.get(f"{layer}.lora_A.weight")) is not None:
            weight = merged(weight, a, parts[f"{layer}.lora_B.weight"], scaling=adapter.scaling)
        yield name, weight


def merged(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, scaling: float) -> torch.Tensor:
    """W + scaling * B A, computed in float32 and rounded once to the dtype of W: the learner's own formula.

    Args:
        weight: [out, in].
        a: [rank, in].
        b: [out, rank].
    """
    return (weight.float() + scaling * (b.float() @ a.float())).to(weight.dtype)


def _local_folder(model_path: str) -> Path:
    if Path(model_path).is_dir():
        return Path(model_path)
    try:
        return Path(snapshot_download(model_path, local_files_only=True))
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(f"the model must be in the local Hugging Face cache: {first_line} ({model_path})") from error
