"""From a recipe's engine to the engine: module `rollout/<kind>_engine.py`, loaded only when its kind is asked for."""

from dataclasses import dataclass

from rollout.config import EngineConfig
from rollout.engine import Engine
from shaping.components import import_module_of
from shaping.memory_channel import MemoryChannel
from shaping.records import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What every engine is made from.

    Args:
        model_path: Hugging Face directory or name; must hold a tokenizer.
        max_model_tokens: longest prompt + hint + response.
        seed: of the engine itself; requests bring their own.
        sampling: the run's sampling: the proof at start uses it, and its `entropy_source` is the one that this engine
            reports.
        policy_version: version of the weights at `model_path`; above 0 for a resumed run.
        weight_timeout_s: longest wait for the weight channel's peers, and for one bucket.
        memory_channel: the in-process channel that weights come through; None with process groups.
    """

    config: EngineConfig
    model_path: str
    max_model_tokens: int
    seed: int
    sampling: Sampling
    policy_version: int = 0
    weight_timeout_s: float = 300.0
    memory_channel: MemoryChannel | None = None


def make_engine(settings: EngineSettings) -> Engine:
    """An engine that has not started. Importing vLLM takes seconds and needs `vllm_env.worker_environment`."""
    module = import_module_of("rollout", f"{settings.config.kind}_engine")
    engine: Engine = module.build(settings)
    return engine
