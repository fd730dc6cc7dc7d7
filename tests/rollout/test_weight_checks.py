"""What an engine refuses of layouts and manifests."""

from dataclasses import replace

import pytest

from rollout.weight_checks import check_layout, check_manifest, layout_from_plain, layout_to_plain
from shaping.errors import EngineRefused
from shaping.training import BucketLayout, WeightLayout, WeightManifest

FIRST = BucketLayout(names=("a", "b"), shapes=((2, 3), (4,)), dtype="float32", num_bytes=40)
SECOND = BucketLayout(names=("c",), shapes=((5,),), dtype="bfloat16", num_bytes=10)
LAYOUT = WeightLayout(buckets=(FIRST, SECOND))
SHAPES = {"a": (2, 3), "b": (4,), "c": (5,)}


def make_manifest(policy_version: int = 4, checksums: tuple[str, ...] = ("x", "y")) -> WeightManifest:
    return WeightManifest(policy_version=policy_version, layout=LAYOUT, checksums=checksums)


def test_a_layout_survives_the_way_through_plain_data() -> None:
    assert layout_from_plain(layout_to_plain(LAYOUT)) == LAYOUT


def test_the_served_models_layout_is_taken() -> None:
    """(6 + 4) float32 are 40 bytes, 5 bfloat16 are 10."""
    check_layout(LAYOUT, SHAPES)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (WeightLayout(buckets=(FIRST,)), r"1 missing \['c'\], 0 unknown"),
        (WeightLayout(buckets=(FIRST, replace(SECOND, names=("d",)))), r"1 missing \['c'\], 1 unknown \['d'\]"),
        (WeightLayout(buckets=(replace(FIRST, shapes=((3, 2), (4,))), SECOND)), r"a must have shape \(2, 3\), got \(3"),
        (WeightLayout(buckets=(FIRST, replace(SECOND, num_bytes=20))), "bucket 1 must hold 10 bytes, got 20"),
        (WeightLayout(buckets=(FIRST, replace(SECOND, dtype="int8"))), "one of float32, bfloat16, float16, got 'int8'"),
    ],
)
def test_another_layout_is_refused(layout: WeightLayout, message: str) -> None:
    with pytest.raises(EngineRefused, match=message):
        check_layout(layout, SHAPES)


def test_equal_checksums_of_every_process_are_taken() -> None:
    check_manifest(make_manifest(), layout=LAYOUT, checksums=(("x", "y"), ("x", "y")), policy_version=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": None}, "found none staged"),
        ({"layout": WeightLayout(buckets=(FIRST,))}, "found another layout"),
        ({"policy_version": 4}, "must be newer than 4, got 4"),
        ({"policy_version": 5}, "must be newer than 5, got 4"),
        (
            {"checksums": (("x", "y"), ("x", "z"))},
            r"bucket 1 must have checksum y, received z \(policy version 4, engine process 1\): the staged weights are "
            "dropped, version 3 goes on serving",
        ),
    ],
)
def test_anything_else_than_promised_is_refused(changes: dict[str, object], message: str) -> None:
    arguments = {"layout": LAYOUT, "checksums": (("x", "y"),), "policy_version": 3, **changes}
    with pytest.raises(EngineRefused, match=message):
        check_manifest(make_manifest(), **arguments)  # type: ignore[arg-type]
