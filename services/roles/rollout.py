"""The rollout role: one engine behind a worker."""

from rollout.engines import EngineSettings, make_engine
from rollout.worker import RolloutWorker
from services.recipe import Recipe
from services.schedules import sampling_at
from services.sync_phases import PEER_SHARE
from shaping.memory_channel import MemoryChannel


def build_rollout_worker(
    recipe: Recipe, worker_index: int, memory_channel: MemoryChannel | None = None, *, policy_version: int = 0
) -> RolloutWorker:
    """Worker `worker_index` of a run, not started. Importing a vLLM engine takes seconds.

    Args:
        policy_version: of the weights at `model.path`.
    """
    settings = EngineSettings(
        config=recipe.rollout.engine,
        model_path=recipe.model.path,
        max_model_tokens=recipe.max_sequence_tokens,
        seed=recipe.seed + worker_index,
        sampling=sampling_at(recipe.rollout.sampling)(0),
        policy_version=policy_version,
        weight_timeout_s=PEER_SHARE * recipe.run.deadlines.weights_seconds,
        memory_channel=memory_channel,
    )
    return RolloutWorker(make_engine(settings))
