"""The judge of a run: rewards that compute work in a pool of processes, rewards that ask others are asked here."""

from collections.abc import Sequence

from shaping.config import RewardConfig, VerifierConfig
from shaping.rewards.base import RewardResult
from shaping.verification.judge import InProcessJudge, Judge, LoadedRewards, ScoreTask, is_batch
from shaping.verification.pool import VerifierPool


class PooledJudge:
    """Judge over a `VerifierPool`, started by `start` and ended by `close`.

    Args:
        rewards: loaded by `start`; others when a task first names them.
    """

    def __init__(self, config: VerifierConfig, rewards: Sequence[RewardConfig]) -> None:
        self._loaded = LoadedRewards()
        self._here = InProcessJudge()
        self._pool = VerifierPool(config, [each for each in rewards if not self._is_batch(each)])

    def start(self) -> None:
        """Start the processes, and judge the rewards' known answers.

        Raises:
            RunFailed: a process did not start, or a known answer got another verdict.
        """
        self._pool.start()

    def close(self) -> None:
        self._pool.close()

    def take_restarts(self) -> int:
        return self._pool.take_restarts()

    def score(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        results: dict[int, RewardResult] = {}
        for judge, is_mine in ((self._pool, False), (self._here, True)):
            indices = [index for index, task in enumerate(tasks) if self._is_batch(task.reward) is is_mine]
            if indices:
                results.update(zip(indices, judge.score([tasks[index] for index in indices]), strict=True))
        return [results[index] for index in range(len(tasks))]

    def _is_batch(self, reward: RewardConfig) -> bool:
        return is_batch(self._loaded.get(reward))


def make_judge(config: VerifierConfig, rewards: Sequence[RewardConfig]) -> Judge:
    """The judge that a recipe asks for; a pooled one has to be started."""
    return PooledJudge(config, rewards) if config.num_processes else InProcessJudge()
