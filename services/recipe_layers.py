"""Layers: small YAML files that change keys of a base recipe (`--with FILE`), as methods of deploy/recipes/methods do.

A mapping merges key by key; a plug-in (a mapping with `kind`, or a kind alone), a list and a value take the place of
what stood there; `name+` appends to a list. All layers set their keys first and append then: their order is the order
of what they append, and nothing else, for two layers that set one key differently are refused. An empty list
contradicts no layer, since it speaks of the base recipe alone: nothing of what stood there.
"""

import copy
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from services.recipe_keys import field_types, members, section_of, unknown_key
from services.recipe_paths import resolve_raw
from services.recipe_yaml import read_mapping, read_text, read_yaml
from shaping.components import ComponentSpec
from shaping.config import RewardConfig
from shaping.errors import RecipeError

CALLED = "a layer"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What a layer does with one key.

    Args:
        key: from the top of the recipe down.
        appends: to the list there; else it takes the place of what stood there.
        layer: its name as the user wrote it.
    """

    key: tuple[str, ...]
    value: Any
    appends: bool
    layer: str

    @property
    def dotted(self) -> str:
        return ".".join(self.key)


def find_layer(layer: Path, base: Path) -> Path:
    """The file of a layer: as given, or beside the base recipe.

    Raises:
        RecipeError: neither is a file.
    """
    beside = base.parent / layer
    for each in (layer, beside):
        if each.is_file():
            return each
    places = " nor ".join(dict.fromkeys(map(str, (layer, beside))))
    raise RecipeError(f"{CALLED} must be a YAML file, found no file {places}; see deploy/recipes/methods for some")


def merge_layers(
    base: Mapping[str, Any],
    layers: Sequence[Path],
    *,
    base_path: Path,
    owner: type[BaseModel],
    decided: Collection[str] = (),
) -> dict[str, Any]:
    """The keys of a recipe with those of its layers.

    Args:
        base: as YAML gave them.
        owner: the recipe's class, which says what keys there are and where plug-ins stand.
        decided: dotted keys that the caller sets afterwards; layers may differ on them.
    Returns:
        Keys as YAML would give them; paths out of layers are absolute, those of the base stay.
    Raises:
        RecipeError: one line, which names the layer, for a file that is none, a key that is none, a layer given
            twice, two layers that contradict each other, or an item that stands in its list already.
    """
    changes: list[list[_Change]] = []
    found: dict[Path, str] = {}
    for layer in layers:
        path = find_layer(layer, base_path).resolve()
        if path in found:
            raise RecipeError(f"{CALLED} must be given once, got {layer} after {found[path]}; leave one of them out")
        found[path] = str(layer)
        raw = _read(path, str(layer), owner)
        raw = resolve_raw(raw, path.parent, kinds=_source_kinds(base))
        changes.append(list(_changes(raw, owner, (), str(layer))))
    for ours, theirs in combinations(changes, 2):
        _refuse_contradictions(ours, theirs, decided)
    merged = copy.deepcopy(dict(base))
    every = [each for one in changes for each in one]
    # An empty list first: it clears what the base holds, not what another layer puts there.
    for change in sorted((each for each in every if not each.appends), key=lambda each: each.value != []):
        _section(merged, change, owner)[change.key[-1]] = change.value
    authors: dict[tuple[str, ...], list[str]] = {}
    for change in (each for each in every if each.appends):
        _append(merged, change, owner, authors, base_path)
    return merged


def _read(path: Path, layer: str, owner: type[BaseModel]) -> dict[str, Any]:
    text = read_text(path, called=CALLED)
    if not text.strip() or _is_empty(text):
        raise RecipeError(f"{CALLED} must set a key of a recipe, found none; remove it from --with ({layer})")
    raw = read_mapping(text, layer, called=CALLED)
    _check_keys(raw, owner, owner, (), layer)
    return raw


def _is_empty(text: str) -> bool:
    try:
        return read_yaml(text) in (None, {})
    except yaml.YAMLError:
        return False


def _source_kinds(base: Mapping[str, Any]) -> dict[str, object]:
    data = base.get("data")
    sources = data.items() if isinstance(data, Mapping) else ()
    return {str(name): value.get("kind") if isinstance(value, Mapping) else value for name, value in sources}


def _bare(key: object) -> str:
    return str(key).removesuffix("+")


def _holds_plugin(hint: Any) -> bool:
    return any(each in (ComponentSpec, RewardConfig) for each in members(hint))


def _check_keys(raw: Mapping[Any, Any], top: Any, owner: Any, above: tuple[str, ...], layer: str) -> None:
    known = field_types(owner)
    for key, value in raw.items():
        place = (*above, _bare(key))
        if place[-1] not in known:
            raise RecipeError(unknown_key(top, place, layer))
        hint = known[place[-1]]
        section = None if _holds_plugin(hint) else section_of(hint)
        if str(key).endswith("+") and not isinstance(value, list):
            raise RecipeError(f"{key} must be a list, to append, got {value!r} ({'.'.join(place)} in {layer})")
        if section is not None and isinstance(value, Mapping):
            _check_keys(value, top, section, place, layer)


def _changes(raw: Mapping[Any, Any], owner: Any, above: tuple[str, ...], layer: str) -> Iterator[_Change]:
    """One for each key that is no section; of a plug-in whose kind is left alone, one for each option."""
    for key, value in raw.items():
        place = (*above, _bare(key))
        if str(key).endswith("+"):
            yield _Change(key=place, value=value, appends=True, layer=layer)
        elif isinstance(value, Mapping) and "kind" not in value:
            yield from _changes(value, owner, place, layer)
        else:
            yield _Change(key=place, value=value, appends=False, layer=layer)


def _refuse_contradictions(ours: Sequence[_Change], theirs: Sequence[_Change], decided: Collection[str]) -> None:
    for one in ours:
        for other in theirs:
            if _contradict(one, other) and not any(_is_within(one, key) or _is_within(other, key) for key in decided):
                key = min(one.dotted, other.dotted, key=len)
                raise RecipeError(
                    f"two layers must not differ on a key: {one.layer} sets {one.dotted}, {other.layer} sets "
                    f"{'it too' if one.key == other.key else other.dotted}; leave one of them out, or decide with "
                    f"--set {key}=..."
                )


def _contradict(one: _Change, other: _Change) -> bool:
    if one.appends or other.appends:
        return False
    if one.key == other.key:
        return [] not in (one.value, other.value) and _spelled_out(one.value) != _spelled_out(other.value)
    length = min(len(one.key), len(other.key))
    return one.key[:length] == other.key[:length]


def _is_within(change: _Change, key: str) -> bool:
    parts = tuple(key.split("."))
    return change.key[: len(parts)] == parts


def _spelled_out(value: Any) -> Any:
    """A plug-in without options equals its kind alone."""
    if isinstance(value, list):
        return [_spelled_out(each) for each in value]
    return {"kind": value} if isinstance(value, str) else value


def _section(merged: dict[str, Any], change: _Change, owner: type[BaseModel]) -> dict[str, Any]:
    """The mapping that holds the last name of a key; where nobody wrote it, the default plug-in, or a new one."""
    node = merged
    for depth, parent in enumerate(change.key[:-1], start=1):
        child = node[parent] if parent in node else _default(owner, change.key[:depth])
        if isinstance(child, str):
            child = {"kind": child}
        if not isinstance(child, Mapping | None):
            raise RecipeError(f"{change.dotted} cannot be set: {parent} is not a mapping ({change.layer})")
        node[parent] = node = dict(child or {})
    return node


def _append(
    merged: dict[str, Any],
    change: _Change,
    owner: type[BaseModel],
    authors: dict[tuple[str, ...], list[str]],
    base_path: Path,
) -> None:
    node, last = _section(merged, change, owner), change.key[-1]
    standing = node[last] if last in node else _default(owner, change.key)
    if not isinstance(standing, list):
        raise RecipeError(f"only a list can be appended to, {change.dotted} is none; write {last} ({change.layer})")
    standing = list(standing)
    who = authors.setdefault(change.key, [str(base_path)] * len(standing))
    for item in change.value:
        spelled = [_spelled_out(each) for each in standing]
        if _spelled_out(item) in spelled:
            other = who[spelled.index(_spelled_out(item))]
            raise RecipeError(
                f"an item must not stand twice in a list, got {_named(item)} with the same options from {other} and "
                f"{change.layer}; leave one of them out ({change.dotted})"
            )
        standing.append(item)
        who.append(change.layer)
    node[last] = standing


def _named(item: Any) -> str:
    return str(item.get("kind", item)) if isinstance(item, Mapping) else str(item)


def _default(owner: Any, key: Sequence[str]) -> Any:
    """What a key holds that nobody wrote, as YAML would give it; None for a section, and where there is no default."""
    *parents, last = key
    for parent in parents:
        owner = section_of(field_types(owner).get(parent))
        if owner is None:
            return None
    field = next((each for each in dataclasses.fields(owner) if each.name == last), None) if parents else None
    if field is None or field.default is field.default_factory is dataclasses.MISSING:
        return None
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(value, tuple):
        return [_item(each) for each in value]
    item = _item(value)
    return None if dataclasses.is_dataclass(item) else item


def _item(value: Any) -> Any:
    if isinstance(value, RewardConfig):
        return {"kind": value.kind, "weight": value.weight, **value.options}
    return {"kind": value.kind, **value.options} if isinstance(value, ComponentSpec) else value
