"""vLLM's own metrics reach the metrics of the Ray that its engine's process belongs to, and nobody without a Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollout.config import EngineConfig
from rollout.vllm_env import worker_environment
from services.doctor.tiny_run import write_tiny_run

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, re, sys, time, urllib.request

import numpy as np
import ray

from rollout.config import EngineConfig
from rollout.engines import EngineSettings
from shaping.records import Sampling


class Actor:
    async def start(self, model_path):
        from rollout.vllm_engine import VllmEngine

        settings = EngineSettings(
            config=EngineConfig(kind="vllm", dtype="float32", max_num_seqs=8, kv_cache_bytes=2**26, enforce_eager=True),
            model_path=model_path,
            max_model_tokens=32,
            seed=0,
            sampling=Sampling(max_response_tokens=4),
            policy_version=0,
            weight_timeout_s=20,
        )
        self.engine = VllmEngine(settings)
        await self.engine.start()
        prompt, hint = np.array([3, 2], dtype=np.int32), np.empty(0, dtype=np.int32)
        sampling = Sampling(max_response_tokens=4)
        await self.engine.generate(prompt_ids=prompt, hint_ids=hint, num_rollouts=3, sampling=sampling, seed=1)
        return "ray.serve" in sys.modules

    async def close(self):
        await self.engine.close()


ray.init(
    address="local",
    num_cpus=1,
    include_dashboard=False,
    object_store_memory=10**8,
    log_to_driver=False,
    _node_ip_address="127.0.0.1",
    _system_config={"metrics_report_interval_ms": 500},
)
actor = ray.remote(num_cpus=1)(Actor).remote()
has_serve = ray.get(actor.start.remote(sys.argv[1]))
url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
found, deadline = [], time.monotonic() + 60


def num_finished():
    return sum(float(line.rsplit(" ", 1)[1]) for line in found if line.startswith("ray_vllm_request_success_total"))


# The agent hears of them from time to time: of the proof's requests perhaps before the last one's.
while num_finished() < 3 and time.monotonic() < deadline:
    time.sleep(0.5)
    found = [line for line in urllib.request.urlopen(url).read().decode().splitlines() if line.startswith("ray_vllm_")]
ray.get(actor.close.remote())
ray.shutdown()
values = {}
for line in found:
    name = re.split(r"[{ ]", line)[0]
    values[name] = values.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
print(json.dumps({"values": values, "has_serve": has_serve}))
"""


@pytest.mark.stack
def test_an_engine_in_a_ray_actor_is_seen_at_the_nodes_agent(tmp_path: Path) -> None:
    write_tiny_run(tmp_path, full=True, device="cpu")
    environment = {**os.environ, **worker_environment(EngineConfig(kind="vllm", enforce_eager=True))}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "policy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    values = told["values"]
    # One request with three responses, after the two of the proof at the start.
    assert values["ray_vllm_request_success_total"] >= 3
    assert values["ray_vllm_generation_tokens_total"] >= 3
    assert {"ray_vllm_num_requests_running", "ray_vllm_kv_cache_usage_perc"} <= set(values)
    # Observed for every token, it would cost as much as all others.
    assert values.get("ray_vllm_inter_token_latency_seconds_count", 0.0) == 0.0
    # vLLM's wrappers would import all of it.
    assert told["has_serve"] is False


@pytest.mark.stack
def test_without_ray_vllm_is_given_no_logger() -> None:
    script = "from rollout.vllm_stats import stat_loggers; assert stat_loggers() == []"
    environment = {**os.environ, **worker_environment(EngineConfig(kind="vllm", enforce_eager=True))}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
