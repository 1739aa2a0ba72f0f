"""Assertions, waiting and progress lines."""

import http.client
import time
from collections.abc import Callable

# The pods of a cluster wait for minutes, but here all servers are local.
WAIT_SECONDS = 60
# The errors of requests to a server during its start or stop.
CONNECTION_ERRORS = (OSError, http.client.HTTPException)


class Failed(Exception):
    """A step of the test failed. The message is the report."""


def require(condition: object, failure: str) -> None:
    """Fails with a message unless the condition is true."""
    if not condition:
        raise Failed(failure)


def wait_until(goal: str, reached: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Polls until `reached()` is true. A connection error counts as not yet."""
    deadline, error = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if reached():
                return
        except CONNECTION_ERRORS as raised:
            error = raised
        time.sleep(0.1)
    raise Failed(f"{goal}: not within {seconds} s" + (f" ({error})" if error else ""))


class Progress:
    """Prints a line for each completed step, with the seconds since the line before."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()

    def ok(self, step: str) -> None:
        now = time.monotonic()
        print(f"ok {now - self.last:6.1f} s  {step}", flush=True)
        self.last = now

    def total_seconds(self) -> float:
        return time.monotonic() - self.started
