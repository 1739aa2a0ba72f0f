"""Checks the manifests in k8s/, as `kubectl kustomize` renders them.

Every object against its schema, and all of an overlay together against the
rules below: what must hold for each pod, and that what names something else
finds it. `--self-test` breaks the rendered objects as k8s/tests/breaks.yaml says,
and sees that each rule complains of its own breaks, and no other does.
"""

import collections
import copy
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
KUBECTL = ROOT / ".tools/manifests/bin/kubectl"
BUILT = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
OVERLAYS = sorted(f"{p.parent.parent.name}/{p.parent.name}" for kind in ("overlays", "tests")
                  for p in (ROOT / "k8s" / kind).glob("*/kustomization.yaml"))
OLDEST = "1.30"
NAMESPACE = "passbook"

# The Secrets that somebody else makes, with the user that each is for.
SECRETS = {
    "account-database-owner": "account_owner",
    "account-database-service": "account_service",
    "transaction-database-owner": "transaction_owner",
    "transaction-database-service": "transaction_service",
    "report-database-owner": "report_owner",
    "report-database-service": "report_service",
    "database-auditor": "auditor",
    "postgres-superuser": "postgres",
    "nats-operator": "operator",
    "nats-account-service": "account-service",
    "nats-transaction-service": "transaction-service",
    "nats-auditor": "auditor",
    "nats-route": "route",
}
SECRET_KEYS = {name: {"username", "password"} for name in SECRETS} | {
    "token-verifier": {"public-key"},
    "nats-tls": {"ca.crt", "tls.crt", "tls.key"},
}

Workload = collections.namedtuple("Workload", "object kind name labels pod")
RULES = {}


def rule(function):
    RULES[function.__name__.replace("_", "-")] = function
    return function


# What was rendered


class Manifests:
    def __init__(self, objects):
        self.objects = objects
        self.workloads = [w for o in objects if (w := workload(o))]

    def all(self, *kinds):
        return [o for o in self.objects if o["kind"] in kinds]

    def find(self, kind, name):
        return next((o for o in self.all(kind) if o["metadata"]["name"] == name), None)

    def pods(self, selector):
        return [w for w in self.workloads + self.databases() if selects(selector, w.labels)]

    def databases(self):
        """The pods that CloudNativePG makes of a Cluster, as far as policies see them."""
        ports = [{"name": n, "containerPort": p} for n, p in
                 (("postgres", 5432), ("status", 8000), ("metrics", 9187))]
        return [Workload(o, "Cluster", name, {"cnpg.io/cluster": name}, {"containers": [{"name": name, "ports": ports}]})
                for o in self.all("Cluster") for name in [o["metadata"]["name"]]]

    def environment(self, container):
        """Each variable with its value, or None where a Secret or a field has it."""
        found = {}
        for source in container.get("envFrom", []):
            config = self.find("ConfigMap", source.get("configMapRef", {}).get("name"))
            found |= (config or {}).get("data", {})
        for variable in container.get("env", []):
            value = variable.get("value")
            if key := variable.get("valueFrom", {}).get("configMapKeyRef"):
                config = self.find("ConfigMap", key["name"])
                value = (config or {}).get("data", {}).get(key["key"])
            found[variable["name"]] = value
        return found


def workload(o):
    template = {
        "Deployment": lambda: o["spec"]["template"],
        "StatefulSet": lambda: o["spec"]["template"],
        "DaemonSet": lambda: o["spec"]["template"],
        "Job": lambda: o["spec"]["template"],
        "CronJob": lambda: o["spec"]["jobTemplate"]["spec"]["template"],
    }.get(o["kind"])
    if template is None:
        return None
    template = template()
    labels = template["metadata"].get("labels", {})
    return Workload(o, o["kind"], o["metadata"]["name"], labels, template["spec"])


def selects(selector, labels):
    def expression(e):
        value = labels.get(e["key"])
        return {"In": lambda: value in e["values"], "NotIn": lambda: value not in e["values"],
                "Exists": lambda: e["key"] in labels, "DoesNotExist": lambda: e["key"] not in labels}[e["operator"]]()
    return (all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
            and all(map(expression, selector.get("matchExpressions", []))))


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def each(manifests):
    """Each container, with where it is and its pod."""
    for w in manifests.workloads:
        for container in containers(w.pod):
            yield f"{w.kind} {w.name}, container {container['name']}", w, container


