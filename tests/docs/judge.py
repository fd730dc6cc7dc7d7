"""What is wrong with a page: links that lead nowhere, and blocks and code spans that say what is not so.

Page -> Fault, each with its place. A block must be of a kind that can be checked, or `text`.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from services.plugins import load_plugins
from services.recipe import load_recipe
from services.recipe_yaml import read_yaml
from shaping.errors import UserError
from tests.docs.known import (
    QUICKSTART,
    is_placeholder,
    lessrl_faults,
    make_faults,
    metric_faults,
    path_faults,
    pip_faults,
    python_faults,
    ray_faults,
    recipe_sections,
    variable_faults,
)
from tests.docs.pages import ROOT, Block, Page, Span, place
from tests.docs.shell import Command, is_shell, read_commands

_SYSTEM = """
[ apt-get bash cat cd chmod chown cp curl cut date docker echo find git grafana-server grep head helm install jq kill
kubectl ln ls mkdir mlflow mv openssl pg_dump printf prometheus promtool rm rsync sbatch scancel scontrol sed set
sinfo sleep sort sqlite3 squeue srun ssh sudo tail tee tensorboard test touch tr trap true umask uv wait wandb wc
xargs
"""
SYSTEM = frozenset(_SYSTEM.split())
"""Programs of others, whose options are theirs to check."""

FREE = frozenset({"", "text", "diff", "mermaid", "ini", "nginx", "http"})
"""Languages of blocks that are looked at by nobody but readers."""

_FILE_COMMENT = re.compile(r"^# (\S*[/.]\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong, and where."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def link_faults(page: Page, anchors: Callable[[Path], set[str]]) -> list[Fault]:
    """Links to files that do not exist, or to places that they do not have.

    Args:
        anchors: the anchors of a page that exists.
    """
    faults = []
    for link in page.links():
        if re.match(r"[a-z][a-z+.-]*:", link.text):
            continue
        target, _, anchor = link.text.partition("#")
        path = page.path if not target else (page.path.parent / target).resolve()
        if target.startswith("/"):
            faults.append(Fault(place=place(link), message=f"a link must be relative, found {link.text}"))
        elif target and not path.exists():
            faults.append(Fault(place=place(link), message=f"no file {link.text}"))
        elif anchor and path.suffix == ".md":
            known = page.anchors() if not target else anchors(path)
            if anchor not in known:
                faults.append(Fault(place=place(link), message=f"no heading #{anchor} in {path.name}"))
    return faults


def block_faults(block: Block) -> list[Fault]:
    """What is wrong with a fenced block."""
    if is_shell(block.language, block.text):
        return list(_shell_faults(block))
    check = _CHECKS.get(block.language)
    if check is None and block.language not in FREE:
        known = ", ".join(sorted({*_CHECKS, "sh", "text"}))
        return [Fault(place=place(block), message=f"a block must be one of {known}, found {block.language!r}")]
    return [Fault(place=place(block), message=message) for message in (check(block.text) if check else ())]


def span_faults(span: Span, page: Page) -> list[Fault]:
    """What is wrong with inline code: commands, options, targets, and files that it names."""
    text = span.text.strip()
    messages = path_faults(text)
    if re.fullmatch(r"[a-z0-9_]+({[^`]*})?[a-z_]*", text):
        messages += metric_faults(text)
    if re.match(r"(\$ )?(lessrl|make|ray) ", text):
        messages = [message for command in read_commands(text) for message in _messages(command, is_whole=False)]
    elif re.fullmatch(r"[\w.-]+\.md", text) and not any(
        (folder / text).is_file() for folder in (page.path.parent, ROOT)
    ):
        messages.append(f"no page {text} beside this one")
    return [Fault(place=place(span), message=message) for message in messages]


def page_commands(page: Page) -> Iterator[tuple[str, Command]]:
    """Every command of the blocks of a page, with its place."""
    for block in page.blocks():
        if is_shell(block.language, block.text):
            for command in read_commands(block.text):
                yield place(block, command.line), command


def _shell_faults(block: Block) -> Iterator[Fault]:
    try:
        commands = read_commands(block.text)
    except ValueError as error:
        yield Fault(place=place(block), message=f"a shell must be able to read it: {error}")
        return
    for command in commands:
        for message in _messages(command, is_whole=True):
            yield Fault(place=place(block, command.line), message=message)


def _messages(command: Command, *, is_whole: bool) -> list[str]:
    messages = variable_faults(name for name, _ in command.assigned)
    messages += [fault for _, value in command.assigned for fault in path_faults(value)]
    if not command.words:
        return messages
    program, *words = command.words
    messages += path_faults(" ".join(command.words))
    return messages + _program_messages(program.removeprefix(".venv/bin/"), words, is_whole=is_whole)


def _program_messages(program: str, words: Sequence[str], *, is_whole: bool) -> list[str]:
    if program == "lessrl":
        return lessrl_faults(words, is_whole=is_whole)
    if program == "make":
        return make_faults(words)
    if program in ("python", "python3"):
        return pip_faults(words[2:]) if list(words[:2]) == ["-m", "pip"] else python_faults(words)
    if program == "pip":
        return pip_faults(words)
    if program == "ray":
        return ray_faults(words) + _inner_messages(words)
    if program in SYSTEM or "/" in program or is_placeholder(program):
        is_container = program == "docker" and "lessrl" in words
        return _inner_messages(["--", *words[words.index("lessrl") :]] if is_container else words)
    return [f"no program {program!r} is known to these pages"]


def _inner_messages(words: Sequence[str]) -> list[str]:
    """Of a command behind `--`."""
    inner = list(words[words.index("--") + 1 :]) if "--" in words else []
    return _program_messages(inner[0], inner[1:], is_whole=True) if inner[:1] in (["lessrl"], ["ray"]) else []


def _python_messages(text: str) -> list[str]:
    if ">>>" in text:
        return []
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [f"Python must be able to read it: {error}"]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    own = [node for node in imports if str(node.module).split(".")[0] in ("services", "rollout", "learner", "shaping")]
    return [
        f"no {name.name} in {node.module}"
        for node in own
        for name in node.names
        if not hasattr(importlib.import_module(str(node.module)), name.name)
    ]


def _json_messages(text: str) -> list[str]:
    try:
        for line in [text] if text.lstrip().startswith(("[", "{\n")) else text.splitlines():
            json.loads(line)
    except ValueError as error:
        return [f"JSON must be valid: {error}"]
    return []


def _yaml_messages(text: str) -> list[str]:
    """A recipe or a part of one, unless it says which file it is of, or is a Kubernetes object."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        return [f"YAML must be valid: {' '.join(str(error).split())}"]
    if _FILE_COMMENT.match(text) and not text.splitlines()[0].endswith("recipe.yaml"):
        return []
    if all(isinstance(each, Mapping) and {"apiVersion", "kind"} <= each.keys() for each in documents):
        return []
    try:
        load_plugins(load_recipe(QUICKSTART, _dotted(_placed(read_yaml(text)))))
    except (UserError, yaml.YAMLError) as error:
        return [f"{' '.join(str(error).split())}; unless it is a recipe's it begins with a comment that names its file"]
    return []


def _placed(fragment: Any) -> dict[str, Any]:
    """A fragment at its place of the recipe: of the first level, or of the one section that has all its keys."""
    if not isinstance(fragment, Mapping):
        raise UserError(f"a part of a recipe must be a mapping, found {type(fragment).__name__}")
    sections = recipe_sections()
    if fragment.keys() <= sections.keys():
        return dict(fragment)
    having = [
        name
        for name, cls in sections.items()
        if is_dataclass(cls) and fragment.keys() <= {each.name for each in fields(cls)}
    ]
    return {having[0]: dict(fragment)} if len(having) == 1 else dict(fragment)


def _dotted(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a mapping with `kind` is a leaf."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping) and "kind" not in value and value:
            found |= _dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _promql_messages(text: str) -> list[str]:
    parser = importlib.import_module("promql_parser")
    try:
        parser.parse(re.sub(r"\$__(rate_)?interval|\$__range", "1m", text))
    except ValueError as error:
        return [f"PromQL must be valid: {error}"]
    return []


_CHECKS: dict[str, Callable[[str], list[str]]] = {
    "json": _json_messages,
    "jsonl": _json_messages,
    "promql": _promql_messages,
    "python": _python_messages,
    "yaml": _yaml_messages,
}
