"""The restrictions of containers: user, system calls, capabilities, file system, host.

They are those of the Pod Security Standard `restricted`, and a read-only root besides.
"""

from ..breaks import CONTAINER, DEV, POD, remove_field, set_field
from ..objects import Manifests, Object, Workload
from ..registry import Violations, rule

# Volume sources that do not touch the node's own files.
ALLOWED_VOLUMES = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "csi",
                   "ephemeral"}


def own_security(container: Object) -> Object:
    return container.get("securityContext", {})


def effective_security(workload: Workload, container: Object) -> Object:
    """The pod's security context, overridden by the container's."""
    return workload.pod.get("securityContext", {}) | own_security(container)


@rule(
    remove_field(DEV, "StatefulSet postgres", f"{POD} > securityContext > runAsUser"),
    set_field(DEV, "Deployment account-service",
              f"{POD} > initContainers > 0 > securityContext > runAsNonRoot", False),
)
def not_root(manifests: Manifests) -> Violations:
    for where, workload, container in manifests.containers():
        security = effective_security(workload, container)
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield where, "needs runAsNonRoot: true and a numeric runAsUser other than 0"


@rule(set_field(DEV, "StatefulSet nats", f"{POD} > securityContext > seccompProfile > type", "Unconfined"))
def seccomp(manifests: Manifests) -> Violations:
    for where, workload, container in manifests.containers():
        if effective_security(workload, container).get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield where, "needs seccompProfile RuntimeDefault"


@rule(set_field(DEV, "Deployment transaction-service", f"{CONTAINER} > securityContext > capabilities",
                {"drop": ["ALL"], "add": ["NET_RAW"]}))
def capabilities(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        if own_security(container).get("capabilities") != {"drop": ["ALL"]}:
            yield where, "must drop ALL capabilities and add none"


@rule(remove_field(DEV, "Deployment transaction-service",
                   f"{CONTAINER} > securityContext > allowPrivilegeEscalation"))
def privilege_escalation(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        security = own_security(container)
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield where, "needs allowPrivilegeEscalation: false, and must not be privileged"


@rule(set_field(DEV, "StatefulSet postgres", f"{CONTAINER} > securityContext > readOnlyRootFilesystem", False))
def read_only_root(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        if own_security(container).get("readOnlyRootFilesystem") is not True:
            yield where, "needs readOnlyRootFilesystem: true"


@rule(set_field(DEV, "Deployment account-service", f"{POD} > hostNetwork", True))
def host_access(manifests: Manifests) -> Violations:
    """No pod shares the node's namespaces or mounts its files."""
    for workload in manifests.workloads:
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if workload.pod.get(key):
                yield workload.title, f"must not set {key}"
        for volume in workload.pod.get("volumes", []):
            for source in volume.keys() - ALLOWED_VOLUMES - {"name"}:
                yield f"{workload.title}, volume {volume['name']}", f"must not use the volume type {source}"
