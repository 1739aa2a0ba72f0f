"""Addresses: Services, routes from outside, monitors, and the hosts in settings."""

import re
from collections.abc import Iterator

from ..breaks import DEV, POD, PROD, RESTORED, remove_field, set_field
from ..objects import NAMESPACE, Manifests, Object, title_of
from ..registry import Violations, rule

# The public paths, and the Service of each.
API = {"/v1": "account-service", "/docs": "account-service", "/problems": "account-service",
       "/v1/reports": "report-service", "/v1/webhook-endpoints": "webhook-service"}
# A gateway has a time limit for each path.
GATEWAY_API = {**API, "/v1/events": "account-service"}
# Paths with streams of events or large files, which a time limit would cut.
STREAMS = ("/v1/reports", "/v1/events")
# Seconds: the default of PASSBOOK_LONGEST_WAIT.
LONGEST_WAIT = 30
ONLY_THE_API = "must route " + ", ".join(f"{path} to {name}" for path, name in API.items()) + ", and nothing else"


@rule(
    set_field(DEV, "Service account-service", "spec > selector > app.kubernetes.io/name", "account"),
    set_field(DEV, "Service account-service", "spec > ports > 0 > targetPort", "web"),
)
def services(manifests: Manifests) -> Violations:
    """A Service selects pods with its ports. A StatefulSet has a headless Service."""
    for service in manifests.all("Service"):
        selected = [workload for workload in manifests.workloads
                    if workload.labels.items() >= service["spec"]["selector"].items()]
        if not selected:
            yield title_of(service), "selects no pod"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for workload in selected:
                if not workload.has_port(target):
                    yield title_of(service), f"{workload.title} has no port {target}"
    for stateful_set in manifests.all("StatefulSet"):
        name = stateful_set["spec"]["serviceName"]
        headless = manifests.find("Service", name)
        if not headless or headless["spec"].get("clusterIP") != "None":
            yield title_of(stateful_set), f"no headless Service {name}"


@rule(
    set_field(PROD, "ConfigMap addresses", "data > nats", "nats-0.nats:4222,nats-3.nats:4222"),
    set_field(DEV, "ConfigMap addresses", "data > account-database", "postgresql:5432/account"),
    set_field(RESTORED, "ConfigMap addresses", "data > transaction-database",
              "transaction-database-rw:5432/transaction"),
    set_field(PROD, "ScaledObject transaction-service",
              "spec > triggers > 1 > metadata > natsServerMonitoringEndpoint", "nats.passbook.svc:8223"),
)
def addresses(manifests: Manifests) -> Violations:
    """Each address within the namespace leads to a Service and one of its ports."""
    for where, text in address_settings(manifests):
        for host, port in re.findall(r"(?:^|//|@|,)([a-z0-9.-]+):(\d+)", text):
            problem = unreachable(manifests, host, int(port))
            if problem:
                yield where, f"{host}:{port}: {problem}"


def address_settings(manifests: Manifests, with_scalers: bool = True) -> Iterator[tuple[str, str]]:
    """The settings that may contain addresses, and where they are."""
    for config in manifests.all("ConfigMap"):
        for key, value in config["data"].items():
            # Neither a file nor an address to listen on, such as 0.0.0.0:8080.
            if "\n" not in value and not re.match(r"[\d.]+:", value):
                yield f"{title_of(config)}, {key}", value
    for where, _, container in manifests.containers():
        for variable in container.get("env", []):
            yield f"{where}, {variable['name']}", variable.get("value") or ""
    for scaler in manifests.all("ScaledObject") if with_scalers else ():
        for trigger in scaler["spec"]["triggers"]:
            yield title_of(scaler), trigger["metadata"]["natsServerMonitoringEndpoint"]


def unreachable(manifests: Manifests, host: str, port: int) -> str | None:
    """Why nothing listens at an address, or None if something does."""
    first, *domain = host.split(".")
    if not domain or domain[0] == NAMESPACE:
        return unreachable_service(manifests, first, port)
    service = manifests.find("Service", domain[0])
    if not service:
        # In another namespace or outside of the cluster: these manifests can't tell.
        return None
    # A pod of a StatefulSet, such as nats-0.nats.
    name, _, number = first.rpartition("-")
    stateful_set = manifests.find("StatefulSet", name)
    if not stateful_set or int(number) >= stateful_set["spec"]["replicas"]:
        return "no such pod"
    return unreachable_service(manifests, domain[0], port)


def unreachable_service(manifests: Manifests, name: str, port: int) -> str | None:
    # CloudNativePG creates a Service NAME-rw for the primary of each Cluster.
    database = name.removesuffix("-rw")
    if database != name and manifests.find("Cluster", database):
        return None if port == 5432 else "not PostgreSQL's port"
    service = manifests.find("Service", name)
    if not service:
        return "no such Service"
    return None if port in {declared["port"] for declared in service["spec"]["ports"]} else "no such port"


