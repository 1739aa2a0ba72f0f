"""A small client of Passbook's API, with the standard library only.

It sends a request again until the outcome is known. A repeated request is safe: a `GET` changes
nothing, and a `POST` has an `Idempotency-Key`, so that it is applied once."""

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request

# The service or a proxy before it could not handle the request now, or its outcome is unknown.
TEMPORARY = {408, 429, 500, 502, 503, 504}


class Problem(Exception):
    """The API refused the request: RFC 9457, application/problem+json."""

    def __init__(self, status, problem):
        self.status = status
        # The type never changes. Compare it, never the texts.
        self.type = problem.get("type", "about:blank")
        # Each wrong part of the request, with its place.
        self.errors = problem.get("errors") or []
        super().__init__(f"{status} {self.type}: {problem.get('detail') or problem.get('title')}")


class Unreachable(Exception):
    """No answer in time. A sent `POST` may have been applied: send it again with its key."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The API never redirects, and the token must not go to another server."""

    def redirect_request(self, *_):
        return None


class Client:
    """Calls the API at `url` with a bearer token. It gives up after `patience` seconds."""

    def __init__(self, url, token, patience=120, timeout=40):
        self.url = url.rstrip("/")
        self.token = token
        self.patience = patience
        # Longer than a wait by `Prefer`, which is at most 30 s.
        self.timeout = timeout
        self.opener = urllib.request.build_opener(NoRedirect)

    @classmethod
    def from_environment(cls):
        for name in ("PASSBOOK_URL", "PASSBOOK_TOKEN"):
            if not os.environ.get(name):
                raise ValueError(f"set {name}")
        return cls(os.environ["PASSBOOK_URL"], os.environ["PASSBOOK_TOKEN"])

    def get(self, path, wait=None):
        return self.call("GET", path, wait=wait)

    def post(self, path, body, key, wait=None):
        return self.call("POST", path, body, key, wait)

    def call(self, method, path, body=None, key=None, wait=None):
        """The JSON of the response. Every try sends the same bytes and the same key."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        deadline = time.monotonic() + self.patience
        for attempt in range(1, 1_000):
            answer, cause, pause = self.send(request)
            if cause is None:
                return answer
            # Random pauses: clients that failed together do not come back together.
            pause += random.uniform(0, min(10, 0.1 * 2 ** min(attempt, 10)))
            if time.monotonic() + pause > deadline:
                raise Unreachable(f"{method} {path}, after {attempt} tries: {cause}")
            time.sleep(pause)

    def send(self, request):
        """One try: the answer, or the cause of a temporary failure and its `Retry-After`."""
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                return json.load(response), None, 0
        except urllib.error.HTTPError as error:
            with error:
                content = error.read()
            if error.code in TEMPORARY:
                seconds = error.headers.get("Retry-After", "")
                return None, f"{error.code} {error.reason}", int(seconds) if seconds.isdecimal() else 0
            raise Problem(error.code, problem_of(content)) from None
        # A broken connection, a timeout, or a body that ended early.
        except (OSError, http.client.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as error:
            return None, error, 0


def problem_of(content):
    """A proxy's own error may have another body."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"title": content[:200].decode(errors="replace")}
