"""Which checkpoints are kept. Pure: the store removes the others."""

from collections.abc import Sequence

from services.checkpoints.checkpoint import Checkpoint
from services.recipe_sections import CheckpointConfig


def kept(checkpoints: Sequence[Checkpoint], config: CheckpointConfig) -> tuple[Checkpoint, ...]:
    """Those to keep: the newest ones, the best one, and all that are pinned.

    Of several moments of one step the last counts alone: it holds all that the others hold. The best has the highest
    value of the metric; of equal ones the newest, and one without the metric never.

    Args:
        checkpoints: whole ones, in order of their moments.
    Returns:
        In the same order; the last of `checkpoints` is always among them.
    """
    last_of = {each.manifest.step: each for each in checkpoints}
    counted = list(last_of.values())
    keep = {each.name for each in counted[-config.keep_last :]}
    measured = [each for each in counted if config.keep_best in each.manifest.metrics]
    if measured:
        best = max(measured, key=lambda each: (each.manifest.metrics[config.keep_best], each.manifest.step))
        keep.add(best.name)
    return tuple(each for each in checkpoints if each.name in keep or each.is_pinned)
