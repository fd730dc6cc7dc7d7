"""What the project and its tools offer to a command of a page: commands, options, targets, keys, variables, files.

Asks the real things (the command trees of lessrl and of Ray, the Makefile, the classes of the recipe); runs nothing.
"""

import functools
import importlib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from dashboards.known import known_series
from services.cli import NO_COLOR, make_app
from services.commands.options import parse_overrides
from services.control.calls import OnTimeout
from services.live.rows import ROWS
from services.metrics.catalogue import PREFIX
from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES
from services.recipe import Recipe, load_recipe
from services.reports import PauseMode, ReleaseLevel, RunState
from shaping.errors import UserError
from tests.docs.pages import ROOT

QUICKSTART = ROOT / "deploy" / "recipes" / "quickstart.yaml"
FOLDERS = ("dashboards", "deploy", "docs", "learner", "requirements", "rollout", "services", "shaping", "tests")

_WORDS: dict[tuple[str, str], Iterable[str]] = {
    ("pause", "mode"): PauseMode,
    ("pause", "release"): ReleaseLevel,
    ("pause", "on_timeout"): OnTimeout,
    ("wait", "until"): RunState,
}
"""Options of lessrl that take one of a few words."""

_TREE_ERRORS: Any = tuple(
    next(cls for cls in error.__mro__ if cls.__name__ == "ClickException")
    for error in (typer.BadParameter, importlib.import_module("click").BadParameter)
)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*(=[A-Z][A-Z0-9_]*)?|\$\{?\w+\}?|SUBSTITUTED")
_STEP_METRIC = re.compile(
    r"(reward|verdict|rollout|groups|segments|advantage|learner|weight_sync)_[a-z0-9_{}]*"
    r"(_(nats|count|share|versions|loss|value|norm|rollouts|s)|_tokens)"
)
_NAMED_PATH = re.compile(rf"(?:\./)?((?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*[\w/*}}])")


@functools.cache
def lessrl_tree() -> Any:
    """The command lessrl with all that hangs on it."""
    return typer.main.get_command(make_app())


@functools.cache
def ray_tree() -> Any:
    """Ray's own command line."""
    return importlib.import_module("ray.scripts.scripts").cli


def lessrl_faults(words: Sequence[str], *, is_whole: bool = True) -> list[str]:
    """What is wrong with `lessrl WORDS`.

    Args:
        is_whole: as somebody would type it; otherwise arguments may be missing.
    """
    words = [word for word in words if word != NO_COLOR]
    faults, path, values = _walk(lessrl_tree(), words, is_whole=is_whole)
    for (command, option), known in _WORDS.items():
        given = values.get(option)
        if path[-1:] == [command] and given and not is_placeholder(given) and given not in set(known):
            faults.append(f"--{option.replace('_', '-')} must be one of {', '.join(known)}, found {given!r}")
    return faults + _override_faults(path, values)


def ray_faults(words: Sequence[str]) -> list[str]:
    """What is wrong with `ray WORDS`; what stands behind `--` is a command of its own."""
    own = list(words[: words.index("--")] if "--" in words else words)
    return _walk(ray_tree(), own, is_whole=False)[0]


def make_faults(words: Sequence[str]) -> list[str]:
    """Targets that the Makefile does not have."""
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [word for word in words if not word.startswith("-") and "=" not in word]
    return [f"no target {word!r} in the Makefile" for word in asked if word not in targets]


def python_faults(words: Sequence[str]) -> list[str]:
    """A module of the project that has no file; files are looked at as paths."""
    if list(words[:1]) != ["-m"] or len(words) < 2:
        return []
    module = words[1]
    if module.split(".")[0] not in FOLDERS:
        return []
    file = ROOT.joinpath(*module.split("."))
    return [] if file.with_suffix(".py").is_file() or file.is_dir() else [f"no module {module!r}"]


def pip_faults(words: Sequence[str]) -> list[str]:
    """Extras of lessrl that pyproject.toml does not have."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {
        each.strip()
        for word in words
        for found in re.findall(r"lessrl\[([^\]]*)\]?", word)
        for each in found.split(",")
    }
    return [f"no extra {each!r} in pyproject.toml" for each in sorted(asked - extras.keys())]


def variable_faults(names: Iterable[str]) -> list[str]:
    """Variables of lessrl that no code reads."""
    return [f"nothing reads {name}" for name in sorted(set(names) - _variables()) if name.startswith("LESSRL_")]


def metric_faults(name: str) -> list[str]:
    """A name that is written like a metric's, with or without labels, and is none, or not with these labels."""
    bare = re.sub(r"{[^{}]*=[^{}]*}$", "", name)
    if not bare.startswith(PREFIX) and not _STEP_METRIC.fullmatch(bare):
        return []
    metrics = catalogue().metrics
    families = {metric.family for metric in metrics} | {family.name for family in FAMILIES}
    parts = {f"{family}{end}" for family in families for end in ("", "_bucket", "_sum", "_count")}
    is_known = catalogue().find(bare) is not None or bare in parts or bare in {metric.name for metric in metrics}
    if not is_known and bare != PREFIX:
        return [f"no metric {bare} in the catalogue"]
    wanted = re.findall(r"(\w+)=", name.removeprefix(bare))
    return [f"{bare} has no label {each}" for each in wanted if each not in _labels_of(bare)]


