"""The environment of a process that will import vLLM: it must be set before the process starts. Imports no vLLM."""

from rollout.config import EngineConfig


def worker_environment(config: EngineConfig, *, offline: bool = True, num_threads: int = 1) -> dict[str, str]:
    """Environment variables of a rollout worker with a vLLM engine.

    Args:
        offline: the model is a local directory; nothing may be fetched.
        num_threads: OpenMP threads of CPU kernels. More threads than free cores make vLLM on CPU ~20 times slower.
    """
    environment = {
        "OMP_NUM_THREADS": str(num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    if config.enforce_eager:
        # vLLM's stock log-prob gather, which the proof at start calls, otherwise compiles a helper with a C++ compiler.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    return environment
