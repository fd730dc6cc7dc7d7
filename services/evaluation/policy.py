"""The policy that an evaluation asks: a model's folder or name, or what a run has trained."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import xxhash

from services.checkpoints.export import export
from services.checkpoints.manifest import MANIFEST_FILE
from services.checkpoints.store import CheckpointStore
from services.run_dir import CHECKPOINTS_DIR, EXPORTS_DIR, POLICY_DIR, RECIPE_FILE
from shaping.errors import UserError

_NUM_WINDOWS, _WINDOW_BYTES = 64, 1 << 16
_MODEL_SUFFIXES = (".safetensors", ".bin", ".json", ".jinja", ".model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the engines are to load.

    Args:
        path: a folder, absolute, or a Hugging Face name.
        label: for a person: "step-000010" of a run, "policy" for its last, "" for a model.
        run_dir: of the run that trained it; None for a model.
    """

    path: str
    label: str
    run_dir: Path | None

    @property
    def weights(self) -> str:
        """Stands for weights, configs and tokenizer; "" for a name, whose files are not known before they are loaded.

        Of each file its size and places all over it are read, not gigabytes: an adapter changes some tensors only.
        """
        folder = Path(self.path)
        if not folder.is_absolute():
            return ""
        digest = xxhash.xxh3_64()
        for file in sorted(each for each in folder.iterdir() if each.suffix in _MODEL_SUFFIXES):
            size = file.stat().st_size
            digest.update(f"{file.name} {size} ".encode())
            with file.open("rb") as opened:
                for offset in range(0, size, max(_WINDOW_BYTES, size // _NUM_WINDOWS)):
                    opened.seek(offset)
                    digest.update(opened.read(_WINDOW_BYTES))
        return f"xxh3:{digest.hexdigest()}"


def find_policy(target: str, checkpoint: str) -> Policy:
    """What `lessrl evaluate` names.

    Args:
        target: a run's directory, a model's folder, or a Hugging Face name.
        checkpoint: of a run: its policy is exported below the run's directory; "" takes the policy that a finished run
            has exported.
    Raises:
        UserError: neither of these, a run without a policy, or a checkpoint of something else.
        CheckpointError: no such checkpoint, or a damaged one.
    """
    path = Path(target).expanduser()
    if (path / RECIPE_FILE).is_file():
        return _of_run(path.resolve(), checkpoint)
    if checkpoint:
        raise UserError(f"--from needs a run's directory, found no {RECIPE_FILE} in it ({target})")
    if (path / "config.json").is_file():
        return Policy(path=str(path.resolve()), label="", run_dir=None)
    if path.exists() or target.startswith((".", "/", "~")):
        raise UserError(f"a policy must be a run's directory or a model's folder, found neither ({target})")
    return Policy(path=target, label="", run_dir=None)


def _of_run(run_dir: Path, checkpoint: str) -> Policy:
    if not checkpoint:
        folder = run_dir / POLICY_DIR
        if not (folder / "config.json").is_file():
            raise UserError(f"a finished run has exported its policy, found none ({folder}); name a checkpoint, --from")
        return Policy(path=str(folder), label="policy", run_dir=run_dir)
    found = CheckpointStore(run_dir / CHECKPOINTS_DIR).get(checkpoint).checkpoint
    name = found.name
    # A run that went back to an earlier checkpoint writes another one under this name.
    digest = hashlib.sha256((found.path / MANIFEST_FILE).read_bytes()).hexdigest()
    folder = run_dir / EXPORTS_DIR / f"{name}-{digest[:8]}"
    if not folder.exists():
        # Written aside: a process that dies leaves no folder that looks whole.
        aside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        export(run_dir, name, aside)
        aside.rename(folder)
    return Policy(path=str(folder), label=name, run_dir=run_dir)
