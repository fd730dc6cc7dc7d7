"""The lower half of lessrl-infrastructure: vLLM's engines and Ray's nodes, by the metrics of ray_metrics.py."""

from dashboards.model import Query, Section, Unit, good_below
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from dashboards.panels import lines
from dashboards.promql import WINDOW, ray_samples

_REASONS = {"stop": GREEN, "length": ORANGE, "abort": GREY, "error": VERMILION, "repetition": PURPLE}


def _total(name: str, *by: str, **labels: str) -> str:
    return f"sum{_by(by)} ({ray_samples(name, **labels)})"


def _rate(name: str, *by: str) -> str:
    return f"sum{_by(by)} (rate({ray_samples(name)}[{WINDOW}]))"


def _tail(name: str) -> str:
    return f"histogram_quantile(0.95, sum by (le) (rate({ray_samples(f'{name}_bucket')}[{WINDOW}]))) >= 0"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


_GPU_MEMORY = (
    f"{_total('ray_node_gram_used', 'ip', 'GpuIndex')}"
    f" / ({_total('ray_node_gram_used', 'ip', 'GpuIndex')} + {_total('ray_node_gram_available', 'ip', 'GpuIndex')} > 0)"
)

ENGINES = Section(
    "vLLM engines, all runs of the Ray cluster together",
    (
        lines(
            "Requests in the engines",
            "Being sampled, and waiting for room. Good: running near max_num_seqs x engines while a step samples; "
            "waiting for long means too few engines or too little KV cache. Too high after a restart: Ray keeps the "
            "values of workers that are gone.",
            Unit.COUNT,
            Query(_total("ray_vllm_num_requests_running"), "running"),
            Query(_total("ray_vllm_num_requests_waiting"), "waiting"),
            colours={"running": GREEN, "waiting": ORANGE},
            minimum=0,
        ),
        lines(
            "KV cache",
            "Used part, the fullest engine and the mean. Good: below 0.95, where engines begin to preempt.",
            Unit.RATIO,
            Query(f"max({ray_samples('ray_vllm_kv_cache_usage_perc')})", "fullest"),
            Query(f"avg({ray_samples('ray_vllm_kv_cache_usage_perc')})", "mean"),
            colours={"fullest": ORANGE, "mean": BLUE},
            limits=good_below(0.95),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Tokens of the engines",
            "Sampled and prefilled per second, as it happens. Good: high and level while a step samples, 0 while the "
            "learner trains in a synchronous run.",
            Unit.COUNT,
            Query(_rate("ray_vllm_generation_tokens_total"), "sampled"),
            Query(_rate("ray_vllm_prompt_tokens_total"), "prefilled"),
            colours={"sampled": BLUE, "prefilled": GREY},
            axis="tokens/s",
            minimum=0,
        ),
        lines(
            "Prefix cache",
            "Prompt tokens found in the cache / asked for. Good: near 1 - 1/G for groups of G rollouts with "
            "long prompts. Absent until the first hit.",
            Unit.RATIO,
            Query(
                f"{_rate('ray_vllm_prefix_cache_hits_total')} / ({_rate('ray_vllm_prefix_cache_queries_total')} > 0)",
                "hits",
            ),
            minimum=0,
            maximum=1,
            width=6,
        ),
        lines(
            "Finished requests",
            "Per second, by why they ended. Good: stop; length is truncation, abort comes with pauses and lost "
            "workers.",
            Unit.PER_SECOND,
            Query(_rate("ray_vllm_request_success_total", "finished_reason"), "{{finished_reason}}"),
            colours=_REASONS,
            minimum=0,
            width=6,
        ),
        lines(
            "Time of requests",
            "95 of 100 are below: from start to end, in the engine's queue, and for a token. "
            "Good: queue well below the whole.",
            Unit.SECONDS,
            Query(_tail("ray_vllm_e2e_request_latency_seconds"), "whole"),
            Query(_tail("ray_vllm_request_queue_time_seconds"), "queue"),
            Query(_tail("ray_vllm_request_time_per_output_token_seconds"), "token"),
            colours={"whole": BLUE, "queue": ORANGE, "token": GREY},
            minimum=0,
            width=6,
        ),
        lines(
            "Preemptions",
            "Requests per second that lost their KV cache and began anew. Good: 0; lower max_num_seqs or give the "
            "cache more memory. Absent until the first.",
            Unit.PER_SECOND,
            Query(_rate("ray_vllm_num_preemptions_total"), "preemptions"),
            minimum=0,
            width=6,
        ),
    ),
)
MACHINES = Section(
    "Ray nodes",
    (
        lines(
            "CPU",
            "Used part of each node's CPUs. Good: below 0.9; shaping and verifiers share them with Ray.",
            Unit.RATIO,
            Query(f"max by (ip) ({ray_samples('ray_node_cpu_utilization')}) / 100", "{{ip}}"),
            limits=good_below(0.9),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Memory",
            "Used part of each node's memory. Good: below 0.9; above 0.95 Ray kills workers.",
            Unit.RATIO,
            Query(
                f"{_total('ray_node_mem_used', 'ip')} / ({_total('ray_node_mem_total', 'ip')} > 0)",
                "{{ip}}",
            ),
            limits=good_below(0.9, 0.95),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Disk",
            "Used part of the disk of Ray's session. Good: below 0.9; above 0.95 Ray stops creating objects.",
            Unit.RATIO,
            Query(
                f"{_total('ray_node_disk_usage', 'ip')}"
                f" / ({_total('ray_node_disk_usage', 'ip')} + {_total('ray_node_disk_free', 'ip')} > 0)",
                "{{ip}}",
            ),
            limits=good_below(0.9, 0.95),
            minimum=0,
            maximum=1,
        ),
        lines(
            "GPU utilization",
            "Of each GPU; absent without GPUs. Good: near 1 on the learner's while it trains, and on the workers' "
            "while they sample.",
            Unit.RATIO,
            Query(
                f"max by (ip, GpuIndex) ({ray_samples('ray_node_gpus_utilization')}) / 100", "{{ip}} gpu {{GpuIndex}}"
            ),
            minimum=0,
            maximum=1,
            width=6,
        ),
        lines(
            "GPU memory",
            "Used part of each GPU; absent without GPUs. Good: below 0.97 (GPUMemoryHigh).",
            Unit.RATIO,
            Query(_GPU_MEMORY, "{{ip}} gpu {{GpuIndex}}"),
            limits=good_below(0.97),
            minimum=0,
            maximum=1,
            width=6,
        ),
        lines(
            "Object store",
            "Bytes of objects by where they lie. Good: no SPILLED: groups go to disk, and shaping waits for them.",
            Unit.BYTES,
            Query(_total("ray_object_store_memory", "Location"), "{{Location}}"),
            colours={"SPILLED": VERMILION},
            minimum=0,
            width=6,
        ),
        lines(
            "Network",
            "Bytes per second that each node sends and receives. Good: peaks at the weight syncs, little between.",
            Unit.BYTES_PER_SECOND,
            Query(f"max by (ip) ({ray_samples('ray_node_network_send_speed')})", "{{ip}} sent"),
            Query(f"max by (ip) ({ray_samples('ray_node_network_receive_speed')})", "{{ip}} received"),
            minimum=0,
            width=6,
        ),
        lines(
            "Actors",
            "By state. Good: all ALIVE; RESTARTING comes with a lost worker.",
            Unit.COUNT,
            Query(_total("ray_actors", "State", Source="gcs"), "{{State}}"),
            colours={"ALIVE": GREEN, "DEAD": GREY, "RESTARTING": ORANGE},
            minimum=0,
            width=6,
        ),
        lines(
            "Memory of processes",
            "Resident bytes by kind of process. Good: level; a steady rise is a leak.",
            Unit.BYTES,
            Query(_total("ray_component_rss_bytes", "Component"), "{{Component}}"),
            minimum=0,
            width=6,
        ),
        lines(
            "Nodes",
            "Nodes whose agents answer. Good: as many as you asked for.",
            Unit.COUNT,
            Query(f"count(max by (ip) ({ray_samples('ray_node_cpu_utilization')}))", "nodes"),
            minimum=0,
            width=6,
        ),
        lines(
            "Worker processes that failed",
            "Per second: unexpectedly, and evicted as memory ran short. Good: 0. Absent until the first.",
            Unit.PER_SECOND,
            Query(_rate("ray_node_manager_unexpected_worker_failure_total"), "failed"),
            Query(_rate("ray_memory_manager_worker_eviction_total"), "evicted"),
            colours={"failed": VERMILION, "evicted": ORANGE},
            minimum=0,
            width=6,
        ),
    ),
)
