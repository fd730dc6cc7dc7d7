"""vLLM's logger to Ray's metrics, as an engine of ours has it. Loaded by vllm_stats.py alone, which says how."""

from typing import Any

from vllm.envs import enable_envs_cache
from vllm.v1.metrics import ray_wrappers
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from shaping.components import import_module_of

if ray_wrappers.ray_metrics is None:
    # Without Ray Serve the wrappers go on without Ray's metrics too, which are there.
    vars(ray_wrappers)["ray_metrics"] = import_module_of("ray.util", "metrics")


class RayStatLogger(ray_wrappers.RayPrometheusStatLogger):
    """All of vLLM's metrics but the time between two tokens.

    That one is observed for every token of every response; `request_time_per_output_token_seconds` tells the same of
    each response.
    """

    def log_engine_initialized(self) -> None:
        super().log_engine_initialized()
        # vLLM's statistics look up an environment variable for every token: more than half of what they cost. By now
        # the engine has set all that it sets, and its own processes do the same.
        enable_envs_cache()

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        if iteration_stats is not None:
            iteration_stats.inter_token_latencies_iter.clear()
        super().record(scheduler_stats, iteration_stats, *arguments, **options)
