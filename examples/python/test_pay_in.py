"""Tests of pay_in.py with a running system, at PASSBOOK_URL with PASSBOOK_TOKEN:
python3 -m unittest discover examples/python"""

import contextlib
import csv
import http.server
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
import uuid

import passbook
import pay_in

HERE = pathlib.Path(__file__).parent

# Programs that run pay_in.py and die at one point, as at a power cut.
CRASH_BEFORE_SENDING = """
import os, sys, passbook, pay_in
passbook.Client.post = lambda *_: os._exit(9)
pay_in.main(*sys.argv[1:])
"""
CRASH_BEFORE_THE_OUTCOME_IS_STORED = """
import os, sys, pay_in
pay_in.Journal.settle = lambda *_: os._exit(9)
pay_in.main(*sys.argv[1:])
"""


class PayIn(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.client = passbook.Client.from_environment()
        body = {"currency": "USD"}
        self.account = self.client.post("/v1/accounts", body, str(uuid.uuid4()))["accountId"]
        self.journal = self.folder / "journal"

    def payments(self, *amounts, account=None, references="payment"):
        """A file with a payment for each amount."""
        path = self.folder / "payments.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(pay_in.FIELDS)
            for number, amount in enumerate(amounts):
                rows.writerow([f"{references}-{number}", account or self.account, amount, "USD"])
        return path

    def child(self, program, payments):
        command = [sys.executable, "-c", program, str(payments), str(self.journal)]
        return subprocess.run(command, cwd=HERE, timeout=60, capture_output=True, check=False).returncode

    def pay_in(self, payments):
        """The exit status and what was printed."""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = pay_in.main(payments, self.journal)
        return status, output.getvalue(), errors.getvalue()

    def keys(self):
        with contextlib.closing(pay_in.Journal(self.journal).database) as database:
            return [row["key"] for row in database.execute("SELECT key FROM payments ORDER BY reference")]

    def records(self):
        return self.client.get(f"/v1/accounts/{self.account}/records")["items"]

    def balance(self):
        return self.client.get(f"/v1/accounts/{self.account}")["balance"]

    def assert_deposited(self, count, balance):
        records = self.records()
        self.assertEqual([record["status"] for record in records], ["SUCCESS"] * count)
        self.assertEqual(sorted(record["idempotencyKey"] for record in records), sorted(self.keys()))
        self.assertEqual(self.balance(), balance)

    def test_payments_are_deposited_once_however_often_the_program_runs(self):
        payments = self.payments("0.10", "0.20")
        for _ in range(2):
            status, output, _ = self.pay_in(payments)
            self.assertEqual(status, 0)
            self.assertIn("deposited 0.30 USD", output)
            self.assert_deposited(2, "0.30")

    def test_a_crash_between_the_journal_and_the_request_leaves_one_deposit(self):
        payments = self.payments("12.34")
        self.assertEqual(self.child(CRASH_BEFORE_SENDING, payments), 9)
        keys = self.keys()
        self.assertEqual((len(keys), self.records()), (1, []))
        self.assertEqual(self.pay_in(payments)[0], 0)
        self.assertEqual(self.keys(), keys)
        self.assert_deposited(1, "12.34")

    def test_a_crash_between_the_response_and_the_journal_leaves_one_deposit(self):
        payments = self.payments("12.34", "1.00")
        self.assertEqual(self.child(CRASH_BEFORE_THE_OUTCOME_IS_STORED, payments), 9)
        self.assert_one_of_two()
        self.assertEqual(self.pay_in(payments)[0], 0)
        self.assert_deposited(2, "13.34")

    def assert_one_of_two(self):
        records = self.records()
        self.assertEqual([(record["amount"], record["status"]) for record in records], [("12.34", "SUCCESS")])
        self.assertEqual(len(self.keys()), 2)

    def test_requests_are_repeated_with_their_key_until_the_outcome_is_known(self):
        with FaultyProxy(self.client.url) as proxy, environment(PASSBOOK_URL=proxy.url):
            self.assertEqual(self.pay_in(self.payments("5.00"))[0], 0)
        # The two faults before the request reaches the system, and a lost response after it.
        self.assertEqual(proxy.keys, self.keys() * 4)
        self.assert_deposited(1, "5.00")

    def test_a_refused_request_is_reported_and_the_others_are_sent(self):
        path = self.payments("1.00", "2.00")
        rows = path.read_text().replace(self.account, str(uuid.uuid4()), 1)
        path.write_text(rows)
        status, output, errors = self.pay_in(path)
        self.assertEqual(status, 1)
        self.assertIn("payment-0: 404 /problems/account-not-found", errors)
        self.assertIn("deposited 2.00 USD", output)
        self.assertEqual(self.balance(), "2.00")

    def test_a_changed_payment_is_an_error_and_sends_nothing(self):
        self.pay_in(self.payments("1.00"))
        with self.assertRaisesRegex(ValueError, "payment-0 is in the journal with another amount"):
            self.pay_in(self.payments("2.00", "3.00"))
        self.assert_deposited(1, "1.00")

    def test_an_invalid_file_is_an_error_and_sends_nothing(self):
        for amounts in [("1.00", "-1"), ("1.00", "NaN"), ("1.00", "one"), ("1.00", "")]:
            with self.subTest(amounts), self.assertRaises(ValueError):
                self.pay_in(self.payments(*amounts))
        self.assertEqual(self.records(), [])


@contextlib.contextmanager
def environment(**variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class FaultyProxy:
    """Closes the first connection, answers the second request with 503 and `Retry-After`, hands
    the third to the system and loses the response, and is correct from then on."""

    def __init__(self, target):
        self.keys = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                proxy.keys.append(self.headers["Idempotency-Key"])
                body = self.rfile.read(int(self.headers["Content-Length"]))
                attempt = len(proxy.keys)
                if attempt == 1:
                    self.close_connection = True
                elif attempt == 2:
                    self.answer(503, {"Retry-After": "1"}, b"busy")
                else:
                    status, content = self.forward(body)
                    if attempt > 3:
                        self.answer(status, {}, content)

            def forward(self, body):
                names = ("Authorization", "Content-Type", "Idempotency-Key", "Prefer")
                headers = {name: self.headers[name] for name in names}
                request = urllib.request.Request(target + self.path, body, headers)
                with urllib.request.urlopen(request, timeout=30) as response:
                    return response.status, response.read()

            def answer(self, status, headers, content):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    unittest.main()
