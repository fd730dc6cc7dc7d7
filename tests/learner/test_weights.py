import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import KLConfig, LearnerConfig, OptimizerConfig
from learner.weights import ParameterSpec, bucket_layout
from shaping.components import ComponentSpec
from shaping.scheduling import schedule_of

parameters = st.lists(
    st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.sampled_from(["float32", "bfloat16"])),
    max_size=12,
)


def specs_of(drawn: list[tuple[list[int], str]]) -> list[ParameterSpec]:
    return [ParameterSpec(name=f"p{i}", shape=tuple(shape), dtype=dtype) for i, (shape, dtype) in enumerate(drawn)]


@given(parameters, st.integers(1, 600))
def test_buckets_hold_every_parameter_once_in_order(drawn: list, bucket_bytes: int) -> None:
    specs = specs_of(drawn)
    layout = bucket_layout(specs, bucket_bytes)
    found = [
        ParameterSpec(name=name, shape=shape, dtype=bucket.dtype)
        for bucket in layout.buckets
        for name, shape in zip(bucket.names, bucket.shapes, strict=True)
    ]
    assert found == specs
    assert layout.num_bytes == sum(spec.num_bytes for spec in specs)


@given(parameters, st.integers(1, 600))
def test_a_bucket_is_within_its_limit_or_one_parameter(drawn: list, bucket_bytes: int) -> None:
    for bucket in bucket_layout(specs_of(drawn), bucket_bytes).buckets:
        width = {"float32": 4, "bfloat16": 2}[bucket.dtype]
        assert bucket.num_bytes == sum(width * math.prod(shape) for shape in bucket.shapes)
        assert bucket.num_bytes <= bucket_bytes or len(bucket.names) == 1


def test_a_number_is_a_schedule_that_never_changes() -> None:
    assert [schedule_of(0.5, "here").value(step) for step in (0, 1000)] == [0.5, 0.5]


def test_a_component_is_the_schedule_of_its_file() -> None:
    spec = ComponentSpec(kind="linear", options={"start": 1.0, "stop": 0.0, "steps": 4})
    assert [schedule_of(spec, "here").value(step) for step in (0, 1, 9)] == pytest.approx([1.0, 0.75, 0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerConfig(beta1=1.0), "beta1 must be in"),
        (lambda: OptimizerConfig(weight_decay=-1.0), "weight_decay must be >= 0"),
        (lambda: OptimizerConfig(epsilon=0.0), "epsilon must be > 0"),
        (lambda: OptimizerConfig(learning_rate=-1e-6), "learning_rate must be >= 0"),
        (lambda: KLConfig(coefficient=-0.1), "coefficient must be >= 0"),
        (lambda: LearnerConfig(micro_batch_tokens=0), "micro_batch_tokens must be >= 1"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
