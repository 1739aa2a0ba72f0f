"""podman's command line, and the options that stand for a container's manifest."""

import json
import os
import subprocess
import sys
import time

from manifest_checks.objects import Object

from .report import Failed, require

# The equivalents of readOnlyRootFilesystem, capabilities and allowPrivilegeEscalation.
# By default, podman would leave a few folders writable.
READ_ONLY = ("--read-only", "--read-only-tmpfs=false")
NO_NEW_PRIVILEGES = "--security-opt=no-new-privileges"
HARDENED = (*READ_ONLY, "--cap-drop=all", NO_NEW_PRIVILEGES)
RETRY_SECONDS = 0.5


def podman(*arguments: str, check: bool = True,
           environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs podman, with its output captured. Fails on a nonzero exit code if `check` is set."""
    completed = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False,
                               env=os.environ | (environment or {}))
    require(completed.returncode == 0 or not check, f"podman {arguments[0]}: {completed.stderr.strip()}")
    return completed


def full_name(image: str) -> str:
    """An image's name as a kubelet completes it. podman alone might find localhost/passbook/… first."""
    return f"docker.io/{image}"


def inspect_image(image: str) -> Object:
    return json.loads(podman("image", "inspect", image).stdout)[0]


def container_state(container: str, tries: int = 5) -> Object | None:
    """The state of a container, or None if it does not exist.

    podman may fail to inspect a running container on a busy machine. Then it is asked again.
    """
    error = ""
    for _ in range(tries):
        inspected = podman("container", "inspect", container, check=False)
        if inspected.returncode == 0:
            return json.loads(inspected.stdout)[0]["State"]
        error = inspected.stderr.strip()
        if "no such container" in error:
            return None
        print(f"podman container inspect {container}: {error}. Trying again.", file=sys.stderr)
        time.sleep(RETRY_SECONDS)
    raise Failed(f"podman container inspect {container}: {error}")


def remove_container(container: str) -> None:
    podman("rm", "--force", "--ignore", "--time=0", container)


def security_options(pod: Object, container: Object) -> list[str]:
    """The options for the security contexts of a pod spec and one of its containers."""
    own = container.get("securityContext", {})
    user = pod.get("securityContext", {}) | own
    options: list[str] = []
    if own.get("readOnlyRootFilesystem"):
        options += READ_ONLY
    options += [f"--cap-drop={capability}" for capability in own.get("capabilities", {}).get("drop", [])]
    if own.get("allowPrivilegeEscalation") is False:
        options.append(NO_NEW_PRIVILEGES)
    if "runAsUser" in user:
        options.append(f"--user={user['runAsUser']}:{user['runAsGroup']}")
    return options


def memory_options(container: Object) -> list[str]:
    """The options for a container's memory limit. Swap does not add to it."""
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    if not limit:
        return []
    # Mi and Gi are m and g for podman.
    limit = limit.removesuffix("i").lower()
    return [f"--memory={limit}", f"--memory-swap={limit}"]
