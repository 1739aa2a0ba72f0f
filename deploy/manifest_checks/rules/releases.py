"""Versions and labels: an upgrade changes the version everywhere, and no selector."""

import re

from ..breaks import CONTAINER, DEV, PROD, remove_field, set_field
from ..objects import Manifests, selects, title_of
from ..programs import command_of
from ..registry import Violations, rule
from ..workspace import DASHED_VERSION, VERSION

LABELS = "app.kubernetes.io"
POD_LABELS = "spec > template > metadata > labels"


@rule(
    set_field(DEV, "StatefulSet nats", f"{CONTAINER} > image", "nats"),
    set_field(DEV, "StatefulSet nats", f"{CONTAINER} > image", "registry.example.com:5000/nats:latest"),
    set_field(PROD, "Deployment account-service", f"{CONTAINER} > image",
              "registry.example.com/passbook/account-service@sha256:12"),
)
def image_tags(manifests: Manifests) -> Violations:
    """Every image has a digest or a tag, and the tag is not `latest`."""
    for where, _, container in manifests.containers():
        if not re.search(r"^[^@]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]*)$", container["image"]):
            yield where, f"image {container['image']} needs a tag other than latest"
    for cluster in manifests.all("Cluster"):
        if not re.search(r":\d+\.\d+", cluster["spec"].get("imageName", "")):
            yield title_of(cluster), "imageName needs a tag with a version"


@rule(
    set_field(DEV, "Deployment account-service", f"{CONTAINER} > image",
              "registry.example.com/passbook/account-service:0.0.1"),
    set_field(DEV, "Job streams-{version}", "metadata > name", "streams"),
    set_field(PROD, "Deployment account-service", f"{POD_LABELS} > {LABELS}/version", "0.0.1"),
)
def release(manifests: Manifests) -> Violations:
    """Passbook's own images, labels and Job names have the version in Cargo.toml, images a digest instead."""
    for where, workload, container in manifests.containers():
        if not command_of(container):
            continue
        # A digest says nothing of the version; the label does.
        if "@" not in container["image"] and not container["image"].endswith(f":{VERSION}"):
            yield where, f"image {container['image']} needs the tag {VERSION}, the version in Cargo.toml"
        if workload.labels.get(f"{LABELS}/version") != VERSION:
            yield where, f"the label {LABELS}/version must be {VERSION}"
        if workload.kind == "Job" and not workload.name.endswith(f"-{DASHED_VERSION}"):
            yield where, f"the Job's name must end in {DASHED_VERSION}, because a Job's pod template is immutable"


@rule(remove_field(DEV, "StatefulSet nats", f"{POD_LABELS} > app.kubernetes.io/component"))
def labels(manifests: Manifests) -> Violations:
    for workload in manifests.workloads:
        for key in ("name", "component", "part-of", "version"):
            if f"{LABELS}/{key}" not in workload.labels:
                yield workload.title, f"its pods need the label {LABELS}/{key}"


@rule(set_field(DEV, "StatefulSet nats", "spec > selector > matchLabels > app.kubernetes.io/version", "2.15.1"))
def selectors(manifests: Manifests) -> Violations:
    """A workload selects its own pods by their name alone, because selectors are immutable."""
    for workload in manifests.of_kind("Deployment", "StatefulSet"):
        selector = workload.object["spec"]["selector"]
        if not selects(selector, workload.labels):
            yield workload.title, "its selector does not match its own pods"
        for key in selector.get("matchLabels", {}).keys() - {f"{LABELS}/name"}:
            yield workload.title, f"remove {key} from the selector: a selector is immutable"
