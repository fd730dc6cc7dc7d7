"""The environment of a process that will import vLLM."""

from rollout.config import EngineConfig
from rollout.vllm_env import worker_environment


def test_one_thread_and_no_network_unless_asked_for() -> None:
    environment = worker_environment(EngineConfig(enforce_eager=True))
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert "HF_HUB_OFFLINE" not in worker_environment(EngineConfig(), offline=False)
    assert worker_environment(EngineConfig(), num_threads=2)["OMP_NUM_THREADS"] == "2"


def test_compilation_is_off_exactly_where_the_engine_is_eager() -> None:
    assert worker_environment(EngineConfig(enforce_eager=True))["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in worker_environment(EngineConfig(enforce_eager=False))
