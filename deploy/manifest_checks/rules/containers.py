"""What every container declares: resources and ports, and no service links."""

from ..breaks import CONTAINER, DEV, POD, append, remove_field
from ..objects import Manifests
from ..registry import Violations, rule


@rule(remove_field(DEV, "Deployment account-service", f"{CONTAINER} > resources > limits > memory"))
def resources(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        declared = container.get("resources", {})
        for kind, resource in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if resource not in declared.get(kind, {}):
                yield where, f"needs resources.{kind}.{resource}"


@rule(append(DEV, "Deployment account-service", f"{CONTAINER} > ports", {"name": "http", "containerPort": 8081}))
def port_names(manifests: Manifests) -> Violations:
    """Within a pod, every port has a name, and neither a name nor a number occurs twice."""
    for workload in manifests.workloads:
        for key in ("name", "containerPort"):
            values = [port.get(key) for port in workload.ports()]
            for value in {value for value in values if value is None or values.count(value) > 1}:
                yield workload.title, f"each port needs a {key} of its own, not {value}"


@rule(remove_field(DEV, "Deployment account-service", f"{POD} > enableServiceLinks"))
def service_links(manifests: Manifests) -> Violations:
    """No service links, because programs would read their variables as settings."""
    for workload in manifests.workloads:
        if workload.pod.get("enableServiceLinks") is not False:
            yield workload.title, "needs enableServiceLinks: false"
