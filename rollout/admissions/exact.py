"""exact: only as many groups start as steps need; one that is dropped is replaced.

Formula: none beyond those that are missing. With run.max_staleness 0 every group of a step is sampled by the version
that it trains. Source: AReaL, arXiv:2505.24298, eq. 3, see rollout/buffer.py.
"""

from dataclasses import dataclass

from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    max_buffered_groups: shaped groups that may wait for the learner; 0 means what max_staleness allows.
    """

    max_buffered_groups: int = 0

    def __post_init__(self) -> None:
        if self.max_buffered_groups < 0:
            raise ValueError(f"max_buffered_groups must be >= 0, got {self.max_buffered_groups}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """An Admission without surplus."""

    max_buffered_groups: int = 0

    def surplus(self, missing: int) -> int:
        del missing
        return 0


def build(config: Config) -> Exact:
    return Exact(max_buffered_groups=config.max_buffered_groups)
