"""What is written is on the disk, and what is replaced is old or new."""

import os
from pathlib import Path

import pytest
from disk_calls import disk_calls, just_before

from services.durable_files import replace_file, sync, write_synced


def test_the_disk_is_waited_for_when_all_was_handed_over(tmp_path: Path) -> None:
    path, sizes = tmp_path / "file", list[int]()
    with just_before(os.fsync, lambda: sizes.append(path.stat().st_size)):
        write_synced(path, b"abc")
    assert sizes == [3]
    for each in (path, tmp_path):
        waited = list[Path]()
        with just_before(os.fsync, lambda each=each, waited=waited: waited.append(each)):  # type: ignore[misc]
            sync(each)
        assert waited == [each]


def test_a_file_is_the_old_one_until_the_new_one_is_on_the_disk(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", list[bytes]()
    path.write_bytes(b"old")
    with just_before(os.replace, lambda: seen.append(path.read_bytes())):
        replace_file(path, b"new")
    assert (seen, path.read_bytes()) == ([b"old"], b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert disk_calls(lambda: replace_file(path, b"newer")) == [
        ("sync", str(tmp_path / ".file.part")),
        ("sync", str(tmp_path)),
    ]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.part").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
