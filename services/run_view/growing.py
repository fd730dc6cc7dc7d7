"""A file of lines that another process appends to: each whole line is handed on once.

A run that goes on from a checkpoint cuts its files back and writes on from there. It may have grown again before we
look: then the last bytes that we read are not the same any more. A file that was cut or replaced is read anew.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

CHUNK_BYTES = 1 << 16
_TAIL_BYTES = 512


class GrowingFile:
    """Hands on what is new; not for two threads at once.

    Args:
        open_file: raises FileNotFoundError while there is none.
        forget: called before the file is read from its start again.
        take: gets an offset and the whole lines from there on, some 64 kB at a time but at least one line.
        max_line_bytes: longer lines are passed over, and counted in `num_too_long`; at least CHUNK_BYTES.
    """

    def __init__(
        self,
        open_file: Callable[[], BinaryIO],
        *,
        forget: Callable[[], None],
        take: Callable[[int, bytes], None],
        max_line_bytes: int = 1 << 28,
    ) -> None:
        self._open = open_file
        self._forget = forget
        self._take = take
        self._max_line_bytes = max_line_bytes
        self._identity: tuple[int, int] | None = None
        self._tail = b""
        self.position = 0
        self.num_too_long = 0

    def catch_up(self) -> None:
        """Hand on every whole line that is new.

        Raises:
            UserError: the file is none that may be read.
        """
        try:
            file = self._open()
        except FileNotFoundError:
            self.restart()
            return
        with file:
            if not self._is_same(file):
                self.restart()
            self._identity = _identity(file)
            file.seek(self.position)
            self._read(file)

    def restart(self) -> None:
        """Read the file from its start at the next look."""
        if self._identity is not None:
            self._forget()
        self._identity, self._tail, self.position, self.num_too_long = None, b"", 0, 0

    def _is_same(self, file: BinaryIO) -> bool:
        if self._identity is None:
            return True
        if self._identity != _identity(file):
            return False
        file.seek(self.position - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _read(self, file: BinaryIO) -> None:
        pending: list[bytes] = []
        num_pending = 0
        while chunk := file.read(CHUNK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if end == 0:
                num_pending += len(chunk)
                # Too long already: its bytes are counted, not kept.
                if num_pending > self._max_line_bytes:
                    pending.clear()
                pending.append(chunk)
                continue
            first = chunk.find(b"\n") + 1
            if num_pending + first > self._max_line_bytes:
                self._pass_over(chunk[:first], num_bytes=num_pending + first)
                pending = []
            else:
                first = 0
            self._hand_on(b"".join([*pending, chunk[first:end]]))
            pending, num_pending = [chunk[end:]], len(chunk) - end

    def _hand_on(self, lines: bytes) -> None:
        start, self.position = self.position, self.position + len(lines)
        self._tail = (self._tail + lines[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if lines:
            self._take(start, lines)

    def _pass_over(self, end: bytes, *, num_bytes: int) -> None:
        self.position += num_bytes
        self._tail = end[-_TAIL_BYTES:]
        self.num_too_long += 1


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