def long_running(manifests):
    return [w for w in manifests.workloads if w.kind in ("Deployment", "StatefulSet", "DaemonSet")]


def ours(container):
    """The program that a container of ours runs, with its subcommands."""
    program = re.search(r"(?:^|/)passbook/([a-z-]+)(?:[:@]|$)", container["image"])
    if not program:
        return None
    words = []
    if program[1] == "passbook":
        for word in container.get("args", []):
            if word.startswith("-"):
                break
            words.append(word)
    return program[1], *words


def ports(pod):
    return [p for c in containers(pod) for p in c.get("ports", [])]


def has_port(pod, port):
    return any(port in (p.get("name"), p["containerPort"]) for p in ports(pod))


def name_of(o):
    return f"{o['kind']} {o['metadata']['name']}"


def version():
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


# Each pod by itself


@rule
def not_root(m):
    for where, w, c in each(m):
        security = w.pod.get("securityContext", {}) | c.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield where, "needs runAsNonRoot and a runAsUser that is a number and not 0"


@rule
def seccomp(m):
    for where, w, c in each(m):
        security = w.pod.get("securityContext", {}) | c.get("securityContext", {})
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield where, "needs seccompProfile RuntimeDefault"


@rule
def capabilities(m):
    for where, _, c in each(m):
        if c.get("securityContext", {}).get("capabilities") != {"drop": ["ALL"]}:
            yield where, "has to drop ALL capabilities, and add none"


@rule
def escalation(m):
    for where, _, c in each(m):
        security = c.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield where, "needs allowPrivilegeEscalation: false"


@rule
def read_only_root(m):
    for where, _, c in each(m):
        if c.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield where, "needs readOnlyRootFilesystem"


@rule
def nothing_of_the_host(m):
    allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "csi", "ephemeral"}
    for w in m.workloads:
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if w.pod.get(key):
                yield f"{w.kind} {w.name}", f"must not have {key}"
        for volume in w.pod.get("volumes", []):
            for kind in volume.keys() - allowed - {"name"}:
                yield f"{w.kind} {w.name}, volume {volume['name']}", f"{kind} is not allowed"


@rule
def resources(m):
    for where, _, c in each(m):
        has = c.get("resources", {})
        for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if what not in has.get(kind, {}):
                yield where, f"needs resources.{kind}.{what}"


@rule
def probes(m):
    for w in long_running(m):
        for c in w.pod["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe not in c:
                    yield f"{w.kind} {w.name}, container {c['name']}", f"needs a {probe}"


@rule
def liveness_is_its_own(m):
    for w in long_running(m):
        for c in w.pod["containers"]:
            probe = c.get("livenessProbe")
            if probe and action(probe) == action(c.get("readinessProbe", {})):
                yield f"{w.kind} {w.name}, container {c['name']}", \
                    "its liveness asks what readiness asks: what it depends on would have it killed"


def action(probe):
    return {k: v for k, v in probe.items() if k in ("httpGet", "tcpSocket", "exec", "grpc")}


@rule
def probe_ports(m):
    for where, w, c in each(m):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for kind in ("httpGet", "tcpSocket"):
                port = c.get(probe, {}).get(kind, {}).get("port")
                if port and not has_port({"containers": [c]}, port):
                    yield where, f"{probe}: no port {port}"


@rule
def port_names(m):
    for w in m.workloads:
        for key in ("name", "containerPort"):
            seen = [p.get(key) for p in ports(w.pod)]
            for value in {v for v in seen if v is None or seen.count(v) > 1}:
                yield f"{w.kind} {w.name}", f"ports need a {key} each of their own, not {value}"


@rule
def image_tags(m):
    for where, _, c in each(m):
        if not re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]*)$", c["image"]):
            yield where, f"image {c['image']} needs a tag, and not latest"
    for o in m.all("Cluster"):
        if not re.search(r":\d+\.\d+", o["spec"].get("imageName", "")):
            yield name_of(o), "imageName needs a tag with a version"


