"""Laws of the whole suite: a unit test never starts Ray, and a commit is judged alike each time.

Property tests draw the same examples in every run; `pytest --hypothesis-profile default` draws new ones, to search.
"""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _unit_tests_start_no_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("stack") is None and "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized(), "a unit test must not start Ray; mark it stack"
