"""Paths that a recipe names relative to its own file, made absolute. Knows which keys hold paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def resolve_path(path: str, base_dir: Path) -> str:
    """A path stays a path when it looks like one; anything else is a Hugging Face name."""
    if path.startswith(("./", "../", "/", "~")):
        return str((base_dir / Path(path).expanduser()).resolve())
    return path


def resolve_options(kind: object, options: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    """Options of a data source with their `path` resolved, and those of the sources of a mixture; a hub's stay."""
    resolved = dict(options)
    if kind != "hub" and isinstance(options.get("path"), str):
        resolved["path"] = str((base_dir / Path(options["path"]).expanduser()).resolve())
    if isinstance(options.get("sources"), list):
        resolved["sources"] = [
            resolve_options(each.get("kind"), each, base_dir) if isinstance(each, Mapping) else each
            for each in options["sources"]
        ]
    return resolved


def resolve_benchmark(benchmark: str, base_dir: Path) -> str:
    """A name, or `name=path`."""
    name, separator, path = benchmark.partition("=")
    return f"{name}={(base_dir / Path(path).expanduser()).resolve()}" if separator else benchmark


def resolve_raw(raw: Mapping[str, Any], base_dir: Path, *, kinds: Mapping[str, object]) -> dict[str, Any]:
    """Keys as YAML gave them, their paths resolved; what is of a wrong type stays for the recipe to refuse.

    Args:
        kinds: of the sources at data.train and data.evaluation where `raw` changes options of theirs alone.
    """
    resolved = dict(raw)
    model, data, evaluation = (raw.get(name) for name in ("model", "data", "evaluation"))
    if isinstance(model, Mapping) and isinstance(model.get("path"), str):
        resolved["model"] = {**model, "path": resolve_path(model["path"], base_dir)}
    if isinstance(data, Mapping):
        resolved["data"] = {
            key: resolve_options(value.get("kind", kinds.get(str(key))), value, base_dir)
            if isinstance(value, Mapping)
            else value
            for key, value in data.items()
        }
    if isinstance(evaluation, Mapping):
        resolved["evaluation"] = {
            key: [resolve_benchmark(each, base_dir) if isinstance(each, str) else each for each in value]
            if key in ("benchmarks", "benchmarks+") and isinstance(value, list)
            else value
            for key, value in evaluation.items()
        }
    return resolved
