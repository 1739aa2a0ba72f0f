"""The rendered objects of one overlay, and the queries that rules make on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
# A container, and the text that names it in a report: "Job migrate, container migrate".
Located = tuple[str, "Workload", Object]

# The namespace of every object.
NAMESPACE = "passbook"
LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet")
# CloudNativePG's operator creates pods with these ports.
CLOUDNATIVE_PG_PORTS = {"postgres": 5432, "status": 8000, "metrics": 9187}


@dataclass(frozen=True)
class Workload:
    """An object that creates pods, with the labels and the spec of those pods."""

    object: Object
    labels: dict[str, str]
    pod: Object

    @property
    def kind(self) -> str:
        return self.object["kind"]

    @property
    def name(self) -> str:
        return self.object["metadata"]["name"]

    @property
    def title(self) -> str:
        return title_of(self.object)

    def containers(self) -> list[Object]:
        """All containers, init containers first."""
        return self.pod.get("initContainers", []) + self.pod["containers"]

    def ports(self) -> list[Object]:
        return [port for container in self.containers() for port in container.get("ports", [])]

    def has_port(self, port: str | int) -> bool:
        """`port` is a name or a number."""
        return has_port(self.ports(), port)

    def volumes(self, source: str) -> Iterator[tuple[str, Object]]:
        """The volumes of one type, such as "configMap": where each is, and its source."""
        for volume in self.pod.get("volumes", []):
            if source in volume:
                yield f"{self.title}, volume {volume['name']}", volume[source]


class Manifests:
    """All objects of one overlay."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects
        self.workloads = [Workload(owner, *template) for owner in objects if (template := pod_template(owner))]

    def all(self, *kinds: str) -> list[Object]:
        return [candidate for candidate in self.objects if candidate["kind"] in kinds]

    def has_exclusive_volume(self, workload: Workload) -> bool:
        """Whether a workload mounts a claim that the pods of one node only can mount."""
        claims = (self.find("PersistentVolumeClaim", source["claimName"])
                  for _, source in workload.volumes("persistentVolumeClaim"))
        return any(claim and claim["spec"]["accessModes"] == ["ReadWriteOnce"] for claim in claims)

    def find(self, kind: str, name: str | None) -> Object | None:
        return next((found for found in self.all(kind) if found["metadata"]["name"] == name), None)

    def of_kind(self, *kinds: str) -> list[Workload]:
        return [workload for workload in self.workloads if workload.kind in kinds]

    def pods(self, selector: Object) -> list[Workload]:
        """The workloads whose pods match a selector, CloudNativePG's databases included."""
        return [workload for workload in self.workloads + self.databases() if selects(selector, workload.labels)]

    def databases(self) -> list[Workload]:
        """The pods of each CloudNativePG Cluster, as network policies see them."""
        ports = [{"name": name, "containerPort": number} for name, number in CLOUDNATIVE_PG_PORTS.items()]
        return [Workload(cluster, {"cnpg.io/cluster": name}, {"containers": [{"name": name, "ports": ports}]})
                for cluster in self.all("Cluster") for name in [cluster["metadata"]["name"]]]

    def containers(self) -> Iterator[Located]:
        """Every container of every workload, init containers included."""
        for workload in self.workloads:
            for container in workload.containers():
                yield f"{workload.title}, container {container['name']}", workload, container

    def long_running_containers(self) -> Iterator[Located]:
        """The containers that run as long as their pod: no Jobs, no init containers."""
        for workload in self.of_kind(*LONG_RUNNING):
            for container in workload.pod["containers"]:
                yield f"{workload.title}, container {container['name']}", workload, container

    def config_data(self, name: str | None) -> dict[str, str]:
        """The data of a ConfigMap. Empty if there is no such ConfigMap."""
        return (self.find("ConfigMap", name) or {}).get("data", {})

    def environment(self, container: Object) -> dict[str, str | None]:
        """The variables of a container. None stands for a value from a Secret or a field."""
        variables: dict[str, str | None] = {}
        for source in container.get("envFrom", []):
            variables |= self.config_data(source.get("configMapRef", {}).get("name"))
        for variable in container.get("env", []):
            value = variable.get("value")
            if reference := variable.get("valueFrom", {}).get("configMapKeyRef"):
                value = self.config_data(reference["name"]).get(reference["key"])
            variables[variable["name"]] = value
        return variables


def pod_template(candidate: Object) -> tuple[dict[str, str], Object] | None:
    """The labels and the spec of the pods that an object creates, if it creates any."""
    if candidate["kind"] == "CronJob":
        template = candidate["spec"]["jobTemplate"]["spec"]["template"]
    elif candidate["kind"] in (*LONG_RUNNING, "Job"):
        template = candidate["spec"]["template"]
    else:
        return None
    return template["metadata"].get("labels", {}), template["spec"]


def title_of(named: Object) -> str:
    return f"{named['kind']} {named['metadata']['name']}"


def has_port(ports: list[Object], port: str | int) -> bool:
    return any(port in (declared.get("name"), declared["containerPort"]) for declared in ports)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches. An empty selector matches everything."""
    return (all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
            and all(matches(expression, labels) for expression in selector.get("matchExpressions", [])))


def matches(expression: Object, labels: dict[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    match operator:
        case "In":
            return labels.get(key) in expression["values"]
        case "NotIn":
            return labels.get(key) not in expression["values"]
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"unknown operator in a selector: {operator}")
