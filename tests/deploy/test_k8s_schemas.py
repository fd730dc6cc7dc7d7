"""The strict schemas of custom resources are what their script makes, and find what a cluster would drop in silence."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_documents import SCHEMAS, Document, build, of_kind, strict_errors

from deploy.schemas import make_schemas
from deploy.schemas.make_schemas import compare, main, make_schema, paths_of_schema, text_of


def job() -> Document:
    return copy.deepcopy(of_kind(build("single-node"), "RayJob")[0])


@pytest.mark.parametrize("name", make_schemas.SCHEMAS)
def test_a_committed_schema_is_what_its_script_makes(name: str) -> None:
    assert (SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8") == text_of(make_schema(name)), (
        "run `python -m deploy.schemas.make_schemas`"
    )


def head(document: Document) -> Document:
    found: Document = document["spec"]["rayClusterSpec"]["headGroupSpec"]
    return found


def container(document: Document) -> Document:
    found: Document = head(document)["template"]["spec"]["containers"][0]
    return found


MISTAKES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "a typo at the top": (lambda doc: doc["spec"].update(entryPoint="x"), "entryPoint"),
    "a typo in a pod": (lambda doc: container(doc).update(imagePullPolcy="Always"), "imagePullPolcy"),
    "a pod's key one level too high": (
        lambda doc: head(doc)["template"].update(terminationGracePeriodSeconds=600),
        "terminationGracePeriodSeconds",
    ),
    "a number where a string must be": (lambda doc: head(doc)["rayStartParams"].update({"num-cpus": 0}), "0 is not of"),
    "a string where a number must be": (lambda doc: doc["spec"].update(backoffLimit="0"), "'0' is not of"),
    "a word that is none of the words": (lambda doc: doc["spec"].update(submissionMode="K8sJob"), "'K8sJob'"),
    "a field that is below another one": (
        lambda doc: doc["spec"]["rayClusterSpec"].update(secretName="lessrl-ray-token"),
        "secretName",
    ),
    "a quantity that is none": (
        lambda doc: container(doc)["resources"]["limits"].update(memory="64 GB"),
        "64 GB",
    ),
    "a missing name": (lambda doc: container(doc).pop("name"), "'name' is a required"),
    "a null": (lambda doc: doc["spec"].update(suspend=None), "None is not of"),
    "a status": (lambda doc: doc.update(status={}), "status"),
    "another version": (lambda doc: doc.update(apiVersion="ray.io/v1alpha1"), "v1alpha1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    plant, words = MISTAKES[mistake]
    document = job()
    assert strict_errors(document) == []
    plant(document)
    (error,) = strict_errors(document)
    assert words in error


def test_a_planted_mistake_in_a_pod_monitor_or_a_core_kind_is_found() -> None:
    documents = build("single-node")
    monitor, policy = of_kind(documents, "PodMonitor")[0], of_kind(documents, "NetworkPolicy")[0]
    monitor["spec"]["podMetricsEndpoints"][0]["interval"] = "15 s"
    assert len(strict_errors(monitor)) == 1
    policy["spec"]["podselector"] = {}
    assert len(strict_errors(policy)) == 1


def test_metadata_inside_a_custom_resource_may_hold_what_a_crd_keeps() -> None:
    document = job()
    head(document)["template"]["metadata"]["annotations"] = {"a": "b"}
    assert strict_errors(document) == []
    # The API server would drop it.
    head(document)["template"]["metadata"]["generateName"] = "head-"
    assert len(strict_errors(document)) == 1


def crd(properties: dict[str, Any]) -> dict[str, Any]:
    """A CRD as clusters give it, its spec with these properties."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    versions = [{"name": "v1alpha1"}, {"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    return {"spec": {"names": {"kind": "RayCluster"}, "versions": versions}}


def test_comparing_with_a_crd_names_what_only_one_of_them_has() -> None:
    found = compare("raycluster", crd({"rayVersion": {"type": "string"}, "newKey": {"type": "string"}}))
    assert "the CRD alone has spec.newKey" in found
    assert "the schema alone has spec.authOptions.secretName" in found
    assert not any(line.endswith(" spec.rayVersion") for line in found)


def test_a_crd_with_the_same_keys_differs_in_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A CRD has no references: each is written out where it is used.
    schema = make_schema("raycluster")
    written = written_out(schema["properties"]["spec"], schema["$defs"], ())
    file = tmp_path / "crd.yaml"
    file.write_text(yaml.safe_dump(crd(written["properties"])))
    # Of the object itself, not of its spec.
    kinds = {"the schema alone has apiVersion", "the schema alone has kind", "the schema alone has metadata"}
    main(["--check", str(file)])
    assert set(capsys.readouterr().out.splitlines()) == kinds


def written_out(schema: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [written_out(each, definitions, inside) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        assert name not in inside
        return written_out(definitions[name], definitions, (*inside, name))
    return {key: written_out(each, definitions, inside) for key, each in schema.items()}


def test_paths_name_keys_of_lists_and_maps() -> None:
    schema = {
        "properties": {"groups": {"items": {"$ref": "#/$defs/group"}}, "env": {"additionalProperties": {}}},
        "$defs": {"group": {"properties": {"name": {}, "below": {"$ref": "#/$defs/group"}}}},
    }
    assert paths_of_schema(schema) == {"groups", "groups.name", "groups.below", "env"}
