"""YAML as recipes and their layers write it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from services.plain_data import plain_data
from shaping.errors import RecipeError

HEADER = "# layers: "


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-6 is a number, which YAML 1.1 reads as text, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """One YAML value.

    Raises:
        yaml.YAMLError: not YAML, or a key that stands twice.
    """
    return yaml.load(text, Loader=_Loader)


def yaml_fault(error: Exception) -> str:
    """What is wrong with a text that is no YAML, in one line."""
    return " ".join(str(error).replace('in "<unicode string>", line', "in line").split())


def read_mapping(text: str, where: str, *, called: str = "a recipe") -> dict[str, Any]:
    """The keys of a YAML file's text.

    Args:
        called: what the text should be, for messages.
    Raises:
        RecipeError: no YAML, or no mapping.
    """
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{called} must be valid YAML: {yaml_fault(error)} ({where})") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{called} must be a mapping of keys, found {type(raw).__name__} ({where})")
    return raw


def read_text(path: Path, *, called: str = "a recipe") -> str:
    """The text of a file that is there.

    Raises:
        RecipeError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{called} must be valid YAML: {' '.join(str(error).split())} ({path})") from error


def layers_header(layers: Sequence[Path | str]) -> str:
    """The line that says in a run's recipe which layers were merged into it; "" without any."""
    return f"{HEADER}{', '.join(' '.join(str(each).split()) for each in layers)}\n" if layers else ""


def header_of(text: str) -> str:
    """That line of a recipe's text, or ""."""
    first = text.partition("\n")[0]
    return f"{first}\n" if first.startswith(HEADER) else ""


def recipe_text(recipe: Mapping[str, Any], header: str = "") -> str:
    """Keys as the YAML of a recipe, behind the line that names its layers."""
    return header + yaml.safe_dump(plain_data(recipe), sort_keys=False, allow_unicode=True)
