"""Whether a checkpoint that a run says it has committed is on the disk, as far as this host can see."""

from pathlib import Path

from services.checkpoints.manifest import MANIFEST_FILE, parse_manifest
from services.run_dir import CHECKPOINTS_DIR
from shaping.errors import CheckpointError


def doubt_of(run_dir: Path, name: str) -> str:
    """Why a checkpoint cannot be believed in; "" where its manifest is whole, or its place is not to be seen here.

    Args:
        name: as the run said.
    """
    root = run_dir / CHECKPOINTS_DIR
    if not name:
        return f"a committed checkpoint must be named, the run said {name!r}"
    try:
        names = {each.name for each in root.iterdir()}
    except OSError:
        # Another host's disk: what the run says is all that there is.
        return "" if not run_dir.is_dir() else f"a committed checkpoint must be in {CHECKPOINTS_DIR}/, found none there"
    manifest = root / name / MANIFEST_FILE
    if name not in names or not manifest.is_file():
        return f"a committed checkpoint must have a manifest, found none of {name} in {CHECKPOINTS_DIR}/"
    try:
        found = parse_manifest(manifest.read_bytes(), f"{name}/{MANIFEST_FILE}")
    except (OSError, CheckpointError) as error:
        return f"the manifest of {name} cannot be used: {error}"
    return "" if found.name == name else f"the manifest of {name} must name it, it names {found.name}"
