"""The schema of each object.

Custom resources are validated against the schemas in k8s/schemas. All other objects
are validated against Kubernetes' own schemas, of the oldest supported release and of
the newest known one.
"""

import functools
import json

import jsonschema
import kubernetes_validate

from ..breaks import DEV, PROD, RESTORED, add_object, remove_field, set_field
from ..objects import NAMESPACE, Manifests, title_of
from ..registry import Violations, rule
from ..workspace import K8S

OLDEST_KUBERNETES = "1.30"


@rule(
    set_field(DEV, "Deployment account-service", "spec > replica", 2),
    set_field(DEV, "StatefulSet nats", "spec > revisionHistoryLimit", "5"),
    set_field(PROD, "Cluster account-database", "spec > postgresql > synchronous > durability", "required"),
    set_field(PROD, "Cluster account-database", "spec > postgresql > synchronous > dataDurability", "always"),
    set_field(RESTORED, "Cluster transaction-database-restored",
              "spec > externalClusters > 0 > plugin > barmanObjectName", "backups"),
    remove_field(PROD, "Database report", "spec > owner"),
    set_field(PROD, "ScaledObject transaction-service", "spec > triggers > 0 > metadata > lagThreshold", 100),
    set_field(PROD, "HTTPRoute account-service", "spec > rules > 0 > timeout", "60s"),
    set_field(PROD, "PodMonitor passbook", "spec > podMetricsEndpoints > 0 > intervall", "15s"),
    add_object(DEV, {"apiVersion": "example.com/v1", "kind": "Unknown",
                     "metadata": {"name": "unknown", "namespace": NAMESPACE}}),
)
def schema(manifests: Manifests) -> Violations:
    """Each object matches its schema and has no unknown fields."""
    for candidate in manifests.objects:
        for error in schema_errors(json.dumps(candidate, sort_keys=True)):
            yield title_of(candidate), error


@functools.cache
def schema_errors(text: str) -> list[str]:
    """The errors in an object. Its JSON is the argument, because dictionaries can't be cached."""
    candidate = json.loads(text)
    group = candidate["apiVersion"].rpartition("/")[0]
    custom = K8S / "schemas" / f"{candidate['kind'].lower()}.{group}.json"
    if custom.exists():
        validator = jsonschema.Draft202012Validator(json.loads(custom.read_text()))
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(candidate)]
    errors = []
    for release in (OLDEST_KUBERNETES, kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(candidate, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            errors.append(f"Kubernetes {release}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            errors.append(error.message)
    return errors
