"""Inspects the images: their configuration, labels, content and size."""

import json
import re

from manifest_checks.objects import Object
from manifest_checks.workspace import VERSION

from .podman import HARDENED, full_name, inspect_image, podman
from .report import require

# The programs with an image, and the megabytes that each may add to the base image.
MAX_ADDED_MEGABYTES = {
    "account-service": 60,
    "transaction-service": 60,
    "report-service": 100,
    "webhook-service": 60,
    "report-renderer": 60,
    # 43.7 MB without the commands for development (built without optimization): it can compare
    # the storage of reports with their rows.
    "passbook": 50,
}
# Commands of the feature `dev`. The image has only commands for operations.
DEVELOPMENT_COMMANDS = {"dev", "load"}
LABEL_PREFIX = "org.opencontainers.image."


def image_of(program: str) -> str:
    return full_name(f"passbook/{program}:{VERSION}")


def check_image(program: str, base: str) -> str:
    """Inspects the image of a program. Returns a line for the report."""
    image = image_of(program)
    require(podman("image", "exists", image, check=False).returncode == 0,
            f"there is no image {image}: deploy/images.sh builds it")
    inspected = inspect_image(image)
    check_configuration(image, program, inspected["Config"])
    check_labels(image, program, inspected["Config"].get("Labels") or {})
    check_added_files(image, program, base)
    megabytes = (inspected["Size"] - inspect_image(base)["Size"]) / 1e6
    limit = MAX_ADDED_MEGABYTES[program]
    require(megabytes < limit, f"{image} adds {megabytes:.1f} MB to its base image; the limit is {limit} MB")

    printed = podman("run", "--rm", "--pull=never", "--network=none", *HARDENED, image, "--version").stdout.strip()
    require(printed == f"{program} {VERSION}", f"{image} --version printed: {printed}")
    printed = podman("run", "--rm", "--pull=never", "--network=none", *HARDENED, image, "--help").stdout
    check_commands(image, printed)
    return f"{image}: {megabytes:.1f} MB more than the base image, one file, runs as 65532 without privileges"


def check_configuration(image: str, program: str, config: Object) -> None:
    """The user, the stop signal and the command in the image's configuration."""
    require(config.get("User") == "65532:65532", f"{image}: runs as {config.get('User') or 'root'}")
    require(config.get("StopSignal") == "SIGTERM", f"{image}: STOPSIGNAL is {config.get('StopSignal')}")
    require(config.get("Entrypoint") == [f"/usr/local/bin/{program}"],
            f"{image}: ENTRYPOINT is {config.get('Entrypoint')}")
    require(not config.get("Cmd"), f"{image}: CMD is {config.get('Cmd')}")


def check_labels(image: str, program: str, labels: dict[str, str]) -> None:
    """The labels of the OCI image specification that deploy/images.sh and the Dockerfile set."""
    values = {key.removeprefix(LABEL_PREFIX): value for key, value in labels.items()}
    require(values.get("title") == program and values.get("version") == VERSION, f"{image}: labels are {values}")
    for label in ("description", "vendor", "licenses"):
        require(values.get(label), f"{image}: no label {label}")
    require(re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", values.get("revision", "")),
            f"{image}: labels are {values}")


def check_added_files(image: str, program: str, base: str) -> None:
    """The program is the only file that the image adds to its base image."""
    changes = json.loads(podman("image", "diff", "--format", "json", image, base).stdout)
    # The folders count as changed, because the program was copied into them.
    added = set(changes.get("added") or []) - {"/usr/local", "/usr/local/bin"}
    require(added == {f"/usr/local/bin/{program}"},
            f"{image} adds {len(added)} files to its base image: {sorted(added)[:5]}")


def check_commands(image: str, help_text: str) -> None:
    """The program in the image has no commands for development."""
    commands = DEVELOPMENT_COMMANDS & set(re.findall(r"^  ([a-z-]+) ", help_text, re.MULTILINE))
    require(not commands, f"{image} has commands for development: {', '.join(sorted(commands))}. "
                          "Build it without the feature `dev`")
