"""What a plug-in's file says of itself, read from its source, which is not run: a laptop without torch reads it too."""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.recipe_reference import read_docstring
from shaping.components import declared_conflicts, kinds
from shaping.signals import Signal

_TYPE_WORDS = {
    "bool": "`true` or `false`",
    "float": "number",
    "int": "whole number",
    "str": "text",
    "None": "none",
    "ComponentSpec": "kind",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One field of a plug-in's Config.

    Args:
        type: in words.
        default: as the source has it; "" where it must be given.
        meaning: "" where the file does not say.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSource:
    """A plug-in as its file describes it.

    Args:
        title: first line of the docstring, without the kind.
        text: the rest of it.
        identity: kind of the same folder that it equals, "" for none at all, and with which options; None undeclared.
    """

    folder: str
    kind: str
    title: str
    text: str
    options: tuple[Option, ...] = ()
    needs: tuple[str, ...] = ()
    conflicts: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] | None = None


def read_plugins(folder: str) -> Iterator[PluginSource]:
    """Those of a folder, sorted by kind.

    Args:
        folder: package name, for example "shaping.shapers".
    """
    for kind in kinds(folder):
        tree = _tree(f"{folder}.{kind}")
        title, _, text = (ast.get_docstring(tree) or "").partition("\n")
        identity = _assigned(tree, "IDENTITY")
        yield PluginSource(
            folder=folder,
            kind=kind,
            title=title.removeprefix(f"{kind}: "),
            text=text.strip("\n"),
            options=tuple(_options(tree)),
            needs=tuple(_needs(tree)),
            conflicts=declared_conflicts(folder, kind),
            identity=None if identity is None else ast.literal_eval(identity),
        )


def package_summary(package: str) -> str:
    """First line of a package's docstring."""
    return (ast.get_docstring(_tree(package)) or "").partition("\n")[0]


def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has a file"
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name in map(ast.unparse, targets):
                return node.value
    return None


def _needs(tree: ast.Module) -> Iterator[str]:
    value = _assigned(tree, "NEEDS")
    names = [node.attr for node in ast.walk(value) if isinstance(node, ast.Attribute)] if value is not None else []
    return iter(sorted(Signal[name].value for name in names if name in Signal.__members__))


def _options(tree: ast.Module) -> Iterator[Option]:
    config = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config"), None)
    if config is None:
        return
    meanings = _meanings(ast.get_docstring(config, clean=False) or "")
    for node in config.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            yield Option(
                name=name,
                type=_type_words(node.annotation, tree),
                default="" if node.value is None else _default_words(node.value, tree),
                meaning=meanings.get(name, ""),
            )


def _meanings(doc: str) -> dict[str, str]:
    """Of each field; a docstring that begins with `Args:` has its fields one level further out."""
    cleaned = inspect.cleandoc(doc)
    if cleaned.startswith("Args:"):
        head, _, body = cleaned.partition("\n")
        cleaned = head + "\n" + "\n".join(f"    {line}" if line else line for line in body.splitlines())
    return read_docstring(cleaned)[1]


def _type_words(annotation: ast.expr, tree: ast.Module) -> str:
    if isinstance(annotation, ast.BinOp):
        return f"{_type_words(annotation.left, tree)} or {_type_words(annotation.right, tree)}"
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value)
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if outer == "Literal":
            return " or ".join(f"`{ast.literal_eval(each)}`" for each in inner)
        return f"list of {_type_words(inner[0], tree)}" if outer in ("tuple", "list") else ast.unparse(annotation)
    written = ast.unparse(annotation)
    if written in _TYPE_WORDS:
        return _TYPE_WORDS[written]
    return _alias_words(written, tree) or f"`{written}`"


def _alias_words(name: str, tree: ast.Module) -> str:
    """Of a name that the file, or one that it imports from, gives to a type."""
    value = _assigned(tree, name)
    if value is not None:
        return _type_words(value, tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name and "StrEnum" in map(ast.unparse, node.bases):
            words = [each.value for each in node.body if isinstance(each, ast.Assign)]
            return " or ".join(f"`{ast.literal_eval(each)}`" for each in words)
        if isinstance(node, ast.ImportFrom) and node.module and _imports(node, name):
            return _alias_words(name, _tree(node.module))
    return ""


def _default_words(value: ast.expr, tree: ast.Module) -> str:
    written = re.sub(r"^ComponentSpec\(kind='(\w+)'\)$", r"\1", ast.unparse(_followed(value, tree)))
    return {"None": "none", "True": "true", "False": "false", "()": "none", "''": '""'}.get(written, written.strip("'"))


def _followed(value: ast.expr, tree: ast.Module) -> ast.expr:
    """A default that a file takes from a constant, or from a field of a record that it makes without arguments."""
    if isinstance(value, ast.Name):
        return _constant(value.id, tree) or value
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        made = _assigned(tree, value.value.id)
        if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and not made.args + made.keywords:
            return _field_default(made.func.id, value.attr, tree) or value
    return value


def _constant(name: str, tree: ast.Module) -> ast.expr | None:
    if (value := _assigned(tree, name)) is not None:
        return value
    origins = [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and _imports(node, name)]
    return _constant(name, _tree(origins[0])) if origins and origins[0] else None


def _imports(node: ast.ImportFrom, name: str) -> bool:
    return bool(node.module) and name in [each.name for each in node.names]


def _field_default(owner: str, name: str, tree: ast.Module) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            return _assigned(ast.Module(body=node.body, type_ignores=[]), name)
        if isinstance(node, ast.ImportFrom) and node.module and _imports(node, owner):
            return _field_default(owner, name, _tree(node.module))
    return None
