"""Records of W&B's offline files, also of those that a killed process left."""

import struct
from pathlib import Path

from services.wandb_files import highest_values, records

HEADER = b":W&B\x00\x00\x00"
BLOCK = 32768


def framed(data: bytes, kind: int = 1) -> bytes:
    """One piece of a record; checksums are not looked at."""
    return struct.pack("<IHB", 0, len(data), kind) + data


def test_records_are_read_whole_one_after_the_other() -> None:
    assert list(records(HEADER + framed(b"one") + framed(b"") + framed(b"three"))) == [b"one", b"", b"three"]


def test_a_record_of_several_blocks_is_put_together() -> None:
    # The first block has room for 32768 - 7 - 7 bytes of it, the second is all its own, the third ends it.
    first, middle = b"a" * (BLOCK - 14), b"b" * (BLOCK - 7)
    data = HEADER + framed(first, 2) + framed(middle, 3) + framed(b"c", 4) + framed(b"next")
    assert list(records(data)) == [first + middle + b"c", b"next"]


def test_the_rest_of_a_block_that_holds_no_header_is_passed_over() -> None:
    # 7 + 7 + 32750 bytes leave four.
    data = HEADER + framed(b"a" * (BLOCK - 18)) + b"\x00" * 4 + framed(b"next")
    assert list(records(data))[1:] == [b"next"]


def test_what_a_killed_process_left_of_a_record_is_passed_over() -> None:
    whole = HEADER + framed(b"one")
    for rest in (b"\x00", framed(b"two")[:6], framed(b"two")[:-1], b"\x00" * 40):
        assert list(records(whole + rest)) == [b"one"]
    assert list(records(HEADER[:3])) == []


def test_a_run_without_files_has_nothing(tmp_path: Path) -> None:
    assert highest_values(tmp_path, ("training/global_step",)) == {}
