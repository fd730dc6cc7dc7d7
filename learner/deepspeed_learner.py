"""One rank of the ZeRO-3 learner. Importing this imports DeepSpeed; start its process with `worker_environment`."""

from learner.config import LearnerConfig
from learner.deepspeed_engine import DeepSpeedEngine
from learner.learner import Learner


def deepspeed_learner(
    config: LearnerConfig,
    *,
    model_path: str,
    seed: int,
    rank: int,
    address: str,
    port: int,
    timeout_s: float = 600.0,
    weight_timeout_s: float = 600.0,
) -> Learner:
    """Rank `rank` of `config.num_ranks`.

    Args:
        address, port: where rank 0 listens for the others; free on its machine.
        timeout_s: longest wait for other ranks.
        weight_timeout_s: longest wait for receivers of weights, and for one whole transfer.
    """
    engine = DeepSpeedEngine(
        config, model_path=model_path, seed=seed, rank=rank, address=address, port=port, timeout_s=timeout_s
    )
    return Learner(config, engine=engine, model_path=model_path, rank=rank, weight_timeout_s=weight_timeout_s)
