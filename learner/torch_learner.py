"""The learner of house mode: one process, plain torch."""

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.torch_engine import TorchEngine


def torch_learner(config: LearnerConfig, *, model_path: str, seed: int, weight_timeout_s: float = 600.0) -> Learner:
    """A learner that is its whole group.

    Raises:
        RecipeError: a recipe that plain torch does not train (several ranks, bfloat16).
    """
    engine = TorchEngine(config, model_path=model_path, seed=seed)
    return Learner(config, engine=engine, model_path=model_path, rank=0, weight_timeout_s=weight_timeout_s)
