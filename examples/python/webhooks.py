#!/usr/bin/env python3
"""Receives webhooks and verifies them: webhooks.py PORT INBOX

Listens at http://127.0.0.1:PORT and keeps each event once, in INBOX, an SQLite file. Passbook sends
to https: put a proxy with TLS before it. PASSBOOK_WEBHOOK_KEY is the `secret` of the endpoint,
`whsec_…`; during a rotation both, with a space between them."""

import base64
import binascii
import hashlib
import hmac
import http.server
import json
import os
import sqlite3
import sys
import time

from inbox import Inbox

# The largest body that is read, in bytes.
LARGEST = 1 << 20
# Seconds between the time of a delivery and now. An older one may be a copy, sent by others.
TOLERANCE = 300


class Forged(Exception):
    """The request is not from Passbook, or not from now."""


class Verifier:
    """Verifies signatures by the standard-webhooks specification: `v1`, HMAC-SHA256."""

    def __init__(self, secrets):
        self.keys = [self.key(secret) for secret in secrets]
        if not self.keys:
            raise ValueError("there is no secret")

    @staticmethod
    def key(secret):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError("a secret has the form whsec_…")
        return key

    def verify(self, headers, body, now=None):
        """Raises `Forged`, unless a signature is by one of the secrets. `body` are the bytes as
        they arrived: parsed and written again, they may be others."""
        head = {}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
            values = headers.get_all(name) or []
            if len(values) != 1:
                raise Forged(f"the header {name} is missing or repeated")
            head[name] = values[0]
        timestamp = head["webhook-timestamp"]
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 20):
            raise Forged("the header webhook-timestamp is malformed")
        if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
            raise Forged("the delivery is not from now")
        signed = f"{head['webhook-id']}.{timestamp}.".encode() + body
        right = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in self.keys]
        for signature in head["webhook-signature"].encode().split(b" "):
            # In the same time for every signature: it must not tell how much of it is right.
            if any(hmac.compare_digest(signature, one) for one in right):
                return
        raise Forged("no signature is by a known secret")


class Receiver(http.server.ThreadingHTTPServer):
    """Answers 204 once the event is stored. Passbook repeats what was not taken."""

    daemon_threads = True

    def __init__(self, port, verifier, inbox):
        super().__init__(("127.0.0.1", port), Handler)
        self.verifier, self.inbox = verifier, inbox


class Handler(http.server.BaseHTTPRequestHandler):
    # Seconds of silence in a request.
    timeout = 10

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(int(length))
        try:
            self.server.verifier.verify(self.headers, body)
            event = json.loads(body)
        except (Forged, ValueError) as error:
            print(f"refused: {error}", file=sys.stderr)
            return self.answer(400)
        for new in self.server.inbox.keep([event]):
            print(new["type"], new["accountId"], new["sequence"], flush=True)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main(port, path):
    verifier = Verifier(os.environ.get("PASSBOOK_WEBHOOK_KEY", "").split())
    with Receiver(int(port), verifier, Inbox(path)) as receiver:
        receiver.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except (ValueError, OSError, sqlite3.Error) as error:
        sys.exit(f"error: {error}")
