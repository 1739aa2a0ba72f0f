"""The load counts accepted deposits and repeats failed ones."""

import http.server
import json
import threading
import types
import unittest

from ..load import CLIENTS, Load
from ..report import wait_until


class Replica(http.server.ThreadingHTTPServer):
    """A replica with balances in memory. If it `fails`, it books a deposit but responds with an error."""

    daemon_threads = True

    def __init__(self, name: str, balances: dict[str, dict[str, int]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        # The amounts of each account by their Idempotency-Key, shared by all replicas.
        self.balances = balances
        self.is_ready, self.fails, self.requests = True, False, 0
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()

    def pod(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(name=self.name, api_port=self.server_port, admin_port=self.server_port, ready=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replica

    def log_message(self, *_: object) -> None:
        pass

    def respond(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path == "/readyz":
            return self.respond(200 if self.server.is_ready else 503, {})
        account = self.path.split("/")[3]
        return self.respond(200, {"balance": str(sum(self.server.balances[account].values()))})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/accounts":
            account = str(len(self.server.balances))
            self.server.balances[account] = {}
            return self.respond(201, {"accountId": account})
        account, key = self.path.split("/")[3], self.headers["Idempotency-Key"]
        self.server.requests += 1
        self.server.balances[account][key] = int(body["amount"])
        return self.respond(503 if self.server.fails else 202, {})


class Deposits(unittest.TestCase):
    def setUp(self) -> None:
        balances: dict[str, dict[str, int]] = {}
        self.replicas = [Replica(name, balances) for name in ("one", "two")]
        self.load = Load([replica.pod() for replica in self.replicas], "token")  # type: ignore[misc]

    def tearDown(self) -> None:
        self.load.stopped.set()
        for replica in self.replicas:
            replica.shutdown()
            replica.server_close()

    def test_all_replicas_are_used_and_the_balances_match(self) -> None:
        self.load.await_deposits(50)
        self.load.end()
        self.assertEqual(self.load.balances(), self.load.expected)
        self.assertEqual(len(self.load.expected), CLIENTS)
        self.assertTrue(all(self.load.accepted.values()))
        self.assertEqual(self.load.take_errors(), [])

    def test_a_deposit_whose_response_failed_is_repeated_under_its_key(self) -> None:
        self.replicas[0].fails = True
        wait_until("requests fail", lambda: len(self.load.errors) >= CLIENTS)
        self.replicas[0].fails = False
        self.load.await_deposits(50)
        self.load.end()
        self.assertEqual(self.load.balances(), self.load.expected)

    def test_a_lost_deposit_is_seen(self) -> None:
        self.load.await_deposits(50)
        self.load.end()
        self.replicas[0].balances["0"].popitem()
        self.assertNotEqual(self.load.balances(), self.load.expected)

    def test_a_replica_that_is_not_ready_gets_no_requests(self) -> None:
        self.replicas[0].is_ready = False
        wait_until("the load knows", lambda: not self.load.replicas[0].ready)
        # The clients' requests under way end before the next deposits do.
        self.load.await_deposits(50)
        requests = self.replicas[0].requests
        self.load.await_deposits(50)
        self.assertEqual(self.replicas[0].requests, requests)
