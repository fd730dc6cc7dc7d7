"""Which bucket may come next."""

from dataclasses import replace

import pytest

from shaping.bucket_header import HEADER_BYTES, BucketHeader, check_next, transfer_headers
from shaping.errors import EngineRefused
from shaping.training import BucketLayout, WeightLayout

LAYOUT = WeightLayout(
    buckets=tuple(
        BucketLayout(names=(f"w{index}",), shapes=((size // 4,),), dtype="float32", num_bytes=size)
        for index, size in enumerate((40, 8, 12))
    )
)
HEADERS = transfer_headers(LAYOUT, 7)


def test_a_transfer_is_every_bucket_and_the_end() -> None:
    assert [(each.bucket_index, each.num_bytes, each.is_end) for each in HEADERS] == [
        (0, 40, False),
        (1, 8, False),
        (2, 12, False),
        (3, 0, True),
    ]
    assert {(each.policy_version, each.num_buckets) for each in HEADERS} == {(7, 3)}


def test_headers_are_of_one_size_and_byte_order() -> None:
    """8 letters, then little-endian: version 7 in 8 bytes, index 1 in 4, 3 buckets in 4, 8 bytes in 8."""
    packed = HEADERS[1].pack()
    assert packed == b"lessrl_w" + b"\x07" + bytes(7) + b"\x01" + bytes(3) + b"\x03" + bytes(3) + b"\x08" + bytes(7)
    assert {len(each.pack()) for each in HEADERS} == {HEADER_BYTES} == {32}


def test_a_transfer_in_order_is_taken() -> None:
    for each in HEADERS:
        check_next(each.pack(), each)


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        (HEADERS[0], HEADERS[1], "bucket 1 of version 7 must come next, found bucket 0 again"),
        (HEADERS[2], HEADERS[1], "bucket 1 of version 7 must come next, found bucket 2: bucket 1 is missing"),
        (HEADERS[3], HEADERS[2], "bucket 2 of version 7 must come next, found the end: bucket 2 is missing"),
        (HEADERS[2], HEADERS[3], "the end of version 7 must come next, found bucket 2 again"),
        (replace(HEADERS[1], policy_version=6), HEADERS[1], "bucket 1 .* found bucket 1 of version 6"),
        (replace(HEADERS[1], num_buckets=4), HEADERS[1], "bucket 1 .* found bucket 1 of 4 buckets instead of 3"),
        (replace(HEADERS[1], num_bytes=4), HEADERS[1], "bucket 1 .* found it with 4 bytes instead of 8"),
    ],
)
def test_anything_else_is_refused_by_name(found: BucketHeader, expected: BucketHeader, told: str) -> None:
    with pytest.raises(EngineRefused, match=told):
        check_next(found.pack(), expected)


def test_bytes_that_are_no_header_are_refused() -> None:
    with pytest.raises(EngineRefused, match="bucket 0 of version 7 must come next, found bytes that are no bucket"):
        check_next(bytes(HEADER_BYTES), HEADERS[0])
