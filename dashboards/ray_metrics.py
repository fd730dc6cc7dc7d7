"""What the infrastructure dashboard asks of others: Ray's own metrics, vLLM's through Ray, and Prometheus's.

Ray serves its own at each node agent, found by the file prom_metrics_service_discovery.json in its session's directory;
it adds Component, SessionName, Version, WorkerId and labels of its telemetry library. vLLM's come there through its
RayPrometheusStatLogger, which turns `vllm:num_requests_running` into `ray_vllm_num_requests_running`. Ray goes on
showing gauges of workers that are gone, so that a sum over workers is too high after a restart; and the `_sum` of its
histograms is made of the middles of their ranges: ask them for quantiles, never for a mean.
"""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Who serves a metric."""

    RAY = "Ray 2.60: node agent"
    VLLM = "vLLM 0.32: its Ray stat logger"
    PROMETHEUS = "Prometheus: rules"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A metric that is not ours.

    Args:
        name: as Prometheus has it, of a histogram without its ending.
        labels: those that tell its series apart and mean something.
        is_counter: only its rate means something.
    """

    name: str
    source: Source
    labels: tuple[str, ...] = ()
    is_counter: bool = False
    is_histogram: bool = False


_NODE = ("ip", "IsHeadNode", "RayNodeType")
_GPU = (*_NODE, "GpuIndex", "GpuDeviceName")
_ENGINE = ("model_name", "engine", "WorkerId", "NodeAddress")

FOREIGN = (
    Foreign("ray_node_cpu_utilization", Source.RAY, _NODE),
    Foreign("ray_node_mem_used", Source.RAY, _NODE),
    Foreign("ray_node_mem_total", Source.RAY, _NODE),
    Foreign("ray_node_gpus_utilization", Source.RAY, _GPU),
    Foreign("ray_node_gram_used", Source.RAY, _GPU),
    Foreign("ray_node_gram_available", Source.RAY, _GPU),
    Foreign("ray_node_disk_usage", Source.RAY, _NODE),
    Foreign("ray_node_disk_free", Source.RAY, _NODE),
    Foreign("ray_node_network_send_speed", Source.RAY, _NODE),
    Foreign("ray_node_network_receive_speed", Source.RAY, _NODE),
    Foreign("ray_object_store_memory", Source.RAY, ("Location", "ObjectState", "NodeAddress")),
    Foreign("ray_actors", Source.RAY, ("State", "Name", "Source", "JobId", "NodeAddress")),
    Foreign("ray_component_rss_bytes", Source.RAY, ("Component", "ip", "pid")),
    Foreign("ray_node_manager_unexpected_worker_failure_total", Source.RAY, ("Type", "Name"), is_counter=True),
    Foreign("ray_memory_manager_worker_eviction_total", Source.RAY, ("Type", "Name"), is_counter=True),
    Foreign("ray_vllm_num_requests_running", Source.VLLM, _ENGINE),
    Foreign("ray_vllm_num_requests_waiting", Source.VLLM, _ENGINE),
    Foreign("ray_vllm_kv_cache_usage_perc", Source.VLLM, _ENGINE),
    Foreign("ray_vllm_prefix_cache_queries_total", Source.VLLM, _ENGINE, is_counter=True),
    Foreign("ray_vllm_prefix_cache_hits_total", Source.VLLM, _ENGINE, is_counter=True),
    Foreign("ray_vllm_prompt_tokens_total", Source.VLLM, _ENGINE, is_counter=True),
    Foreign("ray_vllm_generation_tokens_total", Source.VLLM, _ENGINE, is_counter=True),
    Foreign("ray_vllm_num_preemptions_total", Source.VLLM, _ENGINE, is_counter=True),
    Foreign("ray_vllm_request_success_total", Source.VLLM, (*_ENGINE, "finished_reason"), is_counter=True),
    Foreign("ray_vllm_e2e_request_latency_seconds", Source.VLLM, _ENGINE, is_histogram=True),
    Foreign("ray_vllm_request_queue_time_seconds", Source.VLLM, _ENGINE, is_histogram=True),
    Foreign("ray_vllm_request_time_per_output_token_seconds", Source.VLLM, _ENGINE, is_histogram=True),
    Foreign("ALERTS", Source.PROMETHEUS, ("alertname", "alertstate", "severity", "run_id")),
)
"""Every foreign metric that a panel may ask for."""
