"""The namespace, and the rights that pods have in the cluster."""

from ..breaks import DEV, POD, PROD, add_object, append, remove_object, set_field
from ..objects import NAMESPACE, Manifests, title_of
from ..registry import Violations, rule

ENFORCED_STANDARD = "pod-security.kubernetes.io/enforce"


@rule(
    set_field(DEV, "Service nats", "metadata > namespace", "default"),
    set_field(DEV, "Namespace passbook", f"metadata > labels > {ENFORCED_STANDARD}", "baseline"),
    remove_object(DEV, "Namespace passbook"),
    add_object(PROD, {"apiVersion": "v1", "kind": "Namespace",
                      "metadata": {"name": NAMESPACE, "labels": {ENFORCED_STANDARD: "restricted"}}}),
)
def namespace(manifests: Manifests) -> Violations:
    """Every object is in the namespace. Only overlays for trial contain the namespace itself.

    An overlay for trial is recognized by its Job that generates the passwords. In
    such an overlay, `kubectl delete -k` is meant to delete everything at once.
    """
    created = manifests.find("Namespace", NAMESPACE)
    for_trial = manifests.find("ServiceAccount", "secrets")
    if created and created["metadata"].get("labels", {}).get(ENFORCED_STANDARD) != "restricted":
        yield title_of(created), "must enforce the Pod Security Standard restricted"
    if created and not for_trial:
        yield title_of(created), "`kubectl delete -k` would delete it with every volume: remove it from this overlay"
    if not created and for_trial:
        yield f"Namespace {NAMESPACE}", "is missing: an overlay with the component `secrets` must create it"
    for candidate in manifests.objects:
        if candidate["kind"] not in ("Namespace", "PriorityClass") and candidate["metadata"].get("namespace") != NAMESPACE:
            yield title_of(candidate), f"must be in the namespace {NAMESPACE}"


@rule(set_field(DEV, "Deployment account-service", f"{POD} > serviceAccountName", "nobody"))
def service_accounts(manifests: Manifests) -> Violations:
    for workload in manifests.workloads:
        if not manifests.find("ServiceAccount", workload.pod.get("serviceAccountName", "default")):
            yield workload.title, "needs a ServiceAccount from this overlay"


@rule(
    set_field(DEV, "Deployment account-service", f"{POD} > automountServiceAccountToken", True),
    set_field(DEV, "Job secrets-{version}", f"{POD} > automountServiceAccountToken", False),
)
def service_account_tokens(manifests: Manifests) -> Violations:
    """A token is mounted if and only if a role is bound to the pod's ServiceAccount."""
    bound = {subject["name"] for binding in manifests.all("RoleBinding", "ClusterRoleBinding")
             for subject in binding["subjects"]}
    for account in manifests.all("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield title_of(account), "needs automountServiceAccountToken: false, so that each pod decides"
    for workload in manifests.workloads:
        needed = workload.pod.get("serviceAccountName") in bound
        if workload.pod.get("automountServiceAccountToken") is not needed:
            yield workload.title, f"needs automountServiceAccountToken: {str(needed).lower()}"


@rule(append(DEV, "Role secrets", "rules > 0 > verbs", "get"))
def roles(manifests: Manifests) -> Violations:
    """No role has a wildcard. A role for Secrets may create them and nothing else."""
    for role in manifests.all("Role", "ClusterRole"):
        for permission in role["rules"]:
            verbs, targets = permission["verbs"], permission["resources"]
            if "*" in verbs + targets or ("secrets" in targets and verbs != ["create"]):
                yield title_of(role), "must have no wildcard, and no verb other than create on Secrets"
    for binding in manifests.all("RoleBinding"):
        role = binding["roleRef"]
        if not manifests.find(role["kind"], role["name"]):
            yield title_of(binding), f"no {role['kind']} {role['name']}"
        for subject in binding["subjects"]:
            if subject.get("namespace") != NAMESPACE or not manifests.find("ServiceAccount", subject["name"]):
                yield title_of(binding), f"no ServiceAccount {subject['name']}"
