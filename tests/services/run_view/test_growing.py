"""Each whole line once, while another writes; what was cut or replaced is read anew."""

import os
import random
import threading
from pathlib import Path

import pytest

from services.run_view.growing import CHUNK_BYTES, GrowingFile


class Reader:
    """Collects what a GrowingFile hands on."""

    def __init__(self, path: Path, **options: int) -> None:
        self.lines: list[bytes] = []
        self.offsets: list[int] = []
        self.num_restarts = 0
        self.file = GrowingFile(lambda: path.open("rb"), forget=self._forget, take=self._take, **options)

    def look(self) -> list[bytes]:
        self.file.catch_up()
        return self.lines

    def _forget(self) -> None:
        self.lines, self.offsets, self.num_restarts = [], [], self.num_restarts + 1

    def _take(self, start: int, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.offsets.append(start)
        self.lines += [each + b"\n" for each in lines.split(b"\n")[:-1]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.jsonl"


def test_a_half_line_waits_for_its_end(path: Path) -> None:
    reader = Reader(path)
    assert reader.look() == []
    path.write_bytes(b"one\ntw")
    assert reader.look() == [b"one\n"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert reader.look() == [b"one\n", b"two\n", b"three\n"]
    assert (reader.offsets, reader.num_restarts) == ([0, 4], 0)


def test_every_line_comes_once_while_another_appends_any_pieces(path: Path) -> None:
    rng = random.Random(3)
    lines = [rng.randbytes(rng.choice((0, 5, 80, 70_000))).replace(b"\n", b".") + b"\n" for _ in range(400)]
    data = b"".join(lines)
    path.touch()
    reader = Reader(path)

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            position = 0
            while position < len(data):
                size = rng.choice((1, 100, 50_000, 300_000))
                file.write(data[position : position + size])
                position += size

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert reader.look() == lines[: len(reader.lines)]
    writer.join()
    assert reader.look() == lines
    assert reader.num_restarts == 0


def test_a_file_that_was_cut_is_read_anew(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthree\n")
    reader = Reader(path)
    reader.look()
    os.truncate(path, 4)
    assert (reader.look(), reader.num_restarts) == ([b"one\n"], 1)


def test_a_file_that_was_cut_and_has_grown_past_its_size_is_read_anew(path: Path) -> None:
    path.write_bytes(b"one\n" + b"2" * 1000 + b"\n")
    reader = Reader(path)
    reader.look()
    os.truncate(path, 4)
    with path.open("ab") as file:
        file.write(b"3" * 2000 + b"\n")
    assert (reader.look(), reader.num_restarts) == ([b"one\n", b"3" * 2000 + b"\n"], 1)


def test_a_file_that_was_replaced_is_read_anew(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    reader = Reader(path)
    reader.look()
    other = path.with_name("other")
    other.write_bytes(b"one\ntwo\n")
    other.replace(path)
    assert (reader.look(), reader.num_restarts) == ([b"one\n", b"two\n"], 1)


def test_a_file_that_is_gone_is_forgotten(path: Path) -> None:
    path.write_bytes(b"one\n")
    reader = Reader(path)
    reader.look()
    path.unlink()
    assert (reader.look(), reader.num_restarts) == ([], 1)


def test_a_line_that_is_too_long_is_passed_over_and_counted(path: Path) -> None:
    path.write_bytes(b"one\n" + b"x" * (3 * CHUNK_BYTES) + b"\nlast\n")
    reader = Reader(path, max_line_bytes=2 * CHUNK_BYTES)
    assert reader.look() == [b"one\n", b"last\n"]
    assert reader.file.num_too_long == 1
    with path.open("ab") as file:
        file.write(b"more\n")
    assert reader.look()[-2:] == [b"last\n", b"more\n"]
    assert reader.num_restarts == 0
