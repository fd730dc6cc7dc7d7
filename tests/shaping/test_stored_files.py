"""A file is as it was stored, or the difference is named."""

import hashlib
from pathlib import Path

import pytest

from shaping.errors import CheckpointError, RecordError
from shaping.stored_files import StoredFile, check_stored_file, check_stored_size, stored_file


def test_a_file_is_described_by_its_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert stored_file(tmp_path, "a/b") == StoredFile(path="a/b", num_bytes=3, sha256=digest)
    check_stored_file(tmp_path, stored_file(tmp_path, "a/b"))


def test_what_differs_is_said_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"abc")
    stored = stored_file(tmp_path, "shard")
    (tmp_path / "shard").write_bytes(b"abd")
    check_stored_size(tmp_path, stored)
    with pytest.raises(CheckpointError, match=r"shard must have the content that was saved \(sha256 ba7816bf8f01"):
        check_stored_file(tmp_path, stored)
    (tmp_path / "shard").write_bytes(b"ab")
    with pytest.raises(CheckpointError, match="shard must have 3 bytes, found 2"):
        check_stored_file(tmp_path, stored)
    (tmp_path / "shard").unlink()
    with pytest.raises(CheckpointError, match="shard is missing"):
        check_stored_file(tmp_path, stored)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/"])
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(RecordError, match="must lie inside"):
        StoredFile(path=path, num_bytes=0, sha256=hashlib.sha256().hexdigest())


def test_a_size_and_a_hash_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecordError, match="num_bytes must be >= 0"):
        StoredFile(path="a", num_bytes=-1, sha256="0" * 64)
    with pytest.raises(RecordError, match="64 hex digits"):
        StoredFile(path="a", num_bytes=0, sha256="0" * 63)
