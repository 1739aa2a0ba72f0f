"""Numbers of replicas, and the room for them: autoscalers, minimums, disruption budgets, requests, priorities."""

import copy
from collections.abc import Iterator

from ..breaks import CONTAINER, DEV, POD, PROD, Break, find, remove_field, remove_object, set_field
from ..objects import Manifests, Object, selects, title_of
from ..quantities import quantity
from ..registry import Violations, rule
from ..requests import requested
from ..workspace import ROOT

TOPOLOGY = ROOT / "crates/contract/src/topology.rs"


def scalers(manifests: Manifests) -> Iterator[tuple[Object, Object, int]]:
    """Each autoscaler, with its target and its minimum number of replicas."""
    for scaler in manifests.all("HorizontalPodAutoscaler"):
        yield scaler, scaler["spec"]["scaleTargetRef"], scaler["spec"].get("minReplicas", 1)
    for scaler in manifests.all("ScaledObject"):
        yield scaler, scaler["spec"]["scaleTargetRef"], scaler["spec"].get("minReplicaCount", 0)


@rule(
    set_field(PROD, "HorizontalPodAutoscaler account-service", "spec > minReplicas", 1),
    set_field(PROD, "Deployment transaction-service", "spec > replicas", 3),
)
def scale_targets(manifests: Manifests) -> Violations:
    """Each autoscaler has a target of its own, and keeps two replicas or more."""
    scaled = set()
    for scaler, target, minimum in scalers(manifests):
        workload = manifests.find(target["kind"], target["name"])
        if not workload:
            yield title_of(scaler), f"no {target['kind']} {target['name']}"
        elif "replicas" in workload["spec"]:
            yield title_of(scaler), f"remove replicas from {title_of(workload)}: every apply would undo the scaling"
        if minimum < 2:
            yield title_of(scaler), "its minimum must be two replicas or more"
        if target["name"] in scaled:
            yield title_of(scaler), f"{target['name']} has two autoscalers"
        scaled.add(target["name"])


@rule(
    set_field("overlays/dev", "Deployment account-service", "spec > replicas", 1),
    set_field(DEV, "Deployment report-service", "spec > replicas", 2),
)
def replicas(manifests: Manifests) -> Violations:
    """Two replicas or more, unless the pods of two nodes can't share a volume."""
    scaled = {target["name"] for _, target, _ in scalers(manifests)}
    for workload in manifests.of_kind("Deployment"):
        number = workload.object["spec"].get("replicas", 1)
        if manifests.has_exclusive_volume(workload):
            if number != 1:
                yield workload.title, "needs one replica: a pod on another node can't mount its volume"
        elif workload.name not in scaled and number < 2:
            yield workload.title, "needs two replicas or more"


def autoscale(name: str) -> Break:
    """Adds an autoscaler for a Deployment, as the component `autoscale` would."""
    def mutate(objects: list[Object]) -> None:
        scaler = copy.deepcopy(find(objects, "HorizontalPodAutoscaler account-service"))
        scaler["metadata"]["name"] = scaler["spec"]["scaleTargetRef"]["name"] = name
        del find(objects, f"Deployment {name}")["spec"]["replicas"]
        objects.append(scaler)
    return Break(PROD, f"add an autoscaler for {name}", mutate)


@rule(autoscale("report-service"), autoscale("report-renderer"))
def reports_are_not_scaled(manifests: Manifests) -> Violations:
    """One report at a time is made, so more replicas would make reports no faster."""
    for scaler, target, _ in scalers(manifests):
        if target["name"] in ("report-service", "report-renderer"):
            yield title_of(scaler), f"{target['name']} makes one report at a time: remove its autoscaler"


