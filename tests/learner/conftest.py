"""A tiny policy on disk, and one thread, so that sums have one order."""

from collections.abc import Iterator

import pytest
import torch
from learner_builders import write_tiny_policy


@pytest.fixture(scope="session")
def tied_policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="session")
def untied_policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
