"""Makes the strict JSON schemas of the custom resources in deploy/k8s: an unknown key is an error, as it is in no CRD.

    python -m deploy.schemas.make_schemas            # writes them
    python -m deploy.schemas.make_schemas --check CRD.yaml ...  # compares them with the CRDs of a cluster

Names and types come from the `*_types.yaml` files beside this one; what they embed of Kubernetes (pod templates,
services, selectors) from its schemas in the package kubernetes-validate. A line of a types file is one of

    string | integer | number | boolean | any | duration      `integer >= 1` has a lowest value
    one of A B C            one of these words
    list of TYPE            map of TYPE (keys are strings)
    core NAME               a definition of Kubernetes
    NAME                    another type of the file

and ends with `, required` where the key must be there.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KUBERNETES = "1.32"
"""The oldest whose pods may be used: the one that KubeRay's module names."""

SCHEMAS = {
    "rayjob": ("kuberay_types.yaml", "RayJob"),
    "raycluster": ("kuberay_types.yaml", "RayCluster"),
    "podmonitor": ("podmonitor_types.yaml", "PodMonitor"),
}
DURATION = r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
QUANTITY = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
PLAIN: Mapping[str, Any] = {
    **{name: {"type": name} for name in ("string", "integer", "number", "boolean")},
    "any": {},
    "duration": {"type": "string", "pattern": DURATION},
}
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_STRING_MAP = {"type": "object", "additionalProperties": {"type": "string"}}
WRITTEN_BY_HAND: Mapping[str, Any] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "anyOf": [{"type": "number"}, {"type": "string", "pattern": QUANTITY}]
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
    # What a CRD keeps of the metadata of an object inside another one; the rest is pruned without a word.
    _META: {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "annotations": _STRING_MAP,
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "labels": _STRING_MAP,
            "name": {"type": "string"},
            "namespace": {"type": "string"},
        },
    },
}
_KEPT = (
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "format",
    "oneOf",
    "anyOf",
    "pattern",
)


def read_core() -> dict[str, Any]:
    """Definitions of Kubernetes by their full names, strict, without words and without nulls."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    raw = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return {name: _plain(definition) for name, definition in raw.items()} | dict(WRITTEN_BY_HAND)


def make_schema(kind: str, *, core: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of one of `SCHEMAS`.

    Raises:
        KeyError: a line of its types file that names nothing.
    """
    file, root = SCHEMAS[kind]
    types = yaml.safe_load((HERE / file).read_text(encoding="utf-8"))
    known = {**(read_core() if core is None else core), **{name: _object_of(lines) for name, lines in types.items()}}
    used: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = known[name]
            waiting.extend(_references(known[name]))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Made by deploy/schemas/make_schemas.py from {file}, which names its source, and from the strict "
        f"schemas of Kubernetes {KUBERNETES} (kubernetes-validate); not from a CRD, with which `--check` compares it",
        **used.pop(root),
        "$defs": dict(sorted(used.items())),
    }


def text_of(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1) + "\n"


def paths_of_schema(schema: Mapping[str, Any]) -> set[str]:
    """Every key that an object may have, as `spec.rayClusterSpec.rayVersion`; lists by their items."""
    return set(_paths(schema, schema.get("$defs", {}), "", ()))


def compare(kind: str, crd: Mapping[str, Any]) -> list[str]:
    """What a schema and version v1 of a CRD do not both have, one line each."""
    version = next(each for each in crd["spec"]["versions"] if each["name"] == "v1")
    theirs = paths_of_schema(version["schema"]["openAPIV3Schema"])
    ours = paths_of_schema(make_schema(kind))
    # A CRD leaves the object's own metadata to the API server, and has a status.
    skipped = ("metadata.", "status")
    only = ((ours - theirs, "the schema alone has"), (theirs - ours, "the CRD alone has"))
    return [f"{words} {path}" for paths, words in only for path in sorted(paths) if not path.startswith(skipped)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas, or compare them with CRDs; 1 where these differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="+", type=Path, metavar="CRD")
    given = parser.parse_args(arguments)
    if given.check:
        kinds = {kind: name for name, (_, kind) in SCHEMAS.items()}
        crds = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in given.check]
        found = [line for crd in crds for line in compare(kinds[crd["spec"]["names"]["kind"]], crd)]
        sys.stdout.writelines(f"{line}\n" for line in found)
        return 1 if found else 0
    core = read_core()
    for name in SCHEMAS:
        (HERE / f"{name}.schema.json").write_text(text_of(make_schema(name, core=core)), encoding="utf-8")
    return 0


def _object_of(lines: Mapping[str, str]) -> dict[str, Any]:
    words = {name: line.removesuffix(", required") for name, line in lines.items()}
    required = [name for name, line in lines.items() if line.endswith(", required")]
    properties = {name: _type_of(line) for name, line in words.items()}
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": required} if required else {})


def _type_of(words: str) -> dict[str, Any]:
    if words in PLAIN:
        return dict(PLAIN[words])
    first, _, rest = words.partition(" of ")
    if first == "one":
        return {"enum": rest.split()}
    if first == "list":
        return {"type": "array", "items": _type_of(rest)}
    if first == "map":
        return {"type": "object", "additionalProperties": _type_of(rest)}
    if words.startswith("integer >= "):
        return {"type": "integer", "minimum": int(words.removeprefix("integer >= "))}
    if words == f"core {_META}":
        # Of the object itself: every member of it may be written.
        return {"type": "object", "required": ["name"]}
    return {"$ref": f"#/$defs/{words.removeprefix('core ')}"}


def _plain(schema: Any) -> Any:
    """A schema with its checks alone. Optional members of Kubernetes' schemas also allow null, which no CRD does."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    kept = {key: schema[key] for key in _KEPT if key in schema}
    if isinstance(kept.get("type"), list):
        (kept["type"],) = [each for each in kept["type"] if each != "null"]
    if "enum" in kept:
        kept["enum"] = [each for each in kept["enum"] if each is not None]
    if "properties" in kept:
        kept["properties"] = {name: _plain(each) for name, each in kept["properties"].items()}
    for key in ("items", "additionalProperties", "oneOf", "anyOf"):
        if key in kept:
            kept[key] = _plain(kept[key])
    return kept


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/$defs/")
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _paths(schema: Any, definitions: Mapping[str, Any], path: str, inside: tuple[str, ...]) -> Iterator[str]:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if name:
        # A definition inside itself would have paths without end.
        if name not in inside:
            yield from _paths(definitions[name], definitions, path, (*inside, name))
        return
    for key, each in schema.get("properties", {}).items():
        below = f"{path}.{key}" if path else key
        yield below
        yield from _paths(each, definitions, below, inside)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _paths(schema[key], definitions, path, inside)


if __name__ == "__main__":
    sys.exit(main())
