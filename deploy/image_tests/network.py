"""Free ports of this machine, and GET requests to local servers."""

import socket
import urllib.error
import urllib.request

allocated: set[int] = set()


def free_port() -> int:
    """A free port. It is never returned twice in one run."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in allocated:
            allocated.add(port)
            return port


def get(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a response. No status raises an error."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
