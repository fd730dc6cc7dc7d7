"""A recipe: everything a run needs, read from one YAML file and checked key by key.

Only config files are imported here, so that reading a recipe needs neither torch nor Ray. What the values mean together
is the business of services/plan.py.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from learner.config import LearnerConfig
from rollout.config import RolloutConfig
from services.recipe_keys import field_types, members, unknown_key
from services.recipe_layers import merge_layers
from services.recipe_paths import resolve_benchmark, resolve_options, resolve_path
from services.recipe_sections import (
    ClusterConfig,
    ControlConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    RunConfig,
)
from services.recipe_yaml import read_mapping, read_text
from shaping.components import ComponentSpec, parse_spec
from shaping.config import RewardConfig, ShapingConfig
from shaping.errors import RecipeError

PLAIN_MESSAGES = {
    "dataclass_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "int_from_float": "must be a valid integer",
}


class Recipe(BaseModel):
    """The whole of it. Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seed: int = Field(default=0, ge=0)
    model: ModelConfig
    data: DataConfig
    rollout: RolloutConfig
    shaping: ShapingConfig = ShapingConfig()
    learner: LearnerConfig = LearnerConfig()
    run: RunConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    control: ControlConfig = ControlConfig()

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, base_dir: Path, where: str) -> Self:
        """Check a mapping; relative paths are resolved against `base_dir`.

        Raises:
            RecipeError: one line for the first wrong key or value.
        """
        types_of_keys = field_types(cls)
        prepared = {
            str(key): _prepare(value, types_of_keys.get(str(key)), str(key), where) for key, value in raw.items()
        }
        try:
            recipe = cls.model_validate(prepared)
        except ValidationError as error:
            raise RecipeError(_explain(cls, error, where)) from error
        return recipe.model_copy(update=_resolved_paths(recipe, base_dir))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, every default written out; parses back to an equal recipe."""
        plain: dict[str, Any] = _plain(self.model_dump())
        return plain

    @property
    def max_sequence_tokens(self) -> int:
        """Longest prompt + response that an engine must hold."""
        return self.rollout.max_prompt_tokens + self.rollout.sampling.max_response_tokens

    @property
    def content_hash(self) -> str:
        text = json.dumps(self.as_dict(), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None, *, layers: Sequence[Path] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        overrides: dotted keys ("run.steps") to values; they win over layers.
        layers: YAML files that change keys of the recipe, each as given or beside it; see services/recipe_layers.py.
    Raises:
        RecipeError: missing or unreadable file, a layer that cannot be merged, or anything `Recipe.parse` refuses.
    """
    where = f"{path} with {', '.join(map(str, layers))}" if layers else str(path)
    raw = read_layered(path, layers, decided=tuple(overrides or ()))
    return _parse(raw, overrides, base_dir=path.parent.resolve(), where=where)


def read_layered(path: Path, layers: Sequence[Path] = (), *, decided: Collection[str] = ()) -> dict[str, Any]:
    """The keys of a recipe file with those of its layers, as YAML gives them; values are not checked.

    Args:
        decided: dotted keys that the caller sets afterwards; layers may differ on them.
    Raises:
        RecipeError: missing or unreadable file, or a layer that cannot be merged.
    """
    if not path.is_file():
        raise RecipeError(f"a recipe must be a YAML file, found no file {path}; see deploy/recipes for some")
    raw = read_mapping(read_text(path), str(path))
    return merge_layers(raw, layers, base_path=path, owner=Recipe, decided=decided) if layers else raw


def read_recipe(text: str, overrides: Mapping[str, Any] | None = None, *, base_dir: Path, where: str) -> Recipe:
    """Read the text of a recipe; relative paths are resolved against `base_dir`.

    Raises:
        RecipeError: no YAML mapping, or anything `Recipe.parse` refuses.
    """
    return _parse(read_mapping(text, where), overrides, base_dir=base_dir, where=where)


