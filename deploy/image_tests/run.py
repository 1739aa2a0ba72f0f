"""The resources of one run: its name, its folder, its server processes and its containers."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from typing import Any

from .podman import podman

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Run:
    """One run of the test. Every container has its label, so that all of them can be removed."""

    def __init__(self) -> None:
        self.name = f"passbook-test-{os.getpid()}"
        self.label = f"label=run={self.name}"
        self.label_option = f"--{self.label}"
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.servers: list[subprocess.Popen[bytes]] = []

    def empty_folder(self) -> pathlib.Path:
        return self.folder("empty", 0o755)

    def folder(self, name: str, mode: int) -> pathlib.Path:
        """A folder of the run, created if it is missing."""
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        # mkdir would apply the umask.
        folder.chmod(mode)
        return folder

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self.scratch / name, ignore_errors=True)

    def start_server(self, name: str, command: list[Any], environment: dict[str, str], **options: Any) -> None:
        """Starts a server process. Its output goes to a log file in the run's folder."""
        with open(self.scratch / f"{name}.log", "w") as log:
            self.servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options))

    def clean_up(self) -> None:
        """Removes the containers, servers and files of this run. Signals can't interrupt it."""
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        remaining = podman("ps", "--all", "--quiet", f"--filter={self.label}", check=False).stdout.split()
        if remaining:
            podman("rm", "--force", "--time=0", *remaining, check=False)
        for server in reversed(self.servers):
            # PostgreSQL calls this a fast shutdown. nats-server ends at once.
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)
