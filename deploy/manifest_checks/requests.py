"""The sum of what the pods of an overlay request, and the sentence about it in k8s/README.md."""

from fractions import Fraction

from .objects import Manifests, Object, Workload
from .quantities import quantity
from .workspace import K8S

README = K8S / "README.md"


def requested(manifests: Manifests, kind: str, resource: str) -> Fraction:
    """The sum of all pods, with the surge of a roll-out and one pod of each Job and CronJob.

    `kind` is "requests" or "limits".
    """
    pods = sum(of_pod(workload.pod, kind, resource) * pods_of(manifests, workload) for workload in manifests.workloads)
    databases = sum(amount(cluster["spec"], kind, resource) * cluster["spec"]["instances"]
                    for cluster in manifests.all("Cluster"))
    return pods + databases


def of_pod(pod: Object, kind: str, resource: str) -> Fraction:
    """The init containers run before the others, one at a time."""
    first = max((amount(container, kind, resource) for container in pod.get("initContainers", [])), default=Fraction(0))
    return max(first, sum((amount(container, kind, resource) for container in pod["containers"]), Fraction(0)))


def amount(container: Object, kind: str, resource: str) -> Fraction:
    return quantity(container.get("resources", {}).get(kind, {}).get(resource, 0))


def pods_of(manifests: Manifests, workload: Workload) -> int:
    spec = workload.object["spec"]
    if workload.kind in ("Job", "CronJob"):
        return 1
    scalers = [scaler["spec"].get("minReplicas", 1) for scaler in manifests.all("HorizontalPodAutoscaler")
               if scaler["spec"]["scaleTargetRef"]["name"] == workload.name]
    surge = spec.get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
    return max([spec.get("replicas", 1), *scalers]) + surge


def sentence(manifests: Manifests) -> str:
    """What k8s/README.md says about the requests of an overlay."""
    cpu, memory = requested(manifests, "requests", "cpu"), requested(manifests, "requests", "memory")
    limit = requested(manifests, "limits", "memory")
    return (f"All requests together are {float(cpu):.2f} CPUs and {float(memory / 2**30):.1f} GiB of memory, "
            f"all limits {float(limit / 2**30):.1f} GiB")