@rule(
    set_field(DEV, "ConfigMap addresses", "data > nats", "nats:4222"),
    set_field(DEV, "ConfigMap addresses", "data > report-database", "postgres.passbook.svc:5432/report"),
    set_field(DEV, "Job migrate-{version}", f"{POD} > initContainers > 0 > env > 2 > value",
              "postgres://postgres:$(SUPERUSER_PASSWORD)@postgres:5432/postgres"),
)
def client_addresses(manifests: Manifests) -> Violations:
    """A client's address is a Service with an address of its own, or one pod by its name.

    The name of a headless Service does not resolve while its only pod is away, and the
    cluster's resolver remembers that: a restart of seconds becomes an outage of half a
    minute. KEDA's scaler is no client: it puts a server's name before the headless one.
    """
    for where, text in address_settings(manifests, with_scalers=False):
        for host in re.findall(r"(?:^|//|@|,)([a-z0-9-]+)(?:\." + NAMESPACE + r"(?:\.svc[a-z.]*)?)?:\d+", text):
            service = manifests.find("Service", host)
            if service and service["spec"].get("clusterIP") == "None":
                yield where, f"{host} is headless: use a Service with an address, or the name of a pod"


@rule(
    set_field(DEV, "Ingress account-service", "spec > rules > 0 > http > paths > 1 > path", "/"),
    remove_field(DEV, "Ingress account-service", "spec > rules > 0 > http > paths > 0"),
    set_field(DEV, "HTTPRoute account-service", "spec > rules > 0 > backendRefs > 0 > name", "account-service"),
    set_field(DEV, "HTTPRoute account-service", "spec > rules > 0 > backendRefs > 0 > port", 8080),
    set_field(DEV, "Service nats", "spec > type", "NodePort"),
)
def public_routes(manifests: Manifests) -> Violations:
    """Only the API's paths and its reference are reachable from outside of the cluster."""
    for ingress in manifests.all("Ingress"):
        for host in ingress["spec"]["rules"]:
            routes = [(path["pathType"], path["path"], path["backend"]["service"]) for path in host["http"]["paths"]]
            if (sorted(path for _, path, _ in routes) != sorted(API)
                    or not all(kind == "Prefix" and service["name"] == API[path]
                               and has_service_port(manifests, service["name"], port_of(service))
                               for kind, path, service in routes)):
                yield title_of(ingress), ONLY_THE_API
    for route in manifests.all("HTTPRoute"):
        routes = [(match["path"], forward["backendRefs"])
                  for forward in route["spec"]["rules"] for match in forward["matches"]]
        if (sorted(path["value"] for path, _ in routes) != sorted(GATEWAY_API)
                or not all(path["type"] == "PathPrefix"
                           and all(backend["name"] == GATEWAY_API[path["value"]]
                                   and has_service_port(manifests, backend["name"], backend["port"])
                                   for backend in backends)
                           for path, backends in routes)):
            yield title_of(route), ONLY_THE_API
    for service in manifests.all("Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield title_of(service), "is reachable from outside of the cluster: its type must be ClusterIP"


@rule(
    set_field(DEV, "HTTPRoute account-service", "spec > rules > 0 > timeouts > request", "60s"),
    set_field(DEV, "HTTPRoute account-service", "spec > rules > 2 > timeouts > request", "60s"),
    set_field(DEV, "HTTPRoute account-service", "spec > rules > 3 > timeouts > request", "30s"),
    remove_field(DEV, "HTTPRoute account-service", "spec > rules > 3 > timeouts"),
)
def route_timeouts(manifests: Manifests) -> Violations:
    """A stream or a file may take any time. Every other request has a limit above the longest wait."""
    for route in manifests.all("HTTPRoute"):
        for forward in route["spec"]["rules"]:
            limit = forward.get("timeouts", {}).get("request")
            for path in (match["path"]["value"] for match in forward["matches"]):
                if path in STREAMS and limit != "0s":
                    yield title_of(route), f"must not limit the time of {path}: request must be 0s"
                if path not in STREAMS and not is_above_longest_wait(limit):
                    yield title_of(route), f"{path} needs a time limit above {LONGEST_WAIT} s"


def is_above_longest_wait(limit: str | None) -> bool:
    seconds = re.fullmatch(r"(\d+)s", limit or "")
    return seconds is not None and int(seconds[1]) > LONGEST_WAIT


def port_of(service: Object) -> str | int:
    """The port of an Ingress's backend: a name or a number."""
    return service["port"].get("name", service["port"].get("number"))


def has_service_port(manifests: Manifests, name: str, port: str | int) -> bool:
    service = manifests.find("Service", name)
    return service is not None and any(port in (declared["port"], declared.get("name"))
                                       for declared in service["spec"]["ports"])


@rule(set_field(DEV, "PodMonitor passbook", "spec > podMetricsEndpoints > 0 > port", "metrics"))
def pod_monitors(manifests: Manifests) -> Violations:
    for monitor in manifests.all("PodMonitor"):
        selected = manifests.pods(monitor["spec"]["selector"])
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if not selected or not all(workload.has_port(endpoint["port"]) for workload in selected):
                yield title_of(monitor), f"must select pods, and all of them need the port {endpoint['port']}"
