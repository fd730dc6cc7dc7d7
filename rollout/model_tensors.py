"""What tensors a model folder holds in safetensors, read from headers alone. No torch."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from shaping.errors import DataError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor by the tensor's name.

    Raises:
        DataError: the folder holds no safetensors, or an index or file that cannot be read.
    """
    index, single = folder / INDEX_FILE, folder / SINGLE_FILE
    if index.is_file():
        try:
            return {name: folder / file for name, file in json.loads(index.read_text())["weight_map"].items()}
        except (ValueError, KeyError) as error:
            raise DataError(f"a safetensors index must be JSON with a weight_map: {error} ({index})") from error
    if not single.is_file():
        raise DataError(f"model.path must hold {SINGLE_FILE} or {INDEX_FILE}, found neither in {folder}")
    return dict.fromkeys(tensor_shapes(single), single)


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of one safetensors file.

    Raises:
        DataError: not there, or not safetensors.
    """
    try:
        with safe_open(file, framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} must be a safetensors file: {error}") from error


def model_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a model folder.

    Raises:
        DataError: as `tensor_files` and `tensor_shapes`.
    """
    files = sorted(set(tensor_files(folder).values()))
    return {name: shape for file in files for name, shape in tensor_shapes(file).items()}
