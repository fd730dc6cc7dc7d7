"""docs/recipes.md, made from the config classes themselves: every key, its type, its default and what it means."""

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from typing import Any

from services.recipe import Recipe
from shaping.components import ComponentSpec

HEAD = """\
# Every key of a recipe

Made by `python -m services.recipe_reference > docs/recipes.md`; a test compares. A key without a default must be given.
`kind` names a plug-in file; its options stand beside `kind`. Relative paths start at the recipe's folder.
"""

TYPE_NAMES = {
    "ComponentSpec": "kind",
    "EntropySource": "`raw` or `processed`",
    "RewardConfig": "kind",
    "bool": "`true` or `false`",
    "float": "number",
    "int": "whole number",
    "str": "text",
}

PLUGIN_FOLDERS = {
    "data.train": "rollout/sources",
    "data.evaluation": "rollout/sources",
    "rollout.prompt_template": "rollout/templates",
    "rollout.plan": "rollout/plans",
    "rollout.selector": "rollout/selectors",
    "rollout.memory": "shaping/memories",
    "rollout.sampling.temperature": "shaping/schedules",
    "shaping.rewards": "shaping/rewards",
    "shaping.transforms": "shaping/transforms",
    "shaping.estimator": "shaping/estimators",
    "shaping.shapers": "shaping/shapers",
    "learner.loss": "learner/losses",
    "learner.token_plans": "learner/token_plans",
    "learner.regularisers": "learner/regularisers",
    "learner.optimizer.learning_rate": "shaping/schedules",
    "run.admission": "rollout/admissions",
    "run.loggers": "services/loggers",
}


def reference() -> str:
    """The whole page."""
    parts = [HEAD, "| key | default |", "|---|---|"]
    parts += [f"| `{name}` | {default} |" for name, _, default in _fields(Recipe) if default != "section"]
    for path, owner, section in _sections("", Recipe):
        summary, meanings = read_docstring(inspect.getdoc(owner) or "")
        parts += ["", f"## {path}", "", summary, "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for name, hint, default in _fields(owner, section):
            if default == "section":
                continue
            folder = PLUGIN_FOLDERS.get(f"{path}.{name}")
            meaning = meanings.get(name, "") + (f" A kind of `{folder}`." if folder else "")
            parts.append(f"| `{name}` | {_type_name(hint)} | {default} | {meaning.strip()} |")
    return "\n".join(parts) + "\n"


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The part before `Args:` on one line, and the meaning of each argument."""
    head, _, body = text.partition("Args:")
    meanings: dict[str, str] = {}
    current: list[str] = []
    for line in body.splitlines():
        found = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if found:
            current = found.group(1).split(", ")
            meanings.update(dict.fromkeys(current, found.group(2).strip()))
        elif not line.startswith(" "):
            current = []
            if line.strip():
                break
        elif line.startswith("        ") and current:
            meanings.update({name: f"{meanings[name]} {line.strip()}" for name in current})
    return " ".join(head.split()), meanings


def _sections(path: str, owner: Any, section: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Path, class, and the section as its owner has it by default; None where that is what the class says."""
    for name, hint, default in _fields(owner):
        if default == "section":
            inner = f"{path}.{name}" if path else name
            value = _default_of(section or owner, name)
            yield inner, hint, value
            yield from _sections(inner, hint, value)


def _default_of(owner: Any, name: str) -> Any:
    if owner is Recipe:
        info = Recipe.model_fields[name]
        return None if info.is_required() else info.get_default(call_default_factory=True)
    if not isinstance(owner, type):
        return getattr(owner, name)
    value = next(_default(each) for each in dataclasses.fields(owner) if each.name == name)
    return None if value is dataclasses.MISSING else value


def _fields(owner: Any, section: Any = None) -> list[tuple[str, Any, str]]:
    hints = typing.get_type_hints(owner)
    if owner is Recipe:
        pairs = [(name, info.get_default(call_default_factory=True)) for name, info in Recipe.model_fields.items()]
        required = {name for name, info in Recipe.model_fields.items() if info.is_required()}
    else:
        fields = dataclasses.fields(owner)
        pairs = [(each.name, _default(each)) for each in fields]
        required = {name for name, value in pairs if value is dataclasses.MISSING}
        pairs = [(name, getattr(section, name, value)) for name, value in pairs]
    return [(name, hints[name], _shown(hints[name], value, is_required=name in required)) for name, value in pairs]


def _default(each: Any) -> Any:
    return each.default if each.default_factory is dataclasses.MISSING else each.default_factory()


def _shown(hint: Any, value: Any, *, is_required: bool) -> str:
    if dataclasses.is_dataclass(hint) and hint is not ComponentSpec:
        return "section"
    if is_required:
        return "must be given"
    if isinstance(value, ComponentSpec):
        return f"`{value.kind}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{getattr(each, 'kind', each)}`" for each in value) or "none"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{each}`" for each in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"list of {_type_name(typing.get_args(hint)[0])}"
    options = typing.get_args(hint)
    if options:
        return " or ".join(_type_name(each) for each in options if each is not type(None))
    name: str = hint.__name__
    return TYPE_NAMES.get(name, name)


if __name__ == "__main__":
    sys.stdout.write(reference())
