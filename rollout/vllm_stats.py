"""vLLM's own metrics, through the Ray that the engine's process belongs to: `ray_vllm_*` at the node's agent.

Outside Ray there is nobody to take them, and vLLM then measures nothing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vllm.v1.metrics.loggers import StatLoggerFactory

from shaping.components import import_module_of

_SERVE = "ray.serve"


def stat_loggers() -> list[StatLoggerFactory]:
    """For an engine that is made in this process: vLLM's logger to Ray's metrics, or none where there is no Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return []
    with _without_serve():
        return [import_module_of("rollout", "vllm_ray_stats").RayStatLogger]


@contextmanager
def _without_serve() -> Iterator[None]:
    """Ray Serve cannot be imported meanwhile, where it has not been.

    vLLM 0.32's wrappers import all of it for the id of a replica, which no engine of ours has: 1.5 s and 80 MB for each
    engine.
    """
    if _SERVE in sys.modules:
        yield
        return
    sys.modules[_SERVE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_SERVE]