@rule
def release(m):
    dashed = version().replace(".", "-")
    for where, w, c in each(m):
        if not ours(c):
            continue
        if not c["image"].endswith(f":{version()}"):
            yield where, f"image {c['image']} is not of {version()}, the version in Cargo.toml"
        if w.labels.get("app.kubernetes.io/version") != version():
            yield where, f"its label app.kubernetes.io/version is not {version()}"
        if w.kind == "Job" and not w.name.endswith(f"-{dashed}"):
            yield where, f"a Job's pods can't be changed: its name has to end in {dashed}"


@rule
def labels(m):
    for w in m.workloads:
        for key in ("name", "component", "part-of", "version"):
            if f"app.kubernetes.io/{key}" not in w.labels:
                yield f"{w.kind} {w.name}", f"its pods lack the label app.kubernetes.io/{key}"


@rule
def selectors(m):
    for o in m.all("Deployment", "StatefulSet"):
        selector = o["spec"]["selector"]
        if not selects(selector, workload(o).labels):
            yield name_of(o), "does not select its own pods"
        for key in selector.get("matchLabels", {}).keys() - {"app.kubernetes.io/name"}:
            yield name_of(o), f"a selector can't be changed: {key} does not belong there"


@rule
def rolling_update(m):
    for o in m.all("Deployment"):
        if o["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield name_of(o), "needs maxUnavailable: 0"


@rule
def spread(m):
    for o in m.all("Deployment"):
        constraints = o["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        if {c["topologyKey"] for c in constraints} != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield name_of(o), "needs to be spread over zones and hosts"
        for c in constraints:
            if c["whenUnsatisfiable"] != "ScheduleAnyway" or not selects(c["labelSelector"], workload(o).labels):
                yield name_of(o), "is spread so that it does not run on one machine, or by another's pods"
    for o in m.all("StatefulSet"):
        replicas = o["spec"].get("replicas", 1)
        constraints = workload(o).pod.get("topologySpreadConstraints", [])
        if replicas > 1 and not any(
                (c["topologyKey"], c["whenUnsatisfiable"], c["maxSkew"], c.get("minDomains"))
                == ("kubernetes.io/hostname", "DoNotSchedule", 1, replicas)
                and selects(c["labelSelector"], workload(o).labels) for c in constraints):
            yield name_of(o), f"two of it may share a machine: needs DoNotSchedule with minDomains: {replicas}"


@rule
def service_links(m):
    for w in m.workloads:
        if w.pod.get("enableServiceLinks") is not False:
            yield f"{w.kind} {w.name}", "needs enableServiceLinks: false"


@rule
def data_is_kept(m):
    for o in m.all("StatefulSet"):
        if o["spec"].get("persistentVolumeClaimRetentionPolicy") != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield name_of(o), "has to retain its claims"
        security = workload(o).pod.get("securityContext", {})
        if not security.get("fsGroup") or security.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield name_of(o), "needs an fsGroup, with fsGroupChangePolicy: OnRootMismatch"


@rule
def jobs(m):
    for o in m.all("Job"):
        if not o["spec"].get("ttlSecondsAfterFinished") or not o["spec"].get("backoffLimit"):
            yield name_of(o), "needs ttlSecondsAfterFinished and a backoffLimit"
    for o in m.all("CronJob"):
        spec = o["spec"]
        if (spec.get("concurrencyPolicy") != "Forbid" or not spec.get("startingDeadlineSeconds")
                or not spec["jobTemplate"]["spec"].get("activeDeadlineSeconds")):
            yield name_of(o), "needs concurrencyPolicy: Forbid, startingDeadlineSeconds and activeDeadlineSeconds"


# What names something else


@rule
def namespace(m):
    there = m.find("Namespace", NAMESPACE)
    if there and there["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
        yield name_of(there), "has to enforce the Pod Security Standard restricted"
    # Who also draws the passwords is for trying out: all of it may go at once.
    if there and not m.find("ServiceAccount", "secrets"):
        yield name_of(there), "`kubectl delete -k` would delete every volume with it"
    if not there and m.find("ServiceAccount", "secrets"):
        yield f"Namespace {NAMESPACE}", "nobody makes it"
    for o in m.objects:
        if o["kind"] != "Namespace" and o["metadata"].get("namespace") != NAMESPACE:
            yield name_of(o), f"is not in the namespace {NAMESPACE}"


@rule
def no_secret_in_a_file(m):
    for o in m.all("Secret"):
        yield name_of(o), "no Secret may be in a file"


@rule
def config_maps(m):
    def missing(name, keys):
        config = m.find("ConfigMap", name)
        return f"no ConfigMap {name}" if not config else \
            next((f"no key {k} in the ConfigMap {name}" for k in keys if k not in config["data"]), None)

    for where, w, c in each(m):
        named = [(s["configMapRef"]["name"], []) for s in c.get("envFrom", []) if "configMapRef" in s]
        named += [(k["name"], [k["key"]]) for v in c.get("env", []) if (k := v.get("valueFrom", {}).get("configMapKeyRef"))]
        for problem in filter(None, (missing(*n) for n in named)):
            yield where, problem
    for w in m.workloads:
        for v in w.pod.get("volumes", []):
            if "configMap" in v:
                problem = missing(v["configMap"]["name"], [i["key"] for i in v["configMap"].get("items", [])])
                if problem:
                    yield f"{w.kind} {w.name}, volume {v['name']}", problem


@rule
def secrets(m):
    def unknown(name, key):
        return key not in SECRET_KEYS.get(name, set())

    for where, _, c in each(m):
        for v in c.get("env", []):
            key = v.get("valueFrom", {}).get("secretKeyRef")
            if key and unknown(key["name"], key["key"]):
                yield where, f"nobody makes a Secret {key['name']} with the key {key['key']}"
        for s in c.get("envFrom", []):
            if "secretRef" in s:
                yield where, "names all of a Secret: it has to name what it needs"
    authorities = {f"{o['metadata']['name']}-ca" for o in m.all("Cluster")}
    for w in m.workloads:
        for v in w.pod.get("volumes", []):
            s = v.get("secret")
            if not s:
                continue
            # All that it takes is named, and somebody makes it.
            made = {"ca.crt"} if s["secretName"] in authorities else SECRET_KEYS.get(s["secretName"], set())
            taken = {i["key"] for i in s.get("items", [])}
            if taken and taken <= made:
                continue
            if not s.get("optional") or not s["secretName"].endswith("-ca"):
                yield f"{w.kind} {w.name}, volume {v['name']}", f"nobody makes a Secret {s['secretName']} with these keys"
    for o in m.all("Cluster"):
        roles = [(r["name"], r["passwordSecret"]["name"]) for r in o["spec"]["managed"]["roles"]]
        [begun] = o["spec"]["bootstrap"].values()
        for role, secret in roles + [(begun["owner"], begun["secret"]["name"])]:
            if SECRETS.get(secret) != role:
                yield name_of(o), f"the Secret {secret} is not for the role {role}"


@rule
def expansions(m):
    """$(NAME) is put in only where NAME was defined before it."""
    for where, _, c in each(m):
        before = {k for s in c.get("envFrom", [])
                  for k in ((m.find("ConfigMap", s.get("configMapRef", {}).get("name")) or {}).get("data", {}))}
        for v in c.get("env", []):
            for name in re.findall(r"\$\(([^)]+)\)", v.get("value") or ""):
                if name not in before:
                    yield where, f"{v['name']}: $({name}) is not defined before it"
            before.add(v["name"])


@rule
def broker_variables(m):
    """nats-server does not start when its configuration names a variable that is not set."""
    for w in m.workloads:
        configs = [m.find("ConfigMap", v["configMap"]["name"]) for v in w.pod.get("volumes", []) if "configMap" in v]
        text = "".join(t for c in configs if c for key, t in c["data"].items() if key.endswith(".conf"))
        given = {name for c in containers(w.pod) for name in m.environment(c)}
        for name in sorted(set(re.findall(r"[:\[,]\s*\$(\w+)", text)) - given):
            yield f"{w.kind} {w.name}", f"its configuration names ${name}, which is not set"


@rule
def services(m):
    for o in m.all("Service"):
        chosen = [w for w in m.workloads if w.labels.items() >= o["spec"]["selector"].items()]
        if not chosen:
            yield name_of(o), "selects no pod"
        for p in o["spec"]["ports"]:
            for w in chosen:
                if not has_port(w.pod, p.get("targetPort", p["port"])):
                    yield name_of(o), f"{w.kind} {w.name} has no port {p.get('targetPort', p['port'])}"
    for o in m.all("StatefulSet"):
        service = m.find("Service", o["spec"]["serviceName"])
        if not service or service["spec"].get("clusterIP") != "None":
            yield name_of(o), f"there is no headless Service {o['spec']['serviceName']}"


@rule
def service_accounts(m):
    for w in m.workloads:
        if not m.find("ServiceAccount", w.pod.get("serviceAccountName", "default")):
            yield f"{w.kind} {w.name}", "needs a ServiceAccount of its own"


@rule
def tokens(m):
    bound = {s["name"] for o in m.all("RoleBinding", "ClusterRoleBinding") for s in o["subjects"]}
    for o in m.all("ServiceAccount"):
        if o.get("automountServiceAccountToken") is not False:
            yield name_of(o), "must not mount its token by itself"
    for w in m.workloads:
        needed = w.pod.get("serviceAccountName") in bound
        if w.pod.get("automountServiceAccountToken") is not needed:
            yield f"{w.kind} {w.name}", f"needs automountServiceAccountToken: {str(needed).lower()}"


@rule
def roles(m):
    for o in m.all("Role", "ClusterRole"):
        for r in o["rules"]:
            if "*" in r["verbs"] + r["resources"] or "secrets" in r["resources"] and r["verbs"] != ["create"]:
                yield name_of(o), "may do more than to create Secrets"
    for o in m.all("RoleBinding"):
        if not m.find(o["roleRef"]["kind"], o["roleRef"]["name"]):
            yield name_of(o), f"no {o['roleRef']['kind']} {o['roleRef']['name']}"
        for s in o["subjects"]:
            if s.get("namespace") != NAMESPACE or not m.find("ServiceAccount", s["name"]):
                yield name_of(o), f"no ServiceAccount {s['name']}"


@rule
def volumes(m):
    for w in m.workloads:
        there = [v["name"] for v in w.pod.get("volumes", [])]
        there += [v["metadata"]["name"] for v in w.object["spec"].get("volumeClaimTemplates", [])]
        mounted = [v["name"] for c in containers(w.pod) for v in c.get("volumeMounts", [])]
        for name in sorted(set(there) ^ set(mounted)):
            yield f"{w.kind} {w.name}", f"volume {name} is " + ("not mounted" if name in there else "not there")
        for v in w.pod.get("volumes", []):
            claim = v.get("persistentVolumeClaim", {}).get("claimName")
            if claim and not m.find("PersistentVolumeClaim", claim):
                yield f"{w.kind} {w.name}", f"no PersistentVolumeClaim {claim}"


def scalers(m):
    """Each object that scales, with its target and the least it scales to."""
    for o in m.all("HorizontalPodAutoscaler"):
        yield o, o["spec"]["scaleTargetRef"], o["spec"].get("minReplicas", 1)
    for o in m.all("ScaledObject"):
        yield o, o["spec"]["scaleTargetRef"], o["spec"].get("minReplicaCount", 0)


@rule
def scale_targets(m):
    seen = set()
    for o, target, least in scalers(m):
        scaled = m.find(target["kind"], target["name"])
        if not scaled:
            yield name_of(o), f"no {target['kind']} {target['name']}"
        elif "replicas" in scaled["spec"]:
            yield name_of(o), f"{name_of(scaled)} has a number of replicas, which every apply would put back"
        if least < 2:
            yield name_of(o), "scales to fewer than two"
        if target["name"] in seen:
            yield name_of(o), f"{target['name']} is scaled by two"
        seen.add(target["name"])


@rule
def replicas(m):
    scaled = {target["name"] for _, target, _ in scalers(m)}
    for o in m.all("Deployment"):
        if o["metadata"]["name"] not in scaled and o["spec"].get("replicas", 1) < 2:
            yield name_of(o), "needs two replicas or more"


@rule
def disruption_budgets(m):
    least = {target["name"]: least for _, target, least in scalers(m)}
    for o in m.all("Deployment", "StatefulSet"):
        if max(least.get(o["metadata"]["name"], 0), o["spec"].get("replicas", 1)) < 2:
            continue
        budgets = [b for b in m.all("PodDisruptionBudget") if selects(b["spec"]["selector"], workload(o).labels)]
        if len(budgets) != 1:
            yield name_of(o), f"needs one PodDisruptionBudget, and has {len(budgets)}"
    for b in m.all("PodDisruptionBudget"):
        if b["spec"].get("maxUnavailable") != 1 or b["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield name_of(b), "needs maxUnavailable: 1 and unhealthyPodEvictionPolicy: AlwaysAllow"
        if not m.pods(b["spec"]["selector"]):
            yield name_of(b), "selects no pod"


@rule
def consumers(m):
    contract = (ROOT / "crates/contract/src/topology.rs").read_text()
    for o in m.all("ScaledObject"):
        for t in o["spec"]["triggers"]:
            for key in ("stream", "consumer"):
                if f'"{t["metadata"][key]}"' not in contract:
                    yield name_of(o), f"the contract has no {key} {t['metadata'][key]}"


@rule
def hosts(m):
    """Every address of this namespace is one of a Service, with a port of it."""
    for where, text in addresses(m):
        for host, port in re.findall(r"(?:^|//|@|,)([a-z0-9.-]+):(\d+)", text):
            parts = host.split(".")
            if len(parts) > 1 and parts[1:2] == [NAMESPACE]:
                parts = parts[:1]
            problem = unreachable(m, parts, int(port))
            if problem:
                yield where, f"{host}:{port}: {problem}"


def addresses(m):
    for o in m.all("ConfigMap"):
        for key, value in o["data"].items():
            if "\n" not in value and not re.match(r"[\d.]+:", value):
                yield f"{name_of(o)}, {key}", value
    for where, _, c in each(m):
        for v in c.get("env", []):
            yield f"{where}, {v['name']}", v.get("value") or ""
    for o in m.all("ScaledObject"):
        for t in o["spec"]["triggers"]:
            yield name_of(o), t["metadata"]["natsServerMonitoringEndpoint"]


def unreachable(m, parts, port):
    if len(parts) == 1:
        database = re.sub(r"-rw$", "", parts[0])
        if database != parts[0] and m.find("Cluster", database):
            return None if port == 5432 else "not PostgreSQL's port"
        service = m.find("Service", parts[0])
    else:
        # Of a pod (nats-0.nats), or in another namespace, which is not ours to know.
        service = m.find("Service", parts[1])
        if not service:
            return None
        name, _, number = parts[0].rpartition("-")
        pods = m.find("StatefulSet", name)
        if not pods or int(number) >= pods["spec"]["replicas"]:
            return "no such pod"
    if not service:
        return "no such Service"
    return None if port in {p["port"] for p in service["spec"]["ports"]} else "no such port"


@rule
def public_routes(m):
    def backend(service, port):
        found = m.find("Service", service)
        return found and any(port in (p["port"], p.get("name")) for p in found["spec"]["ports"])

    for o in m.all("Ingress"):
        for path in (p for r in o["spec"]["rules"] for p in r["http"]["paths"]):
            to = path["backend"]["service"]
            if path["path"] != "/v1" or not backend(to["name"], to["port"].get("name", to["port"].get("number"))):
                yield name_of(o), "has to lead /v1 to a port of a Service, and nothing else"
    for o in m.all("HTTPRoute"):
        for r in o["spec"]["rules"]:
            if ([x["path"] for x in r["matches"]] != [{"type": "PathPrefix", "value": "/v1"}]
                    or not all(backend(b["name"], b["port"]) for b in r["backendRefs"])):
                yield name_of(o), "has to lead /v1 to a port of a Service, and nothing else"
    for o in m.all("Service"):
        if o["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield name_of(o), "is reachable from outside"


@rule
def pod_monitors(m):
    for o in m.all("PodMonitor"):
        chosen = m.pods(o["spec"]["selector"])
        for endpoint in o["spec"]["podMetricsEndpoints"]:
            if not chosen or not all(has_port(w.pod, endpoint["port"]) for w in chosen):
                yield name_of(o), f"no pod, or not all of them, has the port {endpoint['port']}"


# Who may talk to whom


@rule
def default_deny(m):
    policies = [o["spec"] for o in m.all("NetworkPolicy")]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies:
        yield "NetworkPolicies", "none denies everything to every pod, both ways"


@rule
def policies_find_their_pods(m):
    for o in m.all("NetworkPolicy"):
        spec = o["spec"]
        chosen = m.pods(spec["podSelector"])
        if not chosen:
            yield name_of(o), "selects no pod"
        for name in named(spec["podSelector"]):
            if not any(w.labels.get("app.kubernetes.io/name") == name for w in m.workloads):
                yield name_of(o), f"names {name}, and there is no such pod"
        for r in spec.get("ingress", []):
            if not r.get("ports"):
                yield name_of(o), "opens all ports"
            for port in r.get("ports", []):
                for w in chosen:
                    if not has_port(w.pod, port["port"]):
                        yield name_of(o), f"{w.kind} {w.name} has no port {port['port']}"
        for r in spec.get("ingress", []) + spec.get("egress", []):
            for peer in r.get("from", []) + r.get("to", []):
                if "podSelector" in peer and not m.pods(peer["podSelector"]):
                    yield name_of(o), "names pods that are not there"


def named(selector):
    for e in selector.get("matchExpressions", []):
        if e["key"] == "app.kubernetes.io/name" and e["operator"] == "In":
            yield from e["values"]


@rule
def policies_agree(m):
    """A way between two pods here is open at both ends."""
    out, into = ways(m, "egress", "to"), ways(m, "ingress", "from")
    for a, b, port in sorted(out ^ into):
        end = "leave the one" if (a, b, port) in into else "enter the other"
        yield "NetworkPolicies", f"{a} to {b}, port {port}: nothing lets it {end}"


def ways(m, direction, peers):
    found = set()
    for o in m.all("NetworkPolicy"):
        for r in o["spec"].get(direction, []):
            for peer in r.get(peers, []):
                if "podSelector" not in peer:
                    continue
                for here in m.pods(o["spec"]["podSelector"]):
                    for there in m.pods(peer["podSelector"]):
                        for port in r.get("ports", []):
                            pair = (here.name, there.name) if direction == "egress" else (there.name, here.name)
                            found.add((*pair, port["port"]))
    return found


# What the programs understand


@functools.cache
def help_of(program):
    """The variables that a program knows with their defaults, and those that it needs."""
    command = [str(BUILT / program[0]), *program[1:], "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "200"}, check=False)
    if shown.returncode != 0 or program[1:] and f"Usage: {' '.join(program)}" not in shown.stdout:
        return None
    known, flags = {}, {}
    for option in re.split(r"\n(?=  +(?:-\w, )?--)", shown.stdout)[1:]:
        flag = re.search(r"--[\w-]+", option)[0]
        variable = re.search(r"\[env: (\w+)", option)
        default = re.search(r"\[default: (.*?)\]", option)
        if variable:
            flags[flag] = variable[1]
            known[variable[1]] = default[1] if default else None
    usage = re.sub(r"\[[^\]]*\]", "", re.search(r"Usage: (.*)", shown.stdout)[1])
    return known, {flags.get(flag, flag) for flag in re.findall(r"--[\w-]+", usage)}


@rule
def settings(m):
    for where, _, c in each(m):
        program = ours(c)
        if not program:
            continue
        understood = help_of(program)
        if not understood:
            yield where, f"there is no `{' '.join(program)}`"
            continue
        known, needed = understood
        given = m.environment(c)
        for name in sorted(n for n in given if n.startswith(("PASSBOOK_", "OTEL_")) and n not in known):
            yield where, f"`{' '.join(program)}` does not know {name}"
        for name in sorted(needed - given.keys() - set(c.get("args", []))):
            yield where, f"`{' '.join(program)}` needs {name}"


@rule
def time_to_stop(m):
    for w in long_running(m):
        for c in w.pod["containers"]:
            understood = ours(c) and help_of(ours(c))
            if not understood:
                continue
            given = understood[0] | m.environment(c)
            takes = sum(seconds(given.get(n)) for n in ("PASSBOOK_DRAIN_DELAY", "PASSBOOK_GRACE_PERIOD"))
            if w.pod.get("terminationGracePeriodSeconds", 30) < takes + 10:
                yield f"{w.kind} {w.name}", f"stopping takes up to {takes:g} s: its grace period has to be 10 s longer"


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text or "0s").groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


# Running it


def render(overlay):
    done = subprocess.run([KUBECTL, "kustomize", ROOT / "k8s" / overlay], capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:
        return None, done.stderr.strip()
    return [o for o in yaml.safe_load_all(done.stdout) if o], None


@functools.cache
def schema_problems(text):
    o = json.loads(text)
    group = o["apiVersion"].rpartition("/")[0]
    own = ROOT / "k8s/schemas" / f"{o['kind'].lower()}.{group}.json"
    if own.exists():
        validator = jsonschema.Draft202012Validator(json.loads(own.read_text()))
        return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(o)]
    found = []
    for kubernetes in (OLDEST, kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(o, kubernetes, strict=True)
        except kubernetes_validate.ValidationError as e:
            found.append(f"Kubernetes {kubernetes}: {'.'.join(map(str, e.path))}: {e.message}")
        except kubernetes_validate.SchemaNotFoundError as e:
            found.append(e.message)
    return found


def schemas(objects):
    for o in objects:
        for problem in schema_problems(json.dumps(o, sort_keys=True)):
            yield name_of(o), problem


def everything(objects):
    """All that is wrong: which rule says so, of what, and what."""
    manifests = Manifests(objects)
    return [("schema", *problem) for problem in schemas(objects)] + \
        [(name, *problem) for name, check in RULES.items() for problem in check(manifests)]


# Seeing each rule fail

GONE = object()


def broken(objects, this):
    """A copy of the objects in which this is broken."""
    objects = copy.deepcopy(objects)
    value = this.get("to", GONE)
    if "of" not in this:
        return objects + [value]
    kind, name = this["of"].replace("{version}", version().replace(".", "-")).split(" ")
    # A generated ConfigMap has a hash behind its name.
    [found] = [o for o in objects if o["kind"] == kind and re.fullmatch(f"{name}(-[a-z0-9]{{10}})?", o["metadata"]["name"])]
    if "what" not in this:
        return [o for o in objects if o is not found]
    *way, last = this["what"].split(" > ")
    for step in way:
        found = found[int(step)] if isinstance(found, list) else found.setdefault(step, {})
    key = int(last) if isinstance(found, list) and last != "+" else last
    if key == "+":
        found.append(value)
    elif value is GONE:
        del found[key]
    else:
        found[key] = value
    return objects


def self_test():
    breaks = yaml.safe_load((ROOT / "k8s/tests/breaks.yaml").read_text())
    objects = {overlay: render(overlay)[0] for overlay in {b["in"] for b in breaks}}
    before = {overlay: everything(whole) for overlay, whole in objects.items()}
    failed = 0
    for this in breaks:
        found = everything(broken(objects[this["in"]], this))
        complain = {problem[0] for problem in found if problem not in before[this["in"]]}
        if complain != {this["rule"]}:
            what = f"{this.get('of', 'an object added')}, {this.get('what', 'all of it')}"
            print(f"self-test: {this['rule']} has to complain, and nothing else, of {what}; {complain or 'nothing'} did")
            failed += 1
    for name in sorted({"schema", *RULES} - {b["rule"] for b in breaks}):
        print(f"self-test: {name} was never seen to fail")
        failed += 1
    if not failed:
        print(f"self-test: {len(RULES) + 1} rules, {len(breaks)} breaks: each is seen, by its own rule")
    return failed


# The check


def check():
    for program in ("account-service", "transaction-service", "passbook"):
        if not (BUILT / program).exists():
            sys.exit(f"{BUILT / program} is not there: cargo build --workspace --bins")
    failed = 0
    used = "".join((ROOT / "k8s" / overlay / "kustomization.yaml").read_text() for overlay in OVERLAYS)
    for component in sorted(p.name for p in (ROOT / "k8s/components").iterdir()):
        if not re.search(rf"^  - \.\./\.\./components/{component}$", used, re.M):
            print(f"k8s/components/{component}: no overlay has it, so nothing checks it")
            failed += 1
    for overlay in OVERLAYS:
        objects, error = render(overlay)
        if error:
            print(f"k8s/{overlay}: kubectl kustomize: {error}")
            failed += 1
            continue
        found = everything(objects)
        for name, where, what in found:
            print(f"k8s/{overlay}: {name}: {where}: {what}")
        failed += len(found)
        if not found:
            print(f"k8s/{overlay}: {len(objects)} objects, {len(RULES)} rules: all hold")
    return failed


def main():
    return self_test() if sys.argv[1:] == ["--self-test"] else check()


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
