"""Tests of events.py and webhooks.py with a running system, at PASSBOOK_URL with PASSBOOK_TOKEN. Its
webhook-service must be allowed to reach 127.0.0.1, as that of `passbook dev up`:
python3 -m unittest discover examples/python"""

import base64
import email.message
import hmac
import json
import pathlib
import socket
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import uuid

import events
import passbook
import webhooks
from inbox import Inbox

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
# From the tests of the specification's reference libraries.
REFERENCE = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
REFERENCE_BODY = b'{"test": 2432232314}'
REFERENCE_TIME = 1614265330
# Seconds until a delivery arrives at the latest.
SOON = 60


def headers(values):
    message = email.message.Message()
    for name, value in values.items():
        message[name] = value
    return message


def signed(secret, event_id, timestamp, body):
    """The headers of a delivery with this secret."""
    content = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.digest(webhooks.Verifier.key(secret), content, "sha256")
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


class Signatures(unittest.TestCase):
    def verify(self, secrets=(SECRET,), body=REFERENCE_BODY, now=REFERENCE_TIME, **changes):
        changes = {name.replace("_", "-"): value for name, value in changes.items()}
        webhooks.Verifier(secrets).verify(headers({**REFERENCE, **changes}), body, now)

    def test_the_signature_of_the_reference_libraries_is_right(self):
        self.verify()
        self.verify(secrets=(OTHER_SECRET, SECRET))
        self.verify(now=REFERENCE_TIME + 300)
        self.verify(webhook_signature=f"v1a,x v1 {REFERENCE['webhook-signature']}")

    def test_every_other_delivery_is_refused(self):
        for changes in [
            {"secrets": (OTHER_SECRET,)},
            {"body": REFERENCE_BODY + b" "},
            {"now": REFERENCE_TIME + 301},
            {"now": REFERENCE_TIME - 301},
            {"webhook_id": "other"},
            {"webhook_timestamp": "1614265331"},
            {"webhook_timestamp": "now"},
            {"webhook_timestamp": "٣"},
            {"webhook_signature": ""},
            {"webhook_signature": "v1,"},
            {"webhook_signature": "é"},
            {"webhook_signature": REFERENCE["webhook-signature"].replace("v1,", "v2,")},
        ]:
            with self.subTest(changes), self.assertRaises(webhooks.Forged):
                self.verify(**changes)
        repeated = headers(REFERENCE)
        repeated["webhook-id"] = REFERENCE["webhook-id"]
        for message in (headers({}), repeated):
            with self.assertRaises(webhooks.Forged):
                webhooks.Verifier([SECRET]).verify(message, REFERENCE_BODY, REFERENCE_TIME)

    def test_a_text_of_another_form_is_no_secret(self):
        for secrets in ([], [""], ["whsec_"], ["whsec_!"], ["whsec_AAAA"], [SECRET.removeprefix("whsec_")]):
            with self.subTest(secrets), self.assertRaises(ValueError):
                webhooks.Verifier(secrets)


class Events(unittest.TestCase):
    def setUp(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = folder / "inbox"
        self.client = passbook.Client.from_environment()

    def inbox(self):
        inbox = Inbox(self.path)
        self.addCleanup(inbox.database.close)
        return inbox

    def open_account(self):
        return self.client.post("/v1/accounts", {"currency": "USD"}, str(uuid.uuid4()))["accountId"]

    def deposit(self, account):
        path, body = f"/v1/accounts/{account}/deposits", {"amount": "1.00"}
        return self.client.post(path, body, str(uuid.uuid4()), 20)["recordId"]

    def test_the_log_is_read_on_after_the_cursor_and_each_event_once(self):
        account = self.open_account()
        first = self.deposit(account)

        def new():
            # Two events a page.
            found = events.catch_up(self.client, self.inbox(), accountId=account, limit=2)
            return [(event["sequence"], event["data"].get("recordId")) for event in found]

        self.assertEqual(self.collect(2, new), [(1, None), (2, first)])
        records = [self.deposit(account) for _ in range(3)]
        self.assertEqual(self.collect(3, new), list(zip((3, 4, 5), records)))
        self.assertEqual(new(), [])

    def collect(self, count, new):
        """What `new` finds, until it is this many."""
        found = []
        self.until(lambda: found.extend(new()) or len(found) >= count)
        return found

    def test_a_webhook_is_verified_and_kept_once_and_a_forged_one_is_refused(self):
        inbox = self.inbox()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        body = {"url": f"http://127.0.0.1:{port}/", "types": ["record.succeeded"], "allAccounts": True}
        endpoint = self.client.post("/v1/webhook-endpoints", body, str(uuid.uuid4()))
        path = f"/v1/webhook-endpoints/{endpoint['webhookEndpointId']}"
        self.addCleanup(self.delete, path)
        verifier = webhooks.Verifier([endpoint["secret"]])
        receiver = webhooks.Receiver(port, verifier, inbox)
        self.addCleanup(receiver.server_close)
        self.addCleanup(receiver.shutdown)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        account = self.open_account()
        record = self.deposit(account)

        def kept():
            query = "SELECT content FROM events WHERE account = ?"
            with inbox.lock:
                return [json.loads(row[0]) for row in inbox.database.execute(query, [account])]

        [event] = self.until(kept)
        self.assertEqual(event["data"]["recordId"], record)
        # The same event again, and once from the log.
        content = json.dumps(event).encode()
        for secret, status in [(endpoint["secret"], 204), (OTHER_SECRET, 400)]:
            delivery = signed(secret, event["id"], int(time.time()), content)
            self.assertEqual(self.send(port, delivery, content), status)
        self.assertEqual(inbox.keep([event]), [])
        forged = json.dumps({**event, "id": "forged"}).encode()
        delivery = signed(OTHER_SECRET, "forged", int(time.time()), forged)
        self.assertEqual(self.send(port, delivery, forged), 400)
        self.assertEqual(kept(), [event])

    def send(self, port, delivery, body):
        """The status of the receiver's answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, delivery, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def delete(self, path):
        head = {"Authorization": f"Bearer {self.client.token}"}
        request = urllib.request.Request(self.client.url + path, headers=head, method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def until(self, look):
        """What `look` finds first."""
        deadline = time.monotonic() + SOON
        while not (found := look()):
            self.assertLess(time.monotonic(), deadline, "nothing arrived")
            time.sleep(0.1)
        return found


if __name__ == "__main__":
    unittest.main()