@rule(
    remove_object(PROD, "PodDisruptionBudget nats"),
    remove_field(DEV, "PodDisruptionBudget account-service", "spec > unhealthyPodEvictionPolicy"),
)
def disruption_budgets(manifests: Manifests) -> Violations:
    """A replicated workload has one budget, which allows the eviction of one pod at a time."""
    minimums = {target["name"]: minimum for _, target, minimum in scalers(manifests)}
    for workload in manifests.of_kind("Deployment", "StatefulSet"):
        if max(minimums.get(workload.name, 0), workload.object["spec"].get("replicas", 1)) < 2:
            continue
        budgets = [budget for budget in manifests.all("PodDisruptionBudget")
                   if selects(budget["spec"]["selector"], workload.labels)]
        if len(budgets) != 1:
            yield workload.title, f"needs one PodDisruptionBudget, but has {len(budgets)}"
    for budget in manifests.all("PodDisruptionBudget"):
        spec = budget["spec"]
        if spec.get("maxUnavailable") != 1 or spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield title_of(budget), "needs maxUnavailable: 1 and unhealthyPodEvictionPolicy: AlwaysAllow"
        if not manifests.pods(spec["selector"]):
            yield title_of(budget), "selects no pod"


@rule(set_field(PROD, "ScaledObject transaction-service", "spec > triggers > 0 > metadata > consumer", "deposits"))
def scaler_consumers(manifests: Manifests) -> Violations:
    """Scaling by backlog names a stream and a consumer of the contract."""
    topology = TOPOLOGY.read_text()
    for scaler in manifests.all("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            for key in ("stream", "consumer"):
                if f'"{trigger["metadata"][key]}"' not in topology:
                    yield title_of(scaler), f"the contract has no {key} {trigger['metadata'][key]}"


SERVERS = "passbook-servers"


@rule(
    remove_field(DEV, "StatefulSet nats", f"{POD} > priorityClassName"),
    set_field(DEV, "Deployment account-service", f"{POD} > priorityClassName", SERVERS),
    set_field(PROD, "Cluster account-database", "spec > priorityClassName", "system-cluster-critical"),
    remove_object(DEV, f"PriorityClass {SERVERS}"),
    set_field(DEV, f"PriorityClass {SERVERS}", "preemptionPolicy", "Never"),
    set_field(DEV, f"PriorityClass {SERVERS}", "globalDefault", True),
)
def priorities(manifests: Manifests) -> Violations:
    """The servers take the place of the services that wait for them. Otherwise a full node is a deadlock."""
    for workload in manifests.workloads:
        expected = SERVERS if workload.kind == "StatefulSet" else None
        if workload.pod.get("priorityClassName") != expected:
            yield workload.title, f"its priorityClassName must be {expected}"
    for cluster in manifests.all("Cluster"):
        if cluster["spec"].get("priorityClassName") != SERVERS:
            yield title_of(cluster), f"its priorityClassName must be {SERVERS}"
    # In production it is created with the namespace.
    created = manifests.find("PriorityClass", SERVERS)
    if manifests.find("ServiceAccount", "secrets") and not created:
        yield f"PriorityClass {SERVERS}", "is missing: the namespace's folder creates it"
    if created and (created["preemptionPolicy"] != "PreemptLowerPriority" or created["globalDefault"]):
        yield title_of(created), "must preempt, and must not be the default of other pods"


# What docs/deploying.md and k8s/README.md promise of overlays/dev.
TRIAL_CPU, TRIAL_MEMORY = quantity("1"), quantity("2Gi")
SMALL = "overlays/dev"


@rule(
    set_field(SMALL, "Deployment transaction-service", f"{CONTAINER} > resources > requests > cpu", "250m"),
    set_field(SMALL, "StatefulSet postgres", f"{CONTAINER} > resources > requests > memory", "2Gi"),
)
def trial_requests(manifests: Manifests) -> Violations:
    """The overlay for trial fits beside the system pods of a node with two CPUs, also during a roll-out."""
    if not manifests.find("ServiceAccount", "secrets"):
        return
    cpu, memory = requested(manifests, "requests", "cpu"), requested(manifests, "requests", "memory")
    if cpu > TRIAL_CPU or memory > TRIAL_MEMORY:
        yield "all pods", f"request {float(cpu):g} CPUs and {float(memory / 2**20):g} MiB in a roll-out: too much for a trial"
