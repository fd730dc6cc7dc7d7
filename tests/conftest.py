"""Laws of the whole suite: a unit test never starts Ray."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _unit_tests_start_no_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("stack") is None and "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized(), "a unit test must not start Ray; mark it stack"
