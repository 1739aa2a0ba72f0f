"""Renders overlays with kubectl's Kustomize, and lists the overlays to check."""

import re
import subprocess

import yaml

from .objects import Object
from .workspace import K8S, ROOT

# deploy/check-manifests.sh installs it.
KUBECTL = ROOT / ".tools/manifests/bin/kubectl"


class RenderError(Exception):
    """`kubectl kustomize` failed or printed a warning."""


def render(overlay: str) -> list[Object]:
    """The objects of an overlay, which is named relative to k8s/."""
    completed = subprocess.run([KUBECTL, "kustomize", K8S / overlay], capture_output=True, text=True, check=False)
    if completed.returncode != 0 or completed.stderr:
        raise RenderError(f"kubectl kustomize: {completed.stderr.strip()}")
    return [document for document in yaml.safe_load_all(completed.stdout) if document]


def overlays() -> list[str]:
    """The overlays for use (k8s/overlays) and those for tests (k8s/tests)."""
    files = (file for folder in ("overlays", "tests") for file in (K8S / folder).glob("*/kustomization.yaml"))
    return sorted(f"{file.parent.parent.name}/{file.parent.name}" for file in files)


def unused_components() -> list[str]:
    """The components in no overlay. No rule would ever check them."""
    kustomizations = "".join((K8S / overlay / "kustomization.yaml").read_text() for overlay in overlays())
    components = sorted(folder.name for folder in (K8S / "components").iterdir())
    return [name for name in components
            if not re.search(rf"^  - \.\./\.\./components/{name}$", kustomizations, re.MULTILINE)]
