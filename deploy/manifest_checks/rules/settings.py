"""Settings: programs know their variables, get the required ones, and have time to stop."""

import re

from ..breaks import CONTAINER, DEV, POD, PROD, remove_field, remove_object, set_field
from ..objects import Manifests
from ..programs import command_of, settings_of
from ..registry import Violations, rule

UNITS = {"ms": 0.001, "s": 1, "m": 60}
# Kubernetes' default for terminationGracePeriodSeconds.
DEFAULT_GRACE_SECONDS = 30
# Seconds between a program's own deadline and SIGKILL.
MARGIN_SECONDS = 10


@rule(
    set_field(DEV, "ConfigMap account-service", "data > PASSBOOK_LISTEN_ON", "0.0.0.0:8080"),
    remove_field(DEV, "Deployment transaction-service", f"{CONTAINER} > env > 2"),
    set_field(DEV, "ConfigMap report-service", "data > PASSBOOK_REPORT_KEEP", "30d"),
    remove_field(PROD, "ConfigMap report-storage", "data > PASSBOOK_REPORT_STORAGE_URL"),
    set_field(DEV, "Deployment account-service", f"{CONTAINER} > env > 5 > name", "PASSBOOK_NATS_PASSPHRASE_FILE"),
    set_field(DEV, "CronJob doctor", "spec > jobTemplate > spec > template > spec > containers > 0 > args",
              ["docter"]),
)
def settings(manifests: Manifests) -> Violations:
    """The --help of each program lists its variables, and the required ones among them.

    With `_FILE` at the end of its name, a variable has the path of a file with the value.
    """
    for where, _, container in manifests.containers():
        command = command_of(container)
        if not command:
            continue
        shown = " ".join(command)
        known = settings_of(command)
        if not known:
            yield where, f"no such command: `{shown}`"
            continue
        given = {name if name in known.defaults else name.removesuffix("_FILE"): value
                 for name, value in manifests.environment(container).items()}
        for name in sorted(name for name in given
                           if name.startswith(("PASSBOOK_", "OTEL_")) and name not in known.defaults):
            yield where, f"`{shown}` has no setting {name}"
        for name in sorted(known.required - given.keys() - set(container.get("args", []))):
            yield where, f"`{shown}` requires {name}"


@rule(
    remove_field(DEV, "Deployment account-service", f"{CONTAINER} > env > 8"),
    set_field(DEV, "ConfigMap report-service", "data > PASSBOOK_JWKS_URL", "https://login.example.com/keys"),
    remove_field(PROD, "ConfigMap report-service", "data > PASSBOOK_JWKS_URL"),
    set_field(PROD, "ConfigMap account-service", "data > PASSBOOK_JWKS_URL", "http://login.example.com/keys"),
    set_field(DEV, "Deployment account-service", f"{CONTAINER} > env > 8 > value", "/etc/jwks.json"),
    remove_object(PROD, "NetworkPolicy to-token-issuer"),
)
def keys_of_tokens(manifests: Manifests) -> Violations:
    """Each API has one source of keys: a mounted file, or an https URL that a network policy lets it reach."""
    for where, workload, container in manifests.containers():
        command = command_of(container)
        known = command and settings_of(command)
        if not known or "PASSBOOK_JWKS_URL" not in known.defaults:
            continue
        given = manifests.environment(container)
        url, file = given.get("PASSBOOK_JWKS_URL"), given.get("PASSBOOK_JWKS_FILE")
        if bool(url) == bool(file):
            yield where, "must have one of PASSBOOK_JWKS_URL and PASSBOOK_JWKS_FILE"
        if url and not url.startswith("https://"):
            yield where, "PASSBOOK_JWKS_URL must be an https URL"
        if url and not reaches_hosts_outside(manifests, workload.name):
            yield where, "no network policy lets it reach PASSBOOK_JWKS_URL"
        folders = [mount["mountPath"] + "/" for mount in container.get("volumeMounts", [])]
        if file and not file.startswith(tuple(folders)):
            yield where, "PASSBOOK_JWKS_FILE is not in a volume"


def reaches_hosts_outside(manifests: Manifests, name: str) -> bool:
    """Whether a policy lets the pods of a workload reach port 443 of hosts outside of the cluster."""
    for policy in manifests.all("NetworkPolicy"):
        selected = [pod.name for pod in manifests.pods(policy["spec"]["podSelector"])]
        for opening in policy["spec"].get("egress", []):
            ports = [port["port"] for port in opening.get("ports", [])]
            outside = "to" not in opening or any("ipBlock" in peer for peer in opening["to"])
            if name in selected and outside and 443 in ports:
                return True
    return False


@rule(
    set_field(DEV, "Deployment account-service", f"{POD} > terminationGracePeriodSeconds", 30),
    set_field(DEV, "ConfigMap account-service", "data > PASSBOOK_GRACE_PERIOD", "1m"),
    set_field(DEV, "Deployment report-service", f"{POD} > terminationGracePeriodSeconds", 30),
)
def termination_grace_period(manifests: Manifests) -> Violations:
    """A pod's grace period exceeds its program's drain delay and grace period together by a margin."""
    for _, workload, container in manifests.long_running_containers():
        command = command_of(container)
        known = command and settings_of(command)
        if not known:
            continue
        given = known.defaults | manifests.environment(container)
        stop = sum(seconds(given.get(name)) for name in ("PASSBOOK_DRAIN_DELAY", "PASSBOOK_GRACE_PERIOD"))
        grace = workload.pod.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
        if grace < stop + MARGIN_SECONDS:
            yield workload.title, (f"stopping takes up to {stop:g} s: terminationGracePeriodSeconds must be at least "
                                   f"{MARGIN_SECONDS} s more")


def seconds(duration: str | None) -> float:
    """The seconds of a setting such as 500ms, 20s or 1m. A missing one counts as 0."""
    parts = re.fullmatch(r"(\d+)(ms|s|m)", duration or "0s")
    if not parts:
        raise ValueError(f"not a duration: {duration}")
    return int(parts[1]) * UNITS[parts[2]]
