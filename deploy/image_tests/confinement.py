"""The restrictions of a running process, as the kernel reports them in /proc."""

import os
import pathlib

from .report import require

CAPABILITY_SETS = ("CapPrm", "CapEff", "CapBnd", "CapAmb")
SECCOMP_FILTER = "2"


def check_confinement(pod: str, pid: int, memory_limit: str) -> None:
    """Fails unless the process has the user, rights, root and memory limit of its manifest."""
    process = pathlib.Path(f"/proc/{pid}")
    check_status(pod, (process / "status").read_text())
    check_root(pod, (process / "mountinfo").read_text())
    limits = [int(file.read_text()) for file in memory_limit_files((process / "cgroup").read_text())
              if os.path.exists(file)]
    expected = int(memory_limit.removesuffix("Mi")) << 20
    require(limits == [expected], f"{pod}: memory limits {limits}, but the manifest has {expected}")


def check_status(pod: str, status: str) -> None:
    """The user, capabilities and seccomp filter in the text of /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for ids in ("Uid", "Gid"):
        require(fields[ids].split() == ["65532"] * 4, f"{pod}: {ids} is {fields[ids]}")
    for capabilities in CAPABILITY_SETS:
        require(int(fields[capabilities], 16) == 0, f"{pod}: {capabilities} is {fields[capabilities]}")
    require(fields["NoNewPrivs"] == "1", f"{pod} may gain privileges")
    require(fields["Seccomp"] == SECCOMP_FILTER, f"{pod} has no seccomp filter")


def check_root(pod: str, mountinfo: str) -> None:
    """The root's mount in the text of /proc/PID/mountinfo is read-only."""
    options = next(fields[5] for fields in map(str.split, mountinfo.splitlines()) if fields[4] == "/")
    require("ro" in options.split(","), f"{pod}: its root is mounted with {options}")


def memory_limit_files(cgroup: str) -> list[pathlib.Path]:
    """The files that may have the memory limit of the cgroups in the text of /proc/PID/cgroup."""
    groups = [line.strip().split(":", 2) for line in cgroup.splitlines()]
    version_1 = [f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes" for _, kind, path in groups if kind == "memory"]
    version_2 = [f"/sys/fs/cgroup{path}/memory.max" for _, kind, path in groups if kind == ""]
    return [pathlib.Path(file) for file in version_1 + version_2]
