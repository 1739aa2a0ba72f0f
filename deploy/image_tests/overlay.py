"""The rendered overlay for development, with the values that a cluster would supply."""

import re

from manifest_checks.kustomize import RenderError, render
from manifest_checks.objects import Object

from .report import Failed

OVERLAY = "overlays/dev"
NAMESPACE = "passbook"


def render_overlay() -> list[Object]:
    try:
        return render(OVERLAY)
    except RenderError as error:
        raise Failed(str(error)) from error


class Overlay:
    """The objects of the overlay, the Secrets' values, and the local ports of the servers.

    `secrets` has the values of each Secret by name and key. `server_ports` has the local
    port for each server address in the manifests, such as "nats:4222".
    """

    def __init__(self, objects: list[Object], secrets: dict[str, dict[str, str]], server_ports: dict[str, int]) -> None:
        self.objects = objects
        self.secrets = secrets
        self.server_ports = server_ports

    def find(self, kind: str, name: str) -> Object:
        """An object by its kind and name. The version at the end of a Job's name may be left out."""
        for candidate in self.objects:
            if candidate["kind"] == kind and re.fullmatch(rf"{name}(-\d+-\d+-\d+)?", candidate["metadata"]["name"]):
                return candidate
        raise Failed(f"the manifests have no {kind} {name}")

    def config_data(self, name: str) -> dict[str, str]:
        return self.find("ConfigMap", name)["data"]

    def environment(self, container: Object, pod_name: str, ports: dict[int, int]) -> dict[str, str]:
        """A container's variables, with local addresses and ports in place of the cluster's.

        `ports` has the local port for each container port.
        """
        variables: dict[str, str] = {}
        for source in container.get("envFrom", []):
            variables |= self.config_data(source["configMapRef"]["name"])
        for variable in container.get("env", []):
            value = self.value_of(variable, pod_name, variables)
            if value is not None:
                variables[variable["name"]] = value
        return {name: self.with_local_addresses(value, ports) for name, value in variables.items()}

    def value_of(self, variable: Object, pod_name: str, defined: dict[str, str]) -> str | None:
        """The value of one variable. $(NAME) stands for a variable defined before it.

        None stands for an optional Secret that does not exist.
        """
        source = variable.get("valueFrom", {})
        if reference := source.get("secretKeyRef"):
            if reference.get("optional") and reference["name"] not in self.secrets:
                return None
            return self.secrets[reference["name"]][reference["key"]]
        if reference := source.get("configMapKeyRef"):
            return self.config_data(reference["name"])[reference["key"]]
        if reference := source.get("fieldRef"):
            return {"metadata.name": pod_name, "metadata.namespace": NAMESPACE}[reference["fieldPath"]]
        return re.sub(r"\$\((\w+)\)", lambda match: defined.get(match[1], match[0]), variable["value"])

    def with_local_addresses(self, value: str, ports: dict[int, int]) -> str:
        for address, port in self.server_ports.items():
            value = value.replace(address, f"127.0.0.1:{port}")
        return re.sub(r"0\.0\.0\.0:(\d+)", lambda match: f"127.0.0.1:{ports[int(match[1])]}", value)