def _parse(raw: dict[str, Any], overrides: Mapping[str, Any] | None, *, base_dir: Path, where: str) -> Recipe:
    for key, value in (overrides or {}).items():
        _set_dotted(raw, key, value)
    return Recipe.parse(raw, base_dir=base_dir, where=where)


def _set_dotted(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise RecipeError(f"{key} cannot be set: {parent} is not a mapping")
    node[last] = value


def _prepare(value: Any, hint: Any, key: str, where: str) -> Any:
    """Turn what a recipe writes as `{kind: ..., option: ...}` into component specs, at any depth."""
    if hint is None:
        return value
    options = members(hint)
    if isinstance(value, bool) and bool not in options and (int in options or float in options):
        raise RecipeError(f"must be a number, got {value!r} ({key} in {where})")
    if float in options and isinstance(value, str) and _is_number(value):
        return float(value)
    if ComponentSpec in options and isinstance(value, Mapping | str):
        return parse_spec(value, f"{key} in {where}")
    for option in options:
        if option is RewardConfig and isinstance(value, Mapping | str):
            return _reward(value, f"{key} in {where}")
        if typing.get_origin(option) is tuple and isinstance(value, list):
            item = typing.get_args(option)[0]
            return [_prepare(each, item, f"{key}.{index}", where) for index, each in enumerate(value)]
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            inner = field_types(option)
            return {
                str(name): _prepare(each, inner.get(str(name)), f"{key}.{name}", where) for name, each in value.items()
            }
    return value


def _is_number(text: str) -> bool:
    """Whether a string is a number to a person: YAML reads 1e-6, without a dot, as a string."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reward(value: Mapping[str, Any] | str, where: str) -> RewardConfig:
    spec = parse_spec(value, where)
    options = dict(spec.options)
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise RecipeError(f"weight must be a number, got {weight!r} ({where})")
    return RewardConfig(kind=spec.kind, weight=float(weight), options=options)


def _resolved_paths(recipe: Recipe, base_dir: Path) -> dict[str, Any]:
    data = recipe.data
    evaluation = _resolve_spec(data.evaluation, base_dir) if data.evaluation else None
    return {
        "model": dataclasses.replace(recipe.model, path=resolve_path(recipe.model.path, base_dir)),
        "data": DataConfig(train=_resolve_spec(data.train, base_dir), evaluation=evaluation),
        "evaluation": _resolved_evaluation(recipe.evaluation, base_dir),
    }


def _resolved_evaluation(evaluation: EvaluationConfig, base_dir: Path) -> EvaluationConfig:
    return dataclasses.replace(
        evaluation,
        benchmarks=tuple(resolve_benchmark(each, base_dir) for each in evaluation.benchmarks),
    )


def _resolve_spec(spec: ComponentSpec, base_dir: Path) -> ComponentSpec:
    return dataclasses.replace(spec, options=resolve_options(spec.kind, spec.options, base_dir))


def _explain(cls: type[Recipe], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    # Where a number may also be a schedule, pydantic adds the type that it tried to the place.
    keys = [str(part) for part in first["loc"] if part not in ("float", "ComponentSpec")]
    place = f"{'.'.join(keys)} in {where}"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_key(cls, keys, where)
    if first["type"] == "missing":
        return f"{keys[-1]} must be given ({place})"
    if first["type"] == "value_error":
        return f"{first['msg'].removeprefix('Value error, ')} ({place})"
    message = PLAIN_MESSAGES.get(first["type"], first["msg"].replace("Input should be", "must be", 1))
    return f"{message}, got {first['input']!r} ({place})"


def _plain(value: Any) -> Any:
    """Data as YAML would hold it: specs become `{kind, ...options}`, tuples lists, enums their values."""
    if isinstance(value, Mapping):
        if set(value) == {"kind", "options"}:
            return {"kind": value["kind"], **_plain(value["options"])}
        if set(value) == {"kind", "weight", "options"}:
            return {"kind": value["kind"], "weight": value["weight"], **_plain(value["options"])}
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value.value if hasattr(value, "value") and not isinstance(value, int | float) else value
