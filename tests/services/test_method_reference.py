"""docs/methods.md says what presets and plug-in files say, and reading them needs no torch."""

import ast
import dataclasses
import importlib
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

from services.method_reference import FOLDERS, RECIPES, reference
from services.plugin_source import PluginSource, read_plugins

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = [plugin for folder in FOLDERS for plugin in read_plugins(folder)]


def label(plugin: PluginSource) -> str:
    return f"{plugin.folder}.{plugin.kind}"


def test_committed_page_is_what_presets_and_plugins_make() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == reference(), "make docs"


def test_every_preset_and_every_kind_is_on_the_page() -> None:
    page = reference()
    for path in (RECIPES / "methods").glob("*.yaml"):
        assert f"| [{path.stem}](../deploy/recipes/methods/{path.name}) |" in page
    for plugin in PLUGINS:
        assert f"\n### {plugin.folder.split('.')[-1]}: {plugin.kind}\n\n```text\n{plugin.title}\n" in page


def test_presets_that_are_refused_together_say_so_of_each_other() -> None:
    rows = [line.strip("| ").split(" | ") for line in reference().splitlines() if line.startswith("| [")]
    against = {row[0].partition("]")[0].strip("["): set(row[3].split(", ")) for row in rows if len(row) == 4}
    assert {"less", "kl_cov", "clip_cov"} <= against["forking_tokens"]
    assert "less" not in against["gspo"]
    assert all(name in against[other] for name, others in against.items() for other in others - {"none"})


@pytest.mark.parametrize("plugin", PLUGINS, ids=label)
def test_what_is_read_of_a_file_is_what_running_it_gives(plugin: PluginSource) -> None:
    module = importlib.import_module(label(plugin))
    assert plugin.needs == tuple(sorted(module.NEEDS))
    assert plugin.conflicts == getattr(module, "CONFLICTS", {})
    assert plugin.identity == getattr(module, "IDENTITY", None)
    fields = {each.name: each for each in dataclasses.fields(module.Config)}
    assert [option.name for option in plugin.options] == list(fields)
    for option in plugin.options:
        default = fields[option.name].default
        if default is dataclasses.MISSING:
            continue
        # 1024 ** 3 stays as a person writes it.
        written = str(eval(option.default)) if "**" in option.default else option.default
        assert written == words(default), option.name


def words(default: object) -> str:
    """A default as the page writes it: a kind, or a literal in the spelling of YAML."""
    if isinstance(default, Enum):
        return str(default)
    if hasattr(default, "kind"):
        return str(default.kind)
    plain = {None: "none", True: "true", False: "false", "": '""'}
    if default is None or isinstance(default, bool | str):
        return plain.get(default, str(default))
    return "none" if default == () else ast.unparse(ast.parse(repr(default)))


@pytest.mark.parametrize("plugin", PLUGINS, ids=label)
def test_every_option_says_what_it_means(plugin: PluginSource) -> None:
    assert [option.name for option in plugin.options if not option.meaning] == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=label)
def test_a_type_is_said_in_words(plugin: PluginSource) -> None:
    for option in plugin.options:
        assert option.type and "Literal" not in option.type, option


def test_the_page_is_made_without_torch() -> None:
    code = (
        "import sys; from services.method_reference import reference; reference()\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'deepspeed') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
