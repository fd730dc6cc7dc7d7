"""From a saved learner to a Hugging Face checkpoint, in one process and without a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from learner.export import EXPORT_RULE, SHARD_BYTES, export_settings, export_weights
from learner.lora import published_weights
from learner.policy import load_policy, restore_weights
from learner.state import LearnerIdentity, model_identity, read_identity
from learner.torch_engine import saved_weights
from learner.weights import bucket_layout
from shaping.components import import_module_of
from shaping.errors import CheckpointError


def export_checkpoint(directory: str | Path, model_path: str, out: str | Path) -> None:
    """Write the policy that a learner saved, as `Learner.export` would have written it then.

    Args:
        directory: what `Learner.save` wrote, by any engine and number of ranks.
        model_path: the starting policy of that run, for what is not weights, and for frozen ones under adapters.
        out: made where it does not exist.
    Raises:
        CheckpointError: a partial saved learner, another starting policy, or a file that could not be written.
        RecipeError: no readable policy at `model_path`.
    """
    source, target = Path(directory), Path(out)
    saved = read_saved(source, model_path)
    policy = load_policy(
        model_path,
        dtype={"float32": torch.float32, "bfloat16": torch.bfloat16}[saved.dtype],
        chunk_tokens=1,
        gradient_checkpointing=False,
        lora=saved.lora,
    )
    restore_weights(policy, weights_of(saved, source))
    tensors = published_weights(policy)

    @contextmanager
    def whole(names: tuple[str, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
        yield tuple(tensors[name].value() for name in names)

    layout = bucket_layout([tensor.spec(name) for name, tensor in tensors.items()], SHARD_BYTES)
    try:
        export_settings(target, model_path, saved.dtype)
        export_weights(target, layout, whole, writes=True)
    except OSError as error:
        raise CheckpointError(f"{EXPORT_RULE}, failed with: {error.strerror} ({error.filename})") from error


def read_saved(source: Path, model_path: str) -> LearnerIdentity:
    """Which learner saved this.

    Raises:
        CheckpointError: a partial saved learner, or one of another starting policy.
    """
    saved, found = read_identity(source), model_identity(model_path)
    if found != saved.model:
        raise CheckpointError(
            f"the starting policy must be that of the run: it had {saved.model}, {model_path} is {found} ({source})"
        )
    return saved


def weights_of(saved: LearnerIdentity, source: Path) -> dict[str, torch.Tensor]:
    """What trains, by its name in the policy, on the CPU."""
    if saved.engine == "torch":
        return saved_weights(source)
    weights: dict[str, torch.Tensor] = import_module_of("learner", "deepspeed_export").saved_weights(source)
    return weights
