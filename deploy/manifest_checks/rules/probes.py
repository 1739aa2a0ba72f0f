"""The probes of long-running containers."""

from ..breaks import CONTAINER, DEV, PROD, remove_field, set_field
from ..objects import Manifests, Object, has_port
from ..registry import Violations, rule

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@rule(remove_field(DEV, "StatefulSet nats", f"{CONTAINER} > startupProbe"))
def probes(manifests: Manifests) -> Violations:
    for where, _, container in manifests.long_running_containers():
        for probe in PROBES:
            if probe not in container:
                yield where, f"needs a {probe}"


@rule(set_field(DEV, "Deployment account-service", f"{CONTAINER} > livenessProbe > httpGet > path", "/readyz"))
def liveness_differs_from_readiness(manifests: Manifests) -> Violations:
    """Liveness must not depend on other servers, because an outage there would restart the container."""
    for where, _, container in manifests.long_running_containers():
        liveness = container.get("livenessProbe")
        if liveness and action(liveness) == action(container.get("readinessProbe", {})):
            yield where, ("its livenessProbe equals its readinessProbe: an outage of a dependency "
                          "would restart the container")


def action(probe: Object) -> Object:
    return {key: value for key, value in probe.items() if key in ("httpGet", "tcpSocket", "exec", "grpc")}


@rule(
    set_field(DEV, "StatefulSet nats", f"{CONTAINER} > livenessProbe > httpGet > path", "/healthz?js-enabled-only=true"),
    set_field(DEV, "StatefulSet nats", f"{CONTAINER} > livenessProbe > failureThreshold", 1),
    set_field(PROD, "StatefulSet nats", f"{CONTAINER} > livenessProbe > failureThreshold", 6),
)
def broker_liveness(manifests: Manifests) -> Violations:
    """A lasting write error restarts nats-server. Catching up with a cluster does not."""
    workload = manifests.find("StatefulSet", "nats")
    if not workload:
        return
    least = 600 if workload["spec"]["replicas"] > 1 else 120
    for container in workload["spec"]["template"]["spec"]["containers"]:
        probe = container["livenessProbe"]
        if probe["httpGet"]["path"] != "/healthz":
            yield "StatefulSet nats", "its livenessProbe must be /healthz: only that reports write errors"
        if probe["periodSeconds"] * probe["failureThreshold"] < least:
            yield "StatefulSet nats", f"its livenessProbe must wait for {least} s at least"


@rule(set_field(DEV, "Deployment account-service", f"{CONTAINER} > readinessProbe > httpGet > port", "metrics"))
def probe_ports(manifests: Manifests) -> Violations:
    """A probe uses a port of its own container."""
    for where, _, container in manifests.containers():
        for probe in PROBES:
            for kind in ("httpGet", "tcpSocket"):
                port = container.get(probe, {}).get(kind, {}).get("port")
                if port and not has_port(container.get("ports", []), port):
                    yield where, f"{probe}: the container has no port {port}"
