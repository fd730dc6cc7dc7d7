"""What NetworkPolicies let through, worked out as a cluster's network does: from a pod, to a pod, over which ports.

A pod that no policy of a direction selects is open in it; one that some select lets through what any of them does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class AllPorts:
    """Nothing is closed."""


ALL_PORTS = AllPorts()


@dataclass(frozen=True, kw_only=True)
class Pod:
    """As policies see it.

    Args:
        address: of something that is no pod, which a policy may name.
    """

    labels: Mapping[str, str]
    namespace: str = "lessrl"
    namespace_labels: Mapping[str, str] | None = None
    address: str = ""

    @property
    def home(self) -> Mapping[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace} | dict(self.namespace_labels or {})


OUTSIDE = Pod(labels={}, namespace="")
"""Something that is no pod: an address of the internet."""


def let_in(policies: Sequence[Policy], *, to: Pod, by: Pod) -> AllPorts | set[int]:
    """Ports of `to` that `by` may reach, as far as the policies of `to` go."""
    return _let(policies, of=to, peer=by, direction="ingress", side="from")


def let_out(policies: Sequence[Policy], *, by: Pod, to: Pod) -> AllPorts | set[int]:
    """Ports of `to` that `by` may ask, as far as the policies of `by` go."""
    return _let(policies, of=by, peer=to, direction="egress", side="to")


def _let(
    policies: Sequence[Policy], *, of: Pod, peer: Pod, direction: Literal["ingress", "egress"], side: str
) -> AllPorts | set[int]:
    selecting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == of.namespace
        and direction.capitalize() in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], of.labels)
    ]
    if not selecting:
        return ALL_PORTS
    open_ports: set[int] = set()
    for policy in selecting:
        for rule in policy["spec"].get(direction, []):
            if side in rule and not any(_is_peer(each, policy, peer) for each in rule[side]):
                continue
            if "ports" not in rule:
                return ALL_PORTS
            open_ports |= {each["port"] for each in rule["ports"]}
    return open_ports


def _is_peer(peer: Mapping[str, Any], policy: Policy, pod: Pod) -> bool:
    if "ipBlock" in peer:
        assert set(peer) == {"ipBlock"}, peer
        assert set(peer["ipBlock"]) == {"cidr"}, peer
        return bool(pod.address) and ip_address(pod.address) in ip_network(peer["ipBlock"]["cidr"])
    assert set(peer) <= {"podSelector", "namespaceSelector"}, peer
    if not pod.namespace:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], pod.home):
            return False
    elif pod.namespace != policy["metadata"]["namespace"]:
        return False
    return _selects(peer.get("podSelector", {}), pod.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", each
        if labels.get(each["key"]) not in each["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
