"""The resources of one run: its name, its folder, its server processes and its containers."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .podman import podman

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Server:
    """A server process, and how to start it again."""

    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        # PostgreSQL calls this a fast shutdown. nats-server ends at once.
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()


class Run:
    """One run of the test. Every container has its label, so that all of them can be removed."""

    def __init__(self) -> None:
        self.name = f"passbook-test-{os.getpid()}"
        self.label = f"label=run={self.name}"
        self.label_option = f"--{self.label}"
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.servers: dict[str, Server] = {}

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
        def start() -> subprocess.Popen[bytes]:
            with open(self.scratch / f"{name}.log", "a") as log:
                return subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options)
        self.servers[name] = Server(start, start())

    def restart_server(self, name: str, away_seconds: float) -> float:
        """Stops a server as its pod does, and starts it again after a pause. Returns the seconds between."""
        server = self.servers[name]
        stopped = time.monotonic()
        server.stop()
        time.sleep(away_seconds)
        server.process = server.start()
        return time.monotonic() - stopped

    def clean_up(self) -> None:
        """Removes the containers, servers and files of this run. Signals can't interrupt it."""
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        remaining = podman("ps", "--all", "--quiet", f"--filter={self.label}", check=False).stdout.split()
        if remaining:
            podman("rm", "--force", "--time=0", *remaining, check=False)
        for server in reversed(self.servers.values()):
            server.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)
