"""What every container declares: resources and ports, and no service links."""

from ..breaks import CONTAINER, DEV, POD, PROD, append, remove_field, set_field
from ..objects import Manifests
from ..quantities import quantity
from ..registry import Violations, rule

REQUIRED = (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"),
            ("requests", "ephemeral-storage"), ("limits", "ephemeral-storage"))


@rule(
    remove_field(DEV, "Deployment account-service", f"{CONTAINER} > resources > limits > memory"),
    remove_field(DEV, "Job streams-{version}", f"{CONTAINER} > resources > requests > ephemeral-storage"),
    remove_field(PROD, "StatefulSet nats", f"{CONTAINER} > resources > limits > ephemeral-storage"),
)
def resources(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        declared = container.get("resources", {})
        for kind, resource in REQUIRED:
            if resource not in declared.get(kind, {}):
                yield where, f"needs resources.{kind}.{resource}"


# A kubelet keeps five log files of 10 MiB of a container by default.
LOGS = quantity("50Mi")


@rule(
    set_field(DEV, "Deployment report-service", f"{CONTAINER} > resources > limits > ephemeral-storage", "4Gi"),
    set_field(DEV, "StatefulSet postgres", f"{POD} > volumes > 1 > emptyDir > sizeLimit", "250Mi"),
    remove_field(PROD, "Deployment report-renderer", f"{POD} > volumes > 0 > emptyDir > sizeLimit"),
)
def ephemeral_storage(manifests: Manifests) -> Violations:
    """A pod's temporary volumes are limited, and fit into its limit beside the containers' logs."""
    for workload in manifests.workloads:
        volumes = [source for _, source in workload.volumes("emptyDir")]
        if any("sizeLimit" not in source for source in volumes):
            yield workload.title, "each emptyDir needs a sizeLimit"
            continue
        # Those in memory count as memory.
        used = sum(quantity(source["sizeLimit"]) for source in volumes if source.get("medium") != "Memory")
        containers = workload.pod["containers"]
        limit = sum(quantity(container.get("resources", {}).get("limits", {}).get("ephemeral-storage", "1Ei"))
                    for container in containers)
        if used + LOGS * len(containers) > limit:
            yield workload.title, "the kubelet would evict it: its limit of ephemeral-storage is below its volumes and logs"


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
