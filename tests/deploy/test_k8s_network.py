"""Who reaches what, by the NetworkPolicies of deploy/k8s: the cluster itself, others what they need alone."""

import pytest
from kubernetes_documents import OVERLAYS, build, of_kind, pod_templates
from network_rules import ALL_PORTS, OUTSIDE, Pod, Policy, let_in, let_out

HEAD, WORKER, SUBMITTER = (Pod(labels={"lessrl.io/part": part}) for part in ("head", "worker", "submitter"))
PROMETHEUS = Pod(labels={"app.kubernetes.io/name": "prometheus"}, namespace="monitoring")
PART = {"app.kubernetes.io/component": "kuberay-operator"}
OPERATORS = tuple(
    Pod(labels={"app.kubernetes.io/name": name, **PART}, namespace="ray-system")
    for name in ("kuberay-operator", "kuberay")
)
"""As KubeRay's chart labels it, and as its plain manifests do."""

DNS = Pod(labels={"k8s-app": "kube-dns"}, namespace="kube-system")
NODE_DNS = Pod(labels={}, namespace="", address="169.254.20.10")
METADATA = Pod(labels={}, namespace="", address="169.254.169.254")
"""Of a cloud: it hands out the credentials of the node."""

NEIGHBOUR = Pod(labels={"app": "notebook"})
STRANGER = Pod(labels={"lessrl.io/part": "worker"}, namespace="default")
GRAFANA = Pod(labels={"app.kubernetes.io/name": "grafana"}, namespace="monitoring")

METRICS = {8080, 44217, 44227, 8470}


@pytest.fixture(params=OVERLAYS)
def policies(request: pytest.FixtureRequest) -> list[Policy]:
    return [*of_kind(build(request.param), "NetworkPolicy")]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_the_labels_that_policies_select(overlay: str) -> None:
    parts = {
        name: template["metadata"]["labels"]["lessrl.io/part"]
        for name, template in pod_templates(build(overlay)).items()
    }
    job = {} if overlay == "interactive" else {"submitter": "submitter"}
    assert parts == {"head": "head", "gpu": "worker"} | job


def test_inside_the_cluster_nothing_is_closed(policies: list[Policy]) -> None:
    for one in (HEAD, WORKER):
        for other in (HEAD, WORKER):
            assert let_in(policies, to=one, by=other) == ALL_PORTS
            assert let_out(policies, by=one, to=other) == ALL_PORTS


def test_nobody_else_reaches_a_pod(policies: list[Policy]) -> None:
    for pod in (HEAD, WORKER, SUBMITTER):
        for other in (NEIGHBOUR, STRANGER, GRAFANA, DNS, OUTSIDE):
            assert let_in(policies, to=pod, by=other) == set()


def test_prometheus_reaches_the_ports_of_metrics_alone(policies: list[Policy]) -> None:
    assert let_in(policies, to=HEAD, by=PROMETHEUS) == METRICS
    assert let_in(policies, to=WORKER, by=PROMETHEUS) == METRICS
    # A name is not enough: it must be in the namespace of monitoring.
    assert let_in(policies, to=HEAD, by=Pod(labels=PROMETHEUS.labels)) == set()


def test_the_job_server_is_for_who_submits_and_for_the_operator(policies: list[Policy]) -> None:
    for one in (SUBMITTER, *OPERATORS):
        assert let_in(policies, to=HEAD, by=one) == {8265}
        assert let_in(policies, to=WORKER, by=one) == set()
    assert let_out(policies, by=SUBMITTER, to=HEAD) == {8265}
    assert let_out(policies, by=SUBMITTER, to=WORKER) == set()


def test_pods_ask_nobody_but_the_cluster_and_the_name_server(policies: list[Policy]) -> None:
    for pod in (HEAD, WORKER, SUBMITTER):
        for name_server in (DNS, NODE_DNS):
            assert let_out(policies, by=pod, to=name_server) == {53}
        for other in (NEIGHBOUR, STRANGER, PROMETHEUS, METADATA, OUTSIDE):
            assert let_out(policies, by=pod, to=other) == set()


def test_the_rules_are_those_of_kubernetes() -> None:
    """What no policy selects is open; of several policies any may open; an empty selector is everybody at home."""
    meta, target = {"namespace": "lessrl"}, Pod(labels={"a": "b"})
    assert let_in([], to=target, by=OUTSIDE) == ALL_PORTS
    deny = {"metadata": meta, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert let_in([deny], to=target, by=NEIGHBOUR) == set()
    assert let_out([deny], by=target, to=NEIGHBOUR) == ALL_PORTS
    some = {"from": [{"podSelector": {}}], "ports": [{"port": 1}]}
    allow = {
        "metadata": meta,
        "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"], "ingress": [some]},
    }
    assert let_in([deny, allow], to=target, by=NEIGHBOUR) == {1}
    assert let_in([deny, allow], to=target, by=STRANGER) == set()
    assert let_in([deny, allow], to=Pod(labels={}), by=NEIGHBOUR) == set()
