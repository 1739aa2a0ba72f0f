"""Deposits by several clients at once, to see whether stops and crashes lose or repeat any."""

import contextlib
import http.client
import json
import threading
import time
from typing import Any

from .network import get
from .pod import Pod
from .report import CONNECTION_ERRORS, require, wait_until

CLIENTS = 8
CURRENCY = "KRW"


def request(connection: http.client.HTTPConnection, token: str, path: str, body: dict[str, Any] | None = None,
            key: str | None = None, more: dict[str, str] | None = None) -> Any:
    """Sends a POST with a body, or a GET without one. Returns the response's JSON.

    `more` has further headers.
    Raises an OSError for a status of 300 or more.
    """
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(more or {})}
    if key:
        headers["Idempotency-Key"] = key
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    if response.status >= 300:
        raise OSError(f"{response.status} {text}")
    return json.loads(text)


def connect(replica: Pod) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", replica.api_port, timeout=10)


class Load:
    """Clients that deposit to one account each until `end` is called.

    A client uses the ready replicas in turn, as it would behind a Service. It repeats
    a failed request under the same Idempotency-Key, and the failure is recorded.
    """

    def __init__(self, replicas: list[Pod], token: str) -> None:
        self.replicas, self.token = replicas, token
        self.lock, self.stopped = threading.Lock(), threading.Event()
        # Accepted deposits per replica, and failed requests.
        self.accepted = {replica.name: 0 for replica in replicas}
        self.errors: list[str] = []
        # When a deposit was accepted last, and the longest time without one.
        self.last_accepted, self.longest_gap = time.monotonic(), 0.0
        # The expected balance of each account.
        self.expected = {self.open_account(): 0 for _ in range(CLIENTS)}
        self.threads = [threading.Thread(target=self.deposit_repeatedly, args=[account], daemon=True)
                        for account in self.expected]
        self.threads.append(threading.Thread(target=self.follow_readiness, daemon=True))
        for thread in self.threads:
            thread.start()

    def open_account(self) -> str:
        with contextlib.closing(connect(self.replicas[0])) as connection:
            return request(connection, self.token, "/v1/accounts", {"currency": CURRENCY})["accountId"]

    def follow_readiness(self) -> None:
        while not self.stopped.wait(0.2):
            for replica in self.replicas:
                try:
                    replica.ready = get(replica.admin_port, "/readyz")[0] == 200
                except CONNECTION_ERRORS:
                    replica.ready = False

    def deposit_repeatedly(self, account: str) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        number = 0
        while not self.stopped.is_set():
            number += 1
            # All amounts differ, so that a lost deposit and a repeated one can't cancel out.
            while not self.stopped.is_set() and not self.deposit(connections, account, number):
                pass
        for connection in connections.values():
            connection.close()

    def deposit(self, connections: dict[str, http.client.HTTPConnection], account: str, number: int) -> bool:
        """Tries one deposit of `number` at a ready replica. Returns whether it was accepted."""
        ready = [replica for replica in self.replicas if replica.ready]
        for name in set(connections) - {replica.name for replica in ready}:
            connections.pop(name).close()
        if not ready:
            time.sleep(0.02)
            return False
        replica = ready[number % len(ready)]
        if replica.name not in connections:
            connections[replica.name] = connect(replica)
        try:
            request(connections[replica.name], self.token, f"/v1/accounts/{account}/deposits",
                    {"amount": str(number)}, f"n{number}")
        except CONNECTION_ERRORS as error:
            connections.pop(replica.name).close()
            with self.lock:
                self.errors.append(f"{replica.name}: {error!r}")
            time.sleep(0.05)
            return False
        with self.lock:
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - self.last_accepted)
            self.last_accepted = now
            self.accepted[replica.name] += 1
            self.expected[account] += number
        return True

    def total(self) -> int:
        """The number of accepted deposits."""
        with self.lock:
            return sum(self.accepted.values())

    def await_deposits(self, count: int = 200) -> None:
        """Waits until more deposits are accepted."""
        start = self.total()
        wait_until(f"{count} more deposits are accepted", lambda: self.total() >= start + count)

    def take_errors(self) -> list[str]:
        """The failed requests since the last call."""
        with self.lock:
            errors, self.errors = self.errors, []
            return errors

    def take_longest_gap(self) -> float:
        """The longest time without an accepted deposit since the last call, in seconds."""
        with self.lock:
            gap, self.longest_gap = self.longest_gap, 0.0
            return gap

    def await_settled(self, account: str) -> float:
        """Makes one deposit to `account` and waits until it is settled. Returns the seconds."""
        started, key = time.monotonic(), f"settled-{time.monotonic_ns()}"

        def is_settled() -> bool:
            ready = next((replica for replica in self.replicas if replica.ready), self.replicas[0])
            with contextlib.closing(connect(ready)) as connection:
                record = request(connection, self.token, f"/v1/accounts/{account}/deposits", {"amount": "1"}, key,
                                 {"Prefer": "wait=5"})
            return record["status"] == "SUCCESS"
        wait_until("a deposit is settled", is_settled)
        return time.monotonic() - started

    def end(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)
            require(not thread.is_alive(), "a client did not end within 30 s")

    def balances(self) -> dict[str, int]:
        """The balance of each account, as a ready replica reports it."""
        ready = next(replica for replica in self.replicas if replica.ready)
        with contextlib.closing(connect(ready)) as connection:
            return {account: int(request(connection, self.token, f"/v1/accounts/{account}")["balance"])
                    for account in self.expected}
