"""Parameters and optimizer of a ZeRO-3 group on disk: DeepSpeed's own checkpoint, one part per rank.

The same number of ranks reads its parts back bit for bit. Another number goes through DeepSpeed's universal checkpoint:
the parts are merged to whole tensors, which each rank then cuts anew.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

from deepspeed import DeepSpeedEngine
from deepspeed.checkpoint import ds_to_universal
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

from learner.state import RULE, together, write_tensors
from shaping.errors import CheckpointError

TAG = "engine"
UNIVERSAL_FOLDER = "universal"
POLL_S = 5.0


class DurableFiles(TorchCheckpointEngine):
    """Takes what DeepSpeed saves to stable storage. A failed write is kept until `taken`: DeepSpeed's ranks wait for
    each other after writing, so raising at once would leave the others behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._paths: list[Path] = []
        self._failure: OSError | None = None

    def save(self, state_dict: Any, path: str) -> None:
        try:
            write_tensors(Path(path), state_dict)
        except OSError as error:
            self._failure = self._failure or error
        self._paths.append(Path(path))

    def taken(self) -> list[Path]:
        """What this rank has written since the last call.

        Raises:
            OSError: not all of it could be written.
        """
        paths, failure = self._paths, self._failure
        self._paths, self._failure = [], None
        if failure is not None:
            raise failure
        return paths


class Zero3State:
    """Saves and loads one DeepSpeed engine. Collective.

    Args:
        gather: the small values of all ranks, in rank order.
    """

    def __init__(self, engine: DeepSpeedEngine, gather: Callable[[Any], list[Any]], rank: int) -> None:
        self._engine = engine
        self._gather = gather
        self._rank = rank
        self._files = DurableFiles()
        engine.checkpoint_engine = self._files
        # Rank 0 would copy two scripts of DeepSpeed's beside every checkpoint, past the checkpoint engine.
        engine._copy_recovery_script = _copy_nothing

    def save(self, directory: Path) -> tuple[str, ...]:
        """Write this rank's part. Frozen weights are those of the starting model and stay out.

        Raises:
            OSError: a file of this rank could not be written; after the last collective call.
        """
        self._engine.save_checkpoint(str(directory), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        return tuple(path.relative_to(directory).as_posix() for path in self._files.taken())

    def load(self, directory: Path) -> None:
        """Read the part of this rank, saved by as many ranks as there are now."""
        # Not strict: with LoRA the frozen weights are not there.
        path, _ = self._engine.load_checkpoint(str(directory), tag=TAG, load_module_strict=False)
        if path is None:
            raise CheckpointError(f"a ZeRO-3 checkpoint must be there, found none that DeepSpeed reads in {directory}")

    def load_resharded(self, directory: Path) -> None:
        """Read a state that another number of ranks saved. For the time of it `directory` also holds it in two more
        copies: pieces of tensors, and tensors.

        Raises:
            CheckpointError: no room for that, or no optimizer state to divide.
        """
        universal = directory / UNIVERSAL_FOLDER
        try:
            with ThreadPoolExecutor(1) as pool:
                conversion = pool.submit(_convert, directory / TAG, universal / TAG) if self._rank == 0 else None
                # In short collectives: a long conversion must not look like a rank that hangs.
                while not all(self._gather(conversion is None or bool(wait([conversion], POLL_S).done))):
                    pass
            together(self._gather, lambda: conversion.result() if conversion else None)
            # Returns when all ranks have read it: it goes then.
            together(self._gather, lambda: self._load_universal(universal))
        finally:
            if self._rank == 0:
                rmtree(universal, ignore_errors=True)

    def _load_universal(self, directory: Path) -> None:
        self._engine._config.load_universal_checkpoint = True
        try:
            self._engine.load_checkpoint(str(directory), tag=TAG, load_module_strict=False)
        finally:
            self._engine._config.load_universal_checkpoint = False
        for state in self._engine.optimizer.optimizer.state.values():
            # DeepSpeed 0.19.8 gives all its parameter groups (1e9 elements each) one step counter between them, which
            # each of them would advance.
            state["step"] = state["step"].clone()


def _convert(source: Path, target: Path) -> None:
    """Merge the parts of all ranks to whole tensors.

    Raises:
        CheckpointError: a file could not be written, or the optimizer has no state.
    """
    arguments = SimpleNamespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    try:
        if target.parent.exists():
            rmtree(target.parent)
        ds_to_universal.main(arguments)
    except KeyError as error:
        raise CheckpointError(
            f"a learner that was saved before its first update has no optimizer state to divide among other ranks "
            f"({source}, no {error}); load it with the ranks that saved it, or start anew"
        ) from error
    except (OSError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{RULE}, converting it to other ranks failed with: {first_line} ({target})") from error


def _copy_nothing(save_path: str) -> None:
    """In place of DeepSpeed's recovery scripts."""
