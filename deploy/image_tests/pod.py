"""One pod of a Deployment, a Job or a CronJob, run by podman as a kubelet would."""

import os
import time

from manifest_checks.objects import Object

from .network import free_port, get
from .overlay import Overlay
from .podman import container_state, full_name, memory_options, podman, remove_container, security_options
from .report import WAIT_SECONDS, require, wait_until
from .run import Run

DEFAULT_GRACE_SECONDS = 30
KILLED = 128 + 9
FIND_SECONDS = 5


class Pod:
    """A pod. Its containers run one at a time, and the main container is the last."""

    def __init__(self, run: Run, overlay: Overlay, kind: str, name: str, replica: int = 0) -> None:
        spec = overlay.find(kind, name)["spec"]
        self.run, self.overlay = run, overlay
        self.name = f"{name}-{replica}"
        self.spec = spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]
        self.main: Object = self.spec["containers"][0]
        self.containers: list[Object] = [*self.spec.get("initContainers", []), self.main]
        declared = self.main.get("ports", [])
        # The local port for each container port.
        self.ports = {port["containerPort"]: free_port() for port in declared}
        by_name = {port["name"]: self.ports[port["containerPort"]] for port in declared}
        # 0 stands for no such port: only services have them.
        self.api_port, self.admin_port = by_name.get("http", 0), by_name.get("admin", 0)
        self.grace_seconds = self.spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
        # Whether clients may use the pod. The load keeps it up to date.
        self.ready = False

    def container_id(self, container: Object) -> str:
        return f"{self.run.name}-{self.name}-{container['name']}"

    def find_state(self, container: Object) -> Object | None:
        """podman's state of a container, or None if it was not started yet."""
        return container_state(self.container_id(container))

    def state(self, container: Object) -> Object:
        """podman's state of a started container. Nothing removes it, so podman is asked again if it finds none."""
        states: list[Object] = []

        def found() -> bool:
            states.extend(filter(None, [self.find_state(container)]))
            return bool(states)

        wait_until(f"podman finds the started container {self.container_id(container)}", found, FIND_SECONDS)
        return states[0]

    def start_container(self, container: Object) -> None:
        """Starts one container with the settings of its manifest."""
        name = self.container_id(container)
        # The values reach podman by its own environment: every user can read an argument list.
        variables = self.overlay.environment(container, self.name, self.ports)
        # podman itself would use this one, and it is no secret.
        folder = variables.pop("TMPDIR", None)
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        mounts = [self.mount_option(volumes[mount["name"]], mount) for mount in container.get("volumeMounts", [])]
        remove_container(name)
        podman("run", "--detach", "--pull=never", "--network=host", f"--name={name}", self.run.label_option,
               f"--hostname={self.name}", *(f"--env={variable}" for variable in variables),
               *([f"--env=TMPDIR={folder}"] if folder else []), *mounts,
               *security_options(self.spec, container), *memory_options(container),
               full_name(container["image"]), *container.get("args", []), environment=variables)

    def mount_option(self, volume: Object, mount: Object) -> str:
        """podman's option for one mount."""
        if (secret := volume.get("secret")) and secret["secretName"] in self.overlay.secrets:
            folder = self.run.folder(f"secret-{secret['secretName']}", 0o755)
            for item in secret["items"]:
                file = folder / item["path"]
                file.write_text(self.overlay.secrets[secret["secretName"]][item["key"]])
                file.chmod(0o644)
            return f"--volume={folder}:{mount['mountPath']}:ro"
        if secret:
            # Optional Secrets that do not exist here. A kubelet mounts empty folders.
            return f"--volume={self.run.empty_folder()}:{mount['mountPath']}:ro"
        if claim := volume.get("persistentVolumeClaim"):
            # A kubelet gives the volume to the group.
            folder = self.run.folder(f"claim-{claim['claimName']}", 0o2775)
            os.chown(folder, 0, self.spec["securityContext"]["fsGroup"])
        else:
            require("emptyDir" in volume, f"{self.name}: unknown volume {volume}")
            folder = self.run.folder(f"{self.name}-{volume['name']}", 0o777)
        access = "ro" if mount.get("readOnly") else "rw"
        return f"--volume={folder}:{mount['mountPath']}:{access}"

    def exit_code(self, container: Object, seconds: float = WAIT_SECONDS) -> int:
        """Waits until a container has ended."""
        wait_until(f"{self.container_id(container)} ends",
                   lambda: self.state(container)["Status"] in ("exited", "stopped"), seconds)
        return self.state(container)["ExitCode"]

    def run_to_completion(self) -> str:
        """Runs all containers in turn. Returns the standard output of the last one."""
        for container in self.containers:
            self.start_container(container)
            code = self.exit_code(container)
            logs = podman("logs", self.container_id(container))
            require(code == 0, f"{self.container_id(container)} exited with code {code}:\n{logs.stdout}{logs.stderr}")
        return logs.stdout

    def begin(self) -> None:
        """Starts the first container of a new pod: the init container if there is one."""
        remove_container(self.container_id(self.main))
        for volume in self.spec.get("volumes", []):
            if "emptyDir" in volume:
                self.run.remove_folder(f"{self.name}-{volume['name']}")
        self.start_container(self.containers[0])

    def await_ready(self) -> None:
        """Waits for the init containers, starts the main container and waits until it is ready."""
        for container in self.containers[:-1]:
            code = self.exit_code(container)
            require(code == 0, f"{self.container_id(container)} exited with code {code}")
        if not self.find_state(self.main):
            self.start_container(self.main)
        startup = self.main["startupProbe"]
        wait_until(f"{self.name} is up", lambda: self.probe("startupProbe"),
                   startup["periodSeconds"] * startup["failureThreshold"])
        wait_until(f"{self.name} is ready", lambda: self.probe("readinessProbe"))
        self.ready = True

    def replace(self) -> None:
        """Starts a new pod in this one's place and waits until it is ready."""
        self.begin()
        self.await_ready()

    def probe(self, name: str) -> bool:
        """Whether a probe of the main container succeeds."""
        action = self.main[name]["httpGet"]
        require(action["port"] == "admin", f"{self.name}: {name} uses the port {action['port']}, not admin")
        return get(self.admin_port, action["path"])[0] == 200

    def stop(self) -> float:
        """Stops the pod as a kubelet does: SIGTERM, and SIGKILL after the grace period. Returns the seconds."""
        started = time.monotonic()
        podman("stop", f"--time={self.grace_seconds}", self.container_id(self.main))
        seconds = time.monotonic() - started
        code = self.state(self.main)["ExitCode"]
        require(code == 0, f"{self.name} exited with code {code}, {seconds:.1f} s after SIGTERM "
                           f"(grace period {self.grace_seconds} s)")
        self.ready = False
        return seconds

    def kill(self) -> None:
        podman("kill", "--signal=KILL", self.container_id(self.main))
        code = self.exit_code(self.main)
        require(code == KILLED, f"{self.name} was killed, but exited with code {code}")
