"""The steps of the test, in order."""

import concurrent.futures
import datetime
import json
import re
import sys

import yaml

from manifest_checks.workspace import ROOT, VERSION

from .confinement import check_confinement
from .images import MAX_ADDED_MEGABYTES, check_image, image_of
from .load import CLIENTS, Load
from .network import free_port, get
from .overlay import Overlay, render_overlay
from .pod import Pod
from .podman import HARDENED, podman
from .report import Failed, Progress, require, wait_until
from .reports import FORMATS, Statement, closing_balance
from .run import Run
from .servers import start_nats, start_postgres

MONEY_SERVICES = ("account-service", "transaction-service")
# As long as a pod needs to end and to start again on its node.
AWAY_SECONDS = 5
# The longest time without an accepted deposit, beyond the absence of PostgreSQL. Without NATS, deposits go on.
MOST_GAP = {"nats": 3, "postgres": 10}
MOST_SETTLED = 15


class Scenario:
    """All steps of one run, and the pods that they create."""

    def __init__(self, run: Run, progress: Progress, base_image: str) -> None:
        self.run, self.progress, self.base_image = run, progress, base_image
        self.pods: list[Pod] = []
        self.first_day = datetime.datetime.now(datetime.UTC).date()
        # Deposits beside those of the load.
        self.single_deposits = 0

    def play(self) -> None:
        self.check_compose_versions()
        for program in MAX_ADDED_MEGABYTES:
            self.progress.ok(check_image(program, self.base_image))
        self.overlay = self.prepare_overlay()
        self.create_service_pods()
        self.start_in_the_hardest_order()
        self.check_running_pods()
        load = Load(self.account_pods, self.overlay.secrets["token-verifier"]["teller"])
        load.await_deposits()
        self.progress.ok(f"deposits by {CLIENTS} clients through {len(self.account_pods)} replicas")
        early = self.make_statement(load)
        self.stop_each_pod_under_load(load)
        self.kill_a_pod_of_each_service_under_load(load)
        self.restart_each_server_under_load(load)
        self.check_balances(load)
        self.check_statements(load, early)
        self.run_audits(load.total() + self.single_deposits)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Pod.stop, self.service_pods))
        self.progress.ok("all services stopped with exit code 0")

    def check_compose_versions(self) -> None:
        services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
        for image in {service["image"] for service in services.values() if service["image"].startswith("passbook/")}:
            require(image.endswith(f":{VERSION}"), f"compose.yaml has {image}, but the workspace's version is {VERSION}")

    def prepare_overlay(self) -> Overlay:
        """Renders the overlay and generates its Secrets with the image's own program."""
        objects = render_overlay()
        printed = podman("run", "--rm", "--pull=never", "--network=none", *HARDENED, image_of("passbook"),
                         "secrets", "print", "--dev")
        secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in json.loads(printed.stdout)["items"]}
        return Overlay(objects, secrets, {"postgres-client:5432": free_port(), "nats-client:4222": free_port(),
                                          "nats-0.nats:8222": free_port()})

    def new_pod(self, kind: str, name: str, replica: int = 0) -> Pod:
        pod = Pod(self.run, self.overlay, kind, name, replica)
        self.pods.append(pod)
        return pod

    def create_service_pods(self) -> None:
        replicas = {name: self.overlay.find("Deployment", name)["spec"]["replicas"] for name in MONEY_SERVICES}
        self.account_pods, self.transaction_pods = (
            [self.new_pod("Deployment", name, replica) for replica in range(replicas[name])]
            for name in MONEY_SERVICES)
        self.report_pod = self.new_pod("Deployment", "report-service")
        self.webhook_pod = self.new_pod("Deployment", "webhook-service")
        self.service_pods = self.account_pods + self.transaction_pods + [self.report_pod, self.webhook_pod]
        require(min(replicas.values()) >= 2, f"each money service needs two replicas or more, but has {replicas}")

    def start_in_the_hardest_order(self) -> None:
        """Starts the services' pods before the servers and the Jobs they depend on."""
        for pod in self.service_pods:
            pod.begin()
        postgres, nats = start_postgres(self.run, self.overlay), start_nats(self.run, self.overlay)
        self.progress.ok(f"PostgreSQL {postgres} and nats-server {nats}, with the manifests' settings")
        # The webhook-service has no broker: it waits for the migrations only.
        for job, waiting in (("migrate", self.service_pods),
                             ("streams", [pod for pod in self.service_pods if pod is not self.webhook_pod])):
            for pod in waiting:
                require(not pod.find_state(pod.main), f"{pod.name} did not wait for the Jobs")
                wait = pod.containers[0]
                require(pod.state(wait)["Status"] == "running", f"{pod.container_id(wait)} ended before the Jobs")
            self.new_pod("Job", job).run_to_completion()
            self.progress.ok(f"Job {job}, while the services' pods wait")
        for pod in self.service_pods:
            pod.await_ready()
        self.progress.ok(f"{len(self.account_pods)} + {len(self.transaction_pods)} replicas, the report-service and the "
                         "webhook-service waited, started and are ready")

    def check_running_pods(self) -> None:
        metric = rf'^passbook_build_info\{{.*version="{VERSION}".*\}} 1$'
        for pod in self.service_pods:
            for probe in ("livenessProbe", "readinessProbe"):
                require(pod.probe(probe), f"{pod.name}: {probe} fails")
            status, text = get(pod.admin_port, "/metrics")
            require(status == 200 and re.search(metric, text, re.MULTILINE),
                    f"{pod.name}: /metrics: {status}\n{text[:2000]}")
            check_confinement(pod.name, pod.state(pod.main)["Pid"], pod.main["resources"]["limits"]["memory"])
        self.progress.ok("probes and metrics respond; no root, no capabilities, no new privileges, "
                         "read-only root, memory limited")

    def stop_each_pod_under_load(self, load: Load) -> None:
        for pod in self.service_pods:
            seconds = pod.stop()
            errors = load.take_errors()
            require(not errors, f"{len(errors)} requests failed while {pod.name} was stopped, for instance {errors[:3]}")
            load.await_deposits()
            pod.replace()
            self.progress.ok(f"SIGTERM to {pod.name} under load: exit code 0 after {seconds:.1f} s "
                             f"of {pod.grace_seconds} s, no request failed")

    def kill_a_pod_of_each_service_under_load(self, load: Load) -> None:
        for pod in (self.account_pods[0], self.transaction_pods[0], self.report_pod, self.webhook_pod):
            pod.kill()
            load.await_deposits()
            pod.replace()
            self.progress.ok(f"SIGKILL to {pod.name} under load: {len(load.take_errors())} requests failed "
                             "and were repeated")

    def restart_each_server_under_load(self, load: Load) -> None:
        """What a restart costs a client. k8s/README.md has the table."""
        account = load.open_account()
        for name in ("nats", "postgres"):
            load.take_errors()
            load.take_longest_gap()
            away = self.run.restart_server(name, AWAY_SECONDS)
            settled = load.await_settled(account)
            self.single_deposits += 1
            load.await_deposits()
            gap, errors = load.take_longest_gap(), load.take_errors()
            most = MOST_GAP[name] + (away if name == "postgres" else 0)
            require(gap < most, f"no deposit was accepted for {gap:.1f} s in a restart of {name}, away for {away:.1f} s")
            require(settled < MOST_SETTLED, f"after a restart of {name}, a deposit settled after {settled:.1f} s only")
            self.progress.ok(f"{name} restarted under load, away for {away:.1f} s: no deposit accepted for {gap:.1f} s, "
                             f"{len(errors)} requests failed and were repeated; the next one settled after {settled:.1f} s")

    def check_balances(self, load: Load) -> None:
        """Ends the load. Each accepted deposit must be in its account's balance once."""
        load.end()
        try:
            wait_until("every accepted deposit is in its account's balance", lambda: load.balances() == load.expected)
        except Failed as failed:
            balances = load.balances()
            wrong = [f"{account} has {balances[account]}, expected {expected}"
                     for account, expected in load.expected.items() if balances[account] != expected]
            raise Failed(f"{failed}: {'; '.join(wrong)}") from failed
        for replica, accepted in load.accepted.items():
            require(accepted, f"{replica} accepted no deposit")
        self.progress.ok(f"{load.total()} deposits accepted, each once in the balances")

    def make_statement(self, load: Load) -> Statement:
        """A statement of the first account while deposits run, in every format."""
        statement = Statement(self.report_pod, load.token, next(iter(load.expected)), self.first_day)
        statement.download()
        self.progress.ok(f"a statement under load, downloaded as {', '.join(FORMATS)}")
        return statement

    def check_statements(self, load: Load, early: Statement) -> None:
        """A new statement has the balance. The early one is still there, though its pod was killed."""
        account, expected = next(iter(load.expected.items()))
        files = Statement(self.report_pod, load.token, account, self.first_day).download()
        require(closing_balance(files) == str(expected),
                f"the statement of {account} closes with {closing_balance(files)}, expected {expected}")
        early.download()
        self.progress.ok("a statement has the balance; the files of the early one outlived its pods")

    def run_audits(self, total: int) -> None:
        """Runs the CronJobs `verify`, `streams` and `doctor`."""
        # The broker redelivers the messages of a killed replica after half a minute.
        counts = f"{total} accepted = {total} settled + 0 PENDING; {total} in the ledger"
        wait_until(f"verify counts {total} accepted, settled and in the ledger",
                   lambda: counts in self.new_pod("CronJob", "verify").run_to_completion())
        self.progress.ok(f"CronJob verify: {total} records, no problem")
        self.new_pod("CronJob", "streams").run_to_completion()
        self.progress.ok("CronJob streams: done")
        self.new_pod("CronJob", "doctor").run_to_completion()
        self.progress.ok("CronJob doctor: no problem")

    def print_logs(self) -> None:
        """Prints the last log lines of each running or failed container, and of the servers."""
        for pod in self.pods:
            for container in pod.containers:
                state = pod.find_state(container)
                if state and (state["Status"], state["ExitCode"]) != ("exited", 0):
                    name = pod.container_id(container)
                    logs = podman("logs", "--tail=15", name, check=False)
                    print(f"--- {name}: {state['Status']}, exit code {state['ExitCode']}\n{logs.stdout}{logs.stderr}",
                          file=sys.stderr)
        for log in self.run.scratch.glob("*.log"):
            print(f"--- {log.name}", *log.read_text().splitlines()[-15:], sep="\n", file=sys.stderr)
