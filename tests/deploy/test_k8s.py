"""Every overlay of deploy/k8s is what a cluster would take, and holds to what docs/kubernetes.md promises."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_documents import (
    K8S,
    OVERLAYS,
    ROOT,
    Document,
    build,
    bytes_of,
    cluster_of,
    kustomize,
    of_kind,
    pod_templates,
    ray_pods,
    read_documents,
    strict_errors,
)

from services.plan import make_plan
from services.recipe import load_recipe, read_recipe

JOB_OVERLAYS = tuple(each for each in OVERLAYS if each != "interactive")
PLACEMENTS = {"single-node": "1x8", "kueue": "1x8", "multi-node": "2x8", "multi-node-8x8": "8x8"}


def containers(template: Document) -> list[Document]:
    return [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]


def environment(container: Document) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


def recipe_text(documents: list[Document]) -> str:
    (found,) = (each for each in of_kind(documents, "ConfigMap") if each["metadata"]["name"] == "lessrl-recipe")
    text: str = found["data"]["recipe.yaml"]
    return text


def shown_documents() -> list[str]:
    """Of docs/kubernetes.md: an overlay, and the pod that fills the claim of data."""
    words = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.*?)```", words, flags=re.DOTALL)


def test_every_overlay_that_the_docs_name_is_there() -> None:
    assert OVERLAYS == ("interactive", "kueue", "multi-node", "multi-node-8x8", "single-node")
    words = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert all(f"overlays/{name}" in words for name in OVERLAYS)


def test_the_overlay_that_the_docs_show_builds_and_does_what_they_say(tmp_path: Path) -> None:
    shown, _ = shown_documents()
    shutil.copytree(K8S, tmp_path / "k8s")
    mine = tmp_path / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(shown)
    documents = read_documents(kustomize(mine))
    assert [strict_errors(each) for each in documents] == [[]] * len(documents)
    images = {each["image"] for pod in pod_templates(documents).values() for each in containers(pod)}
    assert images == {"registry.of.yours/lessrl:0.1.0-gpu"}
    claims = of_kind(documents, "PersistentVolumeClaim")
    assert [each["spec"]["storageClassName"] for each in claims] == ["shared", "shared"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_claims_can_be_made_and_filled_before_a_run_is(overlay: str) -> None:
    documents = build(overlay)
    early = [each for each in documents if each["metadata"].get("labels", {}).get("lessrl.io/part") == "storage"]
    assert sorted(each["kind"] for each in early) == ["Namespace", *["PersistentVolumeClaim"] * 2]
    (filler,) = read_documents(shown_documents()[1])
    assert strict_errors(filler) == []
    spec, worker = filler["spec"], ray_pods(documents)["gpu"]["spec"]
    assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] in {each["metadata"]["name"] for each in early}
    # It writes as the user, and to the places, that workers read as.
    assert spec["securityContext"].items() <= worker["securityContext"].items()
    (container,) = spec["containers"]
    assert environment(container)["HF_HUB_CACHE"] == environment(worker["containers"][0])["HF_HUB_CACHE"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == "/data"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_is_valid_strictly(overlay: str) -> None:
    documents = build(overlay)
    kinds = {"Namespace", "PersistentVolumeClaim", "NetworkPolicy", "Service", "PodMonitor", "ConfigMap"}
    assert {each["kind"] for each in documents} == kinds | {"RayCluster" if overlay == "interactive" else "RayJob"}
    assert {f"{each['kind']}/{each['metadata']['name']}": strict_errors(each) for each in documents} == {
        f"{each['kind']}/{each['metadata']['name']}": [] for each in documents
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_head_offers_nothing_to_work(overlay: str) -> None:
    head = cluster_of(build(overlay))["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == head["rayStartParams"]["num-gpus"] == "0"
    assert all("nvidia.com/gpu" not in each["resources"]["limits"] for each in containers(head["template"]))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_as_closed_as_a_restricted_namespace_wants(overlay: str) -> None:
    documents = build(overlay)
    (namespace,) = of_kind(documents, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for template in pod_templates(documents).values():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        assert all(set(volume) <= {"name", *allowed} for volume in pod["volumes"])
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^USER (.*)$", dockerfile, flags=re.MULTILINE)) == {"10001:10001"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_volume_that_is_mounted_is_declared_and_all_that_is_written_to_is_a_volume(overlay: str) -> None:
    for name, template in ray_pods(build(overlay)).items():
        volumes = {each["name"] for each in template["spec"]["volumes"]}
        for container in containers(template):
            mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
            assert {each["name"] for each in mounts.values()} == volumes, name
            written = {path for path, mount in mounts.items() if not mount.get("readOnly")}
            # /cache: what the image names as its caches, and here HOME. /tmp: Ray's sessions and what it spills.
            assert written == {"/runs", "/cache", "/tmp", "/dev/shm"}
            assert environment(container)["HOME"] == "/cache"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shared_memory_holds_the_object_store_and_leaves_room_in_the_pod(overlay: str) -> None:
    cluster = cluster_of(build(overlay))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (shm,) = (each["emptyDir"] for each in pod["volumes"] if each["name"] == "shm")
        assert shm["medium"] == "Memory"
        object_store = int(group["rayStartParams"]["object-store-memory"])
        memory = bytes_of(pod["containers"][0]["resources"]["limits"]["memory"])
        assert object_store < bytes_of(shm["sizeLimit"]) < memory // 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_run_directories_are_on_a_file_system_that_all_pods_share(overlay: str) -> None:
    documents = build(overlay)
    claims = {each["metadata"]["name"]: each["spec"] for each in of_kind(documents, "PersistentVolumeClaim")}
    assert claims["lessrl-runs"]["accessModes"] == ["ReadWriteMany"]
    for template in ray_pods(documents).values():
        (runs,) = (each for each in template["spec"]["volumes"] if each["name"] == "runs")
        assert runs["persistentVolumeClaim"] == {"claimName": "lessrl-runs"}
        named = {
            each["persistentVolumeClaim"]["claimName"]
            for each in template["spec"]["volumes"]
            if "persistentVolumeClaim" in each
        }
        assert named <= set(claims)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_asks_for_a_token_everywhere(overlay: str) -> None:
    documents = build(overlay)
    assert cluster_of(documents)["authOptions"] == {"mode": "token", "secretName": "lessrl-ray-token"}
    for template in pod_templates(documents).values():
        assert [environment(each)["RAY_AUTH_MODE"] for each in containers(template)] == ["token"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_overlay_holds_a_secret(overlay: str) -> None:
    documents = build(overlay)
    assert of_kind(documents, "Secret") == []
    for template in pod_templates(documents).values():
        for container in containers(template):
            named = {name for name in environment(container) if re.search("TOKEN|KEY|SECRET|PASSWORD", name)}
            assert named <= {"LESSRL_TOKENS_FILE"}


def test_no_file_holds_what_looks_like_a_secret() -> None:
    files = [path for path in (*K8S.rglob("*"), ROOT / "docs" / "kubernetes.md") if path.is_file()]
    # What `openssl rand -hex` and base64 make.
    long = re.compile(r"\b[0-9a-f]{32,}\b|\b[A-Za-z0-9+]{40,}\b")
    found = {str(path): long.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secret_files_are_closed_to_others_and_only_the_head_has_all_tokens(overlay: str) -> None:
    files = {}
    for name, template in ray_pods(build(overlay)).items():
        (tokens,) = (each["secret"] for each in template["spec"]["volumes"] if each["name"] == "tokens")
        assert tokens["defaultMode"] & 0o007 == 0
        files[name] = {each["path"] for each in tokens["items"]}
    assert files == {"head": {"tokens", "operate"}, "gpu": {"operate"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_has_a_version_and_is_one_for_all_pods(overlay: str) -> None:
    images = {each["image"] for pod in pod_templates(build(overlay)).values() for each in containers(pod)}
    (image,) = images
    name, _, tag = image.rpartition(":")
    assert name.endswith("/lessrl")
    assert tag
    assert tag != "latest"


def test_the_ray_that_is_named_is_the_one_of_the_image() -> None:
    pinned = (ROOT / "requirements" / "gpu.txt").read_text(encoding="utf-8")
    assert f"ray=={cluster_of(build('single-node'))['rayVersion']}\n" in pinned


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_waits_for_the_pause_before_it_ends(overlay: str) -> None:
    scripts = next(
        each for each in of_kind(build(overlay), "ConfigMap") if each["metadata"]["name"] == "lessrl-scripts"
    )
    for template in ray_pods(build(overlay)).values():
        command = template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:2] == ["sh", "/etc/lessrl/scripts/pause.sh"]
        assert "pause.sh" in scripts["data"]
        # What is left is for the pod's own end.
        assert 0 < int(command[2]) <= template["spec"]["terminationGracePeriodSeconds"] - 60
        # A cluster that is deleted has no name any more when preStop asks for the head.
        kept = template["spec"]["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][-1]
        assert "/tmp/lessrl-head" in kept
        assert "LESSRL_HEAD_FILE:-/tmp/lessrl-head}" in scripts["data"]["pause.sh"]


@pytest.mark.parametrize("overlay", JOB_OVERLAYS)
def test_a_job_ends_its_cluster_and_is_not_begun_again_by_itself(overlay: str) -> None:
    (job,) = of_kind(build(overlay), "RayJob")
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    # A run that its user cancelled has failed, to Ray: it must not come back.
    assert spec["backoffLimit"] == 0
    # Kueue's to write; by hand it ends the cluster under a run.
    assert "suspend" not in spec
    assert "entrypointNumCpus" not in spec, "the head, where the entry point belongs, has none"


@pytest.mark.parametrize("overlay", JOB_OVERLAYS)
def test_the_entry_point_is_a_script_that_is_there_and_a_folder_named_after_the_recipe(overlay: str) -> None:
    documents = build(overlay)
    (job,) = of_kind(documents, "RayJob")
    name = yaml.safe_load(recipe_text(documents))["name"]
    assert job["spec"]["entrypoint"] == f"sh /etc/lessrl/scripts/run.sh /runs/{name}"


@pytest.mark.parametrize("overlay", JOB_OVERLAYS)
def test_workers_have_the_gpus_that_the_recipe_plans(overlay: str) -> None:
    documents = build(overlay)
    recipe = read_recipe(recipe_text(documents), base_dir=Path("/etc/lessrl/recipe"), where=overlay)
    plan = make_plan(recipe, with_torch=False)
    (group,) = cluster_of(documents)["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) * group["replicas"] == plan.total_gpus
    assert int(limits["cpu"]) * group["replicas"] >= plan.total_cpus


@pytest.mark.parametrize("overlay", JOB_OVERLAYS)
def test_workers_are_the_nodes_that_the_placement_describes(overlay: str) -> None:
    described = yaml.safe_load((ROOT / "deploy" / "placements" / f"{PLACEMENTS[overlay]}.yaml").read_text())
    (node,) = described["nodes"]
    (group,) = cluster_of(build(overlay))["workerGroupSpecs"]
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"] == {
        "nvidia.com/gpu": str(node["gpus"]),
        "cpu": str(node["cpus"]),
        "memory": f"{node['memory_gib']}Gi",
    }
    assert group["replicas"] == node.get("count", 1)


@pytest.mark.parametrize("overlay", JOB_OVERLAYS)
def test_the_recipe_is_a_shipped_one_but_for_its_data_and_its_control_plane(overlay: str) -> None:
    raw: dict[str, Any] = yaml.safe_load(recipe_text(build(overlay)))
    shipped = ROOT / "deploy" / "recipes" / f"{raw['name']}.yaml"
    here = read_recipe(recipe_text(build(overlay)), base_dir=shipped.parent, where=overlay).as_dict()
    there = load_recipe(shipped).as_dict()
    assert {key for key in there if here[key] != there[key]} == {"data", "control"}
    assert raw["data"]["train"]["path"] == "/data/train.parquet"
    assert raw["control"] == {"host": "0.0.0.0", "port": 8470}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_that_are_named_elsewhere_are_declared(overlay: str) -> None:
    documents = build(overlay)
    ports = {
        port["name"]: port["containerPort"]
        for port in pod_templates(documents)["head"]["spec"]["containers"][0]["ports"]
    }
    scraped = {end["port"] for each in of_kind(documents, "PodMonitor") for end in each["spec"]["podMetricsEndpoints"]}
    assert scraped == {"control", "metrics", "as-metrics", "dash-metrics"}
    assert scraped <= set(ports)
    (service,) = of_kind(documents, "Service")
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["control"]
    assert service["spec"]["ports"][0]["port"] == ports["control"] == 8470
    for group in (cluster_of(documents)["headGroupSpec"], *cluster_of(documents)["workerGroupSpecs"]):
        assert group["rayStartParams"]["metrics-export-port"] == str(ports["metrics"])


def test_the_control_plane_is_scraped_with_a_token_and_under_the_job_that_dashboards_know() -> None:
    control, ray = of_kind(build("single-node"), "PodMonitor")
    (endpoint,) = control["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "lessrl-tokens", "key": "metrics"}}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "lessrl"}]
    assert all(each["relabelings"][0]["replacement"] == "ray" for each in ray["spec"]["podMetricsEndpoints"])


def test_a_queued_job_differs_from_its_overlay_in_its_queue_alone() -> None:
    queued, plain = (next(iter(of_kind(build(each), "RayJob"))) for each in ("kueue", "single-node"))
    assert queued["metadata"].pop("labels") == {"kueue.x-k8s.io/queue-name": "lessrl"}
    assert queued == plain
