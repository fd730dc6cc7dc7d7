"""The checkpoints of one run: `<run dir>/checkpoints`.

step-000010/               a checkpoint: whole, and never changed but for its marks `pinned` and `tag`
step-000010.1/             a later moment of the same step: a run that was paused before its next step ended
step-000020.replaced-1/    of a course that the run left, when it went on from an earlier checkpoint
.step-000030.part/         being written, or left by a save that was killed; never listed, never loaded
.step-000000.gone/         being removed; the same

A directory gets and loses its name in one rename, so other processes may read at any time. One process writes: the one
that holds the run's directory.
"""

import itertools
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.checkpoints.checkpoint import PINNED_FILE, TAG_FILE, Checkpoint, moment_of, read_checkpoint
from services.checkpoints.draft import CheckpointDraft, CheckpointFacts
from services.checkpoints.retention import kept
from services.durable_files import replace_file, sync, write_synced
from services.recipe_sections import CheckpointConfig
from shaping.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointDraft", "CheckpointFacts", "CheckpointStore", "Damaged", "Found"]

LATEST = "latest"

_NAME = re.compile(r"step-(\d{6,})(?:\.([1-9]\d*))?")
_REPLACED = re.compile(r"step-\d{6,}(?:\.[1-9]\d*)?\.replaced-\d+")
_ASIDE = re.compile(r"\.(step-.+)\.(part|gone)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A checkpoint that cannot be gone on from, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint whose every byte is as it was written.

    Args:
        passed_over: newer ones that are damaged, newest first.
    """

    checkpoint: Checkpoint
    passed_over: tuple[Damaged, ...] = ()


class CheckpointStore:
    """Writes, finds, keeps and removes checkpoints.

    Args:
        root: made with the first checkpoint.
        clock: seconds since the epoch.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    def begin(self, step: int) -> CheckpointDraft:
        """Begin a checkpoint after this many learner steps; what a killed save or removal left is cleared away.

        Raises:
            CheckpointError: there is one of a later step, or the directory cannot be made.
        """
        with _changing(self.root):
            if not self.root.exists():
                self.root.mkdir(parents=True)
                sync(self.root.parent)
            self._clear_asides()
            newest = self._names()[-1:]
            newest_step, revision = moment_of(newest[0]) if newest else (-1, 0)
            if newest_step > step:
                raise CheckpointError(
                    f"a checkpoint must be of no earlier step than any there is, got {step} after {newest[0]} "
                    f"({self.root}); a run that goes on from an earlier one sets the later ones aside first"
                )
            name = _name(step) if newest_step < step else f"{_name(step)}.{revision + 1}"
            path = self.root / f".{name}.part"
            path.mkdir()
        return CheckpointDraft(path, self.root / name, step=step, clock=self._clock)

    def list(self) -> tuple[Checkpoint, ...]:
        """Checkpoints that are whole by manifest and sizes, in order of their moments; contents are not read."""
        return tuple(each for each in self._look_at_all() if isinstance(each, Checkpoint))

    def damaged(self) -> tuple[Damaged, ...]:
        """The others, in order of their moments."""
        return tuple(each for each in self._look_at_all() if isinstance(each, Damaged))

    def latest(self) -> Found | None:
        """The newest checkpoint whose every file has the hash that was written; None where there is no checkpoint.

        Raises:
            CheckpointError: there are some, and none of them is undamaged.
        """
        passed_over: list[Damaged] = []
        for each in reversed(self._look_at_all()):
            if isinstance(each, Damaged):
                passed_over.append(each)
                continue
            try:
                each.verify()
            except CheckpointError as error:
                if not each.path.exists():
                    return self.latest()
                passed_over.append(Damaged(name=each.name, reason=str(error)))
            else:
                return Found(checkpoint=each, passed_over=tuple(passed_over))
        if passed_over:
            reasons = "; ".join(f"{each.name}: {each.reason}" for each in passed_over)
            raise CheckpointError(f"one checkpoint at least must be undamaged, found none ({self.root}): {reasons}")
        return None

    def get(self, name: str) -> Found:
        """The checkpoint of this name, or the latest one for "latest"; every file is read and its hash compared.

        Raises:
            CheckpointError: not there, or damaged.
        """
        if name == LATEST:
            latest = self.latest()
            if latest is None:
                raise CheckpointError(f"there must be a checkpoint to go on from, found none ({self.root})")
            return latest
        found = self._look(name) if name in self._names() else None
        if found is None:
            raise self._unknown(name)
        if isinstance(found, Damaged):
            raise CheckpointError(f"{name} cannot be used: {found.reason}")
        found.verify()
        return Found(checkpoint=found)

    def pin(self, name: str) -> None:
        """Keep a checkpoint until it is unpinned; twice is once.

        Raises:
            CheckpointError: not there, or it cannot be marked.
        """
        self._check_known(name)
        mark = self.root / name / PINNED_FILE
        with _changing(mark):
            write_synced(mark, b"")
            sync(mark.parent)

    def tag(self, name: str, tag: str) -> None:
        """Write a user's words beside a checkpoint.

        Raises:
            CheckpointError: not there, or it cannot be written.
        """
        self._check_known(name)
        mark = self.root / name / TAG_FILE
        with _changing(mark):
            replace_file(mark, tag.encode())

    def unpin(self, name: str) -> None:
        """Let retention decide again.

        Raises:
            CheckpointError: not there, or the mark cannot be removed.
        """
        self._check_known(name)
        mark = self.root / name / PINNED_FILE
        with _changing(mark):
            mark.unlink(missing_ok=True)
            sync(mark.parent)

    def set_aside_after(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Take later checkpoints, damaged ones too, out of the run's course, which goes on from this one.

        They stay on disk until the next `retain`, and pinned ones for good.

        Returns:
            Their names until now.
        """
        with _changing(self.root):
            self._clear_asides()
            later = tuple(name for name in self._names() if moment_of(name) > moment_of(checkpoint.name))
            for name in later:
                taken = {each.name for each in self.root.iterdir()}
                number = next(n for n in itertools.count(1) if f"{name}.replaced-{n}" not in taken)
                (self.root / name).rename(self.root / f"{name}.replaced-{number}")
            sync(self.root)
        return later

    def retain(self, config: CheckpointConfig) -> tuple[str, ...]:
        """Remove what need not be kept; for right after a commit. Damaged ones stay, for a person to look at.

        What cannot be removed is logged and left: a run must not end over it.

        Returns:
            Names of those removed.
        """
        whole = self.list()
        if not whole:
            return ()
        keep = {each.name for each in kept(whole, config)}
        removable = [each.name for each in whole if each.name not in keep]
        replaced = [each for each in self.root.iterdir() if _REPLACED.fullmatch(each.name)]
        removable += [each.name for each in replaced if not (each / PINNED_FILE).exists()]
        return tuple(name for name in removable if self._remove(name))

    def remove(self, name: str) -> bool:
        """Remove one checkpoint, whole or damaged, for good.

        Returns:
            False where it is pinned or cannot be removed, which is logged.
        Raises:
            CheckpointError: not there.
        """
        self._check_known(name)
        return self._remove(name)

    def _remove(self, name: str) -> bool:
        path, aside = self.root / name, self.root / f".{name}.gone"
        try:
            path.rename(aside)
            sync(self.root)
            # Pinned at the last moment: nobody can any more now that the name is gone.
            if (aside / PINNED_FILE).exists():
                aside.rename(path)
                return False
            shutil.rmtree(aside)
        except OSError as error:
            logger.warning("a checkpoint could not be removed: %s (%s)", error.strerror, path)
            return False
        return True

    def _clear_asides(self) -> None:
        """Finish what a process that was killed began. What cannot be removed is in nobody's way."""
        for each in tuple(self.root.iterdir()):
            match = _ASIDE.fullmatch(each.name)
            if match and match[2] == "gone" and (each / PINNED_FILE).exists():
                each.rename(self.root / match[1])
            elif match:
                shutil.rmtree(each, ignore_errors=True)

    def _names(self) -> tuple[str, ...]:
        try:
            found = [each.name for each in self.root.iterdir()]
        except FileNotFoundError:
            return ()
        return tuple(sorted((name for name in found if _NAME.fullmatch(name)), key=moment_of))

    def _look_at_all(self) -> Sequence[Checkpoint | Damaged]:
        """In order, all at one moment: one that goes meanwhile has a newer one beside it, so look again."""
        while True:
            found = [self._look(name) for name in self._names()]
            there = [each for each in found if each is not None]
            if len(there) == len(found):
                return there

    def _look(self, name: str) -> Checkpoint | Damaged | None:
        """One checkpoint by manifest and sizes; None when it is removed meanwhile, which is no damage."""
        path = self.root / name
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            return Damaged(name=name, reason=str(error)) if path.exists() else None

    def _check_known(self, name: str) -> None:
        if name not in self._names():
            raise self._unknown(name)

    def _unknown(self, name: str) -> CheckpointError:
        there = ", ".join(self._names()) or "none"
        return CheckpointError(f"a checkpoint must be one of those there are, found no {name!r} but {there}")


def _name(step: int) -> str:
    return f"step-{step:06d}"


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"checkpoints must be writable, found {error.strerror} ({path})") from error
