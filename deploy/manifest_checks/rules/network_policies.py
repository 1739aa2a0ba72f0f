"""Network policies: nothing is open by default, and each opening has its two ends."""

import ipaddress
import re
from collections.abc import Iterator

from ..breaks import DEV, PROD, add_object, append, remove_field, remove_object, set_field
from ..objects import Manifests, Object, title_of
from ..registry import Violations, rule
from ..workspace import ROOT

# From a workload to another, at a port.
Connection = tuple[str, str, str | int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The service that connects to addresses from its callers.
WEBHOOKS = "webhook-service"
DNS_PORTS = (53, 5353)
# A policy of an overlay that opens more to this service than the overlay's author may expect.
TO_ANY_POD = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "more", "namespace": "passbook", "labels": {"app.kubernetes.io/part-of": "passbook"}},
    "spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/name": WEBHOOKS}}, "policyTypes": ["Egress"],
             "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 443, "protocol": "TCP"}]}]},
}


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


def private_networks() -> list[Network]:
    """The addresses that the webhook-service refuses, from its own list."""
    source = (ROOT / "crates/webhook-service/src/address.rs").read_text()
    lists = "".join(re.findall(r"const SPECIAL_V[46]:.*?];", source, re.DOTALL))
    four = [f"{a}.{b}.{c}.0/{prefix}" for a, b, c, prefix in re.findall(r"v4\((\d+), (\d+), (\d+), (\d+)\)", lists)]
    six = [f"{int(first, 0):x}:{int(second, 0):x}::/{prefix}"
           for first, second, prefix in re.findall(r"v6\((\w+), (\w+), (\d+)\)", lists)]
    [(first, prefix)] = re.findall(r"const GLOBAL_V6.*v6\((\w+), 0, (\d+)\)", source)
    public = ipaddress.ip_network(f"{int(first, 0):x}::/{prefix}")
    others = ipaddress.ip_network("::/0").address_exclude(public)
    return [*map(ipaddress.ip_network, four + six), *others]


@rule(
    append(PROD, "NetworkPolicy to-token-issuer", "spec > podSelector > matchExpressions > 0 > values", WEBHOOKS),
    remove_field(DEV, "NetworkPolicy webhook-service", "spec > egress > 0 > to > 0 > ipBlock > except > 1"),
    remove_field(DEV, "NetworkPolicy webhook-service", "spec > egress > 0 > to > 1 > ipBlock > except > 2"),
    set_field(PROD, "NetworkPolicy webhook-service", "spec > egress > 0 > to > 1 > ipBlock > cidr", "::/0"),
    remove_field(PROD, "NetworkPolicy webhook-service", "spec > egress > 0 > to"),
    append(PROD, "NetworkPolicy dns", "spec > egress > 0 > ports", {"port": 8053, "protocol": "TCP"}),
    remove_field(PROD, "NetworkPolicy to-collector", "spec > egress > 0 > ports"),
    add_object(DEV, TO_ANY_POD),
)
def webhooks_stay_outside(manifests: Manifests) -> Violations:
    """All policies together open only public addresses to the webhook-service, and named exceptions.

    A named exception is a block of private addresses only, or the pods that a selector names.
    """
    for policy in manifests.all("NetworkPolicy"):
        if any(workload.name == WEBHOOKS for workload in manifests.pods(policy["spec"]["podSelector"])):
            for opening in policy["spec"].get("egress", []):
                for problem in too_wide(opening):
                    yield title_of(policy), f"opens {problem} to {WEBHOOKS}"


def too_wide(opening: Object) -> Iterator[str]:
    ports = [port.get("port") for port in opening.get("ports", [])]
    if not ports:
        yield "every port"
    if not opening.get("to") and not set(ports) <= set(DNS_PORTS):
        yield "every address"
    for peer in opening.get("to", []):
        if "ipBlock" in peer:
            yield from private_parts(peer["ipBlock"])
        elif not any(peer.get("podSelector", {}).values()) and not any(peer.get("namespaceSelector", {}).values()):
            yield "every pod"


def private_parts(block: Object) -> Iterator[str]:
    """The private addresses in a block that has others too."""
    cidr = ipaddress.ip_network(block["cidr"])
    excepted = [ipaddress.ip_network(network) for network in block.get("except", [])]
    private = [network for network in private_networks() if network.version == cidr.version]
    if any(cidr.subnet_of(network) for network in private):
        return
    for network in private:
        if network.subnet_of(cidr) and not any(network.subnet_of(other) for other in excepted):
            yield f"{network} in {cidr}"
