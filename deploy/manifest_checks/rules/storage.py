"""Volumes: each is declared and mounted, and the data of servers and reports outlives their pods."""

import pathlib
import re

from ..breaks import CONTAINER, DEV, POD, PROD, remove_field, set_field
from ..objects import Manifests
from ..registry import Violations, rule


@rule(
    set_field(DEV, "StatefulSet nats", "spec > persistentVolumeClaimRetentionPolicy > whenDeleted", "Delete"),
    set_field(DEV, "StatefulSet postgres", f"{POD} > securityContext > fsGroupChangePolicy", "Always"),
)
def data_retention(manifests: Manifests) -> Violations:
    for workload in manifests.of_kind("StatefulSet"):
        policy = workload.object["spec"].get("persistentVolumeClaimRetentionPolicy")
        if policy != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield workload.title, "must retain its volume claims when deleted and when scaled"
        security = workload.pod.get("securityContext", {})
        if not security.get("fsGroup") or security.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield workload.title, "needs an fsGroup and fsGroupChangePolicy: OnRootMismatch"


@rule(
    remove_field(DEV, "StatefulSet nats", f"{CONTAINER} > volumeMounts > 1"),
    remove_field(DEV, "StatefulSet postgres", f"{POD} > volumes > 0"),
)
def volumes(manifests: Manifests) -> Violations:
    for workload in manifests.workloads:
        declared = [volume["name"] for volume in workload.pod.get("volumes", [])]
        declared += [claim["metadata"]["name"] for claim in workload.object["spec"].get("volumeClaimTemplates", [])]
        mounted = [mount["name"] for container in workload.containers() for mount in container.get("volumeMounts", [])]
        for name in sorted(set(declared) ^ set(mounted)):
            yield workload.title, f"volume {name} is " + ("not mounted" if name in declared else "not declared")
        for _, claim in workload.volumes("persistentVolumeClaim"):
            if claim.get("claimName") and not manifests.find("PersistentVolumeClaim", claim["claimName"]):
                yield workload.title, f"no PersistentVolumeClaim {claim['claimName']}"


@rule(
    remove_field(DEV, "StatefulSet postgres", "spec > volumeClaimTemplates > 0 > status"),
    remove_field(PROD, "StatefulSet nats", "spec > volumeClaimTemplates > 0 > spec > volumeMode"),
)
def complete_claims(manifests: Manifests) -> Violations:
    """A claim in a StatefulSet has the fields that the server adds. Without, every apply changes the list."""
    for workload in manifests.of_kind("StatefulSet"):
        for claim in workload.object["spec"].get("volumeClaimTemplates", []):
            added = (claim.get("apiVersion"), claim.get("kind"), claim["spec"].get("volumeMode"), claim.get("status"))
            if added != ("v1", "PersistentVolumeClaim", "Filesystem", {"phase": "Pending"}):
                yield workload.title, "its claims need apiVersion, kind, volumeMode: Filesystem and status.phase: Pending"


# The units of nats-server, of Kubernetes and of PASSBOOK_STREAM_STORAGE.
UNITS = {"MB": 2**20, "GB": 2**30, "TB": 2**40, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
         "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# The part of a larger storage that a smaller one in it may take.
MOST = 0.95


@rule(
    set_field(DEV, "ConfigMap addresses", "data > stream-storage", "9GiB"),
    set_field(PROD, "StatefulSet nats", "spec > volumeClaimTemplates > 0 > spec > resources > requests > storage", "9Gi"),
    set_field(PROD, "ConfigMap nats", "data > nats.conf", "max_file_store: 10GB"),
)
def broker_storage(manifests: Manifests) -> Violations:
    """The streams fit into max_file_store, and max_file_store into the volume, with some room."""
    streams = manifests.config_data("addresses").get("stream-storage", "0GiB")
    for broker in (workload for workload in manifests.workloads if workload.title == "StatefulSet nats"):
        texts = [manifests.config_data(source["name"]).get("nats.conf", "")
                 for _, source in broker.volumes("configMap")]
        store = re.search(r"max_file_store: (\w+)", "".join(texts))
        if not store:
            yield broker.title, "its configuration has no max_file_store"
            continue
        claim = broker.object["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        if size(streams) > MOST * size(store[1]):
            yield "ConfigMap addresses", f"stream-storage, {streams}, must be less than max_file_store, {store[1]}"
        if size(store[1]) > MOST * size(claim):
            yield broker.title, f"max_file_store, {store[1]}, must be less than its volume, {claim}"


def size(text: str) -> int:
    """The bytes of a size such as 9GB, 10Gi or 8GiB."""
    parts = re.fullmatch(r"(\d+)([A-Za-z]+)", text)
    if not parts:
        raise ValueError(f"not a size: {text}")
    return int(parts[1]) * UNITS[parts[2]]


@rule(
    set_field(DEV, "ConfigMap report-storage", "data > PASSBOOK_REPORT_STORAGE_URL", "file:///scratch/reports"),
    set_field(PROD, "ConfigMap report-storage", "data > PASSBOOK_REPORT_STORAGE_URL", "file:///var/lib/passbook/reports"),
)
def report_storage(manifests: Manifests) -> Violations:
    """The files of reports are in a bucket, or in a volume that outlives its pods."""
    for where, workload, container in manifests.long_running_containers():
        url = manifests.environment(container).get("PASSBOOK_REPORT_STORAGE_URL") or ""
        if not url.startswith("file://"):
            continue
        folder = pathlib.PurePosixPath(url.removeprefix("file://"))
        claims = {volume["name"] for volume in workload.pod.get("volumes", []) if "persistentVolumeClaim" in volume}
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] in claims]
        if not any(folder.is_relative_to(mount) for mount in mounts):
            yield where, f"no volume claim is mounted for the files in {folder}"