def _labels_of(series: str) -> set[str]:
    known = known_series()
    found = known.get(series) or known.get(f"{series}_bucket")
    return set(found.labels) if found else set()


def path_faults(text: str) -> list[str]:
    """Files and folders of the project that a text names and that do not exist; globs and `{a,b}` may stand in them."""
    return [f"no file {name}" for name in _NAMED_PATH.findall(text) if not _exists(name)]


def is_placeholder(word: str) -> bool:
    """A word that the reader replaces: RUN_DIR, KEY=VALUE, $NAME."""
    return bool(_PLACEHOLDER.fullmatch(word.lstrip("-")))


@functools.cache
def _variables() -> frozenset[str]:
    folders = [ROOT / name for name in ("services", "deploy", "tests")]
    ends = (".py", ".sh", ".sbatch", ".yaml", ".yml")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in ends]
    texts = [path.read_text(errors="ignore") for path in files if path.parent != Path(__file__).parent]
    return frozenset(name for text in texts for name in re.findall(r"LESSRL_[A-Z_]+", text))


def _exists(name: str) -> bool:
    options = [name]
    if found := re.search(r"{([^{}]*)}", name):
        options = [name.replace(found.group(0), each) for each in found.group(1).split(",")]
    return all(any(ROOT.glob(each.rstrip("/"))) for each in options)


def _walk(tree: Any, words: Sequence[str], *, is_whole: bool) -> tuple[list[str], list[str], Mapping[str, Any]]:
    """Go down a tree of commands: what is wrong, the names on the way, and the values of the last command."""
    path: list[str] = []
    rest = list(words)
    while True:
        if hasattr(tree, "commands") and rest and not rest[0].startswith("-") and rest[0] not in tree.commands and path:
            rest = _without_run(tree, rest)
        context = tree.context_class(tree, info_name=path[-1] if path else None)
        parser = tree.make_parser(context)
        parser.allow_interspersed_args = not hasattr(tree, "commands")
        try:
            values, extra, _ = parser.parse_args(list(rest))
        except _TREE_ERRORS as error:
            if not is_whole and type(error).__name__ == "BadOptionUsage" and rest[-1].startswith("--"):
                return [], path, {}
            return [f"{error.format_message()} ({' '.join(path) or 'the command itself'})"], path, {}
            return [f"{error.format_message()} ({' '.join(path) or 'the command itself'})"], path, {}
        if not hasattr(tree, "commands") or not extra:
            return _arity_faults(tree, values, extra, is_whole=is_whole), path, values
        name, *rest = extra
        if name not in tree.commands:
            return ([] if is_placeholder(name) else [f"no command {' '.join([*path, name])!r}"]), path, {}
        tree, path = tree.commands[name], [*path, name]


def _without_run(tree: Any, words: list[str]) -> list[str]:
    """`workers RUN restart WORKER`: the run may stand before the action."""
    return words[1:] if any(getattr(each, "name", "") == "run" for each in tree.params) else words


def _arity_faults(tree: Any, values: Mapping[str, Any], extra: Sequence[str], *, is_whole: bool) -> list[str]:
    arguments = [each for each in tree.params if each.param_type_name == "argument"]
    faults = [f"nothing takes {word!r}" for word in extra if not hasattr(tree, "commands")]
    if is_whole and "help" not in values:
        missing = [each.name for each in arguments if each.required and not _is_given(values.get(each.name))]
        faults += [f"{name} must be given" for name in missing]
    return faults


def _is_given(value: Any) -> bool:
    """What a parser leaves for an argument that was not there differs by version: nothing, or a marker."""
    return isinstance(value, str) or (isinstance(value, Sequence) and bool(value))


def _override_faults(path: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Keys of a recipe that do not exist, and values that they refuse."""
    if list(path) == ["config", "set"]:
        live = {row.key for row in ROWS}
        given = [word for word in values.get("pairs") or () if not is_placeholder(word)]
        return [f"{key} is no live key" for word in given if (key := word.partition("=")[0]) not in live]
    if not path or path[0] not in ("train", "submit", "plan", "simulate", "resume"):
        return []
    given = [word for word in values.get("overrides") or () if word.partition("=")[0] not in ("key", "KEY")]
    return recipe_faults(lambda: parse_overrides(given))


def recipe_faults(changes: Callable[[], Mapping[str, Any]]) -> list[str]:
    """What a recipe refuses in such a change of it."""
    try:
        load_recipe(QUICKSTART, changes())
    except UserError as error:
        return [str(error)]
    return []


def recipe_sections() -> Mapping[str, Any]:
    """Section by name, of the recipe's first level."""
    return {name: info.annotation for name, info in Recipe.model_fields.items()}
