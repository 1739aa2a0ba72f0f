"""ConfigMaps and variables: every reference leads to an existing key or variable."""

import re
from collections.abc import Iterator

from ..breaks import CONTAINER, DEV, PROD, remove_field, set_field
from ..objects import Manifests, Object
from ..registry import Violations, rule


@rule(
    remove_field(DEV, "ConfigMap addresses", "data > report-database"),
    set_field(DEV, "Deployment account-service", f"{CONTAINER} > envFrom > 0 > configMapRef > name",
              "account-services"),
)
def config_maps(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        for name, keys in config_references(container):
            if problem := missing_config(manifests, name, keys):
                yield where, problem
    for workload in manifests.workloads:
        for where, source in workload.volumes("configMap"):
            if problem := missing_config(manifests, source["name"], [item["key"] for item in source.get("items", [])]):
                yield where, problem


def config_references(container: Object) -> Iterator[tuple[str, list[str]]]:
    """The ConfigMaps in a container's environment, with the keys it names."""
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            yield source["configMapRef"]["name"], []
    for variable in container.get("env", []):
        if reference := variable.get("valueFrom", {}).get("configMapKeyRef"):
            yield reference["name"], [reference["key"]]


def missing_config(manifests: Manifests, name: str, keys: list[str]) -> str | None:
    config = manifests.find("ConfigMap", name)
    if not config:
        return f"no ConfigMap {name}"
    return next((f"no key {key} in the ConfigMap {name}" for key in keys if key not in config["data"]), None)


@rule(set_field(DEV, "Deployment account-service", f"{CONTAINER} > env > 0 > name", "PASSWORD"))
def expansions(manifests: Manifests) -> Violations:
    """Kubernetes expands $(NAME) only if NAME is defined earlier in the list."""
    for where, _, container in manifests.containers():
        defined = {key for source in container.get("envFrom", [])
                   for key in manifests.config_data(source.get("configMapRef", {}).get("name"))}
        for variable in container.get("env", []):
            for name in re.findall(r"\$\(([^)]+)\)", variable.get("value") or ""):
                if name not in defined:
                    yield where, f"{variable['name']}: $({name}) is not defined before it"
            defined.add(variable["name"])


@rule(
    remove_field(PROD, "StatefulSet nats", f"{CONTAINER} > env > 3"),
    set_field(PROD, "ConfigMap nats", "data > nats.conf",
              "max_file_store: 9GB\nserver_name: $NAME"),
)
def broker_variables(manifests: Manifests) -> Violations:
    """nats-server does not start if its configuration uses an unset variable."""
    for workload in manifests.workloads:
        texts = [text for _, source in workload.volumes("configMap")
                 for file, text in manifests.config_data(source["name"]).items() if file.endswith(".conf")]
        used = set(re.findall(r"[:\[,]\s*\$(\w+)", "".join(texts)))
        set_variables = {name for container in workload.containers() for name in manifests.environment(container)}
        for name in sorted(used - set_variables):
            yield workload.title, f"its configuration uses ${name}, which is not set"


@rule(set_field(PROD, "ConfigMap nats", "data > cluster.conf",
                "cluster { routes: [$NATS_ROUTE_1, $NATS_ROUTE_2] }"))
def broker_routes(manifests: Manifests) -> Violations:
    """A node without a store takes the number of routes for the number of nodes."""
    for workload in manifests.workloads:
        for _, source in workload.volumes("configMap"):
            for file, text in manifests.config_data(source["name"]).items():
                routes = re.search(r"^[^#\n]*\broutes: \[([^\]]*)\]", text, re.MULTILINE)
                replicas = workload.object["spec"].get("replicas", 1)
                if routes and len(routes[1].split(",")) != replicas:
                    yield workload.title, f"{file} needs a route to each of the {replicas} nodes, the node itself too"
