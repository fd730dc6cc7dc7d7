"""What `kubectl kustomize` makes of deploy/k8s, and whether a cluster would take it: strictly, offline."""

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from deploy.schemas.make_schemas import KUBERNETES

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
SCHEMAS = ROOT / "deploy" / "schemas"
OVERLAYS = tuple(sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")))
CUSTOM = {"RayJob": "rayjob", "RayCluster": "raycluster", "PodMonitor": "podmonitor"}
MAX_BUILD_SECONDS = 60

Document = dict[str, Any]


def kustomize(folder: Path) -> str:
    """What `kubectl apply -k` would send to a cluster.

    Skips the test where kubectl is not there.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: it builds the overlays of deploy/k8s")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=MAX_BUILD_SECONDS, check=False
    )
    # kustomize warns of what it does not like on its standard error, and goes on.
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@cache
def _built(overlay: str) -> list[Document]:
    return read_documents(kustomize(K8S / "overlays" / overlay))


def build(overlay: str) -> list[Document]:
    """The documents of one overlay, a copy each time."""
    return copy.deepcopy(_built(overlay))


def read_documents(text: str) -> list[Document]:
    return list(yaml.safe_load_all(text))


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [each for each in documents if each["kind"] == kind]


def cluster_of(documents: list[Document]) -> Document:
    """The spec of the Ray cluster that an overlay asks for, of its own or of its job."""
    jobs, clusters = of_kind(documents, "RayJob"), of_kind(documents, "RayCluster")
    assert len(jobs) + len(clusters) == 1, "two clusters would wait for each other's GPUs"
    found: Document = jobs[0]["spec"]["rayClusterSpec"] if jobs else clusters[0]["spec"]
    return found


def pod_templates(documents: list[Document]) -> dict[str, Document]:
    """Every pod template of an overlay, by what its pods are for."""
    cluster = cluster_of(documents)
    found = {"head": cluster["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    jobs = of_kind(documents, "RayJob")
    return found | ({"submitter": jobs[0]["spec"]["submitterPodTemplate"]} if jobs else {})


def ray_pods(documents: list[Document]) -> dict[str, Document]:
    """Templates of the pods that belong to the cluster."""
    return {name: template for name, template in pod_templates(documents).items() if name != "submitter"}


def strict_errors(document: Mapping[str, Any]) -> list[str]:
    """Why a cluster would refuse a document, or ignore a part of it; of a core kind the first reason."""
    if document["kind"] in CUSTOM:
        return list(_custom_errors(document))
    try:
        kubernetes_validate.validate(dict(document), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def _custom_errors(document: Mapping[str, Any]) -> Iterator[str]:
    schema = json.loads((SCHEMAS / f"{CUSTOM[document['kind']]}.schema.json").read_text(encoding="utf-8"))
    for error in Draft202012Validator(schema).iter_errors(document):
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


_UNITS = {"Gi": 2**30, "Mi": 2**20, "Ti": 2**40}


def bytes_of(quantity: str) -> int:
    """Of a quantity as deploy/k8s writes it: a whole number of Mi, Gi or Ti."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]
