"""How pods are replaced and placed, and how Jobs run and end."""

from ..breaks import DEV, POD, PROD, remove_field, remove_object, set_field
from ..objects import Manifests, Object, Workload, selects, title_of
from ..registry import Violations, rule

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


@rule(
    set_field(DEV, "Deployment account-service", "spec > strategy > rollingUpdate > maxUnavailable", 1),
    set_field(DEV, "Deployment report-service", "spec > strategy", {"rollingUpdate": {"maxUnavailable": 0}}),
)
def rolling_update(manifests: Manifests) -> Violations:
    """New pods are ready before old ones end, unless a volume is in the way."""
    for workload in manifests.of_kind("Deployment"):
        strategy = workload.object["spec"].get("strategy", {})
        if manifests.has_exclusive_volume(workload):
            if strategy.get("type") != "Recreate":
                yield workload.title, "needs the strategy Recreate: a pod on another node can't mount its volume"
        elif strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield workload.title, "needs maxUnavailable: 0"


@rule(
    set_field(DEV, "Deployment account-service",
              f"{POD} > topologySpreadConstraints > 0 > whenUnsatisfiable", "DoNotSchedule"),
    remove_field(PROD, "StatefulSet nats", f"{POD} > topologySpreadConstraints > 1 > minDomains"),
)
def spread(manifests: Manifests) -> Violations:
    """Deployments prefer to spread, so that they also fit on one node. Replicated StatefulSets must spread."""
    for workload in manifests.of_kind("Deployment"):
        constraints = spread_constraints(workload)
        if {constraint["topologyKey"] for constraint in constraints} != {ZONE, HOST}:
            yield workload.title, "needs topologySpreadConstraints over zones and hosts"
        for constraint in constraints:
            if (constraint["whenUnsatisfiable"] != "ScheduleAnyway"
                    or not selects(constraint["labelSelector"], workload.labels)):
                yield workload.title, ("each topologySpreadConstraint needs whenUnsatisfiable: ScheduleAnyway "
                                       "and a labelSelector that matches the workload's own pods")
    for workload in manifests.of_kind("StatefulSet"):
        replicas = workload.object["spec"].get("replicas", 1)
        if replicas > 1 and not any(separates(constraint, workload, replicas)
                                    for constraint in spread_constraints(workload)):
            yield workload.title, ("two replicas may share a node: needs a topologySpreadConstraint "
                                   f"with DoNotSchedule and minDomains: {replicas}")


def spread_constraints(workload: Workload) -> list[Object]:
    return workload.pod.get("topologySpreadConstraints", [])


def separates(constraint: Object, workload: Workload, replicas: int) -> bool:
    """Whether a constraint places each of the replicas on a node of its own."""
    return (constraint["topologyKey"] == HOST and constraint["whenUnsatisfiable"] == "DoNotSchedule"
            and constraint["maxSkew"] == 1 and constraint.get("minDomains") == replicas
            and selects(constraint["labelSelector"], workload.labels))


HOOK = "argocd.argoproj.io/hook"
# The annotations of a Job under a continuous comparison.
HOOKS = {HOOK: "Sync", f"{HOOK}-delete-policy": "BeforeHookCreation", "kustomize.toolkit.fluxcd.io/force": "enabled"}


@rule(
    set_field(DEV, "CronJob verify", "spec > concurrencyPolicy", "Allow"),
    remove_field(DEV, "Job streams-{version}", "spec > ttlSecondsAfterFinished"),
    set_field(PROD, "Job streams-{version}", "spec > ttlSecondsAfterFinished", 3600),
    set_field(PROD, "Job migrate-{version}", f"metadata > annotations > {HOOK}", "PreSync"),
)
def jobs(manifests: Manifests) -> Violations:
    """A Job has a bound on its retries and is deleted after its end. A CronJob never runs twice at once.

    Under Argo CD or Flux, a deleted Job would be created again and again: it stays there.
    """
    for job in manifests.all("Job"):
        annotations = job["metadata"].get("annotations", {})
        if not job["spec"].get("backoffLimit"):
            yield title_of(job), "needs a backoffLimit"
        if HOOK not in annotations:
            if not job["spec"].get("ttlSecondsAfterFinished"):
                yield title_of(job), "needs ttlSecondsAfterFinished"
        elif annotations != HOOKS or "ttlSecondsAfterFinished" in job["spec"]:
            yield title_of(job), f"needs the annotations {HOOKS}, and no ttlSecondsAfterFinished"
    for cron_job in manifests.all("CronJob"):
        spec = cron_job["spec"]
        if (spec.get("concurrencyPolicy") != "Forbid" or not spec.get("startingDeadlineSeconds")
                or not spec["jobTemplate"]["spec"].get("activeDeadlineSeconds")):
            yield title_of(cron_job), "needs concurrencyPolicy: Forbid, startingDeadlineSeconds and activeDeadlineSeconds"


# What finds drift, and what mends it.
SCHEDULED = {"doctor", "streams", "verify"}


@rule(
    remove_object(DEV, "CronJob streams"),
    remove_object(PROD, "CronJob streams"),
)
def scheduled(manifests: Manifests) -> Violations:
    """Drift is found and mended without a person."""
    for missing in sorted(SCHEDULED - {cron_job["metadata"]["name"] for cron_job in manifests.all("CronJob")}):
        yield f"CronJob {missing}", "is missing"
