"""docs/methods.md, made from the presets in deploy/recipes/methods and from the plug-in files' own docstrings."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from services.plugin_source import Option, PluginSource, package_summary, read_plugins
from services.plugins import check_conflicts
from services.recipe import load_recipe
from services.recipe_reference import PLUGIN_FOLDERS
from services.recipe_yaml import read_mapping
from shaping.errors import RecipeError

RECIPES = Path(__file__).resolve().parents[1] / "deploy" / "recipes"
BASE = RECIPES / "quickstart.yaml"

FOLDERS = (
    "rollout.selectors",
    "rollout.plans",
    "rollout.admissions",
    "shaping.memories",
    "shaping.rewards",
    "shaping.transforms",
    "shaping.estimators",
    "shaping.shapers",
    "learner.token_plans",
    "learner.losses",
    "learner.regularisers",
)
"""In the order of a step. Sources, templates, schedules and loggers are no methods, and have pages of their own."""

HEAD = """\
# Methods

Made by `python -m services.method_reference > docs/methods.md`; a test compares.

A preset is a small file in `deploy/recipes/methods` that puts one method on any base recipe:

```sh
lessrl train deploy/recipes/quickstart.yaml --with methods/dr_grpo.yaml
lessrl plan deploy/recipes/quickstart.yaml --with methods/less.yaml --with methods/gspo.yaml
```

`--with FILE` may be repeated. FILE is looked for as given, then beside the recipe; `--set` comes last.

- A mapping merges key by key. A plug-in (a kind, or a mapping with `kind`) takes the place of the one that stood there,
  options and all; options without a kind change the one that stands there. A list takes the place of a list, and
  `rewards+:` appends to it; an item that stands there already is an error.
- A preset is its method alone: one that is not LESS turns LESS off (`shapers: []`), since a base may have it on. An
  empty list takes away what the base has, never what another file adds: with `less.yaml` beside it, LESS is on.
- Two files that set one key to different values are refused by name, in either order. Where you know better, decide
  with `--set KEY=VALUE`. Kinds that contradict each other are refused by what their files declare; `run.force: true`
  runs them all the same.
- Paths in a file are relative to it. `recipe.yaml` in the run's directory is the merged recipe; its first line names
  the files.

Where a paper and its released code differ, the method has an option `variant`: `recommended` is the default, and
`parity` computes what was released; the text of the kind says what each does. An identity is a setting under which a
kind equals another one, or nothing at all, bit for bit; the contract tests check it.

## Presets

What each preset is, and the presets that it cannot stand beside.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One file of deploy/recipes/methods.

    Args:
        summary, source, changes: of its comment.
        kinds: plug-ins that it names.
    """

    name: str
    path: Path
    summary: str
    source: str
    changes: str
    kinds: tuple[str, ...]


def reference() -> str:
    """The whole page."""
    presets = [_preset(path) for path in sorted((RECIPES / "methods").glob("*.yaml"))]
    refused = _refused(presets)
    parts = [HEAD, "| preset | what it is | source | not beside |", "|---|---|---|---|"]
    for preset in presets:
        link = f"[{preset.name}](../deploy/recipes/methods/{preset.path.name})"
        against = ", ".join(refused[preset.name]) or "none"
        parts.append(_row((link, _cell(preset.summary), _ids(preset.source), against)))
    parts += ["", "What each changes:", ""]
    parts += [f"- {preset.name}: {preset.changes}" for preset in presets]
    for folder in FOLDERS:
        parts += _folder(folder, presets)
    return "\n".join(parts) + "\n"


def _preset(path: Path) -> Preset:
    text = path.read_text(encoding="utf-8")
    head = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    summary, _, rest = head.partition(" Source: ")
    source, _, changes = rest.partition(" Changes: ")
    return Preset(
        name=path.stem,
        path=path,
        summary=summary,
        source=source,
        changes=changes,
        kinds=tuple(_kinds(read_mapping(text, str(path)))),
    )


def _kinds(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("kind"), str):
            yield value["kind"]
        for each in value.values():
            yield from _kinds(each)
    elif isinstance(value, list):
        for each in value:
            yield from _kinds(each)


def _refused(presets: Sequence[Preset]) -> dict[str, list[str]]:
    """Presets that each cannot stand beside, on the quickstart."""
    refused: dict[str, list[str]] = {preset.name: [] for preset in presets}
    for one, other in combinations(presets, 2):
        try:
            check_conflicts(load_recipe(BASE, layers=[one.path, other.path]))
        except RecipeError:
            refused[one.name].append(other.name)
            refused[other.name].append(one.name)
    return refused


def _folder(folder: str, presets: Sequence[Preset]) -> Iterator[str]:
    path = folder.replace(".", "/")
    keys = [key for key, place in PLUGIN_FOLDERS.items() if place == path]
    plugins = list(read_plugins(folder))
    yield from ("", f"## {path}", "", f"{package_summary(folder)} Recipe key: {', '.join(f'`{key}`' for key in keys)}.")
    yield from ("", "| kind | what it does |", "|---|---|")
    for plugin in plugins:
        yield _row((f"[{plugin.kind}](#{_anchor(plugin)})", _cell(plugin.title)))
    for plugin in plugins:
        yield from _plugin(plugin, presets)


def _plugin(plugin: PluginSource, presets: Sequence[Preset]) -> Iterator[str]:
    yield from ("", f"### {plugin.folder.split('.')[-1]}: {plugin.kind}", "")
    body = ["", *plugin.text.splitlines()] if plugin.text else []
    yield from ("```text", plugin.title, *body, "```")
    if plugin.options:
        yield from ("", "| option | type | default | meaning |", "|---|---|---|---|")
        yield from map(_option, plugin.options)
    facts = list(_facts(plugin, presets))
    if facts:
        yield ""
        yield from facts


def _option(option: Option) -> str:
    default = f"`{option.default}`" if option.default else "must be given"
    return _row((f"`{option.name}`", option.type, default, _cell(option.meaning)))


def _facts(plugin: PluginSource, presets: Sequence[Preset]) -> Iterator[str]:
    if plugin.needs:
        yield f"- needs: {', '.join(f'`{each}`' for each in plugin.needs)}"
    for other, why in plugin.conflicts.items():
        yield f"- not with `{other}`: {why}"
    if plugin.identity is not None:
        options = ", ".join(f"{name}: {str(value).lower()}" for name, value in plugin.identity["options"].items())
        same = f"`{plugin.identity['kind']}`" if plugin.identity["kind"] else "nothing at all"
        yield f"- identity: `{{{options}}}` equals {same}"
    using = [preset.name for preset in presets if plugin.kind in preset.kinds]
    if using:
        yield f"- presets: {', '.join(using)}"


def _anchor(plugin: PluginSource) -> str:
    return f"{plugin.folder.split('.')[-1]}-{plugin.kind}"


def _ids(source: str) -> str:
    found = re.findall(r"arXiv:(\d{4}\.\d{4,5})", source)
    return ", ".join(f"[{each}](https://arxiv.org/abs/{each})" for each in found) or _cell(source.partition(":")[0])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
