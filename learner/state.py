"""A saved learner: one directory that all ranks see, written and read by all of them together.

    learner.json         what saved it, and the size of every other file
    engine/...           parameters and optimizer, as the engine writes them
    random-00000.pt      the random state of rank 0, and so on for every rank

learner.json comes last: a directory without it is a save that did not end. Nothing else is state: learning rates and
all other schedules are functions of the step, which whoever drives the learner keeps; losses, token plans and
regularisers hold nothing between steps; a frozen reference model is read from the starting model again.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import torch

from learner.config import LearnerConfig, LoraConfig
from learner.engine import TrainEngine
from shaping.errors import CheckpointError
from shaping.stored_files import StoredFile, stored_file

T = TypeVar("T")

HEADER_FILE = "learner.json"
SAMPLED_BYTES = 65536
RULE = "a learner's state must be written and read in full"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerIdentity:
    """What must agree between the learner that saved and the one that loads; ranks may differ where the engine can.

    Args:
        model: of the starting policy, see `model_identity`.
        lora: without what does not change training.
    """

    engine: str
    num_ranks: int
    dtype: str
    model: str
    lora: LoraConfig


def learner_identity(config: LearnerConfig, model_path: str) -> LearnerIdentity:
    lora = dataclasses.replace(config.lora, publish="merged") if config.lora.rank else LoraConfig()
    return LearnerIdentity(
        engine=config.engine,
        num_ranks=config.num_ranks,
        dtype=config.dtype,
        model=model_identity(model_path),
        lora=lora,
    )


def model_identity(model_path: str) -> str:
    """Tells starting models apart, wherever they lie: a hash of names, sizes and both ends of the files that hold the
    configuration and the weights. A model that is no folder goes by its name.
    """
    folder = Path(model_path)
    if not folder.is_dir():
        return model_path
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name == "config.json" or path.suffix in (".safetensors", ".bin"):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(SAMPLED_BYTES))
                file.seek(max(0, size - SAMPLED_BYTES))
                digest.update(file.read())
    return f"sha256:{digest.hexdigest()}"


def save_state(engine: TrainEngine, identity: LearnerIdentity, root: Path, rank: int) -> tuple[StoredFile, ...]:
    """Write everything under `root` to stable storage; hashing is shared by the ranks. Collective.

    Returns:
        Every file, the same on all ranks.
    Raises:
        CheckpointError: a file could not be written, or `root` is not empty; on every rank.
    """
    gather = engine.gather_objects
    together(gather, lambda: _make_empty(root) if rank == 0 else None)
    written = together(gather, lambda: (*engine.save(root), _save_random_state(engine.device, root, rank)))
    names = sorted(name for part in written for name in part)
    mine = names[rank :: identity.num_ranks]
    hashed = together(gather, lambda: tuple(stored_file(root, name) for name in mine))
    files = sorted((each for part in hashed for each in part), key=lambda each: each.path)
    header = together(gather, lambda: _write_header(identity, files, root) if rank == 0 else None)[0]
    assert header is not None, "rank 0 wrote it"
    return (header, *files)


def load_state(engine: TrainEngine, identity: LearnerIdentity, root: Path, rank: int) -> None:
    """Restore what `save_state` wrote. Collective.

    A rank that has no predecessor takes over the random state of another: with other ranks a run cannot be the same
    bit for bit.

    Raises:
        CheckpointError: the save did not end, a file is missing or cut short, or another kind of learner wrote it; on
            every rank, and nothing was restored.
    """
    gather = engine.gather_objects
    saved = together(gather, lambda: read_identity(root))[0]
    together(gather, lambda: _check_fits(saved, identity, root))
    engine.load(root, saved.num_ranks)
    states = torch.load(root / _random_state_file(rank % saved.num_ranks), weights_only=True)
    torch.set_rng_state(states["cpu"])
    if engine.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], engine.device)


def read_identity(root: Path) -> LearnerIdentity:
    """Which learner saved this.

    Raises:
        CheckpointError: the save did not end, its header is damaged, or a file is missing or cut short.
    """
    path = root / HEADER_FILE
    if not path.is_file():
        raise CheckpointError(f"a saved learner must hold {HEADER_FILE}, which is written last; none in {root}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        lora = header["identity"].pop("lora")
        identity = LearnerIdentity(**header["identity"], lora=LoraConfig(**{**lora, "targets": tuple(lora["targets"])}))
        sizes: dict[str, int] = dict(header["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{HEADER_FILE} must be as it was written, found {error!r} ({root})") from error
    for name, num_bytes in sizes.items():
        if not (root / name).is_file():
            raise CheckpointError(f"a saved learner must hold all its files, {name} is missing ({root})")
        found = (root / name).stat().st_size
        if found != num_bytes:
            raise CheckpointError(f"{name} must have {num_bytes} bytes, found {found} ({root})")
    return identity


class _Sink:
    """Hands bytes on and keeps the first failure, which torch turns into a RuntimeError that does not name it."""

    failure: OSError | None = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_tensors(path: Path, content: object) -> None:
    """Write with torch, to stable storage.

    Raises:
        OSError: naming the file.
    """
    try:
        with path.open("wb") as file:
            sink = _Sink(file)
            try:
                torch.save(content, sink)
            except RuntimeError as error:
                raise sink.failure or error from error
            _to_disk(file.fileno(), file.flush)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def together(gather: Callable[[Any], list[Any]], work: Callable[[], T], rule: str = RULE) -> list[T]:
    """Do `work` on every rank; all results in rank order. Where one rank fails all raise the same, so none waits.

    `work` may itself be collective as long as a failure comes after its last collective call.

    Raises:
        CheckpointError: `work` raised it, or OSError, on some rank.
    """
    result, cause = None, ""
    try:
        result = work()
    except CheckpointError as error:
        cause = str(error)
    except OSError as error:
        cause = f"{rule}, failed with: {error.strerror} ({error.filename})"
    outcomes = gather((result, cause))
    failed = [cause for _, cause in outcomes if cause]
    if failed:
        raise CheckpointError(failed[0])
    return [cast(T, result) for result, _ in outcomes]


def _make_empty(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in root.iterdir())
    if found:
        raise CheckpointError(f"a learner must be saved into an empty directory, found {found[0]} in {root}")


def _check_fits(saved: LearnerIdentity, identity: LearnerIdentity, root: Path) -> None:
    keys = {"engine": "learner.engine", "dtype": "learner.dtype", "lora": "learner.lora", "model": "model.path"}
    for name, key in keys.items():
        found, wanted = getattr(saved, name), getattr(identity, name)
        if found != wanted:
            raise CheckpointError(
                f"a saved learner goes on with the {name} that saved it: saved with {found}, this run has {wanted} "
                f"({root}); set {key} back, or export the saved policy and start a new run from it"
            )


def _write_header(identity: LearnerIdentity, files: list[StoredFile], root: Path) -> StoredFile:
    header = {"identity": dataclasses.asdict(identity), "files": {each.path: each.num_bytes for each in files}}
    path = root / HEADER_FILE
    try:
        with path.open("w", encoding="utf-8") as file:
            json.dump(header, file, indent=2)
            _to_disk(file.fileno(), file.flush)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    for folder in sorted({root, *((root / each.path).parent for each in files)}):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return stored_file(root, HEADER_FILE)


def _save_random_state(device: torch.device, root: Path, rank: int) -> str:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    name = _random_state_file(rank)
    write_tensors(root / name, states)
    return name


def _random_state_file(rank: int) -> str:
    return f"random-{rank:05d}.pt"


def _to_disk(descriptor: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(descriptor)
