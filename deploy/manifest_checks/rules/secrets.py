"""Secrets: none is in a file, and every reference leads to a known key.

The component `secrets` generates them for trial. In production an operator of the
cluster creates them.
"""

from ..breaks import CONTAINER, DEV, PROD, RESTORED, add_object, set_field
from ..objects import NAMESPACE, Manifests, Object, title_of
from ..registry import Violations, rule

# The Secrets with a user name and a password, and the user of each.
USERS = {
    "account-database-owner": "account_owner",
    "account-database-service": "account_service",
    "transaction-database-owner": "transaction_owner",
    "transaction-database-service": "transaction_service",
    "report-database-owner": "report_owner",
    "report-database-service": "report_service",
    "webhook-database-service": "webhook_service",
    "database-auditor": "auditor",
    "database-report-reader": "report_reader",
    "database-ledger-reader": "ledger_reader",
    "postgres-superuser": "postgres",
    "nats-operator": "operator",
    "nats-account-service": "account-service",
    "nats-transaction-service": "transaction-service",
    "nats-report-service": "report-service",
    "nats-auditor": "auditor",
    "nats-route": "route",
}
KEYS = {name: {"username", "password"} for name in USERS} | {
    "token-verifier": {"jwks.json"},
    "report-signing-key": {"private-key"},
    "webhook-secret-keys": {"keys"},
    "report-bucket": {"access-key-id", "secret-access-key"},
    "report-renderer": {"token"},
    "report-alerts": {"url"},
    "report-analysis": {"api-key"},
    "nats-tls": {"ca.crt", "tls.crt", "tls.key"},
}


@rule(add_object(DEV, {"apiVersion": "v1", "kind": "Secret",
                       "metadata": {"name": "nats-route", "namespace": NAMESPACE}}))
def no_secret_in_a_file(manifests: Manifests) -> Violations:
    for secret in manifests.all("Secret"):
        yield title_of(secret), "remove it: no Secret may be in a file"


@rule(
    set_field(DEV, "StatefulSet nats", f"{CONTAINER} > env > 2 > valueFrom > secretKeyRef > key", "token"),
    set_field(PROD, "Deployment report-renderer", f"{CONTAINER} > env > 0 > valueFrom > secretKeyRef > name",
              "report-renderers"),
    set_field(PROD, "Cluster account-database", "spec > bootstrap > initdb > secret > name", "database-auditor"),
    set_field(RESTORED, "Cluster transaction-database-restored", "spec > bootstrap > recovery > secret > name",
              "account-database-owner"),
)
def secrets(manifests: Manifests) -> Violations:
    """Containers, volumes and database roles refer to known Secrets, key by key."""
    yield from unknown_variables(manifests)
    yield from unknown_volumes(manifests)
    yield from wrong_database_users(manifests)


def unknown_variables(manifests: Manifests) -> Violations:
    for where, _, container in manifests.containers():
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference and reference["key"] not in KEYS.get(reference["name"], set()):
                yield where, f"no known Secret {reference['name']} with the key {reference['key']}"
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield where, "must name the keys that it needs, not a whole Secret"


def unknown_volumes(manifests: Manifests) -> Violations:
    # CloudNativePG creates a certificate authority for each Cluster.
    authorities = {f"{cluster['metadata']['name']}-ca" for cluster in manifests.all("Cluster")}
    for workload in manifests.workloads:
        for where, source in workload.volumes("secret"):
            name = source["secretName"]
            known = {"ca.crt"} if name in authorities else KEYS.get(name, set())
            if not names_only_keys_in(known, source) and not is_optional_authority(source):
                yield where, f"no known Secret {name} with these keys"


def names_only_keys_in(known: set[str], source: Object) -> bool:
    """Whether a volume names its keys, and only known ones."""
    named = {item["key"] for item in source.get("items", [])}
    return bool(named) and named <= known


def is_optional_authority(source: Object) -> bool:
    """Whether a volume is the optional certificate of a database outside of the cluster."""
    return bool(source.get("optional")) and source["secretName"].endswith("-ca")


def wrong_database_users(manifests: Manifests) -> Violations:
    for cluster in manifests.all("Cluster"):
        spec = cluster["spec"]
        [bootstrap] = spec["bootstrap"].values()
        roles = [(role["name"], role["passwordSecret"]["name"]) for role in spec["managed"]["roles"]]
        for role, secret in [*roles, (bootstrap["owner"], bootstrap["secret"]["name"])]:
            if USERS.get(secret) != role:
                yield title_of(cluster), f"the Secret {secret} is not for the role {role}"
