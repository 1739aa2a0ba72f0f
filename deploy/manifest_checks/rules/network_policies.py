"""Network policies: nothing is open by default, and each opening has its two ends."""

from collections.abc import Iterator

from ..breaks import DEV, PROD, remove_field, remove_object, set_field
from ..objects import Manifests, Object, title_of
from ..registry import Violations, rule

# From a workload to another, at a port.
Connection = tuple[str, str, str | int]


@rule(set_field(DEV, "NetworkPolicy default-deny", "spec > policyTypes", ["Ingress"]))
def default_deny(manifests: Manifests) -> Violations:
    specs = [policy["spec"] for policy in manifests.all("NetworkPolicy")]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in specs:
        yield "NetworkPolicies", "none denies all ingress and egress of every pod"


@rule(
    set_field(DEV, "NetworkPolicy account-service", "spec > ingress > 0 > ports > 0 > port", 80),
    set_field(DEV, "NetworkPolicy dns", "spec > podSelector > matchLabels", {"name": "pod"}),
)
def policy_targets(manifests: Manifests) -> Violations:
    """A policy's selectors match pods, and its ingress opens only ports of those pods."""
    for policy in manifests.all("NetworkPolicy"):
        for problem in (*wrong_selectors(manifests, policy["spec"]), *wrong_ports(manifests, policy["spec"])):
            yield title_of(policy), problem


def wrong_selectors(manifests: Manifests, spec: Object) -> Iterator[str]:
    if not manifests.pods(spec["podSelector"]):
        yield "selects no pod"
    for name in selected_names(spec["podSelector"]):
        if not any(workload.labels.get("app.kubernetes.io/name") == name for workload in manifests.workloads):
            yield f"selects pods named {name}, but there are none"
    for opening in spec.get("ingress", []) + spec.get("egress", []):
        for peer in opening.get("from", []) + opening.get("to", []):
            if "podSelector" in peer and not manifests.pods(peer["podSelector"]):
                yield "has a peer that matches no pod"


def selected_names(selector: Object) -> Iterator[str]:
    for expression in selector.get("matchExpressions", []):
        if expression["key"] == "app.kubernetes.io/name" and expression["operator"] == "In":
            yield from expression["values"]


def wrong_ports(manifests: Manifests, spec: Object) -> Iterator[str]:
    selected = manifests.pods(spec["podSelector"])
    for opening in spec.get("ingress", []):
        if not opening.get("ports"):
            yield "opens all ports"
        for port in opening.get("ports", []):
            for workload in selected:
                if not workload.has_port(port["port"]):
                    yield f"{workload.title} has no port {port['port']}"


@rule(
    remove_object(DEV, "NetworkPolicy to-nats"),
    remove_object(PROD, "NetworkPolicy to-report-renderer"),
    remove_field(DEV, "NetworkPolicy postgres",
                 "spec > ingress > 0 > from > 0 > podSelector > matchExpressions > 0 > values > 0"),
)
def policies_agree(manifests: Manifests) -> Violations:
    """A connection between two pods is allowed at both ends or at neither."""
    egress = connections(manifests, "egress", "to")
    ingress = connections(manifests, "ingress", "from")
    for source, target, port in sorted(egress ^ ingress):
        missing = "egress from the first" if (source, target, port) in ingress else "ingress to the second"
        yield "NetworkPolicies", f"{source} to {target}, port {port}: no policy allows {missing}"


def connections(manifests: Manifests, direction: str, peers: str) -> set[Connection]:
    """The connections between pods that the policies of one direction allow."""
    allowed = set()
    for policy in manifests.all("NetworkPolicy"):
        selected = manifests.pods(policy["spec"]["podSelector"])
        for opening in policy["spec"].get(direction, []):
            peer_pods = [pod for peer in opening.get(peers, []) if "podSelector" in peer
                         for pod in manifests.pods(peer["podSelector"])]
            for port in opening.get("ports", []):
                for workload in selected:
                    for peer in peer_pods:
                        ends = (workload.name, peer.name) if direction == "egress" else (peer.name, workload.name)
                        allowed.add((*ends, port["port"]))
    return allowed
