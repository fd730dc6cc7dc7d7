"""Opening files below one directory, and nowhere else.

Each part of a path is opened relative to the part before it, without following links: a name that is swapped for a link
while it is looked at leads nowhere either.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from services.run_view.refusals import NotFound
from shaping.errors import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a client may name, and what this package itself opens."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe would hold its reader until somebody writes.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ConfinedFolder:
    """Args:
    root: may be reached through links; what is below it may not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def open(self, *names: str) -> BinaryIO:
        """A plain file, to be read.

        Raises:
            FileNotFoundError: there is none.
            NotFound: not even the root is there.
            UserError: a name that no file of a run has, a link, no plain file, or one that may not be read.
        """
        folder = self._descend(names[:-1])
        try:
            descriptor = self._opened(names, _FILE, folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UserError(f"a file of a run must be a plain file, found another kind ({self._path(names)})")
        return os.fdopen(descriptor, "rb")

    def names(self, *names: str) -> list[str]:
        """What a folder holds under names that this package opens, sorted; links are left out. Nothing without it.

        Raises:
            NotFound, UserError: as `open`.
        """
        try:
            folder = self._descend(names)
        except FileNotFoundError:
            return []
        try:
            with os.scandir(folder) as entries:
                return sorted(each.name for each in entries if NAME.fullmatch(each.name) and not each.is_symlink())
        finally:
            os.close(folder)

    def check_folder(self, *names: str) -> Path:
        """The path of a folder, for code that opens it by its path.

        Raises:
            FileNotFoundError, NotFound, UserError: as `open`.
        """
        os.close(self._descend(names))
        return self._path(names)

    def _descend(self, names: tuple[str, ...]) -> int:
        try:
            folder = os.open(self.root, _FOLDER)
        except OSError as error:
            raise NotFound(
                "run-directory",
                f"the directory of a run must be readable where the control plane is, found {error.strerror} "
                f"({self.root}); put runs on a disk that both see",
            ) from error
        for depth in range(len(names)):
            try:
                deeper = self._opened(names[: depth + 1], _FOLDER, folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _opened(self, names: tuple[str, ...], flags: int, folder: int) -> int:
        if not NAME.fullmatch(names[-1]):
            raise UserError(
                "a name must be 1 to 64 of a-z, 0-9, dots, dashes and underscores and begin with a letter or digit, "
                f"got {names[-1]!r}"
            )
        try:
            return os.open(names[-1], flags, dir_fd=folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(
                f"files of a run must be its own and readable, found {error.strerror} ({self._path(names)})"
            ) from error

    def _path(self, names: tuple[str, ...]) -> Path:
        return self.root.joinpath(*names)
